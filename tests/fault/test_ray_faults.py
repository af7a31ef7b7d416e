"""Kill what there is of Ray, one after the other: no worker outlives it, and all comes back by itself."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from simulators.placed_workers import PlacedWorkers
from simulators.ray_cluster import RayCluster, ray_cluster

from wardian.engines.ray.engine import RayEngine
from wardian.engines.ray.place import cluster_processes
from wardian.errors import TransportError

PATIENCE_S = 100.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def eventually(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def serving(engine: RayEngine, workers: PlacedWorkers, count: int, *, but: set[int]) -> float:
    """Wait until `count` workers serve, none of them in `but`; return how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                status = await engine.status()
            except TransportError:
                status = ()
            ready = {each.pid for each in status if each.state == "ready"}
            if len(ready) == count and ready == workers.living() and not ready & but:
                return time.monotonic() - began
            await asyncio.sleep(0.05)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def kill_and_recover(
    victim: int, cluster: RayCluster, engine: RayEngine, workers: PlacedWorkers, gone: set[int]
) -> tuple[float, float]:
    """Kill `victim`; return when those that have to go with it were gone, and when all served."""
    before = workers.living()
    assert gone <= before
    os.kill(victim, signal.SIGKILL)
    ended = await eventually(lambda: not gone & workers.living())
    back = await serving(engine, workers, len(before), but=gone)
    return ended, ended + back


async def test_each_process_of_it_may_be_killed(tmp_path: Path, record_property) -> None:
    workers = PlacedWorkers.under(tmp_path)
    async with ray_cluster(tmp_path, nodes=2, cpus=2) as cluster:
        engine = RayEngine(cluster.place)
        await eventually(lambda: cluster.joined() == 2)
        began = time.monotonic()
        await engine.start(workers.spec(replicas=2))
        await serving(engine, workers, 2, but=set())
        took = {"start": (0.0, time.monotonic() - began)}

        async def kill(what: str, victim: int, gone: set[int]) -> None:
            took[what] = await kill_and_recover(victim, cluster, engine, workers, gone)

        (raylet,) = cluster.programs("ray-2", "raylet")
        on_node = {pid for pid in workers.living() if parent(parent(pid)) == raylet}
        assert len(on_node) == 1, "spread over nodes"
        await kill("raylet", raylet, on_node)
        worker = min(workers.living())
        await kill("worker", worker, {worker})
        worker = min(workers.living())
        await kill("actor", parent(worker), {worker})
        assert sum(each.starts for each in await engine.status()) >= 4
        assert engine._link is not None
        await kill("driver", engine._link._process.pid, workers.living())
        (gcs,) = cluster.programs("ray-1", "gcs_server")
        await kill("head", gcs, workers.living())
        await engine.stop()
        await eventually(lambda: not workers.living())
        for what, (ended, back) in took.items():
            record_property(what, f"{ended:.2f} {back:.2f}")
            print(f"{what}: gone after {ended:.2f} s, all serve after {back:.2f} s")


async def test_a_node_that_does_not_come_back_leaves_its_worker_waiting(tmp_path: Path) -> None:
    workers = PlacedWorkers.under(tmp_path)
    async with ray_cluster(tmp_path, nodes=2, cpus=1) as cluster:
        engine = RayEngine(cluster.place)
        await engine.start(workers.spec(replicas=2))
        await serving(engine, workers, 2, but=set())
        await cluster.supervisor.end("ray-2")
        await eventually(lambda: len(workers.living()) == 1)
        async with asyncio.timeout(PATIENCE_S):
            while sorted(e.state for e in await engine.status()) != ["ready", "waiting"]:
                await asyncio.sleep(0.1)
        await engine.stop()
        await eventually(lambda: not workers.living())


async def test_a_machine_that_dies_takes_its_workers_with_it(tmp_path: Path) -> None:
    workers = PlacedWorkers.under(tmp_path)
    async with ray_cluster(tmp_path) as cluster:
        engine = RayEngine(cluster.place)
        await engine.start(workers.spec())
        await serving(engine, workers, 1, but=set())
        assert engine._keeping is not None
        engine._keeping.cancel()  # as the end of Wardian's own process does: its pipes close
        await asyncio.gather(engine._keeping, return_exceptions=True)
        await eventually(lambda: not workers.living())


async def test_workers_in_a_cluster_that_exists(tmp_path: Path) -> None:
    workers = PlacedWorkers.under(tmp_path)
    async with ray_cluster(tmp_path) as cluster:
        await eventually(lambda: cluster.joined() == 1)
        place = replace(
            cluster.place, address=cluster.place.cluster_address(), first_port=25000, cpus=0
        )
        (node,) = cluster_processes(place, logs=cluster.files)
        cluster.supervisor.start(replace(node, name="ours"))
        await eventually(lambda: cluster.joined() == 2)
        engine = RayEngine(place)
        await engine.start(workers.spec(replicas=2))
        await serving(engine, workers, 2, but=set())
        (raylet,) = cluster.programs("ray-1", "raylet")
        assert {parent(parent(pid)) for pid in workers.living()} == {raylet}, "none on ours"
        await engine.stop()
        await eventually(lambda: not workers.living())
