"""Flat numbers and a shape to a column: nothing is trusted that does not add up."""

from collections.abc import Sequence
from math import prod

import numpy as np

from wardian.errors import FormatError
from wardian.inference.spec import Array
from wardian.serving.zoo.columns import MAX_AXES, MAX_DENSE_ELEMENTS, Dense, Sparse


def build_dense(values: Array, shape: Sequence[int]) -> Dense:
    """Return the tensor of `shape` that `values`, flat and in C order, are.

    Raises:
        FormatError: a negative axis, too many axes, or another number of elements.
    """
    axes = _axes(shape)
    if prod(axes) != values.size:
        raise FormatError(f"a tensor's shape has {prod(axes)} elements, its data has {values.size}")
    try:
        return Dense(_floats(values).reshape(axes))
    except ValueError as err:  # no elements, and axes longer than any array's
        raise FormatError("a tensor's shape is not possible") from err


def build_sparse(
    values: Array, shape: Sequence[int], *, indices: Array, indices_shape: Sequence[int]
) -> Sparse:
    """Return the sparse tensor of `values` that stand at `indices`, one row of them for each value.

    Raises:
        FormatError: numbers that do not agree with each other, or an index outside `shape`.
    """
    axes = _axes(shape)
    if prod(axes) > MAX_DENSE_ELEMENTS:
        raise FormatError(f"a sparse tensor has more than {MAX_DENSE_ELEMENTS} elements")
    rows = (values.size, len(axes))
    if tuple(indices_shape) != rows or prod(rows) != indices.size:
        raise FormatError(
            f"a sparse tensor of {rows[0]} values and {rows[1]} axes: indices of the shape "
            f"{list(rows)} were expected, one row for each value"
        )
    places = indices.reshape(rows)
    if places.size and ((places < 0).any() or (places >= np.array(axes, np.int64)).any()):
        raise FormatError("a sparse tensor's index is outside its shape")
    return Sparse(indices=places, values=_floats(values), shape=axes)


def _axes(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) > MAX_AXES:
        raise FormatError(f"a tensor has {len(shape)} axes, at most {MAX_AXES} were expected")
    if shape and min(shape) < 0:
        raise FormatError("a tensor's axis has a negative length")
    return tuple(shape)


def _floats(values: Array) -> Array:
    """Return `values` as float32; beyond 2^24 integers lose digits."""
    return values if values.dtype == np.float32 else values.astype(np.float32)
