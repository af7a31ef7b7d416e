"""One HTTP/1.1 connection of the server: requests to a handler in their order, responses out.

There is no task, future or timer per request: the handler gets a callback, and one sweep over all
connections finds those that are late (`Connection.sweep`). What is refused is answered once, in
its turn, and then the connection ends.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from typing_extensions import override

from wardian._internal.log import event
from wardian.errors import LocalProtocolError
from wardian.serving.http.messages import (
    CONTINUE,
    HttpRequest,
    HttpResponse,
    Source,
    error_response,
    render,
)
from wardian.serving.http.outgoing import Outgoing
from wardian.serving.http.reader import (
    BETWEEN,
    BODY,
    ENDED,
    HEADERS,
    NO_ROOM,
    Refused,
    RequestReader,
)
from wardian.serving.http.sharing import (
    ARRIVING,
    KEPT,
    RESTING,
    SERVED,
    SETTLING_S,
    STALLED,
    WAITING,
    Claim,
)
from wardian.serving.http.state import ServedConnection, ServerState, next_number
from wardian.serving.http.streamed import Chunks

log = logging.getLogger(__name__)

MAX_PIPELINED: Final = 8
"""Requests of one connection that wait behind the one that is being served."""
LINGER_QUIET_S: Final = 0.5
"""A refused client is closed when it has been silent for so long ..."""
LINGER_S: Final = 5.0
"""... or after this time, however much it still sends. Closing at once could destroy the answer:
TCP resets a connection that is closed with unread bytes (RFC 9112 section 9.6)."""


@dataclass(slots=True)
class _Turn:
    """What is owed in turn: an answer to `request`, or the refusal that ends the connection."""

    request: HttpRequest | None
    refusal: HttpResponse | None
    keep_alive: bool


class Connection(ServedConnection):
    """Serves one connection; requests one at a time, in the order in which they came."""

    __slots__ = (
        "_busy",
        "_closed",
        "_continue_due",
        "_head_only",
        "_held",
        "_keep_alive",
        "_linger_since",
        "_on_lost",
        "_out",
        "_pumping",
        "_reader",
        "_reading",
        "_retired",
        "_served",
        "_serving_bytes",
        "_since",
        "_source",
        "_state",
        "_waiting",
        "peer",
        "tls_spki",
    )

    def __init__(
        self, state: ServerState, *, tls_spki: bytes, peer: str, on_lost: Callable[[], None]
    ) -> None:
        """Serve under `state` on a connection from `peer` whose server key is `tls_spki`.

        `on_lost` is called once, when the connection is gone.
        """
        self._state = state
        self.tls_spki, self.peer = tls_spki, peer
        self._on_lost = on_lost
        self._out = Outgoing(state, account=self._account)
        self._reader = RequestReader(
            max_body_bytes=state.limits.max_body_bytes,
            tls_spki=tls_spki,
            connection=next_number(),
            peer=peer,
            deliver=self._deliver,
            acquire=self._acquire,
            send_continue=self._send_continue,
            gate=state.gate,
        )
        self._waiting: deque[_Turn] = deque()
        self._held = self._serving_bytes = 0
        self._since = state.now
        self._linger_since: float | None = None
        self._source: Source | None = None  # of the answer that is being sent in parts
        self._busy = self._pumping = self._closed = self._served = False
        self._keep_alive = self._reading = True
        self._head_only = self._continue_due = self._retired = False

    # -- the transport's callbacks ----------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._out.transport = cast("asyncio.Transport", transport)
        self._since = self._state.now
        self._state.connections.add(self)

    @override
    def data_received(self, data: bytes) -> None:
        reader = self._reader
        mark = reader.mark
        if reader.phase == ENDED:
            self._since = self._state.now  # still sending: see LINGER_QUIET_S
            return
        try:
            reader.feed(data)
        except Refused as refused:
            self._stop(refused.response)
        except Exception as err:  # noqa: BLE001  a handler raised, which it must not
            self._crashed(err)
        if reader.mark != mark:
            self._since = self._state.now

    @override
    def eof_received(self) -> None:
        missing = self._reader.truncation()
        if missing is not None:
            self._stop(error_response(400, missing, close=True))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._reader.close()
        self._state.connections.discard(self)
        self._let_go()
        self._leave_source()
        self._on_lost()

    @override
    def pause_writing(self) -> None:
        self._out.pause()
        self._since = self._state.now
        self._set_reading(reading=False)

    @override
    def resume_writing(self) -> None:
        self._since = self._state.now
        self._out.resume()
        if self._out.writable:
            self._pump()
            if self._source is not None:
                self._source.taken()

    # -- the reader's callbacks -------------------------------------------------------------------

    def _deliver(self, request: HttpRequest, keep_alive: bool) -> bool:  # noqa: FBT001
        """Serve `request`, or let it wait for its turn."""
        if not self._busy and not self._waiting and self._out.writable:
            self._start(request, keep_alive=keep_alive)
            return True
        full = len(self._waiting) + 1 >= MAX_PIPELINED
        # When full, what was accepted is answered; the rest is the client's to repeat (9112, 9.3.2)
        self._waiting.append(_Turn(request, None, keep_alive and not full))
        self._set_reading(reading=False)
        return not full

    def _acquire(self, size: int) -> bool:
        self._held += size
        taken = self._account(size)
        return taken and not self._out.transport.is_closing()

    def _send_continue(self) -> None:
        if self._busy or self._waiting or not self._out.writable:
            self._continue_due = True  # the answers before it come first
        else:
            self._out.transport.write(CONTINUE)

    # -- answers ----------------------------------------------------------------------------------

    def respond(self, response: HttpResponse) -> None:
        """Send the answer to the request that is being served.

        Raises:
            LocalProtocolError: there is none.
        """
        if not self._busy:
            raise LocalProtocolError("a request was answered twice")
        if response.source is not None:
            self._begin_streamed(response, response.source)
            return
        self._busy = False
        self._served = True
        state = self._state
        state.buffered_bytes -= self._serving_bytes
        self._held -= self._serving_bytes
        if self._closed:
            return
        self._since = state.now
        ending = response.close or state.draining or self._retired
        keep_alive = self._keep_alive and not ending
        self._write(response, keep_alive=keep_alive)
        if not keep_alive:
            self._end()
        elif self._waiting or not self._reading or self._continue_due:
            self._pump()

    def send_piece(self, data: bytes) -> bool:
        """Send part of an answer; return whether the client takes what it is sent."""
        return not self._closed and self._out.send_piece(data)

    def end_streamed(self, *, keep_alive: bool) -> None:
        """The answer that was sent in parts is whole; serve what follows, or end."""
        self._source = None
        self._busy, self._served = False, True
        if self._closed:
            return
        self._since = self._state.now
        ending = not keep_alive or self._state.draining or self._retired
        if ending or not self._keep_alive:
            self._end()
        elif self._waiting or not self._reading or self._continue_due:
            self._pump()

    @override
    def sweep(self) -> None:
        """Refuse, or end, what takes longer than it may; called a few times a second."""
        now = self._state.now
        waited = now - self._since
        phase, limits = self._reader.phase, self._state.limits
        if not self._out.writable:
            if now - self._out.paused_at > limits.body_timeout_s:  # the client takes no answer
                self.abort()
        elif self._busy:
            return  # whoever serves the request keeps its deadline
        elif phase == ENDED:
            lingered = now - (self._linger_since or self._since)
            if waited > LINGER_QUIET_S or lingered > LINGER_S:
                self._out.close()
        elif waited > self._patience_s(phase):
            self._late(phase)

    @override
    def drain(self) -> None:
        """End now if nothing is owed; otherwise the next response is the last."""
        if not self._busy and not self._waiting:
            self._out.close()

    @override
    def retire(self) -> None:
        """End now if nothing is owed and nothing is coming in; else with the next response."""
        if self.idle_since is not None and not self._waiting:
            self._out.close()
        else:
            self._retired = True

    @override
    def abort(self) -> None:
        """End now, whatever is owed; no longer idle from here on."""
        self._reader.stop()
        self._let_go()
        self._out.transport.abort()

    @property
    @override
    def asked(self) -> Mapping[bytes, bytes]:
        return self._reader.asked

    @override
    def place(self) -> tuple[int, float] | None:
        if self._out.transport.is_closing():
            return None
        if not self._out.writable:
            return WAITING, self._out.paused_at
        if self._busy:
            return SERVED, self._since
        phase, waited = self._reader.phase, self._state.now - self._since
        rests = phase == BETWEEN or (phase == HEADERS and waited > SETTLING_S)
        return RESTING if rests else WAITING, self._since

    @override
    def claims(self) -> Iterator[Claim]:
        if self._kept:
            yield Claim(self.asked, self._kept, KEPT, self._since, self.abort)
        rest = self._held - self._kept + self._out.unsent
        if rest and not self._out.writable:
            yield Claim(self.asked, rest, STALLED, self._out.paused_at, self.abort)
        elif rest:
            coming = self._reader.phase == BODY and not self._waiting
            yield Claim(self.asked, rest, ARRIVING if coming else KEPT, self._since, self._give_way)

    @property
    @override
    def idle_since(self) -> float | None:
        """Since when no request is under way, or None while one is being read or served."""
        return self._since if self._reader.phase == BETWEEN and not self._busy else None

    # -- the inside -------------------------------------------------------------------------------

    def _start(self, request: HttpRequest, *, keep_alive: bool) -> None:
        self._busy = True
        self._keep_alive = keep_alive
        self._head_only = request.method == b"HEAD"
        self._serving_bytes = len(request.body)
        self._state.handler(request, self.respond)

    def _begin_streamed(self, response: HttpResponse, source: Source) -> None:
        """Send the head of an answer whose parts `source` gives; the request is over with them."""
        state = self._state
        state.buffered_bytes -= self._serving_bytes
        self._held -= self._serving_bytes
        self._serving_bytes = 0
        if self._closed or self._out.transport.is_closing():
            self._busy = False
            source.gone(_nothing)
            return
        self._source, self._since = source, state.now
        self._keep_alive = self._keep_alive and not response.close
        # What is read of a connection that is not kept alive is this request, and it alone.
        chunks = Chunks(self, chunked=self._keep_alive or self._reader.knows_chunks)
        self.send_piece(chunks.head(response, keep_alive=self._keep_alive))
        source.begin(chunks)

    def _leave_source(self) -> None:
        """Tell whoever sends an answer in parts that nobody takes it any more."""
        source, self._source = self._source, None
        if source is not None:
            self._busy = False
            source.gone(_nothing)

    def _pump(self) -> None:
        """Start what waits, as far as order and the client's reading allow."""
        if self._pumping:
            return  # a handler answered at once: the loop below goes on
        self._pumping = True
        while self._waiting and self._out.writable and not self._busy and not self._closed:
            turn = self._waiting.popleft()
            if turn.request is not None:
                self._start(turn.request, keep_alive=turn.keep_alive)
            elif turn.refusal is not None:
                self._write(turn.refusal, keep_alive=False)
                self._end()
        self._pumping = False
        if not self._waiting and self._out.writable:
            self._set_reading(reading=True)
            if self._continue_due and not self._busy:
                self._continue_due = False
                if self._reader.phase == BODY:
                    self._out.transport.write(CONTINUE)

    def _write(self, response: HttpResponse, *, keep_alive: bool) -> None:
        parts = render(response, keep_alive=keep_alive, head_only=self._head_only)
        self._head_only = False
        self._out.send(parts)

    def _account(self, size: int) -> bool:
        return self._state.take(size, self._reader.asked, self.peer)

    @property
    def _kept(self) -> int:
        """Bytes of the request that is being served: kept until answered, whoever hears it."""
        return self._serving_bytes if self._busy else 0

    def _let_go(self) -> None:
        """Forget, and no longer account for, whatever is not being served."""
        self._waiting.clear()
        self._forget_body()
        self._out.forget()

    def _forget_body(self) -> None:
        self._state.buffered_bytes -= self._held - self._kept
        self._held = self._kept

    def _end(self) -> None:
        """Nothing follows: close, or linger where the client may still be sending."""
        self._waiting.clear()
        expecting_more = self._reader.phase in (HEADERS, BODY)
        self._reader.stop()
        if self._linger_since is None and not expecting_more:
            self._out.close()
            return
        self._since = self._linger_since = self._state.now
        self._set_reading(reading=True)

    def _stop(self, refusal: HttpResponse | None) -> None:
        """Read no further request; answer `refusal` when its turn comes."""
        self._reader.stop()
        self._since = self._linger_since = self._state.now
        if not self._waiting:
            self._forget_body()
        if refusal is None:
            return  # all that is owed is in its turn already
        self._state.count_refusal(refusal.status)
        if self._busy or self._waiting or not self._out.writable:
            self._waiting.append(_Turn(None, refusal, keep_alive=False))
        else:
            self._write(refusal, keep_alive=False)
            self._end()

    def _give_way(self) -> None:
        """Let the body go that is being read, for others need its memory."""
        self._stop(NO_ROOM)

    def _crashed(self, err: Exception) -> None:
        """End the connection after a bug in the handler."""
        event(log, "http.handler_raised", level=logging.ERROR, error=type(err).__name__)
        self._reader.stop()
        if self._busy and self._source is None:
            self.respond(error_response(500, "internal error", close=True))
        else:
            self._out.close()

    def _set_reading(self, *, reading: bool) -> None:
        if reading is not self._reading and not self._closed:
            self._reading = reading
            if reading:
                self._out.transport.resume_reading()
            else:
                self._out.transport.pause_reading()

    def _patience_s(self, phase: int) -> float:
        """Return how long `phase` may take: a connection that never asked gets less."""
        limits = self._state.limits
        if phase == BODY:
            return limits.body_timeout_s
        return (
            limits.idle_timeout_s if phase == BETWEEN and self._served else limits.header_timeout_s
        )

    def _late(self, phase: int) -> None:
        if phase == BETWEEN:
            self._out.close()
            return
        what = "headers" if phase == HEADERS else "body"
        limit_s = self._patience_s(phase)
        message = f"the {what} did not arrive within {limit_s:g} s"
        self._stop(error_response(408, message, close=True))


def _nothing() -> None:
    """A connection that is lost has no use for when its request is over."""
