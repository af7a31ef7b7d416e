"""All that a directory ever held, also what was there for an instant: its host's view of it.

Each file gets a second name in a vault as soon as the system says that it is there, and is copied
whenever somebody has written to it.
"""

import contextlib
import ctypes
import errno
import os
import select
import struct
import threading
from pathlib import Path
from typing import Final, Self

CREATE, MOVED_TO, CLOSE_WRITE, MODIFY = 0x100, 0x80, 0x8, 0x2
IS_DIRECTORY: Final = 0x40000000
_HEAD: Final = struct.Struct("iIII")
"""Of an event: which directory, what, which pair, how long the name is (inotify(7))."""


class WatchedDirectory:
    """Watches `place` and what is made below it, within a `with` block."""

    def __init__(self, place: Path, vault: Path) -> None:
        """Watch `place`; `vault` is a new directory on the same disk."""
        self.names: list[str] = []
        """Of every file that came, in order, by its path below `place`."""
        self._place, self._vault = place, vault
        self._copies: set[bytes] = set()
        self._directories: dict[int, Path] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> Self:
        self._vault.mkdir()
        self._events = self._libc.inotify_init1(os.O_CLOEXEC)
        assert self._events >= 0
        self._wake, self._waker = os.pipe()
        self._watch(self._place)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._waker)
        self._thread.join(20)
        os.close(self._events)
        os.close(self._wake)

    def contents(self) -> bytes:
        """Return all of it: each version of each file, and their names."""
        linked = [path.read_bytes() for path in sorted(self._vault.iterdir())]
        return b"\n".join([*map(str.encode, self.names), *linked, *self._copies])

    def _watch(self, directory: Path) -> None:
        wanted = CREATE | MOVED_TO | CLOSE_WRITE | MODIFY
        number = self._libc.inotify_add_watch(self._events, os.fsencode(directory), wanted)
        if number < 0 and ctypes.get_errno() == errno.ENOENT:
            raise FileNotFoundError(directory)  # it was renamed meanwhile: that is an event, too
        assert number >= 0
        self._directories[number] = directory
        for path in directory.iterdir():  # what came before the watch
            self._watch(path) if path.is_dir() else self._came(path)

    def _follow(self) -> None:
        while True:
            ready, _, _ = select.select([self._events, self._wake], [], [])
            if self._events in ready:
                raw = os.read(self._events, 1024**2)
                while raw:
                    number, what, _, size = _HEAD.unpack_from(raw)
                    name = raw[_HEAD.size : _HEAD.size + size].rstrip(b"\0")
                    raw = raw[_HEAD.size + size :]
                    if number >= 0:
                        self._happened(self._directories[number] / os.fsdecode(name), what)
            elif self._wake in ready:
                return

    def _happened(self, path: Path, what: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            if what & IS_DIRECTORY:
                self._watch(path)
            elif what & (CREATE | MOVED_TO):
                self._came(path)
            elif path.is_file():
                self._copies.add(path.read_bytes())

    def _came(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                os.link(path, self._vault / f"{len(self.names)}")
                self.names.append(str(path.relative_to(self._place)))
