"""A model in memory: bytes in, arrays out; knows no keys and no files."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wardian.inference.model import Model, Tensors, TensorSpec, load_model

__all__ = ["Model", "TensorSpec", "Tensors", "load_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wardian.inference import model  # noqa: PLC0415  lazily: importing one module loads it alone

    return getattr(model, name)
