"""Finished trees without what they ask: the part of the model that is the coordinator's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.rows import one_length
from wardian.learning.vertical.trees.boosting import Ensemble, answer
from wardian.learning.vertical.trees.growth import LEAF
from wardian.learning.vertical.trees.messages import SIDES
from wardian.learning.vertical.trees.plan import MAX_DEPTH, Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """One tree, as `growth.Tree`, but for what its nodes ask.

    Attributes:
        question: (nodes,) int32, a place in all parties' answers in a row; -1: it is a leaf.
        left: (nodes,) int32.
        value: (nodes,) float64.
    """

    question: NDArray[Any]
    left: NDArray[Any]
    value: NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """What a record scores, once every party answered for it.

    Attributes:
        objective: what is predicted.
        base: (outputs,) float64.
        questions: how many each party answers, by its name, sorted.
        trees: tree t adds to output t modulo outputs.
    """

    objective: Objective
    base: NDArray[Any]
    questions: Mapping[str, int]
    trees: tuple[Branches, ...]

    def predict(self, contents: Mapping[str, RecordDict]) -> NDArray[Any]:
        """Return what the trees say of new records; see `boosting.answer`.

        Args:
            contents: what `TreeParty.answer` returned, of every party.

        Raises:
            FormatError: a party's answers are missing, are not as many as its questions, or they
                are about different numbers of records.
        """
        if set(contents) != set(self.questions):
            raise FormatError("prediction: the answers of each party of the model are needed")
        parts = {
            party: array_of(contents[party], SIDES, SIDES, dtype="bool", shape=(None, count))
            for party, count in self.questions.items()
        }
        rows = np.arange(one_length(parts))
        sides = np.concatenate(list(parts.values()), axis=1)  # (records, questions)
        scores = np.tile(self.base, (len(rows), 1))
        for place, tree in enumerate(self.trees):
            node = np.zeros(len(rows), np.int64)
            for _ in range(MAX_DEPTH):
                asked = tree.question[node]
                if (asked == LEAF).all():
                    break
                node = np.where(asked == LEAF, node, tree.left[node] + sides[rows, asked])
            scores[:, place % len(self.base)] += tree.value[node]
        return answer(self.objective, scores)


def divide(
    ensemble: Ensemble, columns: Mapping[str, int]
) -> tuple[Forest, dict[str, NDArray[Any]]]:
    """Return `ensemble` in its parts: what asks nothing, and each party's questions.

    Args:
        ensemble: over the columns of all parties, in a row.
        columns: how many columns each party has, in the order of that row.

    Returns:
        The forest, and of each party (questions, 2) int32: column, and highest range that goes
        left, sorted, each pair once.
    """
    splits, first = ensemble.splits(), 0
    parts = {}
    for party, count in columns.items():
        own = [(column - first, cut) for column, cut in splits if first <= column < first + count]
        parts[party] = np.array(own, np.int32).reshape(-1, 2)
        first += count
    place = {split: at for at, split in enumerate(splits)}  # sorted by column: party by party
    forest = Forest(
        objective=ensemble.objective,
        base=ensemble.base,
        questions={party: len(own) for party, own in parts.items()},
        trees=tuple(
            Branches(
                question=_questions(tree.column, tree.cut, place), left=tree.left, value=tree.value
            )
            for tree in ensemble.trees
        ),
    )
    return forest, parts


def _questions(
    columns: Sequence[int] | NDArray[Any],
    cuts: Sequence[int] | NDArray[Any],
    place: Mapping[tuple[int, int], int],
) -> NDArray[Any]:
    found = [
        LEAF if column == LEAF else place[int(column), int(cut)]
        for column, cut in zip(columns, cuts, strict=True)
    ]
    return np.array(found, np.int32)
