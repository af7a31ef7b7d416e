"""The rows of a task in blocks, as trainers that pass over them take them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardian.learning.shared.exact import BLOCK_ROWS, Floats
from wardian.learning.shared.rows import Batch, Sources
from wardian.learning.shared.trainers.trained import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """At most `BLOCK_ROWS` rows.

    Attributes:
        begin: how many rows are before them.
        values: (columns, rows).
        label: (rows,); NaN where nothing is learnt.
        sources: whose each row is, (rows,); see `rows.Rows`.
    """

    begin: int
    values: Floats
    label: Floats
    sources: Sources

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.values.shape[1])

    def chosen(self, mask: NDArray[np.bool_]) -> "Block":
        """Return the rows of `mask`."""
        return Block(
            begin=self.begin,
            values=self.values[:, mask],
            label=self.label[mask],
            sources=self.sources[mask],
        )


def blocks(task: Task) -> Iterator[Block]:
    """Yield all rows of `task`, which are of numbers, in blocks."""
    begin = 0
    for batch in task.rows.batches():
        for part in parts_of(batch):
            yield _block(part, task.rows.names, begin)
            begin += part.rows


def parts_of(batch: Batch) -> Iterator[Batch]:
    """Yield the rows of `batch` in pieces as large as a block."""
    for at in range(0, batch.rows, BLOCK_ROWS):
        yield batch.part(at, at + BLOCK_ROWS)


def _block(part: Batch, names: Sequence[str], begin: int) -> Block:
    values = np.empty((len(names), part.rows))
    for place, name in enumerate(names):
        values[place] = part.columns[name]
    label = np.full(part.rows, np.nan) if part.label is None else part.label
    return Block(begin=begin, values=values, label=label, sources=part.sources)
