"""The peers: what is installed, how each is asked, and what it cannot do."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHAPES = {"mlp": (1, 64), "resnet50": (1, 3, 224, 224)}
JSON = "Content-Type: application/json"
RAW = "Content-Type: application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One server to compare with.

    Attributes:
        name: on the page.
        script: in this directory; its environment has the same name.
        package: whose version is shown.
        packages: what pip installs.
        tls: whether its HTTP interface has TLS.
        asked: path and form of the request, by model.
        large: gigabytes to install: left to who asks for it by name.
    """

    name: str
    script: str
    package: str
    packages: tuple[str, ...]
    tls: bool
    asked: dict[str, tuple[str, str]]
    large: bool = False


PEERS = (
    Peer(
        name="FastAPI + uvicorn",
        script="fastapi",
        package="fastapi",
        packages=("fastapi", "uvicorn[standard]", "onnxruntime"),
        tls=True,
        asked={"mlp": ("/json", "json"), "resnet50": ("/raw", "raw")},
    ),
    Peer(
        name="MLServer",
        script="mlserver",
        package="mlserver",
        packages=("mlserver", "onnxruntime"),
        tls=False,
        asked={"mlp": ("/v2/models/m/infer", "v2"), "resnet50": ("/v2/models/m/infer", "v2-b64")},
    ),
    Peer(
        name="KServe",
        script="kserve",
        package="kserve",
        packages=("kserve", "onnxruntime"),
        tls=True,
        asked={"mlp": ("/v2/models/m/infer", "v2"), "resnet50": ("/v2/models/m/infer", "binary")},
    ),
    Peer(
        name="LitServe",
        script="litserve",
        package="litserve",
        packages=("litserve", "onnxruntime"),
        tls=True,
        asked={"mlp": ("/predict", "json"), "resnet50": ("/predict", "b64")},
    ),
    Peer(
        name="BentoML",
        script="bentoml",
        package="bentoml",
        packages=("bentoml", "onnxruntime"),
        tls=True,
        asked={"mlp": ("/rows", "json"), "resnet50": ("/image", "b64")},
    ),
    Peer(
        name="PyTriton",
        script="pytriton",
        package="nvidia-pytriton",
        packages=("nvidia-pytriton", "onnxruntime"),
        tls=False,
        asked={"mlp": ("/v2/models/m/infer", "v2"), "resnet50": ("/v2/models/m/infer", "binary")},
    ),
    Peer(
        name="Ray Serve",
        script="ray",
        package="ray",
        packages=("ray[serve]", "onnxruntime"),
        tls=False,
        asked={"mlp": ("/", "json"), "resnet50": ("/", "raw")},
        large=True,
    ),
    Peer(
        name="TorchServe",
        script="torchserve",
        package="torchserve",
        packages=("torchserve", "torch-model-archiver", "torch", "onnxruntime"),
        tls=True,
        asked={"mlp": ("/predictions/m", "json"), "resnet50": ("/predictions/m", "raw")},
        large=True,
    ),
)


def write_body(directory: Path, model: str, form: str, *, name: str) -> tuple[Path, list[str]]:
    """Write the request for `model` in `form`; return its file and headers.

    Args:
        directory: where it is written.
        model: a key of `SHAPES`.
        form: "json" {"x": rows}, "b64" {"b64": bytes}, "raw" bytes; "v2", "v2-b64" and "binary" are
            the Open Inference Protocol's: numbers as text, one BYTES element, and its binary
            extension.
        name: of the input, in the Open Inference Protocol.
    """
    x = np.random.default_rng(3).random(SHAPES[model], dtype="f4")
    coded, shape = base64.b64encode(x.tobytes()).decode(), list(x.shape)
    path = directory / f"{model}-{form}-{name}"
    headers = [JSON]
    tensor: dict[str, object] = {"name": name, "datatype": "FP32", "shape": shape}
    if form == "raw":
        path.write_bytes(x.tobytes())
        return path, [RAW]
    if form == "binary":
        tensor["parameters"] = {"binary_data_size": x.nbytes}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        path.write_bytes(head + x.tobytes())
        return path, [RAW, f"Inference-Header-Content-Length: {len(head)}"]
    documents: dict[str, dict[str, object]] = {
        "json": {"x": x.tolist() if x.ndim == 2 else None},
        "b64": {"b64": coded},
        "v2": {"inputs": [{**tensor, "data": x.ravel().tolist()}]},
        "v2-b64": {"inputs": [{"name": name, "datatype": "BYTES", "shape": [1], "data": [coded]}]},
    }
    path.write_text(json.dumps(documents[form]))
    return path, headers
