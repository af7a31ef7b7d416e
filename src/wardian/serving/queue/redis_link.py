"""A blocking TLS connection to Redis, for a worker."""

import contextlib
import socket
import ssl
from collections import deque

from typing_extensions import override

from wardian.errors import ConnectionLost, Timeout
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_access import RedisAccess
from wardian.serving.queue.redis_session import Link, open_session, run_blocking
from wardian.serving.queue.redis_wire import Reply, ReplyReader

SILENCE_S = 5.0
"""How long connecting, or the answer to a command, may take beyond the time that it asked for."""

_READ_BYTES = 16 * 1024  # what a TLS record holds, which is what a read returns


class BlockingLink(Link):
    """Commands out, replies in; for one thread at a time."""

    def __init__(self, sock: ssl.SSLSocket, *, max_reply_bytes: int) -> None:
        """Speak on `sock`, which is connected; replies larger than `max_reply_bytes` end it."""
        self._socket = sock
        self._reader = ReplyReader(max_bytes=max_reply_bytes)
        self._replies: deque[Reply] = deque()

    @classmethod
    def open(
        cls, access: RedisAccess, context: ssl.SSLContext, *, first: bytes, max_reply_bytes: int
    ) -> "BlockingLink":
        """Return a connection that is logged in, to the server that has the keys.

        Raises:
            TransportError: there is none to be had now.
        """

        async def dial(address: Address) -> BlockingLink:
            sock = _connect(address, context, access.server_name)
            return cls(sock, max_reply_bytes=max_reply_bytes)

        return run_blocking(open_session(access, dial, first=first))[0]

    def write(self, data: bytes) -> None:
        """Send `data`.

        Raises:
            ConnectionLost: the connection is.
        """
        try:
            self._socket.sendall(data)
        except OSError as err:
            raise ConnectionLost(f"Redis: the connection broke ({type(err).__name__})") from err

    def read(self) -> Reply:
        """Return the next reply.

        Raises:
            PeerProtocolError: it is none, or too large.
            TransportError: none came in time, or the connection is lost.
        """
        while not self._replies:
            try:
                data = self._socket.recv(_READ_BYTES)
            except TimeoutError as err:
                raise Timeout("Redis: says nothing") from err
            except OSError as err:
                raise ConnectionLost(f"Redis: the connection broke ({type(err).__name__})") from err
            if not data:
                raise ConnectionLost("Redis: the connection was closed")
            self._replies.extend(self._reader.feed(data))
        return self._replies.popleft()

    @override
    async def call(self, data: bytes) -> Reply:
        self.write(data)
        return self.read()

    @override
    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def _connect(address: Address, context: ssl.SSLContext, server_name: str) -> ssl.SSLSocket:
    """Return a TLS connection to `address`, whose server proved that it is `server_name`.

    Raises:
        OSError: it cannot be had; a `ssl.SSLError` where TLS failed.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    plain = socket.socket(family)
    try:
        plain.settimeout(SILENCE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.connect((address.host, address.port))
        return context.wrap_socket(plain, server_hostname=server_name)
    except BaseException:
        plain.close()
        raise
