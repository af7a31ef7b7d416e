"""The digits mesh on an engine, under load, with what kills processes of the engine by their kind."""

import asyncio
import itertools
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pytest
from mesh import DIGITS, RunningMesh

import wardian
from wardian.engines.environment import find_python
from wardian.errors import ConfigError, WardianError

PATIENCE_S, START_S = 180.0, 300.0
CALLERS, PAUSE_S = 8, 0.02
KINDS: dict[str, Callable[[str, str], bool]] = {
    "taskmanager": lambda name, line: name == "java" and "TaskManagerRunner" in line,
    "jobmanager": lambda name, line: name == "java" and "SessionClusterEntrypoint" in line,
    "flink python": lambda _name, line: "pyflink.fn_execution" in line,
    "actor": lambda _name, line: line.startswith("ray::WorkerActor"),
    "agent": lambda _name, line: line.startswith("ray::DashboardAgent"),
    "raylet": lambda name, _line: name == "raylet",
    "gcs": lambda name, _line: name == "gcs_server",
    "driver": lambda _name, line: "wardian.engines.ray.driver" in line,
    "launcher": lambda _name, line: "wardian.cli worker" in line,
}
"""By name and command line, what a process is."""


def need_engine(engine: str) -> None:
    """Return if `engine` can run here; skip, or fail in CI, where something is missing."""
    try:
        if engine != "local":
            find_python(engine)
        if engine == "flink" and shutil.which("java") is None:
            raise ConfigError("java is not installed")
    except ConfigError as err:
        if os.environ.get("WARDIAN_REQUIRE_ALL"):
            pytest.fail(str(err))
        pytest.skip(str(err))


def example_with(directory: Path, engine: str, *, replicas: int = 1, more: str = "") -> Path:
    """Return the digits example with an operator's file, and time for a request to be answered."""
    shutil.copytree(DIGITS, directory, dirs_exist_ok=True)
    agreed = (DIGITS / "wardian.toml").read_text()
    (directory / "wardian.toml").write_text(
        agreed.replace("deadline_ms = 10000", "deadline_ms = 60000")
    )
    (directory / "operator.toml").write_text(
        f'engine = "{engine}"\n[worker]\nreplicas = {replicas}\n{more}'
    )
    return directory


def processes_of(mesh: RunningMesh, kind: str) -> list[int]:
    """Every process of the mesh of one kind."""
    found = []
    for pid in mesh.pids():
        with suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if KINDS[kind](name, line):
                found.append(pid)
    return found


def started_at(pid: int) -> int:
    """When a process was started; a number that counts up, which pids do not do for ever."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def roles_of_workers(mesh: RunningMesh) -> list[int]:
    """The workers themselves: what their launchers confined."""
    launchers = processes_of(mesh, "launcher")
    found = []
    for pid in launchers:
        with suppress(OSError):
            text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            found += [int(each) for each in text.split()]
    return found


@dataclass
class Load:
    """Requests without pause, each with the answer that it must get."""

    mesh: RunningMesh
    outcomes: Counter[str] = field(default_factory=Counter)
    answered_at: list[float] = field(default_factory=list)
    longest_s: float = 0.0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _callers: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        data = np.load(DIGITS / "heldout.npz")
        self._images = (data["image"] * 0.0625).astype(np.float32)
        self._client = await wardian.connect_async(
            self.mesh.url, policy=self.mesh.policy, timeout_s=90
        )
        self._expected = await self._answers()
        self._callers = [asyncio.create_task(self._call(number)) for number in range(CALLERS)]
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._callers)
        await self._client.close()

    async def _answers(self) -> npt.NDArray[np.int64]:
        answer = await self._client.infer("digits", {"image": self._images[:64]})
        return answer["label"]

    async def _call(self, number: int) -> None:
        turn = number
        while not self._stop.is_set():
            row = turn % 64
            turn += CALLERS
            began = time.monotonic()
            try:
                answer = await self._client.infer("digits", {"image": self._images[row : row + 1]})
                right = answer["label"][0] == self._expected[row]
                self.outcomes["answered" if right else "wrong"] += 1
                self.answered_at.append(time.monotonic())
            except WardianError as err:
                self.outcomes[type(err).__name__] += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            await asyncio.sleep(PAUSE_S)

    def gap_since(self, began: float) -> float:
        """The longest time without an answer since `began`, seconds."""
        moments = [began, *(each for each in self.answered_at if each >= began), time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))


async def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> float:
    """Return after how many seconds `condition` held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, what
        await asyncio.sleep(0.1)
    return time.monotonic() - began


def serving(mesh: RunningMesh, count: int) -> bool:
    """Whether the mesh says that `count` workers serve, and as many run."""
    rows = [each for each in mesh.status["processes"] if each["name"].startswith("worker-")]
    states = [each["state"] in {"ready", "running"} for each in rows]
    return len(rows) == count and all(states) and len(roles_of_workers(mesh)) == count


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def two_workers(directory: Path, engine: str, more: str = "") -> AsyncIterator[RunningMesh]:
    example = example_with(directory / "example", engine, replicas=2, more=more)
    mesh = RunningMesh(state=directory / "state", example=example).start(START_S)
    try:
        await until(lambda: serving(mesh, 2), "two workers")
        yield mesh
    finally:
        assert mesh.stop() == 0, mesh.screen
