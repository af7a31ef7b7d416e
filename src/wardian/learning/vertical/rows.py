"""What a party brings: columns and labels of the same records, as numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError, LocalProtocolError, PolicyDenied

T = TypeVar("T")


def own_features(
    features: NDArray[Any],
    *,
    columns: int | None = None,
    empty: bool = False,
    missing: bool = False,
) -> NDArray[Any]:
    """Return `features`, (records, columns) float64.

    Args:
        features: of this party.
        columns: how many there have to be; None: one or more.
        empty: whether there may be none, which is for the party that has the labels.
        missing: whether NaN stands for a value that nobody has.

    Raises:
        FormatError: not such an array, a number that is not finite, no record, or no column.
    """
    if features.ndim != 2 or features.dtype != np.float64 or not len(features):
        raise FormatError("features: (records, columns) float64 are needed, one record or more")
    if columns is not None and features.shape[1] != columns:
        raise FormatError(f"features: {features.shape[1]} columns, not {columns}")
    if columns is None and not features.shape[1] and not empty:
        raise FormatError("features: no column; only who has the labels can do without")
    strange = np.isinf(features) if missing else ~np.isfinite(features)
    if strange.any():
        places = np.flatnonzero(strange.any(axis=0))[:5].tolist()
        raise FormatError(f"features: columns {places} hold what is no finite number")
    return features


def own_labels(labels: NDArray[Any], *, rows: int) -> NDArray[Any]:
    """Return `labels` as (records,) float64.

    Raises:
        FormatError: not one number for each of `rows` records, or one that is not finite: a record
            without a label is left out of all parties' before.
    """
    if labels.shape != (rows,) or labels.dtype.kind not in "fiub":
        raise FormatError(f"labels: one number for each of {rows} records is needed")
    found = labels.astype(np.float64)
    if not np.isfinite(found).all():
        raise FormatError("labels: some are missing, or no finite number")
    return found


def kinds_of(labels: NDArray[Any]) -> set[float]:
    """Return each number that `labels`, (records,), has, once."""
    ordered = np.sort(labels)
    return set(ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]].tolist())


class Gathered(Generic[T]):
    """What each party sent, once: a repetition changes nothing.

    Attributes:
        parties: sorted; the order of all that is computed.
    """

    __slots__ = ("_found", "parties")

    def __init__(self, parties: Sequence[str]) -> None:
        """Wait for each of `parties`.

        Raises:
            LocalProtocolError: there is none, or one is named twice.
        """
        self.parties = tuple(sorted(parties))
        if not parties or len(set(parties)) < len(parties):
            raise LocalProtocolError("one party or more, each once")
        self._found: dict[str, T] = {}

    def wants(self, party: str) -> bool:
        """Return whether `party` has not sent its part yet.

        Raises:
            PolicyDenied: it takes no part (rule `vertical-party`).
        """
        if party not in self.parties:
            raise PolicyDenied("this party takes no part", rule="vertical-party")
        return party not in self._found

    def add(self, party: str, part: T) -> None:
        """Keep `part` of `party`."""
        if self.wants(party):
            self._found[party] = part

    @property
    def complete(self) -> bool:
        """Whether every party sent its part."""
        return len(self._found) == len(self.parties)

    def all(self) -> Mapping[str, T]:
        """Return the part of each party, in their order.

        Raises:
            LocalProtocolError: one is missing yet.
        """
        if not self.complete:
            raise LocalProtocolError("not every party has sent its part yet")
        return {party: self._found[party] for party in self.parties}

    def clear(self) -> None:
        """Wait for each party anew."""
        self._found.clear()


def one_length(parts: Mapping[str, NDArray[Any]]) -> int:
    """Return how many records each of `parts` has.

    Raises:
        FormatError: not all have as many; names those that have not what most have.
    """
    lengths = [len(part) for part in parts.values()]
    most = max(set(lengths), key=lambda length: (lengths.count(length), -length), default=math.nan)
    others = [party for party, part in parts.items() if len(part) != most]
    if others:
        raise FormatError(
            f"records: {', '.join(others)} has another number of them than the others"
        )
    return int(most)
