"""A port for a broker that is not active: frames over TLS, few connections, each short.

`BrokerService` needs the state; who has not got it, or may not use it, answers through this.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

from wardian._internal import wire
from wardian._internal.log import event
from wardian.broker.frames import FIRST_FRAME_BYTES, FrameStream
from wardian.broker.limits import peer_of
from wardian.broker.refusal import refusal_for
from wardian.errors import ConfigError, TransportError, WardianError

log = logging.getLogger(__name__)

MOST: Final = 64
"""Connections at once; more are dropped."""
MOST_OF_ONE: Final = 16
"""Of one address: else whoever holds so many keeps the active broker, or the owners, out."""
FIRST_S: Final = 5.0
HANDSHAKE_S: Final = 5.0

Answer: TypeAlias = Callable[[FrameStream, bytes], Awaitable[None]]
"""Carries out one connection from its first message on."""


class Door:
    """Listens, from `start` to `aclose`."""

    __slots__ = ("_answer", "_context", "_server", "_visits")

    def __init__(self, answer: Answer, *, context: ssl.SSLContext) -> None:
        """Answer with `answer`; what it raises is told to the peer as a refusal."""
        self._answer, self._context = answer, context
        self._visits: dict[asyncio.Task[None], str] = {}
        self._server: asyncio.Server | None = None

    async def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen, and return the address and port that it became.

        Raises:
            ConfigError: it cannot listen there.
        """
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: FrameStream(self._opened),
                address,
                port,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                backlog=MOST,
            )
        except OSError as err:
            raise ConfigError(
                f"the broker cannot listen at {address} port {port}: {err.strerror or err}"
            ) from err
        host, bound = self._server.sockets[0].getsockname()[:2]
        return host, bound

    async def aclose(self) -> None:
        """Stop: no new connection, and open ones are cut."""
        if self._server is not None:
            self._server.close()
        for visit in tuple(self._visits):
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    def _opened(self, stream: FrameStream) -> None:
        """Begin to serve one connection, if there is room."""
        peer = peer_of(stream.host)
        crowded = tuple(self._visits.values()).count(peer) >= MOST_OF_ONE
        if crowded or len(self._visits) >= MOST:
            stream.abort()
            return
        visit = asyncio.get_running_loop().create_task(self._visit(stream))
        self._visits[visit] = peer
        visit.add_done_callback(partial(self._left, stream))

    def _left(self, stream: FrameStream, visit: asyncio.Task[None]) -> None:
        """Clear up after a connection: also after one that had to go before its first step."""
        del self._visits[visit]
        stream.abort()

    async def _visit(self, stream: FrameStream) -> None:
        """Serve one connection to its end; whatever happens there stays there."""
        try:
            await self._serve(stream)
        except asyncio.CancelledError:  # `aclose` asked for it, and nobody waits for this task
            stream.abort()
        finally:
            await stream.close()

    async def _serve(self, stream: FrameStream) -> None:
        try:
            raw = await stream.receive(most=FIRST_FRAME_BYTES, timeout_s=FIRST_S)
            await self._answer(stream, raw)
        except Exception as err:  # noqa: BLE001 (the outermost loop: a bug stays in its connection)
            known = isinstance(err, WardianError)
            level = logging.DEBUG if known else logging.ERROR
            event(log, "door.refused", level=level, error=type(err).__name__)
            with contextlib.suppress(TransportError):
                await stream.send(wire.encode(refusal_for(err)))
