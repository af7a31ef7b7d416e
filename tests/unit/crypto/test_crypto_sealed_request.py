"""Requests sealed past the front end: what opens, and everything that does not (TRUST T13)."""

import importlib.util
import json
import secrets
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wardian.crypto import sealed_request
from wardian.crypto.sealed_request import (
    ANSWER_OVERHEAD,
    REQUEST_OVERHEAD,
    RequestOpener,
    RequestPlace,
    SentRequest,
    epoch_of_sealed,
    padded_bytes,
    seal_request,
)
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError, WardianError

FOLDER = Path(__file__).parents[2] / "vectors" / "sealed-request"
VECTORS = FOLDER / "vectors.json"
KEY = bytes(range(32))
PLACE = RequestPlace(mesh="test", model="digits", manifest_digest=b"m" * 32, epoch=5)


def opener(place: RequestPlace = PLACE, key: bytes = KEY) -> RequestOpener:
    return RequestOpener(Secret(key), place=place)


OPENER = opener()


def sent(plaintext: bytes = b"input") -> SentRequest:
    return seal_request(OPENER.public, plaintext, place=PLACE)


def test_a_request_and_its_answer() -> None:
    request = sent()
    received = OPENER.open(request.body)
    assert received.plaintext == b"input"
    first, second = (received.seal_answer(b"output") for _ in range(2))
    assert first != second  # a key of its own each time
    assert request.open_answer(first) == request.open_answer(second) == b"output"
    assert len(request.body) == len(b"input") + REQUEST_OVERHEAD
    assert len(first) == len(b"output") + ANSWER_OVERHEAD


def test_what_is_too_long_and_a_key_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_request, "MAX_PLAINTEXT_BYTES", 5)
    assert OPENER.open(sent(b"input").body).plaintext == b"input"
    with pytest.raises(FormatError, match="at most 5 bytes"):
        sent(b"longer")
    for size in (31, 33):
        with pytest.raises(FormatError, match="32 bytes are needed"):
            opener(key=bytes(size))


def test_every_one_bit_flip_of_a_request_is_refused() -> None:
    body = sent().body
    for bit in range(8 * len(body)):
        forged = bytearray(body)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((AuthenticationFailed, FormatError)):
            OPENER.open(forged)


def test_every_one_bit_flip_of_an_answer_is_refused() -> None:
    request = sent()
    answer = OPENER.open(request.body).seal_answer(b"output")
    for bit in range(8 * len(answer)):
        forged = bytearray(answer)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((AuthenticationFailed, FormatError)):
            request.open_answer(forged)
    assert request.open_answer(answer) == b"output"


def test_every_truncation_is_refused() -> None:
    request = sent()
    answer = OPENER.open(request.body).seal_answer(b"output")
    for length in range(len(request.body)):
        with pytest.raises((AuthenticationFailed, FormatError)):
            OPENER.open(request.body[:length])
    for length in range(len(answer)):
        with pytest.raises((AuthenticationFailed, FormatError)):
            request.open_answer(answer[:length])
    for tail in (b"\0", bytes(64)):
        with pytest.raises(AuthenticationFailed):
            OPENER.open(request.body + tail)
        with pytest.raises(AuthenticationFailed):
            request.open_answer(answer + tail)


@pytest.mark.parametrize(
    "elsewhere",
    [
        PLACE._replace(model="faces"),
        PLACE._replace(mesh="other"),
        PLACE._replace(manifest_digest=b"n" * 32),
        PLACE._replace(epoch=6),
    ],
)
def test_t13_a_request_played_back_elsewhere_does_not_open(elsewhere: RequestPlace) -> None:
    """Also where the key is the same, and where who plays it back writes another epoch on it."""
    body = bytearray(sent().body)
    with pytest.raises(AuthenticationFailed):
        opener(elsewhere).open(bytes(body))
    body[8:16] = elsewhere.epoch.to_bytes(8, "big")
    with pytest.raises(AuthenticationFailed):
        opener(elsewhere).open(bytes(body))


def test_t13_a_request_to_another_key_does_not_open() -> None:
    other = opener(key=b"o" * 32)
    with pytest.raises(AuthenticationFailed):
        OPENER.open(seal_request(other.public, b"input", place=PLACE).body)


