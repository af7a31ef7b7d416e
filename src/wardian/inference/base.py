"""What the adapters of all engines share: a model that was compiled, described and probed."""

import logging

from typing_extensions import override

from wardian._internal.log import event
from wardian.errors import ConfigError
from wardian.inference.dtypes import numpy_dtype
from wardian.inference.probe import rows_independent
from wardian.inference.spec import FREE, Model, TensorSpec

log = logging.getLogger(__name__)

MAX_TENSOR_BYTES = 2**31
"""Largest input or output that a model may declare: no message of a queue holds so much."""


class Compiled(Model):
    """A model that an engine has compiled. A subclass brings `infer` and `close`."""

    def __init__(self, engine: str) -> None:
        """Begin as a model of `engine`, name and version; `describe` must follow."""
        self._engine = engine
        self._inputs: tuple[TensorSpec, ...] = ()
        self._outputs: tuple[TensorSpec, ...] = ()
        self._batchable = False

    def describe(
        self,
        *,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        remembers: bool,
        threads: int,
    ) -> None:
        """Take up the model's tensors, and find out whether its rows are independent.

        Args:
            inputs: of the model.
            outputs: of the model.
            remembers: it has state of its own, so that stacking is never right.
            threads: for the log.

        Raises:
            ConfigError: a tensor is larger than any message could be.
        """
        for spec in inputs + outputs:
            _bound(spec)
        self._inputs, self._outputs = inputs, outputs
        self._batchable = not remembers and rows_independent(
            self.infer, inputs=inputs, outputs=outputs
        )
        event(log, "model.compiled", engine=self.engine, batchable=self._batchable, threads=threads)

    def settle(
        self,
        note: str,
        *,
        batchable: bool,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        """Show `note` after the engine's name, and promise no more than the other engines would.

        Args:
            note: why this engine.
            batchable: whether all of them found the rows independent.
            inputs: as all of them describe them.
            outputs: likewise.
        """
        self._engine = f"{self._engine} ({note})"
        self._batchable = self._batchable and batchable
        self._inputs, self._outputs = inputs, outputs

    @property
    @override
    def engine(self) -> str:
        return self._engine

    @property
    @override
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    @override
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    @property
    @override
    def batchable(self) -> bool:
        return self._batchable


def _bound(spec: TensorSpec) -> None:
    size = numpy_dtype(spec.dtype).itemsize
    for axis in spec.shape:
        size *= 1 if axis == FREE else axis
    if size > MAX_TENSOR_BYTES:
        raise ConfigError(f"model: tensor {spec.name[:64]!r} is larger than 2 GiB")
