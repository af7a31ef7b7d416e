"""HPKE (RFC 9180), base mode, single shot, written down from the RFC for tests alone.

It exists to make sealed bytes with a fixed ephemeral key, which `cryptography` rightly does not
offer, and as a second implementation to hold against it. A unit test holds this one against the
vector of RFC 9180, appendix A.1.
"""

import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEM_ID = 0x0020  # DHKEM(X25519, HKDF-SHA256), section 7.1
KDF_ID = 0x0001  # HKDF-SHA256, section 7.2
KEY_BYTES = {0x0001: 16, 0x0002: 32}  # AES-128-GCM, AES-256-GCM, section 7.3


def seal(public, plaintext, *, info, ephemeral, aead_id=0x0002, aad=b""):
    """Return the encapsulated key and the ciphertext, with the ephemeral private key given."""
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    enc = private.public_key().public_bytes_raw()
    shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    key, nonce = schedule(_decapsulated(shared, enc + public), info=info, aead_id=aead_id)
    return enc + AESGCM(key).encrypt(nonce, plaintext, aad)


def open_sealed(private, sealed, *, info, aead_id=0x0002, aad=b""):
    """Return the plaintext of what `seal` made."""
    enc, ciphertext = sealed[:32], sealed[32:]
    shared = private.exchange(X25519PublicKey.from_public_bytes(enc))
    public = private.public_key().public_bytes_raw()
    key, nonce = schedule(_decapsulated(shared, enc + public), info=info, aead_id=aead_id)
    return AESGCM(key).decrypt(nonce, ciphertext, aad)


def schedule(shared_secret, *, info, aead_id):
    """Return key and base nonce of section 5.1, mode 0, no PSK."""
    suite = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (KEM_ID, KDF_ID, aead_id))
    context = (
        b"\x00"
        + _labeled_extract(suite, b"", b"psk_id_hash", b"")
        + _labeled_extract(suite, b"", b"info_hash", info)
    )
    secret = _labeled_extract(suite, shared_secret, b"secret", b"")
    key = _labeled_expand(suite, secret, b"key", context, KEY_BYTES[aead_id])
    return key, _labeled_expand(suite, secret, b"base_nonce", context, 12)


def _decapsulated(dh, kem_context):
    """Return the shared secret of section 4.1, ExtractAndExpand."""
    suite = b"KEM" + KEM_ID.to_bytes(2, "big")
    secret = _labeled_extract(suite, b"", b"eae_prk", dh)
    return _labeled_expand(suite, secret, b"shared_secret", kem_context, 32)


def _labeled_extract(suite, salt, label, key):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + key, "sha256")


def _labeled_expand(suite, secret, label, info, length):
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(secret, labeled + b"\x01", "sha256")[:length]  # all are at most 32 bytes
