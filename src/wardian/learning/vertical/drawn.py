"""Numbers that a seed draws: the same ones on every machine, whatever version of numpy is there."""

import hashlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian._internal import wire

_LABEL: Final = "wardian drawn numbers v1"
_STEP: Final = 2.0**-53


def normals(raw: bytes) -> NDArray[Any]:
    """Return standard normal numbers, one of each 16 random bytes (Box and Muller 1958)."""
    words = (np.frombuffer(raw, "<u8") >> np.uint64(11)).reshape(2, -1)
    radius = np.sqrt(-2 * np.log((words[0] + np.uint64(1)) * _STEP))  # of (0, 1]
    found: NDArray[Any] = radius * np.cos(2 * np.pi * (words[1] * _STEP))
    return found


class Drawn:
    """Draws, one after another, what `seed` gives. No secret: who knows the seed knows all."""

    __slots__ = ("_drawn", "_seed")

    def __init__(self, seed: int) -> None:
        """Draw of `seed`, 0 or more."""
        self._seed, self._drawn = seed, 0

    def normal(self, *shape: int) -> NDArray[Any]:
        """Return standard normal numbers."""
        return normals(self._next(16 * int(np.prod(shape)))).reshape(shape)

    def permutation(self, count: int) -> NDArray[Any]:
        """Return the numbers below `count` in a random order, int64."""
        return np.argsort(np.frombuffer(self._next(8 * count), "<u8"), kind="stable")

    def _next(self, size: int) -> bytes:
        about = str(self._seed).encode(), str(self._drawn).encode()
        self._drawn += 1
        return hashlib.shake_256(wire.fields(_LABEL, *about)).digest(size)
