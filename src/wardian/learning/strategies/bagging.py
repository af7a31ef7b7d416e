"""Bagging: each party boosts a few trees on top of the joint model, which takes them all.

What Flower's users know as `FedXgbBagging`. Nothing of XGBoost's comes near the coordinator: an
answer is arrays of numbers (`boosting.forest`), which it verifies whole and appends, party by party
in the order of their names.

The trees of a round are boosted on the same model, and all of them count in full: the step of a
round is as many times a party's learning rate as there are parties in it.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from typing_extensions import override

from wardian.errors import ConfigError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.forest import (
    Bounds,
    append,
    tree_specs,
    verify_forest,
    verify_trees,
)
from wardian.learning.messages import ArraySpec
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.reduce import mean_metrics
from wardian.learning.replies import Replies
from wardian.learning.strategies.demands import real, whole
from wardian.learning.strategies.fedavg import FedAvg

TREES: Final = "trees"
"""The array record of an answer."""
BAGGING_TREES: Final = "bagging-trees"
BAGGING_DEPTH: Final = "bagging-depth"
MAX_COLUMNS: Final = 1_000_000
MAX_OUTPUTS: Final = 1000
MAX_TREES: Final = 1000
MAX_DEPTH: Final = 16
MAX_LEAF: Final = 1e9
MAX_ANSWER_NODES: Final = 2**20


class Bagging(FedAvg):
    """Gradient boosting whose trees are all parties'. Each is looked at, so that none is masked."""

    records: ClassVar[tuple[str, ...]] = (TREES,)
    whole: ClassVar[bool] = True
    robust: ClassVar[bool] = True

    def __init__(
        self,
        *,
        columns: int,
        outputs: int = 1,
        trees: int = 1,
        depth: int = 6,
        leaf: float = 100.0,
    ) -> None:
        """Take trees within these bounds.

        Args:
            columns: of a record, 1 to 1,000,000, the same at every party.
            outputs: of the model, 1 to 1000: the classes, or 1 of two classes, or of a number.
            trees: of an answer for each output, at most, 1 to 1000; "bagging-trees" in the config.
            depth: of a tree, at most, 1 to 16; "bagging-depth" in the config.
            leaf: the largest that a leaf adds to an output or takes away, above 0, below 1e9.

        Raises:
            ConfigError: one is out of range, or an answer could have more than 2**20 nodes.
        """
        self._trees = whole("trees", trees, least=1, most=MAX_TREES)
        self._bounds = Bounds(
            columns=whole("columns", columns, least=1, most=MAX_COLUMNS),
            outputs=whole("outputs", outputs, least=1, most=MAX_OUTPUTS),
            depth=whole("depth", depth, least=1, most=MAX_DEPTH),
            leaf=real("leaf", leaf, above=0, below=MAX_LEAF),
        )
        if self._most_trees * self._bounds.tree_nodes > MAX_ANSWER_NODES:
            raise ConfigError(
                f"strategy: trees, outputs, depth: an answer has at most {MAX_ANSWER_NODES} nodes"
            )

    @property
    def _most_trees(self) -> int:
        return self._trees * self._bounds.outputs

    @override
    def wanted(self, model: ArrayRecord) -> tuple[ArraySpec, ...]:
        return tree_specs(self._bounds, trees=self._most_trees)

    @override
    def demand_model(self, model: ArrayRecord) -> None:
        verify_forest(model, self._bounds)

    @override
    def demand_answer(self, arrays: Mapping[str, ArrayRecord]) -> None:
        verify_trees(arrays[TREES], self._bounds)

    @override
    def configure_train(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        told = {BAGGING_TREES: self._trees, BAGGING_DEPTH: self._bounds.depth}
        return super().configure_train(number, arrays, ConfigRecord({**config, **told}), parties)

    @override
    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        parts = (replies.whole(party, TREES) for party in replies.parties)
        return append(arrays, parts), mean_metrics(replies)
