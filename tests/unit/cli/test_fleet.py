"""All workers of a mesh: what is waited for, what is given up, and what an engine's silence costs."""

from dataclasses import replace
from pathlib import Path

import pytest

from wardian.cli.engines import fleet as module
from wardian.cli.engines.fleet import Fleet, failure
from wardian.engines import WorkersSpec, WorkerStatus
from wardian.errors import ConfigError, ConnectionLost, JobFailed, PolicyDenied, Timeout


class Engine:
    """Says of each worker what the test put here."""

    def __init__(self) -> None:
        self.now: list[WorkerStatus] = []
        self.away = False
        self.did: list[str] = []

    async def start(self, spec: WorkersSpec) -> None:
        self.did.append(f"start {spec.name}")
        self.now = [WorkerStatus(name=f"{spec.name}-1", state="ready", starts=1)]

    async def scale(self, replicas: int) -> None:
        if self.away:
            raise ConnectionLost("gone")
        self.did.append(f"scale {replicas}")

    async def status(self) -> tuple[WorkerStatus, ...]:
        if self.away:
            raise ConnectionLost("gone")
        return tuple(self.now)

    async def drain(self) -> None:
        self.did.append("drain")

    async def stop(self) -> None:
        self.did.append("stop")


class Cluster:
    def __init__(self) -> None:
        self.engines: list[Engine] = []

    async def start(self) -> None:
        pass

    def engine(self) -> Engine:
        self.engines.append(Engine())
        return self.engines[-1]

    async def stop(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    monkeypatch.setattr(module.asyncio, "sleep", clock.sleep)
    return clock


def spec(name: str) -> WorkersSpec:
    return WorkersSpec(name=name, argv=("worker",), env={}, logs=Path("/logs"), replicas=1)


async def started(*names: str) -> tuple[Fleet, list[Engine]]:
    cluster = Cluster()
    fleet = Fleet(cluster)
    await fleet.start([spec(name) for name in names])
    return fleet, cluster.engines


async def test_each_model_has_an_engine(clock: Clock) -> None:
    fleet, engines = await started("worker-a", "worker-b")
    await fleet.until_ready(1.0)
    assert [each.name for each in await fleet.status()] == ["worker-a-1", "worker-b-1"]
    await fleet.scale(3)
    await fleet.stop()
    assert [each.did for each in engines] == [
        ["start worker-a", "scale 3", "stop"],
        ["start worker-b", "scale 3", "stop"],
    ]


async def test_what_is_not_ready_in_time_is_named(clock: Clock) -> None:
    fleet, (_, slow) = await started("worker-a", "worker-b")
    slow.now = [replace(slow.now[0], state="starting")]
    with pytest.raises(Timeout, match="worker-b-1: not ready after 60 s"):
        await fleet.until_ready(60.0)


async def test_no_worker_at_all_is_not_ready(clock: Clock) -> None:
    fleet, (none,) = await started("worker-a")
    none.now = []
    with pytest.raises(Timeout):
        await fleet.until_ready(5.0)


@pytest.mark.parametrize(("status", "error"), [(3, PolicyDenied), (2, ConfigError)])
async def test_one_that_gave_up_ends_the_waiting(
    clock: Clock, status: int, error: type[Exception]
) -> None:
    fleet, (engine,) = await started("worker-a")
    engine.now = [
        WorkerStatus(name="worker-a-1", state="failed", exit_status=status, reason="no such key")
    ]
    with pytest.raises(error, match=r"worker-a-1.*no such key"):
        await fleet.until_ready(60.0)
    assert clock.now == 0.0


async def test_one_that_ends_at_once_is_not_waited_for(clock: Clock) -> None:
    fleet, (engine,) = await started("worker-a")
    engine.now = [WorkerStatus(name="worker-a-1", starts=4, reason="out of memory")]
    with pytest.raises(JobFailed, match="out of memory"):
        await fleet.until_ready(60.0)


async def test_an_engine_that_is_away_costs_no_worker(clock: Clock) -> None:
    fleet, (one, other) = await started("worker-a", "worker-b")
    known = await fleet.status()
    one.away = True
    other.now = [replace(other.now[0], starts=2)]
    assert await fleet.status() == (known[0], other.now[0])
    with pytest.raises(ConnectionLost):
        await fleet.scale(2)


def test_nothing_failed() -> None:
    assert failure([WorkerStatus(name="a-1", state="ready")]) is None
    status = WorkerStatus(name="a-1", state="failed", exit_status=2)
    assert "exit status 2" in str(failure([status]))
