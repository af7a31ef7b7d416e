"""Dense layers, forwards and backwards. Pure."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.vertical.drawn import Drawn


class Layers:
    """Dense layers with ReLU between them, and after the last one where `bent`.

    Attributes:
        weights: of each layer, (in, out) float64.
        biases: of each layer, (out,) float64.
    """

    __slots__ = ("_bent", "_kept", "_speeds", "biases", "weights")

    def __init__(self, widths: Sequence[int], *, bent: bool, seed: int) -> None:
        """Begin with random weights (He et al. 2015) of `seed`, and biases of 0.

        Args:
            widths: numbers that go in, then those that come out of each layer.
            bent: whether the last layer, too, ends in ReLU.
            seed: the same one gives the same weights.
        """
        drawn = Drawn(seed)
        sizes = list(pairwise(widths))
        self.weights = [drawn.normal(*size) * np.sqrt(2 / max(size[0], 1)) for size in sizes]
        self.biases = [np.zeros(out) for _, out in sizes]
        self._bent = bent
        self._speeds = [np.zeros_like(each) for each in (*self.weights, *self.biases)]
        self._kept: list[NDArray[Any]] = []

    @property
    def takes(self) -> int:
        """How many numbers go in."""
        return len(self.weights[0])

    def state(self) -> dict[str, NDArray[Any]]:
        """Return weights, biases, and how fast each moves, by name."""
        held = (*self.weights, *self.biases)
        weights = {f"layer.{place}": each for place, each in enumerate(held)}
        return weights | {f"speed.{place}": each for place, each in enumerate(self._speeds)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` returned of layers of the same widths.

        Raises:
            FormatError: it is of others.
        """
        shapes = {name: each.shape for name, each in self.state().items()}
        if shapes != {name: state[name].shape for name in shapes if name in state}:
            raise FormatError("layers: the state is of layers of other widths")
        count = len(self.weights)
        held = [state[f"layer.{place}"].copy() for place in range(2 * count)]
        self.weights, self.biases = held[:count], held[count:]
        self._speeds = [state[f"speed.{place}"].copy() for place in range(2 * count)]

    def forward(self, given: NDArray[Any], *, keep: bool = False) -> NDArray[Any]:
        """Return what comes out for `given`: (records, in) float64 to (records, out).

        Args:
            given: one row a record.
            keep: for `backward`, which needs what was in between.

        Raises:
            FormatError: another number of columns than the layers take.
        """
        if given.ndim != 2 or given.shape[1] != self.takes:
            raise FormatError(f"layers: (records, {self.takes}) numbers are needed")
        passed = [given]
        for place, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            out = passed[-1] @ weights + biases
            last = place == len(self.weights) - 1
            passed.append(out if last and not self._bent else np.maximum(out, 0.0))
        if keep:
            self._kept = passed
        return passed[-1]

    def backward(self, slopes: NDArray[Any], *, rate: float, momentum: float) -> NDArray[Any]:
        """Go one step against `slopes`, and return those of what went in: (records, in).

        Args:
            slopes: (records, out), the loss's derivative at what came out of the last `forward`
                with `keep`; of each record, already divided by how many there are.
            rate: of the step.
            momentum: the part of the step before that is gone again, 0 to below 1.
        """
        passed, self._kept = self._kept, []
        count = len(self.weights)
        for place in reversed(range(count)):
            if place < count - 1 or self._bent:
                slopes = slopes * (passed[place + 1] > 0)
            down = slopes @ self.weights[place].T
            self._move(place, self.weights[place], passed[place].T @ slopes, rate, momentum)
            self._move(count + place, self.biases[place], slopes.sum(axis=0), rate, momentum)
            slopes = down
        return slopes

    def _move(
        self, which: int, held: NDArray[Any], slope: NDArray[Any], rate: float, momentum: float
    ) -> None:
        speed = self._speeds[which]
        speed *= momentum
        speed -= rate * slope
        held += speed
