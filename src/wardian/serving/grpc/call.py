"""One gRPC call with one request: collected, carried out, answered.

Source: gRPC over HTTP/2. A message stands after a byte that says whether it is compressed, and its
length in four bytes, big-endian.
"""

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from wardian._internal.agreed import Limits
from wardian.errors import RequestError, Timeout
from wardian.inference.spec import Tensors
from wardian.serving.api.service import Service
from wardian.serving.grpc.infer_answer import build_infer
from wardian.serving.grpc.infer_request import Asked, parse_infer
from wardian.serving.grpc.methods import INFER, METHODS, read_named
from wardian.serving.grpc.status import HEAD, OK_TRAILERS, ending_of
from wardian.serving.http.http2.stream import Stream
from wardian.serving.http.messages import Buffer
from wardian.serving.traces import HEADER, Trace

if TYPE_CHECKING:
    from wardian.serving.dispatch import Outcome

PREFIX: Final = struct.Struct(">BI")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class UnaryCall:
    """Serves one stream with one request and one answer."""

    __slots__ = ("_asked", "_body", "_ends_at", "_limits", "_route", "_service", "_started",
                 "_stream", "_trace")  # fmt: skip

    def __init__(self, stream: Stream, service: Service, limits: Limits, *, route: str) -> None:
        """Serve `stream`, counted as `route`."""
        self._stream, self._service, self._limits = stream, service, limits
        self._route = route
        self._started = service.clock()
        self._ends_at: float | None = None
        self._body: bytes | bytearray = b""
        self._asked: Asked | None = None
        self._trace: Trace | None = None

    def begin(self) -> None:
        """Refuse the call if its head says that it cannot be served."""
        try:
            timeout_s = begin_call(self._stream)
            if timeout_s is not None:
                self._ends_at = self._started + timeout_s
                self._stream.deadline = self._stream.carrier.now + timeout_s
        except RequestError as err:
            self._fail(err)

    def data(self, part: bytes) -> None:
        """Take part of the request."""
        stream = self._stream
        if stream.dead or stream.ending:
            return
        if not stream.acquire(len(part)):
            self._fail(RequestError("too many large requests at once", status=503))
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
            self._fail(err)
        else:
            stream.consumed(len(part))

    def end(self) -> None:
        """Carry the request out."""
        stream = self._stream
        if stream.dead or stream.ending:
            return
        stream.work()
        try:
            source = self._body
            expect_whole(source, self._limits.max_body_bytes)
            self._service.expect_in_force(stream.carrier.tls_spki)
            if stream.head.target == INFER:
                self._infer(source)
            else:
                self._service.look()
                method = METHODS[stream.head.target]
                named = read_named(source, PREFIX.size, len(source))
                self._answer([method.run(self._service, named)])
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self._fail(err)

    def late(self, waited_s: float) -> None:
        """End a call whose request does not become whole in time."""
        del waited_s
        self._fail(Timeout("the request did not arrive in time"))

    def leave(self) -> None:
        """Go on: a call that has begun is served."""

    def taken(self) -> None:
        """There is nothing more to write."""

    def gone(self) -> None:
        """Forget the request, unless it is being carried out."""
        self._body = b""
        if not self._stream.working:
            self._stream.release()

    def _infer(self, source: bytes | bytearray) -> None:
        headers, done = self._stream.head.headers, self._infer_done
        if HEADER in headers:
            self._trace = self._service.tracer.begin(headers[HEADER])
        asked = self._asked = parse_infer(source, PREFIX.size, len(source))
        self._service.submit(
            model=asked.model,
            version=asked.version,
            inputs=asked.request.inputs,
            outputs=asked.request.outputs,
            timeout_s=shorter(
                asked.request.timeout_s, time_left(self._ends_at, self._service.clock())
            ),
            connection=self._stream.carrier.number,
            done=done if self._trace is None else self._trace.through(done),
        )

    def _infer_done(self, outcome: "Outcome") -> None:
        self._service.over()
        try:
            if outcome.outputs is None or self._asked is None:
                self._fail(outcome.error)
            else:
                self._answer(infer_answer(self._asked, outcome.outputs, outcome.version))
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self._fail(err)

    def _answer(self, parts: Sequence[Buffer]) -> None:
        stream = self._stream
        stream.release()
        stream.start(HEAD)
        stream.write(framed(parts))
        stream.finish(OK_TRAILERS)
        self._count(200)

    def _fail(self, err: BaseException | None) -> None:
        ending = ending_of(err)
        self._body = b""
        self._stream.release()
        self._stream.start(ending.trailers(alone=True), end=True)
        self._count(ending.http_status)
        if ending.close:
            self._stream.carrier.retire()

    def _count(self, status: int) -> None:
        model = self._asked.model if self._asked is not None else ""
        self._service.answered(self._route, model, status, self._started, self._trace)
        if self._stream.working:
            self._stream.rest()


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


def infer_answer(asked: Asked, outputs: Tensors, version: int) -> list[Buffer]:
    """Return the answer to `asked`, which `version` of the model gave, in parts.

    Raises:
        RequestError: 413; more numbers than go out typed.
    """
    return build_infer(
        model=asked.model, version=str(version), request=asked.request, outputs=outputs
    )
