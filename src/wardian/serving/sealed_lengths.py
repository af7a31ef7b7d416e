"""How long an answer would have been, for requests that get none: lengths shall not tell errors.

It is worked out from the request and the model alone. What other clients ask plays no part, so that
nobody learns of theirs by sending what fails.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from wardian.inference.dtypes import BYTES, numpy_dtype, size_bytes
from wardian.inference.spec import FREE, Tensors, TensorSpec
from wardian.serving.sealed_content import Ended, Told, encode_ended


class _Output(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]  # of one row, or of all where the model is not batchable


class AnswerLengths:
    """Lengths of the answers of one model, where its shapes say them."""

    def __init__(
        self,
        *,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        batchable: bool,
        most_bytes: int,
    ) -> None:
        """Read the shapes of a model; what is longer than `most_bytes` is never answered."""
        self._batchable = batchable
        self._most_bytes = most_bytes
        self._row_bytes = sum(_row_bytes(spec) for spec in inputs)
        self._outputs: dict[str, _Output] | None = {}
        for spec in outputs:
            shape = spec.shape[1:] if batchable else spec.shape
            if spec.dtype == BYTES or FREE in shape:
                self._outputs = None  # only who runs it knows
                break
            self._outputs[spec.name] = _Output(numpy_dtype(spec.dtype), shape)

    def rows_of(self, inputs: Tensors) -> int:
        """Return how many rows `inputs`, which may be anything, would be by their bytes."""
        sizes = (size_bytes(array) for array in inputs.values())
        return max(1, sum(sizes) // max(1, self._row_bytes))

    def length(self, rows: int, wanted: tuple[str, ...] | None) -> int:
        """Return the length of the plaintext of an answer to so many rows; 0: nobody knows.

        Args:
            rows: 1 or more.
            wanted: names of outputs, any; None for all.
        """
        if self._outputs is None:
            return 0
        names = [name for name in wanted or self._outputs if name in self._outputs]
        found = {name: self._outputs[name] for name in names}
        shapes = {
            name: (rows, *output.shape) if self._batchable else output.shape
            for name, output in found.items()
        }
        sizes = (math.prod(shapes[name]) * output.dtype.itemsize for name, output in found.items())
        if sum(sizes) > self._most_bytes:
            return 0
        arrays = {
            name: np.zeros(shapes[name], output.dtype) for name, output in found.items()
        }  # memory that is not touched before it is encoded
        return len(encode_ended(Ended(told=Told.ANSWERED, version=0, outputs=arrays)))


def _row_bytes(spec: TensorSpec) -> int:
    """Return the bytes of one row of an input, at least: a free length is 1, an element 4."""
    item = 4 if spec.dtype == BYTES else numpy_dtype(spec.dtype).itemsize
    return item * math.prod(1 if length == FREE else length for length in spec.shape[1:])
