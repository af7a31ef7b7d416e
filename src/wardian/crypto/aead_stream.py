"""STREAM over AES-256-GCM: any amount of data in chunks of which none can be moved or left out.

Each chunk is sealed alone, under one key, with the nonce `counter (11 bytes, big-endian) || last`,
where `last` is 1 for the last chunk and 0 for every other (Hoang, Reyhanitabar, Rogaway and Vizár,
"Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015, section 7).
A chunk in another place, a chunk behind the last one, or an end before it: all fail to decrypt.

The key must be fresh for each stream, since counters start at zero; `sealed_file` derives it from
a random file key and the digest of the header.
"""

from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError

TAG_BYTES = 16
KEY_BYTES = 32


def count_chunks(total_bytes: int, chunk_bytes: int) -> int:
    """Return how many chunks hold `total_bytes`: at least one, which is then empty."""
    return max(1, -(-total_bytes // chunk_bytes))


class ChunkCipher:
    """Seals and opens the chunks of one stream, whose shape (length, chunk size) is fixed.

    The caller names a chunk by its index; the cipher knows which is the last and how long each is.
    """

    __slots__ = ("_aead", "_associated", "chunk_bytes", "chunks", "total_bytes")

    def __init__(
        self, key: Secret, *, associated: bytes, total_bytes: int, chunk_bytes: int
    ) -> None:
        """Prepare a stream of `total_bytes` in chunks of `chunk_bytes`.

        Args:
            key: 32 bytes, of this stream alone.
            associated: authenticated with every chunk.
            total_bytes: length of the plaintext.
            chunk_bytes: plaintext bytes in each chunk but the last.
        """
        if len(key) != KEY_BYTES:
            raise LocalProtocolError("a stream key has 32 bytes")
        self._aead = AESGCM(key.reveal())
        self._associated = associated
        self.total_bytes = total_bytes
        self.chunk_bytes = chunk_bytes
        self.chunks = count_chunks(total_bytes, chunk_bytes)

    def plain_bytes(self, index: int) -> int:
        """Return the plaintext length of chunk `index`."""
        if index < self.chunks - 1:
            return self.chunk_bytes
        return self.total_bytes - index * self.chunk_bytes

    def seal(self, index: int, plaintext: memoryview, target: memoryview) -> None:
        """Fill `target` with chunk `index`: ciphertext, then its tag.

        Args:
            index: each index is sealed once.
            plaintext: `plain_bytes(index)` bytes.
            target: 16 bytes more.
        """
        self._aead.encrypt_into(self._nonce(index), plaintext, self._associated, target)

    def open(self, index: int, sealed: memoryview, target: memoryview | bytearray) -> None:
        """Fill `target` with the plaintext of chunk `index`.

        Args:
            index: the place at which `sealed` was found.
            sealed: `plain_bytes(index) + 16` bytes, untrusted, not changing meanwhile.
            target: `plain_bytes(index)` bytes; its content after an error is not plaintext.

        Raises:
            AuthenticationFailed: not this chunk of this stream.
        """
        try:
            self._aead.decrypt_into(self._nonce(index), sealed, self._associated, target)
        except InvalidTag as err:
            raise AuthenticationFailed(
                f"sealed file: chunk {index} is not what was sealed there"
            ) from err

    def _nonce(self, index: int) -> bytes:
        if not 0 <= index < self.chunks:
            raise LocalProtocolError(f"chunk {index} of {self.chunks}")
        return index.to_bytes(11, "big") + (b"\x01" if index == self.chunks - 1 else b"\x00")


def read_exactly(source: BinaryIO, target: bytearray | memoryview, *, what: str) -> None:
    """Fill `target` from `source`, whatever pieces it comes in.

    Raises:
        FormatError: `source` ends first.
    """
    view = memoryview(target)
    readinto = getattr(source, "readinto", None)
    while view:
        if readinto is not None:
            count = readinto(view)
        else:
            piece = source.read(len(view))
            count = len(piece)
            view[:count] = piece
        if not count:
            raise FormatError(f"sealed file: ends within its {what}")
        view = view[count:]
