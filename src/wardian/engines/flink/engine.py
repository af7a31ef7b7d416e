"""The engine flink: workers are the subtasks of a job."""

import asyncio
import contextlib
import logging
from typing import Final

from wardian._internal.clock import monotonic
from wardian._internal.log import event
from wardian.engines.engine import WorkersSpec, WorkerState, WorkerStatus
from wardian.engines.flink import reports
from wardian.engines.flink.cluster import Cluster
from wardian.engines.flink.jobs import OVER, Jobs, Subtask
from wardian.engines.flink.submission import submit
from wardian.errors import ConfigError, Timeout, TransportError

log = logging.getLogger(__name__)

WATCH_S: Final = 1.0
READY_S: Final = 300.0
"""How long a scaling waits for its new workers."""
_STARTING: Final = frozenset({"INITIALIZING", "RUNNING"})


class FlinkEngine:
    """An `Engine` over one job on a cluster, which other engines may share.

    The job runs on if this process ends; the next to start under its name replaces it.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Run nothing yet."""
        self._cluster, self._jobs = cluster, Jobs(cluster.rest)
        self._spec: WorkersSpec | None = None
        self._replicas = 0
        self._jid: str | None = None
        self._savepoint: tuple[str, int] | None = None
        self._turn = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    async def start(self, spec: WorkersSpec) -> None:
        """Submit the job; see `Engine.start`. A job under its name is replaced without a gap."""
        async with self._turn:
            self._spec, self._replicas = spec, spec.replicas
            await self._cluster.start()
            before = [job.jid for job in await self._jobs.named(self._name)]
            await self._demand(spec.replicas)
            self._jid = await self._submit(spec.replicas)
            if before:
                event(log, "flink.replacing", name=self._name, jobs=len(before))
                with contextlib.suppress(Timeout):
                    await self._ready(self._jid, spec.replicas)
                for jid in before:
                    await self._jobs.end(jid, self._cluster.savepoints)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name=f"watch {self._name}")

    async def scale(self, replicas: int) -> None:
        """Run a second job before the first ends; see `Engine.scale`."""
        async with self._turn:
            if self._jid is None or replicas == self._replicas:
                return
            old = self._jid
            if await self._cluster.demand(self._name, self._replicas + replicas):
                new = await self._submit(replicas)
                try:
                    await self._ready(new, replicas)
                except TransportError:
                    await self._jobs.cancel(new)
                    raise
                self._jid, self._replicas = new, replicas
                await self._jobs.end(old, self._cluster.savepoints)
            else:
                event(log, "flink.gap", level=logging.WARNING, name=self._name, replicas=replicas)
                await self._jobs.end(old, self._cluster.savepoints)
                self._replicas = replicas
                self._jid = await self._submit(replicas)
            await self._demand(replicas)

    async def status(self) -> tuple[WorkerStatus, ...]:
        """Return what job and tasks say; see `Engine.status`."""
        if self._jid is None:
            return ()
        found = {each[0].subtask: each for each in await self._jobs.subtasks(self._jid)}
        return tuple(
            _status(f"{self._base}-{number + 1}", *found[number])
            if number in found
            else WorkerStatus(name=f"{self._base}-{number + 1}")
            for number in range(self._replicas)
        )

    async def drain(self) -> None:
        """Stop the job with a savepoint, which `start` goes on from; see `Engine.drain`."""
        async with self._turn:
            await self._end_watch()
            jid, self._jid = self._jid, None
            if self._spec is None:
                return
            # Under our name may be one more: of a scaling, or a submission, that was cut short.
            for job in await self._jobs.named(self._name):
                path = await self._jobs.end(job.jid, self._cluster.savepoints)
                if job.jid == jid:
                    self._savepoint = None if path is None else (path, self._replicas)
            await self._demand(0)

    async def stop(self) -> None:
        """End the job; see `Engine.stop`."""
        try:
            await self.drain()
        except (TransportError, ConfigError, OSError) as err:
            event(log, "flink.unreached", level=logging.WARNING, error=type(err).__name__)
        self._savepoint = None

    @property
    def _base(self) -> str:
        return "" if self._spec is None else self._spec.name

    @property
    def _name(self) -> str:
        return f"wardian {self._cluster.place.mesh} {self._base}"

    async def _demand(self, slots: int) -> None:
        if not await self._cluster.demand(self._name, slots):
            event(log, "flink.slots", level=logging.WARNING, name=self._name, slots=slots)

    async def _submit(self, replicas: int) -> str:
        if self._spec is None:
            raise ConfigError("flink: nothing to run")
        # Ticks are divided among subtasks when a job is new: what was saved feeds no more of them.
        saved, self._savepoint = self._savepoint, None
        path = saved[0] if saved is not None and saved[1] == replicas else None
        began = monotonic()
        jid = await submit(
            self._cluster.place, self._spec, name=self._name, replicas=replicas, savepoint=path
        )
        event(log, "flink.submitted", job=jid, seconds=round(monotonic() - began, 1))
        return jid

    async def _ready(self, jid: str, replicas: int) -> None:
        """Return when each worker of `jid` is ready, or has failed as a restart cannot help.

        Raises:
            Timeout: not in time.
        """
        try:
            async with asyncio.timeout(READY_S):
                while True:
                    found = [_status("", *each) for each in await self._jobs.subtasks(jid)]
                    settled = [each for each in found if each.state in {"ready", "failed"}]
                    if len(settled) == replicas:
                        return
                    await asyncio.sleep(0.3)
        except TimeoutError as err:
            raise Timeout("flink: the new workers do not become ready; the old ones go on") from err

    async def _watch(self) -> None:
        """Submit the job again when Flink has lost it, as with its JobManager."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                async with self._turn:
                    await self._look()
            except (TransportError, ConfigError, OSError) as err:
                event(log, "flink.silent", level=logging.WARNING, error=type(err).__name__)

    async def _look(self) -> None:
        if self._jid is None:
            return
        state = await self._jobs.state(self._jid)
        if state is None or state in OVER:
            event(log, "flink.lost", level=logging.WARNING, job=self._jid, state=state)
            self._jid = await self._submit(self._replicas)

    async def _end_watch(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def _status(
    name: str, subtask: Subtask, report: reports.Report | None, reason: str
) -> WorkerStatus:
    """Return what a subtask's state and its last report say together."""
    state: WorkerState = "starting" if subtask.status in _STARTING else "waiting"
    place = subtask.endpoint.rpartition(":")[0]
    if report is None or not reports.same_attempt(report, subtask.attempt):
        return WorkerStatus(name=name, state=state, place=place, starts=subtask.attempt)
    if subtask.status == "RUNNING":
        state = report.state
    return WorkerStatus(
        name=name,
        state=state,
        place=place,
        pid=report.pid if subtask.status == "RUNNING" else None,
        starts=subtask.attempt + report.starts,
        exit_status=report.exit_status,
        reason=reason,
    )
