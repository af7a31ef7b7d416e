"""Frames on a TLS stream: a length (u32, big endian), then that many bytes of JSON.

Every read has a bound and a deadline, so that a peer that sends much, or nothing, holds neither
memory nor a place for long.
"""

import asyncio
import contextlib
import ssl
import struct
from typing import Final

from wardian.errors import ConnectionLost, PeerProtocolError, Timeout

HEADER: Final = struct.Struct(">I")
FIRST_FRAME_BYTES: Final = 64 * 1024
"""Messages 1: they carry names and a nonce, and come from anybody."""
ATTESTATION_FRAME_BYTES: Final = 512 * 1024
"""Message 3 of a release: a quote of 8 KiB at most, and collateral."""
FRAME_BYTES: Final = 4 * 1024 * 1024
"""All others, which come from the broker or carry a manifest."""
FRAME_TIMEOUT_S: Final = 30.0
"""As long as a session lives: what comes later would be refused anyway."""
CLOSE_TIMEOUT_S: Final = 2.0


class FrameStream:
    """One connection, seen as frames."""

    __slots__ = ("_reader", "_writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over a connection whose TLS handshake is done."""
        self._reader = reader
        self._writer = writer

    @property
    def host(self) -> str:
        """The IP address at the other end."""
        return str(self._writer.get_extra_info("peername")[0])

    async def receive(self, *, most: int, timeout_s: float = FRAME_TIMEOUT_S) -> bytes:
        """Return the next frame's content, 1 to `most` bytes.

        Raises:
            PeerProtocolError: the frame is empty or longer than `most`; nothing of it was read.
            ConnectionLost: the peer went away first.
            Timeout: the frame was not whole in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                if not 1 <= length <= most:
                    raise PeerProtocolError(f"a frame of {length} bytes; 1 to {most} are accepted")
                return await self._reader.readexactly(length)
        except TimeoutError as err:
            raise Timeout(f"no whole message came within {timeout_s:g} s") from err
        except (asyncio.IncompleteReadError, OSError) as err:  # ssl.SSLError is an OSError
            raise ConnectionLost("the peer closed the connection before a whole message") from err

    async def send(self, *contents: bytes, timeout_s: float = FRAME_TIMEOUT_S) -> None:
        """Send each of `contents` as one frame, all in one write.

        Raises:
            ConnectionLost: the peer went away.
            Timeout: the peer does not read.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if self._writer.transport.is_closing():  # asyncio's TLS fails there in odd ways
                    raise ConnectionLost("the connection is closed")
                parts = [part for each in contents for part in (HEADER.pack(len(each)), each)]
                self._writer.write(b"".join(parts))
                await self._writer.drain()
        except TimeoutError as err:
            raise Timeout(f"the peer did not take a message within {timeout_s:g} s") from err
        except OSError as err:
            raise ConnectionLost("the peer closed the connection") from err

    def peer_certificate(self) -> bytes:
        """Return the peer's certificate (DER) from the handshake.

        Raises:
            ConnectionLost: it showed none, or the connection is gone.
        """
        tls = self._writer.get_extra_info("ssl_object")
        try:
            raw = tls.getpeercert(binary_form=True) if tls is not None else None
        except ValueError as err:  # it broke since the handshake, and TLS has forgotten that one
            raise ConnectionLost("the connection broke before it was used") from err
        if not isinstance(raw, bytes):
            raise ConnectionLost("the peer showed no certificate")
        return raw

    def abort(self) -> None:
        """Drop the connection at once, without a farewell."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection, waiting for the peer's farewell a little but not for long."""
        self._writer.close()
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._writer.wait_closed()
        finally:
            self.abort()


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
            reader, writer = await asyncio.open_connection(*address, ssl=context)
    except TimeoutError as err:
        raise Timeout(f"the broker did not answer within {timeout_s:g} s") from err
    except OSError as err:
        raise ConnectionLost(
            f"no broker answers at {address[0]} port {address[1]}: {err.strerror or err}"
        ) from err
    return FrameStream(reader, writer)
