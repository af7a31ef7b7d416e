"""A party's table as numbers of one scale: learnt from its own records, and kept by it.

A column of numbers is shifted and scaled to mean 0 and deviation 1. A column of texts becomes one
column a category, 1 where it is that and else 0; the empty text is a category like others. A column
that says the same of every record is left out. A category that was not there when the columns were
learnt is none of them: zeros.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wardian.errors import FormatError

MAX_CATEGORIES: Final = 1024
"""Of a column: one with more is likelier to name records than to say something of them."""


class Missing(StrEnum):
    """What becomes of NaN, a number that is missing."""

    REFUSED = "refused"
    MEAN = "mean"
    KEPT = "kept"
    """For trees, which take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A column of numbers: what its mean and its deviation were."""

    mean: float
    deviation: float


class Columns:
    """How a table becomes numbers.

    Attributes:
        left_out: names of columns that say the same of every record.
        names: of the columns of numbers that come out, in their order.
    """

    __slots__ = ("_kinds", "_missing", "left_out", "names")

    def __init__(
        self, table: Mapping[str, NDArray[Any]], *, missing: Missing = Missing.REFUSED
    ) -> None:
        """Learn from `table`.

        Args:
            table: columns by name, each (records,) of numbers or of texts.
            missing: what becomes of numbers that are missing.

        Raises:
            FormatError: the lengths differ, there is no record, a column is neither numbers nor
                texts, is infinite, has too many categories, or misses numbers that it may not.
        """
        self._missing = missing
        self._kinds: dict[str, Scale | tuple[str, ...]] = {}
        self.left_out: list[str] = []
        self.names: list[str] = []
        _records(table)
        for name, column in table.items():
            kind = _learnt(name, column)
            self._kinds[name] = kind
            if isinstance(kind, tuple):
                self.names += [f"{name}={category}" for category in kind]
            elif kind.deviation > 0:
                self.names.append(name)
            if kind == () or (isinstance(kind, Scale) and not kind.deviation > 0):
                self.left_out.append(name)
        self.numbers(table)

    @override
    def __repr__(self) -> str:
        return f"Columns({len(self._kinds)} in, {len(self.names)} out)"

    def numbers(self, table: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return `table` as (records, columns) float64.

        Raises:
            FormatError: other columns than were learnt from, of another kind or of different
                lengths, infinite numbers, or missing ones where they are refused.
        """
        if set(table) != set(self._kinds):
            raise FormatError("table: other columns than were learnt from")
        rows = _records(table)
        made = [np.zeros((rows, 0))]
        for name, kind in self._kinds.items():
            if isinstance(kind, tuple):
                found = _texts(name, table[name])
                made += [(found == category)[:, None].astype(np.float64) for category in kind]
            else:
                found = self._filled(name, _numbers(name, table[name]), kind)
                if kind.deviation > 0:
                    made.append(((found - kind.mean) / kind.deviation)[:, None])
        return np.concatenate(made, axis=1)

    def _filled(self, name: str, column: NDArray[Any], kind: Scale) -> NDArray[Any]:
        absent = np.isnan(column)
        if self._missing is Missing.KEPT or not absent.any():
            return column
        if self._missing is Missing.REFUSED:
            raise FormatError(f"table: {name}: {int(absent.sum())} numbers are missing")
        return np.where(absent, kind.mean, column)


def _learnt(name: str, column: NDArray[Any]) -> Scale | tuple[str, ...]:
    """Return the mean and deviation of numbers, or the categories of texts if it has two."""
    if column.dtype.kind in "fiub":
        numbers = _numbers(name, column)
        present = numbers[~np.isnan(numbers)]
        if not len(present) or present.min() == present.max():  # rounding makes no deviation of it
            return Scale(mean=float(present[0]) if len(present) else 0.0, deviation=0.0)
        return Scale(mean=float(present.mean()), deviation=float(present.std()))
    categories = np.unique(_texts(name, column)).tolist()
    if len(categories) > MAX_CATEGORIES:
        raise FormatError(f"table: {name}: more than {MAX_CATEGORIES} categories")
    return tuple(categories) if len(categories) > 1 else ()


def _records(table: Mapping[str, NDArray[Any]]) -> int:
    lengths = {column.shape for column in table.values()}
    if len(lengths) != 1 or len(shape := lengths.pop()) != 1 or not shape[0]:
        raise FormatError("table: every column has the same number of records, one or more")
    return int(shape[0])


def _numbers(name: str, column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype.kind not in "fiub":
        raise FormatError(f"table: {name}: numbers are needed")
    found: NDArray[Any] = column.astype(np.float64)
    if np.isinf(found).any():
        raise FormatError(f"table: {name}: a number is infinite")
    return found


def _texts(name: str, column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype.kind not in "UT" and not (
        column.dtype.kind == "O" and all(isinstance(each, str) for each in column)
    ):
        raise FormatError(f"table: {name}: numbers or texts are needed")
    found: NDArray[Any] = column.astype(np.str_)
    return found
