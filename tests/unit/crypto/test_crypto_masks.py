"""Masks: what two parties agree on, the streams, and that they cancel."""

import itertools

import numpy as np
import pytest

from wardian._internal import wire
from wardian.crypto.kdf import hkdf
from wardian.crypto.masks import (
    BLOCK_ELEMENTS,
    PAIR_LABEL,
    SEAL_OVERHEAD_BYTES,
    RoundKey,
    add_masks,
    seed_commitment,
)
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError

# RFC 7748, section 6.1
ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
SHARED = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"

# RFC 8439, appendix A.1, vectors 1 and 2: key and nonce 0, blocks 0 and 1
STREAM = (
    "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
    "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
)

SCOPE = b"round 7 of this run"
WAYS = {"scope": SCOPE, "own": "alice", "other": "bob"}
BACK = {"scope": SCOPE, "own": "bob", "other": "alice"}


def key(raw: str) -> RoundKey:
    return RoundKey.from_secret(Secret(bytes.fromhex(raw)))


def zeros(count: int):
    return np.zeros(count, np.uint64)


def seed(number: int) -> Secret:
    return Secret(number.to_bytes(32))


# Agreement


def test_agreement_of_rfc_7748():
    alice, bob = key(ALICE), key(BOB)
    assert (alice.public.hex(), bob.public.hex()) == (ALICE_PUBLIC, BOB_PUBLIC)
    assert alice.to_secret().reveal().hex() == ALICE
    info = wire.fields(PAIR_LABEL, SCOPE, b"alice", b"bob", alice.public, bob.public)
    wanted = hkdf(Secret(bytes.fromhex(SHARED)), salt=b"", info=info)
    assert alice.mask_seed(bob.public, **WAYS) == wanted
    assert bob.mask_seed(alice.public, **BACK) == wanted


def test_another_scope_name_or_key_is_another_seed():
    alice, bob = key(ALICE), key(BOB)
    seeds = [
        alice.mask_seed(bob.public, **{**WAYS, **changes}).reveal()
        for changes in (
            {},
            {"scope": b"round 8 of this run"},
            {"own": "alic"},
            {"other": "bobb"},
            {"own": "bob", "other": "alice"},
        )
    ]
    seeds.append(alice.mask_seed(RoundKey.generate().public, **WAYS).reveal())
    assert len(set(seeds)) == 6


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), b"x" * 31, b"x" * 33, b""])
def test_keys_of_no_use(public):
    alice = key(ALICE)
    with pytest.raises(FormatError, match="usable"):
        alice.mask_seed(public, **WAYS)
    with pytest.raises(FormatError, match="usable"):
        alice.seal(b"text", public, **WAYS, context=b"")
    with pytest.raises(FormatError, match="usable"):
        alice.open(b"text", public, **WAYS, context=b"")
    with pytest.raises(FormatError, match="32 bytes"):
        RoundKey.from_secret(Secret(b"x" * 31))


# Sealing


def test_what_is_sealed_opens_for_the_other():
    alice, bob = key(ALICE), key(BOB)
    sealed = alice.seal(b"shares", bob.public, **WAYS, context=b"keys")
    assert len(sealed) == 6 + SEAL_OVERHEAD_BYTES
    assert bob.open(sealed, alice.public, **BACK, context=b"keys") == b"shares"
    assert alice.seal(b"shares", bob.public, **WAYS, context=b"keys") != sealed


