"""Supervised processes on this machine, restarted with back-off.

A process that ends by itself is started again, unless its exit status says that starting again
cannot help: 3 (refused), and 2 (wrong settings) if it never ran steadily. Each process inherits the
read end of a pipe, its lifeline, whose write end only the supervisor holds: when that dies, however
it dies, the pipe closes and the process ends itself.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from wardian._internal.clock import monotonic
from wardian._internal.log import event
from wardian.engines.engine import LIFELINE
from wardian.engines.restarts import Restarts

log = logging.getLogger(__name__)

STOP_GRACE_S = 15.0
"""Longer than a front end takes to answer what it accepted."""
STATUS_UNSTARTED = 127
LINE_LIMIT_BYTES = 1024 * 1024

OnLine: TypeAlias = Callable[[str, str], None]
"""Called with the process's name and one line that it printed, without the line's end."""

State: TypeAlias = Literal["starting", "running", "waiting", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """What to start. `argv` may hold `LIFELINE`, which becomes the lifeline's descriptor.

    Processes of a lower `stop_rank` end first: what takes requests before what answers them.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log_path: Path
    stop_rank: int = 0


@dataclass(slots=True, kw_only=True)
class ProcessStatus:
    """What is known of one process; `exit_status` is the last one, negative for a signal."""

    name: str
    state: State = "starting"
    pid: int | None = None
    starts: int = 0
    exit_status: int | None = None


OnEnd: TypeAlias = Callable[[ProcessStatus], None]


@dataclass(slots=True)
class _Watched:
    spec: ProcessSpec
    status: ProcessStatus
    told: "OnLine | None" = None
    task: asyncio.Task[None] | None = None
    process: asyncio.subprocess.Process | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Keeps every process that it was told to start running until `stop`."""

    def __init__(self, *, on_line: OnLine, on_ended: OnEnd, on_failed: OnEnd) -> None:
        """Supervise nothing yet.

        Args:
            on_line: told every line that a process prints.
            on_ended: told when a process ended by itself and will be started again.
            on_failed: told when one ended in a way that a restart cannot help.
        """
        self._on_line = on_line
        self._on_ended = on_ended
        self._on_failed = on_failed
        self._watched: dict[str, _Watched] = {}

    def start(self, spec: ProcessSpec, *, told: OnLine | None = None) -> None:
        """Start `spec` and keep it running; returns at once. `told` hears its lines, too."""
        watched = _Watched(spec, ProcessStatus(name=spec.name), told)
        self._watched[spec.name] = watched
        watched.task = asyncio.create_task(self._keep_running(watched), name=f"keep {spec.name}")

    def status(self) -> tuple[ProcessStatus, ...]:
        """Return the status of every process, in the order in which they were started."""
        return tuple(watched.status for watched in self._watched.values())

    async def end(self, *names: str) -> None:
        """End these processes, together, and forget them; late ones are killed."""
        await asyncio.gather(*(self._end(self._watched[name]) for name in names))
        for name in names:
            del self._watched[name]

    async def stop(self, *, below: int | None = None) -> None:
        """End every process, by `stop_rank`; those of one rank together, late ones are killed.

        Args:
            below: only those of a lower rank; the others go on.
        """
        ranks = sorted({watched.spec.stop_rank for watched in self._watched.values()})
        for rank in ranks:
            if below is None or rank < below:
                of_rank = (each for each in self._watched.values() if each.spec.stop_rank == rank)
                await asyncio.gather(*(self._end(watched) for watched in of_rank))

    async def _end(self, watched: _Watched) -> None:
        watched.stopping.set()
        if watched.process is not None and watched.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                watched.process.terminate()
            try:
                await asyncio.wait_for(watched.process.wait(), STOP_GRACE_S)
            except TimeoutError:
                event(log, "process.killed", level=logging.WARNING, name=watched.spec.name)
                with contextlib.suppress(ProcessLookupError):
                    watched.process.kill()
        if watched.task is not None:
            watched.task.cancel()
            await asyncio.gather(watched.task, return_exceptions=True)
        watched.status.state = "stopped"

    async def _keep_running(self, watched: _Watched) -> None:
        restarts = Restarts()
        while not watched.stopping.is_set():
            began = monotonic()
            try:
                status = await self._run_once(watched)
            except OSError as err:  # no memory, no descriptors, no such program: it may pass
                event(
                    log,
                    "process.unstarted",
                    level=logging.ERROR,
                    name=watched.spec.name,
                    errno=err.errno,
                )
                status = STATUS_UNSTARTED
            watched.status.exit_status = status
            if watched.stopping.is_set():
                return
            delay_s = restarts.delay_s(status, ran_s=monotonic() - began)
            if delay_s is None:
                watched.status.state = "failed"
                self._on_failed(watched.status)
                return
            event(
                log, "process.ended", level=logging.WARNING, name=watched.spec.name, status=status
            )
            self._on_ended(watched.status)
            watched.status.state = "waiting"
            await asyncio.sleep(delay_s)

    async def _run_once(self, watched: _Watched) -> int:
        spec, status = watched.spec, watched.status
        read_end, write_end = os.pipe()
        try:
            process = await self._spawn(spec, lifeline=read_end)
            watched.process = process
            status.state, status.pid = "running", process.pid
            status.starts += 1
            await self._read_lines(process, watched)
            return await process.wait()
        finally:
            os.close(write_end)

    async def _spawn(self, spec: ProcessSpec, *, lifeline: int) -> asyncio.subprocess.Process:
        """Start `spec` with the read end `lifeline`, which is closed here."""
        try:
            return await asyncio.create_subprocess_exec(
                *(part.replace(LIFELINE, str(lifeline)) for part in spec.argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(spec.env),
                cwd="/",
                pass_fds=(lifeline,),
                start_new_session=True,  # the terminal's Ctrl-C is for the engine alone
                limit=LINE_LIMIT_BYTES,
            )
        finally:
            os.close(lifeline)

    async def _read_lines(self, process: asyncio.subprocess.Process, watched: _Watched) -> None:
        spec = watched.spec
        if process.stdout is None:
            return
        while True:
            try:
                raw = await process.stdout.readline()
            except ValueError:  # longer than the limit: asyncio has dropped it
                continue
            if not raw:
                return
            # A full disk costs log lines, never the process.
            with contextlib.suppress(OSError), spec.log_path.open("ab", buffering=0) as sink:
                sink.write(raw)
            line = raw.decode(errors="replace").rstrip("\n")
            self._on_line(spec.name, line)
            if watched.told is not None:
                watched.told(spec.name, line)
