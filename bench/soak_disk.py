"""A small file system of one's own, filled to the last byte: a real ENOSPC, without root."""

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

DISK_MB = 192
INSIDE = "--inside"
"""The option by which a run knows that it has a mount namespace of its own."""
_INSIDE = ("unshare", "--user", "--map-root-user", "--mount")
_PIECES = (1024 * 1024, 4096, 1)
_AGAIN_S = 0.02


def why_not() -> str:
    """Return why there can be no small file system here; empty if there can."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "wardian", folder]
            tried = subprocess.run(
                [*_INSIDE, *mounting], capture_output=True, text=True, check=False, timeout=10
            )
    except (OSError, subprocess.TimeoutExpired) as err:
        return f"no namespace of one's own: {err}"
    if tried.returncode:
        why = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"no file system of one's own: {why}"
    return ""


def enter() -> NoReturn:
    """Run this program again in a user and mount namespace of its own."""
    os.execvp(_INSIDE[0], [*_INSIDE, sys.executable, *sys.argv, INSIDE])


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """Have a file system of `DISK_MB` at `directory`, for this user alone, until the block ends."""
    options = f"size={DISK_MB}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "wardian", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path, stop: Callable[[], bool]) -> int:
    """Keep the file system of `directory` full until `stop` says so; return how often it was.

    What others free meanwhile is taken at once, so nobody gets a byte for long.
    """
    filler, times = directory / "filler", 0
    try:
        with filler.open("wb", buffering=0) as file:
            while not stop():
                for size in _PIECES:
                    _fill_with(file.write, bytes(size))
                times += 1
                time.sleep(_AGAIN_S)
    finally:
        with suppress(FileNotFoundError):
            filler.unlink()
    return times


def _fill_with(write: Callable[[bytes], int | None], piece: bytes) -> None:
    """Write `piece` until there is no room for one more: return at the first ENOSPC."""
    try:
        while True:
            write(piece)
    except OSError as err:
        if err.errno != errno.ENOSPC:
            raise
