"""Frames of HTTP/2: bytes to frames and back. Knows no stream and no connection.

Source: RFC 9113, sections 4 (frames), 6 (their kinds) and 7 (error codes).
"""

import enum
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from wardian.serving.http.messages import Buffer

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (section 3.4)."""

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_BYTES: Final = 16_384
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM: Final = 2**31 - 1

_HEADER: Final = struct.Struct(">BHBBI")
_SETTING: Final = struct.Struct(">HI")


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class Violation(Exception):
    """The connection cannot go on; it ends with GOAWAY.

    Attributes:
        code: what the other end is told.
        status: the HTTP status under which it is counted.
    """

    def __init__(self, code: ErrorCode, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Frame(NamedTuple):
    """One frame.

    Attributes:
        kind: its type; unknown ones are possible.
        flags: its eight flags.
        stream: the stream that it belongs to, 0 for the connection.
        payload: its bytes, padding and all.
    """

    kind: int
    flags: int
    stream: int
    payload: bytes


class FrameReader:
    """Cuts a connection's bytes into frames."""

    __slots__ = ("_max_payload", "_rest")

    def __init__(self, *, max_payload: int) -> None:
        """Refuse frames with more than `max_payload` bytes as soon as they announce them."""
        self._max_payload = max_payload
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes.

        Raises:
            Violation: a frame is too large.
        """
        rest = self._rest
        source: bytes | bytearray = data
        if rest:
            rest += data
            source = rest
        at, size = 0, len(source)
        while size - at >= 9:
            high, low, kind, flags, stream = _HEADER.unpack_from(source, at)
            length = high << 16 | low
            if length > self._max_payload:
                raise Violation(
                    ErrorCode.FRAME_SIZE_ERROR,
                    f"a frame has at most {self._max_payload} bytes",
                    status=413,
                )
            end = at + 9 + length
            if end > size:
                break
            yield Frame(kind, flags, stream & MAX_STREAM, bytes(source[at + 9 : end]))
            at = end
        if source is rest:
            del rest[:at]
        elif at < size:
            rest += data[at:]


def frame(kind: int, flags: int, stream: int, payload: Buffer = b"") -> bytes:
    """Return one frame."""
    return frame_head(len(payload), kind, flags, stream) + payload


def frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """Return the nine bytes before a payload of `length` bytes."""
    return _HEADER.pack(length >> 16, length & 0xFFFF, kind, flags, stream)


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """Return the settings in `payload`, in their order.

    Raises:
        Violation: not a whole number of settings.
    """
    if len(payload) % _SETTING.size:
        raise Violation(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS: six bytes each were expected")
    return list(_SETTING.iter_unpack(payload))


def parse_u31(frame_: Frame) -> int:
    """Return the 31-bit number that is the whole payload of WINDOW_UPDATE.

    Raises:
        Violation: another length.
    """
    return parse_u32(frame_) & MAX_WINDOW


def parse_u32(frame_: Frame) -> int:
    """Return the 32-bit number that is the whole payload, as in RST_STREAM.

    Raises:
        Violation: another length.
    """
    if len(frame_.payload) != 4:
        raise Violation(ErrorCode.FRAME_SIZE_ERROR, "a payload of four bytes was expected")
    return int.from_bytes(frame_.payload, "big")


def unpadded(frame_: Frame) -> bytes:
    """Return the payload of DATA or HEADERS without padding and priority.

    Raises:
        Violation: more padding than payload, or no room for the priority.
    """
    payload, flags = frame_.payload, frame_.flags
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload or payload[0] >= end:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        start, end = 1, end - payload[0]
    if frame_.kind == HEADERS and flags & PRIORITIZED:
        if end - start < 5:
            raise Violation(ErrorCode.FRAME_SIZE_ERROR, "HEADERS: no room for the priority")
        start += 5
    return payload[start:end]


def goaway(last_stream: int, code: ErrorCode, why: str = "") -> bytes:
    """Return a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, _u32(last_stream) + _u32(code) + why.encode()[:200])


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, _u32(code))


def window_update(stream: int, more: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, _u32(more))


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")
