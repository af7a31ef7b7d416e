"""Cohorts, and what stands in for noise, for the tests of privacy."""

import numpy as np

from wardian.crypto.keystream import Keystream
from wardian.crypto.secret import Secret
from wardian.learning.arrays import ArrayRecord
from wardian.learning.privacy.noise import DiscreteGaussian, Randomness
from wardian.learning.records import MetricRecord
from wardian.learning.replies import HeldReplies

SECRET = Secret(bytes(range(32)))
RUN = b"r" * 32


def randomness(number: int = 1) -> Randomness:
    return Randomness(SECRET, run=RUN, number=number)


class Silent(DiscreteGaussian):
    """Draws zeros: what is left is the clipped mean."""

    def __init__(self) -> None:
        super().__init__(Keystream(SECRET))

    def draw(self, count: int) -> np.ndarray:
        return np.zeros(count, np.int64)


class Silence:
    """Asked for noise, it remembers for what, and gives none."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def noise(self, inputs: bytes) -> DiscreteGaussian:
        self.asked.append(inputs)
        return Silent()


def model(dtype: str = "float32", *, seed: int = 0) -> ArrayRecord:
    drawn = np.random.default_rng(seed)
    return ArrayRecord(
        {
            "weight": drawn.normal(size=(7, 5)).astype(dtype),
            "bias": drawn.normal(size=5).astype(dtype),
            "scale": np.asarray(drawn.normal(), dtype),
            "nothing": np.empty((0, 3), dtype),
        }
    )


def moved(arrays: ArrayRecord, length: float, *, seed: int) -> ArrayRecord:
    """Return `arrays` moved by about `length` in a direction of the seed."""
    drawn = np.random.default_rng(seed)
    way = {name: drawn.normal(size=array.shape) for name, array in arrays.items()}
    norm = np.sqrt(sum(np.sum(each**2) for each in way.values()))
    return ArrayRecord(
        {
            name: (array + way[name] * (length / norm)).astype(array.dtype)
            for name, array in arrays.items()
        }
    )


def replies(updates: dict[str, ArrayRecord]) -> HeldReplies:
    return HeldReplies(
        {
            party: ({"arrays": each}, MetricRecord({"num-examples": 7, "train_loss": 0.25}))
            for party, each in updates.items()
        }
    )


def cohort(arrays: ArrayRecord, lengths: list[float], *, seed: int = 100) -> HeldReplies:
    """Return the answers of parties p00, p01, ... whose updates have these lengths."""
    return replies(
        {
            f"p{place:02}": moved(arrays, length, seed=seed + place)
            for place, length in enumerate(lengths)
        }
    )
