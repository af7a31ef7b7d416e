"""`wardian up` with front end and workers as if on machines of their own, behind relays.

Each of them has a state directory whose operator.toml says where it finds broker and queue: at the
relay that stands between. So an operator would run them elsewhere; here one command starts all.

    python bench/soak_machines.py LAYOUT.json up EXAMPLE --queue redis --state STATE --port PORT
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from soak_relay import HOST, Link
from typing_extensions import override

from wardian.cli.engines.command_line import command_line, passed_on
from wardian.cli.main import main
from wardian.cli.resolving import free_port
from wardian.cli.state import StateDir
from wardian.cli.up import command
from wardian.cli.up.mesh import STOP_RANKS, MeshProcesses
from wardian.engines import LocalCluster, LocalEngine, ProcessSpec, WorkersSpec

CLIENT, FRONTEND, BROKER, REDIS = "client", "frontend", "broker", "redis"


@dataclass(frozen=True)
class Layout:
    """Where everything listens, and the links between.

    Attributes:
        ports: of front end, broker and queue (`redis`, or `queue` for the embedded one).
        queue: `redis` or `embedded`.
        links: each named `PARTY and PARTY`.
    """

    ports: dict[str, int]
    queue: str
    links: tuple[Link, ...]

    @classmethod
    def choose(cls, *, queue: str, workers: list[str]) -> "Layout":
        """Return a layout on ports that were free a moment ago."""
        ports = {name: free_port([HOST]) for name in (FRONTEND, BROKER, "queue")}
        pairs = [(CLIENT, FRONTEND, FRONTEND), (FRONTEND, BROKER, BROKER)]
        pairs += [(worker, BROKER, BROKER) for worker in workers]
        if queue == REDIS:
            pairs += [(each, REDIS, "queue") for each in (FRONTEND, *workers)]
        else:
            pairs += [(worker, FRONTEND, "queue") for worker in workers]
        links = [
            Link(name=f"{one} and {other}", listen=free_port([HOST]), target=ports[target])
            for one, other, target in pairs
        ]
        return cls(ports=ports, queue=queue, links=tuple(links))

    @classmethod
    def read(cls, path: Path) -> "Layout":
        """Return the layout that `write` wrote."""
        raw: dict[str, Any] = json.loads(path.read_text())
        links = tuple(Link(**each) for each in raw.pop("links"))
        return cls(links=links, **raw)

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        path.write_text(json.dumps(asdict(self)))

    def port(self, one: str, other: str) -> int:
        """Return where `one` finds `other`."""
        name = f"{one} and {other}"
        return next(link.listen for link in self.links if link.name == name)

    def operator(self, role: str, home: Path) -> str:
        """Return operator.toml for the machine of `role`; `home` is the broker's state."""
        lines = ["[broker]", f"port = {self.port(role, BROKER)}", "[queue]"]
        if self.queue == REDIS:
            lines += [f'redis = "rediss://{HOST}:{self.port(role, REDIS)}"']
        elif role == FRONTEND:
            lines += [f"port = {self.ports['queue']}"]
        else:
            lines += [f"port = {self.port(role, FRONTEND)}"]
        lines += ["[simulation]", f'machine = "{home}"']
        return "\n".join(lines) + "\n"


class Apart(MeshProcesses):
    """Starts front end and workers in state directories of their own, and a Redis with its data."""

    layout: Layout

    @override
    def start(self, name: str, *words: str) -> None:
        if name == REDIS:
            self._start_redis()
            return
        if name == BROKER:
            super().start(name, *words)
            return
        rest = _without_queue(words)
        home = self._state
        self._state = self._machine(name, home)
        try:
            super().start(name, *rest)
        finally:
            self._state = home

    @override
    def cluster(self) -> LocalCluster:
        return _Machines(self)

    def worker(self, spec: WorkersSpec, name: str) -> ProcessSpec:
        """Return the process that is a worker on a machine of its own."""
        words = _without_queue(spec.argv)
        at = words.index("worker")
        command = words[at : words.index("--state")]
        return ProcessSpec(
            name=name,
            argv=command_line(self._machine(name, self._state), *command),
            env=spec.env,
            log_path=spec.logs / f"{name}.jsonl",
            stop_rank=STOP_RANKS["worker"],
        )

    def _machine(self, name: str, home: StateDir) -> StateDir:
        """Return the state directory of `name`, with what an operator brings there."""
        root = home.root / "machines" / name
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for shared in ("enclave", "models"):
            if not (root / shared).is_symlink():
                (root / shared).symlink_to(home.root / shared)
        (root / "operator.toml").write_text(self.layout.operator(name, home.root))
        return StateDir.open(root)

    def _start_redis(self) -> None:
        script = str(Path(__file__).parent / "soak_redis.py")
        address = f"rediss://{HOST}:{self.layout.ports['queue']}"
        argv = (sys.executable, script, "redis", "--queue", address)
        self._supervisor.start(
            ProcessSpec(
                name=REDIS,
                argv=(*argv, "--state", str(self._state.root), "--lifeline", "{lifeline}"),
                env=passed_on(),
                log_path=self._state.log(REDIS),
                stop_rank=STOP_RANKS[REDIS],
            )
        )


class _Machines(LocalCluster):
    """As many machines as there are workers."""

    def __init__(self, apart: Apart) -> None:
        super().__init__(apart._supervisor)  # noqa: SLF001
        self._apart = apart

    @override
    def engine(self) -> LocalEngine:
        return _Apart(self._apart)


class _Apart(LocalEngine):
    def __init__(self, apart: Apart) -> None:
        super().__init__(apart._supervisor)  # noqa: SLF001
        self._apart = apart

    @override
    def process(self, spec: WorkersSpec, name: str) -> ProcessSpec:
        return self._apart.worker(spec, name)


def _without_queue(words: Sequence[str]) -> list[str]:
    """Return a command line that leaves the queue to operator.toml."""
    rest = list(words)
    if "--queue" in rest:
        at = rest.index("--queue")
        del rest[at : at + 2]
    return rest


if __name__ == "__main__":
    Apart.layout = Layout.read(Path(sys.argv.pop(1)))
    setattr(command, MeshProcesses.__name__, Apart)  # in this process alone
    main()
