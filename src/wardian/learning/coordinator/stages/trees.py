"""Boosted trees, carried: see `learning.vertical.trees`."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wardian._internal.vertical import Trees
from wardian.errors import LocalProtocolError
from wardian.learning.coordinator.stages.labels import Whole
from wardian.learning.coordinator.stages.stage import World
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.plans import tree_plan
from wardian.learning.vertical.script import Step
from wardian.learning.vertical.trees.coordinator import BinsBoosting
from wardian.learning.vertical.trees.forest import Branches, Forest
from wardian.learning.vertical.trees.messages import BINS, SPLITS

_FOREST: Final = "forest"
_QUESTIONS: Final = "questions"


def tree_terms(world: World) -> Trees:
    """Return what the plan says of the trees."""
    found = world.plan.vertical
    if not isinstance(found, Trees):
        raise LocalProtocolError("the plan has another model")
    return found


class BinsStage(Whole):
    """Placement `bins`: ranges come in, a party's questions go back to it."""

    columns, part = Step.BINS, Step.SPLITS

    @override
    def _restore(self) -> None:
        self._boosting = BinsBoosting(
            tree_plan(tree_terms(self._world)), parties=self._parties, labels_of=self._owner
        )

    @override
    def _take(self, party: str, content: RecordDict) -> None:
        if self._step is Step.BINS:
            array_of(content, BINS, BINS, dtype="uint8", shape=(len(self._labels), None))
            self._boosting.take(party, self._with_labels(party, content))

    @override
    def _learn(self) -> dict[str, NDArray[Any]]:
        _keep(self._world, self._boosting.grow())
        parts = {party: self._boosting.part(party) for party in self._parties}
        return {
            party: array_of(part, SPLITS, SPLITS, dtype="int32", shape=(None, 2))
            for party, part in parts.items()
        }


def _keep(world: World, forest: Forest) -> None:
    """Keep `forest`: its trees in a row, and where each ends."""
    trees = forest.trees
    arrays = {
        name: np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("question", "left", "value")
    }
    ends = np.cumsum([len(tree.left) for tree in trees])
    world.kept.put_arrays(_FOREST, {**arrays, "ends": ends, "base": forest.base})
    world.kept.put(_QUESTIONS, **dict(forest.questions))


def forest(world: World) -> Forest:
    """Return the common part of the finished model."""
    found = world.kept.arrays(_FOREST)
    ends = found["ends"][:-1]
    parts = (np.split(found[name], ends) for name in ("question", "left", "value"))
    return Forest(
        objective=tree_plan(tree_terms(world)).objective,
        base=found["base"],
        questions=dict(world.kept.settings(_QUESTIONS)),
        trees=tuple(
            Branches(question=question, left=left, value=value)
            for question, left, value in zip(*parts, strict=True)
        ),
    )
