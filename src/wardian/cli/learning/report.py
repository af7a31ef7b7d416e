"""`wardian fl report`: the rounds of a run as one page with pictures, without a script in it."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Final

import click

from wardian._internal.files import replace_file
from wardian.cli.files import path_option
from wardian.cli.learning.history import HISTORY, read_history
from wardian.learning.messages import RoundLine

Series = list[tuple[int, float]]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360, 200, 56, 168, 34
_STYLE: Final = """\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;
color:#1c2330;background:#fff}
table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:.2rem .6rem}
th:last-child,td:last-child{text-align:left}tr:nth-child(even){background:#f1f4f8}
svg{font:12px system-ui,sans-serif;width:23rem;max-width:100%}
polyline{fill:none;stroke:#0b63ce;stroke-width:2}circle{fill:#0b63ce}.grid{stroke:#d5dae2}
@media (prefers-color-scheme:dark){body{color:#e4e8ef;background:#14181f}
tr:nth-child(even){background:#1c222b}text{fill:#e4e8ef}.grid{stroke:#343b47}
polyline{stroke:#6fb1ff}circle{fill:#6fb1ff}}
"""


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--out", type=path_option, help="By default report.html beside the history.")
def report(*, run: Path, out: Path | None) -> None:
    """Write a page about RUN: a party's state directory, or one of `wardian fl simulate`.

    It shows by round what the parties measured, who took part, who did not count and why, bytes
    and seconds. It is one file that asks nothing of a network.
    """
    source = run / HISTORY if run.is_dir() else run
    lines = read_history(source)
    target = out or source.with_name("report.html")
    replace_file(target, page(lines, title=f"Run of {lines[-1].round} rounds").encode())
    click.echo(f"{target}: {len(lines)} rounds")


def page(lines: Sequence[RoundLine], *, title: str) -> str:
    """Return the page."""
    pictures = [draw(name, series) for name, series in all_series(lines).items()]
    rows = "\n".join(_row(each) for each in lines)
    return f"""\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<style>{_STYLE}</style></head><body>
<h1>{escape(title)}</h1>
{"".join(pictures)}
<table><thead><tr><th>round</th><th>parties</th><th>bytes</th><th>seconds</th>
<th>who did not count, and why</th></tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


def _row(line: RoundLine) -> str:
    dropped = "; ".join(f"{name}: {reason}" for name, reason in line.dropped.items())
    return (
        f"<tr><td>{line.round}</td><td>{len(line.cohort)}</td><td>{line.bytes:,}</td>"
        f"<td>{line.seconds:.2f}</td><td>{escape(dropped)}</td></tr>"
    )


def all_series(lines: Sequence[RoundLine]) -> dict[str, Series]:
    """Return what there is to draw: each number that was measured, then what a round took."""
    found: dict[str, Series] = {}
    for line in lines:
        for of, measured in (("", line.metrics), ("evaluation: ", line.evaluation)):
            for name, value in measured.items():
                if isinstance(value, int | float):
                    found.setdefault(of + name, []).append((line.round, float(value)))
    of_round: dict[str, Callable[[RoundLine], float]] = {
        "parties": lambda line: float(len(line.cohort)),
        "bytes of answers": lambda line: float(line.bytes),
        "seconds": lambda line: line.seconds,
    }
    for name, value_of in of_round.items():
        found[name] = [(line.round, value_of(line)) for line in lines]
    return found


def draw(name: str, series: Series) -> str:
    """Return an SVG picture of `series` by round; what is no finite number is left out."""
    finite = [(x, y) for x, y in series if abs(y) < float("inf")]
    if not finite:
        return ""
    low, high = min(y for _, y in finite), max(y for _, y in finite)
    first, last = finite[0][0], finite[-1][0]
    room = (high - low) or abs(high) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - 16) * (x - first) / max(1, last - first)
        return across, _BOTTOM - (_BOTTOM - _TOP) * (y - low) / room

    points = [place(x, y) for x, y in finite]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    end_x, end_y = points[-1]
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 16}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
        for value in dict.fromkeys((low, (low + high) / 2, high))
        for _, y in (place(first, value),)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{escape(name)} by round</title>'
        f'<text x="{_LEFT}" y="20" font-weight="600">{escape(name)}</text>{grid}'
        f'<polyline points="{line}"/><circle cx="{end_x:.1f}" cy="{end_y:.1f}" r="3"/>'
        f'<text x="{_LEFT}" y="{_BOTTOM + 22}">{first}</text>'
        f'<text x="{_WIDTH - 16}" y="{_BOTTOM + 22}" text-anchor="end">round {last}: '
        f"{finite[-1][1]:.4g}</text></svg>\n"
    )
