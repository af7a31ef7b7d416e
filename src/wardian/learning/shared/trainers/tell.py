"""How good a model is: trained again without a fifth of the rows, and tried on these.

The model that is given out is trained on all rows. Which rows are left out is tossed from the seed:
of rows that a trainer goes through, one of every five that follow one another.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.learning.shared.trainers.trained import Predict, Task

Fit = Callable[[NDArray[np.float64], NDArray[Any]], Predict]
"""Columns (rows, columns) and labels (rows,), to what predicts labels."""
_FOLDS: Final = 5


def fifth(task: Task, begin: int, count: int, rows: int) -> NDArray[np.bool_]:
    """Return which of the `count` rows from `begin` on are left out, (count,), of `rows` in all.

    None, where nobody is given metrics.
    """
    if not task.measured:
        return np.zeros(count, bool)
    place = np.arange(begin, begin + count, dtype=np.uint64)
    five = place // np.uint64(_FOLDS)
    tossed = mixed(five ^ np.uint64(task.seed << 32)) % np.uint64(_FOLDS)
    tried: NDArray[np.bool_] = (place % np.uint64(_FOLDS) == tossed) & (five < rows // _FOLDS)
    return tried


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return each of `values` as a number that looks as if it were tossed.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
    """
    found = values + np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))


def told_accuracy(task: Task, *, right: int, tried: int) -> dict[str, Any]:
    """Return how many rows were tried, and the share of them whose class was found.

    Raises:
        PolicyDenied: the rule `cohort-small`: too few rows were tried.
    """
    least, wrong = task.terms.smallest_cohort, tried - right
    task.terms.refuse_small_cohort(tried)
    told: dict[str, Any] = {"rows_tried": tried}
    if 0 < right < least or 0 < wrong < least:
        # A share tells how many rows stand on its smaller side: it is told roughly instead.
        bound = (tried - least) / tried
        if wrong < right:
            return {**told, "accuracy_above": bound}
        return {**told, "accuracy_below": 1 - bound}
    return {**told, "accuracy": right / tried}


def held_out(task: Task, features: NDArray[np.float64], labels: NDArray[Any]) -> "Held":
    """Return which rows are left out."""
    order = np.random.default_rng(task.seed).permutation(len(labels))
    tried = np.sort(order[: len(order) // _FOLDS])
    return Held(task, features, labels, tried)


class Held:
    """Rows to train on, and rows to try on."""

    __slots__ = ("_features", "_labels", "_task", "_tried")

    def __init__(
        self,
        task: Task,
        features: NDArray[np.float64],
        labels: NDArray[Any],
        tried: NDArray[np.intp],
    ) -> None:
        """Leave the rows `tried` out of training."""
        self._task, self._features, self._labels, self._tried = task, features, labels, tried

    def accuracy(self, fit: Fit) -> dict[str, Any]:
        """Return how many rows were tried, and the share whose class was found.

        Raises:
            PolicyDenied: the rule `cohort-small`: too few rows are left to try on.
        """
        found, expected = self._predict(fit)
        right = int(np.count_nonzero(found == expected))
        return told_accuracy(self._task, right=right, tried=len(expected))

    def _predict(self, fit: Fit) -> tuple[NDArray[np.float64], NDArray[Any]]:
        self._task.terms.refuse_small_cohort(len(self._tried))
        kept = np.ones(len(self._labels), bool)
        kept[self._tried] = False
        predict = fit(self._features[kept], self._labels[kept])
        return predict(self._features[self._tried]), self._labels[self._tried]
