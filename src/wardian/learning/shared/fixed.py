"""Files that are read as they were when a job asked for its tables, or not at all.

A pin names a file to everybody who lacks its key. Its owner has the key, and could seal other rows
into all chunks but the last, under the same pin. With noise that would be another answer for the
same debit, and the mean of many answers has no noise. So a job looks through its sealed files
before it asks, its debit hangs on what it found (`keeping.JobKeeper.salt`), and reads nothing else.
"""

import hashlib
import io
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from typing_extensions import Buffer, override

from wardian._internal import wire
from wardian._internal.files import open_regular
from wardian.crypto.aead_stream import read_exactly
from wardian.errors import AuthenticationFailed, ConfigError, FormatError

BLOCK_BYTES: Final = 2**20
LABEL: Final = "wardian job content v1"
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file was when it was looked through.

    Attributes:
        size: in bytes.
        blocks: SHA-256 of each block of 1 MiB, the last one shorter, one after the other.
    """

    size: int
    blocks: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of all of it, 32 bytes."""
        size = self.size.to_bytes(8, "big")
        return hashlib.sha256(wire.fields(LABEL, size, self.blocks)).digest()

    def block(self, index: int) -> bytes:
        """Return SHA-256 of block `index`; of one that was not there, nothing."""
        return self.blocks[index * _DIGEST_BYTES :][:_DIGEST_BYTES]


def look_through(path: Path, *, where: str) -> Content:
    """Return what the file `path` is now.

    Args:
        path: of a regular file, untrusted.
        where: what an error calls it.

    Raises:
        ConfigError: it cannot be read.
        FormatError: it is cut short meanwhile.
    """
    blocks, block = bytearray(), memoryview(bytearray(BLOCK_BYTES))
    try:
        with open_regular(path, buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            for begin in range(0, size, BLOCK_BYTES):
                piece = block[: size - begin]
                read_exactly(file, piece, what="content")
                blocks += hashlib.sha256(piece).digest()
    except OSError as err:
        raise ConfigError(f"{where}: cannot be read: {err.strerror}") from err
    except FormatError as err:
        raise FormatError(f"{where}: {err}") from err
    return Content(size=size, blocks=bytes(blocks))


def digest_of(contents: Mapping[str, Content]) -> bytes:
    """Return one digest (32 bytes) of all files of a job, by place."""
    found = ((place.encode(), contents[place].digest) for place in sorted(contents))
    parts = itertools.chain.from_iterable(found)
    return hashlib.sha256(wire.fields(LABEL, *parts)).digest()


class RawReader(io.RawIOBase):
    """A file of `size` bytes that is read from any place: all but what its bytes come of."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._at = size, 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        begin = {io.SEEK_CUR: self._at, io.SEEK_END: self._size}
        self._at = max(0, begin.get(whence, 0) + offset)
        return self._at


class FixedFile(RawReader):
    """A file that has to be as it was. Each block is read once at a time, and found the same."""

    def __init__(self, file: BinaryIO, content: Content) -> None:
        """Read `file`, which is this one's alone, as the `content` says that it was."""
        super().__init__(content.size)
        self._file, self._content = file, content
        self._block, self._held = memoryview(bytearray(BLOCK_BYTES)), -1

    @override
    def close(self) -> None:
        self._file.close()
        super().close()

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` from one block; return how many bytes there are.

        Raises:
            AuthenticationFailed, FormatError: the file changed since it was looked through.
            OSError: it cannot be read.
        """
        index, skip = divmod(self._at, BLOCK_BYTES)
        target = memoryview(buffer).cast("B")
        count = max(0, min(len(target), BLOCK_BYTES - skip, self._size - self._at))
        if count:
            if index != self._held:
                self._take(index)
            target[:count] = self._block[skip : skip + count]
            self._at += count
        return count

    def _take(self, index: int) -> None:
        """Hold block `index`."""
        self._held, begin = -1, index * BLOCK_BYTES
        piece = self._block[: self._size - begin]
        self._file.seek(begin)
        read_exactly(self._file, piece, what="content")
        if hashlib.sha256(piece).digest() != self._content.block(index):
            raise AuthenticationFailed("the sealed file changed since the job looked through it")
        self._held = index
