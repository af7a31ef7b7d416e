"""LitServe. python litserve_peer.py MODEL PORT KEY CERT."""

import base64
import sys
from typing import Any

import litserve
import numpy as np
from session import array, open_model, run


class Onnx(litserve.LitAPI):
    """One model, in the worker process that LitServe starts."""

    def setup(self, device: str) -> None:
        """Load it."""
        del device
        self.model = open_model(sys.argv[1])

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Take rows, or one image in base64; FastAPI reads the annotation."""
        if "b64" in request:
            return array(base64.b64decode(request["b64"]), (3, 224, 224))
        return np.asarray(request["x"], np.float32)

    def predict(self, x: Any) -> Any:
        """Answer."""
        return run(self.model, x)

    def encode_response(self, output: Any) -> Any:
        """Return JSON."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    port, key, cert = sys.argv[2:]
    server = litserve.LitServer(Onnx(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(port),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        ssl_keyfile=key,
        ssl_certfile=cert,
    )
