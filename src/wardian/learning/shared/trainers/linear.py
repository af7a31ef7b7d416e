"""Logistic and linear regression, by passes over the rows, as ONNX that workers serve.

Columns are brought to mean 0 and deviation 1 first, and the model takes them as they were: the
scale is folded into its coefficients. `l2` is what the squares of the coefficients, but for the
constant, count in the loss summed over rows (halved, in logistic regression).

All sums are exact (`shared.exact`), so the model is that of the pooled table to the last bit, in
whatever order and in how many pieces its rows come. `fitting`, `folded` and `scale_of` serve
trainers that have their rows in memory.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.layers import Layer, classifier, regressor
from wardian.learning.shared.exact import Moments, Products, dot, exponents_of, settled, split
from wardian.learning.shared.extra import extra
from wardian.learning.shared.rows import Owners, are_matched
from wardian.learning.shared.trainers.blocks import blocks
from wardian.learning.shared.trainers.newton import Logistic
from wardian.learning.shared.trainers.private import private_logistic
from wardian.learning.shared.trainers.survey import Survey, measured, surveyed
from wardian.learning.shared.trainers.tell import Tally, fifth
from wardian.learning.shared.trainers.trained import Task, Trained


def scale_of(features: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and deviation of each column, (columns,) each; see `exact.settled`."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by the trainer
        mean, deviation = features.mean(axis=0), features.std(axis=0)
    return mean, settled(deviation)


def folded(
    weight: NDArray[Any], bias: NDArray[Any], scale: tuple[NDArray[Any], NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a layer (columns, outputs), (outputs,) that takes columns before they were scaled."""
    mean, deviation = scale
    raw = weight / deviation[:, None]
    return raw, bias - mean @ raw


def whole_layers(layers: Sequence[Layer], owners: Owners) -> Sequence[Layer]:
    """Return `layers` for a model; of rows that `owners` matched in numbers that 32 bits hold.

    What is beyond them is the largest, what is no number 0. An error, which every owner is told,
    would say that one row's label, or value, is as large as that; whoever is given such a model,
    and its metrics, sees that it is of no use. Of rows that were not matched it is an error.
    """
    if not are_matched(owners):
        return layers
    most = float(np.finfo(np.float32).max)
    return [
        (np.clip(np.nan_to_num(weight), -most, most), np.clip(np.nan_to_num(bias), -most, most))
        for weight, bias in layers
    ]


def logistic_regression(task: Task) -> Trained:
    """Return a model of two classes or more.

    Raises:
        FormatError: a value is missing; the label is not of classes.
        PolicyDenied: the rules `join-small` and `cohort-small`.
        ConfigError: with [privacy], no noise is enough for the budget.
    """
    if task.privacy is not None:
        return private_logistic(task)
    strength, steps = task.number("l2"), task.whole("max_iterations")
    survey = surveyed(task, classes=True)
    halves = measured(task, survey)
    whole = Logistic(task, survey, halves.whole, l2=strength, kept=False)
    weights, iterations = whole.descended(whole.start, steps=steps)
    moments = halves.whole
    scale = (survey.lowest + moments.mean, moments.deviation)
    layer = folded(weights[:, 1:].T, weights[:, 0], scale)
    model = classifier(whole_layers([layer], task.rows.owners), labels=survey.classes.tolist())
    if halves.kept is None:
        return Trained(model=model)
    some = Logistic(task, survey, halves.kept, l2=strength, kept=True)
    tried_with, _ = some.descended(some.start, steps=steps)
    told = some.tried(tried_with).accuracy()
    return Trained(model=model, metrics={**told, "iterations": iterations})


def linear_regression(task: Task) -> Trained:
    """Return a model of one number; errors as `logistic_regression`."""
    strength = task.number("l2")
    survey = surveyed(task, classes=False)
    ends = survey.ends
    if ends is None:
        raise FormatError("no label")
    halves = measured(task, survey, with_label=True)
    weight, bias = _ridge(halves.whole, strength)
    layer = weight[:, None], np.array([ends[0] + bias - survey.lowest @ weight])
    model = regressor(whole_layers([layer], task.rows.owners))
    if halves.kept is None:
        return Trained(model=model)
    error = _error(task, survey, ends, _ridge(halves.kept, strength))
    return Trained(model=model, metrics=error)


def _ridge(moments: Moments, strength: float) -> tuple[NDArray[np.float64], float]:
    """Return the coefficients, (columns,), and the constant, of columns that are not scaled."""
    deviation = moments.deviation[:-1]
    alike = moments.covariance[:-1, :-1] / np.outer(deviation, deviation)
    with_label = moments.covariance[:-1, -1] / deviation
    values, vectors = np.linalg.eigh(alike)
    held = values + strength / moments.rows
    small = held <= values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps
    inverse = np.where(small, 0.0, 1 / np.where(small, 1.0, held))
    weight = (vectors * inverse) @ (vectors.T @ with_label) / deviation
    return weight, float(moments.mean[-1] - moments.mean[:-1] @ weight)


def _error(
    task: Task, survey: Survey, ends: tuple[float, float], layer: tuple[NDArray[np.float64], float]
) -> dict[str, Any]:
    """Return how many rows were tried, and the root of their mean square error."""
    weight, bias = layer
    grids, tally = survey.exponents, Tally(task)
    furthest = np.abs(weight) @ np.ldexp(1.0, grids) + abs(bias) + ends[1] - ends[0]
    grid, squares = exponents_of([2 * furthest]), Products(1, 1)
    for block in blocks(task):
        some = block.chosen(fifth(task, block.begin, block.rows, survey.rows))
        found = dot(weight[None, :], grids, split(survey.shifted(some.values), grids)) + bias
        parts = split(found - (some.label - ends[0])[None, :], grid)
        squares.add(parts, parts)
        tally.add(some.sources, np.zeros(some.rows, bool))
    rows = tally.rows()
    error = float(np.sqrt(squares.floats(grid, grid)[0, 0] / rows))
    return {"rows_tried": rows, "root_mean_square_error": error}


def fitting(estimator: Any, features: NDArray[Any], labels: NDArray[Any]) -> Any:
    """Return `estimator`, fitted; that it did not converge is no error.

    Parameters are within the ranges that a plan is read by.

    Raises:
        FormatError: a number is too large.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", extra("sklearn.exceptions").ConvergenceWarning)
        try:
            return estimator.fit(features, labels)
        except ValueError as err:
            raise FormatError("columns or label: not of numbers that this trainer takes") from err
