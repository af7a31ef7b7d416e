"""Sealing a short secret to a public key: HPKE (RFC 9180), base mode, single shot.

The suite is DHKEM(X25519, HKDF-SHA256) 0x0020, HKDF-SHA256 0x0001, AES-256-GCM 0x0002, as
`cryptography` implements it. Base mode names no sender: whoever needs to know who sealed puts a
signature beside it, as the key broker does (see the release protocol).
"""

from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError

KEY_BYTES = 32
OVERHEAD_BYTES = 32 + 16  # encapsulated key, then the tag of AES-GCM
MAX_PLAINTEXT_BYTES = 4 * 1024 * 1024
_UNUSABLE = "HPKE public key: not a usable X25519 key of 32 bytes"

# Little endian, without the highest bit, modulo p (RFC 7748, section 5).
_PRIME = 2**255 - 19
_SMALL_ORDER = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)
"""The u of every point of order 1, 2, 4 or 8, of the curve or its twist: what X25519 makes 0 of."""

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def hpke_seal(public: bytes, plaintext: bytes, *, info: bytes) -> bytes:
    """Return `plaintext` sealed so that only the holder of the private key opens it.

    Args:
        public: X25519 public key, 32 bytes.
        plaintext: at most 4 MiB.
        info: the context, known to both sides (for example a transcript hash). Opening with
            another `info` fails; RFC 9180 binds it into the key, so there is no separate AAD.

    Returns:
        Encapsulated key (32 bytes), ciphertext, tag (16 bytes).

    Raises:
        FormatError: not a usable X25519 public key (wrong length, or of small order, which would
            make the shared secret known to everybody), or too long a plaintext.
    """
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise FormatError(f"HPKE plaintext: at most {MAX_PLAINTEXT_BYTES} bytes")
    try:
        key = X25519PublicKey.from_public_bytes(public)
        return _SUITE.encrypt(plaintext, key, info=info)
    except ValueError as err:
        raise FormatError(_UNUSABLE) from err


def refuse_unusable(public: bytes) -> None:
    """Return if `hpke_seal` can seal to `public`; found by a comparison, since strangers ask.

    Raises:
        FormatError: it cannot; see there.
    """
    u = (int.from_bytes(public, "little") & (2**255 - 1)) % _PRIME
    if len(public) != KEY_BYTES or u in _SMALL_ORDER:
        raise FormatError(_UNUSABLE)


class HpkePrivateKey:
    """An X25519 private key that opens what `hpke_seal` sealed to `public`."""

    __slots__ = ("_key", "_public")

    def __init__(self, key: X25519PrivateKey) -> None:
        """Hold `key`; use `generate` or `from_secret`."""
        self._key = key
        self._public = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Self:
        """Return a fresh key."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: Secret) -> Self:
        """Return the key whose 32 raw bytes are in `secret`.

        Raises:
            FormatError: not 32 bytes.
        """
        if len(secret) != KEY_BYTES:
            raise FormatError("HPKE private key: 32 bytes are needed")
        return cls(X25519PrivateKey.from_private_bytes(secret.reveal()))

    def to_secret(self) -> Secret:
        """Return the 32 raw bytes of the private key."""
        return Secret(self._key.private_bytes_raw())

    @property
    def public(self) -> bytes:
        """The public key, 32 raw bytes."""
        return self._public

    def open(self, sealed: bytes, *, info: bytes) -> bytes:
        """Return what was sealed to this key under the same `info`.

        Raises:
            FormatError: shorter than an encapsulated key and a tag, or longer than 4 MiB of text.
            AuthenticationFailed: for another key, under another `info`, or changed on the way.
        """
        if not OVERHEAD_BYTES <= len(sealed) <= MAX_PLAINTEXT_BYTES + OVERHEAD_BYTES:
            raise FormatError(f"HPKE ciphertext: {len(sealed)} bytes are too few or too many")
        try:
            return _SUITE.decrypt(sealed, self._key, info=info)
        except (InvalidTag, ValueError) as err:  # ValueError: encapsulated key of small order
            raise AuthenticationFailed("HPKE: not sealed to this key in this context") from err
