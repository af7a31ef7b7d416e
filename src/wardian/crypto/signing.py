"""Owners' signatures: Ed25519 (RFC 8032), and ECDSA on P-256 with SHA-256 (FIPS 186-5).

An owner is a public key, and its length says which of the two it is: 32 bytes are Ed25519, 33 are
a compressed point of P-256 (SEC 1, section 2.3.3). A signature has 64 bytes and one form under
either: of ECDSA's two values of `s` only the lower counts, so that nobody who sees a signature can
make a second one of the same key over the same message.
"""

import enum
from collections.abc import Callable
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError

KEY_BYTES: Final = 32
"""Of a private key: Ed25519's seed, or P-256's scalar, big endian."""
SIGNATURE_BYTES: Final = 64
ED25519_PUBLIC_BYTES: Final = 32
P256_PUBLIC_BYTES: Final = 33

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's base point (SEC 2, section 2.4.2)."""
_ECDSA: Final = ec.ECDSA(hashes.SHA256())
_FIELD: Final = 2**255 - 19
"""Of Ed25519 (RFC 8032, section 5.1)."""
_EIGHTH_Y: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
"""Of a point of order 8; the other y of that order is its negative."""
_SMALL_ORDER_Y: Final = frozenset(
    {0, 1, _FIELD - 1, _FIELD, _FIELD + 1, _EIGHTH_Y, _FIELD - _EIGHTH_Y}
)
"""Of every point whose order divides 8, in every spelling that there is of it."""


class SignatureKind(enum.StrEnum):
    """Which of the two kinds a key is of."""

    ED25519 = "ed25519"
    P256 = "p256"


class Signer(Protocol):
    """Who signs as an owner: a key in this process, or a program that has it."""

    @property
    def public(self) -> bytes:
        """The public key: 32 bytes for Ed25519, 33 for P-256."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, 64 bytes, in its one form."""


