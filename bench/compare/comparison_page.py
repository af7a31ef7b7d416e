"""The table of a comparison, and its page `docs/explanation/comparison.md` with two pictures."""

from pathlib import Path
from typing import Final

from comparison_plot import draw
from comparison_text import PAGE
from published import CLAIMS, HARDWARE
from rows import CHEETAH, CKKS, PATHS, SERVED, Comparison, Row, decode

DOCS: Final = Path(__file__).parents[2] / "docs" / "explanation"
HEADS: Final = (
    "path",
    "ms",
    "times clear text",
    "CPU ms",
    "times, CPU",
    "times served",
    "bytes",
    "max error",
    "mean error",
    "labels",
)


def write_comparison(results: Path) -> Comparison:
    """Render page and pictures from the newest line of `results`, and return what it says."""
    found = decode(results.read_text().splitlines()[-1])
    (DOCS / "comparison.md").write_text(page(found))
    for batch in batches(found):
        (DOCS / picture_name(batch)).write_text(draw(found, batch))
    return found


def picture_name(batch: int) -> str:
    """Return the file of the picture of `batch`."""
    return f"comparison-{batch}.svg"


def batches(found: Comparison) -> list[int]:
    """Return the batches in the order in which they were asked for."""
    return list(dict.fromkeys(row.batch for row in found.rows))


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row after the first; where there are no figures, why."""
    found = row.figures
    if found is None:
        return ("-", row.absent, *["-"] * 7)
    return (
        _ms(found.ms),
        _times(found.ratio) + f" ({_times(found.ratio_least)}-{_times(found.ratio_most)})",
        _ms(found.cpu_ms),
        _times(found.cpu_ratio),
        _times(found.over_served) if found.over_served else "-",
        f"{found.bytes:,.0f}",
        _error(found.max_error),
        _error(found.mean_error),
        f"{found.agreed}/{found.labels}",
    )


def _ms(ms: float) -> str:
    return f"{ms:.3g}" if ms < 1000 else f"{ms:,.0f}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def _error(error: float) -> str:
    return "0" if error == 0 else f"{error:.1e}"


def head(found: Comparison, net: str, batch: int) -> str:
    """Return what stands above a table: how large network and batch are."""
    facts = found.nets[net]
    return (
        f"{net}, batch {batch} ({facts.parameters:,} parameters, {facts.multiplications:,} "
        f"multiplications a sample)"
    )


def rows_of_table(found: Comparison, net: str, batch: int) -> list[Row]:
    """Return the rows of one table, in the order of the paths."""
    mine = [row for row in found.rows if (row.net, row.batch) == (net, batch)]
    return sorted(mine, key=lambda row: PATHS.index(row.path))


def table(found: Comparison) -> str:
    """Return everything as text for a terminal."""
    parts = []
    for net in found.nets:
        for batch in batches(found):
            rows = rows_of_table(found, net, batch)
            lines = [HEADS, *((row.path, *cells(row)) for row in rows if row.figures)]
            wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
            parts += [head(found, net, batch), *("  " + _line(each, wide) for each in lines)]
            parts += [f"  {row.path}: {row.absent}" for row in rows if not row.figures]
            parts.append("")
    return "\n".join(parts)


def _line(line: tuple[str, ...], wide: list[int]) -> str:
    first, *others = zip(line, wide, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(size) for cell, size in others)])


def markdown(found: Comparison) -> str:
    """Return everything as tables in Markdown."""
    parts = []
    for net in found.nets:
        for batch in batches(found):
            parts.append(f"\n### {head(found, net, batch)}\n")
            parts.append(f"| {' | '.join(HEADS)} |\n|---|{'---:|' * (len(HEADS) - 1)}")
            rows = rows_of_table(found, net, batch)
            parts += [f"| {' | '.join((row.path, *cells(row)))} |" for row in rows]
    return "\n".join(parts)


def span(found: Comparison, path: str, batch: int, *, served: bool) -> str:
    """Return from which to which ratio `path` went over all networks, or why it is not known."""
    rows = [row for row in found.rows if (row.path, row.batch) == (path, batch)]
    seen = [row.figures for row in rows if row.figures]
    ratios = [each.over_served if served else each.ratio for each in seen]
    if not ratios:
        return "; ".join(dict.fromkeys(row.absent for row in rows))
    return f"{_times(min(ratios))} to {_times(max(ratios))}" if min(ratios) else "-"


def claims(found: Comparison) -> str:
    """Return what the talk says, beside what was measured."""
    asked = [(batch, served) for batch in batches(found) for served in (False, True)]
    heads = [f"of {'served' if served else 'in process'}, batch {batch}" for batch, served in asked]
    lines = [f"| | the talk | {' | '.join(heads)} |", f"|---|---:|{'---:|' * len(asked)}"]
    for claim in CLAIMS:
        for path in claim.paths:
            spans = [span(found, path, batch, served=served) for batch, served in asked]
            lines.append(f"| {path} | {claim.said} | {' | '.join(spans)} |")
    return "\n".join(lines)


def nets(found: Comparison) -> str:
    """Return the networks and how good they are."""
    return "\n".join(
        f"| {name} | {each.parameters:,} | {each.multiplications:,} | {each.file_bytes:,} "
        f"| {each.accuracy:.4f} of {each.held_out} | {each.largest_score:.1f} |"
        for name, each in found.nets.items()
    )


def once(found: Comparison) -> str:
    """Return what each path moves before its first request."""
    lines = []
    for path in PATHS:
        mine = [row.figures for row in found.rows if row.path == path and row.figures]
        counts = [each.once_bytes for each in mine if each.once_bytes]
        if counts:
            lines.append(f"| {path} | {min(counts):,} to {max(counts):,} |")
    return "\n".join(lines)


def steps(found: Comparison) -> str:
    """Return what part of a request takes how long, where a path says so."""
    lines = []
    for path in (CHEETAH, CKKS):
        for row in found.rows:
            if row.path == path and row.figures and row.figures.steps:
                told = ", ".join(f"{name} {_ms(ms)}" for name, ms in row.figures.steps.items())
                lines.append(f"| {path} | {row.net} | {row.batch} | {told} |")
    return "\n".join(lines)


def page(found: Comparison) -> str:
    """Return the page."""
    about = found.setting
    asked = batches(found)
    where = (
        f"{about['machine']}; commit {about['git']}, {about['date']}; medians of "
        f"{about['rounds']} interleaved rounds; load average {about['load_average']:.1f} before it "
        f"began; other processes took {100 * found.others:.0f} % of the machine meanwhile; "
        f"{found.seconds:.0f} s in all"
    )
    return PAGE.format(
        where=where,
        versions=", ".join(f"{name}: {told}" for name, told in found.versions.items()),
        claims=claims(found),
        pictures="\n\n".join(
            f"![Times the clear text, batch {batch}]({picture_name(batch)})" for batch in asked
        ),
        hardware="\n".join(
            f"| {each.source} | {each.measured} | {each.figure} |" for each in HARDWARE
        ),
        nets=nets(found),
        tables=markdown(found),
        twin="; ".join(
            f"batch {batch}: {span(found, SERVED, batch, served=True)}" for batch in asked
        ),
        once=once(found),
        steps=steps(found),
    )
