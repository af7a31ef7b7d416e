"""Listening sockets, accepted connections and their limits; the sweep and the drain.

Connections are accepted here and not by `loop.create_server`, because that hands a connection over
only after its TLS handshake: half-open handshakes would escape the limit. At the limit one of
whoever has most gives way, or the newcomer is closed (`sharing`).
"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final, cast

from wardian._internal.agreed import Limits
from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.log import event
from wardian.errors import ConfigError
from wardian.serving.http.newcomer import Newcomer, Speaker
from wardian.serving.http.sharing import (
    RESTING,
    SETTLING_S,
    WAITING,
    Parties,
    Place,
    Whose,
    connection_to_end,
)
from wardian.serving.http.state import Gate, Handler, ServerState

log = logging.getLogger(__name__)

BACKLOG: Final = 1024
ACCEPTS_PER_WAKE: Final = 64
LAST_WORDS_S: Final = 2.0
SHUTDOWN_S: Final = 3.0
"""How long the other end of a closing TLS connection may take to take the last of an answer (up to
three `connection.PIECE_BYTES` and what the kernel holds) and to say goodbye."""
MIN_BUFFERED_BYTES: Final = 256 * 1024**2
BUFFERED_BODIES: Final = 8
"""Bodies of requests and answers in memory: at least 256 MiB, or so many of the largest."""
MAX_SWEEP_S: Final = 0.25
MAX_LOOKS: Final = 8
"""So often between two sweeps is looked for a connection that makes room for one address."""
_NO_SUCH_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How many connections may come from one place at once.

    Attributes:
        most: so many; then the one that has been idle longest gives way, or the newcomer.
        of: which place an IP address belongs to.
    """

    most: int
    of: Callable[[str], str]


