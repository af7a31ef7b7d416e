"""Instances to the inputs of a model, and to as few inferences as they can be.

An instance there was a record without a batch axis, to which the server added one; with
`inputAlreadyBatched` it had its own. Here the number of axes says which it is.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from wardian.errors import FormatError, RequestError
from wardian.inference.spec import FREE, Array, Tensors, TensorSpec
from wardian.serving.catalog import ModelInfo
from wardian.serving.zoo.arrays import column_array
from wardian.serving.zoo.columns import Column, Columns, Sparse

MAX_SPARSE_ELEMENTS: Final = 1_048_576
"""Elements, zeros included, of all sparse tensors of a request: a body of no size has so many."""


class Fitted(NamedTuple):
    """An instance as a model's inputs.

    Attributes:
        inputs: with their batch axis.
        own_axis: it came with the instance, so its answer has it, too.
    """

    inputs: Tensors
    own_axis: bool


class Group(NamedTuple):
    """One inference.

    Attributes:
        inputs: of all its instances.
        instances: which they are, in the order of the rows.
        own_axis: there is one, and it came with its batch axis.
    """

    inputs: Tensors
    instances: list[int]
    own_axis: bool


def expect_room(instances: Iterable[Columns]) -> None:
    """Return if the sparse tensors among `instances` may be made dense.

    Raises:
        RequestError: 413.
    """
    count = sum(
        prod(column.shape)
        for instance in instances
        for column in instance.values()
        if isinstance(column, Sparse)
    )
    if count > MAX_SPARSE_ELEMENTS:
        raise RequestError(
            f"sparse tensors of {count} elements, at most {MAX_SPARSE_ELEMENTS} are accepted in "
            "one request",
            status=413,
        )


def fit(instance: Columns, specs: Sequence[TensorSpec], *, images: frozenset[str]) -> Fitted:
    """Return `instance` as the inputs `specs`.

    Inputs go by name. Where none of the names is an input's, they go by place, as they did there.

    Args:
        instance: at least one column.
        specs: of the model's inputs, at least one.
        images: the inputs that take the bytes of a picture.

    Raises:
        RequestError: 400; says what was expected.
    """
    names = [spec.name for spec in specs]
    if len(instance) != len(names) or (
        instance.keys() != set(names) and not instance.keys().isdisjoint(names)
    ):
        raise RequestError(f"an instance with the inputs {', '.join(names)} was expected"[:300])
    by_name = names[0] in instance
    columns = [instance[name] for name in names] if by_name else list(instance.values())
    inputs: Tensors = {}
    own_axes = set()
    for spec, column in zip(specs, columns, strict=True):
        array = _array(column, spec, is_image=spec.name in images)
        own_axis = array.ndim == len(spec.shape)
        if not own_axis and (array.ndim + 1 != len(spec.shape) or spec.shape[0] not in (FREE, 1)):
            raise RequestError(
                f"input {spec.name!r}: {spec.dtype} {list(spec.shape[1:])} was expected of an "
                f"instance; got shape {list(array.shape)}"
            )
        inputs[spec.name] = array if own_axis else array[np.newaxis]
        own_axes.add(own_axis)
    if len(own_axes) > 1:
        raise RequestError("some inputs of an instance have a batch axis, and some have none")
    return Fitted(inputs, own_axes.pop())


def group(
    fitted: Sequence[Fitted | None], info: ModelInfo, *, images: frozenset[str]
) -> list[Group]:
    """Return the inferences for `fitted`, by place; None is an instance without one.

    Instances of one shape are the rows of one inference if all tensors of the model have a free
    first axis. Images are not: one that cannot be read would take its neighbours with it.
    """
    tensors = info.inputs + info.outputs
    stackable = not images and all(spec.shape[:1] == (FREE,) for spec in tensors)
    members: dict[Any, list[int]] = {}
    for place, each in enumerate(fitted):
        if each is not None:
            alone = each.own_axis or not stackable
            key = place if alone else tuple(array.shape for array in each.inputs.values())
            members.setdefault(key, []).append(place)
    return [_joined(fitted, places) for places in members.values()]


def _joined(fitted: Sequence[Fitted | None], places: list[int]) -> Group:
    parts = [each for place in places if (each := fitted[place]) is not None]
    if len(parts) == 1:
        return Group(parts[0].inputs, places, parts[0].own_axis)
    inputs = {
        name: np.concatenate([each.inputs[name] for each in parts]) for name in parts[0].inputs
    }
    return Group(inputs, places, own_axis=False)


def _array(column: Column, spec: TensorSpec, *, is_image: bool) -> Array:
    try:
        return column_array(column, spec, is_image=is_image)
    except FormatError as err:
        raise RequestError(str(err)) from err
