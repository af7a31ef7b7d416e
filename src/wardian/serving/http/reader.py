"""Bytes to whole requests, within limits: the part of HTTP/1.1 that has no socket and no clock.

The maintained parser (httptools, which is llhttp) decides what is HTTP; with its leniencies off it
refuses two lengths, both length and chunking, folded headers, bare LF and spaces before colons
(RFC 9112 sections 2.2, 5, 6, 7 and 11). What it does not bound is bounded here: the URL, the
headers' number and bytes, the body, and what chunks may cost. After a refusal nobody knows where
the next request would begin, so nothing is read after one.
"""

from collections.abc import Callable, Mapping
from typing import Final, NoReturn

import httptools
import msgspec

from wardian.serving.http.messages import HttpRequest, HttpResponse, error_response

MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 32 * 1024
MAX_URL_BYTES: Final = 8 * 1024
MAX_CHUNK_OVERHEAD_BYTES: Final = 16 * 1024
"""Bytes of chunk extensions and trailers that a body may carry, over what its chunks need."""
SMALL_PART_BYTES: Final = 4096
"""Smaller parts of a body are joined as they come, larger ones once it is whole."""
CHUNK_FRAME_BYTES: Final = 16
"""What one chunk may cost in framing: a size line, its end, the end of its data."""

UNGATED_BYTES: Final = 64 * 1024
"""A body up to this size is read whoever sends it: to ask first would cost more than to read it."""

NO_ROOM: Final = error_response(503, "too many large requests at once", retry_after_s=1, close=True)
"""What it is answered whose body finds no memory, or has to give it to others."""

BETWEEN, HEADERS, BODY, ENDED = range(4)
"""Where the reader is: between requests, in headers, in a body, or where it reads no more."""


class Refused(Exception):
    """Nothing more is read. `response` is what the client is owed for it, if anything."""

    def __init__(self, response: HttpResponse | None) -> None:
        super().__init__()
        self.response = response


