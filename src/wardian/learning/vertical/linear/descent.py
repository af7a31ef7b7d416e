"""Full-batch gradient descent for logistic and linear regression, block of columns by block. Pure.

The loss is the mean over records plus l2 / 2 times the squared coefficients; the intercept is not
shrunk. What makes it converge:
- the step is the inverse of a bound on the curvature that needs no more of a block than the sum of
  its columns' mean squares. So it is the same however the columns are divided, and no setting;
- Nesterov's acceleration, with the momentum that l2 allows, so that the number of steps grows with
  the root of the curvature over l2;
- columns of one scale: see `vertical.columns`.
Blocks, and the intercept, descend each for itself: they share the errors of the records alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, FormatError
from wardian.learning.vertical.chances import chance
from wardian.learning.vertical.noise import LabelNoise, NoiseTerms
from wardian.learning.vertical.rows import kinds_of


class Loss(StrEnum):
    """What is fitted: the chance of a label 1, or a number."""

    LOGISTIC = "logistic"
    SQUARED = "squared"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearPlan:
    """What the parties agreed to.

    Attributes:
        loss: which regression.
        l2: how much coefficients are shrunk, 0 or more.
        rounds: steps at most.
        tolerance: it is over once no record's sum changes by more in a step, relative to the
            largest sum, or to 1 if that is smaller.
    """

    loss: Loss = Loss.LOGISTIC
    l2: float = 1e-3
    rounds: int = 5000
    tolerance: float = 1e-13

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            ConfigError: see the attributes.
        """
        if not (0 <= self.l2 < math.inf and 0 <= self.tolerance < 1 and self.rounds >= 1):
            raise ConfigError("regression: `l2`, `tolerance` or `rounds` is out of range")

    def noise(self, terms: NoiseTerms, *, seed: Secret) -> LabelNoise:
        """Return the noise that keeps `terms` over all rounds of this plan.

        Another label changes an error of logistic loss by 1, whatever was sent, and one of squared
        loss by no more than clipping leaves. So labels of squared loss are brought to about -1 to 1
        beforehand, by numbers that say nothing of a single label.

        Each round looks at every label once more, so each has more noise the more rounds there
        are, and steps only add it up: with noise some ten rounds are better than a hundred.

        Args:
            terms: of the owner of the labels.
            seed: see `LabelNoise`.
        """
        change = 1.0 if self.loss is Loss.LOGISTIC else math.inf
        return LabelNoise(terms, looks=self.rounds, change=change, seed=seed)

    def steepness(self, curvature: float) -> float:
        """Return a bound on the second derivative, of `curvature` and the intercept's 1."""
        return (0.25 if self.loss is Loss.LOGISTIC else 1.0) * (curvature + 1) + self.l2


class Descent:
    """The way of some coefficients, alone, down the slope that they are told of.

    Attributes:
        weights: the coefficients.
        ahead: where the next slope is taken.
    """

    __slots__ = ("_most", "_rate", "_steps", "ahead", "weights")

    def __init__(self, size: int, *, steepness: float, l2: float) -> None:
        """Begin with `size` zeros, whose momentum is that which `l2` allows."""
        self.weights = np.zeros(size)
        self.ahead = self.weights
        self._rate = 1 / steepness
        root = math.sqrt(l2 / steepness)
        self._most, self._steps = (1 - root) / (1 + root), 0

    @property
    def steps(self) -> int:
        """How many it made."""
        return self._steps

    def go_on(self, weights: NDArray[Any], ahead: NDArray[Any], steps: int) -> None:
        """Go on where it was after so many steps."""
        self.weights, self.ahead, self._steps = weights, ahead, steps

    def step(self, slope: NDArray[Any]) -> None:
        """Go one step against `slope`, the derivative at `ahead`."""
        reached = self.ahead - self._rate * slope
        self._steps += 1
        momentum = min(self._steps / (self._steps + 3), self._most)
        self.ahead = reached + momentum * (reached - self.weights)
        self.weights = reached


