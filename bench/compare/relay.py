"""Counts the bytes of TCP that pass between two processes: both ends talk through this one.

It counts payload: what TLS and HTTP add is in it, the headers of TCP and IP are not. A relay adds
to every answer's time, so nothing is timed while it stands between.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK_BYTES = 65536


class Relay:
    """A port of this machine that leads to another; counts both directions."""

    def __init__(self, target: int) -> None:
        """Listen on loopback, and lead to port `target` there."""
        self._target = target
        self._up, self._down, self._lock = 0, 0, threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def counted(self) -> tuple[int, int]:
        """Return how many bytes went to the target so far, and how many came from it."""
        with self._lock:
            return self._up, self._down

    def close(self) -> None:
        """Accept nobody any more, and end what is open."""
        for each in (self._server, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:  # closed
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # nobody is there yet
                near.close()
                continue
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(each)
            for ends in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:  # noqa: FBT001
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                with self._lock:  # before it is sent: whoever has the answer finds it counted
                    if up:
                        self._up += len(data)
                    else:
                        self._down += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def relay(target: int) -> Iterator[Relay]:
    """Lead to port `target` until the block ends."""
    between = Relay(target)
    try:
        yield between
    finally:
        between.close()
