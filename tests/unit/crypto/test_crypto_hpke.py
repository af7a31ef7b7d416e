import importlib.util
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wardian.crypto.hpke import MAX_PLAINTEXT_BYTES, OVERHEAD_BYTES, HpkePrivateKey, hpke_seal
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError

INFO = b"transcript"
# Points of small order (RFC 7748, section 6.1; https://cr.yp.to/ecdh.html lists them).
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.fixture(scope="module")
def reference():
    path = Path(__file__).parents[2] / "vectors/sealed-file/hpke_reference.py"
    spec = importlib.util.spec_from_file_location("hpke_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_meets_rfc_9180(reference):
    """Appendix A.1.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, base mode, message 0."""
    sealed = reference.seal(
        bytes.fromhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"),
        b"Beauty is truth, truth beauty",
        info=b"Ode on a Grecian Urn",
        ephemeral=bytes.fromhex("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736"),
        aead_id=0x0001,
        aad=b"Count-0",
    )
    assert sealed.hex() == (
        "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a9"
        "6d8770ac83d07bea87e13c512a"
    )


def test_opens_what_the_reference_sealed(reference):
    key = HpkePrivateKey.generate()
    for length in (0, 1, 32, 1000):
        sealed = reference.seal(
            key.public, b"p" * length, info=INFO, ephemeral=Secret.random().reveal()
        )
        assert key.open(sealed, info=INFO) == b"p" * length


def test_the_reference_opens_what_we_sealed(reference):
    key = HpkePrivateKey.generate()
    sealed = hpke_seal(key.public, b"secret", info=INFO)
    private = X25519PrivateKey.from_private_bytes(key.to_secret().reveal())
    assert reference.open_sealed(private, sealed, info=INFO) == b"secret"


def test_round_trip_and_overhead():
    key = HpkePrivateKey.from_secret(HpkePrivateKey.generate().to_secret())
    sealed = hpke_seal(key.public, b"secret", info=INFO)
    assert len(sealed) == 6 + OVERHEAD_BYTES
    assert key.open(sealed, info=INFO) == b"secret"
    assert sealed != hpke_seal(key.public, b"secret", info=INFO)


def test_every_bit_flip_is_refused():
    """Even of the bit that X25519 masks (RFC 7748, section 5): RFC 9180 hashes `enc` as it is."""
    key = HpkePrivateKey.generate()
    sealed = hpke_seal(key.public, b"secret", info=INFO)
    for bit in range(8 * len(sealed)):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationFailed):
            key.open(bytes(forged), info=INFO)


def test_another_context_or_key_is_refused():
    key = HpkePrivateKey.generate()
    sealed = hpke_seal(key.public, b"secret", info=INFO)
    with pytest.raises(AuthenticationFailed):
        key.open(sealed, info=b"another transcript")
    with pytest.raises(AuthenticationFailed):
        HpkePrivateKey.generate().open(sealed, info=INFO)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_public_key_of_small_order_is_refused(point):
    with pytest.raises(FormatError, match="not a usable"):
        hpke_seal(point, b"secret", info=INFO)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_an_encapsulated_key_of_small_order_is_refused(point):
    with pytest.raises(AuthenticationFailed):
        HpkePrivateKey.generate().open(point + bytes(48), info=INFO)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_have_32_bytes(length):
    with pytest.raises(FormatError, match="32 bytes"):
        hpke_seal(bytes(length), b"", info=INFO)
    if length:
        with pytest.raises(FormatError, match="32 bytes"):
            HpkePrivateKey.from_secret(Secret(bytes(length)))


@pytest.mark.parametrize(
    "length", [0, OVERHEAD_BYTES - 1, MAX_PLAINTEXT_BYTES + OVERHEAD_BYTES + 1]
)
def test_length_is_bounded(length):
    with pytest.raises(FormatError, match="too few or too many"):
        HpkePrivateKey.generate().open(bytes(length), info=INFO)


def test_a_long_plaintext_is_refused():
    with pytest.raises(FormatError, match="at most"):
        hpke_seal(HpkePrivateKey.generate().public, bytes(MAX_PLAINTEXT_BYTES + 1), info=INFO)
