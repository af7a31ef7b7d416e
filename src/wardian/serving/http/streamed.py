"""Answers that come in parts, over either version of HTTP.

Whoever answers is a `Source`; the connection gives it an `Outlet`. Nothing is buffered for a client
that does not read but the part that it did not take: the source is told when to go on.

    handler: respond(HttpResponse(source=source))  ->  source.begin(outlet)
    source:  outlet.send(...), ..., outlet.end()   <-  source.taken(), source.gone()
"""

from typing import Final, Protocol

from typing_extensions import override

from wardian.serving.http.messages import HttpResponse, head_of

LAST_CHUNK: Final = b"0\r\n\r\n"


class Outlet(Protocol):
    """Where the parts of one answer go. After `end`, or `gone`, nothing is sent."""

    def send(self, data: bytes) -> bool:
        """Send `data`, which is not empty; return whether more may follow at once.

        If not, the source is told by `taken` when it may.
        """

    def end(self) -> None:
        """That was all."""


class Carrier(Protocol):
    """What an answer in chunks needs of its connection."""

    def send_piece(self, data: bytes) -> bool:
        """Send `data` as it is; return whether the client takes what it is sent."""

    def end_streamed(self, *, keep_alive: bool) -> None:
        """The answer is whole; the connection may go on if it is still to be kept alive."""


class Chunks(Outlet):
    """The body of an answer of HTTP/1.1 in chunks (RFC 9112, section 7.1); of 1.0, until its end.

    A client of 1.0 cannot tell the end from a loss by the connection alone; what is sent in parts
    says itself where it ends.
    """

    __slots__ = ("_carrier", "_chunked")

    def __init__(self, carrier: Carrier, *, chunked: bool) -> None:
        """Send by `carrier`."""
        self._carrier, self._chunked = carrier, chunked

    def head(self, response: HttpResponse, *, keep_alive: bool) -> bytes:
        """Return what stands before the parts of `response`."""
        length = b"Transfer-Encoding: chunked\r\n" if self._chunked else b""
        return head_of(response, length, keep_alive=keep_alive and self._chunked)

    @override
    def send(self, data: bytes) -> bool:
        """Send one part as one chunk."""
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        return self._carrier.send_piece(data)

    @override
    def end(self) -> None:
        """Send the last chunk."""
        if self._chunked:
            self._carrier.send_piece(LAST_CHUNK)
        self._carrier.end_streamed(keep_alive=self._chunked)
