"""The table of trainers: the name that a plan says, and the function that runs."""

from collections.abc import Callable, Mapping
from typing import Final

from wardian.learning.shared.trainers.linear import linear_regression, logistic_regression
from wardian.learning.shared.trainers.network import perceptron
from wardian.learning.shared.trainers.statistics import statistics
from wardian.learning.shared.trainers.trained import Task, Trained
from wardian.learning.shared.trainers.trees import gradient_boosting, random_forest

FUNCTIONS: Final[Mapping[str, Callable[[Task], Trained]]] = {
    "logistic-regression": logistic_regression,
    "linear-regression": linear_regression,
    "random-forest": random_forest,
    "gradient-boosting": gradient_boosting,
    "perceptron": perceptron,
    "statistics": statistics,
}
"""As many as in `broker.jobs.trainers.TRAINERS`, and under the same names."""
