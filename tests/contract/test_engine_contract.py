"""What every engine does: one suite for all of them, with processes that stand in for workers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from simulators.flink_cluster import own_cluster
from simulators.placed_workers import PlacedWorkers
from simulators.ray_cluster import ray_cluster

from wardian.engines import Engine, LocalEngine, Supervisor, WorkerStatus
from wardian.engines.flink.engine import FlinkEngine
from wardian.engines.ray.engine import RayEngine

PATIENCE_S = 120.0


@asynccontextmanager
async def local(_directory: Path) -> AsyncIterator[Callable[[], Engine]]:
    supervisor = Supervisor(
        on_line=lambda _name, _line: None, on_ended=lambda _: None, on_failed=lambda _: None
    )
    try:
        yield lambda: LocalEngine(supervisor)
    finally:
        await supervisor.stop()


@asynccontextmanager
async def ray(directory: Path) -> AsyncIterator[Callable[[], Engine]]:
    async with ray_cluster(directory) as cluster:
        yield lambda: RayEngine(cluster.place)


@asynccontextmanager
async def flink(directory: Path) -> AsyncIterator[Callable[[], Engine]]:
    async with own_cluster(directory / "flink") as cluster:
        yield lambda: FlinkEngine(cluster)


ENGINES = {"flink": flink, "local": local, "ray": ray}
"""By name, what yields a maker of engines on one cluster, which is up while it lasts."""


@pytest.fixture(
    params=[
        "local",
        pytest.param("flink", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
        pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ]
)
def engines(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "flink":
        request.getfixturevalue("need_flink")
    return ENGINES[request.param](tmp_path)


async def until(
    engine: Engine, condition: Callable[[tuple[WorkerStatus, ...]], bool]
) -> tuple[WorkerStatus, ...]:
    async with asyncio.timeout(PATIENCE_S):
        while not condition(status := await engine.status()):
            await asyncio.sleep(0.1)
    return status


def ready(count: int) -> Callable[[tuple[WorkerStatus, ...]], bool]:
    return lambda all_: len(all_) == count and all(each.state == "ready" for each in all_)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.05)


async def test_workers_run_and_end(engines, tmp_path: Path) -> None:
    workers = PlacedWorkers.under(tmp_path)
    async with engines as make:
        engine = make()
        await engine.start(workers.spec(replicas=2))
        status = await until(engine, ready(2))
        assert [each.name for each in status] == ["worker-m-1", "worker-m-2"]
        assert all(each.starts == 1 for each in status)
        assert len(workers.living()) == 2
        await engine.stop()
        await eventually(lambda: not workers.living())
        assert all(lines[-1] == "answered" for lines in workers.said().values())


async def test_a_killed_worker_is_started_again(engines, tmp_path: Path) -> None:
    workers = PlacedWorkers.under(tmp_path)
    async with engines as make:
        engine = make()
        await engine.start(workers.spec())
        await until(engine, ready(1))
        (first,) = workers.living()
        workers.kill(first)
        await eventually(lambda: bool(workers.living() - {first}))
        await until(engine, ready(1))
        await engine.stop()
        await eventually(lambda: not workers.living())


async def test_a_refused_worker_is_not_tried_for_ever(engines, tmp_path: Path) -> None:
    workers = PlacedWorkers.under(tmp_path)
    async with engines as make:
        engine = make()
        await engine.start(workers.spec(mode="refused"))
        (status,) = await until(engine, lambda all_: any(e.state == "failed" for e in all_))
        assert status.exit_status == 3
        assert status.reason == "the broker refused it"
        tried = len(workers.said())
        await asyncio.sleep(2.0)
        assert len(workers.said()) == tried
        await engine.stop()


async def test_scaling_adds_first_and_ends_by_answering(engines, tmp_path: Path) -> None:
    workers = PlacedWorkers.under(tmp_path)
    async with engines as make:
        engine = make()
        await engine.start(workers.spec())
        await until(engine, ready(1))
        gap = asyncio.create_task(_fewest(workers))
        await engine.scale(2)
        await until(engine, ready(2))
        await eventually(lambda: len(workers.living()) == 2)
        await engine.scale(1)
        await until(engine, ready(1))
        await eventually(lambda: len(workers.living()) == 1)
        gap.cancel()
        assert await _result(gap) >= 1
        ended = set(workers.said()) - workers.living()
        assert all(workers.said()[pid][-1] == "answered" for pid in ended)
        await engine.stop()


async def test_drained_workers_come_back(engines, tmp_path: Path) -> None:
    workers = PlacedWorkers.under(tmp_path)
    async with engines as make:
        engine = make()
        await engine.start(workers.spec())
        await until(engine, ready(1))
        await engine.drain()
        await eventually(lambda: not workers.living())
        (lines,) = workers.said().values()
        assert lines == ["ready", "answered"]
        await engine.start(workers.spec())
        await until(engine, ready(1))
        assert len(workers.living()) == 1
        await engine.stop()
        await eventually(lambda: not workers.living())


async def test_two_engines_share_a_cluster(engines, tmp_path: Path) -> None:
    one, other = PlacedWorkers.under(tmp_path / "a"), PlacedWorkers.under(tmp_path / "b")
    async with engines as make:
        first, second = make(), make()
        await first.start(one.spec(name="worker-a"))
        await second.start(other.spec(name="worker-b"))
        await until(first, ready(1))
        await until(second, ready(1))
        await first.stop()
        await eventually(lambda: not one.living())
        assert len(other.living()) == 1
        await second.stop()


async def _fewest(workers: PlacedWorkers) -> int:
    """Return the smallest number that ran at once, when cancelled."""
    fewest = len(workers.living())
    try:
        while True:
            fewest = min(fewest, len(workers.living()))
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return fewest


async def _result(task: Awaitable[int]) -> int:
    return await task
