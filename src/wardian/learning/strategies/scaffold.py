"""SCAFFOLD: parties whose data differ do not drift apart, because each corrects its gradients.

Each party keeps its control variate, which is what its gradients are like; the coordinator keeps
their mean and tells it. What a party adds to a gradient is the mean less its own; see `control` for
its side. Option II: the variate comes from the steps that were taken anyway. All parties count the
same, as in the paper. An answer carries the change of the variate as the array record "control".

A party has to know which of its variates went into the mean: an answer may come too late, or its
round not stand. So it is told, in the config as "control-round", the round of its newest answer
that counted, 0 for none.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", 2020.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import numpy as np
from typing_extensions import override

from wardian._internal.consortium import MAX_PARTIES
from wardian.errors import FormatError, JobFailed
from wardian.learning.arrays import Array, ArrayRecord
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.reduce import Floats, as_kind, mean_metrics, mean_of, reduce
from wardian.learning.replies import Block, Replies
from wardian.learning.strategies.demands import real, whole
from wardian.learning.strategies.fedavg import FedAvg
from wardian.learning.strategies.kept import beside, demand_kept, demand_like

CONTROL: Final = "control"
CONTROL_ROUND: Final = "control-round"
_COUNTED: Final = "counted"


class Scaffold(FedAvg):
    """SCAFFOLD, option II."""

    records: ClassVar[tuple[str, ...]] = ("arrays", CONTROL)

    def __init__(self, *, parties: int, lr: float = 1.0) -> None:
        """Correct the drift of `parties`.

        Args:
            parties: of the whole consortium, not of a cohort: the mean is over all of them.
            lr: by how much of the mean change the model moves, above 0.

        Raises:
            ConfigError: one is out of range.
        """
        self._parties = whole("parties", parties, least=1, most=MAX_PARTIES)
        self._lr = real("lr", lr, above=0)
        self._control: ArrayRecord | None = None
        self._counted: dict[str, int] = {}

    @override
    def configure_train(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        self._demand_known(parties)
        mean = beside(arrays, self._control)
        control = ArrayRecord({name: _like(array, name, mean) for name, array in arrays.items()})
        return {
            party: RecordDict(
                {
                    "arrays": arrays,
                    CONTROL: control,
                    "config": ConfigRecord({**config, CONTROL_ROUND: self._counted.get(party, 0)}),
                }
            )
            for party in parties
        }

    @override
    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        self._demand_known(replies.parties)
        cohort = len(replies.parties)
        evenly = [1] * cohort

        def reduction(block: Block) -> Floats:
            mean = mean_of(block.values, evenly)
            if block.values.dtype.kind != "f":
                return mean
            part = slice(block.start, block.start + mean.size)
            before = arrays[block.array].reshape(-1)[part].astype(np.float64)
            return before + self._lr * (mean - before)

        model = reduce(replies, "arrays", reduction)
        control = beside(arrays, self._control)
        for block in replies.blocks(CONTROL):
            if block.array not in control:
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                change = cohort / self._parties * mean_of(block.values, evenly)
                part = slice(block.start, block.start + change.size)
                moved = control[block.array].reshape(-1)[part]
                moved += change
            if not np.isfinite(moved).all():
                raise FormatError(f"{CONTROL} {block.array}: the sum is no finite number")
        self._control = ArrayRecord(control)
        self._counted |= dict.fromkeys(replies.parties, number)
        return model, mean_metrics(replies)

    @override
    def state(self) -> RecordDict:
        if self._control is None:
            return RecordDict()
        return RecordDict({CONTROL: self._control, _COUNTED: MetricRecord(self._counted)})

    @override
    def restore(self, state: RecordDict) -> None:
        if not state:
            self._control, self._counted = None, {}
            return
        demand_like(state, (CONTROL, _COUNTED))
        control, counted = demand_kept(state, CONTROL), state[_COUNTED]
        rounds = {n: each for n, each in counted.items() if isinstance(each, int) and each > 0}
        if not isinstance(counted, MetricRecord) or len(rounds) < len(counted):
            raise FormatError(f"strategy state: {_COUNTED} is of another kind")
        self._control, self._counted = control, rounds

    def _demand_known(self, parties: Sequence[str]) -> None:
        if len({*self._counted, *parties}) > self._parties:
            raise JobFailed(f"SCAFFOLD is set to {self._parties} parties, and there are more")


def _like(array: Array, name: str, mean: Mapping[str, Floats]) -> Array:
    """Return the variate of `name` in the kind of the model's `array`; whole numbers have none."""
    if name not in mean:
        return np.zeros_like(array)
    return as_kind(name, mean[name], array.dtype)
