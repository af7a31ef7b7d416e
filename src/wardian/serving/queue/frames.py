"""Frames of the embedded queue on a byte stream, and the addresses at which it listens.

A frame is u32 length (of what follows), u8 kind, body; big-endian. The table of kinds is in
`docs/reference/queue-socket.md`. Whoever is on the other end may send anything: a reader holds at
most one frame of the allowed size and refuses the stream at the first byte that does not fit.
"""

import enum
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian.errors import ConfigError, PeerProtocolError

MAX_FRAME_BYTES = 256 * 1024**2
"""Largest frame from a peer that was admitted, unless configured otherwise."""

MAX_GREETING_BYTES = 64 * 1024
"""Largest frame from a peer that was not admitted yet."""

CHALLENGE = 0
"""The number of the message that challenges a worker; no other message has it."""

_HEAD = struct.Struct(">IB")
_MESSAGE_HEAD = struct.Struct(">IBQ")
_NUMBER = struct.Struct(">Q")
_MAX_UNIX_PATH_BYTES = 107  # sun_path of Linux's unix(7), less its final zero


class FrameKind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1  # worker to front end, first: `Hello` as JSON
    REQUEST = 2  # front end to worker: u64 message, sealed bytes
    ANSWER = 3  # worker to front end: u64 message, sealed bytes
    CREDIT = 4  # worker to front end: u64, how many messages it takes from now on


class Hello(wire.Message, frozen=True, kw_only=True):
    """What a worker says of itself. A claim: only its answer to the challenge proves it."""

    protocol: Literal[1] = 1
    model: Annotated[str, msgspec.Meta(max_length=64)]
    version: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    credit: Annotated[int, msgspec.Meta(ge=1, le=1024)]


class FrameReader:
    """Cuts a stream into frames, whatever the pieces in which it arrives."""

    __slots__ = ("_buffer", "max_bytes")

    def __init__(self, *, max_bytes: int) -> None:
        """Accept frames of up to `max_bytes`; the limit may be changed between frames."""
        self.max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> list[tuple[int, bytes]]:
        """Return kind and body of the frames that `data` completes.

        Raises:
            PeerProtocolError: a frame is empty or larger than allowed; the stream is of no use.
        """
        if self._buffer:
            self._buffer += data
            with memoryview(self._buffer) as stream:
                frames, used = self._cut(stream)
            del self._buffer[:used]
        else:
            with memoryview(data) as stream:
                frames, used = self._cut(stream)
                self._buffer += stream[used:]
        return frames

    def _cut(self, stream: memoryview) -> tuple[list[tuple[int, bytes]], int]:
        """Return the whole frames at the front of `stream`, and their length together."""
        frames: list[tuple[int, bytes]] = []
        start, end = 0, len(stream)
        while end - start >= _HEAD.size:
            length, kind = _HEAD.unpack_from(stream, start)
            if not 0 < length <= self.max_bytes:
                raise PeerProtocolError(f"frame of {length} bytes; 1 to {self.max_bytes} allowed")
            stop = start + 4 + length
            if stop > end:
                break
            frames.append((kind, bytes(stream[start + 5 : stop])))
            start = stop
        return frames, start


def frame(kind: FrameKind, body: bytes) -> bytes:
    """Return a frame of `kind`."""
    return _HEAD.pack(1 + len(body), kind) + body


def message_head(kind: FrameKind, message: int, sealed: bytes) -> bytes:
    """Return what precedes `sealed` in a REQUEST or ANSWER frame."""
    return _MESSAGE_HEAD.pack(9 + len(sealed), kind, message)


def split_message(body: bytes) -> tuple[int, bytes]:
    """Return number and sealed bytes of a REQUEST or ANSWER frame."""
    return parse_number(body), body[8:]


def credit_frame(credit: int) -> bytes:
    """Return a CREDIT frame."""
    return frame(FrameKind.CREDIT, _NUMBER.pack(credit))


def parse_number(body: bytes) -> int:
    """Return the u64 with which `body` starts.

    Raises:
        PeerProtocolError: `body` is shorter.
    """
    if len(body) < _NUMBER.size:
        raise PeerProtocolError("frame ends within its number")
    return int(_NUMBER.unpack_from(body)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a queue listens: a Unix socket (`path`) or TCP (`host`, `port`)."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Return the address in `text`: a path, or "tcp:HOST:PORT".

        Raises:
            ConfigError: no port, or a path longer than the system takes.
        """
        if not text.startswith("tcp:"):
            if not 0 < len(text.encode()) <= _MAX_UNIX_PATH_BYTES:
                raise ConfigError(
                    f"queue address {text!r}: a Unix socket's path has 1 to "
                    f"{_MAX_UNIX_PATH_BYTES} bytes; choose a shorter state directory"
                )
            return cls(path=Path(text))
        host, _, port = text.removeprefix("tcp:").rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f'queue address {text!r}: expected "tcp:HOST:PORT" or a path')
        return cls(host=host.strip("[]"), port=int(port))

    @override
    def __str__(self) -> str:
        if self.path is not None:
            return str(self.path)
        return (
            f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"
        )
