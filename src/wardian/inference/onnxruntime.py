"""ONNX Runtime as an engine: from memory only, nothing written, nobody called, nothing said.

From 1.32 its telemetry starts with the import, so that the variable that turns it off is set before
it. Its log names tensors and shows values in places; it is silenced. No library of other operators
is ever registered, the configuration that a model may carry is not read, and no execution provider
but the one for CPUs is there. A test watches files and sockets under strace.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from typing_extensions import override

from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.inference.base import Compiled
from wardian.inference.dtypes import BF16, BYTES, BYTES_DTYPE, bytes_array, size_bytes
from wardian.inference.onnx_file import verify_onnx
from wardian.inference.spec import FREE, Array, Tensors, TensorSpec


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Keep from standard error what is written to it meanwhile: a few lines, a pipe holds them.

    With its import the engine looks for GPUs, and says in colour that an enclave has no such
    directory. Nothing but the import turns its log down.
    """
    reading, writing = os.pipe()
    stderr = os.dup(2)
    os.dup2(writing, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        for each in (stderr, reading, writing):
            os.close(each)


os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)
with _muted():
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as native

_SILENT = 4  # fatal errors alone
_ARENA_BYTES = 2**31
_ONNX_BFLOAT16 = 16  # TensorProto.BFLOAT16
_LARGE_BYTES = 16 * 1024**2
"""A run with more input than this gives the arena's memory back when it is done."""

_DTYPE_OF = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": BYTES,
}
"""ONNX Runtime's types that the protocol names; sequences and maps are not among them."""

_OWN: tuple[type[Exception], ...] = tuple(
    each for each in vars(native).values() if isinstance(each, type) and issubclass(each, Exception)
)
_FAILED: tuple[type[Exception], ...] = (
    *_OWN,
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    MemoryError,
)
"""All that it raises: its own exceptions have no base but `Exception`."""


class OnnxRuntimeModel(Compiled):
    """An ONNX model in a session for this CPU."""

    def __init__(self, data: bytes | bytearray, *, threads: int) -> None:
        """Compile `data`; see `load_model` for what is raised."""
        super().__init__(f"onnxruntime {ort.__version__}")
        verify_onnx(data)
        self._session: Any = _session(bytes(data), threads)
        self._small, self._large = _run_options(), _run_options()
        self._large.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        inputs = tuple(_spec(each) for each in self._session.get_inputs())
        outputs = tuple(_spec(each) for each in self._session.get_outputs())
        self._texts_in = tuple(spec.name for spec in inputs if spec.dtype == BYTES)
        self._texts_out = tuple(spec.name for spec in outputs if spec.dtype == BYTES)
        self._names = [spec.name for spec in outputs]
        self._halves = any(spec.dtype == "BF16" for spec in inputs + outputs)
        self.describe(inputs=inputs, outputs=outputs, remembers=False, threads=threads)

    @override
    def infer(self, inputs: Tensors) -> Tensors:
        try:
            size = sum(map(size_bytes, inputs.values()))
            options = self._large if size > _LARGE_BYTES else self._small
            for name in self._texts_in:
                inputs = inputs | {name: _texts(inputs[name])}
            run = self._run_values if self._halves else self._session.run
            made = run(self._names, inputs, options)
            outputs: Tensors = dict(zip(self._names, made, strict=True))
        except _FAILED as err:
            raise JobFailed("the model failed on this input") from err
        for name in self._texts_out:
            outputs[name] = _bytes(outputs[name])
        return outputs

    @override
    def close(self) -> None:
        self._session = None

    def _run_values(self, names: list[str], inputs: Tensors, options: Any) -> list[Any]:
        """Do what the session's `run` does, by values that may be BF16: numpy has no such type."""
        given = {name: _value(array) for name, array in inputs.items()}
        return [_array(made) for made in self._session.run_with_ort_values(names, given, options)]


def _value(array: Array) -> Any:
    """Return `array` as the engine's value, which may keep it and its memory alive."""
    if array.dtype == BYTES_DTYPE:
        raise ValueError("texts and BF16 in one model")
    array = np.ascontiguousarray(array)
    if array.dtype != BF16:
        return ort.OrtValue.ortvalue_from_numpy(array)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view("<u2"), _ONNX_BFLOAT16)


def _array(value: Any) -> Array:
    """Return a copy of what the engine made."""
    if value.element_type() != _ONNX_BFLOAT16:
        made: Array = value.numpy()
        return made
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(raw, BF16).reshape(value.shape())


def _session(data: bytes, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _SILENT
    options.enable_profiling = False
    for key, value in (
        ("session.intra_op.allow_spinning", "0"),  # a waiting thread would take a worker's core
        ("session.use_env_allocators", "1"),
        ("session.use_device_allocator_for_initializers", "1"),  # weights are outside the arena
        ("session.set_denormal_as_zero", "0"),
        ("session.load_model_format", "ONNX"),
    ):
        options.add_session_config_entry(key, value)
    try:
        # It would print why it failed, with bytes of the model, before it tried the same once more.
        return ort.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except (native.InvalidProtobuf, native.InvalidGraph, native.InvalidArgument) as err:
        raise FormatError("model: ONNX Runtime cannot read these bytes as ONNX") from err
    except _FAILED as err:
        raise ConfigError("model: ONNX Runtime cannot run this ONNX model on a CPU") from err


def _bound_arena() -> None:
    """Let the sessions of this process share one arena, which grows no further than its bound."""
    arena = ort.OrtArenaCfg(
        {"max_mem": _ARENA_BYTES, "arena_extend_strategy": 1}  # 1: by what is asked for, no more
    )
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0,
                              ort.OrtMemType.DEFAULT)  # fmt: skip
    ort.create_and_register_allocator(place, arena)


def _run_options() -> Any:
    options = ort.RunOptions()
    options.log_severity_level = _SILENT
    return options


def _texts(array: Array) -> Array:
    """Return an array of bytes as one of texts, which is what the engine takes.

    Raises:
        ValueError, TypeError: an element is not UTF-8, or not bytes at all.
    """
    texts = [str(element, "utf-8") for element in array.flat]
    return np.array(texts, object).reshape(array.shape)


def _bytes(array: Array) -> Array:
    return bytes_array((str(element).encode() for element in array.flat), array.shape)


def _spec(node: Any) -> TensorSpec:
    if node.type not in _DTYPE_OF:
        raise ConfigError(
            f"model: tensor {node.name[:64]!r} has type {node.type}, which cannot be served; "
            "classifiers of scikit-learn are exported with zipmap=False"
        )
    shape = tuple(axis if isinstance(axis, int) else FREE for axis in node.shape)
    return TensorSpec(name=node.name, dtype=_DTYPE_OF[node.type], shape=shape)


ort.set_default_logger_severity(_SILENT)
_bound_arena()
