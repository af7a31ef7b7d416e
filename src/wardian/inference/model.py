"""From the bytes of a model to a `Model`, by the engine that its entry in `wardian.toml` names."""

from typing import Final

from wardian.errors import ConfigError
from wardian.inference import ir_file
from wardian.inference.base import Compiled
from wardian.inference.spec import FREE, Array, Model, Tensors, TensorSpec

__all__ = ["FREE", "Array", "Model", "TensorSpec", "Tensors", "load_model"]

ONNX: Final = "application/onnx"
IR: Final = ir_file.MEDIA_TYPE
USUAL: Final = ("openvino",)
ENGINES_OF: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    (ONNX, "f32"): (*USUAL, "onnxruntime"),
    (ONNX, "bf16"): USUAL,
    (IR, "f32"): USUAL,
    (IR, "bf16"): USUAL,
}
"""Which engines run a media type in a precision; the usual one first."""


def load_model(
    data: bytes | bytearray, *, media_type: str, engine: str, threads: int, precision: str = "f32"
) -> Model:
    """Return the model in `data`, compiled and probed, ready to infer.

    Args:
        data: the whole model file; may be wiped as soon as this returns.
        media_type: "application/onnx" or "application/vnd.wardian.openvino-ir".
        engine: "openvino" or "onnxruntime".
        threads: threads that one inference may use, at least 1.
        precision: "f32", or "bf16" where the processor has it: faster, and less exact.

    Raises:
        FormatError: `data` is not a model of that media type.
        ConfigError: engine, media type or precision is unknown, or not to be had together; or a
            tensor has a type that cannot be served.
    """
    return load_compiled(
        data, media_type=media_type, engine=engine, threads=threads, precision=precision
    )


def load_compiled(
    data: bytes | bytearray, *, media_type: str, engine: str, threads: int, precision: str
) -> Compiled:
    """Return what `load_model` does, as the adapters know it."""
    known = {name for names in ENGINES_OF.values() for name in names}
    if engine not in known:
        raise ConfigError(
            f"engine {engine!r} is unknown; this release has: {', '.join(sorted(known))}"
        )
    if engine not in ENGINES_OF.get((media_type, precision), ()):
        taken = sorted({" ".join(pair) for pair, names in ENGINES_OF.items() if engine in names})
        raise ConfigError(
            f"{engine} does not run {media_type!r} in {precision!r}; it takes: {', '.join(taken)}"
        )
    # Each is heavy, so each is loaded by the models that need it alone.
    if engine == "onnxruntime":
        from wardian.inference.onnxruntime import OnnxRuntimeModel  # noqa: PLC0415

        return OnnxRuntimeModel(data, threads=threads)
    from wardian.inference.openvino import OpenVinoModel  # noqa: PLC0415

    return OpenVinoModel(data, media_type=media_type, threads=threads, precision=precision)