class SigningKey:
    """An owner's private key. What it signs must say what it is: put a label in the message."""

    __slots__ = ("_key", "_public")

    def __init__(self, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
        """Hold `key`, whose curve is P-256 if it is not Ed25519; use `generate`, `from_secret`."""
        self._key = key
        self._public = encode_public(key.public_key())

    @classmethod
    def generate(cls, kind: SignatureKind = SignatureKind.ED25519) -> Self:
        """Return a fresh key."""
        if kind is SignatureKind.P256:
            return cls(ec.generate_private_key(ec.SECP256R1()))
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: Secret, kind: SignatureKind = SignatureKind.ED25519) -> Self:
        """Return the key of `kind` whose 32 bytes are in `secret`.

        Args:
            secret: Ed25519's seed (RFC 8032, section 5.1.5), or P-256's scalar, big endian.
            kind: which of the two.

        Raises:
            FormatError: not 32 bytes, or a scalar that is 0 or not below the group's order.
        """
        if len(secret) != KEY_BYTES:
            raise FormatError("signing key: 32 bytes are needed")
        if kind is SignatureKind.ED25519:
            return cls(Ed25519PrivateKey.from_private_bytes(secret.reveal()))
        scalar = int.from_bytes(secret.reveal(), "big")
        if not 0 < scalar < _ORDER:
            raise FormatError("signing key: not a scalar of P-256")
        return cls(ec.derive_private_key(scalar, ec.SECP256R1()))

    def to_secret(self) -> Secret:
        """Return the 32 bytes that `from_secret` takes."""
        if isinstance(self._key, Ed25519PrivateKey):
            return Secret(self._key.private_bytes_raw())
        return Secret(self._key.private_numbers().private_value.to_bytes(KEY_BYTES, "big"))

    @property
    def kind(self) -> SignatureKind:
        """Which of the two kinds this key is of."""
        ed25519 = isinstance(self._key, Ed25519PrivateKey)
        return SignatureKind.ED25519 if ed25519 else SignatureKind.P256

    @property
    def public(self) -> bytes:
        """The public key: 32 bytes for Ed25519, 33 for P-256."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, 64 bytes, in its one form."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(message)
        return _of_numbers(*decode_dss_signature(self._key.sign(message, _ECDSA)))


def verify_signature(public: bytes, signature: bytes, message: bytes) -> None:
    """Return if the holder of `public`'s private key signed exactly `message`.

    Args:
        public: 32 or 33 bytes, already trusted: this function says nothing about whose key it is.
            What it is decides how the signature is verified; the signature decides nothing.
        signature: 64 bytes in their one form, untrusted.
        message: untrusted.

    Raises:
        AuthenticationFailed: the signature is not of this key over this message, one of the two
            has a wrong form, or the key is one for which anybody can make signatures.
    """
    verify = _VERIFIERS.get(len(public), _verify_nothing)
    try:
        verify(public, signature, message)
    except (InvalidSignature, ValueError) as err:
        raise AuthenticationFailed("signature: not by this key over this message") from err


def normalize_signature(public: bytes, signature: bytes) -> bytes:
    """Return `signature`, made by somebody else's tool or a hardware module, in its one form.

    Verifies nothing. For whoever brings a signature in: verifiers take the one form alone.

    Args:
        public: whose key made it, 32 or 33 bytes.
        signature: 64 bytes; of a P-256 key also DER (RFC 3279, section 2.2.3). Untrusted.

    Raises:
        FormatError: neither.
    """
    if len(public) == ED25519_PUBLIC_BYTES and len(signature) == SIGNATURE_BYTES:
        return signature
    if len(public) != P256_PUBLIC_BYTES:
        raise FormatError("signature: expected 64 bytes of Ed25519, or ECDSA of a P-256 key")
    numbers = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    if len(signature) != SIGNATURE_BYTES:
        try:
            numbers = decode_dss_signature(signature)
        except ValueError as err:
            raise FormatError("signature: expected 64 bytes r and s, or DER") from err
    if not all(0 < number < _ORDER for number in numbers):
        raise FormatError("signature: r and s lie between 0 and the order of P-256")
    return _of_numbers(*numbers)


def parse_public_pem(raw: bytes) -> bytes:
    """Return the public key in `raw` as owners write it, 32 or 33 bytes.

    Args:
        raw: a PEM SubjectPublicKeyInfo (RFC 7468, section 13), as tools and modules export it.

    Raises:
        FormatError: no such thing, or a key of another kind than Ed25519 and P-256.
    """
    try:
        return encode_public(serialization.load_pem_public_key(raw))
    except (ValueError, TypeError) as err:
        raise FormatError("public key: not a PEM public key of Ed25519 or P-256") from err


def encode_public(key: object) -> bytes:
    """Return `key` as owners write it.

    Raises:
        TypeError: it is neither of Ed25519 nor of P-256.
    """
    if isinstance(key, Ed25519PublicKey):
        return key.public_bytes_raw()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )
    raise TypeError("owners' keys are Ed25519 or P-256")


def _of_numbers(r: int, s: int) -> bytes:
    """Return r and the lower one of s and -s, 32 bytes each, big endian."""
    return r.to_bytes(32, "big") + min(s, _ORDER - s).to_bytes(32, "big")


def _verify_nothing(*_: bytes) -> None:
    raise InvalidSignature


def _verify_ed25519(public: bytes, signature: bytes, message: bytes) -> None:
    if int.from_bytes(public, "little") & (2**255 - 1) in _SMALL_ORDER_Y:
        raise InvalidSignature  # nobody's: without a private key one signature fits any message
    Ed25519PublicKey.from_public_bytes(public).verify(signature, message)


def _verify_p256(public: bytes, signature: bytes, message: bytes) -> None:
    s = int.from_bytes(signature[32:], "big")
    if len(signature) != SIGNATURE_BYTES or s > _ORDER // 2:
        raise InvalidSignature
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    key.verify(encode_dss_signature(int.from_bytes(signature[:32], "big"), s), message, _ECDSA)


_VERIFIERS: Final[dict[int, Callable[[bytes, bytes, bytes], None]]] = {
    ED25519_PUBLIC_BYTES: _verify_ed25519,
    P256_PUBLIC_BYTES: _verify_p256,
}
