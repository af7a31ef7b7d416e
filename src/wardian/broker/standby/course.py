"""What a broker that has a peer does next. Pure: what was heard and the time are arguments.

    SEEK    ask the peer to be its standby; that it answers shows that it is the active one
    OPEN    open the own state as the newest; the counter decides, not this broker

Two brokers run the same. Which of them is active follows from two questions, in this order: is the
peer active? may the own state be opened as the newest? The first one costs nothing, while opening
takes the counter over, so an active broker that answers is followed and never disturbed. Only the
second is security: whatever the peer, the network or the clock make of the first, the counter lets
one of two brokers commit, and none on a state that is not the newest.

                   peer is active            peer is not, for `patience_s`
    SEEK --------> (follow it) --lost--> SEEK ------------------------------> OPEN --> active
                        ^                                                      |
                        `------------------- SEEK <-------- refused -----------'

A state that is old or lost is opened again only after a copy of the active's. Whatever else was in
the way, a full disk for example, may be over the next time.
"""

import enum
from typing import Final

from wardian.errors import CounterLost, CounterUnavailable, SealError, StateRolledBack

_NOT_THE_NEWEST: Final = (StateRolledBack, CounterLost)
"""What says that this very state will never be the newest."""
_MOST_DOUBLINGS: Final = 6


class Heard(enum.Enum):
    """What came of asking the peer."""

    SILENT = enum.auto()
    """Nobody answers there, or not as a broker."""
    NOT_ACTIVE = enum.auto()
    """A broker answers that is not the active one."""
    REFUSES = enum.auto()
    """An active broker answers, and does not take this one as its standby now."""
    BROKE_OFF = enum.auto()
    """It was found active, and was lost before its state was here."""
    COPIED = enum.auto()
    """Its state is here, but it did not keep this copy up."""
    FOLLOWED = enum.auto()
    """It kept this copy up, and was lost."""


class Step(enum.Enum):
    """What to do."""

    SEEK = enum.auto()
    OPEN = enum.auto()


class Course:
    """Where a broker with a peer stands on the way to be active."""

    __slots__ = ("_deadline", "_failed", "_patience_s", "_stale")

    def __init__(self, *, patience_s: float, first: bool, now: float) -> None:
        """Begin.

        Args:
            patience_s: how long the peer may be away before this broker takes over.
            first: whether this broker need not wait at its start: the operator's preference.
            now: seconds of a clock that never goes back, as everywhere here.
        """
        self._patience_s = patience_s
        self._deadline = now if first else now + patience_s
        self._stale = False
        self._failed = 0

    @property
    def stale(self) -> bool:
        """Whether the own state was refused as old or lost, and none was copied since."""
        return self._stale

    def heard(self, heard: Heard, *, now: float) -> Step:
        """Return what to do after `heard` came of asking the peer."""
        if heard in (Heard.COPIED, Heard.FOLLOWED):
            self._stale, self._failed = False, 0
            self._deadline = now
        if heard not in (Heard.SILENT, Heard.NOT_ACTIVE):  # it was there a moment ago
            self._deadline = max(self._deadline, now + self._patience_s)
            return Step.SEEK
        return Step.SEEK if self._stale or now < self._deadline else Step.OPEN

    def refused(self, error: SealError, *, now: float) -> Step:
        """Return what to do after the own state could not be opened.

        Nothing more is tried with one that is old or lost. A counter that nobody can reach is asked
        again after `patience_s`. Anything else is tried again after that, after twice as long the
        next time, and so on up to 64 times as long: each try takes the counter over, perhaps from
        a broker that is active and cannot be reached from here.

        Args:
            error: why it could not.
            now: see above.
        """
        self._stale = self._stale or isinstance(error, _NOT_THE_NEWEST)
        pause_s = self._patience_s
        if not isinstance(error, CounterUnavailable):
            pause_s *= 2**self._failed
            self._failed = min(self._failed + 1, _MOST_DOUBLINGS)
        self._deadline = now + pause_s
        return Step.SEEK
