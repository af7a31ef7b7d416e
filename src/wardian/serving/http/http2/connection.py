"""One HTTP/2 connection of the server: frames in, to its streams.

What breaks the protocol, or asks for more work than it pays for, ends in GOAWAY with a reason, and
is counted.

Source: RFC 9113; numbers of sections in comments are its.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

from typing_extensions import override

from wardian._internal.log import event
from wardian.serving.http.http2 import allowance, frames
from wardian.serving.http.http2.blocks import Block
from wardian.serving.http.http2.exchange import Exchange
from wardian.serving.http.http2.fields import FieldReader, Head, Malformed, TooLarge
from wardian.serving.http.http2.frames import ErrorCode, Frame, FrameReader, Violation
from wardian.serving.http.http2.outbox import MAX_SEND_FRAME
from wardian.serving.http.http2.stream import WINDOW_BYTES, Stream
from wardian.serving.http.http2.streams import Accept, Streams
from wardian.serving.http.messages import HttpResponse, error_response
from wardian.serving.http.reader import MAX_HEADER_BYTES
from wardian.serving.http.state import ServerState

log = logging.getLogger(__name__)

MAX_STREAMS: Final = 128
"""Streams of one connection that are open, or whose work is not over."""
MAX_FRAME_BYTES: Final = 64 * 1024
CONNECTION_WINDOW_BYTES: Final = 8 * 1024 * 1024
SMALL_DATA_BYTES: Final = 64
"""A DATA frame below this size that does not end its stream moves nothing worth its cost."""
_MAX_SETTINGS: Final = 32


class Http2Connection(Streams):
    """Serves one connection, with up to `MAX_STREAMS` requests at a time."""

    def __init__(
        self,
        state: ServerState,
        *,
        tls_spki: bytes,
        peer: str,
        on_lost: Callable[[], None],
        accept: Accept,
    ) -> None:
        """Serve under `state`; see `Streams`."""
        super().__init__(state, tls_spki=tls_spki, peer=peer, on_lost=on_lost, accept=accept)
        self._reader = FrameReader(max_payload=MAX_FRAME_BYTES)
        self._fields = FieldReader()
        self._preface = bytearray()
        self._unacknowledged = 0
        self._receive_window = CONNECTION_WINDOW_BYTES
        self._greeted = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._since = self._state.now
        self._state.connections.add(self)
        self.emit(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                    frames.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                    frames.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
                    frames.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
                }
            )
            + frames.window_update(0, CONNECTION_WINDOW_BYTES - frames.DEFAULT_WINDOW)
        )

    @override
    def data_received(self, data: bytes) -> None:
        if self.over:
            self._since = self._state.now  # still sending: see LINGER_QUIET_S
            return
        self._feeding = True
        try:
            if not self._greeted:
                data = self._greet(data)
            for frame in self._reader.feed(data):
                self._on_frame(frame)
        except Violation as violation:
            self._fail(violation)
        except Exception as err:  # noqa: BLE001  a receiver raised, which it must not
            event(log, "http.handler_raised", level=logging.ERROR, error=type(err).__name__)
            self._fail(Violation(ErrorCode.INTERNAL_ERROR, "internal error", status=500))
        self._feeding = False
        self._flush()

    # -- frames in --------------------------------------------------------------------------------

    def _greet(self, data: bytes) -> bytes:
        """Return what follows the preface in `data`."""
        self._preface += data
        length = len(frames.PREFACE)
        if self._preface[:length] != frames.PREFACE[: len(self._preface)]:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "the preface of HTTP/2 was expected")
        if len(self._preface) < length:
            return b""
        self._greeted = True
        rest, self._preface = bytes(self._preface[length:]), bytearray()
        return rest

    def _on_frame(self, frame: Frame) -> None:
        if self.over:
            return  # it ended with a frame before this one
        kind = frame.kind
        if self._blocks.begun and kind != frames.CONTINUATION:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "a field block was interrupted")
        if not self._settled:
            if kind != frames.SETTINGS or frame.flags & frames.ACK:
                raise Violation(ErrorCode.PROTOCOL_ERROR, "SETTINGS come first")
            self._settled = True
        action = _ON_FRAME.get(kind)
        if action is None:
            self._spend(allowance.FRAME)  # unknown kinds are passed over (4.1)
        else:
            action(self, frame)

    def _on_data(self, frame: Frame) -> None:
        size = len(frame.payload)
        part = frames.unpadded(frame)
        stream = self._known(frame.stream)
        ends = bool(frame.flags & frames.END_STREAM)
        self._receive_window -= size
        if self._receive_window < 0:
            raise Violation(ErrorCode.FLOW_CONTROL_ERROR, "more data than the window")
        self._consumed(size)
        if len(part) < SMALL_DATA_BYTES and not ends:
            self._spend(allowance.FRAME)
        if stream is None:
            return
        if stream.remote_ended:
            raise Violation(ErrorCode.STREAM_CLOSED, "data after the end of a stream")
        fits = stream.receive(part, size=size)
        if not fits or (ends and not stream.whole):
            self._refuse(stream, ErrorCode.PROTOCOL_ERROR)  # 8.1.1
            return
        stream.remote_ended = ends
        self._tell(stream, part, ends=ends)

    def _tell(self, stream: Stream, part: bytes, *, ends: bool) -> None:
        """Hand what came to the receiver of `stream`."""
        receiver = stream.receiver
        if receiver is not None:
            if part:
                receiver.data(part)
            if ends:
                receiver.end()

    def _on_headers(self, frame: Frame) -> None:
        self._since = self._state.now
        self._on_block(self._blocks.begin(frame))

    def _on_continuation(self, frame: Frame) -> None:
        self._spend(allowance.FRAME)
        self._on_block(self._blocks.go_on(frame))

    def _on_block(self, block: Block | None) -> None:
        if block is None:
            return
        if block.stream > self._last:
            self._open(block)
        else:
            self._trailers(block)

    def _open(self, block: Block) -> None:
        """Begin the stream of `block`, unless there is a reason not to."""
        number, fields, ends = block
        if self._leaving:
            self._fields.skip(fields)  # GOAWAY told the client that it was not taken
            self._spend(allowance.FRAME)
            return
        self._last = number
        if len(self._streams) + len(self._working) >= MAX_STREAMS:
            self._fields.skip(fields)
            self._reject(number, ErrorCode.REFUSED_STREAM, 503)
            return
        try:
            head = self._fields.read_head(fields)
        except Malformed:
            self._reject(number, ErrorCode.PROTOCOL_ERROR, 400)
            return
        except TooLarge as err:
            stream = self._begin(number, Head(b"GET", b"/", {}, None), ends=ends)
            self._count_lost(err.status)
            stream.respond(error_response(err.status, str(err)))
            return
        stream = self._begin(number, head, ends=ends)
        if ends and not stream.whole:
            self._refuse(stream, ErrorCode.PROTOCOL_ERROR)
            return
        refusal = self._receive(stream)
        if refusal is not None:
            self._count_lost(refusal.status)
            stream.respond(refusal)
        elif ends and stream.receiver is not None:
            stream.receiver.end()

    def _begin(self, number: int, head: Head, *, ends: bool) -> Stream:
        stream = Stream(self, number, head, send_window=self._initial_window)
        stream.remote_ended = ends
        self._streams[number] = stream
        self._asked = head.headers
        return stream

    def _receive(self, stream: Stream) -> HttpResponse | None:
        """Find who serves `stream`; return why nobody does."""
        stream.receiver = self._accept(stream)
        if stream.receiver is not None:
            return None
        state = self._state
        exchange = Exchange(
            stream, state.handler, max_body_bytes=state.limits.max_body_bytes, gate=state.gate
        )
        stream.receiver = exchange
        return exchange.begin()

    def _trailers(self, block: Block) -> None:
        """Read the fields after a body; nobody needs them."""
        stream = self._known(block.stream)
        if stream is None:
            self._fields.skip(block.fields)
            self._spend(allowance.FRAME)
            return
        if stream.remote_ended:
            raise Violation(ErrorCode.STREAM_CLOSED, "fields after the end of a stream")
        try:
            self._fields.read_trailers(block.fields)
        except Malformed:
            self._refuse(stream, ErrorCode.PROTOCOL_ERROR)
            return
        if not block.ends or not stream.whole:  # 8.1
            self._refuse(stream, ErrorCode.PROTOCOL_ERROR)
            return
        stream.remote_ended = True
        self._tell(stream, b"", ends=True)

    def _on_reset(self, frame: Frame) -> None:
        frames.parse_u32(frame)
        stream = self._streams.get(frame.stream)
        if stream is None:
            self._expect_known(frame.stream)
            self._spend(allowance.FRAME)
            return
        self._spend(allowance.LOST_STREAM)
        stream.remote_ended = True  # whatever follows is not owed
        self._drop(stream)

    def _on_settings(self, frame: Frame) -> None:
        if frame.stream:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "SETTINGS belong to the connection")
        if frame.flags & frames.ACK:
            if frame.payload:
                raise Violation(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement is empty")
            self._spend(allowance.FRAME)
            return
        self._spend(allowance.SETTINGS_FRAME)
        values = frames.parse_settings(frame.payload)
        if len(values) > _MAX_SETTINGS:
            raise Violation(ErrorCode.ENHANCE_YOUR_CALM, "too many settings at once", status=429)
        for key, value in values:
            self._use(key, value)
        self.emit(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _use(self, key: int, value: int) -> None:
        """Obey one setting (6.5.2); unknown ones, and those that ask nothing of us, are ignored."""
        if key == frames.ENABLE_PUSH and value > 1:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        if key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_BYTES <= value < 2**24:
                raise Violation(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
            self.max_send_frame = min(value, MAX_SEND_FRAME)
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise Violation(ErrorCode.FLOW_CONTROL_ERROR, "a window is below 2^31")
            for stream in self._streams.values():
                self._widen(stream, value - self._initial_window)
            self._initial_window = value

    def _on_ping(self, frame: Frame) -> None:
        if frame.stream:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "PING belongs to the connection")
        if len(frame.payload) != 8:
            raise Violation(ErrorCode.FRAME_SIZE_ERROR, "PING has eight bytes")
        self._spend(allowance.FRAME)
        if not frame.flags & frames.ACK:
            self.emit(frames.frame(frames.PING, frames.ACK, 0, frame.payload))

    def _on_goaway(self, frame: Frame) -> None:
        if frame.stream or len(frame.payload) < 8:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "GOAWAY is of the connection, 8 bytes long")
        self._leave()

    def _on_window_update(self, frame: Frame) -> None:
        more = frames.parse_u31(frame)
        self._spend(allowance.FRAME)
        if not frame.stream:
            self._outbox.widen(more)
            for stream in self._streams.values():
                self._outbox.enqueue(stream)
            return
        one = self._streams.get(frame.stream)
        if one is None:
            self._expect_known(frame.stream)
        elif not more or one.send_window + more > frames.MAX_WINDOW:
            self._refuse(one, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self._widen(one, more)

    def _on_priority(self, frame: Frame) -> None:
        if not frame.stream or len(frame.payload) != 5:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "PRIORITY is of a stream, 5 bytes long")
        self._spend(allowance.FRAME)  # deprecated (5.3.2), and ignored

    def _on_push(self, frame: Frame) -> None:
        del frame
        raise Violation(ErrorCode.PROTOCOL_ERROR, "a client pushes nothing")

    def _known(self, number: int) -> Stream | None:
        """Return a stream, or None if we ended it and the client may not know that yet."""
        stream = self._streams.get(number)
        if stream is None:
            self._expect_known(number)
            if number not in self._ended and not self._leaving:
                raise Violation(ErrorCode.STREAM_CLOSED, "a frame of a stream that is over")
        return stream

    def _expect_known(self, number: int) -> None:
        if not number or (number > self._last and not self._leaving):
            raise Violation(ErrorCode.PROTOCOL_ERROR, "a frame of a stream that was never opened")

    def _widen(self, stream: Stream, more: int) -> None:
        stream.send_window += more
        if stream.send_window > frames.MAX_WINDOW:
            raise Violation(ErrorCode.FLOW_CONTROL_ERROR, "a window is below 2^31")
        self._outbox.enqueue(stream)

    def _consumed(self, size: int) -> None:
        """Let the client send `size` bytes more; how much it sends is bounded per stream."""
        self._unacknowledged += size
        if self._unacknowledged * 2 >= CONNECTION_WINDOW_BYTES:
            self._receive_window += self._unacknowledged
            self.emit(frames.window_update(0, self._unacknowledged))
            self._unacknowledged = 0


_ON_FRAME: Final[dict[int, Callable[[Http2Connection, Frame], None]]] = {
    frames.DATA: Http2Connection._on_data,  # noqa: SLF001  the table of this class
    frames.HEADERS: Http2Connection._on_headers,  # noqa: SLF001
    frames.PRIORITY: Http2Connection._on_priority,  # noqa: SLF001
    frames.RST_STREAM: Http2Connection._on_reset,  # noqa: SLF001
    frames.SETTINGS: Http2Connection._on_settings,  # noqa: SLF001
    frames.PUSH_PROMISE: Http2Connection._on_push,  # noqa: SLF001
    frames.PING: Http2Connection._on_ping,  # noqa: SLF001
    frames.GOAWAY: Http2Connection._on_goaway,  # noqa: SLF001
    frames.WINDOW_UPDATE: Http2Connection._on_window_update,  # noqa: SLF001
    frames.CONTINUATION: Http2Connection._on_continuation,  # noqa: SLF001
}
