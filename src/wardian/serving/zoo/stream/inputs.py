"""The columns of a record as the inputs of a model, and the model's outputs as a record's.

A record of Cluster Serving is one instance without an axis of records, unless its client put one in
front; all its numbers are float32. A model of Wardian says which type and shape it takes, and the
axis that is missing is added here and taken off the answer again.
"""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Final, NamedTuple

import numpy as np

from wardian.errors import FormatError
from wardian.inference.dtypes import Array
from wardian.inference.spec import FREE, Tensors, TensorSpec
from wardian.serving.zoo.arrays import column_array
from wardian.serving.zoo.columns import Column, Columns, Image, Sparse

MAX_DENSE_BYTES: Final = 64 * 1024**2
"""Of a sparse column once its zeros are written out."""


class Taken(NamedTuple):
    """What a record is to a model.

    Attributes:
        inputs: arrays of the model's types, by the names of its inputs.
        alone: the record has no axis of records, so that neither has its answer.
    """

    inputs: Tensors
    alone: bool


def model_inputs(
    columns: Columns, specs: tuple[TensorSpec, ...], *, renamed: Mapping[str, str]
) -> Taken:
    """Return `columns` as the inputs in `specs`.

    Args:
        columns: of one instance, at least one.
        specs: the model's inputs. One input takes the only column of a record, whatever its name.
        renamed: by a column's name, that of the input.

    Raises:
        FormatError: other names, a shape that the input does not have with or without an axis in
            front, or values that its type does not have.
    """
    if len(specs) == len(columns) == 1:
        named = {specs[0].name: next(iter(columns.values()))}
    else:
        named = {renamed.get(name, name): column for name, column in columns.items()}
    if len(named) != len(columns) or named.keys() != {spec.name for spec in specs}:
        raise FormatError(f"the columns are not the model's inputs, of which it has {len(specs)}")
    inputs, alone = {}, False
    for spec in specs:
        array, added = _fitted(_array(named[spec.name], spec), spec)
        inputs[spec.name] = array
        alone = alone or added
    return Taken(inputs, alone)


def record_outputs(outputs: Tensors, specs: Iterable[TensorSpec], *, alone: bool) -> list[Array]:
    """Return a model's `outputs` in the order of `specs`, for a record of which `Taken` says so."""
    arrays = [outputs[spec.name] for spec in specs]
    if not alone:
        return arrays
    return [each[0] if each.ndim and each.shape[0] == 1 else each for each in arrays]


def _fitted(array: Array, spec: TensorSpec) -> tuple[Array, bool]:
    """Return `array` with the axes of `spec`, and whether the first one was added."""
    if _fits(array.shape, spec.shape):
        return array, False
    if spec.shape and spec.shape[0] in (FREE, 1) and _fits(array.shape, spec.shape[1:]):
        return array[np.newaxis], True
    raise FormatError(f"a column of shape {list(array.shape)}, {list(spec.shape)} was expected")


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(
        want in (FREE, length) for length, want in zip(shape, expected, strict=True)
    )


def _array(column: Column, spec: TensorSpec) -> Array:
    """Return `column` as an array of the type of `spec`; an image is one to any input of bytes."""
    if isinstance(column, Sparse):
        _expect_room(column, spec)
    return column_array(column, spec, is_image=isinstance(column, Image))


def _expect_room(column: Sparse, spec: TensorSpec) -> None:
    """Return if `column` may be made dense: if it then is an input of `spec`."""
    shape = column.shape
    if not _fits(shape, spec.shape) and not _fits(shape, spec.shape[1:]):
        raise FormatError(f"a column of shape {list(shape)}, {list(spec.shape)} was expected")
    if prod(shape) * 4 > MAX_DENSE_BYTES:
        raise FormatError(f"a sparse column of more than {MAX_DENSE_BYTES} bytes with its zeros")
