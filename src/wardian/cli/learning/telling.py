"""What a round came to, as a line for people: the same words wherever one is told."""

from collections.abc import Mapping
from typing import Final

from wardian.learning.messages import RoundLine

Figures = Mapping[str, int | float]

FIRST: Final = ("loss", "train_loss", "accuracy")
"""What people look for first."""
EPSILON: Final = "epsilon"
DELTA: Final = "delta"
BUDGET: Final = "budget"
"""Of private rounds: what was spent so far, at which delta, and what may be."""


def figures(line: RoundLine) -> Figures:
    """Return each single number that was measured; of the same name the evaluation's."""
    every = {**line.metrics, **line.evaluation}
    return {name: value for name, value in every.items() if isinstance(value, int | float)}


def told(line: RoundLine, *, rounds: int | None = None) -> list[str]:
    """Return the lines that say what became of a round, and of each party that does not count.

    Args:
        line: the round.
        rounds: of the whole run, where that is known.
    """
    found = dict(figures(line))
    first = [f"{name} {found.pop(name):.4g}" for name in FIRST if name in found]
    spent = spent_of(line)
    for name in (EPSILON, DELTA, BUDGET) if spent else ():
        found.pop(name, None)
    parts = [
        f"{len(line.cohort)} parties",
        *first,
        *([] if line.bytes is None else [f"{line.bytes:,} bytes"]),
        f"{line.seconds:.2f} s",
        *([f"epsilon {spent}"] if spent else []),
    ]
    rest = "".join(f"  {name} {value:.4g}" for name, value in found.items())
    of = "" if rounds is None or line.step else f" of {rounds}"
    what = f"step {line.round}, {line.step}" if line.step else f"round {line.round}{of}"
    dropped = [f"  {party} does not count: {why}" for party, why in line.dropped.items()]
    return [f"{what}: {', '.join(parts)}{rest}", *dropped]


def spent_of(line: RoundLine) -> str:
    """Return what privacy was spent so far, of how much, at which delta; "" if none is counted."""
    metrics = line.metrics
    epsilon, delta, budget = (metrics.get(name) for name in (EPSILON, DELTA, BUDGET))
    if not isinstance(epsilon, int | float):
        return ""
    of = f" of {budget:.4g}" if isinstance(budget, int | float) else ""
    at = f" at delta {delta:.4g}" if isinstance(delta, int | float) else ""
    return f"{epsilon:.4g}{of}{at}"
