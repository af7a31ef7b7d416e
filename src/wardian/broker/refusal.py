"""Refusals on the wire: a closed code for programs, a rule and a sentence for people.

A refusal is not signed and carries no authority: whoever carries the bytes can stop them anyway,
and the worst that a forged one achieves is no service.
"""

import enum
import re
from collections.abc import Mapping
from typing import Annotated, Final, TypeVar, cast

import msgspec

from wardian._internal import wire
from wardian.errors import (
    AttestationError,
    CryptoError,
    EvidenceInvalid,
    FormatError,
    PeerProtocolError,
    PolicyDenied,
    QueueFull,
    Timeout,
    TransportError,
    WardianError,
)

T = TypeVar("T")

MAX_MESSAGE_CHARS: Final = 500
MAX_RULE_CHARS: Final = 200
_UNPRINTABLE: Final = re.compile(r"[^ -~]")


class RefusalCode(enum.StrEnum):
    """Why not: a closed list, so that a program can act on it."""

    MALFORMED = "malformed"
    """The message does not parse or comes out of turn. Asking again as before will not help."""
    DENIED = "denied"
    """A policy refuses, or a signature is wrong; `rule` names the rule."""
    EVIDENCE = "evidence"
    """The evidence is not genuine, not bound to this session, or out of its time."""
    STALE = "stale"
    """The session took too long, or the manifest changed meanwhile. Ask again."""
    BUSY = "busy"
    """Too many ask at once. Ask again later."""
    UNAVAILABLE = "unavailable"
    """The broker cannot decide now: it has no manifest yet, or a part of it failed."""


class Refusal(wire.Message, frozen=True, tag_field="format", tag="wardian refusal v1"):
    """In place of an answer. Printable ASCII only: it is shown on somebody's terminal."""

    code: RefusalCode
    rule: Annotated[str, msgspec.Meta(pattern=r"\A[ -~]{1,200}\Z")]
    message: Annotated[str, msgspec.Meta(pattern=r"\A[ -~]{1,500}\Z")]


_CODES: Final[tuple[tuple[type[WardianError], RefusalCode], ...]] = (
    (PolicyDenied, RefusalCode.DENIED),
    (AttestationError, RefusalCode.EVIDENCE),
    (CryptoError, RefusalCode.DENIED),
    (FormatError, RefusalCode.MALFORMED),
    (PeerProtocolError, RefusalCode.MALFORMED),
    (QueueFull, RefusalCode.BUSY),
    (Timeout, RefusalCode.STALE),
    (TransportError, RefusalCode.UNAVAILABLE),
)
_ERRORS: Final[Mapping[RefusalCode, type[WardianError]]] = {
    RefusalCode.EVIDENCE: EvidenceInvalid,
    RefusalCode.MALFORMED: PeerProtocolError,
    RefusalCode.STALE: TransportError,  # retryable, as the two below
    RefusalCode.BUSY: TransportError,
    RefusalCode.UNAVAILABLE: TransportError,
}
"""What the asking side raises; a denial names its rule besides."""


def refusal_for(error: Exception) -> Refusal:
    """Return what the peer is told about `error`.

    Errors of these classes are written for the peer to read. Anything else is the broker's own
    trouble, of which the peer learns only that there is some: the rule is `broker`, or `bug` for
    what is no error of ours at all.
    """
    for kind, code in _CODES:
        if isinstance(error, kind):
            rule = error.rule if isinstance(error, PolicyDenied) else type(error).__name__
            return Refusal(
                code=code,
                rule=_printable(rule, MAX_RULE_CHARS),
                message=_printable(str(error), MAX_MESSAGE_CHARS),
            )
    return Refusal(
        code=RefusalCode.UNAVAILABLE,
        rule="broker" if isinstance(error, WardianError) else "bug",
        message="the broker cannot answer at the moment; its log says why",
    )


def error_of(refusal: Refusal) -> WardianError:
    """Return `refusal` as the error that the asking side raises."""
    text = f"the broker refuses: {refusal.message} [{refusal.rule}]"
    if refusal.code is RefusalCode.DENIED:
        return PolicyDenied(text, rule=refusal.rule)
    return _ERRORS[refusal.code](text)


def decode_or_raise(raw: bytes, kind: type[T], *, what: str) -> T:
    """Return `raw` as the message that is due.

    Raises:
        PeerProtocolError: it is something else, or a refusal with the code `malformed`.
        PolicyDenied, EvidenceInvalid, TransportError: it is a refusal, see `error_of`.
    """
    union = cast("type[T | Refusal]", kind | Refusal)
    try:
        message = wire.decode(raw, union, what=what)
    except FormatError as err:
        raise PeerProtocolError(str(err)) from err
    if isinstance(message, Refusal):
        raise error_of(message)
    return message


def _printable(text: str, limit: int) -> str:
    """Return `text` with everything but printable ASCII replaced, cut to `limit`, never empty."""
    return _UNPRINTABLE.sub("?", text)[:limit] or "?"
