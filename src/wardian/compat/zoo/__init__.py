"""Analytics Zoo Cluster Serving (0.9 to 0.11, BigDL 2.x): its settings and its Python interface."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wardian.compat.zoo.inference_model import InferenceModel
    from wardian.compat.zoo.queues import InputQueue, OutputQueue

__all__ = ["InferenceModel", "InputQueue", "OutputQueue"]

_HOME = {
    "InferenceModel": "inference_model",
    "InputQueue": "queues",
    "OutputQueue": "queues",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  engines are heavy

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
