"""What each party is asked in a run, in order: the plan's, so that both sides know it. Pure.

    share, deal, tags, positions         which records all have (`psi`, protocol `tags`)
    share, deal, blind, again, learn     the same, protocol `ecdh`
    labels                               of the party that has them, for the enclave
    features, weights                    `linear`, placement `features`
    start, sums ..., end                 `linear`, placement `embeddings`
    bins, splits                         `trees`
    embed ..., end                       `network`
    answer, predictions                  of new records, once these are aligned, too

A party goes through its own part of this once, from the first to the last. Whatever else it is
asked, again or out of turn, it refuses: see `Progress`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from wardian._internal.consortium import Consortium
from wardian._internal.vertical import Network, Trees, Vertical
from wardian.errors import PolicyDenied

ASK: Final = "ask"
"""The record of settings that says what is asked: `step`, and `of` which records."""
STEP: Final = "step"
OF: Final = "of"
PREDICTIONS: Final = "predictions"
"""The record of what the model says of new records."""


class Of(StrEnum):
    """Which of a party's records."""

    LEARN = "learn"
    PREDICT = "predict"


class Step(StrEnum):
    """What a party is asked."""

    SHARE = "share"
    DEAL = "deal"
    TAGS = "tags"
    POSITIONS = "positions"
    BLIND = "blind"
    AGAIN = "again"
    LEARN = "learn"
    LABELS = "labels"
    FEATURES = "features"
    WEIGHTS = "weights"
    START = "start"
    SUMS = "sums"
    BINS = "bins"
    SPLITS = "splits"
    EMBED = "embed"
    END = "end"
    ANSWER = "answer"
    PREDICTIONS = "predictions"
    SEEN = "seen"
    """Asked at any time, and answered with nothing: what a party remembers by it is how far the run
    is, so that nobody puts it back behind that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One step of a party's part, once or several times in a row.

    Attributes:
        step: what is asked.
        of: of which records.
        most: how often at most, 1 or more.
    """

    step: Step
    of: Of
    most: int = 1


MANY: Final = 2**40
"""Of a step whose number depends on the records: it is bounded where they are known."""


def script(plan: Consortium, party: str) -> tuple[Place, ...]:
    """Return all that `plan` lets `party` be asked, in order."""
    places = _aligned(plan, party, Of.LEARN)
    if plan.vertical is None:
        return tuple(places)
    places += _learnt(plan.vertical, party)
    if plan.vertical.predict is not None:
        places += _aligned(plan, party, Of.PREDICT)
        if has_columns(plan.vertical, party):
            places.append(Place(step=Step.ANSWER, of=Of.PREDICT))
        if party == plan.vertical.predict:
            places.append(Place(step=Step.PREDICTIONS, of=Of.PREDICT))
    return tuple(places)


def has_columns(vertical: Vertical, party: str) -> bool:
    """Return whether `party` has a part of the model: all but one that has labels alone."""
    return not isinstance(vertical, Network) or party in vertical.embeddings


def _aligned(plan: Consortium, party: str, of: Of) -> list[Place]:
    if plan.psi is None:
        return []
    steps = [Step.SHARE]
    if party == min(plan.parties):
        steps.append(Step.DEAL)
    if plan.psi.protocol == "tags":
        steps += [Step.TAGS, Step.POSITIONS]
    else:
        steps += [Step.BLIND, Step.AGAIN, Step.LEARN]
    return [Place(step=each, of=of) for each in steps]


def _learnt(vertical: Vertical, party: str) -> list[Place]:
    places = [Place(step=Step.LABELS, of=Of.LEARN)] if party == vertical.labels else []
    if not has_columns(vertical, party):
        return places
    steps: Sequence[Step | tuple[Step, int]]
    if isinstance(vertical, Trees):
        steps = (Step.BINS, Step.SPLITS)
    elif isinstance(vertical, Network):
        steps = ((Step.EMBED, MANY), Step.END)
    elif vertical.placement == "features":
        steps = (Step.FEATURES, Step.WEIGHTS)
    else:
        steps = (Step.START, (Step.SUMS, vertical.rounds), Step.END)
    for each in steps:
        step, most = each if isinstance(each, tuple) else (each, 1)
        places.append(Place(step=step, of=Of.LEARN, most=most))
    return places


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a party is in its part.

    Attributes:
        place: of the step that it answered last, in its script; -1 before the first.
        times: how often in a row it answered that one.
    """

    place: int = -1
    times: int = 0

    def after(self, places: Sequence[Place], step: str, of: str) -> "Progress":
        """Return the progress once `step` was answered.

        Raises:
            PolicyDenied: it is not its turn, or nothing that the plan has (rule `vertical-step`).
        """
        for at, times in ((self.place, self.times), (self.place + 1, 0)):
            if 0 <= at < len(places):
                found = places[at]
                if (found.step, found.of) == (step, of) and times < found.most:
                    return Progress(place=at, times=times + 1)
        raise PolicyDenied("what is asked is not what the plan has next", rule="vertical-step")
