"""The streams of one HTTP/2 connection: their answers, their time, and the connection's end.

No task, future or timer belongs to a request or a stream: receivers get callbacks, and one sweep
over all connections finds what is late, as for HTTP/1.1 (`http.connection`).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, TypeAlias, cast

from typing_extensions import override

from wardian._internal.log import event
from wardian.serving.http.connection import LINGER_QUIET_S, LINGER_S
from wardian.serving.http.http2 import allowance, frames
from wardian.serving.http.http2.allowance import Allowance
from wardian.serving.http.http2.blocks import BlockReader
from wardian.serving.http.http2.frames import ErrorCode, Violation
from wardian.serving.http.http2.outbox import Outbox
from wardian.serving.http.http2.stream import Receiver, Stream
from wardian.serving.http.sharing import RESTING, SERVED, STALLED, WAITING, Claim
from wardian.serving.http.state import ServedConnection, ServerState, next_number

log = logging.getLogger(__name__)

REMEMBERED: Final = 256
"""Streams ended by us whose client may not know it yet: what it still sends is passed over."""

Accept: TypeAlias = Callable[[Stream], Receiver | None]
"""Returns who serves a stream; None: it is a plain request, for the server's handler."""


class Streams(ServedConnection):
    """A connection without what reads its frames; a `stream.Carrier`."""

    def __init__(
        self,
        state: ServerState,
        *,
        tls_spki: bytes,
        peer: str,
        on_lost: Callable[[], None],
        accept: Accept,
    ) -> None:
        """Serve under `state` on a connection from `peer` whose server key is `tls_spki`.

        Args:
            state: what all connections of the server share.
            tls_spki: put into each request.
            peer: likewise.
            on_lost: called once, when the connection is gone.
            accept: says who serves a stream.
        """
        self.tls_spki, self.peer, self.number = tls_spki, peer, next_number()
        self.max_send_frame = frames.DEFAULT_FRAME_BYTES
        self._state, self._on_lost, self._accept = state, on_lost, accept
        self._transport = cast("asyncio.Transport", None)
        self._allowance = Allowance(state.now)
        self._streams: dict[int, Stream] = {}
        self._working: set[Stream] = set()  # of those that are no longer in `_streams`
        self._outbox = Outbox(self._allowance)
        self._ended: deque[int] = deque(maxlen=REMEMBERED)
        self._blocks = BlockReader()
        self._asked: Mapping[bytes, bytes] = {}
        self._last = 0
        self._initial_window = frames.DEFAULT_WINDOW
        self._since = self._paused_at = state.now
        self._over_since: float | None = None
        self._writable = self._reading = True
        self._settled = self._leaving = self._feeding = self._flush_due = False
        self._closed = self._served = False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._state.connections.discard(self)
        self._let_go()
        self._on_lost()

    @override
    def pause_writing(self) -> None:
        self._writable = False
        self._paused_at = self._state.now
        self._set_reading(reading=False)  # or acknowledgements would pile up

    @override
    def resume_writing(self) -> None:
        self._writable = True
        self._set_reading(reading=True)
        self._flush()

    # -- what a stream needs (`stream.Carrier`) ---------------------------------------------------

    @property
    def now(self) -> float:
        """Monotonic seconds, as precise as the sweep."""
        return self._state.now

    def emit(self, data: bytes) -> None:
        """Send a frame that is under no flow control, with the next flush."""
        self._outbox.put(data)
        self._flush_soon()

    def enqueue(self, stream: Stream) -> None:
        """Send what `stream` has pending, as the windows allow."""
        self._outbox.enqueue(stream)
        self._flush_soon()

    def closed(self, stream: Stream) -> None:
        """`stream` is over for the client; its work may go on."""
        if self._streams.pop(stream.id, None) is None:
            return
        self._outbox.drop(stream)
        if not stream.remote_ended:
            self._ended.append(stream.id)
        if stream.working:
            self._working.add(stream)
        self._quiet()

    def rested(self, stream: Stream) -> None:
        """Nothing works for `stream` any more."""
        self._working.discard(stream)
        self._served = True
        self._allowance.earn(allowance.ANSWERED)
        self._quiet()

    def take(self, size: int, headers: Mapping[bytes, bytes]) -> bool:
        """Account for `size` bytes in memory; False if there is no room, or we were cut off."""
        taken = self._state.take(size, headers, self.peer)
        return taken and not self._transport.is_closing()

    def give(self, size: int) -> None:
        """Account for `size` bytes no more."""
        self._state.buffered_bytes -= size

    def count_refusal(self, status: int) -> None:
        """Count an answer that no handler gave."""
        self._state.count_refusal(status)

    # -- the server's side ------------------------------------------------------------------------

    @override
    def sweep(self) -> None:
        """End what takes longer than it may; called a few times a second."""
        now, limits = self._state.now, self._state.limits
        if not self._writable:
            if now - self._paused_at > limits.body_timeout_s:
                self.abort()
            return
        if self._over_since is not None:
            if now - self._since > LINGER_QUIET_S or now - self._over_since > LINGER_S:
                self._transport.close()
            return
        if self._late_head(now):
            return
        for stream in tuple(self._streams.values()):
            waited = now - stream.since
            if waited > limits.body_timeout_s or now > (stream.deadline or now):
                self._late(stream, waited)
        self._flush()
        idle_s = limits.idle_timeout_s if self._served else limits.header_timeout_s
        if self.idle_since is not None and now - self._since > idle_s:
            self._leave()

    @override
    def drain(self) -> None:
        """Take no further streams, and end after those that are open."""
        self._leave()

    @override
    def retire(self) -> None:
        """As `drain`: a client of HTTP/2 can tell which of its requests were taken (6.8)."""
        self._leave()

    @override
    def abort(self) -> None:
        """End now, whatever is owed; no longer idle from here on."""
        self._over_since = self._state.now
        self._let_go()
        self._transport.abort()

    @property
    @override
    def asked(self) -> Mapping[bytes, bytes]:
        return self._asked

    @override
    def place(self) -> tuple[int, float] | None:
        if self._transport.is_closing():
            return None
        if not self._writable:
            return WAITING, self._paused_at
        if self._working or any(stream.working for stream in self._streams.values()):
            return SERVED, self._since
        return RESTING if self.idle_since is not None else WAITING, self._since

    @override
    def claims(self) -> Iterator[Claim]:
        for stream in (*self._streams.values(), *self._working):
            size, standing = stream.held()
            if size:
                let_go = partial(self._give_way, stream, standing)
                yield Claim(stream.head.headers, size, standing, stream.since, let_go)

    @property
    @override
    def idle_since(self) -> float | None:
        """Since when no request is under way, or None while one is."""
        busy = self._streams or self._working or self._blocks.begun or self.over
        return None if busy else self._since

    @property
    def over(self) -> bool:
        """Whether nothing more is read: the connection is about to close."""
        return self._over_since is not None

    # -- the inside -------------------------------------------------------------------------------

    def _spend(self, points: int) -> None:
        self._allowance.spend(points, self._state.now)

    def _count_lost(self, status: int) -> None:
        self._state.count_refusal(status)
        self._spend(allowance.LOST_STREAM)

    def _reject(self, number: int, code: ErrorCode, status: int) -> None:
        """Refuse a stream that has not begun."""
        self._ended.append(number)
        self.emit(frames.rst_stream(number, code))
        self._count_lost(status)

    def _refuse(self, stream: Stream, code: ErrorCode) -> None:
        """Reset `stream` for what its client did."""
        self.emit(frames.rst_stream(stream.id, code))
        self._drop(stream)
        self._count_lost(400)

    def _drop(self, stream: Stream) -> None:
        """Forget `stream`, whose client takes no answer."""
        stream.die()
        if stream.receiver is not None:
            stream.receiver.gone()

    def _give_way(self, stream: Stream, standing: int) -> None:
        """Reset `stream`, for others need the memory that it holds."""
        code = ErrorCode.CANCEL if standing == STALLED else ErrorCode.ENHANCE_YOUR_CALM
        self.emit(frames.rst_stream(stream.id, code))
        self._drop(stream)

    def _late_head(self, now: float) -> bool:
        """End the connection if its preface or a field block does not become whole."""
        late = now - self._since > self._state.limits.header_timeout_s
        if not late or (self._settled and not self._blocks.begun):
            return False
        self._fail(
            Violation(ErrorCode.ENHANCE_YOUR_CALM, "the headers did not arrive in time", status=408)
        )
        return True

    def _late(self, stream: Stream, waited_s: float) -> None:
        """End `stream`: its request does not go on, or its answer is not taken."""
        if stream.holds and waited_s > self._state.limits.body_timeout_s:
            self._state.count_refusal(408)
            self.emit(frames.rst_stream(stream.id, ErrorCode.CANCEL))
            self._drop(stream)
        elif not stream.remote_ended and stream.receiver is not None:
            stream.receiver.late(waited_s)

    def _fail(self, violation: Violation) -> None:
        """Say why the connection ends, and end it."""
        if self.over:
            return
        self._state.count_refusal(violation.status)
        event(log, "http2.violation", level=logging.DEBUG, code=violation.code.name)
        self._blocks.begun = False
        self._outbox.put(frames.goaway(self._last, violation.code, str(violation)))
        self._let_go()
        self._end()

    def _leave(self) -> None:
        """Take no further streams; end once those that are open are over (6.8)."""
        if not self._leaving and not self.over:
            self._leaving = True
            self.emit(frames.goaway(self._last, ErrorCode.NO_ERROR))
            for stream in tuple(self._streams.values()):
                if stream.receiver is not None:
                    stream.receiver.leave()
        self._quiet()

    def _quiet(self) -> None:
        """Note that nothing is under way, if so; end if the connection is leaving."""
        if not self._streams and not self._working and not self._closed:
            self._since = self._state.now
            if self._leaving and not self.over:
                self._end()

    def _end(self) -> None:
        """Send what is due, and close when the client has had time to read it."""
        self._over_since = self._since = self._state.now
        if not self._feeding:
            self._flush()
        self._set_reading(reading=True)

    def _let_go(self) -> None:
        """Forget all streams; those that work go on until they rest."""
        for stream in tuple(self._streams.values()):
            self._drop(stream)

    def _set_reading(self, *, reading: bool) -> None:
        if reading is not self._reading and not self._closed:
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _flush_soon(self) -> None:
        """Write once for all that one turn of the loop brings."""
        if not self._feeding and not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Hand over what the transport and the windows take."""
        self._flush_due = False
        if self._closed or self._transport.is_closing():
            self._outbox.clear()
            return
        outbox = self._outbox
        while outbox.waiting and self._writable:
            if data := outbox.next_write():
                self._transport.write(data)
        outbox.hold()
