"""Logistic and linear regression, by scikit-learn, as ONNX that workers serve.

Columns are brought to mean 0 and deviation 1 first, and the model takes them as they were: the
scale is folded into its coefficients. `l2` is what the squares of the coefficients, but for the
constant, count in the loss summed over rows (halved, in logistic regression).
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import ConfigError, FormatError
from wardian.learning.layers import classifier, regressor
from wardian.learning.shared.extra import extra
from wardian.learning.shared.trainers.private import private_logistic
from wardian.learning.shared.trainers.tell import held_out
from wardian.learning.shared.trainers.trained import Predict, Task, Trained


def scale_of(features: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and deviation of each column, (columns,) each; of a constant one 1."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by the trainer
        mean, deviation = features.mean(axis=0), features.std(axis=0)
    return mean, np.where(deviation > 0, deviation, 1.0)


def folded(
    weight: NDArray[Any], bias: NDArray[Any], scale: tuple[NDArray[Any], NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a layer (columns, outputs), (outputs,) that takes columns before they were scaled."""
    mean, deviation = scale
    raw = weight / deviation[:, None]
    return raw, bias - mean @ raw


def logistic_regression(task: Task) -> Trained:
    """Return a model of two classes or more.

    Raises:
        FormatError: a value is missing; the label is not of classes.
        PolicyDenied: the rule `cohort-small`.
        ConfigError: scikit-learn is not installed, or a parameter is out of its range.
    """
    if task.privacy is not None:
        return private_logistic(task)
    features = task.finite()
    classes, places = task.classes()
    scale = scale_of(features)
    fitted = _logistic(task, (features - scale[0]) / scale[1], places)
    layer = folded(fitted.coef_.T, fitted.intercept_, scale)
    model = classifier([layer], labels=classes.tolist())
    if not task.measured:
        return Trained(model=model)

    def fit(some: NDArray[Any], labels: NDArray[Any]) -> Predict:
        mean, deviation = scale_of(some)
        found = _logistic(task, (some - mean) / deviation, labels)
        return lambda tried: np.asarray(found.predict((tried - mean) / deviation))

    metrics = held_out(task, features, places).accuracy(fit)
    return Trained(model=model, metrics={**metrics, "iterations": int(fitted.n_iter_.max())})


def linear_regression(task: Task) -> Trained:
    """Return a model of one number; errors as `logistic_regression`."""
    features, targets = task.finite(), task.targets()
    scale = scale_of(features)
    fitted = _ridge(task, (features - scale[0]) / scale[1], targets)
    layer = folded(np.reshape(fitted.coef_, (-1, 1)), np.reshape(fitted.intercept_, 1), scale)
    model = regressor([layer])
    if not task.measured:
        return Trained(model=model)

    def fit(some: NDArray[Any], labels: NDArray[Any]) -> Predict:
        mean, deviation = scale_of(some)
        found = _ridge(task, (some - mean) / deviation, labels)
        return lambda tried: np.asarray(found.predict((tried - mean) / deviation))

    return Trained(model=model, metrics=held_out(task, features, targets).error(fit))


def _logistic(task: Task, scaled: NDArray[np.float64], places: NDArray[Any]) -> Any:
    linear_model = extra("sklearn.linear_model")
    strength = task.number("l2")
    inverse = np.inf if strength == 0 else 1 / strength
    fitted = linear_model.LogisticRegression(C=inverse, max_iter=task.whole("max_iterations"))
    return fitting(fitted, scaled, places)


def _ridge(task: Task, scaled: NDArray[np.float64], targets: NDArray[Any]) -> Any:
    fitted = extra("sklearn.linear_model").Ridge(alpha=task.number("l2"), solver="svd")
    return fitting(fitted, scaled, targets)


def fitting(estimator: Any, features: NDArray[Any], labels: NDArray[Any]) -> Any:
    """Return `estimator`, fitted; that it did not converge is no error.

    Raises:
        ConfigError: a parameter is out of its range.
        FormatError: a number is too large.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", extra("sklearn.exceptions").ConvergenceWarning)
        try:
            return estimator.fit(features, labels)
        except ValueError as err:
            if isinstance(err, extra("sklearn.utils._param_validation").InvalidParameterError):
                raise ConfigError(f"a parameter is out of its range: {err}") from err
            raise FormatError("columns or label: not of numbers that this trainer takes") from err
