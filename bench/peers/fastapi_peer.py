"""FastAPI and uvicorn by hand. python fastapi_peer.py MODEL PORT KEY CERT."""

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from session import array, open_model, run

app = FastAPI()
model = open_model(sys.argv[1])


@app.post("/json")
async def as_json(request: Request) -> dict[str, object]:
    """Answer rows in JSON."""
    body = await request.json()
    return {"y": run(model, np.asarray(body["x"], np.float32)).tolist()}


@app.post("/raw")
async def raw(request: Request) -> Response:
    """Answer one image as bytes."""
    answer = run(model, array(await request.body(), (3, 224, 224)))
    return Response(answer.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    port, key, cert = sys.argv[2:]
    uvicorn.run(app, port=int(port), ssl_keyfile=key, ssl_certfile=cert, log_level="warning")
