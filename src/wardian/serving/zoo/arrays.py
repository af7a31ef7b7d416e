"""A column as the array that a model's input takes, of the model's type and of the column's shape.

All numbers of Cluster Serving are float32. They become the model's type where that changes none of
them; a sparse tensor is made dense.
"""

from typing import Final

import numpy as np

from wardian.errors import FormatError
from wardian.inference.dtypes import (
    BF16,
    BYTES,
    BYTES_DTYPE,
    Array,
    bytes_array,
    numpy_dtype,
    to_bf16,
)
from wardian.inference.spec import TensorSpec
from wardian.serving.zoo.columns import Column, Dense, Image, Sparse, Strings

_EXACT: Final = 2.0**24
"""Up to this size float32 has all whole numbers: beyond it nobody knows which one was meant."""


def column_array(column: Column, spec: TensorSpec, *, is_image: bool) -> Array:
    """Return `column` in the type of `spec`; whoever asks has bounded what sparse ones become.

    Args:
        column: of one instance.
        spec: the input that takes it.
        is_image: whether that takes the bytes of a picture; else texts, where it takes bytes.

    Raises:
        FormatError: numbers where there should be none, or the other way round; or a number that
            the type does not have. Fractions may be rounded to 16 bits.
    """
    if isinstance(column, Dense | Sparse):
        if spec.dtype == BYTES:
            what = "an image" if is_image else "a list of texts"
            raise FormatError(f"input {spec.name!r}: {what} was expected, not numbers")
        return _typed(column.array if isinstance(column, Dense) else dense_array(column), spec)
    if spec.dtype != BYTES:
        raise FormatError(
            f"input {spec.name!r} takes {spec.dtype}: an image or a text was not expected; the "
            "model's own steps have to decode it (`pre` in wardian.toml)"
        )
    if isinstance(column, Image) is not is_image:
        raise FormatError(
            f"input {spec.name!r}: one image in base64 was expected, not a list"
            if is_image
            else f"input {spec.name!r} takes texts: send a list of them; a text by itself is an "
            "image in base64"
        )
    return _bytes(column)


def _bytes(column: Image | Strings) -> Array:
    """Return an image as a scalar, texts as a vector."""
    if isinstance(column, Image):
        image = np.empty((), BYTES_DTYPE)
        image[()] = column.raw
        return image
    return bytes_array([text.encode() for text in column.values], (len(column.values),))


def dense_array(column: Sparse) -> Array:
    """Return `column` with its zeros, in its shape; whoever asks has bounded what that takes."""
    array: Array = np.zeros(column.shape, np.float32)
    if column.shape:
        array[tuple(column.indices.T)] = column.values
    elif column.values.size:
        array.fill(column.values[-1])
    return array


def _typed(array: Array, spec: TensorSpec) -> Array:
    """Return `array`, of float32, in the type of `spec`."""
    dtype = numpy_dtype(spec.dtype)
    if dtype == array.dtype:
        return array
    if dtype is BF16:
        try:
            return to_bf16(array)
        except FormatError as err:
            raise FormatError(f"input {spec.name!r}: {err}") from err
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
        if np.array_equal(np.isfinite(converted), np.isfinite(array)):
            return converted
        raise FormatError(f"input {spec.name!r}: a number is out of range for {spec.dtype}")
    most = 1 if dtype.kind == "b" else np.iinfo(dtype).max
    least = 0 if dtype.kind == "b" else np.iinfo(dtype).min
    if array.size and not (
        (array == np.trunc(array)).all()
        and np.abs(array).max() <= _EXACT
        and least <= array.min()
        and array.max() <= most
    ):
        raise FormatError(
            f"input {spec.name!r} takes {spec.dtype}: whole numbers of that type were expected, of "
            "at most 16777216 either way: in this dialect all numbers are float32"
        )
    return array.astype(dtype)
