"""HPKE (RFC 9180), base mode, with the exporter: for an answer under a key of the request.

`crypto.hpke` seals one text and no more; `cryptography` has no exporter (section 5.3) and takes no
associated data beside `info`. This is the same suite, DHKEM(X25519, HKDF-SHA256) 0x0020,
HKDF-SHA256 0x0001, AES-256-GCM 0x0002, in its own steps: what either seals the other opens, and the
RFC's own vectors are a test. A context seals one message, so its nonce is the base nonce.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardian.crypto.kdf import expand, extract
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError

KEY_BYTES: Final = 32
"""Of a public key, a private key, and an encapsulated key (Nenc)."""
TAG_BYTES: Final = 16

_VERSION: Final = b"HPKE-v1"
_KEM_SUITE: Final = b"KEM\x00\x20"
_BASE_MODE: Final = b"\x00"
_NONCE_BYTES: Final = 12
_EXPORTER_BYTES: Final = 32


class Aead(NamedTuple):
    """A cipher by its number in RFC 9180, section 7.3, and the length of its key (Nk)."""

    number: int
    key_bytes: int


AES_128_GCM: Final = Aead(1, 16)
"""That of the RFC's vectors; nothing else uses it."""
AES_256_GCM: Final = Aead(2, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class HpkeContext:
    """What both ends know once a key was encapsulated; one message goes under it.

    Attributes:
        encapsulated: the sender's ephemeral public key (`enc`), 32 bytes.
    """

    encapsulated: bytes
    _key: bytes = field(repr=False)
    _nonce: bytes = field(repr=False)
    _exporter: Secret = field(repr=False)
    _suite: bytes = field(repr=False)

    def seal(self, plaintext: bytes | bytearray, *, aad: bytes) -> bytes:
        """Return `plaintext` as ciphertext and tag (16 bytes). Called once, by the sender."""
        return AESGCM(self._key).encrypt(self._nonce, plaintext, aad)

    def open(self, ciphertext: bytes | bytearray | memoryview, *, aad: bytes) -> bytes:
        """Return what the sender sealed.

        Raises:
            AuthenticationFailed: to another key, in another context, or changed on the way.
        """
        try:
            return AESGCM(self._key).decrypt(self._nonce, ciphertext, aad)
        except InvalidTag as err:
            raise AuthenticationFailed("HPKE: not sealed to this key in this context") from err

    def export(self, label: bytes, length: int = _EXPORTER_BYTES) -> Secret:
        """Return `length` secret bytes for the use that `label` names (section 5.3)."""
        raw = self._exporter.reveal()
        return Secret(_labelled_expand(self._suite, raw, b"sec", label, length))


def encapsulate(
    public: bytes, *, info: bytes, ephemeral: X25519PrivateKey | None = None
) -> HpkeContext:
    """Return the sender's context (SetupBaseS, section 5.1.1) to the holder of `public`.

    Args:
        public: X25519 public key, 32 bytes.
        info: what both sides know; under another one nothing opens.
        ephemeral: for vectors alone; by default a fresh one.

    Raises:
        FormatError: not a usable X25519 public key.
    """
    sender = ephemeral or X25519PrivateKey.generate()
    try:
        shared = sender.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as err:  # wrong length, or of small order (section 7.1.4)
        raise FormatError("HPKE public key: not a usable X25519 key of 32 bytes") from err
    encapsulated = sender.public_key().public_bytes_raw()
    return _context(shared, encapsulated=encapsulated, public=public, info=info)


def decapsulate(
    private: X25519PrivateKey, encapsulated: bytes, *, public: bytes, info: bytes
) -> HpkeContext:
    """Return the receiver's context (SetupBaseR, section 5.1.1).

    Args:
        private: the receiver's key.
        encapsulated: from the sender, 32 bytes, untrusted.
        public: that of `private`, raw.
        info: as the sender's.

    Raises:
        AuthenticationFailed: `encapsulated` is no usable X25519 key.
    """
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    except ValueError as err:
        raise AuthenticationFailed("HPKE: the encapsulated key is not usable") from err
    return _context(shared, encapsulated=encapsulated, public=public, info=info)


def _context(shared: bytes, *, encapsulated: bytes, public: bytes, info: bytes) -> HpkeContext:
    """Return the context of a Diffie-Hellman result (sections 4.1 and 5.1)."""
    prk = _labelled_extract(_KEM_SUITE, b"", b"eae_prk", shared)
    secret = _labelled_expand(_KEM_SUITE, prk, b"shared_secret", encapsulated + public, KEY_BYTES)
    return key_schedule(secret, encapsulated=encapsulated, info=info)


def key_schedule(
    shared_secret: bytes, *, encapsulated: bytes, info: bytes, aead: Aead = AES_256_GCM
) -> HpkeContext:
    """Return the context that `shared_secret` of the KEM yields (section 5.1, mode_base)."""
    suite = b"HPKE\x00\x20\x00\x01" + aead.number.to_bytes(2, "big")
    about = (
        _BASE_MODE
        + _labelled_extract(suite, b"", b"psk_id_hash", b"")
        + _labelled_extract(suite, b"", b"info_hash", info)
    )
    secret = _labelled_extract(suite, shared_secret, b"secret", b"")
    return HpkeContext(
        encapsulated=encapsulated,
        _key=_labelled_expand(suite, secret, b"key", about, aead.key_bytes),
        _nonce=_labelled_expand(suite, secret, b"base_nonce", about, _NONCE_BYTES),
        _exporter=Secret(_labelled_expand(suite, secret, b"exp", about, _EXPORTER_BYTES)),
        _suite=suite,
    )


def _labelled_extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    """Return LabeledExtract of section 4; the label makes the input longer than 16 bytes."""
    return extract(Secret(_VERSION + suite + label + material), salt=salt)


def _labelled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """Return LabeledExpand of section 4."""
    return expand(key, length.to_bytes(2, "big") + _VERSION + suite + label + info, length=length)
