"""API keys: 32 random bytes in a spelling that a person, and a scanner for leaked keys, knows.

    wardian_key_ and 48 characters of base64url (RFC 4648, section 5): 32 bytes of the key, then the
    first 4 bytes of SHA-256 over "wardian api key checksum v1" and the key

The checksum finds slips of the hand where the key is read from its file; it protects nothing. A
front end never reads it: it looks the SHA-256 of the whole text up, so that there is one spelling,
no parser for what strangers send, and no comparison whose time tells how far a guess was right.
"""

import base64
import binascii
import hashlib
from typing import Final

from wardian.crypto.secret import Secret
from wardian.errors import FormatError

PREFIX: Final = b"wardian_key_"
KEY_BYTES: Final = 32
TEXT_BYTES: Final = 60
_CHECKSUM_BYTES: Final = 4
_CHECKSUM_LABEL: Final = b"wardian api key checksum v1"


def generate_api_key() -> Secret:
    """Return the text of a fresh key, 60 bytes of ASCII."""
    return encode_api_key(Secret.random(KEY_BYTES))


def encode_api_key(key: Secret) -> Secret:
    """Return the text of `key`, which has 32 bytes.

    Raises:
        FormatError: it has another length.
    """
    if len(key) != KEY_BYTES:
        raise FormatError("API key: 32 bytes are needed")
    raw = key.reveal()
    return Secret(PREFIX + base64.urlsafe_b64encode(raw + _checksum(raw)))


def parse_api_key(text: Secret) -> Secret:
    """Return `text`, which is an API key as `encode_api_key` writes it.

    Args:
        text: as a person stored it: white space around it is not part of it.

    Raises:
        FormatError: it is none, or a character of it is wrong.
    """
    stripped = text.reveal().strip()
    if len(stripped) != TEXT_BYTES or not stripped.startswith(PREFIX):
        raise FormatError("API key: not a key of `wardian tenants key`")
    try:
        raw = base64.b64decode(stripped[len(PREFIX) :], altchars=b"-_", validate=True)
    except binascii.Error as err:
        raise FormatError("API key: not a key of `wardian tenants key`") from err
    if _checksum(raw[:KEY_BYTES]) != raw[KEY_BYTES:]:
        raise FormatError("API key: its checksum is wrong; a character was lost or changed")
    return Secret(stripped)


def api_key_digest(text: bytes) -> bytes:
    """Return what a tenants list has of the key with this text: SHA-256, 32 bytes."""
    return hashlib.sha256(text).digest()


def _checksum(raw: bytes) -> bytes:
    return hashlib.sha256(_CHECKSUM_LABEL + raw).digest()[:_CHECKSUM_BYTES]
