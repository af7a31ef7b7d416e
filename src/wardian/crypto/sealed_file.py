"""Sealed files on disk: the module to import for sealing and opening (see `sealed_stream`)."""

import contextlib
import errno
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from wardian.crypto.aead_stream import TAG_BYTES, read_exactly
from wardian.crypto.recipients import Identity, Recipient
from wardian.crypto.sealed_header import Pin, SealedHeader
from wardian.crypto.sealed_stream import (
    DEFAULT_CHUNK_BYTES,
    Progress,
    open_bytes,
    open_chunk,
    open_stream,
    payload_cipher,
    read_header,
    read_pinned,
    seal_stream,
    unwrap_file_key,
)
from wardian.errors import ConfigError, FormatError, LocalProtocolError

__all__ = [
    "DEFAULT_CHUNK_BYTES",
    "Pin",
    "Progress",
    "SealedHeader",
    "SealedReader",
    "open_bytes",
    "open_file",
    "open_stream",
    "read_header",
    "save_sealed",
    "seal_file",
    "seal_stream",
]


def seal_file(
    source: Path,
    target: Path,
    *,
    recipients: Sequence[Recipient],
    media_type: str,
    name: str,
    version: int,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    progress: Progress | None = None,
) -> Pin:
    """Leave the sealed form of the file `source` at `target`, and return the pin that names it.

    `target` appears whole or not at all: it is written under another name in its directory,
    brought to the disk and renamed. What was there before is replaced. Its mode is 0600.

    Raises:
        ConfigError: a file cannot be read or written, the disk is full, or `source` changes
            meanwhile.
        FormatError: a field is out of its range; see `seal_stream`.
    """
    with _reading(source) as (clear, length):
        return save_sealed(
            clear,
            target,
            total_bytes=length,
            recipients=recipients,
            media_type=media_type,
            name=name,
            version=version,
            chunk_bytes=chunk_bytes,
            progress=progress,
        )


def save_sealed(
    source: BinaryIO,
    target: Path,
    *,
    total_bytes: int,
    recipients: Sequence[Recipient],
    media_type: str,
    name: str,
    version: int,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    progress: Progress | None = None,
) -> Pin:
    """Leave the sealed form of `source`, which is no file, at `target`, as `seal_file` does.

    What `source` raises, also at its end, leaves nothing at `target`.

    Raises:
        ConfigError, FormatError: as `seal_file`; `source` does not give `total_bytes`.
    """
    with _replacing(target, total_bytes) as sealed:
        return seal_stream(
            source,
            sealed,
            total_bytes=total_bytes,
            recipients=recipients,
            media_type=media_type,
            name=name,
            version=version,
            chunk_bytes=chunk_bytes,
            progress=progress,
        )


def open_file(
    source: Path,
    target: Path,
    *,
    identities: Sequence[Identity],
    pin: Pin,
    media_type: str,
    name: str,
    version: int,
    progress: Progress | None = None,
) -> SealedHeader:
    """Leave the plaintext of the sealed file `source` at `target`, and return the header.

    For the owner's own machine: the plaintext is on its disk (mode 0600). `target` appears once
    every byte was found authentic, or not at all.

    Raises:
        ConfigError: a file cannot be read or written, or the disk is full.
        FormatError, AuthenticationFailed, WrongRecipient, UnsupportedAlgorithm: see `open_stream`.
    """
    with _reading(source) as (sealed, length), _replacing(target, length) as clear:
        return open_stream(
            sealed,
            clear,
            identities=identities,
            pin=pin,
            media_type=media_type,
            name=name,
            version=version,
            progress=progress,
        )


