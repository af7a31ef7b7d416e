"""Regressions, carried: see `learning.vertical.linear`."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wardian._internal.vertical import Linear
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError
from wardian.learning.coordinator.stages.labels import LABELS, Learning, Whole
from wardian.learning.coordinator.stages.stage import Asking, World, spec
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.linear.coordinator import (
    EmbeddingsRegression,
    FeaturesRegression,
    LinearModel,
)
from wardian.learning.vertical.linear.messages import (
    CURVATURE,
    ERRORS,
    FEATURES,
    PARTIAL,
    WEIGHTS,
)
from wardian.learning.vertical.plans import linear_plan, noise_terms
from wardian.learning.vertical.script import Step

COMMON: Final = "common"
"""The settings that are the coordinator's part of a finished model."""
_TOLD: Final = "told"
"""What every party is told next, noised, sealed before."""
ERROR: Final = "error"
"""The metric that says how large the errors are, as they were told: with the noise in them."""
_NOISE: Final = b"wardian label noise of a run v1"


def linear_terms(world: World) -> Linear:
    """Return what the plan says of the regression."""
    found = world.plan.vertical
    if not isinstance(found, Linear):
        raise LocalProtocolError("the plan has another model")
    return found


def noise_seed(secret: Secret) -> Secret:
    """Return the seed of a run's noise: the same for as long as the run lasts."""
    return hkdf(secret, salt=b"", info=_NOISE)


class FeaturesStage(Whole):
    """Placement `features`: all columns come in, a party's coefficients go back to it."""

    columns, part = Step.FEATURES, Step.WEIGHTS

    @override
    def _restore(self) -> None:
        self._regression = FeaturesRegression(
            linear_plan(linear_terms(self._world)), parties=self._parties, labels_of=self._owner
        )

    @override
    def _take(self, party: str, content: RecordDict) -> None:
        if self._step is Step.FEATURES:
            shape = (len(self._labels), None)
            array_of(content, FEATURES, FEATURES, dtype="float64", shape=shape)
            self._regression.take(party, self._with_labels(party, content))

    @override
    def _learn(self) -> dict[str, NDArray[Any]]:
        model = self._regression.fit()
        self._world.kept.put(COMMON, intercept=model.intercept)
        parts = {party: self._regression.part(party) for party in self._parties}
        return {
            party: array_of(part, WEIGHTS, WEIGHTS, dtype="float64", shape=(None,))
            for party, part in parts.items()
        }


class EmbeddingsStage(Learning):
    """Placement `embeddings`: sums come in, noised errors go out, sealed before that."""

    @override
    def _begin(self) -> None:
        self._to(Step.START)
        self._restore()

    @override
    def _restore(self) -> None:
        terms, kept = linear_terms(self._world), self._world.kept
        plan = linear_plan(terms)
        noise = plan.noise(noise_terms(terms.noise), seed=noise_seed(self._world.secret))
        self._regression = EmbeddingsRegression(
            plan, noise, parties=self._parties, labels_of=self._owner
        )
        if self._step not in {Step.START, None}:
            state = {name: kept.records[name] for name in self._regression.STATE}
            self._regression.restore(RecordDict(state), self._labels)

    @override
    def _asking(self, step: Step) -> Asking:
        if step is Step.START:
            arrays = {CURVATURE: spec(CURVATURE, "float64", 1)}
            return self._ask(step, arrays=arrays, max_bytes=8)
        told = RecordDict(
            {
                name.removeprefix(f"{_TOLD}."): record
                for name, record in self._world.kept.records.items()
                if name.startswith(f"{_TOLD}.")
            }
        )
        metrics = {ERROR: _size(told.array_records[ERRORS][ERRORS])} if ERRORS in told else {}
        if step is Step.END:
            return self._ask(step, told, tells=True, metrics=metrics)
        rows = len(self._labels)
        return self._ask(
            step,
            told,
            arrays={PARTIAL: spec(PARTIAL, "float64", rows)},
            max_bytes=8 * rows,
            tells=ERRORS in told,
            metrics=metrics,
        )

    @override
    def _take(self, party: str, content: RecordDict) -> None:
        if self._step is Step.START:
            self._regression.start(party, self._with_labels(party, content))
        elif self._step is Step.SUMS:
            self._regression.take(party, content)

    @override
    def _advance(self) -> None:
        kept = self._world.kept
        if self._step is Step.END:
            kept.put(COMMON, intercept=self._regression.model().intercept)
            kept.drop(LABELS, *self._regression.STATE, *self._told())
            self._to(None)
            return
        first = self._step is Step.START
        told = self._regression.begin() if first else self._regression.errors()
        kept.drop(*self._told())
        kept.records.update({f"{_TOLD}.{name}": record for name, record in told.items()})
        kept.records.update(self._regression.state())
        self._to(Step.END if self._regression.over else Step.SUMS)

    def _told(self) -> list[str]:
        return [name for name in self._world.kept.records if name.startswith(f"{_TOLD}.")]


def _size(errors: NDArray[Any]) -> float:
    """Return the root of the mean square of `errors`."""
    return float(np.sqrt(np.mean(np.square(errors)))) if errors.size else 0.0


def linear_model(world: World) -> LinearModel:
    """Return the common part of the finished model."""
    return LinearModel(
        loss=linear_plan(linear_terms(world)).loss,
        intercept=float(world.kept.settings(COMMON)["intercept"]),
        parties=tuple(sorted(world.plan.parties)),
    )
