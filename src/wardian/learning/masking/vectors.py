"""A round's update as the vector that is masked: what a party changed, and what it measured.

    change of array 1 ... change of array n   metric 1 ... metric m   records

each rounded to a whole number of steps and, but for the last, times the party's records. So the sum
gives the weighted mean of everything, and nothing of a single party.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from wardian._internal import wire
from wardian._internal.consortium import Consortium, MaskingTerms
from wardian.crypto.masks import Ring
from wardian.errors import ConfigError, FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.chain import digest
from wardian.learning.masking.fixed_point import FixedPoint
from wardian.learning.masking.plan import MaskingPlan
from wardian.learning.records import MetricRecord, RecordDict
from wardian.learning.reduce import EXAMPLES, as_kind

ARRAYS: Final = "arrays"
BOUND_LABEL: Final = "wardian masked question v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorForm:
    """How updates of one model become vectors, the same for coordinator and parties.

    Attributes:
        model: the round's.
        metrics: whose means are wanted, in this order.
        codec: the numbers' form.
    """

    model: ArrayRecord
    metrics: tuple[str, ...]
    codec: FixedPoint

    @classmethod
    def of(cls, plan: Consortium, model: ArrayRecord) -> "VectorForm":
        """Return the form that `plan` states for `model`.

        Raises:
            FormatError: an array holds whole numbers, which have no place in a mean of changes.
        """
        strange = [name for name, array in model.items() if array.dtype.kind != "f"]
        if strange:
            raise FormatError(f"masking: {strange[0]} holds no floating-point numbers")
        terms = _terms(plan)
        return cls(model=model, metrics=terms.metrics, codec=codec_of(plan))

    @property
    def elements(self) -> int:
        """Length of the vector."""
        return sum(array.size for array in self.model.values()) + len(self.metrics) + 1

    def encode(self, update: ArrayRecord, metrics: MetricRecord) -> Ring:
        """Return the vector, (elements,), of what a party answers in the clear.

        Raises:
            FormatError: it does not fit the model, a change or a metric is beyond the bound or no
                number, or there are too many records.
        """
        if not self.model.fits(update):
            raise FormatError("masking: the update has other arrays than the model")
        changes = [
            update[name].reshape(-1).astype(np.float64) - array.reshape(-1).astype(np.float64)
            for name, array in self.model.items()
        ]
        measured = [metrics.get(name) for name in self.metrics]
        if not all(isinstance(each, int | float) for each in measured):
            raise FormatError(f"masking: the plan wants the metrics {', '.join(self.metrics)}")
        values = np.concatenate([*changes, np.array(measured, np.float64)])
        records = metrics.get(EXAMPLES)
        if type(records) is not int:
            raise FormatError(f"masking: {EXAMPLES} is a whole number, 1 or more")
        return self.codec.encode(values, weight=records)

    def decode(self, total: Ring) -> tuple[ArrayRecord, MetricRecord]:
        """Return what the cohort answered, taken together: the mean model, and the mean metrics.

        Args:
            total: (elements,), the sum of vectors.

        Raises:
            FormatError: no parties within the bounds have this sum, or the model cannot hold it.
        """
        mean, records = self.codec.decode(total)
        arrays, start = {}, 0
        for name, array in self.model.items():
            change = mean[start : start + array.size]
            moved = array.reshape(-1).astype(np.float64) + change
            arrays[name] = as_kind(name, moved, array.dtype).reshape(array.shape)
            start += array.size
        measured = dict(zip(self.metrics, mean[start:].tolist(), strict=True))
        return ArrayRecord(arrays), MetricRecord({**measured, EXAMPLES: records})


def codec_of(plan: Consortium) -> FixedPoint:
    """Return the form of the plan's numbers; ConfigError where a sum could wrap."""
    terms = _terms(plan)
    return FixedPoint(
        fraction_bits=terms.fraction_bits,
        bound=terms.bound,
        max_weight=terms.max_examples,
        parties=len(plan.parties),
    )


def masking_plan(
    plan: Consortium, form: VectorForm, *, run: bytes, told: RecordDict
) -> MaskingPlan:
    """Return what a masked round is about.

    It is bound to all that a party was told. A coordinator that tells one party another model, so
    that the others' updates say nothing, has keys whose signatures the parties do not accept
    (Pasquini, Francati and Ateniese, *Eluding Secure Aggregation*, CCS 2022).

    Args:
        plan: what the parties agreed to.
        form: of the vectors.
        run: 32 bytes that name the run.
        told: model and settings of the question.

    Raises:
        ConfigError: too few or too many parties, or the quorum is not above two thirds of them.
    """
    bound = hashlib.sha256(wire.fields(BOUND_LABEL, run, digest(told))).digest()
    return MaskingPlan(
        run=bound,
        parties={name: bytes.fromhex(party.key) for name, party in plan.parties.items()},
        threshold=plan.run.quorum,
        elements=form.elements,
    )


def verify_masking(plan: Consortium, *, records: tuple[str, ...]) -> None:
    """Return if a run of `plan` can be masked, with a strategy that takes these `records`.

    Raises:
        ConfigError: names the setting.
    """
    if records != (ARRAYS,):
        named = (plan.strategy or {}).get("name")
        raise ConfigError(
            f"`strategy.name` is {named!r}, which takes more from parties than "
            "their arrays, and `masking` sums those alone: leave out one of the two"
        )
    if plan.run.sample != 1.0:
        raise ConfigError("`masking` asks all parties in every round: leave out `run.sample`")
    if plan.run.evaluate_every:
        raise ConfigError(
            "`masking` hides what a single party measures: set `run.evaluate_every = 0`, and name "
            "what is measured in training in `masking.metrics`"
        )
    empty = VectorForm.of(plan, ArrayRecord())
    masking_plan(plan, empty, run=bytes(32), told=RecordDict())


def _terms(plan: Consortium) -> MaskingTerms:
    if plan.masking is None:
        raise ConfigError("the plan has no `masking`")
    return plan.masking
