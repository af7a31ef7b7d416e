"""MLServer, whose REST interface has no TLS. python mlserver_peer.py MODEL PORT KEY CERT."""

import base64
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from session import array, open_model, run


class Onnx(MLModel):
    """One model."""

    async def load(self) -> bool:
        """Load it."""
        self.model = open_model(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer rows, or one image in base64."""
        given = payload.inputs[0]
        if given.datatype == "BYTES":
            x = array(base64.b64decode(given.data[0]), (3, 224, 224))
        else:
            x = np.asarray(given.data, np.float32).reshape(given.shape)
        output = NumpyCodec.encode_output("y", run(self.model, x))
        return InferenceResponse(model_name=self.name, outputs=[output])


def main() -> None:
    """Write the settings that MLServer reads, and become it."""
    model, port = sys.argv[1:3]
    folder = Path(tempfile.mkdtemp(prefix="mlserver-"))
    (folder / "settings.json").write_text(
        json.dumps(
            {
                "http_port": int(port),
                "grpc_port": int(port) + 1,
                "metrics_port": int(port) + 2,
                "parallel_workers": 0,
                "debug": False,
            }
        )
    )
    (folder / "model-settings.json").write_text(
        json.dumps(
            {
                "name": "m",
                "implementation": "mlserver_peer.Onnx",
                "parameters": {"uri": str(Path(model).resolve())},
            }
        )
    )
    path = f"{Path(__file__).parent}:{folder}"
    program = str(Path(sys.executable).parent / "mlserver")
    os.execve(program, [program, "start", str(folder)], {**os.environ, "PYTHONPATH": path})


if __name__ == "__main__":
    main()
