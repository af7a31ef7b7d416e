"""Files that a reader sees whole: the old content or the new."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

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
