"""The table of trainers: the name that a plan says, and the function that runs."""

from collections.abc import Callable, Mapping
from typing import Final

from wardian.learning.shared.trainers.dense import dense_network
from wardian.learning.shared.trainers.linear import linear_regression, logistic_regression
from wardian.learning.shared.trainers.means import k_means
from wardian.learning.shared.trainers.network import perceptron
from wardian.learning.shared.trainers.statistics import statistics
from wardian.learning.shared.trainers.trained import Task, Trained
from wardian.learning.shared.trainers.trees import gradient_boosting, random_forest
from wardian.learning.shared.trainers.xgboosted import xgboost

FUNCTIONS: Final[Mapping[str, Callable[[Task], Trained]]] = {
    "logistic-regression": logistic_regression,
    "linear-regression": linear_regression,
    "random-forest": random_forest,
    "gradient-boosting": gradient_boosting,
    "perceptron": perceptron,
    "k-means": k_means,
    "dense-network": dense_network,
    "xgboost": xgboost,
    "statistics": statistics,
}
"""As many as in `broker.jobs.trainers.TRAINERS`, and under the same names."""

STREAMING: Final = frozenset(
    {
        "logistic-regression",
        "linear-regression",
        "k-means",
        "xgboost",
        "dense-network",
        "statistics",
    }
)
"""Those that go through their rows batch by batch, and need not have them in memory."""
