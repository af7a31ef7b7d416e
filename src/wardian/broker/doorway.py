"""Where connections come in: each finds a place, waits for one, or gives way (`limits.Places`).

What is done with a connection is the caller's. Whatever happens there stays there.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from wardian._internal.clock import Monotonic
from wardian._internal.log import event
from wardian.broker.frames import FrameStream
from wardian.broker.limits import Place, Places, ServiceLimits, peer_of
from wardian.errors import ConfigError

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S: Final = 5.0


class Doorway:
    """A listening socket, and those who came through it. Use `open`, then `aclose`."""

    __slots__ = (
        "_listening",
        "_places",
        "_seating",
        "_serve",
        "_served",
        "_serving",
        "_stopped",
        "_tasks",
        "_ticks",
        "_waiting",
    )

    def __init__(
        self,
        limits: ServiceLimits,
        *,
        ticks: Monotonic,
        serve: Callable[[socket.socket, Place], Awaitable[None]],
        served: Callable[[], None] = lambda: None,
    ) -> None:
        """Let in as many as `limits` say.

        Args:
            limits: of connections; the others are not for the doorway.
            ticks: seconds that never go back.
            serve: serves a connection to its end and closes it. It is cancelled when the connection
                has to give way.
            served: called whenever one has ended.
        """
        self._places, self._ticks = Places(limits), ticks
        self._serve, self._served = serve, served
        self._waiting: dict[Place, socket.socket] = {}
        self._serving: dict[Place, asyncio.Task[None]] = {}
        self._seating: asyncio.TimerHandle | None = None
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: socket.socket | None = None

    async def open(self, address: str, port: int) -> tuple[str, int]:
        """Listen, and return the address and port that it became.

        Args:
            address: a host name or IP address of this machine.
            port: 0 takes a free one.

        Raises:
            ConfigError: it cannot listen there.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM)
            family, _, _, _, where = found[0]
            self._listening = socket.create_server(where[:2], family=family, backlog=128)
        except OSError as err:
            raise ConfigError(
                f"cannot listen at {address} port {port}: {err.strerror or err}"
            ) from err
        self._listening.setblocking(False)  # noqa: FBT003 (the signature is Python's)
        self._keep(loop.create_task(self._accept(self._listening)))
        host, bound = self._listening.getsockname()[:2]
        return host, bound

    async def aclose(self) -> None:
        """Stop: no new connection, open ones are cut."""
        self._stopped = True
        if self._listening is not None:
            self._listening.close()
        if self._seating is not None:
            self._seating.cancel()
        await asyncio.sleep(0)  # what was spawned begins, and can then clear up after itself
        for task in self._tasks:
            task.cancel()
        for connection in self._waiting.values():
            connection.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        """Give every connection a place, handshakes included; see `Places` for who gives way."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as err:  # out of descriptors, or the peer left already
                event(log, "broker.accept", level=logging.WARNING, error=type(err).__name__)
                await asyncio.sleep(0.1)
                continue
            place = Place(peer=peer_of(address[0]))
            gone = self._places.crowded_out(place)
            if gone is not None:
                self._waiting.pop(gone).close()
            if self._places.arrive(place):
                self._waiting[place] = connection
                self._seat()
            else:
                connection.close()
            await asyncio.sleep(0)  # others run too, and what was spawned begins before it can end

    def _seat(self) -> None:
        """Serve those who wait, as far as there is room for them; see `Places`."""
        now = self._ticks()
        while (found := self._places.enter(now)) is not None:
            newcomer, leaving = found
            if leaving is not None:
                self._serving[leaving].cancel()
            task = asyncio.get_running_loop().create_task(self._attend(newcomer))
            task.add_done_callback(partial(self._left, newcomer))
            self._serving[newcomer] = task
            self._keep(task)
        due = self._places.due(now)
        if due is not None and self._seating is None:
            self._seating = asyncio.get_running_loop().call_later(due, self._seat_again)

    def _seat_again(self) -> None:
        self._seating = None
        self._seat()

    def _left(self, place: Place, _: asyncio.Task[None]) -> None:
        """Clear up after a connection: also after one that had to go before its first step."""
        never_begun = self._waiting.pop(place, None)
        if never_begun is not None:
            never_begun.close()
        self._places.leave(place)
        self._serving.pop(place, None)
        if not self._stopped:
            self._seat()
        self._served()

    async def _attend(self, place: Place) -> None:
        """Serve one connection to its end; whatever happens there stays there."""
        connection = self._waiting.pop(place)
        try:
            await self._serve(connection, place)
        except (OSError, TimeoutError) as err:
            event(log, "broker.connection", level=logging.DEBUG, error=type(err).__name__)
        except Exception as err:  # noqa: BLE001 (the outermost loop: a bug stays in its connection)
            event(log, "broker.bug", level=logging.ERROR, error=type(err).__name__)


async def shake_hands(connection: socket.socket, context: ssl.SSLContext) -> FrameStream:
    """Return the TLS stream on `connection`, as its server.

    Raises:
        OSError, TimeoutError: the peer does not speak TLS, or not in time.
    """
    loop = asyncio.get_running_loop()
    stream = FrameStream()  # uvloop would return TLS's own protocol
    await loop.connect_accepted_socket(
        lambda: stream,
        connection,
        ssl=context,
        ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
    )
    return stream
