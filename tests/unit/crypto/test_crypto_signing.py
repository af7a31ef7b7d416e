import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from wardian.crypto.secret import Secret
from wardian.crypto.signing import (
    SIGNATURE_BYTES,
    SignatureKind,
    SigningKey,
    encode_public,
    normalize_signature,
    parse_public_pem,
    verify_signature,
)
from wardian.errors import AuthenticationFailed, FormatError

# RFC 8032, section 7.1: tests 1 and 2.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
]

# RFC 6979, appendix A.2.5: the key, and its SHA-256 signatures over two messages. The second has
# the higher of the two values of s.
P256_KEY = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"
P256_PUBLIC = "0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
P256_SAMPLE = (
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
)
P256_TEST = (
    "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367",
    "019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083",
)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

KINDS = pytest.mark.parametrize("kind", list(SignatureKind))


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_rfc_8032(seed, public, message, signature):
    key = SigningKey.from_secret(Secret(bytes.fromhex(seed)))
    assert key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    verify_signature(key.public, bytes.fromhex(signature), bytes.fromhex(message))


def test_rfc_6979():
    key = SigningKey.from_secret(Secret(bytes.fromhex(P256_KEY)), SignatureKind.P256)
    assert key.public.hex() == P256_PUBLIC
    low = bytes.fromhex("".join(P256_TEST))
    verify_signature(key.public, low, b"test")
    assert normalize_signature(key.public, low) == low


@KINDS
def test_every_bit_flip_of_a_signature_is_refused(kind):
    key = SigningKey.generate(kind)
    signature = key.sign(b"message")
    for bit in range(8 * SIGNATURE_BYTES):
        forged = bytearray(signature)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationFailed):
            verify_signature(key.public, bytes(forged), b"message")


@KINDS
def test_another_message_or_key_is_refused(kind):
    key = SigningKey.generate(kind)
    signature = key.sign(b"message")
    with pytest.raises(AuthenticationFailed):
        verify_signature(key.public, signature, b"messagE")
    for other in SignatureKind:
        with pytest.raises(AuthenticationFailed):
            verify_signature(SigningKey.generate(other).public, signature, b"message")


@pytest.mark.parametrize(
    ("public", "signature"), [(31, 64), (33, 64), (34, 64), (65, 64), (32, 63), (32, 65), (0, 0)]
)
def test_wrong_lengths_are_refused(public, signature):
    with pytest.raises(AuthenticationFailed):
        verify_signature(bytes(public), bytes(signature), b"")


@KINDS
def test_the_key_survives_as_a_secret(kind):
    for _ in range(20):  # scalars and seeds that begin with zeros among them, sooner or later
        key = SigningKey.generate(kind)
        again = SigningKey.from_secret(key.to_secret(), kind)
        assert (again.public, again.kind, len(key.to_secret())) == (key.public, kind, 32)
        verify_signature(key.public, again.sign(b"m"), b"m")


def test_a_scalar_that_begins_with_zeros():
    key = SigningKey.from_secret(Secret(bytes(31) + b"\x02"), SignatureKind.P256)
    assert key.to_secret() == Secret(bytes(31) + b"\x02")


def test_a_seed_has_32_bytes():
    for kind in SignatureKind:
        with pytest.raises(FormatError, match="32 bytes"):
            SigningKey.from_secret(Secret(bytes(31)), kind)


@pytest.mark.parametrize("scalar", [0, ORDER, 2**256 - 1])
def test_a_scalar_lies_below_the_order(scalar):
    with pytest.raises(FormatError, match="scalar"):
        SigningKey.from_secret(Secret(scalar.to_bytes(32, "big")), SignatureKind.P256)


# One form of a signature


def test_the_higher_s_is_refused_although_it_is_mathematically_good():
    """RFC 6979's own signature over "sample" has it; so has every second one of a module."""
    public = bytes.fromhex(P256_PUBLIC)
    high = bytes.fromhex("".join(P256_SAMPLE))
    ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public).verify(
        encode_dss_signature(*(int(part, 16) for part in P256_SAMPLE)),
        b"sample",
        ec.ECDSA(hashes.SHA256()),
    )
    with pytest.raises(AuthenticationFailed):
        verify_signature(public, high, b"sample")
    low = normalize_signature(public, high)
    assert low[:32] == high[:32]
    assert int.from_bytes(low[32:], "big") == ORDER - int(P256_SAMPLE[1], 16)
    verify_signature(public, low, b"sample")


def test_our_own_signatures_have_the_lower_s():
    key = SigningKey.generate(SignatureKind.P256)
    for number in range(64):
        assert int.from_bytes(key.sign(bytes([number]))[32:], "big") <= ORDER // 2


def test_der_and_uncompressed_points_are_refused():
    key = ec.generate_private_key(ec.SECP256R1())
    der = key.sign(b"m", ec.ECDSA(hashes.SHA256()))
    public = encode_public(key.public_key())
    with pytest.raises(AuthenticationFailed):
        verify_signature(public, der, b"m")
    raw = normalize_signature(public, der)
    verify_signature(public, raw, b"m")
    whole = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    for other in (whole, b"\x04" + public[1:], bytes([public[0] ^ 1]) + public[1:]):
        with pytest.raises(AuthenticationFailed):
            verify_signature(other, raw, b"m")


