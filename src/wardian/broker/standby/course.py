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
                        `------------------- SEEK <--- refused: not the newest-'
"""

import enum


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

    __slots__ = ("_deadline", "_patience_s", "_stale")

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

    @property
    def stale(self) -> bool:
        """Whether the own state was refused as not the newest, and none was copied since."""
        return self._stale

    def heard(self, heard: Heard, *, now: float) -> Step:
        """Return what to do after `heard` came of asking the peer."""
        if heard in (Heard.COPIED, Heard.FOLLOWED):
            self._stale = False
        if heard not in (Heard.SILENT, Heard.NOT_ACTIVE):
            self._deadline = now + self._patience_s  # it was there a moment ago
            return Step.SEEK
        return Step.SEEK if self._stale or now < self._deadline else Step.OPEN

    def refused(self, *, for_good: bool, now: float) -> Step:
        """Return what to do after the own state could not be opened.

        Args:
            for_good: whether asking the counter again cannot help: the state is not the newest, or
                not whole. Else nobody could say.
            now: see above.
        """
        self._stale = self._stale or for_good
        self._deadline = now + self._patience_s
        return Step.SEEK
