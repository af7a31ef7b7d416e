"""Ray Serve, whose HTTP has no TLS. python ray_peer.py MODEL PORT KEY CERT."""

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before the import: it would phone home

import numpy as np
import ray
from ray import serve
from session import array, open_model, run
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class Onnx:
    """One model."""

    def __init__(self, path: str) -> None:
        """Load it."""
        self.model = open_model(path)

    async def __call__(self, request: Request) -> Any:
        """Answer rows in JSON, or one image as bytes."""
        if request.headers.get("content-type") == "application/json":
            body = await request.json()
            return {"y": run(self.model, np.asarray(body["x"], np.float32)).tolist()}
        answer = run(self.model, array(await request.body(), (3, 224, 224)))
        return Response(answer.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    model, port = sys.argv[1:3]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(Onnx.bind(str(Path(model).resolve())))  # type: ignore[attr-defined]
    while True:
        time.sleep(3600)
