"""Whose turn it is in one release: shared by both ends.

A session is for one release. Whatever goes wrong ends it, and no step happens twice, so a nonce is
used once and a replayed message meets a session that is over.
"""

import enum

from wardian.errors import PeerProtocolError


class State(enum.Enum):
    """Where a release stands."""

    FRESH = enum.auto()
    ASKED = enum.auto()
    CHALLENGED = enum.auto()
    PROVED = enum.auto()
    DONE = enum.auto()


class Turns:
    """Whose turn it is. Leaving a state and entering the next brackets every step.

    The state is `DONE` in between, so that a step that raises leaves a dead session behind.
    """

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = State.FRESH

    def leave(self, state: State) -> None:
        """Begin the step that is due in `state`.

        Raises:
            PeerProtocolError: another step is due; the session is over.
        """
        at, self._state = self._state, State.DONE
        if at is not state:
            raise PeerProtocolError(
                "the message comes out of turn, or a second time: a session releases once"
            )

    def enter(self, state: State) -> None:
        """End the step: what is due now is the step of `state`."""
        self._state = state
