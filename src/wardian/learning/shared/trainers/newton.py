"""Newton's steps of logistic regression, each by one pass over the rows, with exact sums.

    coordinates  a constant, and the columns at mean 0 and deviation 1
    a pass       loss, gradient, and curvature at given weights: sums over rows, nothing else
    a step       that of Newton; one that made the loss larger is halved until it does not
    wide models  are not curved that way: they begin with the bound of Boehning, which needs no
                 pass of its own, and learn their curvature from the gradients they met (L-BFGS)

Of two classes one output says the log odds of the second, of more each has one.

Sources: Boehning, "Multinomial logistic regression algorithm" (1992); Nocedal and Wright,
"Numerical Optimization", algorithm 7.4.
"""

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wardian.learning.shared.exact import Floats, Moments, Parts, Products, dot, exponents_of, split
from wardian.learning.shared.trainers.blocks import Block, blocks
from wardian.learning.shared.trainers.survey import Survey
from wardian.learning.shared.trainers.tell import Tally, fifth
from wardian.learning.shared.trainers.trained import Task

TOLERANCE: Final = 1e-8
"""Of the gradient of the mean loss: below it nothing is left to do."""
MOST_CURVED: Final = 1024
"""Weights, and"""
MOST_OUTPUTS: Final = 16
"""outputs, of which the curvature is summed up."""
_REMEMBERED: Final = 10
_CURVED_PARTS: Final = 2
_SMALLEST_STEP: Final = 1e-12
_ROUNDING: Final = 1e-12
"""Of the loss: what is larger by less is not larger."""


