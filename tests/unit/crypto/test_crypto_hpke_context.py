"""HPKE with an exporter: the RFC's vectors, and the other implementation that is here."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.hpke_context import AES_128_GCM, decapsulate, encapsulate, key_schedule
from wardian.errors import AuthenticationFailed, FormatError

H = bytes.fromhex
PRIVATE = X25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key().public_bytes_raw()
SMALL_ORDER = [bytes(32), b"\x01" + bytes(31)]


def test_rfc_9180_a_1_1_key_schedule_encryption_and_exports() -> None:
    """Appendix A.1.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, mode base."""
    context = key_schedule(
        H("fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc"),
        encapsulated=b"",
        info=H("4f6465206f6e2061204772656369616e2055726e"),
        aead=AES_128_GCM,
    )
    sealed = context.seal(b"Beauty is truth, truth beauty", aad=b"Count-0")
    assert sealed.hex() == (
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    )
    for label, exported in (
        (b"", "3853fe2b4035195a573ffc53856e77058e15d9ea064de3e59f4961d0095250ee"),
        (b"\0", "2e8f0b54673c7029649d4eb9d5e33bf1872cf76d623ff164ac185da9e88c21a5"),
        (b"TestContext", "e9e43065102c3836401bed8c3c3c75ae46be1639869391d62c61f1ec7af54931"),
    ):
        assert context.export(label).reveal().hex() == exported


@pytest.mark.parametrize("plaintext", [b"", b"x", bytes(100_000)])
def test_what_either_implementation_seals_the_other_opens(plaintext: bytes) -> None:
    other = HpkePrivateKey(PRIVATE)
    context = encapsulate(PUBLIC, info=b"here")
    assert other.open(context.encapsulated + context.seal(plaintext, aad=b""), info=b"here") == (
        plaintext
    )
    sealed = hpke_seal(PUBLIC, plaintext, info=b"here")
    context = decapsulate(PRIVATE, sealed[:32], public=PUBLIC, info=b"here")
    assert context.open(sealed[32:], aad=b"") == plaintext


def test_both_ends_export_the_same_and_nobody_else() -> None:
    sender = encapsulate(PUBLIC, info=b"here")
    receiver = decapsulate(PRIVATE, sender.encapsulated, public=PUBLIC, info=b"here")
    elsewhere = decapsulate(PRIVATE, sender.encapsulated, public=PUBLIC, info=b"there")
    assert sender.export(b"a") == receiver.export(b"a")
    assert sender.export(b"a") != sender.export(b"b")
    assert sender.export(b"a") != elsewhere.export(b"a")
    assert encapsulate(PUBLIC, info=b"here").export(b"a") != sender.export(b"a")


@pytest.mark.parametrize("change", [{"aad": b"other"}, {"ciphertext": b"\0" * 40}])
def test_what_was_changed_does_not_open(change: dict[str, bytes]) -> None:
    sender = encapsulate(PUBLIC, info=b"here")
    given = {"ciphertext": sender.seal(b"text", aad=b"aad"), "aad": b"aad"} | change
    receiver = decapsulate(PRIVATE, sender.encapsulated, public=PUBLIC, info=b"here")
    with pytest.raises(AuthenticationFailed):
        receiver.open(given["ciphertext"], aad=given["aad"])


@pytest.mark.parametrize("key", [b"", bytes(31), *SMALL_ORDER])
def test_unusable_keys(key: bytes) -> None:
    """Of small order the shared secret would be known to everybody (RFC 9180, section 7.1.4)."""
    with pytest.raises(FormatError):
        encapsulate(key, info=b"")
    with pytest.raises(AuthenticationFailed):
        decapsulate(PRIVATE, key, public=PUBLIC, info=b"")


def test_a_context_prints_no_key() -> None:
    context = encapsulate(PUBLIC, info=b"")
    assert repr(context) == f"HpkeContext(encapsulated={context.encapsulated!r})"
