"""Handwritten digits, shared out among parties whose classes differ as much as is wanted.

scikit-learn's bundled digits (1,797 images of 8 x 8 pixels, UCI, CC BY 4.0): two thirds train, one
third is held out, by nobody's choice but the seed's.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

LEAST = 10
"""Images that each party has at least."""
TRIES = 100_000

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Images and what they show.

    Attributes:
        images: (images, 64), from 0 to 1.
        labels: (images,), 0 to 9.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def at(self, places: Places) -> "Digits":
        """Return those at `places`."""
        return Digits(images=self.images[places], labels=self.labels[places])


@cache
def load(seed: int) -> tuple[Digits, Digits]:
    """Return the images to train on, and those that are held out."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        (images / 16).astype(np.float32), labels.astype(np.int64),
        test_size=1 / 3, random_state=seed, stratify=labels,
    )  # fmt: skip
    train_images, held_images, train_labels, held_labels = parts
    return (
        Digits(images=train_images, labels=train_labels),
        Digits(images=held_images, labels=held_labels),
    )


@cache
def shared_out(parties: int, alpha: float, seed: int) -> tuple[Places, ...]:
    """Return which of the images to train on each party has; every image has one owner.

    Args:
        parties: how many.
        alpha: of the Dirichlet distribution that shares out each class: the smaller, the more
            parties differ; 0 stands for no difference.
        seed: of data and shares.
    """
    train, _ = load(seed)
    source = np.random.default_rng(seed)
    if alpha == 0:
        return tuple(np.array_split(source.permutation(len(train.labels)), parties))
    for _ in range(TRIES):
        shares: list[list[int]] = [[] for _ in range(parties)]
        for digit in range(10):
            places = source.permutation(np.flatnonzero(train.labels == digit))
            parts = source.dirichlet(np.full(parties, alpha))
            ends = (np.cumsum(parts)[:-1] * len(places)).astype(int)
            for share, part in zip(shares, np.split(places, ends), strict=True):
                share.extend(part.tolist())
        if min(map(len, shares)) >= LEAST:
            return tuple(np.array(sorted(share)) for share in shares)
    raise RuntimeError(f"no share-out gives each of {parties} parties {LEAST} images")
