"""What a strategy keeps beside the model's arrays of real numbers: as many numbers, in float64."""

from collections.abc import Collection

import numpy as np

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import RecordDict
from wardian.learning.reduce import Floats


def beside(
    arrays: ArrayRecord, kept: ArrayRecord | None, *, first: float = 0.0
) -> dict[str, Floats]:
    """Return a copy of `kept`, to be written to; if there is none yet, full of `first`.

    Raises:
        FormatError: `kept` is not beside the model `arrays`.
    """
    reals = {name: array.shape for name, array in arrays.items() if array.dtype.kind == "f"}
    if kept is None:
        return {name: np.full(shape, first) for name, shape in reals.items()}
    if {name: array.shape for name, array in kept.items()} != reals:
        raise FormatError("strategy state: of another model")
    return {name: array.copy() for name, array in kept.items()}


def demand_like(state: RecordDict, names: Collection[str]) -> None:
    """Return if `state` has the records `names` and no others.

    Raises:
        FormatError: it has not.
    """
    if set(state) != set(names):
        raise FormatError("strategy state: of another strategy")


def demand_kept(state: RecordDict, name: str) -> ArrayRecord:
    """Return the record `name` of `state`.

    Raises:
        FormatError: it holds anything but finite numbers in float64.
    """
    record = state[name]
    if not isinstance(record, ArrayRecord) or not all(
        array.dtype == np.float64 and np.isfinite(array).all() for array in record.values()
    ):
        raise FormatError(f"strategy state: {name} is of another kind")
    return record
