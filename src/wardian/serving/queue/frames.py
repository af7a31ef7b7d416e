"""Frames of the embedded queue on a byte stream, and the addresses at which it listens.

A frame is u32 length (of what follows), u8 kind, body; big-endian. The table of kinds is in
`docs/reference/queue-socket.md`. Whoever is on the other end may send anything: a reader holds at
most one frame of the allowed size and refuses the stream at the first byte that does not fit.
"""

import contextlib
import enum
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian.errors import ConfigError, PeerProtocolError

MAX_FRAME_BYTES = 256 * 1024**2
"""Largest frame from a peer that was admitted, unless configured otherwise."""

MAX_GREETING_BYTES = 64 * 1024
"""Largest frame from a peer that was not admitted yet."""

LARGE_BYTES = 64 * 1024
"""From this size on a message travels in a slab where there is one, and is not copied in parts."""

CHALLENGE = 0
"""The number of the message that challenges a worker; no other message has it."""

_HEAD = struct.Struct(">IB")
_MESSAGE_HEAD = struct.Struct(">IBQ")
_NUMBER = struct.Struct(">Q")
_SMALL_PIECE_BYTES = 4096
_MAX_UNIX_PATH_BYTES = 107  # sun_path of Linux's unix(7), less its final zero


_SILENT_S = 5
_ASK_EVERY_S = 2
_ASK_TIMES = 3


def ask_if_there(sock: socket.socket) -> None:
    """Let the kernel notice within seconds that the other end of a TCP connection is no more.

    A machine that lost its power, or its network, ends no connection. Who only waits for the other
    end to speak would wait for ever.
    """
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _ASK_EVERY_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _ASK_TIMES)


class FrameKind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1  # worker to front end, first: `Hello` as JSON
    REQUEST = 2  # front end to worker: u64 message, sealed bytes
    ANSWER = 3  # worker to front end: u64 message, sealed bytes
    CREDIT = 4  # worker to front end: u64, how many messages it takes from now on
    SLABS = 5  # front end to worker: u64 generation, then `slab_handover.Offer`
    FETCH = 6  # worker to front end, alone on a connection of its own: the token of an offer
    TAKEN = 7  # worker to front end: u64, the generation that it uses from now on; 0 for none
    REQUEST_AT = 8  # front end to worker: u64 message, `slab.Place`
    ANSWER_AT = 9  # worker to front end: u64 message, `slab.Place`
    RELEASED = 10  # front end to worker: u64, the message whose answer was read out of its place


_WITHOUT_NUMBER = frozenset({FrameKind.HELLO, FrameKind.FETCH})

Frame: TypeAlias = tuple[int, int, bytes]
"""Kind; the number with which a frame begins, 0 where its kind has none; the rest of it."""


class Hello(wire.Message, frozen=True, kw_only=True):
    """What a worker says of itself. A claim: only its answer to the challenge proves it."""

    protocol: Literal[1] = 1
    model: Annotated[str, msgspec.Meta(max_length=64)]
    version: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    credit: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    slabs: bool = False  # whether it would take slabs on this connection


class FrameReader:
    """Cuts a stream into frames, whatever the pieces in which it arrives.

    The pieces of a large message are kept as they come and joined once.
    """

    __slots__ = ("_buffer", "_pieces", "_started", "max_bytes", "missing")

    def __init__(self, *, max_bytes: int) -> None:
        """Accept frames of up to `max_bytes`; the limit may be changed between frames."""
        self.max_bytes = max_bytes
        self.missing = 0
        """How many bytes of a large message are still to come; 0 if none is under way."""
        self._buffer = bytearray()
        self._pieces: list[bytes | bytearray] = []
        self._started = (0, 0)  # kind and number of the large message under way

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises:
            PeerProtocolError: a frame is empty, larger than allowed, or shorter than its number;
                the stream is of no use.
        """
        if self.missing:
            return self._go_on(data)
        if self._buffer:
            self._buffer += data
            with memoryview(self._buffer) as stream:
                frames, used = self._cut(stream)
            del self._buffer[:used]
        else:
            with memoryview(data) as stream:
                frames, used = self._cut(stream)
                if used < len(stream):
                    self._buffer += stream[used:]
        return frames

    def _cut(self, stream: memoryview) -> tuple[list[Frame], int]:
        """Return the whole frames at the front of `stream`, and how much of it is done with."""
        frames: list[Frame] = []
        start, end = 0, len(stream)
        while end - start >= _HEAD.size:
            length, kind = _HEAD.unpack_from(stream, start)
            if not 0 < length <= self.max_bytes:
                raise PeerProtocolError(f"frame of {length} bytes; 1 to {self.max_bytes} allowed")
            stop = start + 4 + length
            if kind in _WITHOUT_NUMBER:
                if stop > end:
                    break
                frames.append((kind, 0, bytes(stream[start + 5 : stop])))
            elif length < 1 + _NUMBER.size:
                raise PeerProtocolError("frame ends within its number")
            elif stop <= end:
                (number,) = _NUMBER.unpack_from(stream, start + 5)
                frames.append((kind, number, bytes(stream[start + 13 : stop])))
            elif length < LARGE_BYTES or end - start < _MESSAGE_HEAD.size:
                break
            else:
                self._started = (kind, _NUMBER.unpack_from(stream, start + 5)[0])
                self._pieces = [bytearray(stream[start + 13 :])]
                self.missing = stop - end
                stop = end
            start = stop
        return frames, start

    def _go_on(self, data: bytes | memoryview) -> list[Frame]:
        """Return the large message under way, once `data` completes it, and what follows it."""
        piece = data[: self.missing]
        if len(piece) < _SMALL_PIECE_BYTES and isinstance(last := self._pieces[-1], bytearray):
            last += piece  # an object of its own would be larger than what is in it
        elif len(piece) < _SMALL_PIECE_BYTES:
            self._pieces.append(bytearray(piece))
        else:
            self._pieces.append(bytes(piece))  # no copy of what is bytes already
        self.missing -= len(piece)
        if self.missing:
            return []
        whole: Frame = (*self._started, b"".join(self._pieces))
        self._pieces = []
        return [whole, *self.feed(data[len(piece) :])]


def frame(kind: FrameKind, body: bytes) -> bytes:
    """Return a frame of `kind`."""
    return _HEAD.pack(1 + len(body), kind) + body


def message_head(kind: FrameKind, message: int, sealed: bytes) -> bytes:
    """Return what precedes `sealed` in a REQUEST or ANSWER frame."""
    return _MESSAGE_HEAD.pack(9 + len(sealed), kind, message)


def numbered_frame(kind: FrameKind, number: int, body: bytes = b"") -> bytes:
    """Return a frame of `kind` that begins with `number`."""
    return _MESSAGE_HEAD.pack(9 + len(body), kind, number) + body


def credit_frame(credit: int) -> bytes:
    """Return a CREDIT frame."""
    return numbered_frame(FrameKind.CREDIT, credit)


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
