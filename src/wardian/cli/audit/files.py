"""Files that remember: written whole or not at all, and on the disk before anything follows."""

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

from wardian._internal import wire
from wardian.broker.transparency.heads import SignedHead
from wardian.broker.transparency.memory import NOTHING, AuditMemory, noted
from wardian.errors import AuthenticationFailed, ConfigError, FormatError

if sys.platform != "win32":
    import fcntl

MAX_BYTES: Final = 4 * 1024 * 1024
NO_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems say that know no sync of a directory."""
M = TypeVar("M", bound=wire.Message)


def load_record(path: Path, kind: type[M], *, what: str) -> M | None:
    """Return the record in `path`; None if there is no such file.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}") from err
    try:
        return wire.decode(raw, kind, what=what)
    except FormatError as err:
        raise ConfigError(f"{path}: is no {what}, or was damaged: {err}") from err


def save_record(path: Path, record: wire.Message) -> None:
    """Put `record` in the place of what is in `path`; it is on the disk when this returns.

    Raises:
        ConfigError: it cannot be written; what was there is there still.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(wire.encode(record))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written: {err.strerror}") from err


def load_memory(path: Path | None) -> AuditMemory:
    """Return what `path` remembers of a log: nothing, if there is no file yet.

    Raises:
        ConfigError: it holds something else, or was damaged.
    """
    found = None if path is None else load_record(path, AuditMemory, what="audit memory")
    try:
        _ = (found or NOTHING).chain
    except FormatError as err:
        raise ConfigError(f"{path}: {err}") from err
    return found or NOTHING


def note_head(path: Path, head: SignedHead) -> None:
    """Remember `head`, which was verified under a CA key that evidence binds, in `path`.

    Raises:
        ConfigError: the file cannot be read or written.
        AuthenticationFailed: it contradicts a head that is remembered: the log forked. The head is
            in a file beside `path`.
    """
    with held(path):
        try:
            memory = noted(load_memory(path), head)
        except AuthenticationFailed as err:
            raise AuthenticationFailed(f"{err} ({keep_refused(path, head, head)})") from err
        save_record(path, memory)


def remember(path: Path, *, before: AuditMemory, after: AuditMemory) -> None:
    """Have `path` remember `after`, and what others noted in it since it was `before`.

    Raises:
        ConfigError: the file cannot be read or written.
        AuthenticationFailed: what was noted contradicts what was read: the log forked.
    """
    with held(path):
        for head in load_memory(path).known:
            if head not in before.known:
                after = noted(after, head)
        save_record(path, after)


def keep_refused(path: Path, shown: wire.Message, head: SignedHead) -> str:
    """Write what a broker showed, and has to answer for, beside `path`; return what to say of it.

    Each head has a file of its own, so that nothing that was kept is lost.

    Args:
        path: of what is remembered.
        shown: a message that holds `head`.
        head: signed by the broker.
    """
    name = f"{path.name}.refused-{head.audit.count}-{head.audit.root[:16]}"
    kept = path.with_name(name)
    save_record(kept, shown)
    return f"what was shown is kept in {kept}"


@contextlib.contextmanager
def held(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold what is in `path` for this process, where the system has a way to (not on Windows).

    Args:
        path: of what is remembered.
        wait: for whoever holds it now; else it is refused.

    Raises:
        ConfigError: it cannot be held, or somebody else holds it and nobody waits.
    """
    try:
        lock = path.with_name(f"{path.name}.lock").open("w")
    except OSError as err:
        raise ConfigError(f"{path}: cannot be held: {err.strerror}") from err
    with lock:
        if sys.platform != "win32":
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as err:
                raise ConfigError(f"{path}: another process holds it") from err
        yield


def _sync_directory(path: Path) -> None:
    """Have the directory's own entry on the disk too, where a system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as err:
        if err.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)