class Logistic:
    """One logistic regression over the rows of a task, or four fifths of them."""

    __slots__ = (
        "_bound",
        "_grids",
        "_kept",
        "_l2",
        "_met",
        "_moments",
        "_outputs",
        "_survey",
        "_task",
    )

    def __init__(
        self, task: Task, survey: Survey, moments: Moments, *, l2: float, kept: bool
    ) -> None:
        """Prepare it.

        Args:
            task: the training.
            survey: of it.
            moments: of the rows that are learnt from; columns are scaled by them.
            l2: 0 or more.
            kept: whether a fifth of the rows is left out, to try on.
        """
        self._task, self._survey, self._moments = task, survey, moments
        self._l2, self._kept = l2, kept
        classes = len(survey.classes)
        self._outputs = 1 if classes == 2 else classes
        furthest = np.maximum(moments.mean, np.abs(survey.highest - survey.lowest - moments.mean))
        self._grids = np.append(0, exponents_of(furthest / moments.deviation) + 1)
        alike = moments.covariance / np.outer(moments.deviation, moments.deviation)
        bound = np.zeros((len(alike) + 1, len(alike) + 1))
        bound[0, 0], bound[1:, 1:] = 1.0, alike
        self._bound = bound * moments.rows * (0.25 if self._outputs == 1 else 0.5)
        self._met: deque[tuple[Floats, Floats]] = deque(maxlen=_REMEMBERED)

    @property
    def start(self) -> Floats:
        """Weights of 0, (outputs, columns + 1)."""
        return np.zeros((self._outputs, len(self._grids)))

    def descended(self, weights: Floats, *, steps: int) -> tuple[Floats, int]:
        """Return the weights after at most so many steps, and how many there were."""
        best, least, before, taken = weights, np.inf, None, 0
        for taken in range(1, steps + 1):
            loss, gradient, curvature = self._pass(weights)
            if loss > least + _ROUNDING * abs(least):
                weights = (weights + best) / 2
                if np.abs(weights - best).max() <= _SMALLEST_STEP:
                    return best, taken
                continue
            if before is not None:
                self._met.append((weights - best, gradient - before))
            best, least, before = weights, loss, gradient
            if np.abs(gradient).max() <= TOLERANCE * self._moments.rows:
                return best, taken
            step = self._step(gradient, curvature)
            if np.abs(step).max() <= _SMALLEST_STEP:
                return best, taken
            weights = best - step
        return weights, taken

    def tried(self, weights: Floats) -> Tally:
        """Return of how many rows that were left out the class is found."""
        tally = Tally(self._task)
        for block in blocks(self._task):
            out = fifth(self._task, block.begin, block.rows, self._survey.rows)
            some = block.chosen(out)
            scores = dot(weights, self._grids, self._parts(some))
            found = scores[0] > 0 if self._outputs == 1 else scores.argmax(axis=0)
            tally.add(some.sources, found == self._survey.places(some.label))
        return tally

    def _parts(self, block: Block) -> Parts:
        scaled = self._survey.shifted(block.values) - self._moments.mean[:, None]
        scaled /= self._moments.deviation[:, None]
        return split(np.concatenate([np.ones((1, block.rows)), scaled]), self._grids)

    def _pass(self, weights: Floats) -> tuple[float, Floats, Floats | None]:
        """Return loss, gradient (outputs, columns + 1), and curvature, with what `l2` adds."""
        outputs, width = weights.shape
        furthest = 2 * (np.abs(weights) @ np.ldexp(1.0, self._grids)).max() + len(
            self._survey.classes
        )
        grids = np.append(exponents_of([furthest]), np.zeros(outputs, np.int64))
        sums = Products(outputs + 1, width)
        pairs = [(one, other) for one in range(outputs) for other in range(one + 1)]
        narrow = outputs * width <= MOST_CURVED and outputs <= MOST_OUTPUTS
        curved = {pair: Products(width, width) for pair in pairs} if narrow else {}
        for block in blocks(self._task):
            some = block
            if self._kept:
                some = block.chosen(~fifth(self._task, block.begin, block.rows, self._survey.rows))
            parts = self._parts(some)
            scores = dot(weights, self._grids, parts)
            loss, chances, off = _chances(scores, self._survey.places(some.label))
            sums.add(split(np.concatenate([loss[None, :], off]), grids), parts)
            if curved:
                self._curve(curved, chances, parts)
        total = sums.floats(grids, self._grids)
        shrunk = np.hstack([np.zeros((outputs, 1)), weights[:, 1:]]) * self._l2
        loss_of_all = float(total[0, 0] + (shrunk * weights).sum() / 2)
        return loss_of_all, total[1:] + shrunk, self._curvature(curved) if curved else None

    def _curve(
        self, curved: dict[tuple[int, int], Products], chances: Floats, parts: Parts
    ) -> None:
        """Add a block to the curvature of each pair of outputs."""
        some = parts[:_CURVED_PARTS]
        scaled = some[0] * 2.0**-17 + some[1] * 2.0**-34  # of their grids, so none above 1
        for (one, other), sums in curved.items():
            share = chances[one] * ((one == other) - chances[other])
            sums.add(split(scaled * share, np.zeros(len(scaled), np.int64), parts=2), some)

    def _curvature(self, curved: dict[tuple[int, int], Products]) -> Floats:
        width = len(self._grids)
        found = np.zeros((self._outputs, width, self._outputs, width))
        for (one, other), sums in curved.items():
            square = sums.floats(self._grids, self._grids)
            found[one, :, other, :] = found[other, :, one, :] = (square + square.T) / 2
        whole: Floats = found.reshape(self._outputs * width, -1)
        return whole + np.diag(np.tile(self._shrinking(width), self._outputs))

    def _shrinking(self, width: int) -> Floats:
        return np.append(0.0, np.full(width - 1, self._l2))

    def _step(self, gradient: Floats, curvature: Floats | None) -> Floats:
        if curvature is not None:
            inverse = np.linalg.pinv(curvature, rcond=1e-12, hermitian=True)
            return (inverse @ gradient.ravel()).reshape(gradient.shape)
        bound = self._bound + np.diag(self._shrinking(len(self._grids)))
        found, shares = gradient, []
        met = [each for each in self._met if (each[0] * each[1]).sum() > 0]
        for moved, turned in reversed(met):
            share = (moved * found).sum() / (moved * turned).sum()
            shares.append(share)
            found = found - share * turned
        found = found @ np.linalg.pinv(bound, rcond=1e-12, hermitian=True)
        for (moved, turned), share in zip(met, reversed(shares), strict=True):
            back = (turned * found).sum() / (moved * turned).sum()
            found = found + (share - back) * moved
        return found


def _chances(scores: Floats, places: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Return loss (rows,), chances (outputs, rows), and how far these are off (outputs, rows)."""
    if len(scores) == 1:
        odds = scores[0]
        small = np.exp(-np.abs(odds))
        chances = np.where(odds >= 0, 1.0, small) / (1 + small)
        loss = np.log1p(small) + np.maximum(odds, 0.0) - places * odds
        return loss, chances[None, :], (chances - places)[None, :]
    own = np.arange(len(scores))[:, None] == places[None, :]
    rest = scores - scores.max(axis=0)
    powers = np.exp(rest)
    total = powers.sum(axis=0)
    chances = powers / total
    return np.log(total) - (rest * own).sum(axis=0), chances, chances - own
