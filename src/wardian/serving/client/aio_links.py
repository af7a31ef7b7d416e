"""Verified connections of the asynchronous client: opened, used by one call at a time, kept.

Nothing here has a timeout: the call that waits has one around all of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

from wardian.errors import ConnectionLost, QueueFull
from wardian.serving.client.connection import ClientConnection, Destination
from wardian.serving.client.messages import Answer
from wardian.serving.client.origin import handshake_failed
from wardian.serving.client.policy import VerifiedFrontend

READ_BYTES: Final = 256 * 1024

Exchange: TypeAlias = Callable[[bytes], Awaitable[Answer]]


class AsyncLink:
    """A stream and the protocol on it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        protocol: ClientConnection,
    ) -> None:
        """Speak `protocol` on the stream."""
        self._reader, self._writer = reader, writer
        self.protocol = protocol

    async def exchange(self, request: bytes) -> Answer:
        """Return the answer to `request`.

        Raises:
            ConnectionLost: the connection broke.
        """
        await self.send(request)
        while True:
            answer = self.protocol.receive(await self.receive())
            if answer is not None:
                return answer

    async def send(self, request: bytes) -> None:
        """Send `request`; raises as `exchange`."""
        try:
            self._writer.write(request)
            await self._writer.drain()
        except OSError as err:
            raise ConnectionLost(f"the connection broke: {err.strerror or err}") from err

    async def receive(self) -> bytes:
        """Return some bytes, or none at the end of the connection; raises as `exchange`."""
        try:
            return await self._reader.read(READ_BYTES)
        except OSError as err:
            raise ConnectionLost(f"the connection broke: {err.strerror or err}") from err

    def close(self) -> None:
        """Close once everything is sent."""
        self._writer.close()

    async def closed(self) -> None:
        """Return when it is closed."""
        with suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()


class AsyncLinks:
    """The connections of one client to one front end, on one event loop."""

    def __init__(self, destination: Destination) -> None:
        """Connect to nothing yet; later to `destination`."""
        self._destination = destination
        self._idle: list[AsyncLink] = []
        self._verifying = asyncio.Lock()  # one asks for evidence, the others profit
        self._closed = False
        self.frontend: VerifiedFrontend | None = None
        """What the newest connection's other end was verified as."""

    async def take(self, *, anew: bool) -> AsyncLink:
        """Return a connection for one call: one that was kept, unless it is to be made `anew`.

        Raises:
            TransportError: none is to be had.
            PolicyDenied, AttestationError: the other end is not what it must be.
        """
        return self._idle.pop() if self._idle and not anew else await self._open()

    def give_back(self, link: AsyncLink) -> None:
        """Keep `link` for the next call, if that may follow on it."""
        if self._closed or not link.protocol.reusable:
            link.close()
        else:
            self._idle.append(link)

    async def close(self) -> None:
        """Close all idle connections, and each other one with its call."""
        self._closed = True
        links, self._idle = self._idle, []
        for link in links:
            link.close()
        for link in links:
            await link.closed()

    async def _open(self) -> AsyncLink:
        """Return a new connection whose other end is verified."""
        origin = self._destination.origin
        try:
            reader, writer = await asyncio.open_connection(
                origin.host,
                origin.port,
                ssl=self._destination.context,
                server_hostname=origin.host,
            )
        except OSError as err:
            raise handshake_failed(origin, err) from err
        try:
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            link = AsyncLink(reader, writer, self._destination.begin(certificate))
            await self._verify(link)
        except BaseException:
            writer.transport.abort()
            raise
        return link

    async def _verify(self, link: AsyncLink) -> None:
        await verify_in_turn(link.protocol, link.exchange, turn=self._verifying)
        self.frontend = link.protocol.frontend


async def verify_in_turn(
    protocol: ClientConnection, exchange: Exchange, *, turn: asyncio.Lock
) -> None:
    """Verify the other end of a new connection, by its evidence unless its key is known by now.

    Args:
        protocol: of that connection.
        exchange: sends a request on it and returns the answer.
        turn: one connection of a client asks for evidence, and the others profit.

    Raises:
        PolicyDenied, AttestationError: it is not what it must be.
        TransportError: the connection is lost.
        QueueFull: it has no evidence to show now, and closes the connection.
    """
    async with turn:
        while not protocol.recheck():
            answer = await exchange(protocol.evidence_request())
            try:
                protocol.verify(answer)
            except QueueFull as busy:
                if not protocol.reusable:
                    raise
                await asyncio.sleep(busy.retry_after_s)  # within the caller's timeout
