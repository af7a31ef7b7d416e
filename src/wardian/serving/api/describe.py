"""What the front end says about itself and its models, in the words of each dialect."""

from collections.abc import Iterable
from typing import Any, Final

from wardian import __version__
from wardian.inference.dtypes import BYTES
from wardian.inference.spec import TensorSpec
from wardian.serving.catalog import ModelInfo

EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "model_repository")
"""Extensions of the Open Inference Protocol, in Triton's names."""


def server() -> dict[str, Any]:
    """Return the server's metadata (Open Inference Protocol v2, "Server Metadata")."""
    return {"name": "wardian", "version": __version__, "extensions": EXTENSIONS}


def metadata(info: ModelInfo) -> dict[str, Any]:
    """Return the model's metadata (Open Inference Protocol v2, "Model Metadata")."""
    return {
        "name": info.name,
        "versions": [str(version) for version in info.versions],
        "platform": info.engine,
        "inputs": [_tensor(spec) for spec in info.inputs],
        "outputs": [_tensor(spec) for spec in info.outputs],
    }


def listed(info: ModelInfo) -> dict[str, Any]:
    """Return the model's metadata and whether it is ready."""
    return {**metadata(info), "ready": info.ready}


def index(infos: Iterable[ModelInfo], *, ready: bool) -> list[dict[str, Any]]:
    """Return every version of every model and its state (Triton's "model repository" extension).

    Args:
        infos: of the models.
        ready: leave out what has no worker.
    """
    return [
        {
            "name": info.name,
            "version": str(version) if version else "",
            "state": "READY" if info.serves(version) else "UNAVAILABLE",
            "reason": "" if info.serves(version) else "no worker is connected",
        }
        for info in infos
        for version in info.versions or (0,)
        if info.serves(version) or not ready
    ]


def config(info: ModelInfo) -> dict[str, Any]:
    """Return the part of Triton's model configuration that clients read.

    `max_batch_size` is 0, which says that the shapes below include the batch axis.
    """
    return {
        "name": info.name,
        "platform": info.engine,
        "backend": info.engine.partition(" ")[0],
        "max_batch_size": 0,
        "input": [_config_tensor(spec) for spec in info.inputs],
        "output": [_config_tensor(spec) for spec in info.outputs],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.dtype, "shape": spec.shape}


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.dtype == BYTES else spec.dtype  # Triton's name for it, here alone
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape}
