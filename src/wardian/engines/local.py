"""The local engine: workers are supervised processes of this machine. The default."""

from dataclasses import dataclass, field

from wardian.engines.engine import WorkersSpec, WorkerState, WorkerStatus
from wardian.engines.heard import Heard
from wardian.engines.supervisor import ProcessSpec, ProcessStatus, Supervisor


@dataclass(slots=True)
class _Worker:
    name: str
    heard: Heard = field(default_factory=Heard)

    def hear(self, _name: str, line: str) -> None:
        self.heard.hear(line)


class LocalEngine:
    """An `Engine` over a supervisor, which others may use for other processes."""

    def __init__(self, supervisor: Supervisor, *, stop_rank: int = 0) -> None:
        """Run nothing yet.

        Args:
            supervisor: keeps the workers running.
            stop_rank: of the workers among its processes.
        """
        self._supervisor, self._stop_rank = supervisor, stop_rank
        self._spec: WorkersSpec | None = None
        self._workers: list[_Worker] = []

    async def start(self, spec: WorkersSpec) -> None:
        """Start the processes; see `Engine.start`."""
        self._spec = spec
        self._add(spec, spec.replicas)

    async def scale(self, replicas: int) -> None:
        """Start more processes, or end the last ones; see `Engine.scale`."""
        if self._spec is None:
            return
        surplus = self._workers[replicas:]
        del self._workers[replicas:]
        await self._supervisor.end(*(worker.name for worker in surplus))
        self._add(self._spec, replicas)

    async def status(self) -> tuple[WorkerStatus, ...]:
        """Return what the supervisor knows; see `Engine.status`."""
        known = {each.name: each for each in self._supervisor.status()}
        return tuple(_status(worker, known[worker.name]) for worker in self._workers)

    async def drain(self) -> None:
        """End the processes, which answer what they hold; see `Engine.drain`."""
        ended, self._workers = self._workers, []
        await self._supervisor.end(*(worker.name for worker in ended))

    async def stop(self) -> None:
        """End the processes; see `Engine.stop`."""
        await self.drain()

    def _add(self, spec: WorkersSpec, replicas: int) -> None:
        for number in range(len(self._workers) + 1, replicas + 1):
            worker = _Worker(f"{spec.name}-{number}")
            self._workers.append(worker)
            self._supervisor.start(self.process(spec, worker.name), told=worker.hear)

    def process(self, spec: WorkersSpec, name: str) -> ProcessSpec:
        """Return the process that is the worker `name`."""
        return ProcessSpec(
            name=name,
            argv=spec.argv,
            env=spec.env,
            log_path=spec.logs / f"{name}.jsonl",
            stop_rank=self._stop_rank,
        )


def _status(worker: _Worker, process: ProcessStatus) -> WorkerStatus:
    states: dict[str, WorkerState] = {"waiting": "waiting", "failed": "failed"}
    state = states.get(process.state, "starting")
    if process.state == "running" and worker.heard.ready:
        state = "ready"
    elif process.state != "running":
        worker.heard.ended()
    return WorkerStatus(
        name=worker.name,
        state=state,
        pid=process.pid,
        starts=process.starts,
        exit_status=process.exit_status,
        reason=worker.heard.reason,
    )


class LocalCluster:
    """This machine, as a `Cluster`."""

    def __init__(self, supervisor: Supervisor, *, stop_rank: int = 0) -> None:
        """Run workers as processes of `supervisor`, which whoever made it stops."""
        self._supervisor, self._stop_rank = supervisor, stop_rank

    async def start(self) -> None:
        """Return at once: this machine is up."""

    def engine(self) -> LocalEngine:
        """Return a new engine for processes of this machine."""
        return LocalEngine(self._supervisor, stop_rank=self._stop_rank)

    async def stop(self) -> None:
        """Return at once."""
