"""How networks lie in the slots of a CKKS ciphertext, and the rotations that compute them.

Samples share a ciphertext: each has a block of slots to itself. A first layer is taken diagonal by
diagonal (Halevi and Shoup) with baby and giant steps, over an input that is repeated to fill its
block, so that no rotation carries anything from one block into another where it counts. A last
layer, of few outputs, takes as many diagonals as outputs and then sums by doubling (the hybrid form
of Gazelle, Juvekar et al., 2018). Pure: slots are arrays, and `rotated` is what a rotation does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from nets import Net
from numpy.typing import NDArray

Slots = NDArray[np.float64]
OFFSET = 16
"""Where hidden values begin in a block: before them is room for the last layer's rotations."""
OUTPUTS = 16
"""Outputs of a last layer, rounded up."""


@dataclass(frozen=True)
class Matrix:
    """A layer as diagonals: the sum over (giant, baby) of rot(diagonal * rot(x, baby), giant).

    Attributes:
        steps: (giant, baby, diagonal of one block), giant steps in order.
        doubling: rotations after which the sum is added to itself.
        bias: of one block, added last.
    """

    steps: list[tuple[int, int, Slots]]
    doubling: tuple[int, ...]
    bias: Slots

    def rotations(self) -> set[int]:
        """Return every rotation that is needed, 0 left out."""
        found = {step for giant, baby, _ in self.steps for step in (giant, baby)}
        return (found | set(self.doubling)) - {0}


@dataclass(frozen=True)
class Packing:
    """A network in blocks.

    Attributes:
        block: slots of one sample.
        layers: one or two; between two of them everything is squared.
    """

    inputs: int
    outputs: int
    block: int
    layers: list[Matrix]

    def samples(self, slots: int) -> int:
        """Return how many samples a ciphertext of `slots` holds."""
        return slots // self.block

    def pack(self, x: NDArray[Any], slots: int) -> Slots:
        """Return the slots of at most `samples` rows of `x`; each row is repeated in its block."""
        period = self.block if len(self.layers) == 1 else self.inputs
        padded = np.zeros((len(x), period))
        padded[:, : self.inputs] = x
        packed = np.zeros(slots)
        packed[: len(x) * self.block] = np.tile(padded, self.block // period).ravel()
        return packed

    def unpack(self, slots: Slots, count: int) -> Slots:
        """Return the scores (count, outputs)."""
        return slots[: count * self.block].reshape(count, self.block)[:, : self.outputs]

    def rotations(self) -> set[int]:
        """Return every rotation that the evaluator needs a key for."""
        return set().union(*(layer.rotations() for layer in self.layers))


def packing_of(net: Net) -> Packing:
    """Return how `net` is packed.

    Raises:
        ValueError: it compares values, which CKKS cannot.
    """
    if net.activation == "relu":
        raise ValueError("CKKS adds and multiplies; it does not compare")
    last, bias = net.weights["last"].astype(float), net.weights["last_bias"].astype(float)
    if not net.activation:
        block = 1 << (len(last) - 1).bit_length()
        return Packing(len(last), last.shape[1], block, [_last_layer(last, bias, block, offset=0)])
    matrix, first_bias = (each.astype(float) for each in net.first_matrix())
    hidden = matrix.shape[1]
    block = 1 << (OFFSET + hidden + len(matrix) - 2).bit_length()
    first = _first_layer(matrix, first_bias, block)
    second = _last_layer(last, bias, block, offset=OFFSET)
    return Packing(len(matrix), last.shape[1], block, [first, second])


def _first_layer(matrix: Slots, bias: Slots, block: int) -> Matrix:
    """Return (inputs, hidden) over a block in which the inputs repeat."""
    inputs, hidden = matrix.shape
    places = np.arange(OFFSET, OFFSET + hidden)
    diagonals = {}
    for turn in range(inputs):
        diagonals[turn] = np.zeros(block)
        diagonals[turn][places] = matrix[(places + turn) % inputs, places - OFFSET]
    filled = np.zeros(block)
    filled[places] = bias
    return Matrix(list(_steps(diagonals)), (), filled)


def _last_layer(matrix: Slots, bias: Slots, block: int, *, offset: int) -> Matrix:
    """Return (hidden, outputs) over values that begin at `offset` of their block."""
    hidden, outputs = matrix.shape
    width = OUTPUTS if outputs > 1 else 1
    diagonals = {}
    for turn in range(width):
        diagonals[turn] = np.zeros(block)
        for place in range(block):
            of, out = place + turn - offset, place % width
            if 0 <= of < hidden and out < outputs:
                diagonals[turn][place] = matrix[of, out]
    doubling = tuple(block >> power for power in range(1, (block // width).bit_length()))
    filled = np.zeros(block)
    filled[:outputs] = bias
    return Matrix(list(_steps(diagonals)), doubling, filled)


def _steps(diagonals: dict[int, Slots]) -> Iterator[tuple[int, int, Slots]]:
    """Yield the diagonals by giant and baby step, each turned back by its giant step."""
    stride = 1 << (len(diagonals).bit_length() // 2)
    for turn, diagonal in diagonals.items():
        if diagonal.any():
            giant = turn - turn % stride
            yield giant, turn % stride, rotated(diagonal, -giant)


def rotated(slots: Slots, step: int) -> Slots:
    """Return what a rotation by `step` makes of `slots`: place j has what place j + step had."""
    return np.roll(slots, -step)


def computed(packing: Packing, packed: Slots) -> Slots:
    """Return what an evaluator computes, on clear slots."""
    for number, layer in enumerate(packing.layers):
        repeats = len(packed) // packing.block
        if number:
            packed = packed * packed
        total = np.zeros_like(packed)
        for giant, baby, diagonal in layer.steps:
            total += rotated(np.tile(diagonal, repeats) * rotated(packed, baby), giant)
        for step in layer.doubling:
            total = total + rotated(total, step)
        packed = total + np.tile(layer.bias, repeats)
    return packed
