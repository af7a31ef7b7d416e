"""What is asked of a cohort at present, what answers have to look like, and those that are here."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wardian.errors import FormatError, PolicyDenied
from wardian.learning.arrays import ArrayRecord
from wardian.learning.content import Spec, array_bytes, content_bytes
from wardian.learning.message import MessageType
from wardian.learning.messages import Answer, Arrays, ArraySpec, Config, Metrics
from wardian.learning.records import RecordDict
from wardian.learning.reduce import EXAMPLES
from wardian.learning.rounds import Round
from wardian.learning.staging import METRICS, Staging
from wardian.learning.strategies.strategy import Strategy

SPILLED = "answer-"
"""How the files of answers on disk begin."""
MAX_EXAMPLES = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an answer has to be made of.

    Attributes:
        arrays: the arrays of each array record, exactly, or None where any are welcome; None for
            all: any one record named "arrays".
        max_bytes: of all arrays together.
        examples: whether it says of how many records it speaks.
        settings: the records of settings that it has to have.
        shorter: whether an array may be shorter than `arrays` says, in its first dimension.
        verify: told the array records of an answer that is whole; raises FormatError if it is not
            welcome. None: what `arrays` says is enough.
    """

    arrays: Mapping[str, tuple[ArraySpec, ...] | None] | None
    max_bytes: int
    examples: bool
    settings: frozenset[str] = frozenset()
    shorter: bool = False
    verify: Callable[[Mapping[str, ArrayRecord]], None] | None = None

    def expected_bytes(self) -> int:
        """Return how large an answer is, or may be where its form is open."""
        given = list((self.arrays or {}).values())
        if None in given:
            return self.max_bytes
        return sum(array_bytes(each) for specs in given for each in specs or ())

    def demand(self, specs: tuple[Spec, ...]) -> None:
        """Return if an answer of `specs` is welcome; none of its content was read yet.

        Raises:
            PolicyDenied: it is too large.
            FormatError: it is made of anything else.
        """
        if content_bytes(specs) > self.max_bytes:
            raise PolicyDenied(f"an answer has at most {self.max_bytes} bytes", rule="size")
        found = {each.name: each.arrays for each in specs if isinstance(each, Arrays)}
        if len({each.name for each in specs}) < len(specs):
            raise FormatError("answer: a record is there twice")
        if {each.name for each in specs if isinstance(each, Config)} != self.settings:
            wanted = ", ".join(sorted(self.settings)) or "none"
            raise FormatError(f"answer: settings were not asked for, or others: {wanted}")
        if self.arrays is None:
            if set(found) != {"arrays"} or not found["arrays"]:
                raise FormatError('answer: one array record was asked for, "arrays"')
        elif not self._welcome(found):
            raise FormatError("answer: other arrays than those that were asked for")
        self._demand_metrics([each for each in specs if isinstance(each, Metrics)])

    def _welcome(self, found: Mapping[str, tuple[ArraySpec, ...]]) -> bool:
        arrays = self.arrays or {}
        if found == arrays:
            return True
        if set(found) != set(arrays):
            return False
        fits = _fits if self.shorter else ArraySpec.__eq__
        return all(
            specs is None or (len(found[name]) == len(specs) and all(map(fits, found[name], specs)))
            for name, specs in arrays.items()
        )

    def _demand_metrics(self, found: list[Metrics]) -> None:
        if any(each.name != METRICS for each in found):
            raise FormatError(f'answer: the record of metrics is called "{METRICS}"')
        if not self.examples:
            return
        examples = found[0].entries.get(EXAMPLES) if found else None
        if type(examples) is not int or not 1 <= examples <= MAX_EXAMPLES:
            raise FormatError(f"answer: {EXAMPLES} is a whole number, 1 or more")


def first_wanted(strategy: Strategy, *, max_bytes: int) -> Wanted:
    """Return what an answer with the first model has to be."""

    def verify(found: Mapping[str, ArrayRecord]) -> None:
        strategy.demand_model(found["arrays"])

    return Wanted(
        arrays=None,
        max_bytes=max_bytes,
        examples=False,
        verify=verify if strategy.whole else None,
    )


def update_wanted(strategy: Strategy, model: ArrayRecord, *, max_bytes: int) -> Wanted:
    """Return what an answer of a party that trained `model` has to be."""
    return Wanted(
        arrays=dict.fromkeys(strategy.records, strategy.wanted(model)),
        max_bytes=max_bytes,
        examples=True,
        shorter=strategy.whole,
        verify=strategy.demand_answer if strategy.whole else None,
    )


def _fits(found: ArraySpec, most: ArraySpec) -> bool:
    """Return whether `found` is `most`, or as it but shorter in its first dimension."""
    return (
        (found.name, found.dtype, found.shape[1:]) == (most.name, most.dtype, most.shape[1:])
        and len(found.shape) == len(most.shape)
        and found.shape[:1] <= most.shape[:1]
    )


@dataclass(slots=True, kw_only=True)
class Question:
    """One question under way.

    Attributes:
        number: names it, for good.
        round_number: the round that it is of.
        kind: what it asks for.
        contents: what each party of the cohort is told.
        round: who has answered.
        wanted: what an answer has to be made of.
        spill: a directory for answers; None keeps them in memory.
        answers: those that are whole, by party.
        said: the frames that ask it, by the identity of what is told, where they are small.
    """

    number: int
    round_number: int
    kind: MessageType
    contents: Mapping[str, RecordDict]
    round: Round
    wanted: Wanted
    spill: Path | None
    answers: dict[str, Staging] = field(default_factory=dict)
    said: dict[int, list[list[bytes]]] = field(default_factory=dict)

    def stage(self, answer: Answer) -> Staging:
        """Return where the content of `answer` goes.

        Raises:
            FormatError, PolicyDenied: the answer is not what was asked for.
        """
        self.wanted.demand(answer.records)
        spill = None if self.spill is None else self.spill / f"{SPILLED}{secrets.token_hex(16)}"
        return Staging(answer.records, spill=spill, verify=self.wanted.verify)

    def count(self, party: str, staged: Staging) -> bool:
        """Count what `party` answered, whole; return whether it does count."""
        if not self.round.expects(party):
            staged.drop()
            return self.round.answer(party)
        self.answers[party] = staged
        return self.round.answer(party)

    def forget(self) -> None:
        """Drop every answer."""
        for each in self.answers.values():
            each.drop()
        self.answers.clear()
