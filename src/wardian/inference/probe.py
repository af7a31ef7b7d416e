"""Whether the rows of a model are independent: measured, not believed.

Stacking requests is only right when a row's answer does not depend on its neighbours. A free first
axis does not promise that (a model may normalise over its batch, or quantise with one range for
all of it), and a wrong guess would answer one client with another's input. So rows of very
different kinds are inferred alone and in several companies.

A probe can find a dependence, but no probe can rule one out: a model may have an embedding that
outweighs all others at an index that is never tried. Strangers therefore share a batch only where
the model's owner says so (TRUST T19).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wardian.errors import JobFailed
from wardian.inference.dtypes import (
    BF16,
    BYTES,
    bytes_array,
    from_bf16,
    numpy_dtype,
    to_bf16,
)
from wardian.inference.spec import FREE, Array, Tensors, TensorSpec

_FREE_LENGTH = 32
"""Length of a free axis other than the first: enough for the usual strides of a convolution."""

_SCALES = (1.0, 1.0, 1e3, -1e3)
"""By which the floats of each row are multiplied: a loud neighbour drowns what is not separate."""

_COMPANIES = ((0, 1), (2, 0), (3, 0), (0, 1, 2, 3), (3, 2, 1, 0))
"""Which rows are inferred together, in this order; row 0 has each other as its only neighbour."""

_HIGHEST = (20_000, 500, 9, 1)
"""Largest integers, one round each: vocabularies are large or small, and an index beyond the end
is refused, or read as something that tells nothing."""

_WORDS = (range(1, 3), range(100), range(7), range(3, 30))
"""The words of each text that is tried."""

_ATOL = 1e-5

Infer = Callable[[Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class _Alone:
    """A row, what the model answers to it by itself, and how loud it is."""

    row: Tensors
    answer: Tensors
    scale: float


def rows_independent(
    infer: Infer, *, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> bool:
    """Return True if the model answers stacked rows as it answers each of them alone.

    False as well for a model whose first axes are not all free, or that fails on the probe: such a
    model serves one request at a time, which is always right.
    """
    if not inputs or any(not spec.shape or spec.shape[0] != FREE for spec in inputs + outputs):
        return False
    answered = False
    for highest in _HIGHEST if _has_integers(inputs) else (1,):
        alone = _alone(infer, inputs, highest)
        answered = alone is not None
        if alone is not None and not _same_in_company(infer, alone, outputs):
            return False
    return answered  # the last round's numbers are those that every model should take


def texts_independent(
    infer: Infer, *, name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> bool:
    """Return True if texts of very different lengths are answered together as each alone.

    They are padded to the longest; a model that does not leave the padding out, or whose answer is
    as long as its input, mixes them. False as well if it fails on them.

    Args:
        infer: takes texts as its input `name`.
        name: of that input.
        inputs: all that it takes.
        outputs: all that it answers.
    """
    alone = []
    for index, words in enumerate(_WORDS):
        row = {spec.name: _row(spec, index, 1) for spec in inputs}
        row[name] = bytes_array((b" ".join(b"%d" % (each * 7919) for each in words),), (1,))
        try:
            alone.append(_Alone(row, infer(row), 1.0))
        except JobFailed:
            return False
    return _same_in_company(infer, alone, outputs)


def probe_rows(inputs: tuple[TensorSpec, ...], *, rows: int = 1) -> list[Tensors]:
    """Return inputs of ordinary size that fit `inputs`, `rows` on each free axis 0.

    One for each range of integers, largest first; the last is what every model should take.
    """
    return [
        {spec.name: _fixed(_row(spec, 0, highest), spec, rows) for spec in inputs}
        for highest in (_HIGHEST if _has_integers(inputs) else (1,))
    ]


def _fixed(row: Array, spec: TensorSpec, rows: int) -> Array:
    """Return `row` so many times as axis 0 says, or as a scalar."""
    if not spec.shape:
        return row.reshape(-1)[:1].reshape(())
    return np.repeat(row, rows if spec.shape[0] == FREE else spec.shape[0], axis=0)


def _has_integers(inputs: tuple[TensorSpec, ...]) -> bool:
    return any(numpy_dtype(spec.dtype).kind in "iu" for spec in inputs)


def _alone(infer: Infer, inputs: tuple[TensorSpec, ...], highest: int) -> list[_Alone] | None:
    """Return every probe row with its answer; None if the engine refuses one."""
    floats = any(spec.dtype.startswith(("FP", "BF")) for spec in inputs)
    alone = []
    for index, scale in enumerate(_SCALES):
        row = {spec.name: _row(spec, index, highest) for spec in inputs}
        try:
            alone.append(_Alone(row, infer(row), abs(scale) if floats else 1.0))
        except JobFailed:
            return None
    return alone


def _same_in_company(infer: Infer, alone: list[_Alone], outputs: tuple[TensorSpec, ...]) -> bool:
    for company in _COMPANIES:
        members = [alone[index] for index in company]
        stacked = {
            name: np.concatenate([one.row[name] for one in members]) for name in members[0].row
        }
        try:
            together = infer(stacked)
        except JobFailed:
            return False
        if not all(_same(together[spec.name], spec.name, members) for spec in outputs):
            return False
    return True


def _row(spec: TensorSpec, index: int, highest: int) -> Array:
    """Return one row that fits `spec`, of another kind for each `index`.

    Floats differ in scale. Integers are 0 to `highest`, and each row has its own quarter of that
    range, so that one value that outweighs all others is in one row and not in the rest.
    """
    shape = (1, *(_FREE_LENGTH if axis == FREE else axis for axis in spec.shape[1:]))
    steps = np.arange(math.prod(shape))
    ramp = np.sin(steps * 0.7 + 1 + 2 * index)
    dtype = numpy_dtype(spec.dtype)
    values: Array
    if spec.dtype == BYTES:
        return bytes_array((b"%d" % (int(step) * (index + 1) % 10) for step in steps), shape)
    if dtype is BF16:
        return to_bf16((ramp * _SCALES[index]).reshape(shape))
    if dtype.kind == "f":
        values = ramp * _SCALES[index]
    elif dtype.kind == "b" or highest == 1:
        values = ramp > 0
    else:
        top = min(highest, int(np.iinfo(dtype).max)) + 1
        rows = len(_SCALES)
        first, last = index * top // rows, (index + 1) * top // rows
        values = first + steps * 7919 % (last - first)  # a prime: all of a small quarter
    row: Array = values.astype(dtype).reshape(shape)
    return row


def _same(together: Array, name: str, members: list[_Alone]) -> bool:
    if len(together) != len(members):
        return False
    return all(
        len(one.answer[name]) == 1 and close(mine, one.answer[name][0], scale=one.scale)
        for mine, one in zip(together, members, strict=True)
    )


def close(mine: Array, expected: Array, *, scale: float = 1.0) -> bool:
    """Return whether `mine` differs from `expected` by no more than rounding.

    Args:
        mine: of any type.
        expected: likewise.
        scale: how large the numbers are that went in.
    """
    mine, expected = np.asarray(mine), np.asarray(expected)  # an element of BYTES is no array
    if mine.shape != expected.shape or mine.dtype != expected.dtype:
        return False
    relative = 1e-2 if expected.itemsize == 2 else 1e-3  # FP16 has 11 bits, BF16 8
    if expected.dtype == BF16:
        mine, expected = from_bf16(mine), from_bf16(expected)
    if expected.dtype.kind != "f":
        return bool(np.array_equal(mine, expected))
    # Kernels for other batch sizes add up in another order, which costs a share of the largest
    # terms.
    finite = np.abs(expected[np.isfinite(expected)])
    loudest = max(scale, float(finite.max(initial=0)))
    return bool(np.allclose(mine, expected, rtol=relative, atol=_ATOL * loudest, equal_nan=True))
