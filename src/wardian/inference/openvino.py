"""OpenVINO as an engine: from memory only, nothing written, nobody called.

Importing OpenVINO loads `openvino_telemetry`, which makes `~/intel` and sends events; with that
module blocked, OpenVINO uses the stub that it carries. `CACHE_DIR` would write compiled weights
in the clear and is never set. A test watches both under strace.
"""

import logging
import sys
from typing import Any

import numpy as np
from typing_extensions import override

from wardian._internal.log import event
from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.inference.probe import rows_independent
from wardian.inference.spec import FREE, Model, Tensors, TensorSpec

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None blocks the import
import openvino as ov  # noqa: E402

log = logging.getLogger(__name__)

_DTYPE_OF = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
}
"""OpenVINO's element types that the protocol names and numpy can hold."""


class OpenVinoModel(Model):
    """An ONNX model compiled for this CPU, with one inference request that is always reused."""

    def __init__(self, data: bytes | bytearray, *, threads: int) -> None:
        """Compile `data`; see `load_model` for what is raised."""
        core = ov.Core()
        try:
            graph = core.read_model(model=bytes(data))
        except (RuntimeError, TypeError) as err:
            raise FormatError("model: OpenVINO cannot read these bytes as ONNX") from err
        try:
            compiled = core.compile_model(graph, "CPU", _settings(threads))
        except RuntimeError as err:
            raise ConfigError("model: OpenVINO cannot run this ONNX model on a CPU") from err
        self._inputs = tuple(_spec(port) for port in compiled.inputs)
        self._outputs = tuple(_spec(port) for port in compiled.outputs)
        self._request: Any = compiled.create_infer_request()
        # A model that remembers would carry one request's data into the next.
        self._remembers = bool(self._request.query_state())
        self._batchable = not self._remembers and rows_independent(
            self.infer, inputs=self._inputs, outputs=self._outputs
        )
        event(log, "model.compiled", engine=self.engine, batchable=self._batchable, threads=threads)

    @property
    @override
    def engine(self) -> str:
        return f"openvino {ov.__version__.split('-')[0]}"

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

    @override
    def infer(self, inputs: Tensors) -> Tensors:
        request = self._request
        if self._remembers:
            request.reset_state()
        try:
            # Shared both ways: the engine reads our arrays in place and shows us its own.
            shown = request.infer(inputs, share_inputs=True, share_outputs=True)
        except (RuntimeError, TypeError, ValueError, KeyError, MemoryError) as err:
            raise JobFailed("the model failed on this input") from err
        # Its own are overwritten by the next inference; the copy is the caller's.
        return {
            spec.name: np.array(array, order="C")
            for spec, array in zip(self._outputs, shown.to_tuple(), strict=True)
        }

    @override
    def close(self) -> None:
        self._request = None


def _settings(threads: int) -> dict[str, object]:
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # bf16 where the CPU has it would change predictions
        "ENABLE_CPU_PINNING": False,  # two workers would be pinned to the same core
    }


def _spec(port: Any) -> TensorSpec:
    kind = port.element_type.get_type_name()
    name = port.get_any_name()
    if kind not in _DTYPE_OF:
        raise ConfigError(f"model: tensor {name!r} has type {kind}, which cannot be served")
    shape = tuple(FREE if axis.is_dynamic else axis.get_length() for axis in port.partial_shape)
    return TensorSpec(name=name, dtype=_DTYPE_OF[kind], shape=shape)
