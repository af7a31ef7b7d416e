"""A whole mesh whose broker counts at three keepers: each may be killed, two may not."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from keeper_process import Keeper
from mesh import DIGITS, RunningMesh

import wardian
from wardian.broker.status import read_status
from wardian.errors import WardianError

PATIENCE_S = 40.0  # the machine is shared


@pytest.fixture
def keepers(tmp_path: Path) -> Iterator[list[Keeper]]:
    started: list[Keeper] = []
    try:
        started.extend(Keeper(tmp_path / f"keeper-{number}") for number in range(3))
        yield started
    finally:
        for keeper in started:
            keeper.end()


@pytest.fixture
def mesh(tmp_path: Path, keepers: list[Keeper]) -> Iterator[RunningMesh]:
    example = Path(shutil.copytree(DIGITS, tmp_path / "digits"))
    shown = [keeper.show(f"k{number}") for number, keeper in enumerate(keepers)]
    assert len({each["measurement"] for each in shown}) == 1
    lines = "".join(
        "\n[[counter.keepers]]\n"
        + "".join(f'{name} = "{value}"\n' for name, value in each["keeper"].items())
        for each in shown
    )
    with (example / "wardian.toml").open("a") as agreed:
        agreed.write(f'\n[counter]\nmeasurements = ["{shown[0]["measurement"]}"]\n{lines}')
    places = ", ".join(f'k{n} = "127.0.0.1:{each.port}"' for n, each in enumerate(keepers))
    (example / "operator.toml").write_text(f"[broker]\nkeepers = {{ {places} }}\n")
    running = RunningMesh(state=tmp_path / "state", example=example).start()
    yield running
    running.stop()


def broker_address(mesh: RunningMesh) -> tuple[str, int]:
    host, _, port = (mesh.state / "run" / "broker.address").read_text().strip().rpartition(":")
    return host, int(port)


def answers(mesh: RunningMesh) -> bool:
    """Return whether a worker infers."""
    with wardian.connect(mesh.url, policy=mesh.policy) as client:
        return bool(client.infer("digits", {"image": np.zeros((1, 64), np.float32)}))


async def until(true: Any, what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = await true()
        except WardianError:
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


def admits(mesh: RunningMesh) -> bool:
    """Return whether a worker that is started anew gets its key: a release, hence a commit."""
    before = len(mesh.status["processes"])
    pid = mesh.role_pid("worker-digits-1")
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if mesh.role_pid("worker-digits-1") != pid and answers(mesh):
                return len(mesh.status["processes"]) == before
        except (IndexError, ValueError, WardianError):
            pass
        time.sleep(0.1)
    return False


@pytest.mark.slow
async def test_one_of_three_keepers_may_die_and_come_back(
    mesh: RunningMesh, keepers: list[Keeper]
) -> None:
    status = await read_status(broker_address(mesh))
    assert status.keeping.counter == "majority"
    keepers[0].kill()
    assert await asyncio.to_thread(admits, mesh)
    after = await read_status(broker_address(mesh))
    assert after.audit.count > status.audit.count
    keepers[0].start()
    keepers[1].kill()
    assert await asyncio.to_thread(admits, mesh)


@pytest.mark.slow
async def test_without_a_majority_nothing_is_released_and_what_serves_goes_on(
    mesh: RunningMesh, keepers: list[Keeper]
) -> None:
    before = await read_status(broker_address(mesh))
    for keeper in keepers[:2]:
        keeper.kill()
    assert await asyncio.to_thread(answers, mesh)  # workers need no broker
    pid = mesh.role_pid("worker-digits-1")
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(3)
    log = (mesh.state / "logs" / "broker.jsonl").read_text()
    assert "counter.peer-away" in log
    for keeper in keepers[:2]:
        keeper.start()

    async def served() -> bool:
        return await asyncio.to_thread(answers, mesh)

    await until(served, "the worker gets its key once a majority is there")

    async def grown() -> bool:
        status = await read_status(broker_address(mesh))
        return status.audit.count > before.audit.count

    await until(grown, "the broker goes on where it was")


@pytest.mark.slow
def test_t5_an_old_state_that_the_host_puts_back_does_not_open(
    mesh: RunningMesh, keepers: list[Keeper], tmp_path: Path
) -> None:
    files = mesh.state / "broker"
    mesh.stop()
    shutil.copytree(files, tmp_path / "old")
    mesh.start()
    assert answers(mesh)
    mesh.stop()
    shutil.rmtree(files)
    shutil.copytree(tmp_path / "old", files)
    with pytest.raises(RuntimeError):
        mesh.start(timeout_s=30)
    log = (mesh.state / "logs" / "broker.jsonl").read_text()
    assert "StateRolledBack" in log
    assert all(keeper.process.poll() is None for keeper in keepers)
