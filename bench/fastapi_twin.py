"""What most people would write: FastAPI and uvicorn, the model in process, nothing sealed.

python bench/fastapi_twin.py MODEL.onnx KEY.pem CERT.pem PORT
"""

import sys

import numpy as np
import openvino
import uvicorn
from fastapi import FastAPI, Request

app = FastAPI()
model = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_NUM_THREADS": 1})


@app.post("/v1/models/digits:predict")
async def predict(request: Request) -> dict[str, object]:
    """Answer one or more images."""
    body = await request.json()
    answer = model([np.asarray(body["instances"], np.float32)])
    return {"predictions": answer["probabilities"].tolist(), "label": answer["label"].tolist()}


if __name__ == "__main__":
    key, cert, port = sys.argv[2:]
    uvicorn.run(app, port=int(port), ssl_keyfile=key, ssl_certfile=cert, log_level="warning")
