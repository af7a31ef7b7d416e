"""The Open Inference Protocol's names of element types, and numpy's.

numpy has no bfloat16. An array of BF16 holds the upper half of each FP32's bits, in a type of its
own, so that nobody takes it for whole numbers.

Source: Open Inference Protocol v2, "Tensor Data Types".
"""

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from wardian.errors import FormatError

Array: TypeAlias = npt.NDArray[Any]

BF16: Final = np.dtype([("bf16", "<u2")])
"""Another type than UINT16, and of the same bytes."""

NUMPY_OF: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": BF16,
}
"""numpy's type for each name of fixed size; all little-endian, which is how tensors travel."""

NAME_OF: dict[np.dtype[Any], str] = {dtype: name for name, dtype in NUMPY_OF.items()}
"""The name of each of those numpy types."""

BYTES: Final = "BYTES"
"""Elements of any length: images, texts. It is in neither table above, as it has no fixed size."""

BYTES_DTYPE: Final[np.dtype[Any]] = np.dtype(object)
"""numpy's type for it; each element of such an array is `bytes`."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return numpy's type for the protocol's `name`.

    Raises:
        FormatError: no such type.
    """
    if name == BYTES:
        return BYTES_DTYPE
    try:
        return NUMPY_OF[name]
    except KeyError:
        raise FormatError(f"tensor type is none of {', '.join(NUMPY_OF)}, {BYTES}") from None


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the protocol's name for a little-endian numpy `dtype` of fixed size.

    Raises:
        FormatError: the protocol has no name for it (object, string, complex, big-endian, ...).
    """
    try:
        return NAME_OF[dtype]
    except KeyError:
        raise FormatError(f"array type {dtype.str} has no name in the protocol") from None


def to_bf16(values: Array) -> Array:
    """Return FP32 `values` as BF16, rounded to nearest, ties to even; NaN stays NaN.

    Raises:
        FormatError: a finite number is out of range.
    """
    bits = np.ascontiguousarray(values, "<f4").view("<u4").reshape(values.shape)
    rounded = (bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")
    special = (bits & 0x7F800000) == 0x7F800000  # infinite, or NaN: keep it quiet
    if special.any():
        quiet = np.where(bits & 0x7FFFFF, 0x40, 0) | (bits >> 16)
        rounded = np.where(special, quiet, rounded).astype("<u2")
    if ((rounded & 0x7F80) == 0x7F80).sum() != special.sum():
        raise FormatError("a number is out of range for bfloat16")
    return np.ascontiguousarray(rounded).reshape(values.shape).view(BF16)


def from_bf16(array: Array) -> Array:
    """Return an array of BF16 as FP32, exactly."""
    bits = np.ascontiguousarray(array).view("<u2").astype("<u4") << 16
    values: Array = bits.view("<f4").reshape(array.shape)
    return values


def bytes_array(elements: Iterable[bytes], shape: tuple[int, ...]) -> Array:
    """Return an array of BYTES; `elements` in C order, as many as `shape` has."""
    return np.array([*elements], BYTES_DTYPE).reshape(shape)


def size_bytes(array: Array) -> int:
    """Return how many bytes `array` travels as; an element of BYTES has 4 for its length."""
    if array.dtype != BYTES_DTYPE:
        return array.nbytes
    return sum(4 + len(element) for element in array.flat)
