"""Files that a reader sees whole, the old content or the new; and files for one user alone."""

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

from wardian.errors import ConfigError

MAX_PRIVATE_BYTES: Final = 1024 * 1024
_HAS_MODES: Final = os.name == "posix"

_NO_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems say that know no sync of a directory; Gramine's are among them."""


def replace_file(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Write `content` to `path` at once, for this user alone: a reader sees the old or the new.

    Args:
        path: of the file.
        content: all of it.
        sync: whether the content is on the disk before it has its name; see `sync_directory`.
    """
    descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Return when the names in the directory `path` are on the disk, where a system can do that.

    Raises:
        OSError: the disk failed.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as err:
        if err.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def open_regular(path: Path, *, buffering: int = -1) -> BinaryIO:
    """Return the regular file `path`, opened to read. A pipe or a device would be waited for.

    Args:
        path: of the file.
        buffering: as `open` has it; 0 for none.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file: BinaryIO = open(  # noqa: SIM115  returned
        path, "rb", buffering, opener=lambda name, _: os.open(name, flags)
    )
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return file


def read_private(path: Path, *, limit_bytes: int = MAX_PRIVATE_BYTES) -> bytes:
    """Return the bytes of the file `path`, which holds a secret: it is for its user alone.

    Args:
        path: a file, or a pipe, which is read to its end (`/dev/stdin` too).
        limit_bytes: the most that it may hold.

    Raises:
        ConfigError: it cannot be read, holds more, or is open to others.
    """
    try:
        with path.open("rb") as file:
            refuse_shared(path, os.fstat(file.fileno()))
            raw = file.read(limit_bytes + 1)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}") from err
    if len(raw) > limit_bytes:
        raise ConfigError(f"{path}: larger than {limit_bytes:,} bytes")
    return raw


def refuse_shared(path: Path, status: os.stat_result) -> None:
    """Return if the file `path`, which has `status`, is for its user alone, as `ssh` demands.

    What is no regular file, a pipe for example, keeps nothing that somebody could read later.

    Raises:
        ConfigError: its group, or others, can read, change or execute it.
    """
    mode = stat.S_IMODE(status.st_mode)
    if _HAS_MODES and stat.S_ISREG(status.st_mode) and mode & 0o077:
        raise ConfigError(
            f"{path}: other users can read or change it (mode {mode:04o}); run chmod 600 on it"
        )
