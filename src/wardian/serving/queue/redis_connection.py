"""A TLS connection to Redis on an event loop: one write a tick, replies in order."""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from typing_extensions import override

from wardian.errors import ConnectionLost, Timeout, WardianError
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_session import Link
from wardian.serving.queue.redis_wire import Reply, ReplyReader

SILENCE_S: Final = 3.0
"""How long connecting, or the answer to a command, may take beyond the time that it asked for."""

_JOIN_BYTES: Final = 64 * 1024  # copying less than this is quicker than a write of its own

Taker: TypeAlias = Callable[[Reply], None]


class RedisConnection(asyncio.Protocol, Link):
    """One connection. What it is told to send goes out at the end of the loop's turn."""

    def __init__(self, *, max_reply_bytes: int) -> None:
        """Refuse replies larger than `max_reply_bytes`."""
        self._loop = asyncio.get_running_loop()
        self._reader = ReplyReader(max_bytes=max_reply_bytes)
        self._transport: asyncio.Transport | None = None
        self._takers: deque[Taker] = deque()
        self._pieces: list[bytes] = []
        self.lost: asyncio.Future[WardianError] = self._loop.create_future()
        """Why the connection is of no use any more, once it is."""

    @classmethod
    async def open(
        cls, address: Address, context: ssl.SSLContext, server_name: str, *, max_reply_bytes: int
    ) -> "RedisConnection":
        """Return a connection to `address`, whose server proved that it is `server_name`.

        Raises:
            OSError: it cannot be had; a `ssl.SSLError` where TLS failed.
        """
        loop = asyncio.get_running_loop()
        try:
            # Not `wait_for`: in Python 3.11 it can lose a cancellation, and with it the end.
            async with asyncio.timeout(2 * SILENCE_S):
                _, connection = await loop.create_connection(
                    lambda: cls(max_reply_bytes=max_reply_bytes),
                    address.host,
                    address.port,
                    ssl=context,
                    server_hostname=server_name,
                    ssl_handshake_timeout=SILENCE_S,
                )
        except TimeoutError as err:
            raise ConnectionLost("Redis: does not answer") from err
        return connection

    def send(self, pieces: list[bytes], *takers: Taker) -> None:
        """Send commands; each of `takers` gets the reply to one of them, in order.

        After the connection is lost nothing is sent and no taker is called.
        """
        if self.lost.done():
            return
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces += pieces
        self._takers.extend(takers)

    @override
    async def call(self, data: bytes) -> Reply:
        answer: asyncio.Future[Reply] = self._loop.create_future()

        def take(reply: Reply) -> None:
            if not answer.done():
                answer.set_result(reply)

        self.send([data], take)
        await asyncio.wait((answer, self.lost), timeout=SILENCE_S, return_when="FIRST_COMPLETED")
        if answer.done():
            return answer.result()
        if not self.lost.done():
            self.end(Timeout("Redis: says nothing"))
        answer.cancel()
        raise self.lost.result()

    @override
    def close(self) -> None:
        self.end(ConnectionLost("Redis: this end closed the connection"))

    def end(self, why: WardianError) -> None:
        """Be of no use from now on, because of `why`."""
        self._takers.clear()
        self._pieces.clear()
        if not self.lost.done():
            self.lost.set_result(why)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        transport = self._transport
        if not pieces or transport is None or transport.is_closing():
            return
        if sum(map(len, pieces)) <= _JOIN_BYTES:
            transport.write(b"".join(pieces))
        else:
            transport.writelines(pieces)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream makes Transports
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @override
    def data_received(self, data: bytes) -> None:
        if self.lost.done():
            return
        try:
            for reply in self._reader.feed(data):
                if not self._takers:
                    raise ConnectionLost("Redis: answered what was not asked")
                self._takers.popleft()(reply)
        except WardianError as err:
            self.end(err)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        kind = "was closed" if exc is None else f"broke ({type(exc).__name__})"
        self.end(ConnectionLost(f"Redis: the connection {kind}"))
