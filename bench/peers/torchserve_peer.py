"""TorchServe, with batching (needs Java 11). python torchserve_peer.py MODEL PORT KEY CERT."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from session import array, open_model, run


class Onnx:
    """The handler that TorchServe's worker makes."""

    def initialize(self, context: Any) -> None:
        """Load the model."""
        folder = Path(context.system_properties["model_dir"])
        self.model = open_model(str(next(folder.glob("*.onnx"))))

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        """Answer one batch: rows in JSON, or images as bytes."""
        del context
        bodies: list[Any] = [each.get("body") or each.get("data") for each in data]
        if isinstance(bodies[0], dict):
            given = [np.asarray(body["x"], np.float32) for body in bodies]
        else:
            given = [array(bytes(body), (3, 224, 224)) for body in bodies]
        return [json.dumps({"y": row.tolist()}) for row in run(self.model, np.concatenate(given))]


def main() -> None:
    """Pack the model, write the settings, and become TorchServe."""
    model, port, key, cert = sys.argv[1:]
    here, folder = Path(__file__).parent, Path(tempfile.mkdtemp(prefix="torchserve-"))
    program = Path(sys.executable).parent
    archive = [str(program / "torch-model-archiver"), "--model-name", "m", "--version", "1"]
    archive += ["--handler", f"{__file__}:Onnx", "--export-path", str(folder)]
    archive += ["--extra-files", f"{Path(model).resolve()},{here / 'session.py'}"]
    subprocess.run(archive, check=True)
    settings = {
        "inference_address": f"https://127.0.0.1:{port}",
        "management_address": f"https://127.0.0.1:{int(port) + 1}",
        "metrics_address": f"https://127.0.0.1:{int(port) + 2}",
        "private_key_file": key,
        "certificate_file": cert,
        "disable_token_authorization": "true",
        "default_workers_per_model": "1",
        "models": json.dumps(
            {"m": {"1.0": {"marName": "m.mar", "minWorkers": 1, "maxWorkers": 1, "batchSize": 64,
                           "maxBatchDelay": 1}}}
        ),
    }  # fmt: skip
    (folder / "config.properties").write_text(
        "".join(f"{name}={value}\n" for name, value in settings.items())
    )
    serve = [str(program / "torchserve"), "--start", "--foreground", "--model-store", str(folder)]
    serve += ["--ts-config", str(folder / "config.properties"), "--models", "m=m.mar"]
    os.execv(serve[0], serve)


if __name__ == "__main__":
    main()
