"""How good a model is: trained again without a fifth of the rows, and tried on these.

The model that is given out is trained on all rows. Which rows are left out is tossed from the seed:
of rows that a trainer goes through, one of every five that follow one another.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.learning.shared.cohort import few, refuse_small
from wardian.learning.shared.rows import Sources
from wardian.learning.shared.trainers.trained import Predict, Task

Fit = Callable[[NDArray[np.bool_]], Predict]
"""Which rows are learnt from, (rows,), to what predicts labels."""
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


class Tally:
    """Of how many rows that were tried, of each owner's, the class was found."""

    __slots__ = ("_right", "_task", "_tried")

    def __init__(self, task: Task) -> None:
        """Begin with none."""
        self._task = task
        self._right, self._tried = (np.zeros(len(task.rows.owners), np.int64) for _ in range(2))

    def add(self, sources: Sources, right: NDArray[np.bool_]) -> None:
        """Add some rows: whose each is, and whether its class was found, (rows,)."""
        owners = len(self._tried)
        self._tried += np.bincount(sources, minlength=owners)
        self._right += np.bincount(sources[right], minlength=owners)

    def rows(self) -> int:
        """Return how many rows were tried.

        Raises:
            PolicyDenied: the rule `cohort-small`: too few were, of one owner.
        """
        refuse_small(self._task.terms, self._tried)
        return int(self._tried.sum())

    def accuracy(self) -> dict[str, Any]:
        """Return how many rows were tried, and the share of them whose class was found.

        Raises:
            PolicyDenied: the rule `cohort-small`: as `rows`.
        """
        tried, least = self.rows(), self._task.terms.smallest_cohort
        right, wrong = self._right, self._tried - self._right
        few_right, few_wrong = few(self._task.terms, right), few(self._task.terms, wrong)
        told: dict[str, Any] = {"rows_tried": tried}
        if not (few_right | few_wrong).any():
            return {**told, "accuracy": int(right.sum()) / tried}
        # A share tells how many rows stand on its smaller side: it is told roughly instead.
        if wrong.sum() < right.sum():
            least_right = np.where(few_right, 0, right)
            low = np.where(few_wrong, self._tried - least, least_right)
            return {**told, "accuracy_above": int(low.sum()) / tried}
        most_right = np.where(few_wrong, self._tried, right)
        high = np.where(few_right, least, most_right)
        return {**told, "accuracy_below": int(high.sum()) / tried}


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
        tally, sources = Tally(self._task), self._task.joined.sources[self._tried]
        tally.add(sources, np.zeros(len(sources), bool))
        tally.rows()  # before anything is trained
        kept = np.ones(len(self._labels), bool)
        kept[self._tried] = False
        found = fit(kept)(self._features[self._tried])
        tally = Tally(self._task)
        tally.add(sources, found == self._labels[self._tried])
        return tally.accuracy()
