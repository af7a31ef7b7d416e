"""`wardian fl report`: the rounds of a run as one page with pictures, without a script in it."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Final

import click

from wardian._internal.files import replace_file
from wardian.cli.files import path_option
from wardian.cli.learning.history import HISTORY, read_history
from wardian.cli.learning.pictures import STYLE, Series, draw
from wardian.cli.learning.telling import BUDGET, DELTA, EPSILON, FIRST, figures, spent_of
from wardian.learning.messages import RoundLine

_STYLE: Final = """\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;
color:#1c2330;background:#fff}
table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:.2rem .6rem}
th:last-child,td:last-child{text-align:left}tr:nth-child(even){background:#f1f4f8}
@media (prefers-color-scheme:dark){body{color:#e4e8ef;background:#14181f}
tr:nth-child(even){background:#1c222b}}
"""
OF_STEPS: Final = ("records", "error")
"""What is known of steps of a run over columns."""
_UNDRAWN: Final = frozenset({BUDGET, DELTA})
"""The same in every round: they stand in the picture of epsilon."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--out", type=path_option, help="By default report.html beside the history.")
def report(*, run: Path, out: Path | None) -> None:
    """Write a page about RUN: a party's state directory, or one of `wardian fl simulate`.

    It shows by round what the parties measured, who took part, who did not count and why, bytes
    and seconds, and of a private run what privacy was spent, and of how much; of a run over columns
    the steps that the party was asked. It is one file that asks nothing of a network.
    """
    source = run / HISTORY if run.is_dir() else run
    lines = read_history(source)
    target = out or source.with_name("report.html")
    unit = _unit(lines[-1])
    replace_file(target, page(lines, title=f"Run of {lines[-1].round} {unit}s").encode())
    click.echo(f"{target}: {len(lines)} {unit}s")


def page(lines: Sequence[RoundLine], *, title: str) -> str:
    """Return the page."""
    budget = lines[-1].metrics.get(BUDGET)
    limit = float(budget) if isinstance(budget, int | float) else None
    pictures = [
        draw(_named(name, lines[-1]), series, limit=limit if name == EPSILON else None)
        for name, series in all_series(lines).items()
    ]
    columns = _columns(lines)
    heads = "".join(f"<th>{escape(name)}</th>" for name in columns)
    rows = "\n".join(_row(each, list(columns.values())) for each in lines)
    return f"""\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<style>{_STYLE}{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p>{escape(_summary(lines[-1]))}</p>
{"".join(pictures)}
<table><thead><tr>{heads}<th>who did not count, and why</th></tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


def _unit(line: RoundLine) -> str:
    return "step" if line.step else "round"


def _summary(last: RoundLine) -> str:
    """Return where the run stands after `last`."""
    found, spent = figures(last), spent_of(last)
    parts = [f"{name} {found[name]:.4g}" for name in FIRST if name in found]
    parts += [f"privacy spent: epsilon {spent}"] if spent else []
    return (
        f"After {_unit(last)} {last.round}: {', '.join([f'{len(last.cohort)} parties', *parts])}."
    )


def _named(name: str, last: RoundLine) -> str:
    """Return what stands above the picture `name`."""
    delta = last.metrics.get(DELTA)
    at = f" at delta {delta:.4g}" if isinstance(delta, int | float) else ""
    return f"epsilon spent{at}" if name == EPSILON else name


def _columns(lines: Sequence[RoundLine]) -> dict[str, Callable[[RoundLine], str]]:
    """Return the table's columns but the last, those alone for which a round has anything."""

    def figure(name: str) -> Callable[[RoundLine], str]:
        return lambda line: f"{found[name]:.4g}" if name in (found := figures(line)) else ""

    measured = {name for line in lines for name in figures(line)}
    first = [name for name in (OF_STEPS if lines[-1].step else FIRST) if name in measured]
    return {
        _unit(lines[-1]): lambda line: str(line.round),
        **({"asked": lambda line: line.step or ""} if lines[-1].step else {}),
        "parties": lambda line: str(len(line.cohort)),
        **{name: figure(name) for name in first},
        **({} if lines[-1].bytes is None else {"bytes": lambda line: f"{line.bytes or 0:,}"}),
        "seconds": lambda line: f"{line.seconds:.2f}",
        **({EPSILON: figure(EPSILON)} if EPSILON in measured else {}),
    }


def _row(line: RoundLine, columns: Sequence[Callable[[RoundLine], str]]) -> str:
    dropped = "; ".join(f"{name}: {reason}" for name, reason in line.dropped.items())
    cells = "".join(f"<td>{escape(text_of(line))}</td>" for text_of in columns)
    return f"<tr>{cells}<td>{escape(dropped)}</td></tr>"


def all_series(lines: Sequence[RoundLine]) -> dict[str, Series]:
    """Return what there is to draw.

    What people look for first comes first, then the rest that was measured, then what rounds took.
    """
    found: dict[str, Series] = {}
    for line in lines:
        for of, measured in (("", line.metrics), ("evaluation: ", line.evaluation)):
            for name, value in measured.items():
                if isinstance(value, int | float) and name not in _UNDRAWN:
                    found.setdefault(of + name, []).append((line.round, float(value)))
    first = (*FIRST, EPSILON)
    ordered = sorted(found, key=lambda name: name.removeprefix("evaluation: ") not in first)
    drawn = {name: found[name] for name in ordered}
    of_round: dict[str, Callable[[RoundLine], float]] = {
        "parties": lambda line: float(len(line.cohort)),
        "bytes of answers": lambda line: float(line.bytes or 0),
        "seconds": lambda line: line.seconds,
    }
    for name, value_of in of_round.items():
        drawn[name] = [(line.round, value_of(line)) for line in lines]
    if lines[-1].bytes is None:
        del drawn["bytes of answers"]
    return drawn
