"""The embedded queue, worker side: one blocking socket, because a worker has nothing else to do."""

import logging
import socket
import struct
import time
from collections import deque

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian._internal.log import event
from wardian.errors import PeerProtocolError
from wardian.serving.queue.frames import (
    CHALLENGE,
    LARGE_BYTES,
    MAX_FRAME_BYTES,
    Address,
    FrameKind,
    FrameReader,
    Hello,
    ask_if_there,
    credit_frame,
    frame,
    message_head,
    numbered_frame,
)
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.seam import Delivered, WorkerQueue
from wardian.serving.queue.slab import AVAILABLE
from wardian.serving.queue.slab_worker import WorkerSlabs, take_offer

log = logging.getLogger(__name__)

DEFAULT_CREDIT = 2
"""Of a worker that has granted nothing else; see `pace`."""

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
        slab_from_bytes: int = LARGE_BYTES,
    ) -> None:
        """Serve `lane` to the front end at `address`.

        Args:
            address: where the front end listens.
            lane: the model and version of this worker.
            credit: messages that may be here at a time, 1 to 1024, until `grant`.
            max_frame_bytes: largest request message that is accepted.
            slab_from_bytes: answers of this size and more travel in a slab, where there is one.
        """
        self._address = address
        takes_slabs = AVAILABLE and address.path is not None
        self._hello = Hello(
            model=lane.model, version=lane.version, credit=credit, slabs=takes_slabs
        )
        self._slab_from_bytes = slab_from_bytes
        self._slabs: WorkerSlabs | None = None
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
            self._refused.pop(message, None)
            self._answered.append(message)
            if len(sealed) >= self._slab_from_bytes and (place := self._put(message, sealed)):
                pieces.append(place)
                continue
            pieces.append(message_head(FrameKind.ANSWER, message, sealed))
            if len(sealed) < LARGE_BYTES:
                pieces.append(sealed)
                continue
            self._send(b"".join(pieces))
            self._send(sealed)  # as it is: one more write costs less than one more copy
            pieces.clear()
        if pieces:
            self._send(b"".join(pieces))

    @override
    def grant(self, credit: int) -> None:
        self._hello = msgspec.structs.replace(self._hello, credit=credit)
        if not self._said_so:
            self._send(credit_frame(credit))

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
        data: bytes | memoryview
        try:
            if missing := self._reader.missing:  # kept as it comes, so in memory of its own
                data = sock.recv(min(missing, _READ_BYTES))
            else:
                data = self._space[: sock.recv_into(self._space)]
        except BlockingIOError:  # SO_RCVTIMEO passed
            return []
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            self._back_off()
            return []
        try:
            if self._slabs is not None:
                self._slabs.begin()
            frames = self._reader.feed(data)
            return [each for frame in frames if (each := self._delivered(*frame))]
        except PeerProtocolError as err:
            event(log, "queue.stream_refused", level=logging.WARNING, why=str(err))
            self._disconnect()
            return []

    def _delivered(self, kind: int, number: int, body: bytes) -> Delivered | None:
        """Return the message of a frame, if it has one."""
        if kind == FrameKind.REQUEST:
            return Delivered(number, body)
        if kind == FrameKind.REQUEST_AT and self._slabs is not None:
            return Delivered(number, self._slabs.read(body))
        if kind == FrameKind.RELEASED and self._slabs is not None:
            self._slabs.released(number)
        elif kind == FrameKind.SLABS and self._slabs is None and self._hello.slabs:
            self._take_slabs(number, body)
        else:
            raise PeerProtocolError("frame out of turn")
        return None

    def _take_slabs(self, generation: int, body: bytes) -> None:
        """Take the slabs that are offered, or say that they could not be had."""
        path = self._address.path
        self._slabs = None if path is None else take_offer(path, generation, body)
        self._send(numbered_frame(FrameKind.TAKEN, 0 if self._slabs is None else generation))

    def _put(self, message: int, sealed: bytes) -> bytes | None:
        """Return the frame of an answer that lies in the slab now; None if it cannot."""
        if self._slabs is None or message == CHALLENGE:
            return None
        return self._slabs.write(message, sealed)

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
        if self._slabs is not None:
            self._slabs.close()
            self._slabs = None
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
        ask_if_there(sock)
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
