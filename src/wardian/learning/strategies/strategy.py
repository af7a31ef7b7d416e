"""What a strategy is: what each party is asked in a round, and what becomes of the answers.

The shape is that of Flower's strategies. One difference: answers are `Replies`, gone through in
blocks, so that ten updates of 400 MB need not be in memory at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from wardian.learning.arrays import ArrayRecord
from wardian.learning.content import array_specs
from wardian.learning.messages import ArraySpec
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.replies import Replies


class Strategy(ABC):
    """Makes the next model of a round's answers. Its own state is `state`, and nothing else."""

    records: ClassVar[tuple[str, ...]] = ("arrays",)
    """The array records of an answer; each has the arrays that `wanted` says."""
    whole: ClassVar[bool] = False
    """Whether it verifies what comes, whole (`demand_model`, `demand_answer`); an answer may then
    be shorter than `wanted`."""
    robust: ClassVar[bool] = False
    """Whether it looks at single updates, so that masked ones are of no use to it."""

    def wanted(self, model: ArrayRecord) -> tuple[ArraySpec, ...]:
        """Return the arrays of each array record of an answer: those of `model`, exactly.

        Where `whole` holds, the first dimension of an array is a bound: it may be shorter.
        """
        return array_specs(model)

    def demand_model(self, model: ArrayRecord) -> None:  # noqa: B027 (most take any)
        """Return if a run can begin with `model`, a party's; asked where `whole` holds.

        Raises:
            FormatError: it cannot.
        """

    def demand_answer(self, arrays: Mapping[str, ArrayRecord]) -> None:  # noqa: B027 (as above)
        """Return if the array records of an answer are welcome; asked where `whole` holds.

        Raises:
            FormatError: they are not: their party does not count in this round.
        """

    @abstractmethod
    def configure_train(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        """Return what each of `parties` is told in round `number`: "arrays", "config", or more."""

    @abstractmethod
    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Return the model after round `number`, and what the parties measured, taken together.

        The same replies give the same model, bit for bit, whatever came in which order.

        Args:
            number: from 1.
            arrays: the model before.
            replies: of the cohort: each has `records`, finite numbers, and `num-examples`.

        Raises:
            FormatError: no model can be made of them.
        """

    @abstractmethod
    def configure_evaluate(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        """Return what each of `parties` is told that evaluates the model; empty: nobody does."""

    @abstractmethod
    def aggregate_evaluate(self, number: int, replies: Replies) -> MetricRecord:
        """Return what the parties measured, taken together."""

    def state(self) -> RecordDict:
        """Return all that the strategy keeps from round to round."""
        return RecordDict()

    def restore(self, state: RecordDict) -> None:  # noqa: B027 (most have none)
        """Go on from `state`.

        Raises:
            FormatError: it is none of this strategy's.
        """
