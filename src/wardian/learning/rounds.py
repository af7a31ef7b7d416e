"""One question to a cohort, and who has answered it. Pure: time is an argument.

    asked --> answered            its answer counts, however often it comes
          --> refused             it was not what was asked for, or the party said it cannot
          --> late                the deadline came first

A party whose connection is gone is still asked: it may come back before the deadline, and is asked
the same again. The round is over when nobody is asked any more, or at the deadline; it stands if as
many as the quorum have answered.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Standing = Literal["asked", "answered", "refused", "late"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a round ended.

    Attributes:
        answered: whose answers count, sorted.
        dropped: of everybody else who was asked, why not.
        stands: whether enough have answered.
    """

    answered: tuple[str, ...]
    dropped: dict[str, str]
    stands: bool


class Round:
    """Who was asked, and what became of it."""

    __slots__ = ("_quorum", "_reasons", "_standings", "_useful", "_waited", "until")

    def __init__(self, cohort: Iterable[str], *, quorum: int, until: float) -> None:
        """Ask `cohort`, of whom `quorum` have to answer before the time `until`."""
        self._standings: dict[str, Standing] = dict.fromkeys(sorted(cohort), "asked")
        self._reasons: dict[str, str] = {}
        self._quorum = quorum
        self._waited = self._useful = len(self._standings)  # asked; asked or answered
        self.until = until

    def standing(self, party: str) -> Standing | None:
        """Return where `party` stands; None if it is not asked."""
        return self._standings.get(party)

    def expects(self, party: str) -> bool:
        """Return whether an answer of `party` is wanted."""
        return self._standings.get(party) == "asked"

    def answer(self, party: str) -> bool:
        """Count the answer of `party`; return whether it counts, now or since before."""
        if self.expects(party):
            self._standings[party] = "answered"
            self._waited -= 1
        return self._standings.get(party) == "answered"

    def refuse(self, party: str, reason: str) -> None:
        """`party` cannot answer, or not so: it is not waited for any more."""
        if self.expects(party):
            self._standings[party] = "refused"
            self._reasons[party] = reason
            self._waited -= 1
            self._useful -= 1

    def over(self, now: float) -> bool:
        """Return whether nobody is waited for any more at `now`."""
        return now >= self.until or not self.hopeful

    @property
    def hopeful(self) -> bool:
        """Whether anybody is waited for whose answer could matter."""
        return self._waited > 0 and self._useful >= self._quorum

    def close(self) -> Outcome:
        """Return the outcome; who has not answered is late from now on."""
        for party, standing in self._standings.items():
            if standing == "asked":
                self._standings[party] = "late"
                self._reasons[party] = "it did not answer in time"
                self._waited -= 1
                self._useful -= 1
        answered = tuple(p for p, standing in self._standings.items() if standing == "answered")
        dropped = {p: self._reasons[p] for p in self._standings if p in self._reasons}
        return Outcome(
            answered=answered, dropped=dropped, stands=len(answered) >= max(1, self._quorum)
        )


def cohort(
    present: Iterable[str], *, sample: float, quorum: int, seed: int, number: int, attempt: int
) -> tuple[str, ...]:
    """Return who of `present` is asked in round `number`, the `attempt`th time; sorted."""
    here = sorted(present)
    size = max(quorum, round(sample * len(here)))
    if size >= len(here):
        return tuple(here)
    seeded = random.Random(f"{seed}/{number}/{attempt}")  # noqa: S311 (it is no secret)
    return tuple(sorted(seeded.sample(here, size)))
