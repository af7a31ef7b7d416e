"""How a gRPC call ends: a status beside an answer, or one that stands alone.

Which error is what is settled once, for REST (`error_answers`): here an HTTP status becomes a
status of gRPC.

Source: gRPC over HTTP/2, "Responses"; grpc.io, "Status codes".
"""

import enum
from typing import Final
from urllib.parse import quote_from_bytes

import msgspec

from wardian.serving.api.error_answers import answer_error
from wardian.serving.http.http2.fields import content_type_field, field, status_field
from wardian.serving.http.messages import ErrorBody, HttpResponse

MAX_MESSAGE_BYTES: Final = 2048


class Status(enum.IntEnum):
    """The statuses that we use, in gRPC's numbers."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


_OF_HTTP: Final = {
    400: Status.INVALID_ARGUMENT,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.NOT_FOUND,
    405: Status.UNIMPLEMENTED,
    408: Status.DEADLINE_EXCEEDED,
    413: Status.RESOURCE_EXHAUSTED,
    415: Status.UNIMPLEMENTED,
    421: Status.UNAVAILABLE,
    429: Status.RESOURCE_EXHAUSTED,
    500: Status.INTERNAL,
    501: Status.UNIMPLEMENTED,
    503: Status.UNAVAILABLE,
    504: Status.DEADLINE_EXCEEDED,
}
_HEAD: Final = status_field(200) + content_type_field(b"application/grpc")
_ENCODING: Final = field(b"grpc-accept-encoding", b"identity")
_decode_error = msgspec.json.Decoder(ErrorBody).decode

HEAD: Final = _HEAD + _ENCODING
"""The field block before messages: nothing is compressed under TLS (TRUST T25)."""
OK_TRAILERS: Final = field(b"grpc-status", b"0")


class Ending(msgspec.Struct, frozen=True, gc=False):
    """How a call ends that has no answer.

    Attributes:
        status: gRPC's.
        message: for people.
        http_status: under which it is counted.
        retry_after_s: when to come back, or None.
        close: whether the connection is of no further use.
    """

    status: Status
    message: str
    http_status: int
    retry_after_s: int | None = None
    close: bool = False

    def trailers(self, *, alone: bool) -> bytes:
        """Return the field block that ends the call, with the answer's head if it is `alone`."""
        text = self.message.encode()[:MAX_MESSAGE_BYTES]
        block = field(b"grpc-status", b"%d" % self.status) + field(
            b"grpc-message", quote_from_bytes(text, safe=_UNQUOTED).encode()
        )
        if self.retry_after_s is not None:
            block += field(b"grpc-retry-pushback-ms", b"%d" % (1000 * self.retry_after_s))
        return HEAD + block if alone else block


_UNQUOTED: Final = "".join(chr(byte) for byte in range(0x20, 0x7F) if byte != 0x25)


def ending_of(err: BaseException | None) -> Ending:
    """Return how a call ends that `err` ended."""
    return ending_of_response(answer_error(err))


def ending_of_response(response: HttpResponse) -> Ending:
    """Return how a call ends whose answer would have been this error over REST."""
    told = _decode_error(b"".join(response.body))
    message = told.error
    if told.reference is not msgspec.UNSET:
        message += f" (reference {told.reference})"
    retry = response.headers.lower().partition(b"retry-after: ")[2].partition(b"\r\n")[0]
    return Ending(
        _OF_HTTP.get(response.status, Status.INTERNAL),
        message,
        response.status,
        int(retry) if retry else None,
        response.close,
    )
