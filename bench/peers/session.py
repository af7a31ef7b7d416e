"""The model as every peer runs it: ONNX Runtime, one thread, nothing sent anywhere."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import

import numpy as np
import numpy.typing as npt
import onnxruntime as ort


def open_model(path: str) -> ort.InferenceSession:
    """Return the model at `path`, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(model: ort.InferenceSession, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the answer to `x`, (batch, ...)."""
    (y,) = model.run(["y"], {"x": x})
    answer: npt.NDArray[np.float32] = y
    return answer


def array(body: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return the one image that `body` holds as little-endian numbers, (1, ...)."""
    return np.frombuffer(body, "<f4").reshape(1, *shape)
