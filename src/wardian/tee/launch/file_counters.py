"""Monotonic counters in files: for the simulation alone.

Whoever can write the files can set them back. On hardware a counter is an agreement of attested
peers, so that no host can do that. Else they count as those do: a counter belongs to a role and a
measurement, every process of which shares it, and each advances it only from where it read it last.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wardian.errors import SealError

MAX_COUNT = 2**63 - 1
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class FileCounters:
    """The counters of one role and measurement, one file each, safe against other launchers."""

    def __init__(self, directory: Path) -> None:
        """Keep the counters in `directory`, which is made at the first advance."""
        self._directory = directory
        self._last: dict[str, int] = {}

    def read(self, name: str) -> int:
        """Return the value of the counter `name`; 0 if it was never advanced.

        Raises:
            SealError: not a counter's name, or its file is unreadable.
        """
        value = self._last[name] = self._stored(name)
        return value

    def _stored(self, name: str) -> int:
        path = self._path(name)
        try:
            value = int(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as err:
            raise SealError(f"the counter {name} is unreadable: {path}") from err
        if not 0 <= value <= MAX_COUNT:
            raise SealError(f"the counter {name} is out of range: {path}")
        return value

    def advance(self, name: str, to: int) -> None:
        """Set the counter `name` to `to`, on disk when this returns.

        Raises:
            SealError: `to` is not greater than its value, another process advanced it since this
                one read it last, or it cannot be written.
        """
        path = self._path(name)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                current = self._stored(name)
                if not current < to <= MAX_COUNT:
                    raise SealError(f"the counter {name} stands at {current}: it only goes up")
                if self._last.get(name, current) != current:
                    raise SealError(f"another process advanced the counter {name} meanwhile")
                scratch = path.with_suffix(".new")
                with scratch.open("w", encoding="ascii") as file:
                    file.write(str(to))
                    file.flush()
                    os.fsync(file.fileno())
                scratch.replace(path)
                self._last[name] = to
        except OSError as err:
            raise SealError(f"the counter {name} cannot be written: {err.strerror}") from err

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise SealError("a counter's name has 1 to 64 of a-z, 0-9 and -")
        return self._directory / name

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
