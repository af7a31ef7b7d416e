"""What one HTTP/2 connection has to send: frames that go at once, and streams in their turns."""

from collections import OrderedDict
from typing import Final

from wardian.serving.http.http2 import allowance, frames
from wardian.serving.http.http2.allowance import Allowance
from wardian.serving.http.http2.frames import ErrorCode, Violation
from wardian.serving.http.http2.stream import Stream
from wardian.serving.http.messages import Buffer
from wardian.serving.http.outgoing import PIECE_BYTES

MAX_SEND_FRAME: Final = PIECE_BYTES


class Outbox:
    """Cuts answers into frames as flow control allows; one frame a stream and turn."""

    __slots__ = ("_allowance", "_frames", "_ready", "_window")

    def __init__(self, allowed: Allowance) -> None:
        """Give points back to `allowed` for what the client takes."""
        self._allowance = allowed
        self._frames: list[Buffer] = []
        self._ready: OrderedDict[int, Stream] = OrderedDict()
        self._window = frames.DEFAULT_WINDOW

    def put(self, data: bytes) -> None:
        """Send a frame that is under no flow control."""
        self._frames.append(data)

    def enqueue(self, stream: Stream) -> None:
        """Send what `stream` has pending; it keeps the turn that it has."""
        if stream.pending:
            self._ready.setdefault(stream.id, stream)

    def drop(self, stream: Stream) -> None:
        """`stream` has nothing to send any more."""
        self._ready.pop(stream.id, None)

    def clear(self) -> None:
        """Send nothing any more."""
        self._frames.clear()
        self._ready.clear()

    def widen(self, more: int) -> None:
        """The client takes `more` bytes.

        Raises:
            Violation: that is none, or more than a window holds (section 6.9.1).
        """
        self._window += more
        if not more or self._window > frames.MAX_WINDOW:
            raise Violation(ErrorCode.FLOW_CONTROL_ERROR, "a window is 1 to 2^31 - 1")

    def next_write(self) -> bytes:
        """Return what goes out next, about `PIECE_BYTES` at most; empty if nothing can."""
        size, ready, out = 0, self._ready, self._frames
        while ready and size < PIECE_BYTES:
            _, stream = ready.popitem(last=False)
            moved, parts = stream.next_frame(self._window)
            if not parts:
                stream.hold()  # a window is shut
                continue
            out.extend(parts)
            self._window -= moved
            size += moved
            self._allowance.earn(allowance.FRAME)
            self.enqueue(stream)
        if not out:
            return b""
        self._frames = []
        return b"".join(out)

    @property
    def waiting(self) -> bool:
        """Whether there is more for `next_write`."""
        return bool(self._ready or self._frames)

    def hold(self) -> None:
        """Account for whatever could not go out."""
        for stream in tuple(self._ready.values()):
            stream.hold()  # which may cut this connection off