def test_t13_an_answer_to_another_request_is_refused() -> None:
    """Neither to a request of the same bytes, nor one that its own client had before."""
    mine, others = sent(), sent()
    answer = OPENER.open(others.body).seal_answer(b"output")
    with pytest.raises(AuthenticationFailed):
        mine.open_answer(answer)
    assert others.open_answer(answer) == b"output"


def test_t13_who_has_the_public_key_cannot_answer() -> None:
    """A front end that seals a request of its own cannot make of its answer one to another's."""
    mine, forged = sent(), sent()
    answer = OPENER.open(forged.body).seal_answer(b"lie")
    with pytest.raises(AuthenticationFailed):
        mine.open_answer(answer)
    with pytest.raises(FormatError):
        mine.open_answer(mine.body)  # reflected


def test_an_erased_key_opens_nothing() -> None:
    erased = opener()
    body = seal_request(erased.public, b"input", place=PLACE).body
    erased.erase()
    with pytest.raises(AuthenticationFailed):
        erased.open(body)
    assert repr(erased._secret) == "Secret(wiped)"


def test_garbage_is_refused() -> None:
    request = sent()
    for length in (0, 1, 15, 16, 63, 64, 65, 1000):
        for _ in range(50):
            garbage = secrets.token_bytes(length)
            for raw in (garbage, request.body[:16] + garbage):
                with pytest.raises((AuthenticationFailed, FormatError)):
                    OPENER.open(raw)
                with pytest.raises((AuthenticationFailed, FormatError)):
                    request.open_answer(raw)


def test_the_epoch_is_readable_and_strict() -> None:
    body = sent().body
    assert epoch_of_sealed(body) == 5
    for forged in (
        b"wdsa" + body[4:],
        body[:4] + b"\x02" + body[5:],
        body[:5] + b"\x01" + body[6:],
        body[:8] + b"\xff" * 8 + body[16:],
        body[: REQUEST_OVERHEAD - 1],
    ):
        with pytest.raises(FormatError):
            epoch_of_sealed(forged)


def test_lengths_are_few_and_little_is_added() -> None:
    lengths = [padded_bytes(length) for length in range(1, 70_000)]
    assert lengths == sorted(lengths)
    assert all(length >= wanted for wanted, length in enumerate(lengths, 1))
    assert all(length <= max(1024, wanted * 9 // 8 + 1) for wanted, length in enumerate(lengths, 1))
    assert set(lengths[:1024]) == {1024}
    for power in range(10, 16):
        between = {length for length in lengths if 2**power < length <= 2 ** (power + 1)}
        assert between == {2**power + step * 2 ** (power - 3) for step in range(1, 9)}
    assert padded_bytes(2**30) == 2**30


def test_frozen_vectors() -> None:
    """What was sealed by this format once opens for ever, byte for byte."""
    for vector in json.loads(VECTORS.read_text()):
        place = RequestPlace(
            mesh=vector["mesh"],
            model=vector["model"],
            manifest_digest=bytes.fromhex(vector["manifest"]),
            epoch=vector["epoch"],
        )
        one = opener(place, bytes.fromhex(vector["private"]))
        assert one.public.hex() == vector["public"]
        body = bytes.fromhex(vector["request"])
        if vector["expect"] != "opens":
            with pytest.raises(WardianError) as refused:
                one.open(body)
            assert type(refused.value).__name__ == vector["expect"]
            continue
        ephemeral = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["ephemeral"]))
        plaintext = bytes.fromhex(vector["plaintext"])
        request = seal_request(one.public, plaintext, place=place, ephemeral=ephemeral)
        assert request.body == body
        received = one.open(body)
        assert received.plaintext == plaintext
        nonce, output = bytes.fromhex(vector["nonce"]), bytes.fromhex(vector["output"])
        answer = received.seal_answer(output, nonce=nonce)
        assert answer.hex() == vector["answer"]
        assert request.open_answer(answer) == output


def test_another_implementation_makes_the_same_vectors() -> None:
    """`make.py` knows the byte tables of the reference page and nothing of this code."""
    spec = importlib.util.spec_from_file_location("sealed_request_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(made)
    finally:
        sys.path[:] = before
        sys.modules.pop("hpke_reference", None)
    assert made.text() == VECTORS.read_text()
