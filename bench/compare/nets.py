"""The networks that are compared, as arrays: what every environment reads, with numpy alone.

Each ends in scores, before any sigmoid or softmax: whoever gets the answer can do those, and the
label does not depend on them. `x` is (batch, inputs), scores are (batch, outputs).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
SIDE, KERNEL = 8, 3
"""Of an image of digits, and of the convolution over it (stride 1, no padding)."""
POSITIONS = (SIDE - KERNEL + 1) ** 2


@dataclass(frozen=True)
class Net:
    """A network: linear, or one hidden layer, or one convolution, before a linear layer.

    Attributes:
        name: of the model.
        activation: of the hidden layer: "" (there is none), "square" or "relu".
        weights: "last" (inputs or hidden, outputs) and "last_bias"; with a hidden layer "first"
            (inputs, hidden), or (filters, 1, 3, 3) of a convolution, and "first_bias".
    """

    name: str
    activation: str
    weights: dict[str, Floats]

    @property
    def convolves(self) -> bool:
        """Whether the first layer is a convolution."""
        return self.activation != "" and self.weights["first"].ndim == 4

    @property
    def inputs(self) -> int:
        """Values of one sample."""
        if self.convolves:
            return SIDE * SIDE
        return len(self.weights["first" if self.activation else "last"])

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(each.size for each in self.weights.values())

    @property
    def multiplications(self) -> int:
        """Of one sample, as in the clear: those of the activation included."""
        last = self.weights["last"].size
        if not self.activation:
            return last
        first, hidden = self.weights["first"].size, len(self.weights["last"])
        first *= POSITIONS if self.convolves else 1
        return first + last + (hidden if self.activation == "square" else 0)

    def first_matrix(self) -> tuple[Floats, Floats]:
        """Return the first layer as a matrix (inputs, hidden) and a bias (hidden,).

        A convolution's hidden values lie filter by filter, as ONNX flattens them.
        """
        first, bias = self.weights["first"], self.weights["first_bias"]
        if not self.convolves:
            return first, bias
        wide = SIDE - KERNEL + 1
        matrix = np.zeros((SIDE * SIDE, len(first), POSITIONS), np.float32)
        for place in range(POSITIONS):
            row, column = divmod(place, wide)
            for down in range(KERNEL):
                for across in range(KERNEL):
                    pixel = (row + down) * SIDE + column + across
                    matrix[pixel, :, place] = first[:, 0, down, across]
        return matrix.reshape(SIDE * SIDE, -1), np.repeat(bias, POSITIONS)

    def scores(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the scores by numpy, in the precision of `x`."""
        if self.activation:
            matrix, bias = self.first_matrix()
            x = x @ matrix + bias
            x = x * x if self.activation == "square" else np.maximum(x, 0)
        scores: NDArray[Any] = x @ self.weights["last"] + self.weights["last_bias"]
        return scores

    def save(self, folder: Path) -> None:
        """Write NAME.npz."""
        np.savez(folder / f"{self.name}.npz", activation=self.activation, **self.weights)  # type: ignore[arg-type]


def load_net(folder: Path, name: str) -> Net:
    """Return what `Net.save` wrote."""
    with np.load(folder / f"{name}.npz") as data:
        weights = {key: data[key] for key in data.files if key != "activation"}
        return Net(name, str(data["activation"]), weights)


def labels(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return the label of each row: the largest score, or whether the only one is positive."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0).astype(np.int64)
    found: NDArray[np.int64] = scores.argmax(axis=1)
    return found


def rows_of(data: Floats, start: int, batch: int) -> Floats:
    """Return `batch` rows of `data` from row `start` on; after the last comes the first."""
    return data[np.arange(start, start + batch) % len(data)]
