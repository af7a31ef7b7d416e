"""A `wardian up` in the background of one state directory: started, found again, ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from wardian._internal import wire
from wardian._internal.files import replace_file
from wardian._internal.wire import printable
from wardian.cli.state import StateDir
from wardian.errors import ConfigError, JobFailed

START_S: Final = 180.0
STOP_S: Final = 60.0
_POLL_S: Final = 0.1


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """Which process it is: a number alone may be another's by now."""

    pid: int
    started: int
    """In ticks since the machine started."""


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    """What `wardian up` wrote last, as far as it matters here."""

    state: str
    url: str = ""


class Background:
    """The one `wardian up` that these commands started in a state directory."""

    def __init__(self, place: StateDir) -> None:
        """Look at `place`; nothing is started or ended."""
        self._place = place
        self._record = place.root / "run" / "cluster-serving.json"
        self.screen = place.root / "logs" / "cluster-serving.screen"

    @property
    def pid(self) -> int | None:
        """The process, None if there is none any more."""
        try:
            record = wire.decode(self._record.read_bytes(), _Record, what=str(self._record))
        except FileNotFoundError:
            return None
        return record.pid if _started(record.pid) == record.started else None

    @property
    def url(self) -> str | None:
        """Where it serves, None if it does not yet."""
        try:
            raw = self._place.status.read_bytes()
        except FileNotFoundError:
            return None
        status = wire.decode(raw, _Status, what=str(self._place.status))
        return status.url if status.state == "serving" else None

    def start(self, directory: Path, *options: str) -> str:
        """Return where the models of `directory` are served, once they are.

        Raises:
            ConfigError: something runs in the state directory already.
            JobFailed: it ended instead, or does not serve in time; says its last line.
        """
        with self._place.locked():
            self._place.status.unlink(missing_ok=True)
        with self.screen.open("wb") as screen:
            process = subprocess.Popen(
                # -P: what lies in the working directory is not imported
                [sys.executable, "-P", "-m", "wardian.cli", "up", str(directory.resolve()),
                 "--state", str(self._place.root), *options],
                stdin=subprocess.DEVNULL, stdout=screen, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        record = _Record(pid=process.pid, started=_started(process.pid) or 0)
        replace_file(self._record, wire.encode(record))
        for _ in _ticks(START_S):
            if process.poll() is not None:
                raise JobFailed(f"wardian up ended: {self._last_line()}")
            url = self.url
            if url is not None:
                return url
        self.stop()
        raise JobFailed(f"not serving after {START_S:.0f} s: {self._last_line()}")

    def stop(self) -> None:
        """End it as Ctrl-C would, and return once it has ended.

        Raises:
            ConfigError: there is none.
            JobFailed: it does not end in time.
        """
        pid = self.pid
        if pid is None:
            raise ConfigError(
                f"--state {self._place.root}: nothing runs there that cluster-serving-start started"
            )
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        for _ in _ticks(STOP_S):
            if self.pid is None:
                self._record.unlink(missing_ok=True)
                return
        raise JobFailed(f"process {pid} has not ended after {STOP_S:.0f} s")

    def _last_line(self) -> str:
        lines = self.screen.read_text(errors="replace").split("\n")
        return printable(next((line for line in reversed(lines) if line.strip()), "no word"))


def _started(pid: int) -> int | None:
    """Return when the process `pid` began, in ticks since the machine did; None: it is gone.

    Source: proc(5), /proc/pid/stat, fields 3 (state) and 22 (starttime).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _ticks(seconds: float) -> Iterator[None]:
    """Yield now and then until `seconds` are over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(_POLL_S)
