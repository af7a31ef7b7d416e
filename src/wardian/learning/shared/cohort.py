"""A cohort of each owner's rows behind whatever is told (ADR 44).

Each owner knows its own rows, may have made some up, and takes them off. So rows are counted by
owner: counts have shape (..., owners), and a cohort is asked of each.

Sums are on a grid of the whole column (`exact`). Huge numbers of one owner would make it so coarse
that another's rows are all alike there, but for a few: such a column counts as made by few.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wardian.broker.jobs.merge import OutputTerms
from wardian.broker.jobs.rules import Rule
from wardian.errors import FormatError, PolicyDenied

LEAST_REACH: Final = -20
"""Powers of two, of the reach of a column: what an owner's own values reach at least, if they
differ. So they have 13 bits wherever sums of products are cut off, and 24 elsewhere."""
_ROOM: Final = 16.0
"""By what ends are divided, so that a reach is a number of 64 bits whatever they are."""
_SMALLEST: Final = -900
"""Of powers of two: a quarter of it is more than 0."""


def stands(terms: OutputTerms, rows: ArrayLike) -> NDArray[Any]:
    """Return behind which numbers every owner has rows enough, (...): bool.

    A smallest cohort of 1 asks for one row, whoever has it.

    Args:
        terms: of all owners.
        rows: behind each number, (..., owners).
    """
    each = np.asarray(rows)
    fewest = np.maximum(each, 1).min(axis=-1)
    found: NDArray[Any] = (fewest >= terms.smallest_cohort) & (each.sum(axis=-1) > 0)
    return found


def few(terms: OutputTerms, rows: ArrayLike) -> NDArray[Any]:
    """Return where an owner has rows, and fewer than a cohort, (..., owners): bool.

    They would be known by a difference: what is told of others, taken off what is told of all.
    """
    each = np.asarray(rows)
    found: NDArray[Any] = (each > 0) & (each < terms.smallest_cohort)
    return found


def refuse_small(terms: OutputTerms, rows: ArrayLike) -> None:
    """Return if every owner has rows enough behind all numbers; PolicyDenied, `cohort-small`."""
    if not stands(terms, rows).all():
        raise too_few()


def refuse_classes(
    terms: OutputTerms, rows: ArrayLike, where: str = "the label", *, least: int = 2
) -> None:
    """Return if there are classes enough, and every owner has no row of each, or enough.

    That a class has no row is not told apart from that it has too few.

    Args:
        terms: of all owners.
        rows: behind each class, (classes, owners).
        where: what an error calls the label.
        least: how many classes there have to be.

    Raises:
        PolicyDenied: the rule `cohort-small`: too few rows have a class, or all have one.
        FormatError: all have one, where a cohort is one row.
    """
    each = np.asarray(rows)
    if few(terms, each).any() or (len(each) < least and terms.smallest_cohort > 1):
        reason = f"{where}: too few rows have a class, or all have one"
        raise PolicyDenied(reason, rule=Rule.COHORT)
    if len(each) < least:
        raise FormatError(f"{where}: one class alone")


def refuse_lost_classes(terms: OutputTerms, label: ArrayLike, joined: ArrayLike) -> None:
    """Return if every class of a table has rows in the join; PolicyDenied, rule `cohort-small`.

    One that lost all is refused as one that kept too few: which of both it was would tell whether
    others have these rows. With a smallest cohort of 1 nothing is asked.

    Args:
        terms: of all owners.
        label: of the whole table, (rows,).
        joined: of those of its rows that were joined.
    """
    if terms.smallest_cohort > 1 and len(np.setdiff1d(label, joined)):
        raise too_few()


def drowned(lowest: NDArray[Any], highest: NDArray[Any]) -> NDArray[np.bool_]:
    """Return in which columns an owner's values are next to one, beside those of all, (columns,).

    Of each reach the power of two alone counts, and of each end the quarter of that which it is in.
    Compared to the last digit, runs beside one number after another of somebody's would tell where
    another's column ends, which is one row's value.

    Args:
        lowest: of each owner's values, (columns, owners); infinite where it has none.
        highest: likewise, minus infinite.
    """
    low, high = lowest / _ROOM, highest / _ROOM
    with np.errstate(invalid="ignore"):
        own = high - low
        finite = np.isfinite(high.max(axis=1) - low.min(axis=1))[:, None]
        differ = finite & (highest > lowest)
        power = np.maximum(np.frexp(own)[1], _SMALLEST)
        quarter = np.ldexp(0.25, power)
        low = np.where(differ, np.floor(low / quarter) * quarter, low)
        high = np.where(differ, np.ceil(high / quarter) * quarter, high)
        _, whole = np.frexp(high.max(axis=1) - low.min(axis=1))
    return np.asarray((differ & (power < whole[:, None] + LEAST_REACH)).any(axis=1))


def too_few() -> PolicyDenied:
    """Return what is raised: in one wording, whatever there was too little of, of joined rows."""
    return PolicyDenied("too few rows stand behind a number", rule=Rule.COHORT)
