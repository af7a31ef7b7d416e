"""Owners' signatures: Ed25519 (RFC 8032)."""

from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError

KEY_BYTES = 32
SIGNATURE_BYTES = 64


class SigningKey:
    """An Ed25519 private key. What it signs must say what it is: put a label in the message."""

    __slots__ = ("_key", "_public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Hold `key`; use `generate` or `from_secret`."""
        self._key = key
        self._public = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Self:
        """Return a fresh key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: Secret) -> Self:
        """Return the key whose 32-byte seed (RFC 8032, section 5.1.5) is in `secret`.

        Raises:
            FormatError: not 32 bytes.
        """
        if len(secret) != KEY_BYTES:
            raise FormatError("signing key: 32 bytes are needed")
        return cls(Ed25519PrivateKey.from_private_bytes(secret.reveal()))

    def to_secret(self) -> Secret:
        """Return the 32-byte seed."""
        return Secret(self._key.private_bytes_raw())

    @property
    def public(self) -> bytes:
        """The public key, 32 raw bytes."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, 64 bytes."""
        return self._key.sign(message)


def verify_signature(public: bytes, signature: bytes, message: bytes) -> None:
    """Return if the holder of `public`'s private key signed exactly `message`.

    Args:
        public: 32 bytes, already trusted: this function says nothing about whose key it is.
        signature: 64 bytes, untrusted.
        message: untrusted.

    Raises:
        AuthenticationFailed: the signature is not of this key over this message, or one of the
            two has a wrong form.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as err:
        raise AuthenticationFailed("signature: not by this key over this message") from err
