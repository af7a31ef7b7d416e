"""What every engine makes of the bytes of a model: arrays in, arrays out.

A `Model` lives in memory only: it is made from bytes and never knows a path. It knows no keys.
"""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from wardian.inference.dtypes import Array

__all__ = ["FREE", "Array", "Model", "TensorSpec", "Tensors"]

Tensors: TypeAlias = dict[str, Array]
"""Arrays by the name of their tensor."""

FREE = -1
"""The length of an axis that the model leaves open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: as the model file says.
        dtype: the Open Inference Protocol's name: "FP32", "INT64", ... (see `dtypes`).
        shape: axis lengths; `FREE` (-1) for an axis that any length fits.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


class Model(Protocol):
    """A loaded model. One caller at a time."""

    @property
    def engine(self) -> str:
        """The engine's name and version, for status pages."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `infer` takes: all of them, every time."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `infer` returns."""

    @property
    def batchable(self) -> bool:
        """True if requests may be stacked along axis 0 and their answer cut along axis 0."""

    def infer(self, inputs: Tensors) -> Tensors:
        """Return the outputs for `inputs`; the arrays are the caller's own.

        Raises:
            JobFailed: the engine refused these inputs or failed on them.
        """

    def close(self) -> None:
        """Give the memory back; `infer` may not be called again."""
