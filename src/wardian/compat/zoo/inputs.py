"""What users of Cluster Serving enqueue, as the inputs of a model; and outputs as they read them.

A record there is one row without a batch axis, of 32-bit floats, whatever the model takes. Here a
missing batch axis is added, and taken off the answer again; values become the model's own types
only where they stay what they are.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from wardian.errors import RequestError
from wardian.inference.dtypes import BF16, NUMPY_OF
from wardian.inference.spec import Array, Tensors

MAX_IMAGE_BYTES: Final = 64 * 1024**2
"""Of one image, as it is encoded."""
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
        data: by name: an array; three arrays (indices, values, shape) of a sparse one; a list of
            texts; the path of an image, or {"path": ...}; an image as {"b64": ...}.
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
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, str):
        return _elements([_image(Path(value), name)])
    if isinstance(value, Mapping) and value.keys() == {"path"}:
        return _elements([_image(Path(value["path"]), name)])
    if isinstance(value, Mapping) and value.keys() == {"b64"}:
        return _elements([_decoded(value["b64"], name)])
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return _elements([each.encode() for each in value])
    if isinstance(value, list) and len(value) == 3:
        return _dense(*(np.asarray(each) for each in value), name=name)
    raise TypeError(
        f"{name}: expected an array, three arrays of a sparse tensor, texts, or an image "
        f'(its path, or {{"b64": ...}}), got {type(value).__name__}'
    )


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


def _dense(indices: Array, values: Array, shape: Array, *, name: str) -> Array:
    """Return a sparse tensor as it is when dense: `values` at the rows of `indices`."""
    axes = tuple(int(axis) for axis in shape.reshape(-1))
    if any(axis < 0 for axis in axes) or _product(axes) > MAX_ELEMENTS:
        raise RequestError(f"{name}: no dense tensor of the shape {list(axes)} is made")
    flat = values.reshape(-1)
    if indices.shape != (flat.size, len(axes)):
        raise RequestError(
            f"{name}: {flat.size} values in {len(axes)} axes need indices of the shape "
            f"[{flat.size}, {len(axes)}], not {list(indices.shape)}"
        )
    places = indices.astype(np.int64)
    if not np.array_equal(places, indices) or (places < 0).any() or (places >= axes).any():
        raise RequestError(f"{name}: an index is outside of the shape {list(axes)}")
    dense = np.zeros(axes, np.float32)
    dense[tuple(places.T)] = flat
    return dense


def _product(axes: tuple[int, ...]) -> int:
    size = 1
    for axis in axes:
        size *= axis
    return size


def _image(path: Path, name: str) -> bytes:
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise RequestError(f"{name}: {path} is larger than {MAX_IMAGE_BYTES} bytes")
        return path.read_bytes()
    except OSError as err:
        raise RequestError(f"{name}: cannot read the image {path}: {err.strerror}") from err


def _decoded(text: Any, name: str) -> bytes:
    if not isinstance(text, str | bytes) or len(text) > 2 * MAX_IMAGE_BYTES:
        raise RequestError(
            f"{name}: expected an image in base64, of {MAX_IMAGE_BYTES} bytes at most"
        )
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as err:
        raise RequestError(f"{name}: not base64: {err}") from err


def _elements(parts: list[bytes]) -> Array:
    array = np.empty(len(parts), object)
    array[:] = parts
    return array