def test_what_is_sealed_opens_in_no_other_way():
    alice, bob, eve = key(ALICE), key(BOB), RoundKey.generate()
    sealed = alice.seal(b"shares", bob.public, **WAYS, context=b"keys")
    wrong = [
        (alice, bob.public, WAYS, b"keys"),  # sent back to who sealed it
        (eve, alice.public, BACK, b"keys"),
        (bob, eve.public, BACK, b"keys"),
        (bob, alice.public, BACK, b"other keys"),
        (bob, alice.public, {**BACK, "scope": b"round 8 of this run"}, b"keys"),
        (bob, alice.public, {**BACK, "own": "eve"}, b"keys"),
        (bob, alice.public, {**BACK, "other": "eve"}, b"keys"),
    ]
    for opener, public, ways, context in wrong:
        with pytest.raises(AuthenticationFailed):
            opener.open(sealed, public, **ways, context=context)
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationFailed):
            bob.open(bytes(flipped), alice.public, **BACK, context=b"keys")
    for length in range(len(sealed)):
        with pytest.raises(AuthenticationFailed):
            bob.open(sealed[:length], alice.public, **BACK, context=b"keys")


# Streams


def test_stream_of_rfc_8439():
    vector = zeros(16)
    add_masks(vector, plus=[Secret(bytes(32))])
    assert vector.tobytes().hex() == STREAM


@pytest.mark.parametrize(
    "count", [0, 1, BLOCK_ELEMENTS - 1, BLOCK_ELEMENTS, BLOCK_ELEMENTS + 1, 3 * BLOCK_ELEMENTS + 7]
)
def test_a_stream_goes_on_over_blocks(count):
    vector, longer = zeros(count), zeros(count + 2 * BLOCK_ELEMENTS)
    add_masks(vector, plus=[seed(1)])
    add_masks(longer, plus=[seed(1)])
    assert (vector == longer[:count]).all()
    assert len(np.unique(longer)) == longer.size


def test_masks_add_up_and_cancel():
    source = np.random.default_rng(2)
    start = source.integers(0, 2**64, 2 * BLOCK_ELEMENTS + 3, np.uint64)
    vector = start.copy()
    add_masks(vector, plus=[seed(1), seed(2)], minus=[seed(3)])
    parts = []
    for number in (1, 2, 3):
        part = zeros(start.size)
        add_masks(part, plus=[seed(number)])
        parts.append(part)
    assert (vector == start + parts[0] + parts[1] - parts[2]).all()
    add_masks(vector, plus=[seed(3)], minus=iter([seed(1), seed(2)]))
    assert (vector == start).all()
    add_masks(vector)
    assert (vector == start).all()


def test_the_masks_of_all_pairs_cancel_in_the_sum():
    names = ("alice", "bob", "carol", "dave")
    keys = {name: RoundKey.generate() for name in names}
    total = zeros(1000)
    for own in names:
        vector = zeros(1000)
        agreed = {
            other: keys[own].mask_seed(keys[other].public, scope=SCOPE, own=own, other=other)
            for other in names
            if other != own
        }
        add_masks(
            vector,
            plus=[each for other, each in agreed.items() if own < other],
            minus=[each for other, each in agreed.items() if other < own],
        )
        assert vector.any()
        total += vector
    assert not total.any()


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(4, np.int64),
        np.zeros(4),
        np.zeros(4, ">u8"),
        np.zeros((2, 2), np.uint64),
        np.zeros(8, np.uint64)[::2],
    ],
)
def test_other_vectors_are_refused(vector):
    with pytest.raises(LocalProtocolError, match="contiguous vector"):
        add_masks(vector, plus=[seed(1)])


def test_a_vector_that_is_too_long(monkeypatch):
    monkeypatch.setattr("wardian.crypto.masks.MAX_ELEMENTS", 3)
    add_masks(zeros(3), plus=[seed(1)])
    with pytest.raises(LocalProtocolError, match="at most 3"):
        add_masks(zeros(4), plus=[seed(1)])


# Seeds of a party's own


def test_a_commitment_is_to_seed_party_and_scope():
    found = {
        seed_commitment(seed(number), scope=scope, party=party)
        for number, scope, party in itertools.product((1, 2), (b"a", b"b"), ("alice", "bob"))
    }
    assert len(found) == 8
    assert {len(each) for each in found} == {32}