class RequestReader:
    """Reads the requests of one connection.

    Attributes:
        asked: the headers of the request whose headers came last; empty before the first.
        phase: `BETWEEN`, `HEADERS`, `BODY` or `ENDED`.
        mark: grows with each change of phase, so that the owner can time each.
    """

    __slots__ = (
        "_acquire",
        "_chunks",
        "_connection",
        "_deliver",
        "_gate",
        "_header_bytes",
        "_header_count",
        "_headers",
        "_length",
        "_max_body_bytes",
        "_parser",
        "_parts",
        "_peer",
        "_raw",
        "_send_continue",
        "_tls_spki",
        "_ungated_bytes",
        "_url",
        "_version",
        "asked",
        "mark",
        "phase",
    )

    def __init__(
        self,
        *,
        max_body_bytes: int,
        tls_spki: bytes,
        connection: int,
        peer: str,
        deliver: Callable[[HttpRequest, bool], bool],
        acquire: Callable[[int], bool],
        send_continue: Callable[[], None],
        gate: Callable[[Mapping[bytes, bytes], str], HttpResponse | None] | None = None,
    ) -> None:
        """Read for one connection.

        Args:
            max_body_bytes: larger bodies are refused, if possible before they are sent.
            tls_spki: put into each request.
            connection: likewise.
            peer: likewise.
            deliver: takes each whole request and whether the connection may outlive it; returns
                False if no further request can be taken.
            acquire: accounts for so many bytes of a body; False if there is no room.
            send_continue: the client waits for `100 Continue`.
            gate: see `state.Gate`.
        """
        self._max_body_bytes = max_body_bytes
        self._tls_spki = tls_spki
        self._connection = connection
        self._peer = peer
        self._deliver = deliver
        self._acquire = acquire
        self._send_continue = send_continue
        self._gate = gate
        self._ungated_bytes = min(UNGATED_BYTES, max_body_bytes)
        self._parser = httptools.HttpRequestParser(self)
        self.asked: dict[bytes, bytes] = {}
        self._headers: dict[bytes, bytes] = {}
        self._url = b""
        self._version = ""
        self._parts: list[bytes | bytearray] = []
        self._header_bytes = self._header_count = 0
        self._length = self._raw = self._chunks = 0
        self.phase = BETWEEN
        self.mark = 0

    def feed(self, data: bytes) -> None:
        """Read `data`; deliver the requests that it completes.

        Raises:
            Refused: nothing more is read.
        """
        phase, mark = self.phase, self.mark
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as err:
            self.phase = ENDED
            raise (err.__context__ or err) from None  # `Refused`, or a bug of whom we deliver to
        except httptools.HttpParserUpgrade:
            # Served as if it had not asked (RFC 9110 section 7.8); the last of its connection.
            self.phase = ENDED
        except httptools.HttpParserError as err:
            if self.phase != ENDED:  # else it is what follows the connection's last request
                self.phase = ENDED
                raise Refused(_malformed(err)) from None
        else:
            if self.phase != BETWEEN:
                self._count_raw(len(data), before=phase, steps=self.mark - mark)

    @property
    def knows_chunks(self) -> bool:
        """Whether the last request was of HTTP/1.1, and so may be answered in chunks."""
        return self._version != "1.0"

    def stop(self) -> None:
        """Read no more, and let go of what was read; also from within `deliver`."""
        self.phase = ENDED
        self._parts = []

    def close(self) -> None:
        """Break the cycle between the parser and this object; not from within `feed`."""
        self.stop()
        self._parser = None

    def truncation(self) -> str | None:
        """Return what is missing if the bytes end here, or None if they may."""
        if self.phase == HEADERS:
            return "the connection ended within the headers"
        if self.phase == BODY:
            of = self._headers.get(b"content-length", b"?").decode("latin-1")
            return f"the body ended after {self._length} of {of} bytes"
        return None

    # -- called by the parser ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request line may follow."""
        if self.phase == ENDED:  # stopped while the rest of the same bytes was still to be read
            raise Refused(None)
        self.mark += 1
        self.phase = HEADERS
        self._headers = {}
        self._url = b""
        self._header_bytes = self._header_count = self._length = self._raw = self._chunks = 0

    def on_url(self, part: bytes) -> None:
        """Part of the request target."""
        self._url = self._url + part if self._url else part
        if len(self._url) > MAX_URL_BYTES:
            _refuse(414, f"the URL is longer than {MAX_URL_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is read and forgotten (RFC 9110 section 6.5.1)."""
        self._header_bytes = size = self._header_bytes + len(name) + len(value) + 4
        self._header_count = count = self._header_count + 1
        if size > MAX_HEADER_BYTES:
            _refuse(431, f"the headers are larger than {MAX_HEADER_BYTES} bytes")
        if count > MAX_HEADERS:
            _refuse(431, f"more than {MAX_HEADERS} headers")
        if self.phase == BODY:
            return
        headers = self._headers
        name = name.lower()
        if name in headers:
            value = headers[name] + b", " + value
        headers[name] = value

    def on_headers_complete(self) -> None:
        """The headers are whole: refuse what cannot be served, before its body is read."""
        self.mark += 1
        self.phase = BODY
        self._raw = 0
        headers = self.asked = self._headers
        version = self._version = self._parser.get_http_version()
        _accept_version(version, headers.get(b"host"))
        if b"transfer-encoding" in headers:
            _accept_chunked(headers[b"transfer-encoding"], version)
            self._pass_gate()
        elif b"content-length" in headers:
            length = int(headers[b"content-length"])  # the parser let digits through, nothing else
            if length > self._ungated_bytes:
                if length > self._max_body_bytes:
                    self._refuse_large(f"a body of {length} bytes")
                self._pass_gate()
        if b"content-encoding" in headers and headers[b"content-encoding"].lower() != b"identity":
            _refuse(415, "the body is compressed; send it as it is (no Content-Encoding)")
        if b"expect" in headers:
            if headers[b"expect"].lower() != b"100-continue":
                _refuse(417, "the only expectation is 100-continue")
            if version == "1.1":
                self._send_continue()

    def on_chunk_header(self) -> None:
        """A chunk's size line."""
        self._chunks += 1

    def on_body(self, part: bytes) -> None:
        """Part of the body."""
        self._length += len(part)
        if self._length > self._max_body_bytes:
            self._refuse_large("the body")
        if not self._acquire(len(part)):
            raise Refused(NO_ROOM)
        parts = self._parts
        if len(part) >= SMALL_PART_BYTES or not parts or len(parts[-1]) >= SMALL_PART_BYTES:
            parts.append(part)
            return
        # A client that sends two bytes at a time would make the list twenty times as large as what
        # it holds: of two neighbours one is large.
        last = parts[-1]
        if type(last) is not bytearray:
            parts[-1] = last = bytearray(last)
        last += part

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.mark += 1
        self.phase = BETWEEN
        parser = self._parser
        keep_alive = (
            parser.should_keep_alive()
            and self._version == "1.1"
            and b"upgrade" not in self._headers  # after it the parser reads no further request
        )
        parts, self._parts = self._parts, []
        body = b"".join(parts) if len(parts) != 1 else parts[0]
        request = HttpRequest(
            parser.get_method(),
            _origin_form(self._url),
            self._headers,
            body,
            self._tls_spki,
            self._connection,
            self._peer,
        )
        if not keep_alive:
            self.phase = ENDED
        if not self._deliver(request, keep_alive):
            raise Refused(None)

    # -- the inside -------------------------------------------------------------------------------

    def _count_raw(self, size: int, *, before: int, steps: int) -> None:
        """Bound what the parser swallows without a callback: an endless header or chunk line.

        Args:
            size: bytes that were just read.
            before: the phase before them.
            steps: how often the phase changed within them. Where another request ended in them,
                it is not known how many belong to this one, and none are counted.
        """
        if steps == 0:
            self._raw += size
        elif before + steps == self.phase:  # they hold one request at most: this one
            self._raw = size - (self._header_bytes if self.phase == BODY else 0)
        if self.phase == HEADERS and self._raw > MAX_HEADER_BYTES + MAX_URL_BYTES:
            self.phase = ENDED
            _refuse(431, f"the headers are larger than {MAX_HEADER_BYTES} bytes")
        if self.phase == BODY and (
            self._raw
            > self._length * 2 + self._chunks * CHUNK_FRAME_BYTES + MAX_CHUNK_OVERHEAD_BYTES
        ):
            self.phase = ENDED
            _refuse(400, "chunk extensions and trailers are larger than the body that they frame")

    def _pass_gate(self) -> None:
        """Return if the body that follows is read, though it is large or of no stated length."""
        refusal = None if self._gate is None else self._gate(self._headers, self._peer)
        if refusal is not None:
            raise Refused(msgspec.structs.replace(refusal, close=True))

    def _refuse_large(self, what: str) -> NoReturn:
        _refuse(413, f"{what} is more than the {self._max_body_bytes} bytes that are accepted")


def _refuse(status: int, message: str) -> NoReturn:
    raise Refused(error_response(status, message, close=True))


def _accept_version(version: str, host: bytes | None) -> None:
    if version == "1.1":
        if host is None or b"," in host:
            _refuse(400, "exactly one Host header is required (RFC 9112 section 3.2)")
    elif version != "1.0":
        _refuse(505, "HTTP/1.1 is spoken here")


def _accept_chunked(coding: bytes, version: str) -> None:
    if version != "1.1":
        _refuse(400, "Transfer-Encoding needs HTTP/1.1 (RFC 9112 section 6.1)")
    if coding.lower() != b"chunked":
        _refuse(501, "the only Transfer-Encoding is chunked")


def _origin_form(target: bytes) -> bytes:
    """Return the request target as path and query (RFC 9112 section 3.2.1)."""
    if target[:1] == b"/" or target == b"*":
        return target
    if target[:8].lower() != b"https://":
        _refuse(400, "the request target is a path that begins with /")
    # The absolute form, which a server must accept (section 3.2.2).
    _, slash, rest = target[8:].partition(b"/")
    return slash + rest or b"/"


def _malformed(err: httptools.HttpParserError) -> HttpResponse:
    """Return the answer to what the parser refused: its reason, never the bytes themselves."""
    if isinstance(err, httptools.HttpParserInvalidMethodError):
        return error_response(400, "not an HTTP/1.1 request: unknown method", close=True)
    if isinstance(err, httptools.HttpParserInvalidURLError):
        return error_response(400, "not an HTTP/1.1 request: invalid URL", close=True)
    return error_response(400, f"not an HTTP/1.1 request: {err}"[:200], close=True)


def read_one(raw: bytes) -> HttpRequest:
    """Return the one whole request in `raw`, of at most 1 KiB body: for a self-test."""
    found: list[HttpRequest] = []

    def take(request: HttpRequest, _: bool) -> bool:  # noqa: FBT001 (the reader's signature)
        found.append(request)
        return True

    reader = RequestReader(
        max_body_bytes=1024,
        tls_spki=b"",
        connection=0,
        peer="",
        deliver=take,
        acquire=lambda _: True,
        send_continue=lambda: None,
    )
    reader.feed(raw)
    reader.close()
    return found[0]
