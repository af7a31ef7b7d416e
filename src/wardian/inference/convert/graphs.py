"""TensorFlow, TFLite, PyTorch and OpenVINO files to OpenVINO IR in one file.

OpenVINO reads TensorFlow's and TFLite's files from a path alone, not from memory (2026.4), and
PyTorch's through PyTorch. An enclave has neither a clear file nor PyTorch, so it happens before
sealing. Weights keep their precision.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wardian.errors import ConfigError
from wardian.inference.ir_file import build_ir
from wardian.inference.spec import TensorSpec

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None blocks the import
import openvino as ov  # noqa: E402

_TYPE_OF: dict[str, Any] = {
    "BOOL": ov.Type.boolean, "UINT8": ov.Type.u8, "INT8": ov.Type.i8, "INT32": ov.Type.i32,
    "INT64": ov.Type.i64, "FP16": ov.Type.f16, "FP32": ov.Type.f32, "FP64": ov.Type.f64,
    "UINT16": ov.Type.u16, "UINT32": ov.Type.u32, "UINT64": ov.Type.u64, "INT16": ov.Type.i16,
    "BF16": ov.Type.bf16,
}  # fmt: skip


def from_file(path: Path, inputs: Sequence[TensorSpec]) -> bytes:
    """Return a SavedModel's directory, a frozen graph, a TFLite file or IR at `path` as IR.

    Raises:
        ConfigError: OpenVINO does not read it.
    """
    try:
        model = ov.Core().read_model(str(path))
        if inputs:
            _reshape(model, inputs)
    except RuntimeError as err:
        raise ConfigError(f"{path}: OpenVINO does not read it: {_last_line(err)}") from err
    return _as_ir(model)


def from_torch(path: Path, inputs: Sequence[TensorSpec]) -> bytes:
    """Return TorchScript (`torch.jit.save`), or a program of `torch.export.save`, as IR.

    TorchScript does not say what its `inputs` are, so they are needed; an exported program says
    which of its axes are free. Files of `torch.save` are pickles of somebody's classes, and are
    not read.

    Raises:
        ConfigError: it is neither, or has operators that OpenVINO does not know.
    """
    exported = path.suffix == ".pt2"
    if not exported and not inputs:
        raise ConfigError(f"{path}: TorchScript needs the shapes of its inputs (--shape)")
    try:
        model = _traced(path, inputs) if exported else _scripted(path, inputs)
    except (ConfigError, ImportError):
        raise
    except Exception as err:  # frameworks raise anything
        raise ConfigError(
            f"{path}: cannot be converted: {_last_line(err)}; save it as .pt2 by "
            "torch.export.save, or by torch.jit.save"
        ) from err
    return _as_ir(model)


def _traced(path: Path, inputs: Sequence[TensorSpec]) -> Any:
    import torch  # noqa: PLC0415

    model = ov.convert_model(torch.export.load(str(path)))
    if inputs:
        _reshape(model, inputs)
    return model


def _scripted(path: Path, inputs: Sequence[TensorSpec]) -> Any:
    import torch  # noqa: PLC0415

    script: Any = torch.jit.load(str(path), map_location="cpu")
    script.eval()
    given = [(_shape(spec), _TYPE_OF[spec.dtype]) for spec in inputs]
    return ov.convert_model(script, input=given)


def _reshape(model: Any, inputs: Sequence[TensorSpec]) -> None:
    if len(inputs) != len(model.inputs):
        raise ConfigError(f"{len(inputs)} shapes for {len(model.inputs)} inputs")
    model.reshape({port: _shape(spec) for port, spec in zip(model.inputs, inputs, strict=True)})


def _shape(spec: TensorSpec) -> Any:
    return ov.PartialShape(list(spec.shape))


def _as_ir(model: Any) -> bytes:
    for side, ports in (("input", model.inputs), ("output", model.outputs)):
        for number, port in enumerate(ports):
            if not port.get_names():
                port.get_tensor().set_names({f"{side}{number}"})
    # The engine writes to paths alone; the directory is the owner's, mode 0700, and goes at once.
    with tempfile.TemporaryDirectory(prefix="wardian-convert-") as directory:
        xml = Path(directory) / "model.xml"
        ov.save_model(model, str(xml), compress_to_fp16=False)
        return build_ir(xml.read_bytes(), xml.with_suffix(".bin").read_bytes())


def _last_line(err: Exception) -> str:
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return (lines or [type(err).__name__])[-1][:200]
