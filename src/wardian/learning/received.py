"""Taking one array, or one setting, out of what somebody sent: of the kind it has to be, or not."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord, all_finite
from wardian.learning.records import ConfigRecord, RecordDict

T = TypeVar("T", int, float, bytes, str)


def array_of(
    content: RecordDict, record: str, name: str, *, dtype: str, shape: Sequence[int | None]
) -> NDArray[Any]:
    """Return the array `name` of `record`.

    Args:
        content: untrusted.
        record: the name of an array record.
        name: of the array in it.
        dtype: what its elements have to be.
        shape: how long it has to be in each dimension; None: as long as it is.

    Raises:
        FormatError: it is missing, has another kind or shape, or holds what is no finite number.
    """
    found = content.get(record)
    if not isinstance(found, ArrayRecord) or name not in found:
        raise FormatError(f"{record}: the array {name} is missing")
    array = found[name]
    if array.dtype != np.dtype(dtype):
        raise FormatError(f"{record}: {name} holds {array.dtype.name}, not {dtype}")
    if array.ndim != len(shape) or any(
        wanted not in {None, size} for wanted, size in zip(shape, array.shape, strict=True)
    ):
        wanted = " x ".join("any" if size is None else str(size) for size in shape)
        raise FormatError(f"{record}: {name} is {array.shape}, not {wanted}")
    if array.dtype.kind == "f" and not all_finite(array):
        raise FormatError(f"{record}: {name} holds what is no finite number")
    return array


def setting_of(content: RecordDict, name: str, kind: type[T]) -> T:
    """Return the setting `name` of the record `name`.

    Raises:
        FormatError: it is missing, or of another kind.
    """
    found = content.get(name)
    value = found.get(name) if isinstance(found, ConfigRecord) else None
    if type(value) is not kind:
        raise FormatError(f"{name}: a setting of this name is missing")
    return value
