"""What a job may run: a closed table. A plan names an entry of it and never brings code.

A trainer has exactly these parameters. What a plan does not set has its default, and the plan's
canonical form says so; so the digest that evidence binds covers every one of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeAlias

import msgspec

ParameterName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9_]{0,63}\Z")]
Scalar: TypeAlias = bool | int | float | Annotated[str, msgspec.Meta(max_length=256)]
LEAST_ROWS: Final = "min_leaf_rows"
"""The parameter of trees: how many rows stand behind a leaf, a smallest cohort or more."""
LARGEST: Final = 2**53
"""Whole numbers up to here are the same in every format that a plan travels in."""


RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "batch": (1, 65_536),
    "bins": (2, 4096),
    "clusters": (1, 1024),
    "depth": (1, 64),
    "epochs": (1, 10_000),
    "hidden": (1, 4096),
    "l2": (0, 1e9),
    "largest": (1e-9, 1e9),
    "layers": (1, 8),
    "learning_rate": (1e-9, 10),
    "max_iterations": (1, 10_000),
    "min_leaf_rows": (1, 2**31),
    "trees": (1, 10_000),
}
"""Of parameters that are numbers, by name: in every trainer that says nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """One entry.

    Attributes:
        learns: whether a model comes out; else only aggregates do.
        private: whether it can add the noise that an epsilon asks for.
        parameters: by name, each with its default, whose type is the parameter's.
        labelled: whether it needs a label.
        classes: whether that is of classes, and no number.
        missing: whether rows may lack a value.
        narrower: ranges of parameters that are not those of `RANGES`.
    """

    learns: bool
    private: bool
    parameters: Mapping[str, Scalar]
    labelled: bool = True
    classes: bool = True
    missing: bool = False
    narrower: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def grows(self) -> bool:
        """Whether it grows trees: it splits rows, and takes no sums of columns."""
        return LEAST_ROWS in self.parameters

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Of each parameter that is a number, the least and the largest that its code takes."""
        whole = {**RANGES, **self.narrower}
        return {name: whole[name] for name in self.parameters if name in whole}


TRAINERS: Final[Mapping[str, Trainer]] = {
    "logistic-regression": Trainer(
        learns=True, private=True, parameters={"l2": 1.0, "largest": 1.0, "max_iterations": 100}
    ),
    "linear-regression": Trainer(learns=True, private=False, classes=False, parameters={"l2": 1.0}),
    "random-forest": Trainer(
        learns=True,
        private=False,
        missing=True,
        parameters={"trees": 100, "depth": 10, "min_leaf_rows": 20},
    ),
    "gradient-boosting": Trainer(
        learns=True,
        private=False,
        missing=True,
        parameters={"trees": 100, "depth": 6, "learning_rate": 0.3, "l2": 1.0, "min_leaf_rows": 20},
    ),
    "perceptron": Trainer(
        learns=True,
        private=False,
        parameters={"hidden": 64, "epochs": 20, "batch": 64, "learning_rate": 0.01},
    ),
    "dense-network": Trainer(
        learns=True,
        private=False,
        parameters={"hidden": 64, "layers": 2, "epochs": 20, "batch": 256, "learning_rate": 0.001},
    ),
    "k-means": Trainer(
        learns=True,
        private=False,
        labelled=False,
        classes=False,
        parameters={"clusters": 8, "max_iterations": 100},
    ),
    "xgboost": Trainer(
        learns=True,
        private=False,
        missing=True,
        parameters={
            "trees": 100,
            "depth": 6,
            "learning_rate": 0.3,
            "l2": 1.0,
            "min_leaf_rows": 20,
            "bins": 256,
        },
        narrower={"depth": (1, 16), "learning_rate": (1e-9, 1)},
    ),
    "statistics": Trainer(
        learns=False,
        private=True,
        labelled=False,
        classes=False,
        missing=True,
        parameters={"by": "", "largest": 1.0},
    ),
}
"""`statistics` counts rows, and gives mean and standard deviation of each column, of all rows or
of each group of the column `by`. `largest` counts where noise is added: beyond it, and below its
negative, values are cut off. The code of each stands in `wardian.learning.shared.trainers`."""


def settled(algorithm: str, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return every parameter of `algorithm`: as `given`, else its default.

    Args:
        algorithm: one of `TRAINERS`.
        given: a whole number will do where a parameter is a fraction.

    Raises:
        ValueError: no such trainer, no such parameter of it, a value of another type, or one that
            the trainer has no use for.
    """
    trainer = TRAINERS.get(algorithm)
    if trainer is None:
        raise ValueError(f"`algorithm` is none of {', '.join(sorted(TRAINERS))}")
    if unknown := sorted(given.keys() - trainer.parameters.keys()):
        raise ValueError(f"{algorithm} has no parameter `{unknown[0]}`")
    found = {
        name: _typed(name, given.get(name, default), like=default)
        for name, default in sorted(trainer.parameters.items())
    }
    for name, (least, largest) in trainer.ranges.items():
        if not least <= float(found[name]) <= largest:
            raise ValueError(f"parameter `{name}` is between {least:g} and {largest:g}")
    return found


def is_number(value: float) -> bool:
    """Return whether `value` is finite, and of a size that keeps its value in transit."""
    return math.isfinite(value) and abs(value) <= LARGEST


def _typed(name: str, value: Scalar, *, like: Scalar) -> Scalar:
    if isinstance(like, float) and type(value) is int and is_number(value):
        value = float(value)
    if type(value) is not type(like) or not (isinstance(value, bool | str) or is_number(value)):
        raise ValueError(f"parameter `{name}` is expected to be `{type(like).__name__}`")
    return value
