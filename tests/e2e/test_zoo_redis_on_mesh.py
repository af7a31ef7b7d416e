"""The Redis dialect on a mesh of whole, confined processes: `wardian up`, kill -9 of each of them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mesh import RunningMesh
from simulators.zoo_mesh import digit_record, over_https_alone, zoo_example
from simulators.zoo_redis import JOB, STREAM, PlainRedis, TheirClient

from wardian.serving.zoo.results import NAN


@pytest.fixture(scope="module")
def redis(need_program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainRedis]:
    server = PlainRedis(need_program("redis-server"), tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def mesh(redis: PlainRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    root = tmp_path_factory.mktemp("zoo")
    example = zoo_example(root / "example", port=redis.port)
    running = RunningMesh(state=root / "state", example=example).start()
    yield running
    running.stop()


@pytest.fixture
def client(redis: PlainRedis) -> Iterator[TheirClient]:
    made = redis.client()
    made("FLUSHALL")
    yield made
    made.close()


def until(condition: Callable[[], object], *, within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def enqueue(client: TheirClient, count: int) -> None:
    records = [digit_record(seed) for seed in range(16)]
    client.pipeline(
        [("XADD", JOB, "*", "uri", f"{n}", "data", records[n % 16], *STREAM) for n in range(count)]
    )


def role_of(mesh: RunningMesh, process: str) -> int:
    """Return the role's pid, once the status is of after the last kill."""
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(IndexError):
            return mesh.role_pid(process)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pending(client: TheirClient) -> int:
    found = client("XPENDING", JOB, "serving")
    return found[0] if isinstance(found, list) else 0  # no stream yet, after FLUSHALL


def test_a_record_is_answered(mesh: RunningMesh, client: TheirClient) -> None:
    client.enqueue("one:two three", digit_record(1), *STREAM)
    until(lambda: client.result("one:two three"))
    assert client.result("one:two three") != NAN
    assert client("XLEN", JOB) == 0


def test_everybody_says_that_it_is_unprotected(mesh: RunningMesh) -> None:
    assert "UNPROTECTED" in mesh.screen
    log = (mesh.state / "logs" / "zoo.jsonl").read_text()
    said = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    events = {each["event"] for each in said if each.get("level") == "warning"}
    assert "zoo.unprotected" in events
    told = {
        command: subprocess.run(
            [sys.executable, "-m", "wardian.cli", *command, "--state", str(mesh.state)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        for command in (("status",), ("mesh", "status"), ("audit", "show"))
    }
    for command, screen in told.items():
        lines = [line for line in screen.splitlines() if re.search(r"(^|\s)zoo\s", line)]
        assert lines, command
        assert all("UNPROTECTED" in line for line in lines), (command, lines)
    shown = subprocess.run(
        [sys.executable, "-m", "wardian.cli", "attest", "show", mesh.url,
         "--policy", str(mesh.policy)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode == 0
    (line,) = [line for line in shown.stdout.splitlines() if "zoo" in line]
    assert "UNPROTECTED" in line


@pytest.mark.parametrize("victim", ["worker-digits-zoo", "zoo"])
def test_kill_with_a_thousand_records_in_flight(
    mesh: RunningMesh, client: TheirClient, victim: str
) -> None:
    worker, pid = role_of(mesh, "worker-digits-zoo"), role_of(mesh, victim)
    os.kill(worker, signal.SIGSTOP)  # so that nothing is answered before the kill
    enqueue(client, 1000)
    until(lambda: pending(client) >= 64)
    assert client.results() == {}
    os.kill(pid, signal.SIGKILL)
    if victim == "zoo":
        os.kill(worker, signal.SIGCONT)
    until(lambda: len(client.results()) == 1000)
    found = client.results()
    assert set(found) == {b"%d" % n for n in range(1000)}
    assert NAN not in found.values()
    for n in range(16):  # one input, one answer, whoever gave it
        assert len({found[b"%d" % each] for each in range(n, 1000, 16)}) <= 2
    until(lambda: not client("XLEN", JOB))
    assert pending(client) == 0


def test_ten_thousand_records_and_a_thousand_wrong_ones(
    mesh: RunningMesh, client: TheirClient
) -> None:
    status = Path(f"/proc/{role_of(mesh, 'zoo')}/status")
    enqueue(client, 10_000)
    client.pipeline([("XADD", JOB, "*", "uri", f"bad {n}", "data", "?" * n) for n in range(1000)])
    until(lambda: not client("XLEN", JOB), within_s=90)
    found = client.results()
    assert len(found) == 11_000
    assert sum(value == NAN for value in found.values()) == 1000
    (peak,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    assert int(peak.split()[1]) < 256 * 1024  # KiB


def test_the_role_loads_what_the_table_says(mesh: RunningMesh) -> None:
    """Last in this file: it ends the mesh."""
    from test_role_modules import NOT_LOADED, packages_above

    from wardian.tee.role_table import ROLES

    assert mesh.stop() == 0
    ended = [
        json.loads(line)
        for line in (mesh.state / "logs" / "zoo.jsonl").read_text().splitlines()
        if '"role.stopped"' in line
    ]
    named = set(ROLES["zoo"].modules)
    absent = {each for each in NOT_LOADED if not each.startswith("wardian.serving.zoo.")}
    absent |= over_https_alone(named)
    expected = (named | packages_above(named - absent)) - absent
    assert set(ended[-1]["modules"].split()) == expected


@pytest.mark.slow
def test_over_a_redis_of_the_mesh_it_shares_the_workers(
    redis: PlainRedis, client: TheirClient, tmp_path: Path
) -> None:
    example = zoo_example(tmp_path / "example", port=redis.port)
    mesh = RunningMesh(
        state=tmp_path / "state", example=example, options=("--queue", "redis")
    ).start()
    try:
        assert "worker-digits-zoo" not in {each["name"] for each in mesh.status["processes"]}
        enqueue(client, 500)
        until(lambda: len(client.results()) == 500)
        assert NAN not in client.results().values()
    finally:
        assert mesh.stop() == 0
