"""Field blocks of HTTP/2: what a request's headers may be, and the bytes of an answer's.

HPACK is read by the maintained decoder (`hpack`, pure Python); what it yields is held to RFC 9113
sections 8.2 and 8.3 here. Answers are written without Huffman codes and without the dynamic
table: their few fields take as many bytes as a number of a tensor, and no state has to be kept.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

import hpack
from typing_extensions import override

from wardian.serving.http.http2.frames import ErrorCode, Violation
from wardian.serving.http.messages import HttpResponse
from wardian.serving.http.reader import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")
_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
_OF_CONNECTIONS: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
"""Fields that mean a connection of HTTP/1.1 (section 8.2.2)."""
_INDEXED: Final = bytes(range(0x81, 0xFF))
_CACHED_BLOCKS: Final = 16
_STATUS_INDEX: Final = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
"""Static table (RFC 7541, appendix A)."""
_STATUS_NAME, _CONTENT_LENGTH, _CONTENT_TYPE = 8, 28, 31


class Malformed(Exception):
    """The request is not one (section 8.1.1); its stream ends with PROTOCOL_ERROR."""


class TooLarge(Exception):
    """The request's fields are over a limit; `status` is 414 or 431."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Head(NamedTuple):
    """A request without its body.

    Attributes:
        method: as sent.
        target: path and query, still percent-encoded.
        headers: by lower-case name; a repeated field has its values joined by b", ". `host` is the
            authority.
        length: what `content-length` says, or None.
    """

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    length: int | None

    @override
    def __repr__(self) -> str:
        """Return nothing of the headers, which may hold a key."""
        return f"Head({self.method!r}, {len(self.headers)} headers)"


class FieldReader:
    """Reads the field blocks of one connection, every one of them and in their order."""

    __slots__ = ("_decoder", "_known")

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_HEADER_BYTES)
        self._known: dict[bytes, Head] = {}

    def read_head(self, block: bytes) -> Head:
        """Return the request whose field block is `block`.

        Raises:
            Malformed, TooLarge: this stream cannot be served.
            Violation: the connection cannot go on: what comes next would not be understood.
        """
        # A block of references alone means the same until one comes that may change the table.
        indexed = not block.translate(None, _INDEXED)
        if indexed:
            known = self._known.get(block)
            if known is not None:
                return known._replace(headers=known.headers.copy())
        head = build_head(self._decode(block))
        if indexed and len(self._known) < _CACHED_BLOCKS:
            self._known[block] = head._replace(headers=head.headers.copy())
        return head

    def read_trailers(self, block: bytes) -> None:
        """Read a block whose fields nobody needs.

        Raises:
            Malformed, TooLarge, Violation: as `read_head`.
        """
        fields = self._decode(block)
        for name, value in fields:
            _accept_field(name, value)

    def skip(self, block: bytes) -> None:
        """Read a block of a stream that is over, so that the next is understood.

        Raises:
            Violation: as `read_head`.
        """
        self._decode(block)

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        if block.translate(None, _INDEXED):
            self._known.clear()
        try:
            return [(bytes(name), bytes(value)) for name, value in
                    self._decoder.decode(block, raw=True)]  # fmt: skip
        except hpack.OversizedHeaderListError:
            raise Violation(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"the headers are larger than {MAX_HEADER_BYTES} bytes",
                status=431,
            ) from None
        except (hpack.HPACKError, IndexError, ValueError) as err:
            raise Violation(ErrorCode.COMPRESSION_ERROR, "a field block is not HPACK") from err


def build_head(fields: list[tuple[bytes, bytes]]) -> Head:
    """Return the request that `fields` make.

    Raises:
        Malformed: section 8.2 or 8.3 forbids it.
        TooLarge: too many fields, or too long a target.
    """
    if len(fields) > MAX_HEADERS:
        raise TooLarge(f"more than {MAX_HEADERS} headers", status=431)
    pseudo: dict[bytes, bytes] = {}
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            if headers or name in pseudo or name not in _PSEUDO:
                raise Malformed("a pseudo-header field is out of place")
            if _BAD_VALUE.search(value):
                raise Malformed("a field value is not one")
            pseudo[name] = value
            continue
        _accept_field(name, value)
        if name in headers:
            glue = b"; " if name == b"cookie" else b", "
            headers[name] += glue + value
        else:
            headers[name] = value
    target = _target(pseudo)
    _accept_authority(pseudo, headers)
    return Head(pseudo[b":method"], target, headers, _length(headers))


def response_block(response: HttpResponse, length: int | None) -> bytes:
    """Return the field block of `response`, with the `length` of its body unless it is in parts."""
    parts = [
        status_field(response.status),
        _indexed_name(_CONTENT_TYPE, response.content_type),
    ]
    if length is not None:
        parts.append(_indexed_name(_CONTENT_LENGTH, b"%d" % length))
    for line in response.headers.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b":")
            parts.append(field(name.strip().lower(), value.strip()))
    return b"".join(parts)


@lru_cache(maxsize=64)
def status_field(status: int) -> bytes:
    """Return `:status`, encoded."""
    index = _STATUS_INDEX.get(status)
    if index is not None:
        return bytes([0x80 | index])
    return _indexed_name(_STATUS_NAME, b"%d" % status)


def field(name: bytes, value: bytes) -> bytes:
    """Return one field, encoded as a literal that is not indexed (RFC 7541 section 6.2.2)."""
    return b"\0" + _string(name) + _string(value)


def content_type_field(value: bytes) -> bytes:
    """Return `content-type`, encoded."""
    return _indexed_name(_CONTENT_TYPE, value)


def _indexed_name(index: int, value: bytes) -> bytes:
    return _integer(index, 4) + _string(value)


def _string(value: bytes) -> bytes:
    return _integer(len(value), 7) + value


def _integer(value: int, bits: int) -> bytes:
    """Return `value` in the prefix coding of RFC 7541 section 5.1; the other bits are 0."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    out = bytearray([most])
    value -= most
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _accept_field(name: bytes, value: bytes) -> None:
    if _NAME.fullmatch(name) is None:
        raise Malformed("a field name is not one, or not in lower case")
    if _BAD_VALUE.search(value):
        raise Malformed("a field value is not one")
    if name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
        raise Malformed("a field of HTTP/1.1 connections has no place in HTTP/2")


def _target(pseudo: dict[bytes, bytes]) -> bytes:
    target = pseudo.get(b":path", b"")
    if pseudo.get(b":scheme") != b"https" or _METHOD.fullmatch(pseudo.get(b":method", b"")) is None:
        raise Malformed("`:method`, or `:scheme` with the value https, is missing")
    if len(target) > MAX_URL_BYTES:
        raise TooLarge(f"the URL is longer than {MAX_URL_BYTES} bytes", status=414)
    if not (target[:1] == b"/" or target == b"*") or _BAD_TARGET.search(target):
        raise Malformed("`:path` is not a path that begins with /")
    return target


_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_BAD_TARGET: Final = re.compile(rb"[\0-\x20\x7f-\xff#]")


def _accept_authority(pseudo: dict[bytes, bytes], headers: dict[bytes, bytes]) -> None:
    """Let the authority be `host`; two that differ could be read differently by two readers."""
    authority = pseudo.get(b":authority")
    host = headers.setdefault(b"host", authority or b"")
    if not host or (authority is not None and host != authority):
        raise Malformed("exactly one authority is required")


def _length(headers: dict[bytes, bytes]) -> int | None:
    text = headers.get(b"content-length")
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        raise Malformed("content-length is not one number of bytes")
    return int(text)
