"""The CBOR of DICE evidence: the bytes of the specification, and no others."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian.attestation.dice import (
    CustomClaims,
    HashAlgorithm,
    TaggedEvidence,
    build_claims,
    build_tagged_evidence,
    parse_claims,
    parse_tagged_evidence,
)
from wardian.errors import FormatError

VECTORS = Path(__file__).parents[2] / "vectors/ra-tls/gramine.json"
GRAMINE = {
    name: bytes.fromhex(value) if isinstance(value, str) else value
    for name, value in json.loads(VECTORS.read_text()).items()
}

SPKI = b"a SubjectPublicKeyInfo"
NONCE = bytes(range(32))
NAME = b"\x6bpubkey-hash"
ENTRY = b"\x58\x24\x82\x01\x58\x20" + hashlib.sha256(SPKI).digest()
PUBKEY_HASH = NAME + ENTRY
NONCE_CLAIM = b"\x65nonce\x58\x20" + NONCE
QUOTE = b"q" * 300
EVIDENCE = b"\xd9\xea\x60\x82\x59\x01\x2c" + QUOTE + b"\x58\x33\xa1" + PUBKEY_HASH


def entry(content: bytes) -> bytes:
    """Return claims with this hash entry alone."""
    head = b"\x58" + bytes([len(content)]) if len(content) > 23 else bytes([0x40 + len(content)])
    return b"\xa1" + NAME + head + content


# --- the bytes ------------------------------------------------------------------------------------


def test_claims_are_these_bytes():
    assert build_claims(SPKI) == b"\xa1" + PUBKEY_HASH
    assert len(build_claims(SPKI)) == 51
    assert build_claims(SPKI, nonce=NONCE) == b"\xa2" + PUBKEY_HASH + NONCE_CLAIM


def test_evidence_is_these_bytes():
    claims = build_claims(SPKI)
    assert build_tagged_evidence(TaggedEvidence(quote=QUOTE, claims=claims)) == EVIDENCE


def test_bytes_of_a_certificate_that_gramine_made():
    """What Gramine hashed and wrote for its key is what we write for that key."""
    claims = build_claims(GRAMINE["spki"])
    quote = bytes(GRAMINE["quote_bytes"])
    value = build_tagged_evidence(TaggedEvidence(quote=quote, claims=claims))
    head = GRAMINE["dice_head"][-7:]
    assert value == head + quote + GRAMINE["dice_tail"]
    assert hashlib.sha256(claims).digest() + bytes(32) == GRAMINE["dice_report_data"]
    assert hashlib.sha256(GRAMINE["spki"]).digest() + bytes(32) == GRAMINE["legacy_report_data"]
    parsed = parse_claims(parse_tagged_evidence(value).claims)
    assert parsed.algorithm is HashAlgorithm.SHA_256
    assert parsed.pubkey_hash == hashlib.sha256(GRAMINE["spki"]).digest()
    assert parsed.nonce is None


@given(st.binary(max_size=70_000), st.binary(max_size=300))
def test_evidence_comes_back(quote, claims):
    evidence = TaggedEvidence(quote=quote, claims=claims)
    assert parse_tagged_evidence(build_tagged_evidence(evidence)) == evidence


@given(st.binary(max_size=200), st.none() | st.binary(max_size=300))
def test_claims_come_back(spki, nonce):
    claims = parse_claims(build_claims(spki, nonce=nonce))
    assert claims == CustomClaims(
        algorithm=HashAlgorithm.SHA_256, pubkey_hash=hashlib.sha256(spki).digest(), nonce=nonce
    )


def test_claims_in_either_order():
    assert parse_claims(b"\xa2" + NONCE_CLAIM + PUBKEY_HASH) == parse_claims(
        b"\xa2" + PUBKEY_HASH + NONCE_CLAIM
    )


@pytest.mark.parametrize(
    ("head", "algorithm", "name"),
    [
        (b"\x82\x01\x58\x20", HashAlgorithm.SHA_256, "sha256"),
        (b"\x82\x07\x58\x30", HashAlgorithm.SHA_384, "sha384"),
        (b"\x82\x08\x58\x40", HashAlgorithm.SHA_512, "sha512"),
    ],
)
def test_algorithms_of_iana(head, algorithm, name):
    digest = hashlib.new(name, SPKI).digest()
    claims = parse_claims(entry(head + digest))
    assert (claims.algorithm, claims.pubkey_hash) == (algorithm, digest)
    assert algorithm.digest(SPKI) == digest
    assert algorithm.digest_bytes == len(digest)


# --- other evidence -------------------------------------------------------------------------------

LONG_QUOTE = b"\x59\x01\x2c" + QUOTE
CLAIMS = b"\x58\x33\xa1" + PUBKEY_HASH


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "ends inside"),
        (EVIDENCE[3:], "another type"),  # no tag
        (b"\xd9\xea\x61" + EVIDENCE[3:], "another one"),  # 60001: a report
        (b"\xd9\xea\x62" + EVIDENCE[3:], "another one"),
        (b"\xd9\xea\x60" + EVIDENCE, "another type"),  # the tag twice
        (b"\xda\x00\x00\xea\x60" + EVIDENCE[3:], "shortest"),
        (b"\xdb" + bytes(6) + b"\xea\x60" + EVIDENCE[3:], "shortest"),
        (b"\xdf\xea\x60" + EVIDENCE[3:], "indefinite or reserved"),
        (b"\xdc\xea\x60" + EVIDENCE[3:], "indefinite or reserved"),
        (b"\xd9\xea\x60\x81" + LONG_QUOTE, "another one"),
        (b"\xd9\xea\x60\x83" + LONG_QUOTE + CLAIMS + b"\x40", "another one"),
        (b"\xd9\xea\x60\x98\x02" + LONG_QUOTE + CLAIMS, "shortest"),
        (b"\xd9\xea\x60\x9f" + LONG_QUOTE + CLAIMS + b"\xff", "indefinite"),
        (b"\xd9\xea\x60\xa1" + LONG_QUOTE + CLAIMS, "another type"),
        (b"\xd9\xea\x60\x82\x5a\x00\x00\x01\x2c" + QUOTE + CLAIMS, "shortest"),
        (b"\xd9\xea\x60\x82\x5f" + LONG_QUOTE + b"\xff" + CLAIMS, "indefinite"),
        (b"\xd9\xea\x60\x82\x79\x01\x2c" + QUOTE + CLAIMS, "another type"),
        (b"\xd9\xea\x60\x82" + LONG_QUOTE + b"\x59\x00\x33" + CLAIMS[2:], "shortest"),
        (b"\xd9\xea\x60\x82" + LONG_QUOTE + CLAIMS[2:], "another type"),  # claims not wrapped
        (b"\xd9\xea\x60\x82\x5b" + b"\xff" * 8 + QUOTE, "ends inside"),
        (EVIDENCE + b"\0", "something follows"),
        (EVIDENCE + EVIDENCE, "something follows"),
    ],
)
def test_other_evidence(raw, says):
    with pytest.raises(FormatError, match=says):
        parse_tagged_evidence(raw)


@pytest.mark.parametrize("raw", [EVIDENCE, EVIDENCE[-51:], b"\xa2" + PUBKEY_HASH + NONCE_CLAIM])
def test_truncation_at_every_length(raw):
    for length in range(len(raw)):
        with pytest.raises(FormatError):
            parse_tagged_evidence(raw[:length])
        with pytest.raises(FormatError):
            parse_claims(raw[:length])


# --- other claims ---------------------------------------------------------------------------------

DIGEST = hashlib.sha256(SPKI).digest()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\xa0", "pubkey-hash is missing"),
        (b"\xa1" + NONCE_CLAIM, "pubkey-hash is missing"),
        (b"\xa2" + PUBKEY_HASH * 2, "there twice"),
        (b"\xa3" + PUBKEY_HASH + NONCE_CLAIM * 2, "there twice"),
        (b"\xa2" + PUBKEY_HASH + b"\x65other\x40", "neither"),
        (b"\xa1\x6bPUBKEY-HASH" + ENTRY, "neither"),
        (b"\xa1\x66pubkey" + ENTRY, "neither"),
        (b"\xa1\x60" + ENTRY, "neither"),
        (b"\xa1\x6b" + b"\xff" * 11 + ENTRY, "neither"),  # no UTF-8
        (b"\xa1\x4bpubkey-hash" + ENTRY, "another type"),  # a byte string for a name
        (b"\xa1\x01" + ENTRY, "another type"),
        (b"\xa1\x78\x0bpubkey-hash" + ENTRY, "shortest"),
        (b"\xa1\x7f\x6bpubkey-hash\xff" + ENTRY, "indefinite"),
        (b"\xb8\x01" + PUBKEY_HASH, "shortest"),
        (b"\xbf" + PUBKEY_HASH + b"\xff", "indefinite"),
        (b"\xbb" + b"\xff" * 8 + PUBKEY_HASH, "ends inside"),
        (b"\x81" + PUBKEY_HASH, "another type"),
        (b"\xd9\xea\x60\xa1" + PUBKEY_HASH, "another type"),
        (b"\xa1" + NAME + ENTRY[2:], "another type"),  # the array itself, not wrapped
        (b"\xa2" + PUBKEY_HASH + b"\x65nonce\x78\x20" + NONCE, "another type"),
        (b"\xa2" + PUBKEY_HASH + b"\x65nonce\xf6", "another type"),  # null
        (b"\xa1" + PUBKEY_HASH + NONCE_CLAIM, "something follows"),
        (b"\xa1" + PUBKEY_HASH + b"\0", "something follows"),
        (entry(b"\x81\x58\x20" + DIGEST), "another one"),
        (entry(b"\x83\x01\x58\x20" + DIGEST + b"\0"), "another one"),
        (entry(b"\x9f\x01\x58\x20" + DIGEST + b"\xff"), "indefinite"),
        (entry(b"\x82\x18\x01\x58\x20" + DIGEST), "shortest"),
        (entry(b"\x82\x20\x58\x20" + DIGEST), "another type"),  # -1
        (entry(b"\x82\x41\x01\x58\x20" + DIGEST), "another type"),
        (entry(b"\x82\x01\x58\x20" + DIGEST + b"\0"), "something follows"),
        (entry(b"\x82\x01\x59\x00\x20" + DIGEST), "shortest"),
        (entry(b"\x82\x00\x58\x20" + DIGEST), "not SHA-256"),  # reserved
        (entry(b"\x82\x02\x50" + DIGEST[:16]), "not SHA-256"),  # SHA-256 cut to 128 bits
        (entry(b"\x82\x0a\x58\x20" + DIGEST), "not SHA-256"),  # SHA3-256
        (entry(b"\x82\x1b" + b"\xff" * 8 + b"\x58\x20" + DIGEST), "not SHA-256"),
        (entry(b"\x82\x01\x40"), "length"),
        (entry(b"\x82\x01\x58\x1f" + DIGEST[:31]), "length"),
        (entry(b"\x82\x01\x58\x21" + DIGEST + b"\0"), "length"),
        (entry(b"\x82\x07\x58\x20" + DIGEST), "length"),
        (entry(b"\x82\x08\x58\x20" + DIGEST), "length"),
        (entry(b""), "ends inside"),
    ],
)
def test_other_claims(raw, says):
    with pytest.raises(FormatError, match=says):
        parse_claims(raw)


def test_refusals_do_not_repeat_the_content():
    with pytest.raises(FormatError) as refused:
        parse_claims(b"\xa1\x66secret\x40")
    assert "secret" not in str(refused.value)


# --- any bytes ------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_junk_is_a_format_error(raw):
    with pytest.raises(FormatError):
        parse_tagged_evidence(raw)
    with pytest.raises(FormatError):
        parse_claims(raw)


@given(st.data())
def test_what_parses_has_one_encoding(data):
    """Whatever is changed: what still parses as evidence is exactly what we would write for it."""
    raw = bytearray(EVIDENCE)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.sampled_from((*range(8), *range(307, len(raw)))))] = data.draw(
            st.integers(0, 255)
        )
    try:
        evidence = parse_tagged_evidence(bytes(raw))
        claims = parse_claims(evidence.claims)
    except FormatError:
        return
    assert build_tagged_evidence(evidence) == bytes(raw)
    assert claims.algorithm is HashAlgorithm.SHA_256
    assert evidence.claims[-32:] == claims.pubkey_hash
