"""Which records all parties have: one intersection, carried; see `learning.psi`."""

from abc import abstractmethod
from typing import Final

from typing_extensions import override

from wardian.errors import FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.stages.stage import (
    NOTHING,
    SMALL_BYTES,
    Asking,
    Stage,
    World,
    one,
)
from wardian.learning.psi.coordinator import PsiCoordinator
from wardian.learning.psi.messages import ANSWER, REQUEST, SETUP
from wardian.learning.psi.terms import DEAL, SHARE, SHARES, TAGS
from wardian.learning.received import array_of
from wardian.learning.records import ConfigRecord, RecordDict
from wardian.learning.vertical.plans import psi_run, psi_terms
from wardian.learning.vertical.script import Of, Step

_STATE: Final = "psi"
_RUNS: Final = "psi-runs"
_TAG_BYTES: Final = 16
_POINT_BYTES: Final = 64
"""Of a blinded identifier, with what the library puts around it; it has 33."""
RECORDS: Final = "records"
"""The metric that says how many all have: every party is told the position of each."""


class Aligning(Stage):
    """What both protocols begin with: the parties agree a key that this side does not have."""

    def __init__(self, world: World, of: Of) -> None:
        """Intersect the records `of`, or go on with it.

        Raises:
            PolicyDenied: as many intersections as were agreed to are over (rule `psi-runs`).
        """
        self._world, self._of, kept = world, of, world.kept
        self._terms = psi_terms(world.plan)
        begun = int(kept.settings(_RUNS).get("n", 0))
        if _STATE not in kept:  # counted with the standing that says that it begins
            kept.put(_RUNS, n=begun + 1)
            kept.put(_STATE, step=Step.SHARE.value)
            begun += 1
        name = psi_run(world.run, of)
        self._psi = PsiCoordinator(self._terms, run=name, runs_before=begun - 1)
        for party, share in kept.settings(SHARES).items():
            self._psi.take_share(party, RecordDict({SHARE: ConfigRecord({SHARE: share})}))
        if DEAL in kept:
            self._psi.take_deal(RecordDict({DEAL: kept.records[DEAL]}))

    @property
    def _step(self) -> Step | None:
        found = self._world.kept.settings(_STATE).get("step")
        return None if found is None else Step(found)

    def _to(self, step: Step) -> None:
        self._world.kept.put(_STATE, step=step.value)

    @override
    def asking(self) -> Asking | None:
        everybody, step = self._terms.parties, self._step
        if step is None:
            return None
        if step is Step.SHARE:
            contents = dict.fromkeys(everybody, NOTHING)
            return Asking(step=step, of=self._of, contents=contents, settings=frozenset({SHARE}))
        if step is Step.DEAL:
            contents = {self._psi.dealer: self._psi.shares()}
            return Asking(step=step, of=self._of, contents=contents, settings=frozenset({DEAL}))
        return self._asking(step)

    @abstractmethod
    def _asking(self, step: Step) -> Asking:
        """Return what is asked in a step of this protocol alone."""

    @override
    def take(self, party: str, content: RecordDict) -> None:
        if self._step is Step.SHARE:
            self._psi.take_share(party, content)
        elif self._step is Step.DEAL:
            self._psi.take_deal(content)
        else:
            self._take(party, content)

    @abstractmethod
    def _take(self, party: str, content: RecordDict) -> None:
        """Take in an answer to it."""

    @override
    def advance(self) -> None:
        if self._step is Step.SHARE:
            self._world.kept.records[SHARES] = self._psi.shares()[SHARES]
            self._to(Step.DEAL)
        elif self._step is Step.DEAL:
            self._world.kept.records[DEAL] = self._psi.deal()[DEAL]
            self._to(self._first())
        else:
            self._advance()

    @abstractmethod
    def _first(self) -> Step:
        """Return the first step of this protocol alone."""

    @abstractmethod
    def _advance(self) -> None:
        """See `advance`."""

    def _end(self, *others: str) -> None:
        """Forget all of this intersection but that it was."""
        self._world.kept.drop(_STATE, SHARES, DEAL, *others)


