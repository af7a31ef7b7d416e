"""SIGSTRUCT read and verified by ourselves: every bit of it counts, and debug enclaves are refused."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.gramine_signer import build_sigstruct, mr_signer, signing_key

from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
)
from wardian.tee.manifest.sigstruct import (
    NO_DATE,
    SIGSTRUCT_BYTES,
    VerifiedSigstruct,
    demand_identity,
    parse_sigstruct,
    verify_sigstruct,
)

REFUSED = (FormatError, AuthenticationFailed, PolicyDenied)
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017, 9.2, SHA-256


@pytest.fixture(scope="module")
def raw() -> bytes:
    return build_sigstruct(signing_key())


def changed(raw: bytes, at: int, content: bytes) -> bytes:
    return raw[:at] + content + raw[at + len(content) :]


def number(value: int) -> bytes:
    return value.to_bytes(384, "little")


def test_it_says_what_was_signed():
    key = signing_key()
    signed = build_sigstruct(
        key,
        mr_enclave=bytes(range(32)),
        product_id=0xABCD,
        svn=0x1234,
        date="20260314",
        vendor=0x8086,
        swdefined=7,
        family_id=b"f" * 16,
        extended_product_id=b"e" * 16,
    )
    found = verify_sigstruct(parse_sigstruct(signed)).sigstruct
    assert found.mr_enclave == bytes(range(32))
    assert found.mr_signer == mr_signer(key)
    assert (found.product_id, found.svn) == (0xABCD, 0x1234)
    assert (found.date, found.vendor) == ("2026-03-14", 0x8086)
    assert (found.family_id, found.extended_product_id) == (b"f" * 16, b"e" * 16)
    assert (found.attributes, found.misc_select, found.misc_mask) == (4 | 3 << 64, 0, 2**32 - 1)
    assert not found.debug


def test_another_key_is_another_signer():
    one, other = (parse_sigstruct(build_sigstruct(signing_key(number))) for number in (0, 1))
    assert one.mr_enclave == other.mr_enclave
    assert one.mr_signer != other.mr_signer


def test_only_a_verified_one_is_verified(raw):
    with pytest.raises(LocalProtocolError, match="verify_sigstruct"):
        VerifiedSigstruct(sigstruct=parse_sigstruct(raw), proof=object())


# --- attacks ----------------------------------------------------------------------------------


def test_every_single_bit_counts(raw):
    verify_sigstruct(parse_sigstruct(raw))
    accepted, refusals = [], dict.fromkeys(REFUSED, 0)
    for bit in range(8 * SIGSTRUCT_BYTES):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            verify_sigstruct(parse_sigstruct(bytes(flipped)))
        except REFUSED as err:
            refusals[type(err)] += 1
        else:
            accepted.append(bit)
    assert accepted == []
    assert sum(refusals.values()) == 8 * 1808
    # Signed fields that may hold anything, the signature, the modulus, q1 and q2 are refused by
    # arithmetic, not by their form: at least the 114 signed bytes that have no form, and q1 and q2.
    assert refusals[AuthenticationFailed] > 8 * (114 + 2 * 384)


def test_a_forged_cube_root_is_refused(raw):
    """Without any key: for exponent 3, a verifier that ignores what follows the digest is fooled."""
    digest = hashlib.sha256(raw[:128] + raw[900:1028]).digest()
    prefix = b"\x00\x01" + b"\xff" * 8 + b"\x00" + DIGEST_INFO + digest
    wanted = int.from_bytes(prefix + bytes(384 - len(prefix)), "big")
    low, high = 0, 1 << 1024
    while low < high:  # the smallest number whose cube is at least `wanted`
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**3 < wanted else (low, middle)
    assert (low**3).to_bytes(384, "big").startswith(prefix), "the forgery is a good one"
    modulus = int.from_bytes(raw[128:512], "little")
    q1 = low**2 // modulus
    q2 = (low**3 - q1 * low * modulus) // modulus
    forged = changed(changed(raw, 516, number(low)), 1040, number(q1) + number(q2))
    with pytest.raises(AuthenticationFailed, match="signature is wrong"):
        verify_sigstruct(parse_sigstruct(forged))


def test_a_signature_of_another_key_is_refused(raw):
    other = build_sigstruct(signing_key(1))
    with pytest.raises((AuthenticationFailed, FormatError)):  # by chance not below that modulus
        verify_sigstruct(parse_sigstruct(changed(raw, 128, other[128:512])))


def test_a_signature_over_another_enclave_is_refused(raw):
    other = build_sigstruct(signing_key(), mr_enclave=b"\x70" * 32)
    with pytest.raises(AuthenticationFailed):
        verify_sigstruct(parse_sigstruct(changed(raw, 900, other[900:1028])))


@pytest.mark.parametrize("at", [1040, 1424])
@pytest.mark.parametrize("value", [0, 2**3072 - 1])
def test_a_wrong_quotient_is_refused(raw, at, value):
    with pytest.raises(AuthenticationFailed, match="q1 or q2"):
        verify_sigstruct(parse_sigstruct(changed(raw, at, number(value))))


def test_a_debug_enclave_is_refused():
    parsed = parse_sigstruct(build_sigstruct(signing_key(), flags=4 | 2))
    assert parsed.debug
    with pytest.raises(PolicyDenied, match="signed for debug mode") as refusal:
        verify_sigstruct(parsed)
    assert refusal.value.rule == "not-debug"


def test_a_mask_that_leaves_debug_open_is_refused():
    """The signature says "not debug", and lets the host start the enclave in debug mode."""
    parsed = parse_sigstruct(build_sigstruct(signing_key(), flags_mask=2**64 - 1 - 2))
    assert parsed.debug
    with pytest.raises(PolicyDenied, match="mask leaves DEBUG open") as refusal:
        verify_sigstruct(parsed)
    assert refusal.value.rule == "not-debug"


# --- hostile forms ----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 256, 1807, 1809, 3616])
def test_another_length_is_refused(raw, length):
    with pytest.raises(FormatError, match=f"{length} bytes, 1808 expected"):
        parse_sigstruct((raw * 2)[:length])


@pytest.mark.parametrize("exponent", [0, 1, 2, 65537, 2**32 - 1])
def test_another_exponent_is_refused(raw, exponent):
    with pytest.raises(FormatError, match="exponent"):
        parse_sigstruct(changed(raw, 512, exponent.to_bytes(4, "little")))


@pytest.mark.parametrize(
    "change",
    [
        {"header": bytes(16)},
        {"header": bytes.fromhex("06000000E10000000000010000000001")},
        {"header2": bytes(16)},
        {"header2": bytes.fromhex("01010000600000006000000003000000")},
        {"vendor": 1},
        {"vendor": 0x8087},
        {"reserved": (b"\0" * 83 + b"\1", b"", b"", b"")},
        {"reserved": (b"", b"\1\0", b"", b"")},
        {"reserved": (b"", b"", b"\1" + b"\0" * 15, b"")},
        {"reserved": (b"", b"", b"", b"\0" * 11 + b"\x80")},
    ],
)
def test_wrong_constants_are_refused_even_if_signed(change):
    with pytest.raises(FormatError):
        parse_sigstruct(build_sigstruct(signing_key(), **change))


@pytest.mark.parametrize("modulus", [0, 1, 3, 2**3071, 2**3071 - 1, 2**3072 - 2])
def test_an_impossible_modulus_is_refused(raw, modulus):
    with pytest.raises(FormatError, match="modulus"):
        parse_sigstruct(changed(raw, 128, number(modulus)))


def test_a_signature_outside_the_modulus_is_refused(raw):
    modulus = int.from_bytes(raw[128:512], "little")
    signature = int.from_bytes(raw[516:900], "little")
    over = [0, modulus, 2**3072 - 1]
    if signature + modulus < 2**3072:
        over.append(signature + modulus)  # the same number, as far as arithmetic can tell
    for value in over:
        with pytest.raises(FormatError, match="signature is zero, or not below"):
            parse_sigstruct(changed(raw, 516, number(value)))


@pytest.mark.parametrize("signature", [1, 2])
def test_a_trivial_signature_is_refused(raw, signature):
    forged = changed(changed(raw, 516, number(signature)), 1040, bytes(768))
    with pytest.raises(AuthenticationFailed):
        verify_sigstruct(parse_sigstruct(forged))


@pytest.mark.parametrize("date", ["20261301", "20260230", "00000100", "2026ab01", "0e04e707"])
def test_a_date_that_is_none_is_refused(date):
    with pytest.raises(FormatError, match="binary coded decimal"):
        parse_sigstruct(build_sigstruct(signing_key(), date=date))


def test_a_date_of_an_old_gramine_is_refused(raw):
    """Before 1.5 it wrote 2023-04-14 as the bytes e7 07 04 0e."""
    with pytest.raises(FormatError, match=r"Gramine 1\.5"):
        parse_sigstruct(changed(raw, 20, bytes.fromhex("e707040e")))


def test_no_date_is_said_so():
    assert parse_sigstruct(build_sigstruct(signing_key(), date="00000000")).date == NO_DATE


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_nothing_but_typed_errors(raw, data):
    mutated = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 1807))
        mutated[at : at + 8] = data.draw(st.binary(max_size=16))
    try:
        found = verify_sigstruct(parse_sigstruct(bytes(mutated)))
    except REFUSED:
        return
    assert bytes(mutated) == raw, found


# --- which manifest it belongs to -------------------------------------------------------------


def test_it_belongs_to_the_manifest_that_says_the_same():
    verified = verify_sigstruct(
        parse_sigstruct(build_sigstruct(signing_key(), product_id=3, svn=2))
    )
    demand_identity(verified, {"sgx": {"isvprodid": 3, "isvsvn": 2, "debug": False}})
    for sgx, rule in (
        ({"isvprodid": 1, "isvsvn": 2}, "product-id"),
        ({"isvprodid": 3, "isvsvn": 1}, "svn"),
        ({"isvprodid": 3, "isvsvn": 2, "debug": True}, "not-debug"),
        ({"isvprodid": 3, "isvsvn": 2, "debug": 0}, "not-debug"),
        ({"isvprodid": 3, "isvsvn": 2, "debug": "false"}, "not-debug"),
    ):
        with pytest.raises(PolicyDenied) as refusal:
            demand_identity(verified, {"sgx": sgx})
        assert refusal.value.rule == rule


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"sgx": 1},
        {"sgx": {}},
        {"sgx": {"isvprodid": 1}},
        {"sgx": {"isvsvn": 1}},
        {"sgx": {"isvprodid": True, "isvsvn": 1}},
        {"sgx": {"isvprodid": "1", "isvsvn": 1}},
        {"sgx": {"isvprodid": 65536, "isvsvn": 1}},
        {"sgx": {"isvprodid": 1, "isvsvn": -1}},
    ],
)
def test_a_manifest_that_does_not_say_what_it_is_is_refused(manifest):
    verified = verify_sigstruct(parse_sigstruct(build_sigstruct(signing_key(), product_id=1)))
    with pytest.raises(ConfigError):
        demand_identity(verified, manifest)
