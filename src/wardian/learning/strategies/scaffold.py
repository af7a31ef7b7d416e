"""SCAFFOLD: parties whose data differ do not drift apart, because each corrects its gradients.

Each party keeps its control variate, which is what its gradients are like; the coordinator keeps
their mean and tells it. What a party adds to a gradient is the mean less its own; see `control` for
its side. Option II: the variate comes from the steps that were taken anyway. An answer carries the
change of the variate as the array record "control".

Parties count by their records, in the model and in the mean of the variates, so that what they
learn is what one would learn of all records in one place: the paper's functions f_i, scaled by
N p_i. With as many records each it is the paper's algorithm. What a party said of its records when
it first counted holds for its variate for good, so that the mean stays one.

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
from wardian.learning.reduce import Floats, as_kind, examples, mean_metrics, mean_of, reduce
from wardian.learning.replies import Block, Replies
from wardian.learning.strategies.demands import real, whole
from wardian.learning.strategies.fedavg import FedAvg
from wardian.learning.strategies.kept import beside, demand_kept, demand_like

CONTROL: Final = "control"
CONTROL_ROUND: Final = "control-round"
_COUNTED: Final = "counted"
_RECORDS: Final = "records"


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
        self._total: ArrayRecord | None = None  # of all variates, each by its records
        self._counted: dict[str, int] = {}  # the newest round of each party
        self._records: dict[str, int] = {}  # of each party

    @override
    def configure_train(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        self._demand_known(parties)
        mean = beside(arrays, self._total)
        if self._records:  # who never counted is taken to have as many as the others
            everybody = self._parties / len(self._records) * sum(self._records.values())
            mean = {name: each / everybody for name, each in mean.items()}
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
        counts = examples(replies)
        records = {**dict(zip(replies.parties, counts, strict=True)), **self._records}

        def reduction(block: Block) -> Floats:
            mean = mean_of(block.values, counts)
            if block.values.dtype.kind != "f":
                return mean
            part = slice(block.start, block.start + mean.size)
            before = arrays[block.array].reshape(-1)[part].astype(np.float64)
            return before + self._lr * (mean - before)

        model, metrics = reduce(replies, "arrays", reduction), mean_metrics(replies)
        total = beside(arrays, self._total)
        for block in replies.blocks(CONTROL):
            if block.array in total:
                moved = total[block.array].reshape(-1)[block.start :][: block.values.shape[1]]
                with np.errstate(over="ignore", invalid="ignore"):
                    for party, change in zip(replies.parties, block.values, strict=True):
                        moved += records[party] * change.astype(np.float64)
                if not np.isfinite(moved).all():
                    raise FormatError(f"{CONTROL} {block.array}: the sum is no finite number")
        self._total, self._records = ArrayRecord(total), records
        self._counted |= dict.fromkeys(replies.parties, number)
        return model, metrics

    @override
    def state(self) -> RecordDict:
        if self._total is None:
            return RecordDict()
        counts = {_COUNTED: MetricRecord(self._counted), _RECORDS: MetricRecord(self._records)}
        return RecordDict({CONTROL: self._total, **counts})

    @override
    def restore(self, state: RecordDict) -> None:
        total, counted, records = None, {}, {}
        if state:
            demand_like(state, (CONTROL, _COUNTED, _RECORDS))
            total = demand_kept(state, CONTROL)
            counted, records = _counts(state, _COUNTED), _counts(state, _RECORDS)
            if set(counted) != set(records):
                raise FormatError("strategy state: of other parties")
        self._total, self._counted, self._records = total, counted, records

    def _demand_known(self, parties: Sequence[str]) -> None:
        if len({*self._counted, *parties}) > self._parties:
            raise JobFailed(f"SCAFFOLD is set to {self._parties} parties, and there are more")


def _like(array: Array, name: str, mean: Mapping[str, Floats]) -> Array:
    """Return the mean variate of `name` in the kind of `array`; whole numbers have none."""
    if name not in mean:
        return np.zeros_like(array)
    return as_kind(name, mean[name], array.dtype)


def _counts(state: RecordDict, name: str) -> dict[str, int]:
    record = state[name]
    if not isinstance(record, MetricRecord):
        raise FormatError(f"strategy state: {name} is of another kind")
    found = {party: each for party, each in record.items() if isinstance(each, int) and each > 0}
    if len(found) < len(record):
        raise FormatError(f"strategy state: {name} is of another kind")
    return found
