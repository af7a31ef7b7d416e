"""What one call survives: connections that are lost, and front ends that move meanwhile."""

from typing import Final

from wardian.errors import ConnectionLost

MAX_MOVES: Final = 8
"""Front ends that may move to another manifest under one call. Behind a balancer each moves by
itself, so the next connection can lead to one that is just about to."""
MAX_LOSSES: Final = 2
"""Connections that one call may lose: one was closed while it was idle, and the next one by a front
end that moved, or stopped, just after it had been verified."""


class Moved(ConnectionLost):
    """The front end serves no more on this connection, and did nothing of what was asked on it."""


class NoTls(ConnectionLost):
    """The other end does not speak TLS 1.3: that is not going to change."""


class Attempts:
    """Which losses one call survives, to be tried again on a new connection."""

    __slots__ = ("_lost", "_moves")

    def __init__(self) -> None:
        """Nothing was lost yet."""
        self._lost = self._moves = 0

    @property
    def failed(self) -> bool:
        """Whether one was: what was kept idle since may be lost, too."""
        return bool(self._lost or self._moves)

    def survive(self, err: ConnectionLost) -> None:
        """Return if the call is to be tried once more, else raise `err`.

        Where a front end moved, nothing was done. Any other loss may have cost the answer alone: it
        is survived because an inference changes nothing and the idempotency key is the same.
        """
        if isinstance(err, Moved):
            self._moves += 1
        else:
            self._lost += 1
        over = self._moves > MAX_MOVES or self._lost > MAX_LOSSES
        if over or isinstance(err, NoTls):
            raise err
