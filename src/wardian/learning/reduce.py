"""Many updates to one: means, medians, and how far updates lie apart.

Each goes through the coordinates in blocks and works in float64, party by party in the order of
their names; so what comes out is the same, bit for bit, whatever came in which order and however
large a block is (but for `squared_distances`). Memory: the parties' values of one block, and one
result. Values are finite: whoever stages answers refuses others.
"""

from collections.abc import Callable, Iterable, Sequence
from math import ceil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError, JobFailed
from wardian.learning.arrays import Array, ArrayRecord, all_finite
from wardian.learning.records import Metric, MetricRecord
from wardian.learning.replies import Block, Replies

EXAMPLES: Final = "num-examples"
"""The metric that says of how many records an answer speaks."""
_ROUNDING: Final = 1e-9  # 0.07 of 100 parties are 7, not 7.000000000000001

Floats = NDArray[np.float64]
Reduction = Callable[[Block], Floats]
"""From a block's (parties, coordinates) to (coordinates), in float64."""


def examples(replies: Replies) -> list[int]:
    """Return of how many records each party speaks, in the order of `replies.parties`.

    Raises:
        FormatError: one does not say so, or says less than 1.
    """
    found = []
    for party in replies.parties:
        count = replies.metrics(party).get(EXAMPLES)
        if not isinstance(count, int) or count < 1:
            raise FormatError(f"{party}: {EXAMPLES} is a whole number, 1 or more")
        found.append(count)
    return found


def weighted_mean(replies: Replies, record: str, weights: Sequence[float]) -> ArrayRecord:
    """Return the mean of `record`, each party counting by its weight.

    Args:
        replies: of the cohort.
        record: which of their array records.
        weights: in the order of `replies.parties`, 0 or more, not all 0. A party of weight 0 is
            not looked at.

    Raises:
        FormatError: the sum of an array is infinite; names it.
    """
    return reduce(replies, record, lambda block: mean_of(block.values, weights))


def mean_of(values: Array, weights: Sequence[float]) -> Floats:
    """Return the weighted mean of `values`, (parties, coordinates); see `weighted_mean`."""
    total = sum(weights)
    return _sum(
        np.multiply(row, weight / total, dtype=np.float64)
        for weight, row in zip(weights, values, strict=True)
        if weight
    )


def median(replies: Replies, record: str) -> ArrayRecord:
    """Return the median of each coordinate; of an even number the mean of the two in the middle.

    Raises:
        FormatError: the sum of the two is infinite; names the array.
    """
    return reduce(replies, record, lambda block: median_of(block.values))


def median_of(values: Array) -> Floats:
    """Return the median of `values`, (parties, coordinates), of each coordinate."""
    ordered, middle = _sorted(values), len(values) // 2
    found: Floats = ordered[middle]
    if len(values) % 2 == 0:
        found = (ordered[middle - 1] + found) / 2
    return found


def trimmed_mean(replies: Replies, record: str, cut: float) -> ArrayRecord:
    """Return the mean of each coordinate without its smallest and its largest values.

    Args:
        replies: of the cohort.
        record: which of their array records.
        cut: the part of the parties that is left out at each end, rounded up, above 0.

    Raises:
        JobFailed: nobody would be left.
        FormatError: the sum of an array is infinite; names it.
    """
    parties = len(replies.parties)
    end = ceil(cut * parties - _ROUNDING)
    if 2 * end >= parties:
        raise JobFailed(f"of {parties} parties, {end} at each end cannot be left out")

    def reduction(block: Block) -> Floats:
        return _sum(_sorted(block.values)[end : parties - end]) / (parties - 2 * end)

    return reduce(replies, record, reduction)


def squared_distances(replies: Replies, record: str) -> Floats:
    """Return the squared Euclidean distance of any two parties' `record`, (parties, parties).

    Of arrays of real numbers alone: whole numbers are counters, which would outweigh parameters.
    What is too far away is at infinity; it never changes the distance of two others. Block by
    block: another size of blocks may change the last bits.
    """
    parties = len(replies.parties)
    found = np.zeros((parties, parties))
    with np.errstate(over="ignore"):
        for block in replies.blocks(record):
            if block.values.dtype.kind != "f":
                continue
            values = block.values.astype(np.float64)  # (parties, coordinates)
            for one in range(parties - 1):
                apart = values[one + 1 :] - values[one]
                found[one, one + 1 :] += np.einsum("ij,ij->i", apart, apart)
    return found + found.T


def mean_metrics(replies: Replies) -> MetricRecord:
    """Return what the parties measured, each counting by its `num-examples`, and their sum.

    A metric is there if every party has it, in lists of one length where it is a list: no party
    can make the others' round fail by what it measures.

    Raises:
        FormatError: see `examples`.
    """
    counts = examples(replies)
    measured = [replies.metrics(party) for party in replies.parties]
    found: dict[str, Metric] = {EXAMPLES: sum(counts)}
    for name in measured[0]:
        entries = [each.get(name) for each in measured]
        if name != EXAMPLES and len({_form(entry) for entry in entries}) == 1:
            rows = np.array([e if isinstance(e, list) else [e] for e in entries], np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                mean = mean_of(rows, counts).tolist()
            found[name] = mean if isinstance(entries[0], list) else mean[0]
    return MetricRecord(found)


def reduce(replies: Replies, record: str, reduction: Reduction) -> ArrayRecord:
    """Return what `reduction` makes of each block of `record`, in the arrays' kinds.

    Raises:
        FormatError: an array has what its kind cannot hold; names it.
    """
    shapes = replies.shapes(record)
    found = {name: np.empty(like.size, like.dtype) for name, like in shapes.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        for block in replies.blocks(record):
            reduced = reduction(block)
            part = slice(block.start, block.start + reduced.size)
            found[block.array][part] = as_kind(block.array, reduced, block.values.dtype)
    return ArrayRecord({name: array.reshape(shapes[name].shape) for name, array in found.items()})


def as_kind(name: str, values: Floats, dtype: Any) -> Array:
    """Return `values` of the array `name` as `dtype`: whole numbers and truth values the nearest.

    Raises:
        FormatError: one is no finite number there; names the array.
    """
    kind = np.dtype(dtype)
    if not all_finite(values):
        raise FormatError(f"{name}: the sum is no finite number")
    if kind.kind == "b":
        truths: Array = np.rint(values) != 0
        return truths
    if kind.kind in "iu":
        return _whole(np.rint(values), kind)
    with np.errstate(over="ignore"):
        found: Array = values.astype(kind)
    if not all_finite(found):
        raise FormatError(f"{name}: larger than {kind.name} can hold")
    return found


def _whole(values: Floats, kind: "np.dtype[Any]") -> Array:
    """Return `values` in `kind`, those beyond its ends at its ends: float64 has no 2**63 - 1."""
    ends = np.iinfo(kind)
    above, below = values >= float(ends.max), values <= float(ends.min)
    found = np.where(above | below, 0, values).astype(kind)
    found[above], found[below] = ends.max, ends.min
    return found


def _sum(rows: Iterable[Floats]) -> Floats:
    """Return the sum of `rows`, one after the other: numpy's own sum depends on the layout.

    The first of them is written to.
    """
    total: Any = None
    for row in rows:
        total = row if total is None else np.add(total, row, out=total)
    found: Floats = total
    return found


def _sorted(values: Array) -> Floats:
    found: Floats = values.astype(np.float64)
    found.sort(axis=0)
    return found


def _form(entry: Metric | None) -> int | None:
    """Return -1 of a number, the length of a list, None of nothing; no two forms are alike."""
    if isinstance(entry, list):
        return len(entry)
    return None if entry is None else -1
