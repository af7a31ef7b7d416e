"""Rows to learn from, pass by pass: in memory, or read anew from sealed tables each time.

A trainer that learns from batches takes either. What it holds of the tables is then a batch at a
time; nothing of them is ever written anywhere, sealed or not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wardian.broker.jobs.plan import Input
from wardian.errors import FormatError, LocalProtocolError
from wardian.learning.shared.columns import BATCH_ROWS, Columns, Kind, row_count

Sources: TypeAlias = NDArray[np.uint8]
"""Places in `Rows.owners`, of which there are 64 at most."""
Owners: TypeAlias = tuple[frozenset[str], ...]
"""Public keys of whom the tables are: rows of one owner's tables, or of the same owners' joined
ones, are of one place, since whoever else subtracts its own rows has them all together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some rows, none of whose arrays may be written to.

    Attributes:
        columns: by name, (rows,) each.
        label: float64, none missing; None where nothing is learnt.
        sources: whose each row is, (rows,): places in `Rows.owners`.
        rows: how many.
    """

    columns: Columns
    label: NDArray[np.float64] | None
    sources: Sources
    rows: int

    def part(self, begin: int, end: int) -> "Batch":
        """Return the rows from `begin` to before `end`."""
        return Batch(
            columns={name: each[begin:end] for name, each in self.columns.items()},
            label=None if self.label is None else self.label[begin:end],
            sources=self.sources[begin:end],
            rows=min(end, self.rows) - begin,
        )


class Rows(Protocol):
    """What a trainer goes through, as often as it likes: each time the same rows in one order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""

    @property
    def rows(self) -> int:
        """How many there are; known once they were gone through."""

    @property
    def owners(self) -> Owners:
        """Whose they are: `Batch.sources` are places in it."""

    def batches(self) -> Iterator[Batch]:
        """Yield all rows, some at a time."""


class SealedRows:
    """The rows of tables, one below the other, that are opened anew for every pass.

    They come in the order of the plan's inputs, and within each of its file.
    """

    __slots__ = ("_columns", "_label", "_names", "_owners", "_places", "_rows", "_tables")

    def __init__(
        self,
        used: Input,
        tables: Sequence[tuple[str, Callable[[Mapping[str, Kind]], Iterable[Columns]]]],
        kinds: Mapping[str, Kind],
        *,
        owners: Sequence[str],
    ) -> None:
        """Go through `tables`.

        Args:
            used: of the plan; all tables have these columns.
            tables: of each what errors call it, and what opens it and yields its batches.
            kinds: what each column is read as.
            owners: public keys, of each table's owner.
        """
        self._names = tuple(sorted(used.columns))
        self._label, self._tables, self._columns = used.label, tuple(tables), kinds
        self._owners, self._places = places_of([frozenset({each}) for each in owners])
        self._rows: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, sorted."""
        return self._names

    @property
    def rows(self) -> int:
        """How many rows there are.

        Raises:
            LocalProtocolError: they were not gone through yet.
        """
        if self._rows is None:
            raise LocalProtocolError("rows are counted by going through them")
        return self._rows

    @property
    def owners(self) -> Owners:
        """Whose the rows are."""
        return self._owners

    def batches(self) -> Iterator[Batch]:
        """Yield all rows; errors as `SealedTable.batches`, and a row without label is one."""
        count = 0
        for place, (where, opened) in zip(self._places, self._tables, strict=True):
            own = 0
            for columns in opened(self._columns):
                label: NDArray[Any] | None = None
                if self._label is not None:
                    label = columns[self._label]
                    if np.isnan(label).any():
                        raise FormatError(f"{where}: a row has no label")
                found = {name: columns[name] for name in self._names}
                rows = row_count(columns)
                own += rows
                sources = np.full(rows, place, np.uint8)
                yield Batch(columns=found, label=label, sources=sources, rows=rows)
            if not own:
                raise FormatError(f"{where}: no rows")
            count += own
        self._rows = count


def places_of(owners: Sequence[frozenset[str]]) -> tuple[Owners, tuple[int, ...]]:
    """Return each of `owners` once, and at which place of these each of them stands."""
    different = tuple(dict.fromkeys(owners))
    return different, tuple(different.index(each) for each in owners)


def are_matched(owners: Owners) -> bool:
    """Return whether any rows were matched by identifiers with rows of others of `owners`."""
    return any(len(each) > 1 for each in owners)


def apart(sources: Sources) -> Iterator[tuple[int, Any]]:
    """Yield each of `sources` once, and which rows are of it, as an index of them."""
    if not len(sources):
        return
    if sources.min() == sources.max():
        yield int(sources[0]), slice(None)
        return
    for place in np.flatnonzero(np.bincount(sources)).tolist():
        yield place, sources == place


def even_batches(batches: Iterable[Batch], *, rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """Yield the rows of `batches` so many at a time, wherever one file ends and another begins.

    What learns in an order learns the same of one table as of several, one below the other.
    """
    held: list[Batch] = []
    for batch in batches:
        begin = 0
        while begin < batch.rows:
            part = batch.part(begin, begin + rows - sum(each.rows for each in held))
            held.append(part)
            begin += part.rows
            if sum(each.rows for each in held) == rows:
                yield _one(held)
                held = []
    if held:
        yield _one(held)


def _one(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    labels = [each.label for each in parts if each.label is not None]
    return Batch(
        columns={
            name: np.concatenate([each.columns[name] for each in parts])
            for name in parts[0].columns
        },
        label=np.concatenate(labels) if labels else None,
        sources=np.concatenate([each.sources for each in parts]),
        rows=sum(each.rows for each in parts),
    )
