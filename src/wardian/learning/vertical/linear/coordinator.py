"""The coordinator's side of a regression: the labels, the sums, and for `features` all columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError, LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.received import array_of
from wardian.learning.records import ConfigRecord, RecordDict
from wardian.learning.vertical.linear.descent import Head, LinearPlan, Loss, fit, predicted
from wardian.learning.vertical.linear.messages import (
    CURVATURE,
    ERRORS,
    FEATURES,
    L2,
    LABELS,
    PARTIAL,
    STEEPNESS,
    WEIGHTS,
)
from wardian.learning.vertical.noise import Protection
from wardian.learning.vertical.rows import Gathered, one_length


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearModel:
    """The part of a finished model that is the coordinator's.

    Attributes:
        loss: which regression.
        intercept: beside the parties' coefficients.
        parties: who has the others, sorted.
    """

    loss: Loss
    intercept: float
    parties: tuple[str, ...]

    def predict(self, contents: Mapping[str, RecordDict]) -> NDArray[Any]:
        """Return what the model says of new records, (records,): a chance of 1, or the number.

        Args:
            contents: what `LinearParty.answer` returned, of every party.

        Raises:
            FormatError: a party's part is missing, or they have different numbers of records.
        """
        if set(contents) != set(self.parties):
            raise FormatError("prediction: a part of each party of the model is needed")
        parts = {party: _numbers(contents[party], PARTIAL) for party in self.parties}
        sums = np.full(one_length(parts), self.intercept)
        return predicted(self.loss, sum(parts.values(), start=sums))


class FeaturesRegression:
    """Placement `features`: all columns come in, the coefficients of its own go to a party."""

    def __init__(self, plan: LinearPlan, *, parties: Sequence[str], labels_of: str) -> None:
        """Fit `plan` to the columns of `parties` and the labels of the party `labels_of`."""
        self._plan, self._labels_of = plan, labels_of
        self._features: Gathered[NDArray[Any]] = Gathered(parties)
        self._labels: NDArray[Any] | None = None
        self._weights: dict[str, NDArray[Any]] = {}

    def take(self, party: str, content: RecordDict) -> None:
        """Take in what `LinearParty.features` returned.

        Raises:
            FormatError: the columns are not numbers, or the labels are missing.
            PolicyDenied: `party` takes no part.
        """
        if self._features.wants(party):
            shape = (None, None)
            found = array_of(content, FEATURES, FEATURES, dtype="float64", shape=shape)
            if party == self._labels_of:
                self._labels = _numbers(content, LABELS)
            self._features.add(party, found)

    def fit(self) -> LinearModel:
        """Return the finished model's common part.

        Raises:
            FormatError: the numbers of records differ, or the labels are not what the loss needs.
            LocalProtocolError: a party's columns are missing yet.
        """
        blocks = self._features.all()
        labels = _known(self._labels)
        one_length({**blocks, "labels": labels})
        weights, head = fit(list(blocks.values()), labels, self._plan)
        self._weights = dict(zip(blocks, weights, strict=True))
        return LinearModel(
            loss=self._plan.loss, intercept=head.intercept, parties=self._features.parties
        )

    def part(self, party: str) -> RecordDict:
        """Return the coefficients of `party`, all that it is ever told."""
        return RecordDict({WEIGHTS: ArrayRecord({WEIGHTS: self._weights[party]})})


class EmbeddingsRegression:
    """Placement `embeddings`: partial sums come in, noised errors go out.

    Every party gets the same errors, so that parties who compare theirs learn no more than one.
    The intercept, too, moves by the noised errors: no other trace of the labels leaves.
    """

    def __init__(
        self, plan: LinearPlan, protection: Protection, *, parties: Sequence[str], labels_of: str
    ) -> None:
        """Fit `plan` together with `parties`, of whom `labels_of` has the labels.

        Args:
            plan: what to fit, in how many rounds.
            protection: of the labels: `plan.noise`.
            parties: by name.
            labels_of: one of them.
        """
        self._plan, self._protection, self._labels_of = plan, protection, labels_of
        self._curvatures: Gathered[float] = Gathered(parties)
        self._partials: Gathered[NDArray[Any]] = Gathered(parties)
        self._labels: NDArray[Any] | None = None
        self._begun: Head | None = None
        self._steepness = 0.0

    def start(self, party: str, content: RecordDict) -> None:
        """Take in what `LinearParty.start` returned.

        Raises:
            FormatError: it is not that, or the labels are missing.
            PolicyDenied: `party` takes no part.
        """
        if self._curvatures.wants(party):
            found = array_of(content, CURVATURE, CURVATURE, dtype="float64", shape=(1,))
            if found[0] < 0:
                raise FormatError("curvature: a number of 0 or more")
            if party == self._labels_of:
                self._labels = _numbers(content, LABELS)
            self._curvatures.add(party, float(found[0]))

    def begin(self) -> RecordDict:
        """Return what each party is told first: how to descend.

        Raises:
            FormatError: the labels are not what the loss needs.
            LocalProtocolError: a party has not started yet.
        """
        steepness = self._plan.steepness(sum(self._curvatures.all().values()))
        self._begun = Head(_known(self._labels), self._plan, steepness=steepness)
        self._steepness = steepness
        about = {STEEPNESS: steepness, L2: self._plan.l2}
        return RecordDict({name: ConfigRecord({name: value}) for name, value in about.items()})

    @property
    def over(self) -> bool:
        """Whether the last round was the last one."""
        return self._head().over

    def take(self, party: str, content: RecordDict) -> None:
        """Take in a party's part of the sums of this round; nothing changes if it is refused.

        Raises:
            FormatError: not one finite number for each record.
            PolicyDenied: `party` takes no part.
        """
        rows = len(_known(self._labels))
        found = array_of(content, PARTIAL, PARTIAL, dtype="float64", shape=(rows,))
        self._partials.add(party, found)

    def errors(self) -> RecordDict:
        """Return what each party is told: every record's noised error; the next round begins.

        Raises:
            LocalProtocolError: a party's part is missing yet, or it is over.
            PolicyDenied: the errors left as often as was agreed.
        """
        head = self._head()
        if head.over:
            raise LocalProtocolError("the regression is over")
        clear = head.errors(list(self._partials.all().values()))
        number = head.rounds
        noised = self._protection.protect(clear[:, None], look=number, number=number)[:, 0]
        head.step(noised)
        self._partials.clear()
        return RecordDict({ERRORS: ArrayRecord({ERRORS: noised})})

    STATE: ClassVar = ("head", "head-about")
    """Names of the records of `state`."""

    def state(self) -> RecordDict:
        """Return all that it knows between two rounds, but for the labels."""
        head = self._head()
        arrays = {"weights": head.descent.weights, "ahead": head.descent.ahead, "sums": head.sums}
        about = {"over": head.over, "rounds": head.rounds, "steepness": self._steepness}
        return RecordDict({"head": ArrayRecord(arrays), "head-about": ConfigRecord(about)})

    def restore(self, state: RecordDict, labels: NDArray[Any]) -> None:
        """Go on from what `state` returned, with the same labels.

        Raises:
            FormatError: it is none.
        """
        about = state["head-about"]
        if not isinstance(about, ConfigRecord):
            raise FormatError("regression: its state is damaged")
        self._labels, self._steepness = labels, float(about["steepness"])  # type: ignore[arg-type]
        head = Head(labels, self._plan, steepness=self._steepness)
        found = {
            name: array_of(state, "head", name, dtype="float64", shape=(1,))
            for name in ("weights", "ahead")
        }
        rounds = int(about["rounds"])  # type: ignore[arg-type]
        head.descent.go_on(found["weights"], found["ahead"], rounds)
        head.over, head.rounds = bool(about["over"]), rounds
        sums = state.array_records["head"]["sums"]  # infinite before the first round
        if sums.shape != labels.shape:
            raise FormatError("regression: its state is damaged")
        head.sums = sums
        self._begun = head

    def model(self) -> LinearModel:
        """Return the finished model's common part."""
        return LinearModel(
            loss=self._plan.loss, intercept=self._head().intercept, parties=self._partials.parties
        )

    def _head(self) -> Head:
        if self._begun is None:
            raise LocalProtocolError("the regression has not begun")
        return self._begun


def _numbers(content: RecordDict, name: str) -> NDArray[Any]:
    return array_of(content, name, name, dtype="float64", shape=(None,))


def _known(labels: NDArray[Any] | None) -> NDArray[Any]:
    if labels is None:
        raise LocalProtocolError("who has the labels has not sent them yet")
    return labels
