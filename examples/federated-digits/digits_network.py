"""A network 64-64-10 in plain numpy: what it answers, its loss, and its gradients."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Weights = dict[str, Floats]

INPUTS, HIDDEN, CLASSES = 64, 64, 10


def first_weights(seed: int) -> Weights:
    """Return weights to begin with (He et al., 2015), the biases 0."""
    source = np.random.default_rng(seed)

    def layer(inputs: int, outputs: int) -> Floats:
        scale = np.sqrt(2 / inputs)
        found: Floats = (source.standard_normal((inputs, outputs)) * scale).astype(np.float32)
        return found

    return {
        "weight0": layer(INPUTS, HIDDEN),
        "bias0": np.zeros(HIDDEN, np.float32),
        "weight1": layer(HIDDEN, CLASSES),
        "bias1": np.zeros(CLASSES, np.float32),
    }


def _forward(weights: Weights, images: Floats) -> tuple[Floats, Floats]:
    hidden = np.maximum(images @ weights["weight0"] + weights["bias0"], 0)  # (batch, hidden)
    logits = hidden @ weights["weight1"] + weights["bias1"]  # (batch, classes)
    logits -= logits.max(axis=1, keepdims=True)
    odds = np.exp(logits)
    return hidden, odds / odds.sum(axis=1, keepdims=True)


def measure(weights: Weights, images: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy on `images`."""
    _, chances = _forward(weights, images)
    right = chances[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(right, np.float32(1e-12))).mean()
    return float(loss), float((chances.argmax(axis=1) == labels).mean())


def gradients(weights: Weights, images: Floats, labels: NDArray[np.int64]) -> Weights:
    """Return the gradients of the mean cross-entropy on `images`, (batch, 64)."""
    hidden, error = _forward(weights, images)
    error[np.arange(len(labels)), labels] -= 1
    error /= np.float32(len(labels))  # (batch, classes)
    back = (error @ weights["weight1"].T) * (hidden > 0)  # (batch, hidden)
    return {
        "weight0": images.T @ back,
        "bias0": back.sum(axis=0),
        "weight1": hidden.T @ error,
        "bias1": error.sum(axis=0),
    }
