"""Centres of clusters as an ONNX file, without a framework: which is nearest to a row, and how far.

Source: onnx.proto (ONNX IR version 8, operators of version 17).
"""

import numpy as np
from numpy.typing import ArrayLike

from wardian.errors import FormatError
from wardian.learning import onnx_parts as onnx


def clusters(
    centres: ArrayLike, *, mean: ArrayLike, deviation: ArrayLike, input_name: str = "input"
) -> bytes:
    """Return a model that says of each row to which centre it belongs, as ONNX.

    Input: FP32 [N, columns]. Outputs: `cluster` INT64 [N], from 0, and `distances` FP32
    [N, clusters], in deviations.

    Args:
        centres: (clusters, columns), in deviations from the mean.
        mean: of each column, (columns,).
        deviation: of each column, above 0.
        input_name: of the input.

    Raises:
        FormatError: shapes do not fit, or a number is no finite one of 32 bits.
    """
    with np.errstate(over="ignore", divide="ignore"):
        places = np.asarray(centres, "<f4")
        begin, unit = np.asarray(mean, "<f4"), (1 / np.asarray(deviation, np.float64)).astype("<f4")
    if places.ndim != 2 or 0 in places.shape or {begin.shape, unit.shape} != {places.shape[1:]}:
        raise FormatError("centres: of other columns than their means and deviations")
    if not all(np.isfinite(each).all() for each in (places, begin, unit)):
        raise FormatError("centres: a number is no finite one of 32 bits")
    tensors = [
        onnx.tensor("/mean", begin[None, :], onnx.FLOAT),
        onnx.tensor("/unit", unit[None, :], onnx.FLOAT),
        onnx.tensor("/centres", places[None, :, :], onnx.FLOAT),
        onnx.tensor("/middle", np.array([1], "<i8"), onnx.INT64),
        onnx.tensor("/last", np.array([2], "<i8"), onnx.INT64),
    ]
    nodes = [
        onnx.node("Sub", [input_name, "/mean"], "/from_mean"),
        onnx.node("Mul", ["/from_mean", "/unit"], "/scaled"),
        onnx.node("Unsqueeze", ["/scaled", "/middle"], "/rows"),
        onnx.node("Sub", ["/rows", "/centres"], "/apart"),
        onnx.node("Mul", ["/apart", "/apart"], "/squares"),
        onnx.node("ReduceSum", ["/squares", "/last"], "/sums", keepdims=0),
        onnx.node("Sqrt", ["/sums"], "distances"),
        onnx.node("ArgMin", ["/sums"], "cluster", axis=1, keepdims=0),
    ]
    outputs = [
        onnx.value_info("cluster", onnx.INT64),
        onnx.value_info("distances", onnx.FLOAT, len(places)),
    ]
    return onnx.model(
        nodes, tensors, onnx.value_info(input_name, onnx.FLOAT, places.shape[1]), outputs
    )
