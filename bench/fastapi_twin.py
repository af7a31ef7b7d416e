"""What most people would write: FastAPI and uvicorn, the model in process, nothing sealed.

python bench/fastapi_twin.py MODEL.onnx KEY.pem CERT.pem PORT
"""

import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request

app = FastAPI()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
model = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])


@app.post("/v1/models/digits:predict")
async def predict(request: Request) -> dict[str, object]:
    """Answer one or more images."""
    body = await request.json()
    names = ["probabilities", "label"]
    answer = model.run(names, {"image": np.asarray(body["instances"], np.float32)})
    return {"predictions": answer[0].tolist(), "label": answer[1].tolist()}


if __name__ == "__main__":
    key, cert, port = sys.argv[2:]
    uvicorn.run(app, port=int(port), ssl_keyfile=key, ssl_certfile=cert, log_level="warning")
