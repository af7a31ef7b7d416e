"""The seam between a mesh and what places its workers.

An engine is told a finished command line and how often to run it. It never runs model code: what it
places is `wardian worker` in an interpreter of its own, which attests itself to the broker, so that
a worker's measurement is the same wherever it runs, and nothing that an engine stores or sends
holds a key, a model or an input.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self, TypeAlias

LIFELINE: Final = "{lifeline}"
"""Stands in a command line for the lifeline: the descriptor of a pipe, as the engine has it. The
worker ends when its other end closes, or is silent for too long."""

WorkerState: TypeAlias = Literal["waiting", "starting", "ready", "failed", "stopped"]
"""Of one worker. `waiting`: for room, or until it is started again; `starting`: it has its process;
`ready`: it said that it serves; `failed`: it ended in a way that a restart cannot help; `stopped`:
it was told to end, and did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersSpec:
    """Workers that are all alike.

    Attributes:
        name: of all of them, `[a-z0-9][a-z0-9._-]*`; they are NAME-1, NAME-2 and so on.
        argv: what each runs; may hold `LIFELINE`.
        env: all that each has of an environment.
        logs: the directory on its machine where what it prints goes, as `NAME-1.jsonl`.
        replicas: how many, at least 1.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    logs: Path
    replicas: int

    def to_plain(self) -> dict[str, Any]:
        """Return all that an engine ever gets to store of workers: strings and a number."""
        return {
            "name": self.name,
            "argv": list(self.argv),
            "env": dict(self.env),
            "logs": str(self.logs),
            "replicas": self.replicas,
        }

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> Self:
        """Return what `to_plain` returned."""
        return cls(**{**said, "argv": tuple(said["argv"]), "logs": Path(said["logs"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """What an engine knows of one worker.

    Attributes:
        name: NAME-1 and so on.
        state: see `WorkerState`.
        place: the machine it is on, as the engine calls it; empty where there is none, or only one.
        pid: of its launcher, on that machine.
        starts: how often it was started.
        exit_status: the last one; negative for a signal.
        reason: why it failed, or ended last, in its own words.
    """

    name: str
    state: WorkerState = "waiting"
    place: str = ""
    pid: int | None = None
    starts: int = 0
    exit_status: int | None = None
    reason: str = field(default="")


class Engine(Protocol):
    """Keeps some workers running somewhere. One object, one `WorkersSpec`."""

    async def start(self, spec: WorkersSpec) -> None:
        """Have the engine run `spec`; they become ready by and by, as `status` says.

        After `drain` it takes them up again.

        Raises:
            ConfigError: the engine is not installed here, or does not take this.
            TransportError: the engine does not answer.
        """

    async def scale(self, replicas: int) -> None:
        """Have `replicas` workers run (at least 1), with no moment at which fewer serve than both.

        What a worker holds that is no longer wanted is answered before it ends.

        Raises:
            TransportError: the engine does not answer; it runs as many as before.
        """

    async def status(self) -> tuple[WorkerStatus, ...]:
        """Return what is known of each worker, in the order of their numbers.

        Raises:
            TransportError: the engine does not answer. Workers go on.
        """

    async def drain(self) -> None:
        """End every worker once it has answered what it holds; none takes anything more."""

    async def stop(self) -> None:
        """End every worker, and leave nothing of them with the engine.

        Never raises: what cannot be reached is logged, and ends by its lifeline.
        """


class Cluster(Protocol):
    """What an engine's workers run on: the servers of an engine, ours or somebody else's."""

    async def start(self) -> None:
        """Return when it takes workers: its servers were started here, or answer elsewhere.

        Raises:
            ConfigError: what it needs is not installed, or not configured.
            TransportError: its servers do not come up, or do not answer.
        """

    def engine(self) -> Engine:
        """Return a new engine, for one `WorkersSpec`, on this cluster."""

    async def stop(self) -> None:
        """End those of its servers that were started here. Its engines are stopped before."""
