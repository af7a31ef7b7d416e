"""BentoML. python bentoml_peer.py MODEL PORT KEY CERT."""

import base64
import os
import sys
from pathlib import Path
from typing import Any

os.environ["BENTOML_DO_NOT_TRACK"] = "True"  # before the import: it would phone home

import bentoml
import numpy as np
from session import array, open_model, run


@bentoml.service(workers=1, traffic={"timeout": 60})
class Onnx:
    """One model."""

    def __init__(self) -> None:
        """Load it."""
        self.model = open_model(os.environ["PEER_MODEL"])

    @bentoml.api
    def rows(self, x: list[list[float]]) -> Any:
        """Answer rows."""
        return {"y": run(self.model, np.asarray(x, np.float32)).tolist()}

    @bentoml.api
    def image(self, b64: str) -> Any:
        """Answer one image in base64."""
        return {"y": run(self.model, array(base64.b64decode(b64), (3, 224, 224))).tolist()}


if __name__ == "__main__":
    model, port, key, cert = sys.argv[1:]
    program = str(Path(sys.executable).parent / "bentoml")
    folder = str(Path(__file__).parent)
    argv = [program, "serve", "bentoml_peer:Onnx", "--working-dir", folder, "--host", "127.0.0.1"]
    argv += ["--port", port, "--ssl-keyfile", key, "--ssl-certfile", cert]
    os.execve(program, argv, {**os.environ, "PEER_MODEL": model, "PYTHONPATH": folder})
