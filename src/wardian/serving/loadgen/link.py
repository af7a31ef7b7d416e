"""One connection of the load generator: HTTP/1.1 with answers of a stated length, and no more.

A general HTTP client costs more than the server that it would measure. This one sends bytes that
were made before, and reads status, header and body; what is not of that form is an error of the
peer, never a wrong answer.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias, cast

from typing_extensions import override

from wardian.errors import ConnectionLost, PeerProtocolError, WardianError
from wardian.serving.client.attempts import Moved
from wardian.serving.client.connection import MAX_ANSWER_BYTES, MAX_HEADER_BYTES, MISDIRECTED
from wardian.serving.client.messages import Answer

Receive: TypeAlias = Callable[[bytes], Answer | None]
"""Takes bytes of the peer and returns the answer once they complete it."""
Done: TypeAlias = Callable[[Answer | WardianError], None]
_END: Final = b"\r\n\r\n"


class AnswerReader:
    """Reads answers one after the other; no socket."""

    __slots__ = ("_buffer", "_head", "_head_bytes", "_length", "_stated", "_status", "closes")

    def __init__(self) -> None:
        """At the start of an answer."""
        self._buffer = bytearray()
        self._status = 0
        self._length = -1
        self._head: dict[bytes, bytes] = {}
        self._head_bytes = _END  # that of the answer before, and the length that it states
        self._stated = -1
        self.closes = False

    def receive(self, data: bytes) -> Answer | None:
        """Return the answer that `data` completes, or None.

        Raises:
            PeerProtocolError: this is no answer of HTTP/1.1 with a stated length, is larger than
                one may be, or more follows it than was asked for.
            Moved: it has the status 421.
        """
        buffer = self._buffer
        buffer += data
        if self._length < 0 and not self._read_head():
            return None
        if len(buffer) < self._length:
            return None
        if len(buffer) > self._length:
            raise PeerProtocolError("more came than one answer")
        answer = Answer(status=self._status, headers=self._head, body=bytes(buffer))
        buffer.clear()
        self._length = -1
        if answer.status == MISDIRECTED:
            raise Moved("the front end has moved to another manifest: connect again")
        return answer

    def _read_head(self) -> bool:
        """Take the header from the buffer if it is there whole."""
        if self._stated >= 0 and self._buffer.startswith(self._head_bytes):
            self._length = self._stated  # nearly all answers of a load have one header
            del self._buffer[: len(self._head_bytes)]
            return True
        end = self._buffer.find(_END)
        if end < 0 or end > MAX_HEADER_BYTES:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise PeerProtocolError(f"the header is larger than {MAX_HEADER_BYTES} bytes")
            return False
        first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        version, _, rest = first.partition(b" ")
        status = rest[:3]
        if version != b"HTTP/1.1" or not status.isdigit() or len(status) != 3:
            raise PeerProtocolError("the server does not speak HTTP/1.1")
        head: dict[bytes, bytes] = {}
        for line in lines:
            name, _, value = line.partition(b":")
            head[name.lower()] = value.strip()
        length = head.get(b"content-length", b"")
        if not length.isdigit() or len(length) > 12 or b"transfer-encoding" in head:
            raise PeerProtocolError("the server sent an answer of no stated length")
        if int(length) > MAX_ANSWER_BYTES:
            raise PeerProtocolError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        self._status, self._length, self._head = int(status), int(length), head
        self.closes = head.get(b"connection", b"").lower() == b"close"
        self._head_bytes = bytes(self._buffer[: end + len(_END)])
        self._stated = self._length
        del self._buffer[: end + len(_END)]
        return True


class Link(asyncio.Protocol):
    """A connection on which one request at a time is under way."""

    def __init__(self, *, unasked: Callable[[], None]) -> None:
        """Not connected yet.

        Args:
            unasked: called when an answer comes that nobody asked for.
        """
        self._reader = AnswerReader()
        self._receive: Receive = self._reader.receive
        self._unasked = unasked
        self._done: Done | None = None
        self._over = False
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.fresh: Callable[[], bool] = _always
        """Whether requests may still be sent on it: set by who verified the other end."""

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it now."""
        return not self._over and self._done is None and self.fresh()

    def send(self, parts: tuple[bytes, ...], done: Done) -> None:
        """Send a request; `done` is called once, later, with its answer or its error."""
        self._done = done
        self.transport.writelines(parts)

    async def ask(self, request: bytes, *, receive: Receive) -> Answer:
        """Return the answer to `request`, read by `receive`.

        Raises:
            WardianError: what `receive` raises, or the connection broke.
        """
        came: asyncio.Future[Answer | WardianError] = asyncio.get_running_loop().create_future()

        def done(answer: Answer | WardianError) -> None:
            if not came.done():
                came.set_result(answer)

        usual, self._receive = self._receive, receive
        try:
            self.send((request,), done)
            answer = await came
        finally:
            self._receive = usual
            self._done = None
        if isinstance(answer, WardianError):
            raise answer
        return answer

    def abort(self) -> None:
        """Close at once; a request that is under way is told nothing more."""
        self._over, self._done = True, None
        self.transport.abort()

    async def close(self) -> None:
        """Close, and return once the socket is."""
        self._over = True
        self.transport.close()
        try:
            async with asyncio.timeout(1.0):
                await asyncio.shield(self._closed)
        except TimeoutError:  # the other end does not close its half
            self.transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class

    @override
    def data_received(self, data: bytes) -> None:
        if self._done is None:
            if not self._over:
                self._unasked()
            self.abort()
            return
        try:
            answer = self._receive(data)
        except WardianError as err:
            self._over = True
            self._end(err)
            self.abort()
            return
        if answer is not None:
            if self._reader.closes:
                self._over = True
                self.transport.close()
            self._end(answer)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        if not self._closed.done():
            self._closed.set_result(None)
        why = f"the connection broke: {exc}" if exc else "the server closed the connection"
        self._end(ConnectionLost(why))

    def _end(self, outcome: Answer | WardianError) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(outcome)


def _always() -> bool:
    return True
