"""Boosted trees as an ONNX file, without a framework: what `forest` lays out, as workers serve it.

Source: onnx.proto (ONNX IR version 8); ai.onnx.ml version 3, TreeEnsembleRegressor.
"""

import enum
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wardian.errors import FormatError
from wardian.learning import onnx_parts as parts
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.forest import BASE, LEAF

_ML: Final = "ai.onnx.ml"
_ML_VERSION: Final = 3
_INT, _STRING, _FLOATS, _INTS, _STRINGS = 2, 3, 6, 7, 8  # AttributeProto.AttributeType


class Scores(enum.Enum):
    """What the trees of a class add up to."""

    LOGITS = "logits"
    """Of two classes, the log odds of the second; of more, one number each before the softmax."""
    PROBABILITIES = "probabilities"


def trees_classifier(
    forest: ArrayRecord,
    *,
    base: ArrayLike,
    columns: int,
    labels: Sequence[int],
    scores: Scores,
    input_name: str = "input",
) -> bytes:
    """Return `forest` as a model that names a class for each row, as ONNX.

    Input: FP32 [N, columns], NaN where a value is missing. Outputs: `probabilities` FP32
    [N, classes] and `label` INT64 [N].

    Args:
        forest: verified, or of our own making. Tree t adds to output t modulo outputs.
        base: what outputs begin with beside the forest's own, (outputs,).
        columns: of a row.
        labels: what the classes are called, whole numbers of 32 bits.
        scores: what the outputs are.
        input_name: of the input.

    Raises:
        FormatError: outputs and classes do not fit, or there is no tree.
    """
    begin = np.asarray(base, np.float32) + forest[BASE][0]
    odds = scores is Scores.LOGITS and len(labels) == 2
    if len(begin) != (1 if odds else len(labels)) or not len(forest["size"]):
        raise FormatError("trees: one output for each class, and a tree, are needed")
    nodes = [_ensemble(forest, begin, input_name)]
    tensors = [parts.tensor("/labels", np.asarray(labels, "<i8"), parts.INT64)]
    if odds:  # softmax of (0, z) is (1 - sigmoid(z), sigmoid(z))
        tensors.append(parts.tensor("/both", np.array([[0, 1]], "<f4"), parts.FLOAT))
        nodes.append(parts.node("MatMul", ["/scores", "/both"], "/logits"))
    if scores is Scores.LOGITS:
        given = "/logits" if odds else "/scores"
        nodes.append(parts.node("Softmax", [given], "probabilities", axis=1))
    else:
        nodes.append(parts.node("Identity", ["/scores"], "probabilities"))
    nodes += [
        parts.node("ArgMax", ["probabilities"], "/place", axis=1, keepdims=0),
        parts.node("Gather", ["/labels", "/place"], "label"),
    ]
    outputs = [
        parts.value_info("probabilities", parts.FLOAT, len(labels)),
        parts.value_info("label", parts.INT64),
    ]
    given_value = parts.value_info(input_name, parts.FLOAT, columns)
    return parts.model(nodes, tensors, given_value, outputs, domains={_ML: _ML_VERSION})


def _ensemble(forest: ArrayRecord, begin: NDArray[np.float32], input_name: str) -> bytes:
    """Return the node that sums the trees to `/scores`, (N, outputs)."""
    sizes = forest["size"].astype(np.int64)
    tree = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(tree)) - (np.cumsum(sizes) - sizes)[tree]
    leaf = forest["feature"] == LEAF
    left = forest["left"].astype(np.int64)
    ints = {
        "nodes_treeids": tree,
        "nodes_nodeids": place,
        "nodes_featureids": np.maximum(forest["feature"], 0),
        "nodes_truenodeids": left,
        "nodes_falsenodeids": np.where(leaf, 0, left + 1),
        "nodes_missing_value_tracks_true": forest["missing_left"],
        "target_treeids": tree[leaf],
        "target_nodeids": place[leaf],
        "target_ids": tree[leaf] % len(begin),
    }
    floats = {
        "nodes_values": np.where(leaf, 0, forest["value"]),
        "target_weights": forest["value"][leaf],
        "base_values": begin,
    }
    modes = [b"LEAF" if each else b"BRANCH_LT" for each in leaf.tolist()]
    attributes = [_ints(name, each) for name, each in ints.items()]
    attributes += [_floats(name, each) for name, each in floats.items()]
    attributes += [
        parts.attribute(
            "nodes_modes", b"".join(parts.content(9, each) for each in modes), _STRINGS
        ),
        parts.attribute("post_transform", parts.content(4, b"NONE"), _STRING),
        parts.attribute("aggregate_function", parts.content(4, b"SUM"), _STRING),
        parts.attribute("n_targets", parts.number(3, len(begin)), _INT),
    ]
    head = parts.content(1, input_name) + parts.content(2, "/scores")
    head += parts.content(4, "TreeEnsembleRegressor") + parts.content(7, _ML)
    return head + b"".join(attributes)


def _ints(name: str, values: NDArray[Any]) -> bytes:
    found = b"".join(parts.number(8, int(each)) for each in values.tolist())
    return parts.attribute(name, found, _INTS)


def _floats(name: str, values: NDArray[Any]) -> bytes:
    found = b"".join(b"\x3d" + struct.pack("<f", each) for each in values.tolist())
    return parts.attribute(name, found, _FLOATS)
