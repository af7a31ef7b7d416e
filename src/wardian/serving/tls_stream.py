"""TLS on a stream transport: bytes from the socket to OpenSSL and back, and nothing else.

What is TLS is decided by OpenSSL alone, under the context that it is given; this carries its
records. The event loop's own layer does the same, for sockets of any age and kind, and costs four
times what OpenSSL does for a request of a kilobyte (ADR 29). Left out here is what is not used:
TLS may not begin in the middle of a stream, and a closed direction ends the connection.
"""

import asyncio
import ssl
from typing import Any, Final, cast

from typing_extensions import override

from wardian.errors import LocalProtocolError

_RECORD_BYTES: Final = 16 * 1024
"""The most that one record carries (RFC 8446, section 5.1); OpenSSL gives one at a time."""

_HANDSHAKE, _OPEN, _CLOSING, _CLOSED = range(4)


class TlsStream(asyncio.Transport, asyncio.Protocol):
    """The protocol of a stream transport below, and the transport of a protocol above.

    The protocol above hears of it when the handshake is over, and never of one that failed.
    """

    __slots__ = (
        "_above", "_below", "_incoming", "_loop", "_outgoing", "_reading", "_ready", "_shutdown_s",
        "_state", "_timer", "_tls",
    )  # fmt: skip

    def __init__(
        self,
        above: asyncio.Protocol,
        context: ssl.SSLContext,
        *,
        handshake_s: float,
        shutdown_s: float,
        server_hostname: str | None = None,
    ) -> None:
        """Wait for a transport; made on the running loop.

        Args:
            above: gets the connection once its handshake is over.
            context: what is accepted, and what is shown.
            handshake_s: within which the handshake has to be over.
            shutdown_s: how long after `close` the other end may take to take what is left, and to
                say goodbye.
            server_hostname: whom a client asks for; None for a server.
        """
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._above = above
        self._below = cast("asyncio.Transport", None)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        self._state = _HANDSHAKE
        self._reading = True
        self._shutdown_s = shutdown_s
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(handshake_s, self._late)

    async def opened(self) -> None:
        """Return once the handshake is over.

        Raises:
            OSError: it failed (`ssl.SSLError`), took too long (`TimeoutError`), or the other end
                went away.
        """
        try:
            await self._ready
        except asyncio.CancelledError:
            self.abort()
            raise

    # -- what the transport below tells -----------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._below = cast("asyncio.Transport", transport)
        self._shake_hands()

    @override
    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if self._state == _OPEN:
            self._read()
        elif self._state == _HANDSHAKE:
            self._shake_hands()
        elif self._state == _CLOSING:
            self._read_goodbye()

    @override
    def eof_received(self) -> bool:
        if self._state == _OPEN:
            self._above.eof_received()  # it may still answer; the transport then closes
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        state, self._state = self._state, _CLOSED
        self._cancel_timer()
        if state == _HANDSHAKE:
            self._fail(exc or ConnectionResetError("the connection ended within its handshake"))
        else:
            self._above.connection_lost(exc)
        # What OpenSSL keeps of a connection is large, and must not wait for the garbage collector.
        del self._above, self._below, self._tls, self._incoming, self._outgoing

    @override
    def pause_writing(self) -> None:
        if self._state == _OPEN:
            self._above.pause_writing()

    @override
    def resume_writing(self) -> None:
        if self._state == _OPEN:
            self._above.resume_writing()

    # -- what the protocol above asks -------------------------------------------------------------

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._state != _OPEN or not data:
            return
        try:
            sent = self._tls.write(data)
            if sent < len(data):  # a record at a time
                view = memoryview(data)
                while sent < len(view):
                    sent += self._tls.write(view[sent:])
        except ssl.SSLError:
            self.abort()
            return
        self._below.write(self._outgoing.read())

    @override
    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    @override
    def close(self) -> None:
        if self._state == _HANDSHAKE:
            self.abort()
        if self._state != _OPEN:
            return
        self._state = _CLOSING
        self._timer = self._loop.call_later(self._shutdown_s, self.abort)
        self.resume_reading()  # what still comes is not looked at, but its end is
        self._say_goodbye()
        self._loop.call_soon(self._go_on)  # it may be here already

    @override
    def abort(self) -> None:
        if self._state == _HANDSHAKE:
            self._fail(ConnectionAbortedError("the handshake was given up"))
        elif self._state == _OPEN:
            self._state = _CLOSING
        if self._state != _CLOSED and self._below is not None:
            self._below.abort()

    @override
    def is_closing(self) -> bool:
        return self._state != _OPEN

    @override
    def pause_reading(self) -> None:
        if self._reading and self._state == _OPEN:
            self._reading = False
            self._below.pause_reading()

    @override
    def resume_reading(self) -> None:
        if not self._reading and self._state != _CLOSED:
            self._reading = True
            self._below.resume_reading()
            self._loop.call_soon(self._go_on)

    @override
    def is_reading(self) -> bool:
        return self._reading

    @override
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        if self._state != _CLOSED:
            self._above = cast("asyncio.Protocol", protocol)

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if self._state == _CLOSED:
            return default
        return self._tls if name == "ssl_object" else self._below.get_extra_info(name, default)

    @override
    def get_write_buffer_size(self) -> int:
        return 0 if self._state == _CLOSED else self._below.get_write_buffer_size()

    # -- the inside -------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as err:  # of certificates, too
            self._flush()  # the alert
            self._fail(err)
            self._below.close()
            return
        self._flush()
        self._cancel_timer()
        if self._ready.done():
            return  # nobody waits for it any more
        self._state = _OPEN
        self._ready.set_result(None)
        self._above.connection_made(self)
        self._read()

    def _read(self) -> None:
        """Hand on what has come, as long as the protocol above reads."""
        read, incoming = self._tls.read, self._incoming
        try:
            while self._reading and self._state == _OPEN:
                data = read(_RECORD_BYTES)
                if not data:
                    self._end()
                    break
                self._above.data_received(data)
                if not incoming.pending and not self._tls.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:  # a record that is not authentic, or an alert
            self._flush()
            self.abort()
            return
        if self._outgoing.pending:  # a key update is answered (RFC 8446, section 4.6.3)
            self._flush()

    def _go_on(self) -> None:
        if self._state == _OPEN:
            self._read()
        elif self._state == _CLOSING:
            self._read_goodbye()

    def _end(self) -> None:
        """The other end said goodbye: nothing follows."""
        self._above.eof_received()
        self.close()

    def _say_goodbye(self) -> None:
        """Close this direction; the other one is closed by the other end, or by time."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:
            self._flush()
            self._below.close()
        else:
            self._flush()
            self._below.close()

    def _read_goodbye(self) -> None:
        """Drop what comes after `close`, until the other end says goodbye as well."""
        try:
            while self._tls.read(_RECORD_BYTES):
                pass
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError:
            pass
        self._below.close()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())

    def _late(self) -> None:
        self._fail(TimeoutError("the handshake took too long"))
        if self._below is not None:
            self._below.abort()

    def _fail(self, err: BaseException) -> None:
        """The handshake is over without a connection."""
        self._cancel_timer()
        if not self._ready.done():
            self._ready.set_exception(err.with_traceback(None))  # which would hold this object
            self._ready.exception()  # whoever does not wait for it knows anyway

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def connect(
    above: asyncio.Protocol,
    host: str,
    port: int,
    *,
    context: ssl.SSLContext,
    handshake_s: float,
    shutdown_s: float,
) -> TlsStream:
    """Return a stream to `host` whose other end `context` accepts under that name.

    Raises:
        OSError: nobody is there, or the handshake failed.
    """
    loop = asyncio.get_running_loop()
    stream: TlsStream | None = None

    def make() -> TlsStream:
        nonlocal stream
        stream = TlsStream(
            above,
            context,
            handshake_s=handshake_s,
            shutdown_s=shutdown_s,
            server_hostname=host,
        )
        return stream

    await loop.create_connection(make, host, port)
    if stream is None:
        raise LocalProtocolError("the event loop made no protocol")
    await stream.opened()
    return stream
