"""Frames on a TLS stream: a length (u32, big endian), then that many bytes of JSON.

Every read has a bound and a deadline, so that a peer that sends much, or nothing, holds neither
memory nor a place for long.
"""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Callable
from typing import Final, cast

from typing_extensions import override

from wardian.errors import ConnectionLost, FormatError, PeerProtocolError, Timeout

HEADER: Final = struct.Struct(">I")
FIRST_FRAME_BYTES: Final = 64 * 1024
"""Messages 1: they carry names and a nonce, and come from anybody."""
ATTESTATION_FRAME_BYTES: Final = 512 * 1024
"""Message 3 of a release: a quote of 8 KiB at most, and collateral."""
FRAME_BYTES: Final = 4 * 1024 * 1024
"""All others, which come from the broker or carry a manifest."""
SPACE_BYTES: Final = 16 * 1024
"""Of what a connection takes in before it is asked for: as much as TLS protects at once."""
JOINED_BYTES: Final = 64 * 1024
"""A frame of no more is copied to what goes before it: TLS's own work for another piece is more."""
FRAME_TIMEOUT_S: Final = 30.0
"""As long as a session lives: what comes later would be refused anyway."""
CLOSE_TIMEOUT_S: Final = 2.0


class FrameStream(asyncio.BufferedProtocol):
    """One connection, seen as frames; the protocol of its transport.

    What comes lies in `SPACE_BYTES` until it is asked for. A frame is read into memory of its own,
    straight from TLS once it has begun. Nothing else is held: who sends more has to wait.
    """

    __slots__ = (
        "_drained", "_end", "_frame", "_gone", "_late", "_loop", "_opened", "_paused", "_rest",
        "_space", "_start", "_transport", "_waiting",
    )  # fmt: skip

    def __init__(self, opened: "Callable[[FrameStream], object]" = lambda _: None) -> None:
        """Wait for a connection; `opened` is called when it is there, its TLS handshake done."""
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._transport = asyncio.Transport()
        self._space = memoryview(bytearray(SPACE_BYTES))
        self._start = self._end = 0  # of what lies there
        self._frame: memoryview | None = None  # the one that has begun
        self._rest = memoryview(b"")  # of it, where nothing is yet
        self._waiting: asyncio.Future[None] | None = None
        self._late = self._paused = False
        self._drained, self._gone = asyncio.Event(), asyncio.Event()
        self._drained.set()

    @property
    def host(self) -> str:
        """The IP address at the other end."""
        return str(self._transport.get_extra_info("peername")[0])

    async def receive(self, *, most: int, timeout_s: float = FRAME_TIMEOUT_S) -> bytes:
        """Return the next frame's content, 1 to `most` bytes.

        Raises:
            PeerProtocolError: the frame is empty or longer than `most`; nothing of it was read.
            ConnectionLost: the peer went away first.
            Timeout: the frame was not whole in time.
        """
        return bytes(await self._whole(most, None, timeout_s))

    async def receive_into(self, space: memoryview, *, timeout_s: float = FRAME_TIMEOUT_S) -> None:
        """Put the next frame's content into `space`, which it fills, 1 byte or more.

        Raises:
            FormatError: the frame has another length; nothing of it was read.
            ConnectionLost, Timeout: as `receive`.
        """
        await self._whole(len(space), space, timeout_s)

    async def _whole(self, most: int, space: memoryview | None, timeout_s: float) -> memoryview:
        if (frame := self._taken(most, space)) is not None:
            return frame
        self._late = False
        timer = self._loop.call_later(timeout_s, self._expire)
        try:
            while (frame := self._taken(most, space)) is None:
                if self._late:
                    raise Timeout(f"no whole message came within {timeout_s:g} s")
                if self._gone.is_set():
                    raise ConnectionLost("the peer closed the connection before a whole message")
                self._waiting = self._loop.create_future()
                await self._waiting
        finally:
            timer.cancel()
        return frame

    def _taken(self, most: int, space: memoryview | None) -> memoryview | None:
        """Return the next frame if it is whole; what is there of it is in its own memory then."""
        if self._frame is None:
            if self._end - self._start < HEADER.size:
                self._make_room()
                return None
            (length,) = HEADER.unpack_from(self._space, self._start)
            if space is not None and length != len(space):
                raise FormatError(f"a frame of {length} bytes; {len(space)} were to come")
            if not 1 <= length <= most:
                raise PeerProtocolError(f"a frame of {length} bytes; 1 to {most} are accepted")
            self._frame = memoryview(bytearray(length)) if space is None else space
            begin = self._start + HEADER.size
            there = self._space[begin : min(self._end, begin + length)]
            self._frame[: len(there)] = there
            self._rest = self._frame[len(there) :]
            self._start = begin + len(there)
            self._make_room()
        if self._rest:
            return None
        frame, self._frame = self._frame, None
        return frame

    def _make_room(self) -> None:
        """Let the peer go on if all but a part of a header was taken."""
        left = bytes(self._space[self._start : min(self._end, self._start + HEADER.size)])
        if len(left) < HEADER.size:
            self._space[: len(left)] = left
            self._start, self._end = 0, len(left)
            if self._paused:
                self._paused = False
                self._transport.resume_reading()

    @property
    def drained(self) -> bool:
        """Whether what was sent is gone, but for so little that more can follow at once."""
        return self._drained.is_set()

    def post(self, *contents: bytes) -> None:
        """Send each of `contents` as one frame, all in one write, whether or not the peer reads.

        Raises:
            ConnectionLost: the peer went away.
        """
        if self._transport.is_closing():  # asyncio's TLS fails there in odd ways
            raise ConnectionLost("the connection is closed")
        *parts, last = [part for each in contents for part in (HEADER.pack(len(each)), each)]
        if len(last) > JOINED_BYTES:
            self._transport.writelines([b"".join(parts), last])
        else:
            self._transport.write(b"".join([*parts, last]))

    async def send(self, *contents: bytes, timeout_s: float = FRAME_TIMEOUT_S) -> None:
        """Send as `post` does, and return when more can follow.

        Raises:
            ConnectionLost: the peer went away.
            Timeout: the peer does not read.
        """
        self.post(*contents)
        if not self.drained:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._drained.wait()
            except TimeoutError as err:
                raise Timeout(f"the peer did not take a message within {timeout_s:g} s") from err
            if self._gone.is_set():
                raise ConnectionLost("the peer closed the connection")

    def peer_certificate(self) -> bytes:
        """Return the peer's certificate (DER) from the handshake.

        Raises:
            ConnectionLost: it showed none, or the connection is gone.
        """
        tls = self._transport.get_extra_info("ssl_object")
        try:
            raw = tls.getpeercert(binary_form=True) if tls is not None else None
        except ValueError as err:  # it broke since the handshake, and TLS has forgotten that one
            raise ConnectionLost("the connection broke before it was used") from err
        if not isinstance(raw, bytes):
            raise ConnectionLost("the peer showed no certificate")
        return raw

    def abort(self) -> None:
        """Drop the connection at once, without a farewell."""
        self._transport.abort()

    async def close(self) -> None:
        """Close the connection, waiting for the peer's farewell a little but not for long."""
        self._transport.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._gone.wait()
        finally:
            self.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self._opened(self)

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return self._rest or self._space[self._end :]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        if self._rest:
            self._rest = self._rest[nbytes:]
            if self._rest:
                return
        else:
            self._end += nbytes
            if self._end == SPACE_BYTES:
                self._paused = True
                self._transport.pause_reading()
        self._wake()

    @override
    def pause_writing(self) -> None:
        self._drained.clear()

    @override
    def resume_writing(self) -> None:
        self._drained.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        self._drained.set()
        self._wake()

    def _expire(self) -> None:
        self._late = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def server_context() -> ssl.SSLContext:
    """Return a TLS 1.3 context without resumption; the identity is loaded into it later."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a resumed connection would show no certificate (TRUST T20)
    return context


async def connect(address: tuple[str, int], *, timeout_s: float = FRAME_TIMEOUT_S) -> FrameStream:
    """Return a TLS 1.3 connection to a broker that nothing is known about yet.

    The certificate is not verified here, because only message 2, with the broker's evidence, says
    which one to expect; the caller then compares it (`FrameStream.peer_certificate`). Until then
    TLS keeps out who only listens. No secret depends on it: those are sealed end to end.

    Raises:
        ConnectionLost: nobody answers there, or not with TLS 1.3.
        Timeout: not within `timeout_s`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout_s):
            loop = asyncio.get_running_loop()
            _, stream = await loop.create_connection(FrameStream, *address, ssl=context)
    except TimeoutError as err:
        raise Timeout(f"the broker did not answer within {timeout_s:g} s") from err
    except OSError as err:
        raise ConnectionLost(
            f"no broker answers at {address[0]} port {address[1]}: {err.strerror or err}"
        ) from err
    return stream