class AligningTags(Aligning):
    """Tags of all parties come in, each party's positions go out: see `psi.coordinator`."""

    @override
    def __init__(self, world: World, of: Of) -> None:
        super().__init__(world, of)
        if self._step is Step.POSITIONS:
            self._psi.go_on(world.kept.arrays(_FOUND)[_FOUND])

    @override
    def _first(self) -> Step:
        return Step.TAGS

    @override
    def _asking(self, step: Step) -> Asking:
        if step is Step.TAGS:
            return Asking(
                step=step,
                of=self._of,
                contents=dict.fromkeys(self._terms.parties, self._psi.deal()),
                arrays={TAGS: None},
                max_bytes=_TAG_BYTES * max(self._terms.caps.values()),
            )
        contents = {party: self._psi.positions(party) for party in self._terms.parties}
        records = {RECORDS: len(self._psi.found)}
        return Asking(step=step, of=self._of, contents=contents, tells=True, metrics=records)

    @override
    def _take(self, party: str, content: RecordDict) -> None:
        if self._step is Step.TAGS:
            self._psi.take_tags(party, content)

    @override
    def _advance(self) -> None:
        if self._step is Step.POSITIONS:
            self._end(_FOUND)
            return
        found = self._psi.found
        if not len(found) and self._world.plan.vertical is not None:
            raise FormatError("the parties have no record in common")
        self._world.kept.put_arrays(_FOUND, {_FOUND: found})
        self._world.learn_rows(self._of, len(found))
        self._to(Step.POSITIONS)


_FOUND: Final = "found"


class AligningEcdh(Aligning):
    """Blinded identifiers of two parties pass through, and this side learns nothing of them."""

    @override
    def __init__(self, world: World, of: Of) -> None:
        super().__init__(world, of)
        self._heard: dict[str, RecordDict] = {}

    @override
    def _first(self) -> Step:
        return Step.BLIND

    @override
    def _asking(self, step: Step) -> Asking:
        first, second = self._terms.parties
        others = {first: second, second: first}
        most = _POINT_BYTES * sum(self._terms.caps.values()) + SMALL_BYTES
        if step is Step.BLIND:
            contents = dict.fromkeys(others, self._psi.deal())
            wanted: dict[str, None] = {SETUP: None, REQUEST: None}
            return Asking(step=step, of=self._of, contents=contents, arrays=wanted, max_bytes=most)
        passed = (REQUEST,) if step is Step.AGAIN else (SETUP, ANSWER)
        contents = {
            party: RecordDict(
                {**self._psi.deal(), **{name: self._of_party(name, other) for name in passed}}
            )
            for party, other in others.items()
        }
        arrays = {ANSWER: None} if step is Step.AGAIN else {}
        return Asking(step=step, of=self._of, contents=contents, arrays=arrays, max_bytes=most)

    def _of_party(self, name: str, party: str) -> ArrayRecord:
        found = one(name, self._world.kept.arrays(name)[party])[name]
        return found if isinstance(found, ArrayRecord) else ArrayRecord()

    @override
    def _take(self, party: str, content: RecordDict) -> None:
        for name in self._sent():
            array_of(content, name, name, dtype="uint8", shape=(None,))
        self._heard.setdefault(party, content)

    def _sent(self) -> tuple[str, ...]:
        return {Step.BLIND: (SETUP, REQUEST), Step.AGAIN: (ANSWER,)}.get(
            self._step or Step.LEARN, ()
        )

    @override
    def _advance(self) -> None:
        for name in self._sent():
            arrays = {
                party: array_of(each, name, name, dtype="uint8", shape=(None,))
                for party, each in self._heard.items()
            }
            self._world.kept.put_arrays(name, arrays)
        self._heard = {}
        if self._step is Step.LEARN:
            self._end(SETUP, REQUEST, ANSWER)
        else:
            self._to(Step.AGAIN if self._step is Step.BLIND else Step.LEARN)


def aligning(world: World, of: Of) -> Aligning:
    """Return the stage of the plan's protocol, where it stands."""
    psi = world.plan.psi
    kind = AligningTags if psi is not None and psi.protocol == "tags" else AligningEcdh
    return kind(world, of)
