"""KServe's model server. python kserve_peer.py MODEL PORT KEY CERT."""

import sys
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from session import open_model, run


class Onnx(Model):
    """One model."""

    def __init__(self, path: str) -> None:
        """Load it."""
        super().__init__("m")
        self.model = open_model(path)
        self.ready = True

    async def predict(
        self, payload: InferRequest, headers: Any = None, response_headers: Any = None
    ) -> InferResponse:
        """Answer."""
        del headers, response_headers
        answer = run(self.model, payload.inputs[0].as_numpy())
        output = InferOutput(name="y", shape=list(answer.shape), datatype="FP32")
        output.set_data_from_numpy(answer, binary_data=payload.from_grpc or answer.size > 100)
        return InferResponse(response_id=payload.id or "0", model_name="m", infer_outputs=[output])


if __name__ == "__main__":
    path, port, key, cert = sys.argv[1:]
    sys.argv[1:] = []
    ModelServer(
        http_port=int(port),
        enable_grpc=False,
        enable_latency_logging=False,
        workers=1,
        ssl_keyfile=key,
        ssl_certfile=cert,
    ).start([Onnx(path)])
