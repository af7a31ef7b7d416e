"""Whose turn it is in one session: shared by both ends.

A session is for one release. Whatever goes wrong ends it, and no step happens twice, so a nonce is
used once and a replayed message meets a session that is over.
"""

import enum
from collections.abc import Iterator
from contextlib import contextmanager

from wardian.errors import PeerProtocolError


class State(enum.Enum):
    """Where a session stands."""

    FRESH = enum.auto()
    ASKED = enum.auto()
    CHALLENGED = enum.auto()
    PROVED = enum.auto()
    DONE = enum.auto()


class Turns:
    """Whose turn it is. The state is `DONE` during a step: one that raises ends the session."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = State.FRESH

    @contextmanager
    def step(self, due: State, then: State) -> Iterator[None]:
        """Do in the block the step that is due in `due`; after it that of `then` is.

        Raises:
            PeerProtocolError: another step is due; the session is over.
        """
        at, self._state = self._state, State.DONE
        if at is not due:
            raise PeerProtocolError(
                "the message comes out of turn, or a second time: a session releases once"
            )
        yield
        self.enter(then)

    def enter(self, state: State) -> None:
        """End the step: what is due now is the step of `state`."""
        self._state = state
