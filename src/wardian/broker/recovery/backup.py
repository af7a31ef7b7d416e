"""A backup of a broker's state: one file, ciphertext, the same from a running and a stopped broker.

     0  8  magic, "WRDNBACK"
     8     frames: a length (u32, big endian), then that many bytes
           first the header, JSON; then the pieces of the state (`state.snapshot`)

What lies in it opens with the key that is sealed to the broker's own measurement and platform, or
by enough owners with the recovery package. It holds nothing that its host did not have. Whether it
is the newest, the counter or the owners say when it is started.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated, Final

import msgspec

from wardian._internal import wire
from wardian._internal.files import replace_file, sync_directory
from wardian.broker.recovery.package import RecoveryPackage
from wardian.broker.state.database import Database
from wardian.broker.state.snapshot import MAX_PIECE_BYTES, Incoming, remove_state, take_snapshot
from wardian.errors import ConfigError, FormatError

MAGIC: Final = b"WRDNBACK"
MAX_KEY_BYTES: Final = 64 * 1024
_LENGTH: Final = struct.Struct(">I")


class BackupHeader(wire.Message, frozen=True, tag_field="format", tag="wardian broker backup v1"):
    """What lies beside the state."""

    sealed_key: Annotated[bytes, msgspec.Meta(max_length=MAX_KEY_BYTES)]
    """The key of the state, sealed to the broker that keeps it; empty where it was not found."""
    package: RecoveryPackage | None
    """By which owners open it; None where they gave no recovery keys, or too few."""


class BackupRequest(wire.Message, frozen=True, tag_field="format", tag="wardian backup request v1"):
    """Ask a running broker for a backup; it answers with the frames of the file."""


def key_path(path: Path) -> Path:
    """Return where the sealed key of the state at `path` lies."""
    return path.with_suffix(".master")


def package_path(path: Path) -> Path:
    """Return where the recovery package of the state at `path` lies."""
    return path.with_suffix(".recovery")


def read_package(path: Path) -> RecoveryPackage | None:
    """Return the recovery package beside the state at `path`; None if there is none.

    Raises:
        ConfigError: what lies there is none.
    """
    place = package_path(path)
    try:
        raw = place.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as err:
        raise ConfigError(f"{place}: cannot be read: {err.strerror}") from err
    try:
        return wire.decode(raw, RecoveryPackage, what="recovery package")
    except FormatError as err:
        raise ConfigError(f"{place}: {err}") from err


def read_sealed_key(path: Path) -> bytes:
    """Return the sealed key of the state at `path`, empty if it is not there.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return key_path(path).read_bytes()[:MAX_KEY_BYTES]
    except FileNotFoundError:
        return b""
    except OSError as err:
        raise ConfigError(f"{key_path(path)}: cannot be read: {err.strerror}") from err


def write_backup(target: Path, frames: Iterable[bytes]) -> int:
    """Write `frames` to the new file `target`, whole or not at all; return its size in bytes.

    Raises:
        ConfigError: it is there already, or cannot be written.
    """
    scratch = target.with_name(f".{target.name}.part")
    try:
        if target.exists():
            raise ConfigError(f"{target}: is there already; it is never overwritten")
        with open(scratch, "wb", opener=_private) as file:
            file.write(MAGIC)
            file.writelines(_LENGTH.pack(len(frame)) + frame for frame in frames)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        scratch.rename(target)
        sync_directory(target.parent)
    except OSError as err:
        raise ConfigError(f"{target}: cannot be written: {err.strerror}") from err
    finally:
        scratch.unlink(missing_ok=True)
    return size


def back_up_files(path: Path) -> Iterator[bytes]:
    """Return the frames of a backup of the state at `path`, whose broker is stopped.

    Raises:
        ConfigError: the broker runs, or a file cannot be read.
        SealError: there is no state, or it is damaged.
    """
    header = BackupHeader(sealed_key=read_sealed_key(path), package=read_package(path))
    if not path.exists():
        raise ConfigError(f"{path}: there is no broker's state here")
    database = Database(path)
    try:
        _, pieces = take_snapshot(database)
        yield wire.encode(header)
        yield from pieces
    finally:
        database.close()


def restore_files(source: Path, path: Path) -> BackupHeader:
    """Put the backup in `source` in the place of the state at `path`, where nothing is yet.

    Whether it is the newest is decided at the broker's start.

    Raises:
        ConfigError: something is there already, or a file cannot be read or written.
        FormatError: `source` is no whole backup.
        SealError: the pieces in it do not fit together.
    """
    if path.exists():
        raise _is_there(path)
    scratch = path.with_name(f"{path.name}.incoming")
    try:
        with source.open("rb") as file:
            frames = _frames(file)
            header = wire.decode(next(frames), BackupHeader, what="broker backup")
            beside = _beside(path, header)
            _take(frames, scratch)
        for place, content in beside.items():
            replace_file(place, content, sync=True)
        scratch.rename(path)
        sync_directory(path.parent)
    except OSError as err:
        raise ConfigError(f"{err.filename or source}: {err.strerror}") from err
    finally:
        remove_state(scratch)
    return header


def _beside(path: Path, header: BackupHeader) -> dict[Path, bytes]:
    """Return what has to be written beside the state at `path`.

    A restore that was cut off may have written it: then it is what the backup holds.

    Raises:
        ConfigError: something else is there already.
    """
    package = b"" if header.package is None else wire.encode(header.package)
    beside = {package_path(path): package, key_path(path): header.sealed_key}
    for place, content in beside.items():
        if place.exists() and place.read_bytes() != content:
            raise _is_there(place)
    return {place: content for place, content in beside.items() if content}


def _is_there(place: Path) -> ConfigError:
    return ConfigError(
        f"{place}: is there already; a restore overwrites nothing. Move the broker's files away "
        "first"
    )


def _take(frames: Iterator[bytes], scratch: Path) -> None:
    """Write all pieces to `scratch`; the last one ends the file."""
    incoming = Incoming(scratch)
    try:
        for frame in frames:
            incoming.take(frame)
        if not incoming.done:
            raise FormatError("broker backup: it ends before the state does")
    finally:
        incoming.close()


def _frames(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the frames of a backup file, each of bounded size."""
    if file.read(len(MAGIC)) != MAGIC:
        raise FormatError("broker backup: not a backup of a broker")
    read = 0
    while head := file.read(_LENGTH.size):
        length = int.from_bytes(head, "big")
        frame = file.read(length) if 0 < length <= MAX_PIECE_BYTES else b""
        if len(head) != _LENGTH.size or not frame or len(frame) != length:
            raise FormatError("broker backup: cut short, or altered")
        read += 1
        yield frame
    if read == 0:
        raise FormatError("broker backup: empty")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
