"""HTTP as the KBS desk sees it: a whole request, a whole response, and what an error says.

Errors are Problem Details (RFC 9457) with the two members that clients of the protocol read, and
Trustee's own names of types where it has one. Its statuses are kept apart here: who is not
attested is told 401, who may not have it 403, who asks for what is not there 404, a bad request
400, an outage 503.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from wardian.broker.kbs.sessions import ID_CHARS
from wardian.errors import (
    AttestationError,
    AuthenticationFailed,
    CryptoError,
    FormatError,
    PeerProtocolError,
    PolicyDenied,
    QueueFull,
    RequestError,
    WardianError,
)

COOKIE: Final = "kbs-session-id"
JSON: Final = b"application/json"

TRUSTEE_PROBLEMS: Final = frozenset(
    {
        "AttestationError",
        "InvalidRequestPath",
        "PluginNotFound",
        "PolicyDeny",
        "SerdeError",
        "TokenNotFound",
        "TokenVerifierError",
    }
)
"""Those of Trustee's types that are used here (its `kbs/src/error.rs`)."""

_TYPES: Final = "https://github.com/confidential-containers/kbs/errors/"
_NO_TYPE: Final = "about:blank"
"""The status says it all (RFC 9457, 4.2.1)."""
_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_MAX_DETAIL_CHARS: Final = 500
_SESSION_ID: Final = re.compile(rf"\A[A-Za-z0-9_-]{{{ID_CHARS}}}\Z")
_COMMON: Final = b"Cache-Control: no-store\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class KbsRequest:
    """A request that was read whole.

    Attributes:
        method: as sent, for example b"POST".
        target: origin-form (RFC 9112, 3.2.1): path and query, nothing decoded.
        headers: by lower-case name; a repeated header has its values joined by b", ".
        body: the decoded body.
    """

    method: bytes
    target: bytes
    headers: Mapping[bytes, bytes] = field(repr=False)
    body: bytes | bytearray = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KbsResponse:
    """A response.

    Attributes:
        status: 200 to 599.
        body: JSON.
        headers: further header lines, each ending in CRLF.
        problem: the name of the problem, for a log or a counter: a closed set; None if there is
            none.
    """

    status: int = 200
    body: bytes = field(repr=False)
    headers: bytes = field(default=_COMMON, repr=False)
    problem: str | None = None


def reply(value: object, *, cookie: str | None = None, max_age_s: int = 0) -> KbsResponse:
    """Return `value` as JSON, with a session's cookie if one is given."""
    headers = _COMMON
    if cookie is not None:
        # Lax clients too keep it for this origin, over TLS, away from scripts.
        headers += (
            f"Set-Cookie: {COOKIE}={cookie}; Path=/; Max-Age={max_age_s}; "
            "Secure; HttpOnly; SameSite=Strict\r\n"
        ).encode()
    return KbsResponse(body=msgspec.json.encode(value), headers=headers)


def problem(status: int, name: str, detail: str, *, headers: bytes = b"") -> KbsResponse:
    """Return an error.

    Args:
        status: 400 to 599.
        name: Trustee's name of the problem, or one of ours, which is then told by the status.
        detail: what was wrong, for a person; anything but printable ASCII is replaced.
        headers: further header lines.
    """
    body: dict[str, Any] = {
        "type": _TYPES + name if name in TRUSTEE_PROBLEMS else _NO_TYPE,
        "detail": _UNPRINTABLE.sub("?", detail)[:_MAX_DETAIL_CHARS],
    }
    if status == 401:
        headers += b'WWW-Authenticate: Bearer realm="kbs"\r\n'  # RFC 9110, 15.5.2
    return KbsResponse(
        status=status, body=msgspec.json.encode(body), headers=headers + _COMMON, problem=name
    )


_PROBLEMS: Final[tuple[tuple[type[WardianError], int, str], ...]] = (
    (PolicyDenied, 403, "PolicyDeny"),
    (PeerProtocolError, 401, "AttestationError"),
    (FormatError, 400, "SerdeError"),
    (CryptoError, 401, "TokenVerifierError"),
)


def refuse(error: Exception) -> KbsResponse:
    """Return what the client is told about `error`.

    Errors of the classes named here are written for the peer to read. Of anything else it learns
    only that the broker has trouble; the composer's log says which.
    """
    for kind, status, name in _PROBLEMS:
        if isinstance(error, kind):
            return problem(status, name, str(error))
    if isinstance(error, QueueFull):
        return problem(429, "Busy", str(error), headers=_retry_after(error.retry_after_s))
    if isinstance(error, AttestationError) and not error.retryable:
        return problem(401, "AttestationError", str(error))
    if isinstance(error, RequestError) and error.status == 404:
        return problem(404, "InvalidRequestPath", str(error))
    trouble = "the broker cannot answer at the moment: ask later"
    return problem(503, "Unavailable", trouble, headers=_retry_after(5))


def cookie_of(request: KbsRequest) -> str | None:
    """Return the session that the request's cookie names.

    None where there is no such cookie, or two, or one of another form than is ever given out.
    """
    found = [
        value
        for name, _, value in (
            part.partition("=") for part in _header(request, b"cookie").split("; ")
        )
        if name == COOKIE
    ]
    return found[0] if len(found) == 1 and _SESSION_ID.match(found[0]) else None


def bearer_of(request: KbsRequest) -> str | None:
    """Return the request's bearer token (RFC 6750, 2.1); None where nothing is shown.

    Raises:
        AuthenticationFailed: something else is shown.
    """
    value = _header(request, b"authorization")
    if not value:
        return None
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer":
        raise AuthenticationFailed("a bearer token is needed, or a session's cookie")
    return token


def _header(request: KbsRequest, name: bytes) -> str:
    return request.headers.get(name, b"").decode("latin-1")


def _retry_after(seconds: int) -> bytes:
    return b"Retry-After: %d\r\n" % seconds
