"""Logistic regression with differential privacy: every step's gradient is noised, exactly.

    values      cut off at +-`largest`, divided by it, and each row, with a 1 for the constant,
                scaled to a length of at most 1: so no row's gradient is longer than 1
    neighbours  differ in one joined row, that is replaced, taken away or added: the sum of
                gradients moves by at most 2, a count by at most 1
    noise       whole numbers on a grid of which a step is 2**-24 of the noise; each row's gradient
                is cut to the grid towards 0, so that it does not become longer. Of basic operations
                alone, which every processor rounds alike: one debit has one result
    told        noised sums alone: the count of rows, as many gradients as `max_iterations`, and the
                count of rows that the model gets right. The model follows from them

What that costs is counted by `privacy.gaussian`, and the least noise within `[privacy]` is taken.
Labels are 0 and 1: which classes there are would tell of rows.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wardian.broker.jobs.plan import Privacy
from wardian.broker.jobs.trainers import Scalar
from wardian.errors import ConfigError, LocalProtocolError
from wardian.learning.layers import classifier
from wardian.learning.privacy.gaussian import noise_within
from wardian.learning.privacy.noise import SCALE, DiscreteGaussian
from wardian.learning.shared.exact import BLOCK_ROWS, dot, exp, split
from wardian.learning.shared.trainers.trained import Task, Trained

_MOVES: Final = 2.0
"""How far one row moves a sum of vectors of length 1 at most."""
_ROUNDING: Final = 1 - 2.0**-40
"""Of a length, so that floating point makes no row longer than 1."""


class NoisySums:
    """Sums of rows with noise, all within one budget."""

    __slots__ = ("_noise", "_releases", "_step")

    def __init__(self, privacy: Privacy, noise: DiscreteGaussian, *, releases: int) -> None:
        """Spend `privacy` on so many sums.

        Raises:
            ConfigError: no delta is granted, without which there is no such noise, or no noise is
                enough.
        """
        if not privacy.delta:
            raise ConfigError("[privacy]: noise needs a delta above 0")
        multiplier = noise_within(
            epsilon=privacy.epsilon, delta=privacy.delta, rounds=releases, parties=1
        )
        self._noise, self._releases = noise, releases
        self._step = multiplier * _MOVES / SCALE

    def sum(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the noised sum, (numbers,), of `rows`, (rows, numbers) of length 1 at most.

        Raises:
            LocalProtocolError: all sums were had, or a row is longer.
        """
        self._releases -= 1
        if self._releases < 0 or (np.square(rows).sum(axis=1) > 1 + 1e-9).any():
            raise LocalProtocolError("noise: a sum too many, or a row that is too long")
        whole = np.trunc(rows * _ROUNDING / self._step).astype(np.int64).sum(axis=0)
        noised = (whole + self._noise.draw(rows.shape[1])).astype(np.float64)
        return np.asarray(noised * self._step)

    def count(self, chosen: NDArray[np.bool_]) -> float:
        """Return how many are chosen, with noise; errors as `sum`."""
        return float(self.sum(chosen.astype(np.float64)[:, None])[0])


def releases_of(parameters: Mapping[str, Scalar], *, measured: bool) -> int:
    """Return how many noised sums a trainer with these `parameters` tells.

    Args:
        parameters: every one of the trainer. One that takes no steps tells one sum.
        measured: whether anybody is given metrics.
    """
    steps = parameters.get("max_iterations")
    return 1 if steps is None else int(steps) + 1 + measured


def noise_of(task: Task) -> tuple[Privacy, DiscreteGaussian]:
    """Return what the run may spend, and its noise.

    Raises:
        LocalProtocolError: the task has none.
    """
    if task.privacy is None or task.noise is None:
        raise LocalProtocolError("no noise was prepared")
    return task.privacy, task.noise


def within(values: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    """Return `values` cut off at +-`largest`, above 0, in shares of it."""
    return np.clip(values, -largest, largest) / largest


def private_logistic(task: Task) -> Trained:
    """Return a model of the classes 0 and 1.

    Raises:
        PolicyDenied: the noised count of rows is too small: the rule `join-small`, `cohort-small`.
        ConfigError: no noise is enough for the budget.
    """
    privacy, noise = noise_of(task)
    targets, steps = task.targets(), task.whole("max_iterations")
    largest = task.number("largest")
    shares = within(task.joined.features(), largest)
    length = np.sqrt(shares.shape[1] + 1.0)
    rows = np.hstack([shares, np.ones((len(shares), 1))]) / length
    releases = releases_of(task.parameters, measured=task.measured)
    sums = NoisySums(privacy, noise, releases=releases)
    count = sums.count(np.ones(len(rows), bool))
    task.terms.refuse_small_join(int(count))  # at least 1
    task.terms.refuse_small_cohort(int(count))
    weights = _descended(rows, targets, sums, steps=steps, count=count, l2=task.number("l2"))
    layer = (weights[:-1, None] / (length * largest), weights[-1:] / length)
    if not task.measured:
        return Trained(model=classifier([layer]))
    right = sums.count((_margins(rows, weights) > 0) == (targets > 0.5))
    metrics = {"rows_noised": count, "accuracy_noised": min(1.0, max(0.0, right / count))}
    return Trained(model=classifier([layer]), metrics=metrics)


def _margins(rows: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `rows` times `weights`, (rows,): of each row by itself, wherever it stands.

    One row more or less changes no other's share of a sum, not by its last bit.
    """
    grids, found = np.zeros(rows.shape[1], np.int64), np.empty(len(rows))
    for at in range(0, len(rows), BLOCK_ROWS):
        parts = split(rows[at : at + BLOCK_ROWS].T, grids)
        found[at : at + BLOCK_ROWS] = dot(weights[None, :], grids, parts)[0]
    return found


def _descended(
    rows: NDArray[np.float64],
    targets: NDArray[np.float64],
    sums: NoisySums,
    *,
    steps: int,
    count: float,
    l2: float,
) -> NDArray[np.float64]:
    """Return the coefficients, (columns + 1,), after so many steps of noised gradients."""
    weights = np.zeros(rows.shape[1])
    shrunk = np.append(np.full(rows.shape[1] - 1, l2), 0.0)
    pace = 1 / (0.25 + l2 / count)  # the curvature is no larger
    for _ in range(steps):
        chances = 1 / (1 + exp(-np.clip(_margins(rows, weights), -500, 500)))
        gradient = sums.sum((chances - targets)[:, None] * rows)
        weights = weights - pace * (gradient + shrunk * weights) / count
    return weights