class HttpServer:
    """An HTTPS server over one handler. All methods run on the event loop's thread."""

    def __init__(
        self,
        *,
        handler: Handler,
        limits: Limits,
        count_refusal: Callable[[int], None],
        clock: Monotonic = monotonic,
        max_buffered_bytes: int | None = None,
        crowd: Crowd | None = None,
        speakers: Mapping[str, Speaker] | None = None,
        gate: Gate | None = None,
        whose: Whose | None = None,
    ) -> None:
        """Serve with `handler`.

        Args:
            handler: answers whole requests.
            limits: of one connection, and how many there are.
            count_refusal: told the status of what is refused before a handler sees it.
            clock: monotonic seconds.
            max_buffered_bytes: bodies of requests and answers in memory; by default room for some
                of the largest.
            crowd: how many connections one place may have; by default as many as there are.
            speakers: by ALPN name, what is spoken beside HTTP/1.1; the TLS context has to offer it.
            gate: asked whether a large body is read; by default each is, up to the limit.
            whose: says which tenant sends a request; by default there are none.
        """
        self._limits = limits
        self._clock = clock
        self._state = ServerState(
            handler=handler,
            limits=limits,
            count_refusal=count_refusal,
            max_buffered_bytes=max_buffered_bytes
            or max(MIN_BUFFERED_BYTES, BUFFERED_BODIES * limits.max_body_bytes),
            now=clock(),
            gate=gate,
            parties=Parties(whose, address_of=None if crowd is None else crowd.of),
        )
        shortest = min(limits.header_timeout_s, limits.body_timeout_s, limits.idle_timeout_s)
        self._sweep_s = min(MAX_SWEEP_S, shortest / 4)
        self._sockets: list[socket.socket] = []
        self._resting: list[socket.socket] = []
        self._handshakes: dict[asyncio.Task[None], Newcomer] = {}
        self._looks: Counter[str] = Counter()  # for room in vain, since the last sweep, by address
        self._open = 0
        self._crowd = crowd
        self._speakers = speakers or {}
        self._crowds: Counter[str] = Counter()
        self._tls: tuple[ssl.SSLContext, bytes] | None = None
        self._still: Container[bytes] | None = None
        self._all_gone: asyncio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = cast("asyncio.AbstractEventLoop", None)

    @property
    def open_connections(self) -> int:
        """Connections that are open, those in their TLS handshake included."""
        return self._open

    def use(self, context: ssl.SSLContext, *, tls_spki: bytes) -> None:
        """Accept new connections under `context`, whose key is `tls_spki`; open ones stay."""
        self._tls = (context, tls_spki)

    def retire(self, still: Container[bytes]) -> None:
        """Let connections end whose key is not one of `still`; each answers what it was asked.

        Those that are in their handshake end after it.
        """
        self._still = still
        for connection in tuple(self._state.connections):
            if connection.tls_spki not in still:
                connection.retire()

    async def start(self, address: str, port: int) -> tuple[tuple[str, int], ...]:
        """Listen on every address that `address` resolves to, and return these.

        May be called again, for further addresses.

        Args:
            address: a host name or an IP address.
            port: 0 takes a free port, the same for all addresses.

        Raises:
            ConfigError: the address does not resolve, or the port cannot be had; says why.
        """
        loop = self._loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as err:
            raise ConfigError(f"cannot listen on {address!r}: {err.strerror}") from err
        listeners = _listen(sorted({(info[0], str(info[4][0])) for info in found}), port)
        for listener in listeners:
            loop.add_reader(listener.fileno(), self._accept, listener)
        self._sockets += listeners
        if self._timer is None:
            self._sweep()
        return tuple(listener.getsockname()[:2] for listener in listeners)

    async def stop(self, *, drain_s: float, give_up: Callable[[], None] | None = None) -> None:
        """Accept nothing more, answer what was accepted, and close everything.

        Args:
            drain_s: how long answers are waited for.
            give_up: called after that time: whoever owes answers gives errors now. Connections
                that take nothing for another `LAST_WORDS_S` are cut.
        """
        if self._timer is not None:
            self._timer.cancel()
        for listener in self._sockets:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._sockets.clear()
        self._resting.clear()
        self._state.draining = True
        for task in tuple(self._handshakes):
            task.cancel()
        for connection in tuple(self._state.connections):
            connection.drain()
        if self._open:
            self._all_gone = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), drain_s)
            if give_up is not None:
                give_up()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._all_gone.wait(), LAST_WORDS_S)
        for connection in tuple(self._state.connections):
            connection.abort()
        await asyncio.sleep(0)  # the transports' last callbacks

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_WAKE):
            try:
                client, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as err:  # out of file descriptors: spinning would not free any
                event(log, "http.accept_failed", level=logging.WARNING, errno=err.errno)
                self._loop.remove_reader(listener.fileno())
                self._resting.append(listener)
                return
            self._admit(client, str(address[0]))

    def _admit(self, client: socket.socket, peer: str) -> None:
        if self._tls is None or not self._make_room(peer):
            self._state.count_refusal(503)
            client.close()
            return
        client.settimeout(0)
        if client.family in (socket.AF_INET, socket.AF_INET6):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open += 1
        if self._crowd is not None:
            self._crowds[self._crowd.of(peer)] += 1
        context, tls_spki = self._tls
        newcomer = Newcomer(
            self._state,
            self._speakers,
            tls_spki=tls_spki,
            peer=peer,
            on_lost=partial(self._lost, peer),
        )
        task = self._loop.create_task(self._handshake(client, context, newcomer))
        self._handshakes[task] = newcomer
        task.add_done_callback(partial(self._over_handshake, client))

    def _over_handshake(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        """Forget a handshake that is over; and its connection, if it did not become one."""
        newcomer = self._handshakes.pop(task)
        if newcomer.connection is None:  # it failed, or was ended before it could begin
            client.close()
            self._lost(newcomer.peer)

    async def _handshake(
        self, client: socket.socket, context: ssl.SSLContext, newcomer: Newcomer
    ) -> None:
        """Bring one connection to where what it speaks takes over."""
        try:
            await self._loop.connect_accepted_socket(
                lambda: newcomer,
                client,
                ssl=context,
                ssl_handshake_timeout=self._limits.header_timeout_s,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except (OSError, asyncio.CancelledError) as err:  # ssl.SSLError is an OSError
            client.close()
            event(log, "http.handshake_failed", level=logging.DEBUG, error=type(err).__name__)
            return
        connection = newcomer.connection
        if connection is None:
            return  # cannot be: the handshake is over
        if self._state.draining:
            connection.drain()
        elif self._is_retired(connection.tls_spki):
            connection.retire()

    def _is_retired(self, tls_spki: bytes) -> bool:
        """Return whether connections with this key were to end, and no new one is to have it."""
        current = self._tls is not None and self._tls[1] == tls_spki
        return not current and self._still is not None and tls_spki not in self._still

    def _lost(self, peer: str) -> None:
        self._open -= 1
        self._looks.clear()
        if self._crowd is not None:
            place = self._crowd.of(peer)
            self._crowds[place] -= 1
            if not self._crowds[place]:
                del self._crowds[place]
        if self._all_gone is not None and self._open == 0:
            self._all_gone.set()

    def _make_room(self, peer: str) -> bool:
        """Return whether a newcomer from `peer` may come in, whoever had to go for it."""
        if self._crowd is not None:
            place = self._crowd.of(peer)
            if self._crowds[place] >= self._crowd.most:
                return self._close_one(peer, place)
        return self._open < self._limits.max_connections or self._close_one(peer)

    def _close_one(self, peer: str, place: str | None = None) -> bool:
        """End a connection, of that place if one is named, for a newcomer; False if none may."""
        if self._looks[peer] >= MAX_LOOKS:
            return False  # or each newcomer of a flood would look at every connection
        newcomer = self._state.parties.of({}, peer)
        everybody: Iterable[Place] = chain(
            self._state.places(), self._half_open(newcomer.address or newcomer.name)
        )
        if place is not None and self._crowd is not None:
            everybody = (each for each in everybody if each.party.name == place)
        gives_way = connection_to_end(everybody, newcomer)
        if gives_way is None:
            self._looks[peer] += 1
            return False
        gives_way.end()
        return True

    def _half_open(self, address: str) -> Iterator[Place]:
        """Yield the connections in their handshake; those at `address` have a second for it."""
        now, parties = self._state.now, self._state.parties
        for task, newcomer in self._handshakes.items():
            if newcomer.connection is None and not task.cancelling():
                party = parties.of({}, newcomer.peer)
                settling = now - newcomer.began < SETTLING_S and address in party
                yield Place(party, WAITING if settling else RESTING, newcomer.began, task.cancel)

    def _sweep(self) -> None:
        self._state.now = self._clock()
        self._looks.clear()
        for connection in tuple(self._state.connections):
            connection.sweep()
        for listener in self._resting:
            self._loop.add_reader(listener.fileno(), self._accept, listener)
        self._resting.clear()
        self._timer = self._loop.call_later(self._sweep_s, self._sweep)


def _listen(addresses: list[tuple[int, str]], port: int) -> list[socket.socket]:
    """Return listening sockets, one per address, all on one port."""
    listeners: list[socket.socket] = []
    problem: OSError | None = None
    for family, address in addresses:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, port))
            listener.listen(BACKLOG)
            listener.settimeout(0)
        except OSError as err:
            listener.close()
            problem = err
            if err.errno in _NO_SUCH_ADDRESS:
                continue  # "localhost" names ::1 even where there is no IPv6
            break
        port = port or listener.getsockname()[1]
        listeners.append(listener)
    if problem is not None and problem.errno not in _NO_SUCH_ADDRESS:
        for listener in listeners:
            listener.close()
        listeners.clear()
    if not listeners:
        reason = problem.strerror if problem is not None else "the name has no address"
        raise ConfigError(
            f"cannot listen on port {port}: {reason}; choose another port in operator.toml, or "
            "stop what holds it"
        )
    return listeners
