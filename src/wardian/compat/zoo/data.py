"""What users of Cluster Serving enqueue, told apart: an array, a sparse tensor, texts, an image.

Both ways take the same: as inputs of a model over HTTPS (`inputs`), and as columns of a record in a
Redis (`build_record`), where all numbers are float32.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from wardian.errors import FormatError, RequestError
from wardian.inference.spec import Array
from wardian.serving.zoo.arrow_build import build_columns
from wardian.serving.zoo.columns import (
    Column,
    Columns,
    Dense,
    Image,
    Sparse,
    Strings,
    bound_columns,
    column_name,
)
from wardian.serving.zoo.instances import parse_instances
from wardian.serving.zoo.tensors import build_sparse

DEFAULT_NAME: Final = "serving_stream"
NAN: Final = "NaN"
"""What a reader gets for a record that has no answer."""
ABSENT: Final = "[]"
"""What a reader gets where there is nothing."""
MAX_IMAGE_BYTES: Final = 64 * 1024**2
"""Of one image, as it is encoded."""
ONLY: Final = "t"
"""The name of a column that was given none."""

_EXACT: Final = 2**24


class Triple(NamedTuple):
    """A sparse tensor as it was given: nothing of it was compared with anything."""

    indices: Array
    values: Array
    shape: Array


Value: TypeAlias = Array | Triple | Strings | Image


def read_value(value: Any, name: str) -> Value:
    """Return what `value`, the input `name`, is.

    Args:
        value: an array; three arrays (indices, values, shape) of a sparse one; a list of texts; the
            path of an image, or {"path": ...}; an image as {"b64": ...}.
        name: for messages.

    Raises:
        TypeError: it is none of these.
        RequestError: an image cannot be had.
    """
    if isinstance(value, np.ndarray | Triple | Strings | Image):
        return value
    if isinstance(value, str):
        return Image(_image(Path(value), name))
    if isinstance(value, Mapping) and value.keys() == {"path"}:
        return Image(_image(Path(value["path"]), name))
    if isinstance(value, Mapping) and value.keys() == {"b64"}:
        return Image(_decoded(value["b64"], name))
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return Strings(tuple(value))
    if isinstance(value, list) and len(value) == 3:
        return Triple(*(np.asarray(each) for each in value))
    raise TypeError(
        f"{name}: expected an array, three arrays of a sparse tensor, texts, or an image "
        f'(its path, or {{"b64": ...}}), got {type(value).__name__}'
    )


def read_request(request: Any) -> Mapping[str, Any]:
    """Return the inputs in what `predict` is given, by name.

    Args:
        request: a mapping; one value alone, which then has the name `ONLY`; or the text of a body
            {"instances": [{...}]}, of which the first instance counts.

    Raises:
        RequestError: such a text that does not parse.
    """
    if isinstance(request, Mapping):
        return request
    if isinstance(request, str | bytes) and request.lstrip()[:1] in ("{", b"{"):
        raw = request.encode() if isinstance(request, str) else request
        try:
            first = parse_instances(raw)[0]
        except FormatError as err:
            raise RequestError(f"no instance: {err}") from err
        return {name: _given(column) for name, column in first.items()}
    return {ONLY: request}


def build_record(data: Mapping[str, Any]) -> bytes:
    """Return the `data` of a record whose columns are `data`; see `build_columns`.

    Raises:
        TypeError: as of `read_value`.
        RequestError: no columns, or more than a record has; a name that none can have; a tensor
            that is none, or whose values are no numbers of float32; an image that cannot be had; a
            text that is no Unicode; more than fits into a record.
    """
    columns: Columns = {}
    try:
        bound_columns(len(data))
        for name, value in data.items():
            columns[column_name(str(name), columns)] = _column(read_value(value, name), name)
        return build_columns(columns)
    except UnicodeEncodeError:
        raise RequestError("a text or a name is no Unicode: it has a lone surrogate") from None
    except FormatError as err:
        raise RequestError(str(err)) from err


def read_sparse(given: Triple, name: str) -> Sparse:
    """Return `given` as a tensor whose parts agree.

    Raises:
        RequestError: they do not; or values are no numbers of float32.
    """
    try:
        axes = [int(axis) for axis in given.shape.reshape(-1)]
        with np.errstate(invalid="ignore"):
            places = given.indices.astype(np.int64)
        if not np.array_equal(places, given.indices):
            raise RequestError(f"{name}: an index is no whole number")
        return build_sparse(
            floats(given.values.reshape(-1), name),
            axes,
            indices=places,
            indices_shape=places.shape,
        )
    except (FormatError, TypeError, ValueError, OverflowError) as err:
        raise RequestError(f"{name}: {err}") from err


def floats(array: Array, name: str) -> Array:
    """Return `array` as float32. Fractions are rounded.

    Raises:
        RequestError: it is not of numbers; or one is a whole number beyond 2^24, where float32 does
            not have them all; or a fraction beyond its range.
    """
    kind = array.dtype.kind
    if kind not in "biuf":
        raise RequestError(f"{name}: expected numbers, got {array.dtype}")
    with np.errstate(over="ignore"):
        made = array.astype(np.float32)
    if kind == "f":
        kept = np.array_equal(np.isfinite(made), np.isfinite(array))
    else:
        kept = not array.size or bool(array.min() >= -_EXACT and array.max() <= _EXACT)
    if not kept:
        raise RequestError(
            f"{name}: in a record all numbers are float32: whole ones are at most 16777216 either "
            "way, fractions at most 3.4e38"
        )
    return made


def _column(value: Value, name: str) -> Column:
    if isinstance(value, Triple):
        return read_sparse(value, name)
    if isinstance(value, Strings | Image):
        return value
    return Dense(floats(value, name))


def _given(column: Column) -> Value:
    if isinstance(column, Dense):
        return column.array
    if isinstance(column, Sparse):
        return Triple(column.indices, column.values, np.array(column.shape, np.int64))
    return column


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
