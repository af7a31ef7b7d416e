"""Refusals: a code that programs act on, a sentence for people, and nothing else."""

import pytest

from wardian._internal import wire
from wardian.broker.refusal import Refusal, RefusalCode, decode_or_raise, error_of, refusal_for
from wardian.broker.status import Status
from wardian.errors import (
    AuthenticationFailed,
    CollateralUnavailable,
    ConfigError,
    EvidenceInvalid,
    FormatError,
    PeerProtocolError,
    PolicyDenied,
    QueueFull,
    SealError,
    TcbUnacceptable,
    Timeout,
    TransportError,
    WardianError,
)


@pytest.mark.parametrize(
    ("error", "code", "back"),
    [
        (PolicyDenied("no", rule="r"), "denied", PolicyDenied),
        (AuthenticationFailed("no"), "denied", PolicyDenied),
        (EvidenceInvalid("no"), "evidence", EvidenceInvalid),
        (TcbUnacceptable("no"), "evidence", EvidenceInvalid),
        (CollateralUnavailable("no"), "evidence", EvidenceInvalid),
        (FormatError("no"), "malformed", PeerProtocolError),
        (PeerProtocolError("no"), "malformed", PeerProtocolError),
        (QueueFull("no"), "busy", TransportError),
        (Timeout("no"), "stale", TransportError),
        (TransportError("no"), "unavailable", TransportError),
    ],
)
def test_each_error_has_its_code_and_comes_back(
    error: WardianError, code: str, back: type[WardianError]
) -> None:
    refusal = refusal_for(error)
    assert refusal.code.value == code
    again = error_of(wire.decode(wire.encode(refusal), Refusal, what="refusal"))
    assert isinstance(again, back)
    assert "the broker refuses: no" in str(again)
    assert again.retryable == (code in {"busy", "stale", "unavailable"})


@pytest.mark.parametrize("code", list(RefusalCode))
def test_every_code_is_an_error_of_the_asking_side(code: RefusalCode) -> None:
    """A code that is added here and forgotten there would be a bug in whoever asks."""
    error = error_of(Refusal(code=code, rule="r", message="no"))
    assert str(error) == "the broker refuses: no [r]"
    assert isinstance(error, PolicyDenied) == (code is RefusalCode.DENIED)


def test_the_brokers_own_troubles_are_not_told() -> None:
    for error in (SealError("/secret/path"), ConfigError("/secret/path"), WardianError("x")):
        refusal = refusal_for(error)
        assert refusal.code is RefusalCode.UNAVAILABLE
        assert "secret" not in refusal.message


def test_texts_are_printable_and_bounded() -> None:
    refusal = refusal_for(PolicyDenied("\x1b[31m red\n" + "x" * 1000, rule="r\n" + "y" * 1000))
    assert wire.decode(wire.encode(refusal), Refusal, what="refusal") == refusal
    assert refusal.message.startswith("?[31m red?")
    assert refusal_for(PolicyDenied("", rule="")).message == "?"


def test_a_forged_refusal_cannot_write_on_the_terminal() -> None:
    raw = b'{"format":"wardian refusal v1","code":"denied","rule":"r","message":"\\u001b[2J"}'
    with pytest.raises(PeerProtocolError):
        decode_or_raise(raw, Status, what="status")


@pytest.mark.parametrize("raw", [b"", b"null", b"{}", b'{"format":"wardian status v2"}', b"\xff"])
def test_what_is_neither_answer_nor_refusal(raw: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="status"):
        decode_or_raise(raw, Status, what="status")