class Block:
    """Columns and their coefficients.

    Attributes:
        descent: of its coefficients.
    """

    __slots__ = ("_features", "_l2", "descent")

    def __init__(self, features: NDArray[Any], *, steepness: float, l2: float) -> None:
        """Hold `features`, (records, columns) float64."""
        self._features, self._l2 = features, l2
        self.descent = Descent(features.shape[1], steepness=steepness, l2=l2)

    def partial(self) -> NDArray[Any]:
        """Return what its columns add to each record's sum, (records,)."""
        return self._features @ self.descent.ahead

    def step(self, errors: NDArray[Any]) -> None:
        """Go one step, of the errors (records,) of the sums of all blocks."""
        slope = self._features.T @ errors / len(self._features)
        self.descent.step(slope + self._l2 * self.descent.ahead)


class Head:
    """Labels, the intercept, and how far the sums still move.

    Attributes:
        descent: of the intercept.
        over: whether it has converged, or made as many rounds as it may.
        rounds: steps made.
        sums: of each record, (records,), when the errors were computed last.
    """

    __slots__ = ("_labels", "_plan", "descent", "over", "rounds", "sums")

    def __init__(self, labels: NDArray[Any], plan: LinearPlan, *, steepness: float) -> None:
        """Hold `labels`, (records,) float64.

        Raises:
            FormatError: they are not what the loss needs.
        """
        if plan.loss is Loss.LOGISTIC and kinds_of(labels) != {0.0, 1.0}:
            raise FormatError("labels: 0 and 1 are needed, both, and nothing else")
        self._labels, self._plan = labels, plan
        self.descent = Descent(1, steepness=steepness, l2=plan.l2)
        self.sums = np.full(len(labels), math.inf)
        self.over, self.rounds = False, 0

    @property
    def intercept(self) -> float:
        """The intercept."""
        return float(self.descent.weights[0])

    def errors(self, partials: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return what the sums of `partials`, one of each block, are wrong by: (records,)."""
        sums = sum(partials[1:], start=partials[0]) + self.descent.ahead[0]
        moved = np.abs(sums - self.sums).max()
        self.sums = sums
        self.over = bool(moved <= self._plan.tolerance * max(1.0, float(np.abs(sums).max())))
        errors: NDArray[Any] = predicted(self._plan.loss, sums) - self._labels
        return errors

    def step(self, errors: NDArray[Any]) -> None:
        """Move the intercept by `errors`, as they were told to the blocks."""
        self.descent.step(np.array([errors.mean()]))
        self.rounds += 1
        self.over = self.over or self.rounds >= self._plan.rounds


def predicted(loss: Loss, sums: NDArray[Any]) -> NDArray[Any]:
    """Return what `sums` stand for: the chance of a label 1, or the number itself."""
    return chance(sums) if loss is Loss.LOGISTIC else sums


def curvature(features: NDArray[Any]) -> float:
    """Return the sum over columns of the mean of the squares."""
    return float(np.square(features).sum() / len(features))


def fit(
    blocks: Sequence[NDArray[Any]], labels: NDArray[Any], plan: LinearPlan
) -> tuple[list[NDArray[Any]], Head]:
    """Return the coefficients of each of `blocks`, and the head with the intercept.

    Args:
        blocks: (records, columns) float64 each, of the same records; one block is the joined data.
        labels: (records,) float64.
        plan: what to fit.

    Raises:
        FormatError: the labels are not what the loss needs.
    """
    steepness = plan.steepness(math.fsum(curvature(each) for each in blocks))
    head = Head(labels, plan, steepness=steepness)
    parts = [Block(each, steepness=steepness, l2=plan.l2) for each in blocks]
    while not head.over:
        errors = head.errors([each.partial() for each in parts])
        for each in parts:
            each.step(errors)
        head.step(errors)
    return [each.descent.weights for each in parts], head
