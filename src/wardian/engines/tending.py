"""One worker, tended in bounded beats by the task of an engine.

A task of Flink, or an actor of Ray, calls `beat` again and again. Each beat writes one byte into
the worker's lifeline, starts the worker if it is due, and waits a moment for what it says. So the
engine stays in control between beats (checkpoints, cancelling, its own heartbeats), and a worker
whose task is gone, cut off or frozen ends: its lifeline closes, or is silent for too long.

This runs in the engine's interpreter, not in Wardian's, and imports no more than it must.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from wardian._internal.clock import monotonic
from wardian.engines.engine import LIFELINE, WorkersSpec, WorkerState, WorkerStatus
from wardian.engines.heard import LINE_BYTES, Heard
from wardian.engines.restarts import Restarts

SILENCE_S: Final = 20.0
"""A worker whose lifeline is silent for so long ends: a task beats much more often."""
GRACE_S: Final = 15.0
"""How long a worker that was told to end may take: it answers what it holds."""
_STATUS_UNSTARTED: Final = 127
_CHUNK_BYTES: Final = 64 * 1024


class Tender:
    """Keeps one worker running while `beat` is called. Of one thread."""

    def __init__(self, spec: WorkersSpec, *, number: int) -> None:
        """Tend nothing yet.

        Args:
            spec: what to run; `LIFELINE` in it becomes DESCRIPTOR:SECONDS.
            number: of the worker, from 1.
        """
        self.name = f"{spec.name}-{number}"
        self._spec = spec
        self._restarts, self._heard = Restarts(), Heard()
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._began = self._due = monotonic()
        self._starts = 0
        self._exit_status: int | None = None
        self._state: WorkerState = "waiting"
        self._rest = b""

    def beat(self, wait_s: float) -> WorkerStatus:
        """Return what is known of the worker after at most about `wait_s` seconds.

        A worker that ended in a way that a restart cannot help is `failed`, and stays so.
        """
        if self._process is None and self._state != "failed" and monotonic() >= self._due:
            self._start()
        if self._process is None:
            if wait_s > 0:
                threading.Event().wait(min(wait_s, max(0.0, self._due - monotonic()) or wait_s))
        else:
            self._keep_alive()
            self._listen(self._process, wait_s)
        return self.status()

    def status(self) -> WorkerStatus:
        """Return what is known of the worker."""
        return WorkerStatus(
            name=self.name,
            state="ready" if self._state == "starting" and self._heard.ready else self._state,
            place=os.uname().nodename,
            pid=None if self._process is None else self._process.pid,
            starts=self._starts,
            exit_status=self._exit_status,
            reason=self._heard.reason,
        )

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End the worker: it answers what it holds; a late one is killed."""
        process = self._process
        if process is not None:  # its lifeline stays: it is told once, and not cut off
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            until = monotonic() + grace_s
            while self._process is not None and monotonic() < until:
                self._listen(process, 0.1)
            if self._process is not None:
                process.kill()
                self._ended(process, process.wait())
        if self._state != "failed":
            self._state = "stopped"

    def _start(self) -> None:
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        lifeline = f"{read_end}:{SILENCE_S:.0f}"
        self._began = monotonic()
        try:
            self._process = subprocess.Popen(
                [part.replace(LIFELINE, lifeline) for part in self._spec.argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(self._spec.env),
                cwd="/",
                pass_fds=(read_end,),
                start_new_session=True,
            )
        except OSError:  # no memory, no descriptors, no such program: it may pass
            os.close(write_end)
            self._restart_later(_STATUS_UNSTARTED)
        else:
            self._lifeline, self._state = write_end, "starting"
            self._starts += 1
        finally:
            os.close(read_end)

    def _keep_alive(self) -> None:
        if self._lifeline is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full: it is alive so far
                os.write(self._lifeline, b".")

    def _listen(self, process: subprocess.Popen[bytes], wait_s: float) -> None:
        """Hear what it prints within `wait_s`, and note its end."""
        if process.stdout is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if selector.select(max(0.0, wait_s)):
                printed = os.read(process.stdout.fileno(), _CHUNK_BYTES)
                self._note(printed)
                if not printed:  # it closed what it prints to: it has ended, or is about to
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(1.0)
        status = process.poll()
        if status is not None:
            self._ended(process, status)

    def _note(self, printed: bytes) -> None:
        *lines, self._rest = (self._rest + printed).split(b"\n")
        self._rest = self._rest[-2 * LINE_BYTES :]
        path = self._spec.logs / f"{self.name}.jsonl"
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as sink:
            sink.write(printed)  # a full disk costs log lines, never the worker
        for line in lines:
            self._heard.hear(line.decode(errors="replace"))

    def _ended(self, process: subprocess.Popen[bytes], status: int) -> None:
        if process.stdout is not None:
            process.stdout.close()
        self._process = None
        self._close_lifeline()
        self._heard.ended()
        self._restart_later(status)

    def _restart_later(self, status: int) -> None:
        self._exit_status = status
        delay_s = self._restarts.delay_s(status, ran_s=monotonic() - self._began)
        self._state = "waiting" if delay_s is not None else "failed"
        self._due = monotonic() + (delay_s or 0.0)

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


def die_with(pids: Iterable[int]) -> None:
    """Have this process die, and so its worker's lifeline close, as soon as one of `pids` does.

    A task's own process can outlive what it works for: Flink's Python, for one, is left running
    when its TaskManager is killed. Linux; elsewhere the silence of the lifeline has to do.
    """
    watched = []
    for pid in pids:
        try:
            watched.append(os.pidfd_open(pid))
        except (OSError, AttributeError):
            if not Path(f"/proc/{pid}").exists():
                _die()
    if watched:
        threading.Thread(target=_wait_for, args=(watched,), name="die with", daemon=True).start()


def _wait_for(watched: list[int]) -> None:
    with selectors.DefaultSelector() as selector:
        for descriptor in watched:
            selector.register(descriptor, selectors.EVENT_READ)
        selector.select()
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ancestors() -> list[int]:
    """Return the processes above this one, the nearest first, without the first of the system."""
    found, pid = [], os.getppid()
    while pid > 1:
        found.append(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return found


def program_of(pid: int) -> str:
    """Return the name of the program that runs as `pid` (15 characters at most), or nothing."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
