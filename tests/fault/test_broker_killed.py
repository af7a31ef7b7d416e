"""`kill -9` of the active broker under load: the standby admits, and nothing that was said is lost."""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from mesh import DIGITS, RunningMesh

import wardian
from wardian.broker.state.audit import AuditLine, Chain
from wardian.broker.status import read_status
from wardian.errors import WardianError

PATIENCE_S = 40.0  # the machine is shared


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    example = shutil.copytree(DIGITS, tmp_path / "digits")
    (example / "operator.toml").write_text("[broker]\nstandby = true\ntakeover_s = 0.2\n")
    running = RunningMesh(state=tmp_path / "state", example=example).start()
    yield running
    running.stop()


def said(mesh: RunningMesh, process: str, event: str) -> list[dict[str, Any]]:
    """Return what a process has logged or announced as `event`."""
    path = mesh.state / "logs" / f"{process}.jsonl"
    lines = [line for line in path.read_text().splitlines() if line.startswith("{")]
    return [record for line in lines if (record := json.loads(line)).get("event") == event]


async def until(true: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def whole_log(address: tuple[str, int]) -> list[AuditLine]:
    """Return every audit line, each of which follows the one before, up to the broker's head."""
    chain, lines, status = Chain(), [], None
    while status is None or len(lines) < status.audit.count:
        status = await read_status(address, after=len(lines))
        for raw in status.lines:
            line, chain = chain.extended(raw)
            lines.append(line)
    assert chain.head == status.audit
    return lines


class Load:
    """Callers that never stop asking."""

    def __init__(self, mesh: RunningMesh, *, callers: int = 4) -> None:
        self.mesh, self.callers = mesh, callers
        self.outcomes: Counter[str] = Counter()
        self.stopped = False

    async def run(self) -> None:
        image = np.zeros((1, 64), np.float32)

        async def call(client: wardian.AsyncClient) -> None:
            while not self.stopped:
                try:
                    await client.infer("digits", {"image": image})
                    self.outcomes["answered"] += 1
                except WardianError as err:
                    self.outcomes[type(err).__name__] += 1
                await asyncio.sleep(0.01)

        async with await wardian.connect_async(self.mesh.url, policy=self.mesh.policy) as client:
            await asyncio.gather(*(call(client) for _ in range(self.callers)))


def killed(mesh: RunningMesh, process: str) -> None:
    os.kill(mesh.role_pid(process), signal.SIGKILL)


async def test_the_standby_takes_over_and_back(mesh: RunningMesh) -> None:
    first, second = (
        (host, int(port))
        for host, _, port in (
            line.rpartition(":") for line in (mesh.state / "run" / "brokers").read_text().split()
        )
    )
    await until(lambda: said(mesh, "broker-2", "standby.follows"), "the standby is not kept up")
    load = Load(mesh)
    loading = asyncio.create_task(load.run())
    await until(lambda: load.outcomes["answered"] > 20, "no answers")

    killed(mesh, "broker")
    await until(lambda: said(mesh, "broker-2", "broker.listening"), "nobody took over")
    killed(mesh, "worker-digits-1")  # the next one has to be admitted by the new active
    await until(lambda: said(mesh, "broker-2", "broker.release"), "no worker was admitted")
    # What was active is started again, and stands by.
    await until(lambda: said(mesh, "broker", "standby.follows"), "the old active does not follow")
    await until(
        lambda: any(each["rule"] == "kept-up" for each in said(mesh, "broker-2", "broker.standby")),
        "the old active is not kept up",
    )
    after_one = await whole_log(second)

    before = load.outcomes["answered"]
    await until(lambda: load.outcomes["answered"] > before + 50, "the new worker does not serve")
    listened = len(said(mesh, "broker", "broker.listening"))
    killed(mesh, "broker-2")
    await until(
        lambda: len(said(mesh, "broker", "broker.listening")) > listened, "nobody took over again"
    )
    lines = await whole_log(first)
    load.stopped = True
    await loading

    print(dict(load.outcomes))
    assert lines[: len(after_one)] == after_one
    # Every release that a broker said it made is in the log, in the order in which it was made.
    certificates = [line.entry.certificate for line in lines if line.entry.event == "release"]
    told = [
        record["certificate"]
        for process in ("broker", "broker-2")
        for record in said(mesh, process, "broker.release")
        if record["kind"] != "master"
    ]
    assert told
    assert set(told) <= set(certificates)
    assert sum(line.entry.event == "start" for line in lines) >= 4
    # Redelivery and a restart are quicker than the deadline, so errors are the exception.
    errors = sum(load.outcomes.values()) - load.outcomes["answered"]
    assert load.outcomes["answered"] > 20 * errors


async def test_workers_serve_while_no_broker_is_up(mesh: RunningMesh) -> None:
    """Both are stopped: what was admitted goes on, and answers every request."""
    await until(lambda: said(mesh, "broker-2", "standby.follows"), "the standby is not kept up")
    brokers = [mesh.role_pid(name) for name in ("broker", "broker-2")]
    load = Load(mesh)
    loading = asyncio.create_task(load.run())
    for pid in brokers:
        os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: load.outcomes["answered"] > 100, "no answers without a broker")
    finally:
        for pid in brokers:
            os.kill(pid, signal.SIGCONT)
    load.stopped = True
    await loading
    assert set(load.outcomes) == {"answered"}
