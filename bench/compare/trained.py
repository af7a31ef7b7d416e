"""Makes the networks: data that scikit-learn brings along, training by numpy, seeds fixed.

*lr*: logistic regression, breast cancer, 30 inputs (scikit-learn's own solver). *mlp*: 64-32-10,
digits. *cnn*: four filters of 3x3 over the image of 8x8, then 144-10. Both square their hidden
values, since CKKS can do no comparison: so every path runs the same network. *mlp-relu* is what one
would take where comparing is possible.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from nets import SIDE, Floats, Net, labels
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

SEED: Final = 7
HIDDEN, FILTERS, CLASSES = 32, 4, 10
EPOCHS, BATCH, RATE, DECAY = 60, 64, 2e-3, 1e-4


def make_nets(folder: Path) -> dict[str, tuple[Net, Floats, float]]:
    """Write NAME.npz, NAME.onnx and inputs.npz; return net, held-out inputs, accuracy on them."""
    made: dict[str, tuple[Net, Floats, float]] = {}
    for net, held, known in (_breast_cancer(), *_digits()):
        net.save(folder)
        (folder / f"{net.name}.onnx").write_bytes(as_onnx(net))
        made[net.name] = net, held, float((labels(net.scores(held)) == known).mean())
    inputs: dict[str, Any] = {name: held for name, (_, held, _) in made.items()}
    np.savez(folder / "inputs.npz", **inputs)
    return made


def _breast_cancer() -> tuple[Net, Floats, NDArray[Any]]:
    x, y = load_breast_cancer(return_X_y=True)
    split = train_test_split(x, y, test_size=1 / 3, random_state=SEED, stratify=y)
    train, held, known, held_known = split
    middle, spread = train.mean(axis=0), train.std(axis=0)
    model = LogisticRegression(max_iter=1000).fit((train - middle) / spread, known)
    weights = {
        "last": model.coef_.T.astype(np.float32),
        "last_bias": model.intercept_.astype(np.float32),
    }
    return Net("lr", "", weights), ((held - middle) / spread).astype(np.float32), held_known


def _digits() -> list[tuple[Net, Floats, NDArray[Any]]]:
    x, y = load_digits(return_X_y=True)
    split = train_test_split(
        (x / 16).astype(np.float32), y, test_size=1 / 3, random_state=SEED, stratify=y
    )
    train, held, known, held_known = split
    draw = np.random.default_rng(SEED)

    def drawn(*shape: int, of: int) -> Floats:
        made: Floats = (draw.normal(size=shape) / np.sqrt(of)).astype(np.float32)
        return made

    made = []
    for name, activation, first in (
        ("mlp", "square", drawn(SIDE * SIDE, HIDDEN, of=64)),
        ("mlp-relu", "relu", drawn(SIDE * SIDE, HIDDEN, of=32)),
        ("cnn", "square", drawn(FILTERS, 1, 3, 3, of=9)),
    ):
        wide = HIDDEN if first.ndim == 2 else FILTERS * 36
        weights = {
            "first": first,
            "first_bias": np.zeros(first.shape[1] if first.ndim == 2 else FILTERS, np.float32),
            "last": drawn(wide, CLASSES, of=wide),
            "last_bias": np.zeros(CLASSES, np.float32),
        }
        net = Net(name, activation, weights)
        train_net(net, train, known)
        made.append((net, held, held_known))
    return made


def train_net(net: Net, x: Floats, known: NDArray[Any]) -> None:
    """Train `net` in place: cross-entropy, Adam, mini-batches in an order that the seed fixes."""
    order = np.random.default_rng(SEED)
    moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in net.weights.items()}
    step = 0
    for _ in range(EPOCHS):
        places = order.permutation(len(x))
        for start in range(0, len(x), BATCH):
            some, step = places[start : start + BATCH], step + 1
            for name, slope in gradients(net, x[some], known[some]).items():
                slope = slope + DECAY * net.weights[name]  # noqa: PLW2901
                first, second = moments[name]
                first += 0.1 * (slope - first)
                second += 0.001 * (slope * slope - second)
                sized = np.sqrt(second / (1 - 0.999**step)) + 1e-8
                net.weights[name] -= RATE * first / (1 - 0.9**step) / sized


def gradients(net: Net, x: Floats, known: NDArray[Any]) -> Mapping[str, Floats]:
    """Return the gradient of the mean cross-entropy for each of the weights."""
    matrix, bias = net.first_matrix()
    sums = x @ matrix + bias
    hidden = sums * sums if net.activation == "square" else np.maximum(sums, 0)
    scores = hidden @ net.weights["last"] + net.weights["last_bias"]
    slope = np.exp(scores - scores.max(axis=1, keepdims=True))
    slope /= slope.sum(axis=1, keepdims=True)
    slope[np.arange(len(x)), known] -= 1
    slope /= len(x)
    back = slope @ net.weights["last"].T
    back *= 2 * sums if net.activation == "square" else sums > 0
    found = {"last": hidden.T @ slope, "last_bias": slope.sum(axis=0)}
    if not net.convolves:
        return {**found, "first": x.T @ back, "first_bias": back.sum(axis=0)}
    per_filter = back.reshape(len(x), FILTERS, 6, 6)
    images = x.reshape(len(x), SIDE, SIDE)
    first = np.zeros_like(net.weights["first"])
    for down in range(3):
        for across in range(3):
            seen = images[:, down : down + 6, across : across + 6]
            first[:, 0, down, across] = np.einsum("nfij,nij->f", per_filter, seen)
    return {**found, "first": first, "first_bias": per_filter.sum(axis=(0, 2, 3))}


def as_onnx(net: Net) -> bytes:
    """Return `net` as ONNX: x FP32 [N, inputs] to scores FP32 [N, outputs]."""
    nodes, last = [], "x"
    constants: dict[str, NDArray[Any]] = dict(net.weights)
    if net.convolves:
        constants["image"] = np.array([0, 1, SIDE, SIDE], np.int64)
        nodes = [
            helper.make_node("Reshape", ["x", "image"], ["pixels"]),
            helper.make_node("Conv", ["pixels", "first", "first_bias"], ["maps"]),
            helper.make_node("Flatten", ["maps"], ["sums"]),
        ]
    elif net.activation:
        nodes = [helper.make_node("Gemm", ["x", "first", "first_bias"], ["sums"])]
    if net.activation:
        last = "hidden"
        how, given = ("Relu", ["sums"]) if net.activation == "relu" else ("Mul", ["sums", "sums"])
        nodes.append(helper.make_node(how, given, [last]))
    nodes.append(helper.make_node("Gemm", [last, "last", "last_bias"], ["scores"]))
    wide = net.weights["last"].shape[1]
    graph = helper.make_graph(
        nodes,
        net.name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", net.inputs])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", wide])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    raw: bytes = model.SerializeToString()
    return raw
