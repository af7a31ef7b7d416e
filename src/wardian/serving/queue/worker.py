"""The embedded queue, worker side: one blocking socket, because a worker has nothing else to do."""

import logging
import socket
import struct
import time
from collections import deque

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.log import event
from wardian.errors import PeerProtocolError
from wardian.serving.queue.frames import (
    CHALLENGE,
    MAX_FRAME_BYTES,
    Address,
    FrameKind,
    FrameReader,
    Hello,
    credit_frame,
    frame,
    message_head,
    split_message,
)
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.seam import Delivered, WorkerQueue

log = logging.getLogger(__name__)

DEFAULT_CREDIT = 2
"""One message in the engine and one on the way: the engine never waits, and packs grow."""

REFUSED_GRACE_S = 5.0
"""How long a message that did not open may stay unanswered, before the connection is dropped."""

STOP_GRACE_S = 30.0
"""How long a front end may keep a worker that said that it stops: it has what it holds by then."""

_REMEMBERED = 1024  # numbers of messages: the largest credit
_POLL_S = 0.25  # how soon `stop` is noticed by a worker that has nothing to do
_SEND_TIMEOUT_S = 30
_READ_BYTES = 256 * 1024
_MIN_PAUSE_S = 0.02
_MAX_PAUSE_S = 1.0


class SocketWorkerQueue(WorkerQueue):
    """A connection to one front end, made again whenever it is lost."""

    def __init__(
        self,
        address: Address,
        *,
        lane: Lane,
        credit: int = DEFAULT_CREDIT,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        """Serve `lane` to the front end at `address`.

        Args:
            address: where the front end listens.
            lane: the model and version of this worker.
            credit: messages that may be here at a time, 1 to 1024.
            max_frame_bytes: largest request message that is accepted.
        """
        self._address = address
        self._hello = Hello(model=lane.model, version=lane.version, credit=credit)
        self._max_frame_bytes = max_frame_bytes
        self._socket: socket.socket | None = None
        self._reader = FrameReader(max_bytes=max_frame_bytes)
        self._space = memoryview(bytearray(_READ_BYTES))
        self._pause_s = 0.0
        self._stopping = False
        self._said_so = False
        self._leave_at = 0.0
        self._answered: deque[int] = deque(maxlen=_REMEMBERED)
        self._refused: dict[int, float] = {}  # when the connection is to be dropped for it

    @override
    def take(self) -> list[Delivered] | None:
        while True:
            if self._socket is None:
                if self._stopping:
                    return None
                self._connect()
            elif self._refused and min(self._refused.values()) <= time.monotonic():
                event(log, "queue.left", level=logging.WARNING, why="a message was spoilt")
                self._disconnect()
                self._back_off()
            elif self._stopping and not self._said_so:
                self._said_so = True
                self._leave_at = time.monotonic() + STOP_GRACE_S
                self._send(credit_frame(0))
            elif self._said_so and time.monotonic() >= self._leave_at:
                self._disconnect()
                return None
            elif messages := self._receive(self._socket):
                if messages[-1].message != CHALLENGE:  # admitted: the next loss is another one
                    self._pause_s = 0.0
                return messages

    @override
    def answer(self, answers: list[Delivered]) -> None:
        pieces: list[bytes] = []
        for message, sealed in answers:
            pieces += (message_head(FrameKind.ANSWER, message, sealed), sealed)
            self._refused.pop(message, None)
            self._answered.append(message)
        self._send(b"".join(pieces))

    @override
    def refused(self, message: int) -> None:
        if len(self._refused) < _REMEMBERED and message not in self._answered:
            self._refused.setdefault(message, time.monotonic() + REFUSED_GRACE_S)

    @override
    def stop(self) -> None:
        self._stopping = True

    @override
    def close(self) -> None:
        self._stopping = True
        self._disconnect()

    def _connect(self) -> None:
        """Connect and introduce this worker, or pause and return to be called again."""
        time.sleep(self._pause_s)
        try:
            self._socket = _open(self._address)
        except OSError as err:
            if not self._pause_s:
                event(log, "queue.unreachable", level=logging.WARNING, error=type(err).__name__)
            self._back_off()
            return
        self._reader = FrameReader(max_bytes=self._max_frame_bytes)
        self._said_so = False
        self._send(frame(FrameKind.HELLO, wire.encode(self._hello)))

    def _receive(self, sock: socket.socket) -> list[Delivered]:
        """Return the messages that the next read completes; none after a pause or a loss."""
        try:
            count = sock.recv_into(self._space)
        except BlockingIOError:  # SO_RCVTIMEO passed
            return []
        except OSError:
            count = 0
        if not count:
            self._disconnect()
            self._back_off()
            return []
        try:
            frames = self._reader.feed(self._space[:count])
            return [_delivered(kind, body) for kind, body in frames]
        except PeerProtocolError as err:
            event(log, "queue.stream_refused", level=logging.WARNING, why=str(err))
            self._disconnect()
            return []

    def _send(self, data: bytes) -> None:
        if self._socket is not None:
            try:
                self._socket.sendall(data)
            except OSError:  # gone, or stuck for longer than anyone waits
                self._disconnect()

    def _back_off(self) -> None:
        """Wait longer before each further attempt, 20 ms to 1 s."""
        self._pause_s = min(_MAX_PAUSE_S, 2 * self._pause_s or _MIN_PAUSE_S)

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._refused.clear()
        self._answered.clear()


def _open(address: Address) -> socket.socket:
    if address.path is not None:
        sock = socket.socket(socket.AF_UNIX)
        target: str | tuple[str, int] = str(address.path)
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        sock = socket.socket(family)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = (address.host, address.port)
    try:
        sock.connect(target)
        # Timeouts of the kernel's: Python's own would cost another system call for each read.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(_POLL_S))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(_SEND_TIMEOUT_S))
    except OSError:
        sock.close()
        raise
    return sock


def _timeval(seconds: float) -> bytes:
    """Return `seconds` as the C library's struct timeval."""
    return struct.pack("@ll", int(seconds), round(seconds % 1 * 1_000_000))


def _delivered(kind: int, body: bytes) -> Delivered:
    if kind != FrameKind.REQUEST:
        raise PeerProtocolError("frame is not a request")
    return Delivered(*split_message(body))
