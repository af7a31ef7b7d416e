"""Processes that a benchmark starts: their CPU, their memory, how long they take to start."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from wardian.tee.role_table import ROLES

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
AS_A_ROLE = {
    name: value
    for name, value in ROLES["frontend"].environment.items()
    if name.startswith("MALLOC_") or name.endswith("_NUM_THREADS")
}
"""What front ends and workers have of their environment, for those that run outside of a mesh."""


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def children(parent: int) -> list[int]:
    """Return the processes that `parent` started."""
    return [pid for pid, above in _parents().items() if above == parent]


def descendants(root: int) -> list[int]:
    """Return `root` and every process below it."""
    parents = _parents()
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def end_below(root: int) -> None:
    """End every process below `root`."""
    for pid in descendants(root)[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def cpu_seconds(root: int) -> float:
    """Return the CPU time that `root` and every process below it has used."""
    ticks = 0
    for pid in descendants(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / CLOCK_TICKS


def resident_mb(root: int) -> float:
    """Return the memory of `root` and all below it, each shared page divided among its users."""
    total_kb = 0
    for pid in descendants(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024


@contextmanager
def process(
    *argv: str, env: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `argv` until the block ends; what it says goes to `log`, or its stdout to nowhere."""
    with (log or Path(os.devnull)).open("ab") as sink:
        started = subprocess.Popen(
            argv,
            stdout=sink,
            stderr=sink if log else None,
            env=None if env is None else {**os.environ, **env},
        )
    try:
        yield started
    finally:
        below = descendants(started.pid)[1:]
        started.terminate()
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        for pid in below:  # what it left behind
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], what: str, *, timeout_s: float = 60.0) -> None:
    """Return once `condition` holds."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.1)
    raise SystemExit(f"{what} did not come up")
