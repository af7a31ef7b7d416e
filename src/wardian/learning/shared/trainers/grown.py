"""Scikit-learn's trees as the closed layout of `learning.boosting.forest`: numbers, nothing else.

A split there is `value <= threshold` in 64 bits; here it is `value < bound` in 32. For values of 32
bits, which is what a served model takes, the two are the same split: the bound is the least number
of 32 bits above the threshold.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.forest import BASE, LAYOUT, LEAF


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """One tree as scikit-learn has it; node 0 is the root. All are (nodes,).

    Attributes:
        feature: of a split; of a leaf of no account.
        threshold: likewise.
        left, right: a split's children, below 1 in a leaf.
        missing_left: where a missing value goes.
        value: of a leaf.
    """

    feature: NDArray[Any]
    threshold: NDArray[np.float64]
    left: NDArray[Any]
    right: NDArray[Any]
    missing_left: NDArray[Any]
    value: NDArray[np.float64]


def forest_of(trees: Iterable[Grown]) -> ArrayRecord:
    """Return `trees` in the layout, with a base of 0.

    Raises:
        FormatError: a number has no place in 32 bits.
    """
    rows: dict[str, list[Any]] = {name: [] for name in LAYOUT}
    for tree in trees:
        _add(rows, tree)
    arrays = {name: np.array(rows[name], kind) for name, kind in LAYOUT.items()}
    if not np.isfinite(arrays["value"]).all():
        raise FormatError("trees: a number is larger than 32 bits hold")
    return ArrayRecord({**arrays, BASE: np.zeros(1, np.float32)})


def _add(rows: dict[str, list[Any]], tree: Grown) -> None:
    """Add one tree, nodes in the order of their depth."""
    bounds = bounds_of(tree.threshold)
    nodes = [0]
    for node in nodes:  # grows
        leaf = tree.left[node] < 1
        rows["feature"].append(LEAF if leaf else tree.feature[node])
        rows["left"].append(0 if leaf else len(nodes))
        rows["missing_left"].append(not leaf and bool(tree.missing_left[node]))
        rows["value"].append(np.float32(tree.value[node]) if leaf else bounds[node])
        nodes += [] if leaf else [int(tree.left[node]), int(tree.right[node])]
    rows["size"].append(len(nodes))


def bounds_of(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the least numbers of 32 bits above `thresholds`, but none above the largest.

    A split that only parts missing values from others has an infinite threshold.
    """
    largest = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
        above: NDArray[np.float32] = np.where(
            near > thresholds, near, np.nextafter(near, np.float32(np.inf))
        )
    return np.minimum(above, largest)
