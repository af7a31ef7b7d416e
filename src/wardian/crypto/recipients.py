"""Who can open a sealed file: a broker's key, an HPKE key, a passphrase.

A `Recipient` wraps the file key into a stanza; an `Identity` unwraps the stanzas that are its own.
An unwrapped key is a candidate: only the MAC of the header proves that it is the file's.
"""

import hashlib
import secrets
from typing import Protocol

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from typing_extensions import override

from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.kdf import hkdf
from wardian.crypto.sealed_header import (
    MAX_SCRYPT_LOG2,
    MIN_SCRYPT_LOG2,
    Stanza,
    StanzaKind,
)
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, LocalProtocolError

FILE_KEY_BYTES = 32
KEY_ID_BYTES = 16
SALT_BYTES = 16
DEFAULT_SCRYPT_LOG2 = 17  # 128 MiB and about half a second

_KEY_ID_LABEL = b"wardian broker key id v1\x00"
_BROKER_INFO = b"wardian sealed-file v1 broker key"
_HPKE_INFO = b"wardian sealed-file v1 hpke"
_SCRYPT_LABEL = b"wardian sealed-file v1 passphrase\x00"


class Recipient(Protocol):
    """Whoever a file is sealed to."""

    def wrap(self, file_key: Secret) -> Stanza:
        """Return `file_key` (32 bytes) wrapped for this recipient."""


class Identity(Protocol):
    """Whoever opens a file."""

    def unwrap(self, stanza: Stanza) -> Secret | None:
        """Return the file key if `stanza` is for this identity, else None."""


class BrokerKey:
    """A key of 32 bytes that an owner gives to the key broker; recipient and identity at once."""

    __slots__ = ("_wrapping_key", "key", "key_id")

    def __init__(self, key: Secret) -> None:
        """Use `key`, 32 bytes of full entropy.

        Raises:
            LocalProtocolError: not 32 bytes.
        """
        if len(key) != FILE_KEY_BYTES:
            raise LocalProtocolError("a broker key has 32 bytes")
        self.key = key
        self.key_id = hashlib.sha256(_KEY_ID_LABEL + key.reveal()).digest()[:KEY_ID_BYTES]
        self._wrapping_key = hkdf(key, salt=b"", info=_BROKER_INFO)

    @override
    def __repr__(self) -> str:
        return f"BrokerKey({self.key_id.hex()})"

    def wrap(self, file_key: Secret) -> Stanza:
        """Return key id (16 bytes) and `file_key` under AES-256-KW (RFC 3394, 40 bytes)."""
        wrapped = aes_key_wrap(self._wrapping_key.reveal(), file_key.reveal())
        return Stanza(kind=StanzaKind.BROKER_KEY, body=self.key_id + wrapped)

    def unwrap(self, stanza: Stanza) -> Secret | None:
        """Return the file key if `stanza` carries this key's id and unwraps."""
        if stanza.kind is not StanzaKind.BROKER_KEY or stanza.body[:KEY_ID_BYTES] != self.key_id:
            return None
        return _unwrap(self._wrapping_key, stanza.body[KEY_ID_BYTES:])


class HpkeRecipient:
    """The holder of an X25519 key. The stanza does not tell whose."""

    __slots__ = ("_public",)

    def __init__(self, public: bytes) -> None:
        """Seal to `public`, 32 raw bytes."""
        self._public = public

    def wrap(self, file_key: Secret) -> Stanza:
        """Return `file_key` sealed with HPKE, 80 bytes.

        Raises:
            FormatError: the public key is not a usable X25519 key.
        """
        sealed = hpke_seal(self._public, file_key.reveal(), info=_HPKE_INFO)
        return Stanza(kind=StanzaKind.HPKE, body=sealed)


class HpkeIdentity:
    """An X25519 private key. Tries each HPKE stanza, since none says for whom it is."""

    __slots__ = ("_private",)

    def __init__(self, private: HpkePrivateKey) -> None:
        """Open with `private`."""
        self._private = private

    def unwrap(self, stanza: Stanza) -> Secret | None:
        """Return the file key if `stanza` was sealed to this key."""
        if stanza.kind is not StanzaKind.HPKE:
            return None
        try:
            return Secret(self._private.open(stanza.body, info=_HPKE_INFO))
        except AuthenticationFailed:
            return None  # another recipient's


class PassphraseRecipient:
    """Whoever knows a passphrase. Guesses cost scrypt with N = 2**log2_n, r = 8, p = 1."""

    __slots__ = ("_log2_n", "_passphrase")

    def __init__(self, passphrase: Secret, *, log2_n: int = DEFAULT_SCRYPT_LOG2) -> None:
        """Seal to `passphrase`, taken byte for byte.

        Args:
            passphrase: as typed, UTF-8; the caller has normalised it if it wants that.
            log2_n: work factor, 15 to 20; memory is 2**log2_n KiB.

        Raises:
            LocalProtocolError: the work factor is out of range.
        """
        if not MIN_SCRYPT_LOG2 <= log2_n <= MAX_SCRYPT_LOG2:
            raise LocalProtocolError(f"scrypt: log2_n is {MIN_SCRYPT_LOG2} to {MAX_SCRYPT_LOG2}")
        self._passphrase = passphrase
        self._log2_n = log2_n

    def wrap(self, file_key: Secret) -> Stanza:
        """Return salt (16 bytes), log2 of N (1 byte), `file_key` under AES-256-KW (40 bytes)."""
        salt = secrets.token_bytes(SALT_BYTES)
        key = _stretch(self._passphrase, salt, self._log2_n)
        wrapped = aes_key_wrap(key.reveal(), file_key.reveal())
        return Stanza(kind=StanzaKind.PASSPHRASE, body=salt + bytes((self._log2_n,)) + wrapped)


class PassphraseIdentity:
    """Opens with a passphrase. The work that a stanza asks for was bounded when it was parsed."""

    __slots__ = ("_passphrase",)

    def __init__(self, passphrase: Secret) -> None:
        """Open with `passphrase`, taken byte for byte."""
        self._passphrase = passphrase

    def unwrap(self, stanza: Stanza) -> Secret | None:
        """Return the file key if `stanza` was made with this passphrase."""
        if stanza.kind is not StanzaKind.PASSPHRASE:
            return None
        salt, log2_n = stanza.body[:SALT_BYTES], stanza.body[SALT_BYTES]
        return _unwrap(_stretch(self._passphrase, salt, log2_n), stanza.body[SALT_BYTES + 1 :])


def _stretch(passphrase: Secret, salt: bytes, log2_n: int) -> Secret:
    """Return the 32-byte key of scrypt (RFC 7914) for `passphrase`."""
    scrypt = Scrypt(salt=_SCRYPT_LABEL + salt, length=32, n=1 << log2_n, r=8, p=1)
    return Secret(scrypt.derive(passphrase.reveal()))


def _unwrap(key: Secret, wrapped: bytes) -> Secret | None:
    try:
        return Secret(aes_key_unwrap(key.reveal(), wrapped))
    except InvalidUnwrap:
        return None  # another key's, or damaged: the caller says that nobody opens it
