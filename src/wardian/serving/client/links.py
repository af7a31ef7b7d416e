"""Verified connections of the synchronous client: opened, used by one call at a time, kept."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from wardian._internal.clock import monotonic
from wardian.errors import ConnectionLost, QueueFull, Timeout
from wardian.serving.client.connection import ClientConnection, Destination
from wardian.serving.client.messages import Answer
from wardian.serving.client.origin import handshake_failed
from wardian.serving.client.policy import VerifiedFrontend

MAX_IDLE: Final = 16
"""Connections that are kept for the next call."""
READ_BYTES: Final = 256 * 1024


class Link:
    """A socket and the protocol on it."""

    def __init__(self, sock: socket.socket, protocol: ClientConnection) -> None:
        """Speak `protocol` on `sock`."""
        self._sock = sock
        self.protocol = protocol

    def exchange(self, request: bytes, deadline: float) -> Answer:
        """Return the answer to `request`.

        Raises:
            Timeout: `deadline` (monotonic seconds) passed.
            ConnectionLost: the connection broke.
        """
        self.send(request, deadline)
        while True:
            answer = self.protocol.receive(self.receive(deadline))
            if answer is not None:
                return answer

    def send(self, request: bytes, deadline: float) -> None:
        """Send `request`; raises as `exchange`."""
        with _typed_errors():
            self._sock.settimeout(_left(deadline))
            self._sock.sendall(request)

    def receive(self, deadline: float) -> bytes:
        """Return some bytes, or none at the end of the connection; raises as `exchange`."""
        with _typed_errors():
            self._sock.settimeout(_left(deadline))
            return self._sock.recv(READ_BYTES)

    def close(self) -> None:
        """Close the socket."""
        with suppress(OSError):
            self._sock.close()


class Links:
    """The connections of one client to one front end. Thread-safe."""

    def __init__(self, destination: Destination) -> None:
        """Connect to nothing yet; later to `destination`."""
        self._destination = destination
        self._idle: list[Link] = []
        self._lock = threading.Lock()  # guards the idle links
        self._verifying = threading.Lock()  # one asks for evidence, the others profit
        self._closed = False
        self.frontend: VerifiedFrontend | None = None
        """What the newest connection's other end was verified as."""

    def take(self, deadline: float, *, anew: bool) -> Link:
        """Return a connection for one call: one that was kept, unless it is to be made `anew`.

        Raises:
            TransportError: none is to be had by `deadline` (monotonic seconds).
            PolicyDenied, AttestationError: the other end is not what it must be.
        """
        if not anew:
            with self._lock:
                if self._idle:
                    return self._idle.pop()
        return self._open(deadline)

    def give_back(self, link: Link) -> None:
        """Keep `link` for the next call, if that may follow on it."""
        with self._lock:
            if not self._closed and link.protocol.reusable and len(self._idle) < MAX_IDLE:
                self._idle.append(link)
                return
        link.close()

    def close(self) -> None:
        """Close all idle connections, and each other one with its call."""
        with self._lock:
            self._closed = True
            links, self._idle = self._idle, []
        for link in links:
            link.close()

    def _open(self, deadline: float) -> Link:
        """Return a new connection whose other end is verified."""
        origin = self._destination.origin
        try:
            raw = socket.create_connection((origin.host, origin.port), timeout=_left(deadline))
        except TimeoutError as err:
            raise Timeout(f"no connection to {origin.authority} in time") from err
        except OSError as err:
            raise ConnectionLost(f"cannot connect to {origin.authority}: {err.strerror}") from err
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = self._destination.context.wrap_socket(raw, server_hostname=origin.host)
            raw = sock
            link = Link(sock, self._destination.begin(sock.getpeercert(binary_form=True)))
            self._verify(link, deadline)
        except TimeoutError as err:
            raw.close()
            raise Timeout(f"no TLS connection to {origin.authority} in time") from err
        except OSError as err:
            raw.close()
            raise handshake_failed(origin, err) from err
        except BaseException:
            raw.close()
            raise
        return link

    def _verify(self, link: Link, deadline: float) -> None:
        if not self._verifying.acquire(timeout=_left(deadline)):
            raise Timeout("another call is still waiting for this front end's evidence")
        try:
            while not link.protocol.recheck():
                answer = link.exchange(link.protocol.evidence_request(), deadline)
                try:
                    link.protocol.verify(answer)
                except QueueFull as busy:
                    if monotonic() + busy.retry_after_s > deadline or not link.protocol.reusable:
                        raise
                    time.sleep(busy.retry_after_s)
        finally:
            self._verifying.release()
        self.frontend = link.protocol.frontend


def seconds_until(deadline: float) -> float:
    """Return how long it is until `deadline`, monotonic seconds.

    Raises:
        Timeout: it has passed.
    """
    with _typed_errors():
        return _left(deadline)


@contextmanager
def _typed_errors() -> Iterator[None]:
    """Raise what a socket does as `Timeout` or `ConnectionLost`."""
    try:
        yield
    except TimeoutError as err:
        raise Timeout("no answer within the time that was given") from err
    except OSError as err:
        raise ConnectionLost(f"the connection broke: {err.strerror or err}") from err


def _left(deadline: float) -> float:
    """Return the seconds until `deadline`; TimeoutError, as sockets raise it, if there are none."""
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left
