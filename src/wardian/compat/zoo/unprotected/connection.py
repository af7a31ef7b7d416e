"""A connection to a Redis that blocks its caller: bounded replies, deadlines, typed errors.

After any error the connection is gone, whatever was under way on it, and the next call makes a new
one. One caller speaks at a time.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Protocol, TypeAlias, TypeVar

from typing_extensions import override

from wardian._internal.clock import Monotonic, monotonic
from wardian.compat.zoo.closing import Closing
from wardian.compat.zoo.unprotected.place import RedisPlace
from wardian.errors import (
    ConnectionLost,
    LocalProtocolError,
    PeerProtocolError,
    QueueFull,
    Timeout,
    TransportError,
)
from wardian.serving.queue.redis_wire import NO_ROOM, Refusal, Reply, ReplyReader, command

MAX_REPLY_BYTES: Final = 384 * 1024**2
"""The largest result (`MAX_RESULT_ELEMENTS`) has 341 MiB in base64."""
_NOT_NOW: Final = ("LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN", "READONLY", "CLUSTERDOWN")
"""Codes of refusals that pass by themselves."""
_READ_BYTES: Final = 256 * 1024
_LEAST_S: Final = 0.001  # 0 would mean: do not wait at all
_MOST_S: Final = 86_400.0  # more than some systems' calls take

_T = TypeVar("_T")


class Wire(Protocol):
    """A connected socket, as far as it is used here."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of `data`, or raise OSError."""

    def recv(self, size: int, /) -> bytes:
        """Return what has come, at most `size` bytes; nothing at the end."""

    def settimeout(self, seconds: float, /) -> None:
        """Bound each of the two above; `TimeoutError` then."""

    def close(self) -> None:
        """End it."""


Open: TypeAlias = Callable[[RedisPlace, float], Wire]
"""Connects to a place within so many seconds."""
Talk: TypeAlias = Callable[[Sequence[bytes]], list[Reply]]
"""Sends commands, and returns the reply to each."""


class BlockingRedis(Closing):
    """One connection, made when it is needed. Thread-safe."""

    def __init__(
        self, place: RedisPlace, *, open_wire: Open | None = None, clock: Monotonic = monotonic
    ) -> None:
        """Connect to nobody yet."""
        self._place, self._open, self._clock = place, open_wire or open_socket, clock
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._reader = ReplyReader(max_bytes=MAX_REPLY_BYTES)
        self._closed = False

    def ask(self, commands: Sequence[bytes], *, deadline: float) -> list[Reply]:
        """Return the reply to each of `commands`, which go out in one piece.

        Args:
            commands: see `redis_wire.command`.
            deadline: by the clock, for all of it.

        Raises:
            TransportError: they may have been carried out, or not.
            ConfigError: the password's file cannot be used, or the way is open to everybody.
        """
        with self.alone(deadline=deadline) as talk:
            return talk(commands)

    @contextmanager
    def alone(self, *, deadline: float) -> Iterator[Talk]:
        """Have the connection for oneself: what WATCH said holds until its end.

        An error within ends the connection. Raises as `ask`.
        """
        if not self._lock.acquire(timeout=min(_MOST_S, max(0.0, deadline - self._clock()))):
            raise Timeout("Redis: no turn within the time that was given")
        try:
            if self._closed:
                raise LocalProtocolError("this queue is closed")
            try:
                yield self._talk(deadline)
            except BaseException:
                self._drop()
                raise
        finally:
            self._lock.release()

    @override
    def close(self) -> None:
        """End the connection, once nobody is speaking on it; nobody can any more."""
        with self._lock:
            self._closed = True
            self._drop()

    def _talk(self, deadline: float) -> Talk:
        wire = self._wire
        if wire is None:
            self._reader = ReplyReader(max_bytes=MAX_REPLY_BYTES)
            wire = self._wire = _guarded(lambda: self._open(self._place, self._left(deadline)))
            self._log_in(wire, deadline)
        return lambda commands: self._exchange(wire, commands, deadline)

    def _log_in(self, wire: Wire, deadline: float) -> None:
        place = self._place
        if place.password is None:
            asked = command(b"PING")
        else:
            user = (place.username.encode(),) if place.username else ()
            asked = command(b"AUTH", *user, place.password().reveal())
        (reply,) = self._exchange(wire, [asked], deadline)
        if isinstance(reply, Refusal):
            if reply.code in _NOT_NOW:
                accept(reply)
            raise PeerProtocolError(f"Redis: does not let this client in ({reply.code})")

    def _exchange(self, wire: Wire, commands: Sequence[bytes], deadline: float) -> list[Reply]:
        replies: list[Reply] = []
        wire.settimeout(self._left(deadline))
        _guarded(lambda: wire.sendall(b"".join(commands)))
        while len(replies) < len(commands):
            wire.settimeout(self._left(deadline))
            data = _guarded(lambda: wire.recv(_READ_BYTES))
            if not data:
                raise ConnectionLost("Redis: the connection was closed")
            replies += self._reader.feed(data)
        if len(replies) > len(commands):
            raise PeerProtocolError("Redis: answered what was not asked")
        return replies

    def _left(self, deadline: float) -> float:
        left_s = deadline - self._clock()
        if left_s <= 0:
            raise Timeout("Redis: no answer within the time that was given")
        return min(_MOST_S, left_s)

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(OSError):
                wire.close()


def accept(reply: Reply) -> Reply:
    """Return `reply`, which is no refusal.

    Raises:
        QueueFull: Redis' memory, or its disk, is full.
        TransportError: it refuses for now, or for good (`PeerProtocolError`).
    """
    if not isinstance(reply, Refusal):
        return reply
    undone = reply.code == "EXECABORT" and any(word.encode() in reply.text for word in NO_ROOM)
    if reply.code in NO_ROOM or undone:
        raise QueueFull("Redis: its memory, or its disk, is full: nothing was written")
    if reply.code in _NOT_NOW:
        raise TransportError(f"Redis: not now ({reply.code})")
    raise PeerProtocolError(f"Redis: refuses ({reply.code})")


def open_socket(place: RedisPlace, timeout_s: float) -> socket.socket:
    """Return a connection to `place`, with TLS where it says so.

    Raises:
        OSError: it cannot be had.
        ConnectionLost, ConfigError: as of `RedisPlace.addresses`.
    """
    end = monotonic() + timeout_s
    why: OSError = ConnectionRefusedError()
    for address in place.addresses():
        try:
            sock = socket.create_connection(address, timeout=max(_LEAST_S, end - monotonic()))
        except OSError as err:
            why = err
            continue
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if place.tls is None:
                return sock
            sock.settimeout(max(_LEAST_S, end - monotonic()))
            return place.tls.wrap_socket(sock, server_hostname=place.tls_name)
        except BaseException:
            sock.close()
            raise
    raise why


def _guarded(act: Callable[[], _T]) -> _T:
    """Return what `act` returns; what goes wrong on the way has a type of ours."""
    try:
        return act()
    except TimeoutError as err:
        raise Timeout("Redis: no answer within the time that was given") from err
    except ssl.SSLCertVerificationError as err:
        raise PeerProtocolError("Redis: its certificate is not that of its CA and name") from err
    except OSError as err:
        raise ConnectionLost(f"Redis: the connection broke ({type(err).__name__})") from err
