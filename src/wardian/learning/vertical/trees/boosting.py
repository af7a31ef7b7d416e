"""Boosting: each tree is grown on the derivatives of what the trees before it leave. Pure."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.vertical.chances import chance, chances
from wardian.learning.vertical.rows import kinds_of
from wardian.learning.vertical.trees.growth import LEAF, Grower, Tree
from wardian.learning.vertical.trees.plan import Objective, TreePlan

_LEAST_BEND: Final = 1e-16
"""Of a record that is predicted with certainty (as in XGBoost)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Trees over the columns of all parties.

    Attributes:
        objective: what is predicted.
        base: (outputs,) float64, the scores that no tree has added to.
        trees: in the order in which they were grown; tree t adds to output t modulo outputs.
    """

    objective: Objective
    base: NDArray[Any]
    trees: tuple[Tree, ...]

    def splits(self) -> list[tuple[int, int]]:
        """Return each (column, cut) that some node has, once, sorted."""
        return sorted(
            {
                (int(column), int(cut))
                for tree in self.trees
                for column, cut in zip(tree.column, tree.cut, strict=True)
                if column != LEAF
            }
        )


def boost(indices: NDArray[Any], labels: NDArray[Any], plan: TreePlan) -> Ensemble:
    """Return the trees of `plan` for these records.

    Args:
        indices: (records, columns) uint8, the range of each value; one column or more.
        labels: (records,) float64.
        plan: what to grow.

    Raises:
        FormatError: the labels are not what the objective needs.
    """
    target = _target(labels, plan)
    base = _base(target, plan)
    scores = np.tile(base, (len(labels), 1))  # (records, outputs)
    grower = Grower(indices, plan)
    trees = []
    for _ in range(plan.rounds):
        slopes, bends = _derivatives(scores, target, plan.objective)
        for output in range(plan.outputs):
            tree, added = grower.grow(slopes[:, output], bends[:, output])
            scores[:, output] += added
            trees.append(tree)
    return Ensemble(objective=plan.objective, base=base, trees=tuple(trees))


def answer(objective: Objective, scores: NDArray[Any]) -> NDArray[Any]:
    """Return what `scores`, (records, outputs), stand for.

    Returns:
        (records,): the number, or the chance of a label 1; with `softmax` (records, outputs): the
        chance of each class.
    """
    if objective is Objective.SOFTMAX:
        return chances(scores)
    return chance(scores[:, 0]) if objective is Objective.LOGISTIC else scores[:, 0]


def _target(labels: NDArray[Any], plan: TreePlan) -> NDArray[Any]:
    """Return what the outputs should be, (records, outputs)."""
    if plan.objective is Objective.SQUARED:
        return labels[:, None]
    if plan.objective is Objective.LOGISTIC:
        if kinds_of(labels) != {0.0, 1.0}:
            raise FormatError("labels: 0 and 1 are needed, both, and nothing else")
        return labels[:, None]
    if not kinds_of(labels) <= set(range(plan.classes)):
        raise FormatError(f"labels: each is a class, 0 to {plan.classes - 1}")
    return np.eye(plan.classes)[labels.astype(np.int64)]


def _base(target: NDArray[Any], plan: TreePlan) -> NDArray[Any]:
    """Return the best scores that are the same for all records; of classes zeros."""
    if plan.objective is Objective.SOFTMAX:
        return np.zeros(plan.classes)
    mean = target.mean(axis=0)
    logistic = plan.objective is Objective.LOGISTIC
    base: NDArray[Any] = np.log(mean / (1 - mean)) if logistic else mean
    return base


def _derivatives(
    scores: NDArray[Any], target: NDArray[Any], objective: Objective
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the first and the second derivatives of the loss, (records, outputs) each."""
    if objective is Objective.SQUARED:
        return scores - target, np.ones_like(scores)
    if objective is Objective.LOGISTIC:
        found = chance(scores)
        bends = found * (1 - found)
    else:
        found = chances(scores)
        bends = 2 * found * (1 - found)  # as in XGBoost: an upper bound of the whole matrix
    return found - target, np.maximum(bends, _LEAST_BEND)
