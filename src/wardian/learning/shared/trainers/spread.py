"""Columns that few rows make: all but these have one value, so what is said of it, says them.

A coefficient of a column that is 1 for one patient, and 0 else, is that patient's label. Whoever
joins its table to others' chooses its columns; a rare category does it without anybody's will. So
of each owner's rows a smallest cohort has to differ from the value that is commonest among them.

Rows that were matched by identifiers are counted alike where no row differs: else a column would
tell whether the one it is 1 for is in others' tables. Of rows of one owner a column may be
constant: it asks about nobody.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.broker.jobs.rules import Rule
from wardian.errors import PolicyDenied
from wardian.learning.shared.rows import Batch, Owners, apart

_FIRST: Final = 1024
"""Rows that are looked at by themselves: they are enough to know most columns by."""


class Spread:
    """Of each column, and of each owner's rows, how many differ from the commonest value.

    Counts end where they are a cohort: so at most as many values are held as a cohort has rows,
    beside those of a batch.
    """

    __slots__ = ("_columns", "_counts", "_least", "_owners")

    def __init__(self, columns: int, owners: Owners, least: int) -> None:
        """Begin with no rows of so many columns, and a label; `least` is the smallest cohort."""
        self._columns, self._owners, self._least = columns, owners, least
        self._counts: dict[tuple[int, int], Counter[float]] = {
            (column, source): Counter()
            for column in range(columns + 1)
            for source in range(len(owners))
        }

    def take(self, batch: Batch, names: Sequence[str]) -> None:
        """Add the rows of `batch`, of the columns `names`, and of the label, which comes last."""
        label = [] if batch.label is None else [batch.label]
        columns = [*(batch.columns[name] for name in names), *label]
        for source, own in apart(batch.sources):
            for place, values in enumerate(columns):
                if (place, source) in self._counts:
                    self.add(place, source, values[own])

    def add(self, column: int, source: int, values: NDArray[Any]) -> None:
        """Add rows of one owner; missing values count for nothing."""
        counts = self._counts.get((column, source))
        if counts is None:
            return
        for piece in (values[:_FIRST], values[_FIRST:]):
            rest = piece
            if counts:  # most are of the commonest value, where a column is still looked at
                ((common, _),) = counts.most_common(1)
                rest = piece[piece != common]
                counts[common] += len(piece) - len(rest)
            rest = rest[~np.isnan(rest)]
            found, times = np.unique(rest, return_counts=True)
            for value, count in zip(found.tolist(), times.tolist(), strict=True):
                counts[value] += count
            if _differing(counts) >= self._least:
                del self._counts[column, source]
                return

    def narrow(self, *, label: bool) -> frozenset[int]:
        """Return the columns, and the `label`, in which fewer rows than a cohort of any differ."""
        return frozenset(
            column
            for (column, source), counts in self._counts.items()
            if (label or column < self._columns)
            and max(1, _differing(counts)) < self._least
            and (_differing(counts) or len(self._owners[source]) > 1)
        )


def _differing(counts: Counter[float]) -> int:
    return counts.total() - max(counts.values(), default=0)


def refuse_narrow(narrow: Collection[int], names: Sequence[str]) -> None:
    """Return if there are none of `narrow`, which are places in `names`, or the label behind them.

    Args:
        narrow: as `Spread.narrow` gives them.
        names: of the columns.

    Raises:
        PolicyDenied: the rule `cohort-small`; names the first.
    """
    for place in sorted(narrow):
        name = f"column {names[place]}" if place < len(names) else "the label"
        reason = f"{name}: too few rows differ from its commonest value"
        raise PolicyDenied(reason, rule=Rule.COHORT)
