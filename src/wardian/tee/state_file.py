"""The steps by which a file on the host's disk is replaced: a crash leaves the old or the new.

`Disk` is a seam so that tests can stop between any two steps and lose what was not yet on the disk.
"""

import contextlib
import os
from pathlib import Path
from typing import Final, Protocol

from typing_extensions import override

from wardian.errors import SealError

_READ_BYTES: Final = 1024**2


class Disk(Protocol):
    """Where files lie. Every method raises OSError where the disk refuses."""

    def read(self, path: Path, *, most: int) -> bytes | None:
        """Return the content of `path`, cut after `most` bytes; None if there is no such file."""

    def create(self, path: Path) -> int:
        """Return a descriptor of the empty file `path`, which its owner alone may read."""

    def write(self, descriptor: int, content: bytes) -> None:
        """Write the whole of `content`."""

    def sync(self, descriptor: int) -> None:
        """Return when what was written is on the disk."""

    def close(self, descriptor: int) -> None:
        """Give the descriptor back."""

    def rename(self, old: Path, new: Path) -> None:
        """Let `new` name the file `old`, and no other, at once."""

    def sync_directory(self, directory: Path) -> None:
        """Return when the names in `directory` are on the disk."""

    def remove(self, path: Path) -> None:
        """Remove `path`."""


class HostDisk(Disk):
    """The disk of the host.

    Under Gramine syncing a directory does nothing (`libos_syscall_fsync`): after a power cut a
    renaming may be undone although it was synced. `sealed_state` looks for that.
    """

    @override
    def read(self, path: Path, *, most: int) -> bytes | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        content = bytearray()
        try:
            while part := os.read(descriptor, min(_READ_BYTES, most - len(content))):
                content += part
        finally:
            os.close(descriptor)
        return bytes(content)

    @override
    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    @override
    def write(self, descriptor: int, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    @override
    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    @override
    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    @override
    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    @override
    def sync_directory(self, directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @override
    def remove(self, path: Path) -> None:
        path.unlink()


HOST_DISK: Final = HostDisk()


def fresh_name(path: Path) -> Path:
    """Return where `replace` writes first, beside `path`."""
    return path.with_name(f"{path.name}.new")


def load(disk: Disk, path: Path, *, most: int) -> bytes | None:
    """Return the content of `path`, or None if there is no such file.

    Raises:
        SealError: it is longer than `most` bytes, or cannot be read.
    """
    try:
        content = disk.read(path, most=most + 1)
    except OSError as err:
        raise SealError(f"{path}: the state cannot be read: {err.strerror}") from err
    if content is not None and len(content) > most:
        raise SealError(f"{path}: more than {most} bytes, which no state has")
    return content


def replace(disk: Disk, path: Path, content: bytes) -> None:
    """Write `content` to `path`, on the disk when this returns.

    If it raises, `path` has its old content, or the new one that may still vanish.

    Raises:
        SealError: the disk refuses.
    """
    fresh = fresh_name(path)
    try:
        descriptor = disk.create(fresh)
        try:
            disk.write(descriptor, content)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        disk.rename(fresh, path)
        disk.sync_directory(path.parent)
    except OSError as err:
        with contextlib.suppress(OSError):  # a full disk wants its room back
            disk.remove(fresh)
        raise SealError(f"{path}: the state cannot be written: {err.strerror}") from err


def finish(disk: Disk, path: Path) -> None:
    """Carry out the last steps of a `replace` that wrote its content and was stopped.

    Raises:
        SealError: the disk refuses.
    """
    try:
        disk.rename(fresh_name(path), path)
        disk.sync_directory(path.parent)
    except OSError as err:
        raise SealError(f"{path}: the state cannot be put in place: {err.strerror}") from err
