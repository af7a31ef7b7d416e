"""One gRPC call with one request: collected, handed to what its method does, answered.

Source: gRPC over HTTP/2. A message stands after a byte that says whether it is compressed, and its
length in four bytes, big-endian.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from wardian._internal.agreed import Limits
from wardian.errors import RequestError, Timeout
from wardian.serving.api.service import Done, Service
from wardian.serving.grpc.status import HEAD, OK_TRAILERS, Ending, ending_of
from wardian.serving.http.http2.stream import Stream
from wardian.serving.http.messages import Buffer
from wardian.serving.traces import HEADER, Trace

PREFIX: Final = struct.Struct(">BI")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class UnaryCall:
    """Serves one stream with one request and one answer.

    Attributes:
        stream: that it came on.
        service: what its caller is served with.
        model: that it is counted under; "" until it is known.
    """

    __slots__ = ("_act", "_body", "_ends_at", "_limits", "_route", "_started", "_trace", "model",
                 "service", "stream")  # fmt: skip

    def __init__(self, stream: Stream, service: Service, limits: Limits, served: "Served") -> None:
        """Serve `stream` with what `served` does, counted as that says."""
        self.stream, self.service, self._limits = stream, service, limits
        self._route, self._act = served
        self._started = service.clock()
        self._ends_at: float | None = None
        self._body: bytes | bytearray = b""
        self._trace: Trace | None = None
        self.model = ""

    def begin(self) -> None:
        """Refuse the call if its head says that it cannot be served."""
        try:
            timeout_s = begin_call(self.stream)
            if timeout_s is not None:
                self._ends_at = self._started + timeout_s
                self.stream.deadline = self.stream.carrier.now + timeout_s
        except RequestError as err:
            self.fail(err)

    def data(self, part: bytes) -> None:
        """Take part of the request."""
        stream = self.stream
        if stream.dead or stream.ending:
            return
        if not stream.acquire(len(part)):
            self.fail(RequestError("too many large requests at once", status=503))
            return
        if not self._body:
            self._body = part
        else:
            if type(self._body) is bytes:
                self._body = bytearray(self._body)
            self._body += part
        try:
            message_end(self._body, self._limits.max_body_bytes)
        except RequestError as err:
            self.fail(err)
        else:
            stream.consumed(len(part))

    def end(self) -> None:
        """Carry the request out."""
        stream = self.stream
        if stream.dead or stream.ending:
            return
        stream.work()
        try:
            source = self._body
            expect_whole(source, self._limits.max_body_bytes)
            self.service.expect_in_force(stream.carrier.tls_spki)
            self._act(self, source)
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self.fail(err)

    def late(self, waited_s: float) -> None:
        """End a call whose request does not become whole in time."""
        del waited_s
        self.fail(Timeout("the request did not arrive in time"))

    def leave(self) -> None:
        """Go on: a call that has begun is served."""

    def taken(self) -> None:
        """There is nothing more to write."""

    def gone(self) -> None:
        """Forget the request, unless it is being carried out."""
        self._body = b""
        if not self.stream.working:
            self.stream.release()

    # -- what the method does with it -------------------------------------------------------------

    def begin_inference(self) -> None:
        """Trace this call if its client does."""
        headers = self.stream.head.headers
        if HEADER in headers:
            self._trace = self.service.tracer.begin(headers[HEADER])

    def traced(self, done: Done) -> Done:
        """Return what to hand over in the place of `done`: a trace learns of the outcome too."""
        return done if self._trace is None else self._trace.through(done)

    def time_left(self) -> float | None:
        """Return for how many seconds the client waits; None: it does not say.

        Raises:
            Timeout: it waits no more.
        """
        return time_left(self._ends_at, self.service.clock())

    def answer(self, parts: Sequence[Buffer]) -> None:
        """End the call with the message in `parts`."""
        stream = self.stream
        stream.release()
        stream.start(HEAD)
        stream.write(framed(parts))
        stream.finish(OK_TRAILERS)
        self._count(200)

    def fail(self, err: BaseException | None) -> None:
        """End the call that `err` ended."""
        self.refuse(ending_of(err))

    def refuse(self, ending: Ending) -> None:
        """End the call without an answer."""
        self._body = b""
        self.stream.release()
        self.stream.start(ending.trailers(alone=True), end=True)
        self._count(ending.http_status)
        if ending.close:
            self.stream.carrier.retire()

    def _count(self, status: int) -> None:
        self.service.answered(self._route, self.model, status, self._started, self._trace)
        if self.stream.working:
            self.stream.rest()


Act: TypeAlias = Callable[[UnaryCall, bytes | bytearray], None]
"""Carries a call out whose message is whole, behind its prefix: answers it, now or later, or raises
what it ends with."""


class Served(NamedTuple):
    """A method with one request and one answer.

    Attributes:
        route: label of the metrics.
        act: what it does.
    """

    route: str
    act: Act


def begin_call(stream: Stream) -> float | None:
    """Return how many seconds the client gives the call on `stream`, or None if it does not say.

    Raises:
        RequestError: 400 no time; 405 not POST; 415 messages are compressed.
    """
    head = stream.head
    if head.method != b"POST":
        raise RequestError("a call is a POST", status=405)
    if head.headers.get(b"grpc-encoding", b"identity") != b"identity":
        raise RequestError("messages are not compressed here: the length would tell", status=415)
    text = head.headers.get(b"grpc-timeout")
    if text is None:
        return None
    digits, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not digits.isdigit() or len(digits) > 8:
        raise RequestError("grpc-timeout: up to eight digits and one of HMSmun were expected")
    return int(digits) * unit


def message_end(source: bytes | bytearray, most: int) -> int | None:
    """Return where the message at the start of `source` ends; None if that is not known yet.

    Raises:
        RequestError: 413 it is larger than `most`; 415 it is compressed.
    """
    if len(source) < PREFIX.size:
        return None
    compressed, length = PREFIX.unpack_from(source)
    if compressed:
        raise RequestError("messages are not compressed here: the length would tell", status=415)
    if length > most:
        raise RequestError(
            f"a message of {length} bytes is more than the {most} that are accepted", status=413
        )
    return PREFIX.size + int(length)


def expect_whole(source: bytes | bytearray, most: int) -> None:
    """Return if `source` is one message and nothing else.

    Raises:
        RequestError: 400 it is not; 413 or 415 as `message_end`.
    """
    if message_end(source, most) != len(source):
        raise RequestError("exactly one message was expected")


def time_left(ends_at: float | None, now: float) -> float | None:
    """Return the seconds from `now` until `ends_at`.

    Raises:
        Timeout: there are none.
    """
    if ends_at is None:
        return None
    if ends_at <= now:
        raise Timeout("the client's deadline had passed when its request was whole")
    return ends_at - now


def shorter(one: float | None, other: float | None) -> float | None:
    """Return the shorter of two times, either of which may be unlimited."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def framed(parts: Sequence[Buffer]) -> list[Buffer]:
    """Return the message in `parts` behind its prefix."""
    return [PREFIX.pack(0, sum(map(len, parts))) + bytes(parts[0]), *parts[1:]]
