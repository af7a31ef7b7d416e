"""The cluster that jobs run on: one of our own, or one that is there."""

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Final, Protocol

import msgspec

from wardian._internal.clock import monotonic
from wardian.engines.flink.place import FlinkPlace
from wardian.engines.flink.rest import RestClient
from wardian.engines.flink.settings import client_settings, cluster_settings, write_settings
from wardian.engines.flink.submission import environment, flink_home
from wardian.engines.leash import leashed
from wardian.engines.supervisor import ProcessSpec, Supervisor
from wardian.errors import Timeout, TransportError

UP_S: Final = 120.0
DIRECTORIES: Final = ("logs", "tmp", "pids", "work", "checkpoints", "savepoints")


class Overview(msgspec.Struct, frozen=True, rename="kebab"):
    """Of a cluster."""

    taskmanagers: int
    slots_available: int


class _TaskManager(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    free_slots: int


class _TaskManagers(msgspec.Struct, frozen=True):
    taskmanagers: list[_TaskManager]


class Cluster(Protocol):
    """Where jobs run."""

    place: FlinkPlace
    rest: RestClient
    savepoints: Path | None

    async def start(self) -> None:
        """Have it answer; what was started already is left alone."""

    async def demand(self, who: str, slots: int) -> bool:
        """Ask for `slots` in all for `who`; return whether there will be as many."""


class ExistingCluster:
    """A cluster that somebody else keeps."""

    def __init__(self, place: FlinkPlace) -> None:
        """Know it by the REST address of `place`."""
        self.place, self.rest = place, RestClient(place.rest_address, place.tls)
        self.savepoints: Path | None = None  # it knows where, or has nowhere
        self._held: dict[str, int] = {}

    def close(self) -> None:
        """Close the connection to it."""
        self.rest.close()

    async def start(self) -> None:
        """Write what submitting needs, and see that it answers; see `Cluster`."""
        _make_directories(self.place)
        write_settings(self.place.directory / "submit", client_settings(self.place))
        await self.rest.get("/overview", Overview)

    async def demand(self, who: str, slots: int) -> bool:
        """Return whether the cluster has as many free beside those held; see `Cluster`."""
        held = self._held.get(who, 0)
        free = (await self.rest.get("/overview", Overview)).slots_available
        enough = slots <= held or slots - held <= free
        if enough:
            self._held[who] = slots
        return enough


class OwnCluster:
    """A JobManager and TaskManagers of one slot each, under a supervisor."""

    def __init__(self, place: FlinkPlace, supervisor: Supervisor, *, stop_rank: int = 0) -> None:
        """Run nothing yet.

        Args:
            place: with ports.
            supervisor: starts again what ends.
            stop_rank: of the JobManager among its processes; the TaskManagers have the next.
        """
        self.place, self.rest = place, RestClient(place.rest_address, place.tls)
        self.savepoints: Path | None = place.directory / "savepoints"
        self._supervisor, self._rank = supervisor, stop_rank
        self._wanted: dict[str, int] = {}
        self._taskmanagers: list[str] = []
        self._last = 0
        self._turn = asyncio.Lock()
        self._started = False

    async def start(self) -> None:
        """Start the JobManager, and wait until it answers; see `Cluster`.

        Raises:
            ConfigError: Flink is not installed there, or a file cannot be written.
            Timeout: it does not answer in two minutes.
        """
        async with self._turn:
            if not self._started:
                directory = self.place.directory
                for left in ("checkpoints", "savepoints", "tmp", "work"):  # by a cluster before
                    shutil.rmtree(directory / left, ignore_errors=True)
                _make_directories(self.place)
                write_settings(directory / "conf", cluster_settings(self.place))
                write_settings(directory / "submit", client_settings(self.place))
                self._run("jobmanager", ("jobmanager.sh", "start-foreground"), rank=self._rank)
                self._started = True
        await self.answers()

    async def answers(self) -> None:
        """Return as soon as the JobManager answers.

        Raises:
            Timeout: not in two minutes.
        """
        late = monotonic() + UP_S
        while True:
            with contextlib.suppress(TransportError):
                await self.rest.get("/overview", Overview)
                return
            if monotonic() > late:
                raise Timeout(f"flink: no JobManager; see {self.place.directory / 'logs'}")
            await asyncio.sleep(0.3)

    async def demand(self, who: str, slots: int) -> bool:
        """Start TaskManagers, or end those that are free and not wanted; see `Cluster`."""
        async with self._turn:
            self._wanted[who] = slots
            wanted = sum(self._wanted.values())
            while len(self._taskmanagers) < wanted:
                self._last += 1
                name = f"taskmanager-{self._last}"
                argv = (
                    "taskmanager.sh",
                    "start-foreground",
                    "-D",
                    f"taskmanager.resource-id={name}",
                )
                self._run(name, argv, rank=self._rank + 1)
                self._taskmanagers.append(name)
            if len(self._taskmanagers) > wanted:
                await self._end_free(len(self._taskmanagers) - wanted)
        return True

    def close(self) -> None:
        """Close the connection to the JobManager; its processes are the supervisor's."""
        self.rest.close()

    async def _end_free(self, surplus: int) -> None:
        try:
            found = (await self.rest.get("/taskmanagers", _TaskManagers)).taskmanagers
        except TransportError:
            return  # the next demand ends them
        free = [each.id for each in found if each.free_slots > 0 and each.id in self._taskmanagers]
        ended = free[:surplus]
        self._taskmanagers = [name for name in self._taskmanagers if name not in ended]
        await self._supervisor.end(*ended)

    def _run(self, name: str, argv: tuple[str, ...], *, rank: int) -> None:
        script = flink_home(self.place.python) / "bin" / argv[0]
        self._supervisor.start(
            ProcessSpec(
                name=name,
                argv=leashed((str(script), *argv[1:])),
                env=environment(self.place, self.place.directory / "conf"),
                log_path=self.place.directory / "logs" / f"{name}.log",
                stop_rank=rank,
            )
        )


def _make_directories(place: FlinkPlace) -> None:
    place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.directory.chmod(0o700)
    for name in DIRECTORIES:
        (place.directory / name).mkdir(exist_ok=True)
