"""What every model begins with: the labels come in, from the party that has them, once."""

from abc import abstractmethod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wardian.errors import LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.stages.stage import (
    NOTHING,
    Asking,
    Stage,
    World,
    one,
    spec,
)
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.script import Of, Step, has_columns

_STATE: Final = "model"
LABELS: Final = "labels"


class Learning(Stage):
    """A model: labels, then the steps of its placement. Subclasses are the placements."""

    def __init__(self, world: World) -> None:
        """Begin, or go on where `world` says that it stands."""
        self._world, vertical = world, world.plan.vertical
        if vertical is None:
            raise LocalProtocolError("a plan without a model has no such stage")
        self._owner = vertical.labels
        self._parties = tuple(p for p in sorted(world.plan.parties) if has_columns(vertical, p))
        if _STATE not in world.kept:
            self._to(Step.LABELS)
        self._given: NDArray[Any] | None = None
        if self._step is not Step.LABELS:
            self._restore()

    @property
    def _step(self) -> Step | None:
        found = self._world.kept.settings(_STATE).get("step")
        return Step(found) if found else None

    def _to(self, step: Step | None) -> None:
        """Go to `step`; None: the model is finished, and its parts are told."""
        self._world.kept.put(_STATE, step="" if step is None else step.value)

    @property
    def _labels(self) -> NDArray[Any]:
        """The labels, (records,) float64."""
        return self._world.kept.arrays(LABELS)[LABELS]

    def _with_labels(self, party: str, content: RecordDict) -> RecordDict:
        """Return what `party` said, with the labels if it is the party that has them."""
        if party != self._owner:
            return content
        return RecordDict({**content, **one(LABELS, self._labels)})

    def _ask(self, step: Step, content: RecordDict = NOTHING, **wanted: Any) -> Asking:
        """Return what asks every party that has columns the same."""
        contents = dict.fromkeys(self._parties, content)
        return Asking(step=step, of=Of.LEARN, contents=contents, **wanted)

    @override
    def asking(self) -> Asking | None:
        if self._step is not Step.LABELS:
            return None if self._step is None else self._asking(self._step)
        rows = self._world.rows(Of.LEARN)
        return Asking(
            step=Step.LABELS,
            of=Of.LEARN,
            contents={self._owner: NOTHING},
            arrays={LABELS: None if rows is None else spec(LABELS, "float64", rows)},
            max_bytes=self._world.plan.run.max_update_bytes,
        )

    @override
    def take(self, party: str, content: RecordDict) -> None:
        if self._step is Step.LABELS:
            self._given = array_of(
                content, LABELS, LABELS, dtype="float64", shape=(self._world.rows(Of.LEARN),)
            )
        else:
            self._take(party, content)

    @override
    def advance(self) -> None:
        if self._step is Step.LABELS:
            self._world.kept.records[LABELS] = ArrayRecord({LABELS: np.array(self._given)})
            self._begin()
        else:
            self._advance()

    @abstractmethod
    def _begin(self) -> None:
        """Begin, now that the labels are there."""

    @abstractmethod
    def _restore(self) -> None:
        """Go on at the step where it stands."""

    @abstractmethod
    def _asking(self, step: Step) -> Asking:
        """Return what is asked in `step`."""

    @abstractmethod
    def _take(self, party: str, content: RecordDict) -> None:
        """Take in an answer to it."""

    @abstractmethod
    def _advance(self) -> None:
        """See `advance`."""


class Whole(Learning):
    """A placement in which columns come in once, in some form, and a part goes to each party.

    What came in is never kept: until the parts are sealed it would be asked for again.
    """

    columns: Step
    part: Step

    @override
    def _begin(self) -> None:
        self._to(self.columns)
        self._restore()

    @override
    def _asking(self, step: Step) -> Asking:
        if step is self.columns:
            most = self._world.plan.run.max_update_bytes
            return self._ask(step, arrays={self.columns.value: None}, max_bytes=most)
        parts = self._world.kept.arrays(self.part.value)
        contents = {party: one(self.part.value, parts[party]) for party in self._parties}
        return Asking(step=step, of=Of.LEARN, contents=contents, tells=True)

    @override
    def _advance(self) -> None:
        if self._step is self.part:
            self._world.kept.drop(self.part.value)
            self._to(None)
            return
        found = self._learn()
        parts = {party: found[party] for party in self._parties}
        self._world.kept.put_arrays(self.part.value, parts)
        self._world.kept.drop(LABELS)
        self._to(self.part)

    @abstractmethod
    def _learn(self) -> dict[str, NDArray[Any]]:
        """Return each party's part; the common one is kept."""