@pytest.mark.parametrize("r", [0, ORDER, ORDER + 1])
def test_numbers_out_of_range_are_refused(r):
    public = bytes.fromhex(P256_PUBLIC)
    for numbers in ((r, 1), (1, r)):
        raw = b"".join(number.to_bytes(32, "big") for number in numbers)
        with pytest.raises(AuthenticationFailed):
            verify_signature(public, raw, b"m")
        with pytest.raises(FormatError, match="order of P-256"):
            normalize_signature(public, raw)


def test_an_x_that_is_on_no_point_is_refused():
    missing = next(
        x
        for x in range(1, 100)
        if pow(x**3 - 3 * x + B, (P - 1) // 2, P) == P - 1  # no square: Euler's criterion
    )
    with pytest.raises(AuthenticationFailed):
        verify_signature(b"\x02" + missing.to_bytes(32, "big"), bytes(63) + b"\x01", b"m")


P = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


FIELD = 2**255 - 19
D = -121665 * pow(121666, -1, FIELD) % FIELD


def torsion() -> list[bytes]:
    """Every spelling of every point of Ed25519 whose order divides 8, by the curve's own equation.

    Of order 4 is y = 0, of order 1 and 2 are y = 1 and y = -1; of order 8 are those whose double
    has y = 0, which is where y^2 = -x^2, hence d y^4 + 2 y^2 - 1 = 0.
    """
    root = next(each for each in roots(1 + D) if roots((each - 1) * pow(D, -1, FIELD)))
    ys = {0, 1, FIELD - 1, *roots((root - 1) * pow(D, -1, FIELD))}
    spelt = ys | {y + FIELD for y in ys if y + FIELD < 2**255}
    return [(y | sign << 255).to_bytes(32, "little") for y in sorted(spelt) for sign in (0, 1)]


def roots(square: int) -> tuple[int, ...]:
    """Return both square roots modulo 2^255 - 19, or none (RFC 8032, section 5.1.3)."""
    root = pow(square, (FIELD + 3) // 8, FIELD)
    for each in (root, root * pow(2, (FIELD - 1) // 4, FIELD) % FIELD):
        if (each * each - square) % FIELD == 0:
            return each, FIELD - each
    return ()


def test_there_are_seven_y_and_a_sign():
    assert len(torsion()) == 14
    assert bytes(32) in torsion()


@pytest.mark.parametrize("public", torsion(), ids=bytes.hex)
def test_a_key_under_which_anybody_signs(public):
    """The neutral element is one, and so are 32 zero bytes: of R = k * A there are eight values."""
    guesses = [(r + bytes(32), b"message %d" % n) for r in torsion() for n in range(16)]
    for signature, message in guesses:
        with pytest.raises(AuthenticationFailed):
            verify_signature(public, signature, message)


def test_one_kinds_key_where_the_other_is_trusted():
    """An Ed25519 signature under an owner whose key is P-256, and the other way round."""
    ed25519, p256 = SigningKey.generate(), SigningKey.generate(SignatureKind.P256)
    for signer, owner in ((ed25519, p256), (p256, ed25519)):
        with pytest.raises(AuthenticationFailed):
            verify_signature(owner.public, signer.sign(b"m"), b"m")


# Signatures and keys from elsewhere


def test_what_other_tools_made_takes_its_one_form():
    ed25519, p256 = SigningKey.generate(), SigningKey.generate(SignatureKind.P256)
    signature = ed25519.sign(b"m")
    assert normalize_signature(ed25519.public, signature) == signature
    raw = p256.sign(b"m")
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    for der in (encode_dss_signature(r, s), encode_dss_signature(r, ORDER - s)):
        assert normalize_signature(p256.public, der) == raw
        assert decode_dss_signature(der)[0] == r


@pytest.mark.parametrize(
    ("public", "signature"),
    [
        (bytes(32), bytes(63)),
        (bytes(31), bytes(64)),
        (b"\x02" + bytes(32), b"not DER"),
        (b"\x02" + bytes(32), b""),
    ],
)
def test_what_is_no_signature(public, signature):
    with pytest.raises(FormatError, match="signature: expected"):
        normalize_signature(public, signature)


def pem(key) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_public_keys_as_modules_export_them():
    for kind in SignatureKind:
        key = SigningKey.generate(kind)
        assert parse_public_pem(pem(key._key.public_key())) == key.public


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()).public_key(),
        lambda: rsa.generate_private_key(65537, 2048).public_key(),
    ],
    ids=["P-384", "RSA"],
)
def test_public_keys_of_other_kinds(make):
    with pytest.raises(FormatError, match="Ed25519 or P-256"):
        parse_public_pem(pem(make()))


def test_what_is_no_pem():
    with pytest.raises(FormatError, match="PEM"):
        parse_public_pem(b"d75a98")
