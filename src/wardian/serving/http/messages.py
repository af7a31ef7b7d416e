"""HTTP messages as the front end sees them: a whole request, a whole response, and its bytes.

A response is rendered into as few writes as possible: one up to `JOIN_BYTES`, because each write
on a TLS connection costs a record and a system call; above that the parts go out uncopied.

No `Date` header is sent: an enclave has no clock that it could vouch for, and RFC 9110 section
6.6.1 then forbids one.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec
from typing_extensions import override

if TYPE_CHECKING:
    from wardian.serving.http.streamed import Outlet

Buffer: TypeAlias = bytes | bytearray | memoryview

JSON = b"application/json"
BINARY = b"application/octet-stream"
JOIN_BYTES = 64 * 1024
"""Up to this size, copying a response into one buffer costs less than writing its parts."""

NO_STORE = b"Cache-Control: no-store\r\n"


class HttpRequest(msgspec.Struct, frozen=True, gc=False):
    """A request that was read whole and is within every limit.

    Attributes:
        method: as sent, for example b"POST".
        target: origin-form (RFC 9112 section 3.2.1): path and query, still percent-encoded.
        headers: by lower-case name; a repeated header has its values joined by b", ".
        body: the decoded body; the receiver may keep and alias it.
        tls_spki: SubjectPublicKeyInfo (DER) of the key that this connection's server proved.
        connection: which connection it came on; no two of one process have the same.
        peer: the IP address at the other end.
    """

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    body: bytes | bytearray
    tls_spki: bytes
    connection: int
    peer: str

    @override
    def __repr__(self) -> str:
        """Return nothing of the headers, which may hold a key, nor of the body."""
        return f"HttpRequest({self.method!r}, {len(self.body)} bytes)"


class Source(Protocol):
    """Gives an answer in parts; see `streamed`. Nothing here raises."""

    def begin(self, outlet: "Outlet") -> None:
        """The head is sent; parts may go to `outlet` from now on."""

    def taken(self) -> None:
        """The client took what it was sent: go on."""

    def gone(self, rest: Callable[[], None]) -> None:
        """The client has left; call `rest` once nothing is done for it any more."""


class HttpResponse(msgspec.Struct, frozen=True, gc=False):
    """A response.

    Attributes:
        status: 200 to 599.
        body: its parts in order; `Content-Length` is their sum.
        content_type: the media type.
        headers: further header lines, each ending in CRLF.
        close: whether the connection ends after it.
        source: gives the body in parts, in place of `body`; None: it is whole.
    """

    status: int = 200
    body: Sequence[Buffer] = ()
    content_type: bytes = JSON
    headers: bytes = b""
    close: bool = False
    source: Source | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """What every error answer says: `error` for people, `code` for programs (a closed set)."""

    error: str
    code: str
    reference: str | msgspec.UnsetType = msgspec.UNSET
    """Names the line in the server's log; only where the cause is not told to the client."""


_HEAD = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
CONTINUE = _HEAD[100] + b"\r\n"
"""The interim response to `Expect: 100-continue` (RFC 9110 section 15.2.1)."""

_CODES = {
    400: "bad_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    414: "url_too_long",
    415: "unsupported_media_type",
    417: "expectation_failed",
    421: "moved",
    429: "busy",
    431: "headers_too_large",
    500: "internal",
    501: "not_implemented",
    503: "unavailable",
    504: "deadline_exceeded",
    505: "http_version",
}


def json_response(value: object, *, status: int = 200, headers: bytes = NO_STORE) -> HttpResponse:
    """Return `value` as a JSON response."""
    return HttpResponse(status=status, body=(msgspec.json.encode(value),), headers=headers)


def error_response(
    status: int,
    message: str,
    *,
    code: str | None = None,
    reference: str | None = None,
    headers: bytes = b"",
    retry_after_s: int | None = None,
    close: bool = False,
) -> HttpResponse:
    """Return the error `message` as `{"error": ..., "code": ...}`.

    Args:
        status: 400 to 599.
        message: for a person: what was wrong and what was expected.
        code: for a program; by default the one that belongs to `status`.
        reference: see `ErrorBody`.
        headers: further header lines, each ending in CRLF.
        retry_after_s: whole seconds after which trying again makes sense.
        close: whether the connection ends after it.
    """
    body = ErrorBody(
        error=message,
        code=code or _CODES.get(status, "error"),
        reference=msgspec.UNSET if reference is None else reference,
    )
    if retry_after_s is not None:
        headers += b"Retry-After: %d\r\n" % max(1, retry_after_s)
    return HttpResponse(
        status=status,
        body=(msgspec.json.encode(body),),
        headers=headers + NO_STORE,
        close=close,
    )


def render(response: HttpResponse, *, keep_alive: bool, head_only: bool) -> list[Buffer]:
    """Return `response` as the buffers to write, one wherever that is cheaper.

    Args:
        response: what to send.
        keep_alive: whether the connection stays open; if not, the header says so.
        head_only: the request was HEAD: everything but the body (RFC 9110 section 9.3.2).
    """
    length = 0
    for part in response.body:
        length += len(part)
    head = b"%bContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n" % (
        _HEAD[response.status],
        response.content_type,
        length,
        response.headers,
        b"" if keep_alive else b"Connection: close\r\n",
    )
    if head_only:
        return [head]
    if length <= JOIN_BYTES:
        return [b"".join((head, *response.body))]
    return [head, *response.body]


def head_of(response: HttpResponse, length: bytes, *, keep_alive: bool) -> bytes:
    """Return the head of a response whose body comes in parts; `length` is the line that says so.

    Args:
        response: what is begun.
        length: header lines, each ending in CRLF, or nothing.
        keep_alive: as for `render`.
    """
    return b"%bContent-Type: %b\r\n%b%b%b\r\n" % (
        _HEAD[response.status],
        response.content_type,
        length,
        response.headers,
        b"" if keep_alive else b"Connection: close\r\n",
    )
