"""What the finished model says of new records: its parts answer, one party is told."""

from typing import Any, Final, Protocol

from numpy.typing import NDArray
from typing_extensions import override

from wardian._internal.vertical import Linear, Trees
from wardian.errors import LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.stages.linear import linear_model
from wardian.learning.coordinator.stages.network import finished_network, network_terms
from wardian.learning.coordinator.stages.stage import NOTHING, Asking, Stage, World, one
from wardian.learning.coordinator.stages.trees import forest
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.linear.messages import PARTIAL
from wardian.learning.vertical.network.messages import EMBEDDING
from wardian.learning.vertical.script import PREDICTIONS, Of, Step, has_columns
from wardian.learning.vertical.trees.messages import SIDES

_STATE: Final = "predicting"


class Finished(Protocol):
    """The common part of a finished model."""

    def predict(self, contents: dict[str, RecordDict]) -> NDArray[Any]:
        """Return what the model says of the records that `contents` are about."""


class Predicting(Stage):
    """Every party with columns answers for its part; the predictions go to one, alone."""

    def __init__(self, world: World) -> None:
        """Begin, or go on where `world` says that it stands."""
        self._world, vertical = world, world.plan.vertical
        if vertical is None or vertical.predict is None:
            raise LocalProtocolError("a plan that predicts nothing has no such stage")
        self._vertical, self._told = vertical, vertical.predict
        self._parties = tuple(p for p in sorted(world.plan.parties) if has_columns(vertical, p))
        if _STATE not in world.kept:
            world.kept.put(_STATE, step=Step.ANSWER.value)
        self._heard: dict[str, RecordDict] = {}

    @property
    def _step(self) -> Step | None:
        found = self._world.kept.settings(_STATE).get("step")
        return Step(found) if found else None

    @override
    def asking(self) -> Asking | None:
        step = self._step
        if step is None:
            return None
        if step is Step.ANSWER:
            return Asking(
                step=step,
                of=Of.PREDICT,
                contents=dict.fromkeys(self._parties, NOTHING),
                arrays={self._answer(self._parties[0])[0]: None},
                max_bytes=self._world.plan.run.max_update_bytes,
            )
        found = self._world.kept.arrays(PREDICTIONS)[PREDICTIONS]
        contents = {self._told: one(PREDICTIONS, found)}
        return Asking(step=step, of=Of.PREDICT, contents=contents, tells=True)

    @override
    def take(self, party: str, content: RecordDict) -> None:
        if self._step is not Step.ANSWER or party in self._heard:
            return
        name, dtype, rest = self._answer(party)
        shape = (self._world.rows(Of.PREDICT), *rest)
        found = array_of(content, name, name, dtype=dtype, shape=shape)
        self._heard[party] = one(name, found)

    def _answer(self, party: str) -> tuple[str, str, tuple[int, ...]]:
        """Return what an answer of `party` is: its name, its elements, its columns."""
        if isinstance(self._vertical, Linear):
            return PARTIAL, "float64", ()
        if isinstance(self._vertical, Trees):
            return SIDES, "bool", (forest(self._world).questions[party],)
        return EMBEDDING, "float64", (network_terms(self._world).embeddings[party],)

    @override
    def advance(self) -> None:
        kept = self._world.kept
        if self._step is Step.ANSWER:
            found = self._finished().predict(self._heard)
            kept.records[PREDICTIONS] = ArrayRecord({PREDICTIONS: found})
            kept.put(_STATE, step=Step.PREDICTIONS.value)
        else:
            kept.drop(PREDICTIONS)
            kept.put(_STATE, step="")

    def _finished(self) -> Finished:
        if isinstance(self._vertical, Linear):
            return linear_model(self._world)
        return (
            forest(self._world)
            if isinstance(self._vertical, Trees)
            else finished_network(self._world)
        )