class SealedReader:
    """Reads any part of a sealed file, chunk by chunk, each authenticated when it is read.

    On opening, the length of the file and its last chunk are verified against the pin, so that a
    file cut short or grown is refused before the first read.
    """

    __slots__ = ("_chunk", "_cipher", "_header", "_held", "_sealed", "_source")

    def __init__(
        self,
        source: BinaryIO,
        *,
        identities: Sequence[Identity],
        pin: Pin,
        media_type: str,
        name: str,
        version: int,
    ) -> None:
        """Open `source`, which must be seekable and is used by this reader alone.

        Raises:
            FormatError, AuthenticationFailed, WrongRecipient, UnsupportedAlgorithm: see
                `open_stream`.
        """
        source.seek(0)
        header = read_pinned(source, pin=pin, media_type=media_type, name=name, version=version)
        if source.seek(0, io.SEEK_END) != header.sealed_bytes:
            raise FormatError(f"sealed file: not of {header.sealed_bytes} bytes, as it should be")
        self._header = header
        self._cipher = payload_cipher(header, unwrap_file_key(header, identities))
        self._source = source
        self._held: int | None = None  # the chunk whose plaintext is in `_chunk`
        self._chunk = bytearray(min(header.chunk_bytes, header.total_bytes))
        self._sealed = bytearray(min(header.chunk_bytes, header.total_bytes) + TAG_BYTES)
        last = self._cipher.chunks - 1
        source.seek(self._offset(last))
        plaintext = bytearray(self._cipher.plain_bytes(last))
        target = memoryview(plaintext)
        open_chunk(source, self._cipher, last, buffer=self._sealed, target=target, pin=pin)

    @property
    def header(self) -> SealedHeader:
        """The header, which the pin named."""
        return self._header

    def read(self, offset: int, length: int) -> bytearray:
        """Return the plaintext from `offset`, `length` bytes or as many as there are.

        Raises:
            LocalProtocolError: a negative offset or length.
            FormatError, AuthenticationFailed: the file changed since it was opened.
        """
        if offset < 0 or length < 0:
            raise LocalProtocolError("offset and length are not negative")
        out = bytearray(max(0, min(length, self._header.total_bytes - offset)))
        self.read_into(offset, memoryview(out))
        return out

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill `target`, of bytes, with the plaintext from `offset` on; return how many there are.

        A chunk that `target` has room for is opened right there; the one that was last opened in
        part is kept, so that whoever reads on in it does not open it anew.

        Raises:
            LocalProtocolError: a negative offset.
            FormatError, AuthenticationFailed: the file changed since it was opened; what is in
                `target` is then no plaintext.
        """
        if offset < 0:
            raise LocalProtocolError("offset and length are not negative")
        end = min(offset + len(target), self._header.total_bytes)
        at = offset
        while at < end:
            index, skip = divmod(at, self._header.chunk_bytes)
            plain = self._cipher.plain_bytes(index)
            into = target[at - offset : at - offset + plain]
            if skip == 0 and end - at >= plain:
                self._open_chunk(index, into)
                at += plain
                continue
            if self._held != index:
                self._held = None
                self._open_chunk(index, memoryview(self._chunk)[:plain])
                self._held = index
            piece = min(plain - skip, end - at)
            into[:piece] = memoryview(self._chunk)[skip : skip + piece]
            at += piece
        return max(0, end - offset)

    def _open_chunk(self, index: int, target: memoryview) -> None:
        sealed = memoryview(self._sealed)[: len(target) + TAG_BYTES]
        self._source.seek(self._offset(index))
        read_exactly(self._source, sealed, what="chunks")
        self._cipher.open(index, sealed, target)

    def _offset(self, index: int) -> int:
        return self._header.header_bytes + index * (self._header.chunk_bytes + TAG_BYTES)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Yield the file `path`, unbuffered so that chunks land in their buffers, and its length."""
    try:
        file = path.open("rb", buffering=0)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}") from err
    with file:
        yield file, os.fstat(file.fileno()).st_size


@contextlib.contextmanager
def _replacing(path: Path, length: int) -> Iterator[BinaryIO]:
    """Yield a file that becomes `path` when the block ends well, and vanishes when it does not.

    `length` is about what will be written, for the message about a full disk.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=".wardian-", suffix=".part", dir=path.parent)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written: {err.strerror}") from err
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a rename must not reach the disk before the bytes do
        part.replace(path)
        _sync_directory(path.parent)
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ConfigError(f"{path}: no space left; it needs about {length} bytes") from err
        raise ConfigError(f"{path}: cannot be completed: {err.strerror}") from err
    finally:
        part.unlink(missing_ok=True)  # is there only if something failed


def _sync_directory(path: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a directory cannot be opened
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
