"""HKDF with SHA-256 (RFC 5869): from one key, any number of independent ones."""

import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError

HASH_BYTES = 32
MAX_OUTPUT_BYTES = 255 * HASH_BYTES  # RFC 5869, section 2.3


def hkdf(key: Secret, *, salt: bytes, info: bytes, length: int = 32) -> Secret:
    """Return `length` bytes derived from `key` for the use that `info` names.

    Args:
        key: input keying material, at least 16 bytes, of full entropy (not a passphrase).
        salt: public; random or a digest. Empty means 32 zero bytes (section 2.2).
        info: names the use; two uses never share it. Build it with `wire.fields` where it has
            parts, so that no two lists of parts are the same bytes.
        length: 1 to 8160 bytes.

    Raises:
        LocalProtocolError: a short key or a length out of range.
    """
    return Secret(expand(extract(key, salt=salt), info, length=length))


def extract(key: Secret, *, salt: bytes) -> bytes:
    """Return the pseudorandom key (32 bytes) of RFC 5869, section 2.2. As secret as `key`."""
    if len(key) < 16:
        raise LocalProtocolError(f"a key of {len(key)} bytes is too short to derive from")
    return hmac.digest(salt or bytes(HASH_BYTES), key.reveal(), "sha256")


def expand(pseudorandom_key: bytes, info: bytes, *, length: int = 32) -> bytes:
    """Return the output keying material of RFC 5869, section 2.3.

    One HMAC per 32 bytes.
    """
    if not 1 <= length <= MAX_OUTPUT_BYTES:
        raise LocalProtocolError(f"HKDF gives 1 to {MAX_OUTPUT_BYTES} bytes")
    block = out = hmac.digest(pseudorandom_key, info + b"\x01", "sha256")
    for counter in range(2, -(-length // HASH_BYTES) + 1):
        block = hmac.digest(pseudorandom_key, block + info + bytes((counter,)), "sha256")
        out += block
    return out[:length]


class Expander:
    """`expand` from one pseudorandom key, again and again: what depends on the key alone is kept.

    OpenSSL cleanses that when this object goes.
    """

    __slots__ = ("_mac",)

    def __init__(self, pseudorandom_key: bytes) -> None:
        """Expand from `pseudorandom_key`."""
        self._mac = HMAC(pseudorandom_key, SHA256())

    def key(self, info: bytes) -> bytes:
        """Return `expand(pseudorandom_key, info)`, 32 bytes."""
        mac = self._mac.copy()
        mac.update(info + b"\x01")
        return mac.finalize()
