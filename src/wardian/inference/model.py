"""From the bytes of a model to a `Model`, by the engine that its entry in `wardian.toml` names."""

from wardian.errors import ConfigError
from wardian.inference.spec import FREE, Array, Model, Tensors, TensorSpec

__all__ = ["FREE", "Array", "Model", "TensorSpec", "Tensors", "load_model"]


def load_model(data: bytes | bytearray, *, media_type: str, engine: str, threads: int) -> Model:
    """Return the model in `data`, compiled and probed, ready to infer.

    Args:
        data: the whole model file; may be wiped as soon as this returns.
        media_type: "application/onnx".
        engine: "openvino".
        threads: threads that one inference may use, at least 1.

    Raises:
        FormatError: `data` is not a model of that media type.
        ConfigError: engine or media type is unknown, or a tensor has a type that cannot be served.
    """
    if engine != "openvino":
        raise ConfigError(f"engine {engine!r} is unknown; this release has: openvino")
    if media_type != "application/onnx":
        raise ConfigError(f"media type {media_type!r} is unknown; openvino takes: application/onnx")
    from wardian.inference.openvino import OpenVinoModel  # noqa: PLC0415  heavy, one adapter only

    return OpenVinoModel(data, threads=threads)
