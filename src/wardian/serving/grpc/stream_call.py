"""ModelStreamInfer: any number of requests on one stream, each with one answer, in their order.

A request that fails is answered with its error, and the stream goes on, as Triton's does. Where a
model generates, its answer comes in parts (`generated`), as they are ready: ids tell them apart.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from wardian._internal.agreed import Limits
from wardian.errors import RequestError, Timeout
from wardian.serving.api.service import Service
from wardian.serving.grpc import wire
from wardian.serving.grpc.call import (
    PREFIX,
    begin_call,
    framed,
    message_end,
    shorter,
    time_left,
)
from wardian.serving.grpc.infer_answer import error_message, final_parameter
from wardian.serving.grpc.infer_call import infer_answer
from wardian.serving.grpc.infer_request import Asked, parse_infer
from wardian.serving.grpc.methods import STREAM_ROUTE
from wardian.serving.grpc.status import HEAD, OK_TRAILERS, Ending, Status, ending_of
from wardian.serving.http.http2.stream import Stream
from wardian.serving.http.messages import Buffer
from wardian.serving.traces import HEADER, Trace

if TYPE_CHECKING:
    from wardian.serving.dispatch import Outcome
    from wardian.serving.grpc.generated import Generated

MAX_IN_FLIGHT: Final = 32
"""Requests of one stream that wait for their answers; what comes after them is not taken yet."""
_ASKS_FINAL: Final = "triton_enable_empty_final_response"
"""The client wants to be told of each answer whether it is the last to its request."""


class _Turn:
    """One request of the stream, and its answer when it is there."""

    __slots__ = ("answer", "asked", "call", "size", "started", "trace")

    def __init__(self, call: "StreamCall", size: int) -> None:
        self.call, self.size = call, size
        self.started = call.service.clock()
        self.asked: Asked | None = None
        self.answer: list[Buffer] | None = None
        self.trace: Trace | None = None

    def done(self, outcome: "Outcome") -> None:
        """Take the outcome of the inference."""
        self.call.service.over()
        try:
            if outcome.outputs is None or self.asked is None:
                self.fail(outcome.error)
                return
            parts = infer_answer(self.asked, outcome.outputs, outcome.version)
            if self.asked.parameters.get(_ASKS_FINAL):
                parts = [*parts, final_parameter(final=True)]
            self._end([wire.key(2) + wire.varint(sum(map(len, parts))), *parts], 200)
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self.fail(err)

    def fail(self, err: BaseException | None) -> None:
        """Answer that the request failed, and why."""
        ending = ending_of(err)
        self._end([error_message(self.asked, ending.message)], ending.http_status)
        if ending.close:
            self.call.stop(ending)

    def _end(self, answer: list[Buffer], status: int) -> None:
        self.answer = answer
        model = self.asked.model if self.asked is not None else ""
        self.call.service.answered(STREAM_ROUTE, model, status, self.started, self.trace)
        self.call.answered(self)


class StreamCall:
    """Serves one stream of requests.

    Attributes:
        service: does the inferences.
    """

    __slots__ = ("_buffer", "_ends_at", "_generated", "_in_flight", "_leaving", "_limits", "_over",
                 "_reading", "_started", "_stream", "_turns", "_whole", "_withheld",
                 "service")  # fmt: skip

    def __init__(self, stream: Stream, service: Service, limits: Limits) -> None:
        """Serve `stream`."""
        self._stream, self.service, self._limits = stream, service, limits
        self._buffer = bytearray()
        self._turns: deque[_Turn] = deque()
        self._generated: set[Generated] = set()
        self._in_flight = self._withheld = 0
        self._started = self._over = self._whole = self._leaving = self._reading = False
        self._ends_at: float | None = None

    def begin(self) -> None:
        """Refuse the call if its head says that it cannot be served."""
        try:
            timeout_s = begin_call(self._stream)
        except RequestError as err:
            self.stop(ending_of(err))
            return
        if timeout_s is not None:
            self._ends_at = self.service.clock() + timeout_s
            self._stream.deadline = self._stream.carrier.now + timeout_s

    def data(self, part: bytes) -> None:
        """Take requests, or part of one."""
        stream = self._stream
        if self._over or stream.dead:
            return
        if not stream.acquire(len(part)):
            self.stop(ending_of(RequestError("too many large requests at once", status=503)))
            return
        if not self._buffer:
            stream.since = stream.carrier.now
        self._buffer += part
        self._withheld += len(part)
        self._read()

    def end(self) -> None:
        """No further requests come: end after the last answer."""
        self._whole = True
        self._read()
        if not self._over and self._buffer and self._room:
            self.stop(ending_of(RequestError("the last message is cut off")))
        self._finish_if_done()

    def late(self, waited_s: float) -> None:
        """End a stream whose time is over, or on which nothing happens any more."""
        now = self.service.clock()
        if self._ends_at is not None and now >= self._ends_at:
            self.stop(ending_of(Timeout("the client's deadline has passed")))
        elif self._in_flight:
            return  # whoever carries a request out keeps its deadline
        elif self._buffer and self._room:
            self.stop(ending_of(Timeout("a message did not arrive in time")))
        elif waited_s > self._limits.idle_timeout_s:
            self.stop(Ending(Status.UNAVAILABLE, "nothing came for a while", 408))

    def leave(self) -> None:
        """Begin nothing new; end after the answers that are owed."""
        self._leaving = True
        self._finish_if_done()

    def taken(self) -> None:
        """The client took what it was sent: go on with its requests."""
        for each in tuple(self._generated):
            each.taken()
        self._read()
        self._finish_if_done()

    def gone(self) -> None:
        """The client has left; what is being carried out goes on."""
        self._over = True
        self._forget()
        self._cancel()

    def answered(self, turn: _Turn) -> None:
        """Send the answers whose turn it is, and take further requests."""
        stream = self._stream
        self.ended(turn.size)
        if self._over:
            return
        stream.since = stream.carrier.now
        turns = self._turns
        while turns and turns[0].answer is not None:
            self._start()
            stream.write(framed(turns.popleft().answer or ()))
        stream.flush()
        self._read()
        self._finish_if_done()

    def part(self, message: bytes, *, over: "Generated | None" = None) -> None:
        """Send part of a generated answer; of the one that is `over`, the last."""
        if self._over:
            return
        stream = self._stream
        stream.since = stream.carrier.now
        self._start()
        stream.write(framed((message,)))
        stream.flush()
        if over is not None:
            self._generated.discard(over)
            self.ended(over.size)
            self._read()
            self._finish_if_done()

    def ended(self, size: int) -> None:
        """A request of `size` bytes is over."""
        stream = self._stream
        self._in_flight -= 1
        stream.release(size)
        if not self._in_flight:
            stream.rest()

    def stop(self, ending: Ending) -> None:
        """End the stream as `ending` says, after what was written."""
        if self._over:
            return
        self._over = True
        self._forget()
        self._cancel()
        if self._started:
            self._stream.finish(ending.trailers(alone=False))
        else:
            self._stream.start(ending.trailers(alone=True), end=True)
        if ending.close:
            self._stream.carrier.retire()

    @property
    def _room(self) -> bool:
        """Whether a further request may begin."""
        return self._in_flight < MAX_IN_FLIGHT and not self._stream.holds and not self._leaving

    def _read(self) -> None:
        """Begin the requests that are whole, as far as there is room."""
        if self._reading:
            return  # a request failed at once: the loop below goes on
        self._reading = True
        try:
            while not self._over and self._room:
                if self._withheld:  # what is in the buffer is part of what is taken now
                    self._stream.consumed(self._withheld)
                    self._withheld = 0
                end = message_end(self._buffer, self._limits.max_body_bytes)
                if end is None or end > len(self._buffer):
                    break
                message = bytes(memoryview(self._buffer)[:end])
                del self._buffer[:end]
                self._begin(message)
        except RequestError as err:
            self.stop(ending_of(err))
        finally:
            self._reading = False

    def _begin(self, message: bytes) -> None:
        turn = _Turn(self, len(message))
        stream = self._stream
        self._in_flight += 1
        stream.work()
        try:
            self.service.expect_in_force(stream.carrier.tls_spki)
            headers = stream.head.headers
            if HEADER in headers:
                turn.trace = self.service.tracer.begin(headers[HEADER])
            asked = turn.asked = parse_infer(message, PREFIX.size, len(message))
            info = self.service.models().get(asked.model)
            if info is not None and info.generates:
                self._generate(turn, asked)
                return
            self._turns.append(turn)
            self.service.submit(
                model=asked.model,
                version=asked.version,
                inputs=asked.request.inputs,
                outputs=asked.request.outputs,
                timeout_s=shorter(
                    asked.request.timeout_s, time_left(self._ends_at, self.service.clock())
                ),
                connection=stream.carrier.number,
                done=turn.done if turn.trace is None else turn.trace.through(turn.done),
            )
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            if turn not in self._turns:
                self._turns.append(turn)
            turn.fail(err)

    def _generate(self, turn: _Turn, asked: Asked) -> None:
        """Let the answer to `asked` come in parts."""
        # Where texts are generated, and nowhere else.
        from wardian.serving.grpc.generated import Generated  # noqa: PLC0415

        wanted = Generated(self, asked, size=turn.size, started=turn.started, trace=turn.trace)
        wanted.begin(
            timeout_s=time_left(self._ends_at, self.service.clock()),
            connection=self._stream.carrier.number,
            tls_spki=self._stream.carrier.tls_spki,
        )
        self._generated.add(wanted)

    def _cancel(self) -> None:
        """Let the parts be that were not asked for yet."""
        generated, self._generated = self._generated, set()
        for each in generated:
            each.cancel()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._stream.start(HEAD)

    def _finish_if_done(self) -> None:
        if self._over or self._in_flight or self._turns or self._stream.holds:
            return
        if self._whole and not self._buffer:
            self._over = True
            self._start()
            self._stream.finish(OK_TRAILERS)
        elif self._leaving:
            self.stop(Ending(Status.UNAVAILABLE, "this front end is stopping", 503))

    def _forget(self) -> None:
        self._stream.release(len(self._buffer))
        self._buffer.clear()
