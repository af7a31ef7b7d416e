"""OpenVINO as an engine: from memory only, nothing written, nobody called.

Importing OpenVINO loads `openvino_telemetry`, which makes `~/intel` and sends events; with that
module blocked, OpenVINO uses the stub that it carries. `CACHE_DIR` would write compiled weights
in the clear and is never set. A test watches both under strace.

Given bytes, OpenVINO tries one reader after the other (ONNX, IR, Paddle, ...). What comes here has
been looked at, so that the first one that is meant takes it.
"""

import sys
from typing import Any

import numpy as np
from typing_extensions import override

from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.inference import ir_file
from wardian.inference.base import Compiled
from wardian.inference.dtypes import BF16
from wardian.inference.onnx_file import verify_onnx
from wardian.inference.spec import FREE, Array, Tensors, TensorSpec

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None blocks the import
import openvino as ov  # noqa: E402

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
    "bf16": "BF16",
}
"""OpenVINO's element types that the protocol names."""


class OpenVinoModel(Compiled):
    """A model compiled for this CPU, with one inference request that is always reused."""

    def __init__(
        self, data: bytes | bytearray, *, media_type: str, threads: int, precision: str = "f32"
    ) -> None:
        """Compile `data`; see `load_model` for what is raised."""
        super().__init__(f"openvino {ov.__version__.split('-')[0]}")
        core = ov.Core()
        graph, declared = _read(core, data, media_type)
        try:
            compiled = core.compile_model(graph, "CPU", _settings(threads, precision))
            request: Any = compiled.create_infer_request()
        except (RuntimeError, ValueError, MemoryError) as err:
            raise ConfigError("model: OpenVINO cannot run this model on a CPU") from err
        self._request: Any = request
        # A model that remembers would carry one request's data into the next.
        self._remembers = bool(request.query_state())
        self.describe(
            inputs=_specs(compiled.inputs, declared, "input"),
            outputs=_specs(compiled.outputs, declared, "output"),
            remembers=self._remembers,
            threads=threads,
        )

    @override
    def describe(self, *, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...],
                 remembers: bool, threads: int) -> None:  # fmt: skip
        self._halves = tuple(spec.name for spec in inputs if spec.dtype == "BF16")
        super().describe(inputs=inputs, outputs=outputs, remembers=remembers, threads=threads)

    @override
    def infer(self, inputs: Tensors) -> Tensors:
        request = self._request
        if self._remembers:
            request.reset_state()
        try:
            given = inputs | {name: _bf16_tensor(inputs[name]) for name in self._halves}
            # Not `infer`: with one thread it forgets an error within the graph (2026.4), and then
            # shows the answer to the request before, which is somebody else's.
            request.start_async(given, share_inputs=True)
            request.wait()
            # The engine's own are overwritten by the next inference; the copy is the caller's.
            return {
                spec.name: _copied(request.get_output_tensor(at).data, spec.dtype)
                for at, spec in enumerate(self._outputs)
            }
        except (RuntimeError, TypeError, ValueError, KeyError, MemoryError) as err:
            raise JobFailed("the model failed on this input") from err

    @override
    def close(self) -> None:
        self._request = None


def _bf16_tensor(array: Array) -> Any:
    """Return `array` as the engine's tensor: from numpy alone it cannot know the type."""
    bits = np.require(array, requirements=["C", "W"]).view("<u2")
    return ov.Tensor(bits, ov.Shape(list(array.shape)), ov.Type.bf16)


def _copied(data: Array, dtype: str) -> Array:
    """Return a copy of `data` that the engine does not overwrite; it shows BF16 as FP16."""
    copy: Array = np.array(data, order="C")
    return copy.view(BF16) if dtype == "BF16" else copy


def _read(core: Any, data: bytes | bytearray, media_type: str) -> tuple[Any, frozenset[str]]:
    """Return the graph in `data`, and the names that its file has for inputs and outputs."""
    declared: frozenset[str] = frozenset()
    if media_type == ir_file.MEDIA_TYPE:
        xml, weights = ir_file.parse_ir(data)
        arguments = {"model": xml, "weights": bytes(weights)}
    else:
        declared = verify_onnx(data)
        arguments = {"model": bytes(data)}
    try:
        return core.read_model(**arguments), declared
    except (RuntimeError, TypeError, ValueError, MemoryError) as err:
        raise FormatError(f"model: OpenVINO cannot read these bytes as {media_type}") from err


def _settings(threads: int, precision: str) -> dict[str, object]:
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # By itself it takes bf16 where the CPU has it, which changes predictions.
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,  # two workers would be pinned to the same core
    }


def _specs(ports: Any, declared: frozenset[str], side: str) -> tuple[TensorSpec, ...]:
    return tuple(_spec(port, declared, f"{side}{at}") for at, port in enumerate(ports))


def _spec(port: Any, declared: frozenset[str], otherwise: str) -> TensorSpec:
    """Return what `port` takes or gives; one that a graph has no name for is called `otherwise`."""
    kind = port.element_type.get_type_name()
    names = port.get_names()  # several where the engine joined tensors
    name = min(names & declared or names, default=otherwise)
    if kind not in _DTYPE_OF:
        raise ConfigError(f"model: tensor {name[:64]!r} has type {kind}, which cannot be served")
    if port.partial_shape.rank.is_dynamic:
        raise ConfigError(f"model: tensor {name[:64]!r} has no known number of axes")
    shape = tuple(FREE if axis.is_dynamic else axis.get_length() for axis in port.partial_shape)
    return TensorSpec(name=name, dtype=_DTYPE_OF[kind], shape=shape)
