"""The answers of a round's cohort, as a strategy sees them: metrics by party, arrays in blocks.

Updates may be larger than memory. So a strategy never gets them whole: it goes through their
coordinates in blocks, each with the values of every party, in the order of the parties' names. What
it makes of them is therefore the same whatever the order in which the answers came.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import MetricRecord

BLOCK_BYTES: Final = 1024**2
"""Of one party's values in a block, at most."""
BLOCKS_BYTES: Final = 16 * 1024**2
"""Of all parties' values in a block, where that is less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The same coordinates of every party's array.

    Attributes:
        array: its name.
        start: the first coordinate, of the flat array.
        values: (parties, coordinates), of the array's kind of elements.
    """

    array: str
    start: int
    values: NDArray[Any]


class Replies(Protocol):
    """What the cohort of a round answered."""

    @property
    def parties(self) -> tuple[str, ...]:
        """Who answered, sorted; never empty."""
        ...

    def metrics(self, party: str) -> MetricRecord:
        """Return the metrics of `party`."""
        ...

    def records(self) -> tuple[str, ...]:
        """Return the names of the array records that every party sent."""
        ...

    def whole(self, party: str, record: str) -> ArrayRecord:
        """Return what `party` sent as `record`, all of it in memory: for what is small."""
        ...

    def shapes(self, record: str) -> Mapping[str, NDArray[Any]]:
        """Return an empty stand-in of each array of `record`: its shape and kind, no memory."""
        ...

    def blocks(self, record: str) -> Iterator[Block]:
        """Yield every coordinate of `record` once, array by array; may be called again."""
        ...


class HeldReplies:
    """Replies that lie in memory."""

    def __init__(
        self,
        answers: Mapping[str, tuple[Mapping[str, ArrayRecord], MetricRecord]],
        *,
        alike: bool = True,
    ) -> None:
        """Hold the array records and the metrics of each party.

        Args:
            answers: of each party.
            alike: whether every party's have to fit the others'; those that do not are had by
                `whole` alone.

        Raises:
            FormatError: there is none, or they do not fit.
        """
        if not answers:
            raise FormatError("replies: no party answered")
        self._answers = dict(sorted(answers.items()))
        self.parties: Final = tuple(self._answers)
        first = self._arrays(self.parties[0])
        for party in self.parties[1:] if alike else ():
            other = self._arrays(party)
            if list(first) != list(other) or not all(
                first[name].fits(other[name]) for name in first
            ):
                raise FormatError(f"replies: the arrays of {party} do not fit the others'")

    def _arrays(self, party: str) -> Mapping[str, ArrayRecord]:
        return self._answers[party][0]

    def metrics(self, party: str) -> MetricRecord:
        """See `Replies`."""
        return self._answers[party][1]

    def records(self) -> tuple[str, ...]:
        """See `Replies`."""
        return tuple(self._arrays(self.parties[0]))

    def whole(self, party: str, record: str) -> ArrayRecord:
        """See `Replies`."""
        return self._arrays(party)[record]

    def shapes(self, record: str) -> Mapping[str, NDArray[Any]]:
        """See `Replies`."""
        first = self._arrays(self.parties[0])[record]
        return {name: stand_in(array.shape, array.dtype) for name, array in first.items()}

    def blocks(self, record: str) -> Iterator[Block]:
        """See `Replies`."""
        of_party = [self._arrays(party)[record] for party in self.parties]
        for name, array in of_party[0].items():
            flat = [each[name].reshape(-1) for each in of_party]
            for part in parts(array.size, array.dtype, parties=len(flat)):
                values = np.array([each[part] for each in flat])
                yield Block(array=name, start=part.start, values=values)


def stand_in(shape: Sequence[int], dtype: Any) -> NDArray[Any]:
    """Return an array of `shape` and `dtype` that takes no memory for its elements."""
    found = np.ndarray(tuple(shape), dtype, np.zeros((), dtype), strides=(0,) * len(shape))
    found.flags.writeable = False
    return found


def parts(size: int, dtype: Any, *, parties: int = 1) -> Iterator[slice]:
    """Yield the slices of the blocks of an array of `size` elements; none if it is empty."""
    step = max(1, min(BLOCK_BYTES, BLOCKS_BYTES // parties) // np.dtype(dtype).itemsize)
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))
