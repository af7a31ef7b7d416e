"""What the parties agreed to before trees are grown."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from wardian.errors import ConfigError

MAX_DEPTH: Final = 10
MAX_TREES: Final = 10_000
MAX_CLASSES: Final = 256


class Objective(StrEnum):
    """What is predicted: a number, the chance of a label 1, or the chance of each class."""

    SQUARED = "squared"
    LOGISTIC = "logistic"
    SOFTMAX = "softmax"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePlan:
    """The settings of XGBoost that have the same names there, or nearly.

    Attributes:
        objective: what is predicted.
        rounds: trees, or with `softmax` trees of each class.
        depth: of each tree, 1 to 10.
        rate: by which each tree's values are scaled, above 0, at most 1 (`learning_rate`).
        l2: how much values are shrunk, 0 or more (`reg_lambda`).
        least_gain: below which nothing is split, 0 or more (`gamma`).
        least_weight: sum of second derivatives on each side of a split, 0.001 or more
            (`min_child_weight`).
        classes: with `softmax`, 2 to 256; labels are 0 to `classes` - 1.
    """

    objective: Objective = Objective.LOGISTIC
    rounds: int = 100
    depth: int = 6
    rate: float = 0.3
    l2: float = 1.0
    least_gain: float = 0.0
    least_weight: float = 1.0
    classes: int = 0

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            ConfigError: see the attributes.
        """
        if not (0 < self.rate <= 1 and 0 <= self.l2 < math.inf):
            raise ConfigError("trees: `rate` or `l2` is out of range")
        if not (0 <= self.least_gain < math.inf and 1e-3 <= self.least_weight < math.inf):
            raise ConfigError("trees: `least_gain` or `least_weight` is out of range")
        softmax = self.objective is Objective.SOFTMAX
        if softmax != (self.classes != 0) or (softmax and not 2 <= self.classes <= MAX_CLASSES):
            raise ConfigError(f"trees: `classes` is 2 to {MAX_CLASSES} with softmax, else unset")
        trees = self.rounds * self.outputs
        if not (1 <= self.depth <= MAX_DEPTH and self.rounds >= 1 and trees <= MAX_TREES):
            raise ConfigError(f"trees: depth 1 to {MAX_DEPTH}, and 1 to {MAX_TREES} trees")

    @property
    def outputs(self) -> int:
        """Numbers predicted of a record: 1, or one for each class."""
        return max(self.classes, 1)
