"""The Open Inference Protocol's names of element types, and numpy's.

Source: Open Inference Protocol v2, "Tensor Data Types". BYTES and BF16 are left out: numpy has no
fixed-size little-endian form of either, so no model that needs them is loaded.
"""

from typing import Any

import numpy as np

from wardian.errors import FormatError

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
}
"""numpy's type for each name; all little-endian, which is how tensors travel."""

NAME_OF: dict[np.dtype[Any], str] = {dtype: name for name, dtype in NUMPY_OF.items()}
"""The name of each of those numpy types."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return numpy's type for the protocol's `name`.

    Raises:
        FormatError: no such type, or one that has no fixed size.
    """
    try:
        return NUMPY_OF[name]
    except KeyError:
        raise FormatError(f"tensor type is none of {', '.join(NUMPY_OF)}") from None


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the protocol's name for a little-endian numpy `dtype`.

    Raises:
        FormatError: the protocol has no name for it (object, string, complex, big-endian, ...).
    """
    try:
        return NAME_OF[dtype]
    except KeyError:
        raise FormatError(f"array type {dtype.str} has no name in the protocol") from None
