"""Field blocks that may come in several frames (RFC 9113 sections 4.3, 6.2 and 6.10)."""

from typing import NamedTuple

from wardian.serving.http.http2 import frames
from wardian.serving.http.http2.frames import ErrorCode, Frame, Violation
from wardian.serving.http.reader import MAX_HEADER_BYTES


class Block(NamedTuple):
    """A whole field block.

    Attributes:
        stream: that it belongs to.
        fields: still in HPACK.
        ends: no data follow.
    """

    stream: int
    fields: bytes
    ends: bool


class BlockReader:
    """Puts field blocks together; nothing else may come between their frames.

    Attributes:
        begun: whether one is not whole.
    """

    __slots__ = ("_ends", "_fields", "_stream", "begun")

    def __init__(self) -> None:
        self._fields = bytearray()
        self._stream = 0
        self._ends = self.begun = False

    def begin(self, frame: Frame) -> Block | None:
        """Take HEADERS; return the block if it is whole.

        Raises:
            Violation: not a stream of a client, or over the limit.
        """
        if frame.stream % 2 == 0:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        self._stream, self._ends = frame.stream, bool(frame.flags & frames.END_STREAM)
        self._fields = bytearray(frames.unpadded(frame))
        self.begun = True
        return self._whole(frame)

    def go_on(self, frame: Frame) -> Block | None:
        """Take CONTINUATION; return the block if it is whole.

        Raises:
            Violation: it continues nothing, or is over the limit.
        """
        if not self.begun or frame.stream != self._stream:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._fields += frame.payload
        return self._whole(frame)

    def _whole(self, frame: Frame) -> Block | None:
        if len(self._fields) > MAX_HEADER_BYTES:
            raise Violation(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"the headers are larger than {MAX_HEADER_BYTES} bytes",
                status=431,
            )
        if not frame.flags & frames.END_HEADERS:
            return None
        self.begun = False
        return Block(self._stream, bytes(self._fields), self._ends)
