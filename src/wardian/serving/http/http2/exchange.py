"""A request of HTTP/2 that is read whole and handed on as one of HTTP/1.1 would be."""

from typing import Final

from typing_extensions import override

from wardian.serving.http.http2.fields import response_block, status_field
from wardian.serving.http.http2.stream import Stream
from wardian.serving.http.messages import HttpRequest, HttpResponse, Source, error_response
from wardian.serving.http.reader import UNGATED_BYTES
from wardian.serving.http.state import Gate, Handler
from wardian.serving.http.streamed import Outlet

_EXPECTATION: Final = b"100-continue"


class Exchange:
    """Collects one request, has it served, and sends the answer."""

    __slots__ = ("_body", "_gate", "_handler", "_max_body_bytes", "_size", "_source", "_stream")

    def __init__(
        self, stream: Stream, handler: Handler, *, max_body_bytes: int, gate: Gate | None = None
    ) -> None:
        """Serve `stream` with `handler`; a large body passes `gate` first, if there is one."""
        self._stream, self._handler, self._gate = stream, handler, gate
        self._max_body_bytes = max_body_bytes
        self._size = 0
        self._source: Source | None = None
        self._body: bytes | bytearray = b""

    def begin(self) -> HttpResponse | None:
        """Return why the request is refused by its head alone, or None."""
        head, most = self._stream.head, self._max_body_bytes
        if head.length is not None and head.length > most:
            return self._too_large(f"a body of {head.length} bytes")
        if self._gate is not None and not self._stream.remote_ended:
            refusal = None
            if head.length is None or head.length > UNGATED_BYTES:
                refusal = self._gate(head.headers, self._stream.carrier.peer)
            if refusal is not None:
                return refusal
        if head.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            return error_response(
                415, "the body is compressed; send it as it is (no Content-Encoding)"
            )
        if b"expect" in head.headers:
            if head.headers[b"expect"].lower() != _EXPECTATION:
                return error_response(417, "the only expectation is 100-continue")
            if not self._stream.remote_ended:
                self._stream.start(status_field(100))  # an interim answer (section 8.1)
        return None

    def data(self, part: bytes) -> None:
        """Take part of the body."""
        stream = self._stream
        if stream.dead:
            return
        self._size += len(part)
        if self._size > self._max_body_bytes:
            self.refuse(self._too_large("the body"))
        elif not stream.acquire(len(part)):
            self.refuse(error_response(503, "too many large requests at once", retry_after_s=1))
        else:
            if not self._body:
                self._body = part
            else:
                if type(self._body) is bytes:
                    self._body = bytearray(self._body)
                self._body += part
            stream.consumed(len(part))

    def end(self) -> None:
        """Have the request served."""
        stream = self._stream
        if stream.dead:
            return
        head, carrier = stream.head, stream.carrier
        body, self._body = self._body, b""
        stream.work()
        self._handler(
            HttpRequest(
                head.method,
                head.target,
                head.headers,
                body,
                carrier.tls_spki,
                carrier.number,
                carrier.peer,
            ),
            self._respond,
        )

    def late(self, waited_s: float) -> None:
        """Answer that the body did not come in time."""
        del waited_s
        self.refuse(error_response(408, "the body did not arrive in time"))

    def gone(self) -> None:
        """Forget the body, unless it is being served: then it stays until that is over."""
        source, self._source = self._source, None
        if source is not None:
            source.gone(self._stream.rest)
        if not self._stream.working:
            self._forget()

    def leave(self) -> None:
        """Go on: a request that has begun is served."""

    def taken(self) -> None:
        """Go on with an answer that comes in parts."""
        if self._source is not None:
            self._source.taken()

    def refuse(self, response: HttpResponse) -> None:
        """Answer without the handler."""
        self._forget()
        self._stream.carrier.count_refusal(response.status)
        self._stream.respond(response)

    def _respond(self, response: HttpResponse) -> None:
        stream = self._stream
        stream.release()
        if response.source is not None:
            self._begin_streamed(response, response.source)
            return
        stream.respond(response)
        stream.rest()
        if response.close:
            stream.carrier.retire()

    def _begin_streamed(self, response: HttpResponse, source: Source) -> None:
        """Send the head of an answer whose parts `source` gives."""
        stream = self._stream
        if stream.dead:
            source.gone(stream.rest)
            return
        self._source = source
        stream.start(response_block(response, None))
        source.begin(_Parts(self, stream))

    def streamed(self) -> None:
        """The answer that came in parts is whole."""
        if self._source is not None:
            self._source = None
            self._stream.finish()
            self._stream.rest()

    def _forget(self) -> None:
        self._body = b""
        self._stream.release()

    def _too_large(self, what: str) -> HttpResponse:
        return error_response(
            413, f"{what} is more than the {self._max_body_bytes} bytes that are accepted"
        )


class _Parts(Outlet):
    """The body of an answer that comes in parts."""

    __slots__ = ("_exchange", "_stream")

    def __init__(self, exchange: Exchange, stream: Stream) -> None:
        self._exchange, self._stream = exchange, stream

    @override
    def send(self, data: bytes) -> bool:
        """Send one part; more may follow when the client's windows have let it go."""
        self._stream.write((data,))
        self._stream.flush()
        return False

    @override
    def end(self) -> None:
        """End the stream after what was sent."""
        self._exchange.streamed()
