"""Answers on their way to one client of HTTP/1.1: in pieces, and no faster than it takes them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, cast

from wardian.serving.http.messages import Buffer
from wardian.serving.http.state import ServerState

PIECE_BYTES: Final = 64 * 1024
"""Of an answer so much is handed to the transport at a time. A TLS transport does not say what its
socket has yet to send, and drops that when it has closed for a while (`server.SHUTDOWN_S`): what
it holds has to be little."""


class Outgoing:
    """What one client has yet to take.

    Attributes:
        transport: where it goes; there is one once the connection is made.
        writable: whether the transport takes more.
        paused_at: since when it does not, if it does not; monotonic seconds.
        unsent: bytes of answers that wait here, which count for the memory of bodies.
    """

    __slots__ = (
        "_account",
        "_closing",
        "_pieces",
        "_state",
        "paused_at",
        "transport",
        "unsent",
        "writable",
    )

    def __init__(self, state: ServerState, *, account: Callable[[int], object]) -> None:
        """Hold nothing yet; `account` is told how many bytes more have to wait."""
        self._state, self._account = state, account
        self._pieces: deque[Buffer] = deque()  # not empty only while the transport is not writable
        self._closing = False
        self.transport = cast("asyncio.Transport", None)
        self.writable, self.paused_at, self.unsent = True, state.now, 0

    def pause(self) -> None:
        """The transport takes nothing more for now."""
        self.writable, self.paused_at = False, self._state.now

    def resume(self) -> None:
        """The transport takes more."""
        self.writable = True
        self._flush()

    def send(self, parts: list[Buffer]) -> None:
        """Send `parts` of one answer, unless the client has gone."""
        if self.transport.is_closing():
            return
        if len(parts) == 1:
            if self.writable and not self._pieces and not self._closing:
                self.transport.write(parts[0])
                return
            self._pieces.append(parts[0])
        else:
            self._pieces.extend(_pieces(parts))
        self._flush()
        if self._pieces:
            self._wait(sum(map(len, parts)))

    def send_piece(self, data: bytes) -> bool:
        """Send `data` as it is; return whether the client takes what it is sent."""
        if self.transport.is_closing():
            return False
        if self.writable and not self._pieces:
            self.transport.write(data)
        else:
            self._pieces.append(data)
            self._wait(len(data))
        return self.writable and not self._pieces

    def close(self) -> None:
        """Close as soon as the transport has every answer."""
        self._closing = True
        if not self._pieces and not self.transport.is_closing():
            self.transport.close()

    def forget(self) -> None:
        """Drop what waits; it counts no more."""
        self._pieces.clear()
        self._state.buffered_bytes -= self.unsent
        self.unsent = 0

    def _wait(self, size: int) -> None:
        self.unsent += size
        self._account(size)  # may make room by ending this very connection

    def _flush(self) -> None:
        """Hand over what the transport takes; close if that was all there was."""
        while self._pieces and self.writable:
            self.transport.write(self._pieces.popleft())
        if not self._pieces:
            self.forget()
            if self._closing:
                self.transport.close()


def _pieces(parts: list[Buffer]) -> Iterator[Buffer]:
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), PIECE_BYTES):
            yield view[start : start + PIECE_BYTES]
