"""A stream of bytes that look random to everybody who has not its key: ChaCha20 (RFC 8439).

Who has the key gets the same stream again, on every machine: so what was drawn from it can be drawn
once more after a crash, and no sooner foreseen than a key can be guessed.
"""

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError

KEY_BYTES: Final = 32
MAX_BYTES: Final = 2**38
"""Of one stream: the counter counts 2**32 blocks of 64 bytes (RFC 8439, section 2.3)."""
_NONCE: Final = bytes(16)  # a key has one stream, which begins at block 0


class Keystream:
    """The stream of one key, read once from its beginning."""

    __slots__ = ("_cipher", "_left")

    def __init__(self, key: Secret) -> None:
        """Begin the stream of `key`: 32 bytes, derived for this one stream.

        Raises:
            LocalProtocolError: the key has another length.
        """
        if len(key) != KEY_BYTES:
            raise LocalProtocolError(f"the key of a stream has {KEY_BYTES} bytes")
        self._cipher = Cipher(ChaCha20(key.reveal(), _NONCE), mode=None).encryptor()
        self._left = MAX_BYTES

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes, 0 or more.

        Raises:
            LocalProtocolError: the stream has no more.
        """
        if not 0 <= length <= self._left:
            raise LocalProtocolError("this stream has no more bytes")
        self._left -= length
        return self._cipher.update(bytes(length))
