"""What users of Cluster Serving enqueue, as the inputs of a model; and outputs as they read them.

A record there is one row without a batch axis, of 32-bit floats, whatever the model takes. Here a
missing batch axis is added, and taken off the answer again; values become the model's own types
only where they stay what they are.
"""

from collections.abc import Mapping
from math import prod
from typing import Any, Final

import numpy as np

from wardian.compat.zoo.data import Triple, read_sparse, read_value
from wardian.errors import RequestError
from wardian.inference.dtypes import BF16, NUMPY_OF, bytes_array
from wardian.inference.spec import Array, Tensors
from wardian.serving.zoo.arrays import dense_array
from wardian.serving.zoo.columns import Image, Sparse, Strings

MAX_ELEMENTS: Final = 2**28
"""Of one dense tensor that a sparse one stands for."""

_BYTES: Final = "BYTES"


class Prepared:
    """The inputs of one inference.

    Attributes:
        inputs: arrays by the names of the model.
        single: whether a batch axis of 1 was added to them, and is to be taken off the outputs.
    """

    __slots__ = ("inputs", "single")

    def __init__(self, inputs: Tensors, *, single: bool) -> None:
        """Hold them."""
        self.inputs, self.single = inputs, single


def prepare(data: Mapping[str, Any], *, specs: list[dict[str, Any]]) -> Prepared:
    """Return `data` as inputs of a model.

    Args:
        data: by name: see `read_value`.
        specs: the model's inputs, as its metadata has them (`name`, `datatype`, `shape`). The name
            of the one input of a model need not be right.

    Raises:
        TypeError: a value is none of these.
        RequestError: names, shapes or values do not fit the model; or an image cannot be had.
    """
    names = [spec["name"] for spec in specs]
    if len(data) == len(specs) == 1:
        data = {names[0]: next(iter(data.values()))}
    if data.keys() != set(names):
        raise RequestError(f"expected the inputs {sorted(names)}, got {sorted(map(str, data))}")
    arrays = {
        spec["name"]: _typed(_array(data[spec["name"]], spec["name"]), spec) for spec in specs
    }
    rank = {len(spec["shape"]) - arrays[spec["name"]].ndim for spec in specs}
    if rank == {1}:
        return Prepared({name: array[None] for name, array in arrays.items()}, single=True)
    if rank != {0}:
        raise RequestError(
            "each input has as many axes as the model's, or each lacks the batch axis: "
            + ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        )
    return Prepared(arrays, single=False)


def result(outputs: Tensors, *, order: list[str], single: bool) -> Array | list[Array]:
    """Return what a reader of results gets: an array, or a list of them in the model's `order`."""
    arrays = [outputs[name][0] if single else outputs[name] for name in order]
    return arrays[0] if len(arrays) == 1 else arrays


def _array(value: Any, name: str) -> Array:
    """Return `value` as an array of numbers, or of bytes objects."""
    given = read_value(value, name)
    if isinstance(given, Triple):
        return _dense(read_sparse(given, name), name)
    if isinstance(given, Strings):
        return bytes_array([text.encode() for text in given.values], (len(given.values),))
    if isinstance(given, Image):
        return bytes_array([given.raw], (1,))
    return given


def _typed(array: Array, spec: dict[str, Any]) -> Array:
    """Return `array` in the type of the input that `spec` describes, each value unchanged."""
    name, datatype = spec["name"], spec["datatype"]
    if (array.dtype == object) != (datatype == _BYTES):
        raise RequestError(f"{name}: the model takes {datatype}")
    if datatype == _BYTES:
        return array
    wanted = NUMPY_OF[datatype]
    if wanted is BF16:
        raise RequestError(f"{name}: {datatype} cannot be enqueued; use `wardian.connect`")
    if array.dtype.kind not in "biuf":
        raise RequestError(f"{name}: expected numbers, got {array.dtype}")
    if wanted.kind == "f":
        return array.astype(wanted)
    with np.errstate(invalid="ignore"):
        whole = array.astype(wanted)
    if not np.array_equal(whole.astype(array.dtype), array):
        raise RequestError(f"{name}: the model takes {datatype}; a value would not stay what it is")
    return whole


def _dense(sparse: Sparse, name: str) -> Array:
    """Return a sparse tensor as it is when dense: its values at the rows of its indices."""
    if prod(sparse.shape) > MAX_ELEMENTS:
        raise RequestError(f"{name}: no dense tensor of the shape {list(sparse.shape)} is made")
    return dense_array(sparse)
