"""Dense layers as an ONNX file, without a framework: logistic and linear regression, perceptrons.

What these cannot say, the framework that made the model exports (`torch.onnx`, `skl2onnx`).
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wardian.errors import FormatError
from wardian.learning import onnx_parts as onnx
from wardian.learning.arrays import name_of

Hidden = Literal["relu", "tanh", "sigmoid"]
Layer = tuple[ArrayLike, ArrayLike]

_OPERATORS: Final = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}
_OUTPUTS: Final = ("probabilities", "label", "value")


def classifier(
    layers: Sequence[Layer],
    *,
    input_name: str = "input",
    hidden: Hidden = "relu",
    labels: Sequence[int] | None = None,
) -> bytes:
    """Return a network that names a class for each row, as ONNX.

    Input: FP32 [N, inputs]. Outputs: `probabilities` FP32 [N, classes] and `label` INT64 [N], the
    most probable of `labels`.

    Args:
        layers: weights (inputs, outputs) and biases (outputs,) of each, first to last. Where the
            last has one output it is the log odds of the second of two classes.
        input_name: of the input.
        hidden: what is between two layers.
        labels: what the classes are called; by default 0, 1, ... OpenVINO has 32 bits for each.

    Raises:
        FormatError: the layers do not fit one another, hold what is no finite number, or a name
            or a setting is none.
    """
    plain = _plain(layers)
    weight, bias = plain[-1]
    if weight.shape[1] == 1:  # softmax of (0, z) is (1 - sigmoid(z), sigmoid(z))
        plain[-1] = np.hstack([0 * weight, weight]), np.hstack([0 * bias, bias])
    classes = len(plain[-1][1])
    names = np.arange(classes) if labels is None else np.asarray(labels)
    if names.shape != (classes,) or names.dtype.kind not in "iu" or (abs(names) >= 2**31).any():
        raise FormatError(
            f"layers: {classes} classes need as many whole numbers of 32 bits as labels"
        )
    nodes, weights, logits = _stack(plain, input_name, hidden)
    nodes += [
        onnx.node("Softmax", [logits], "probabilities", axis=1),
        onnx.node("ArgMax", ["probabilities"], "/place", axis=1, keepdims=0),
        onnx.node("Gather", ["/labels", "/place"], "label"),
    ]
    weights.append(onnx.tensor("/labels", names.astype("<i8"), onnx.INT64))
    outputs = [
        onnx.value_info("probabilities", onnx.FLOAT, classes),
        onnx.value_info("label", onnx.INT64),
    ]
    return onnx.model(
        nodes, weights, onnx.value_info(input_name, onnx.FLOAT, len(plain[0][0])), outputs
    )


def regressor(
    layers: Sequence[Layer], *, input_name: str = "input", hidden: Hidden = "relu"
) -> bytes:
    """Return a network that gives numbers for each row, as ONNX.

    Input: FP32 [N, inputs]. Output: `value` FP32 [N, outputs].

    Args:
        layers: as for `classifier`.
        input_name: of the input.
        hidden: what is between two layers.

    Raises:
        FormatError: as for `classifier`.
    """
    plain = _plain(layers)
    nodes, weights, last = _stack(plain, input_name, hidden)
    nodes.append(onnx.node("Identity", [last], "value"))
    outputs = [onnx.value_info("value", onnx.FLOAT, len(plain[-1][1]))]
    return onnx.model(
        nodes, weights, onnx.value_info(input_name, onnx.FLOAT, len(plain[0][0])), outputs
    )


_Plain = list[tuple[NDArray[Any], NDArray[Any]]]


def _plain(layers: Sequence[Layer]) -> _Plain:
    """Return `layers` in FP32, each of which takes what the one before gives."""
    found: _Plain = []
    for place, (weight, bias) in enumerate(layers):
        with np.errstate(over="ignore"):  # what does not fit is infinite, and refused below
            each = np.asarray(weight, "<f4"), np.asarray(bias, "<f4")
        if each[0].ndim != 2 or 0 in each[0].shape or each[1].shape != each[0].shape[1:]:
            raise FormatError(f"layers: {place}: (inputs, outputs) and (outputs,) were expected")
        if found and len(found[-1][1]) != len(each[0]):
            raise FormatError(f"layers: {place} does not take what the one before gives")
        if not all(np.isfinite(array).all() for array in each):
            raise FormatError(f"layers: {place} holds what is no finite number of 32 bits")
        found.append(each)
    if not found:
        raise FormatError("layers: none")
    return found


def _stack(plain: _Plain, value: str, hidden: str) -> tuple[list[bytes], list[bytes], str]:
    """Return nodes and weights of all layers, and the name of what the last gives."""
    if name_of(value, what="layers: the input") in _OUTPUTS:
        raise FormatError(f"layers: the input is called like an output: {value}")
    if hidden not in _OPERATORS:
        raise FormatError(f"layers: hidden is one of {', '.join(_OPERATORS)}")
    nodes, weights = [], []
    for place, (weight, bias) in enumerate(plain):
        names = [f"/weight{place}", f"/bias{place}"]
        weights += [
            onnx.tensor(names[0], weight, onnx.FLOAT),
            onnx.tensor(names[1], bias, onnx.FLOAT),
        ]
        nodes.append(onnx.node("Gemm", [value, *names], f"/sum{place}"))
        value = f"/sum{place}"
        if place < len(plain) - 1:
            nodes.append(onnx.node(_OPERATORS[hidden], [value], f"/hidden{place}"))
            value = f"/hidden{place}"
    return nodes, weights, value
