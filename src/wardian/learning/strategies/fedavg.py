"""Federated averaging: the next model is the mean of the parties' models, weighted by records.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017.
"""

from collections.abc import Mapping, Sequence

from typing_extensions import override

from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.reduce import examples, mean_metrics, weighted_mean
from wardian.learning.replies import Replies
from wardian.learning.strategies.strategy import Strategy


class FedAvg(Strategy):
    """The weighted mean. A party that claims many records weighs as much: it is believed."""

    @override
    def configure_train(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        return dict.fromkeys(parties, RecordDict({"arrays": arrays, "config": config}))

    @override
    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        return weighted_mean(replies, "arrays", examples(replies)), mean_metrics(replies)

    @override
    def configure_evaluate(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        return dict.fromkeys(parties, RecordDict({"arrays": arrays, "config": config}))

    @override
    def aggregate_evaluate(self, number: int, replies: Replies) -> MetricRecord:
        return mean_metrics(replies)
