"""Models as a user of Cluster Serving has them, made here."""

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op

TENSORFLOW = Path(__file__).parents[2] / "vectors" / "tensorflow"
WEIGHTS = np.arange(40, dtype=np.float32).reshape(4, 10) / 40


def make_openvino(
    directory: Path,
    *,
    xml: str = "model.xml",
    weights: str | None = None,
    rows: int = -1,
    twice: bool = False,
) -> Path:
    """Write an IR pair that multiplies rows of 4 by `WEIGHTS`."""
    directory.mkdir(parents=True, exist_ok=True)
    image = op.parameter([rows, 4], np.float32, name="image")
    image.output(0).get_tensor().set_names({"image"})
    scores = op.matmul(image, op.constant(WEIGHTS), transpose_a=False, transpose_b=False)
    scores.output(0).get_tensor().set_names({"scores"})
    ends = [scores]
    if twice:
        ends.append(op.relu(scores))
        ends[1].output(0).get_tensor().set_names({"positive"})
    ov.save_model(ov.Model(ends, [image]), str(directory / xml), compress_to_fp16=False)
    if weights is not None:
        (directory / xml).with_suffix(".bin").rename(directory / weights)
    return directory
