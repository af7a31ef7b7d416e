"""SIGKILL to the processes of a job at each of its steps, and refusals as a user sees them."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hospital_study import PRIVATE, A, B, C, key_file, opened, outputs, status
from mesh import children_of
from simulators.relay import Direction, RelayThread, Wire
from tables_mesh import JobProcess, TablesMesh, command, is_alive
from toy_jobs import NAMES

from wardian.cli.job.directory import JobDir
from wardian.errors import ConfigError

OUT = {f"aggregates.{A}.sealed", f"aggregates.{B}.sealed"}
RULE = {
    "output": {
        "without_noise": None,
        "epsilon": 8.0,
        "delta": 1e-6,
        "approvals": {"needed": 2, "of": list(NAMES)},
    }
}
BUDGET = {"budget": {"epsilon": 64.0, "delta": 1e-4}}
CHALLENGE_BYTES = 5000
"""What a broker sends before a job sends its evidence is longer; its certificate is not."""
NOISY = {"privacy": {"epsilon": 8.0, "delta": 1e-7}}
"""So little noise takes no join of forty rows for one that is too small."""


def until(true: Callable[[], Any], process: JobProcess) -> Any:
    late = time.monotonic() + 60
    while time.monotonic() < late:
        with contextlib.suppress(OSError):
            if found := true():
                return found
        assert process.process.poll() is None, process.text[-2000:]
        time.sleep(0.002)
    raise AssertionError(process.text[-2000:])


def said(job: JobDir) -> Any:
    return status(job.out)["state"]


class Stopping:
    """Stops a launcher once its role has sent its evidence: the role's next word is not heard.

    So the role stands still after it wrote down the id of its debit, and before it trains.
    """

    def __init__(self, process: JobProcess) -> None:
        self.process, self.stopped = process, False

    async def treat(self, wire: Wire, direction: Direction, record: bytes) -> tuple[bytes]:
        challenged = sum(map(len, wire.records["down"])) > CHALLENGE_BYTES
        if direction == "up" and challenged and not self.stopped:
            os.kill(self.process.process.pid, signal.SIGSTOP)
            self.stopped = True
        return (record,)


def test_killed_at_each_step_and_gone_on(tables_mesh: TablesMesh, tmp_path: Path) -> None:
    study = tables_mesh.study("killed")
    for owner in (A, B):
        tables_mesh.give(study, owner, rule=RULE, **BUDGET)
    job = tables_mesh.job(study, study.counting(**NOISY))

    def counted() -> list[tuple[int, str]]:
        return [tables_mesh.counted(study, owner, rule=RULE, **BUDGET) for owner in (A, B)]

    silent = socket.create_server(("127.0.0.1", 0))  # nobody has decided anything yet
    with silent, tables_mesh.by_way_of(silent.getsockname()[1]):
        process = tables_mesh.run(job)
        until(lambda: said(job) == "asking", process)
        process.kill()
    assert counted() == [(0, "0")] * 2

    stopping = Stopping(process)
    relay = RelayThread(tables_mesh.address[1], treat=stopping.treat)
    with tables_mesh.by_way_of(relay.port):
        process.start()
        until((job.root / "state" / "job").read_text, process)
    process.kill()
    relay.stop()
    assert stopping.stopped
    assert not any(line["event"] == "job.granted" for line in process.said())
    assert counted() == [(1, "8")] * 2
    debit = (job.root / "state" / "job").read_text()

    process.start()
    export = process.announced("job.held")["export"]
    role = children_of(process.process.pid)[0]
    os.kill(process.process.pid, signal.SIGKILL)  # the launcher alone: its role goes with it
    process.process.wait(20)
    late = time.monotonic() + 20
    while is_alive(role) and time.monotonic() < late:
        time.sleep(0.01)
    assert not is_alive(role)
    assert outputs(job.out) == set()
    told = command("job", "status", job.root)
    assert told.status == 1
    assert "has run; what came out is held until it is approved" in told.output
    assert "SIMULATED" in told.output
    assert told.error == f"nothing runs it: `wardian job run {job.root}` goes on"

    before = len(process.said())
    process.start()
    assert process.announced("job.held", after=before)["export"] == export
    os.kill(children_of(process.process.pid)[0], signal.SIGKILL)  # the enclave alone
    assert process.ended() == 128 + signal.SIGKILL
    assert "ended with status 137" in command("job", "status", job.root).error

    for who in (A, C):
        key = key_file(tmp_path, who)
        mine = ("--state", tables_mesh.state.root, "--key", key)
        assert command("job", "approve", job.root, *mine).status == 0
    process.start()
    until((job.out / f"aggregates.{A}.sealed").exists, process)
    process.kill()
    process.start()
    assert process.ended() == 0
    assert (said(job), outputs(job.out)) == ("exported", OUT)
    assert status(job.out)["export_digest"] == export
    assert (job.root / "state" / "job").read_text() == debit
    assert counted() == [(2, "8")] * 2
    read = [opened(job.out, f"aggregates.{who}.sealed", PRIVATE[who]) for who in (A, B)]
    assert read[0] == read[1] is not None
    assert command("job", "status", job.root).status == 0


@pytest.mark.slow
def test_killed_at_moments_spread_over_a_run(tables_mesh: TablesMesh) -> None:
    """Wherever they fall: the outputs are whole, one for each, and no debit is without its line."""
    study = tables_mesh.study("spread")
    rule = {"output": {"without_noise": None, "epsilon": 8.0, "delta": 1e-6}}
    budget = {"budget": {"epsilon": 1000.0, "delta": 1e-3}, "uses": 100, "rule": rule}
    for owner in (A, B):
        tables_mesh.give(study, owner, **budget)
    job = tables_mesh.job(study, study.counting(**NOISY))
    process, kills = tables_mesh.run(job), 0
    for step in range(24):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.process.wait(0.3 + 0.04 * step)
            break
        process.kill()
        process.start()
        kills += 1
    assert process.ended() == 0, process.text
    assert kills > 2
    assert (said(job), outputs(job.out)) == ("exported", OUT)
    uses, epsilon = tables_mesh.counted(study, A, **budget)
    assert (uses, epsilon) == tables_mesh.counted(study, B, **budget)
    assert 1 <= uses <= kills + 1
    assert 8 <= Fraction(epsilon) <= uses * 8
    read = [opened(job.out, f"aggregates.{who}.sealed", PRIVATE[who]) for who in (A, B)]
    assert read[0] == read[1] is not None


def test_the_broker_is_killed_while_a_job_asks(tables_mesh: TablesMesh) -> None:
    study = tables_mesh.study("patient", A, B)
    job = tables_mesh.job(study)
    tables_mesh.broker.kill()
    process = tables_mesh.run(job)
    until(lambda: said(job) == "asking", process)
    tables_mesh.start_broker()
    assert process.ended() == 0
    assert outputs(job.out) == OUT
    assert tables_mesh.counted(study, A) == (1, "0")


def refused(mesh: TablesMesh, job: JobDir, *, code: int, why: str) -> JobProcess:
    """Run a job that ends so, and demand that its status says it."""
    process = mesh.run(job)
    assert process.ended() == code, process.text
    assert (why in process.text, outputs(job.out)) == (True, set())
    told = command("job", "status", job.root)
    assert told.status == 1
    assert why in told.error
    return process


def test_an_owner_refuses(tables_mesh: TablesMesh) -> None:
    """Twice: its rule is over; another column. Status 3, said by whom and by which rule."""
    study = tables_mesh.study("refused", A)
    rule = {"expires": 1_700_000_000}
    tables_mesh.give(study, B, rule=rule)
    job = tables_mesh.job(study)
    why = f"{B} refuses for table claims-refused, rule study: its time is over (rule-expired)"
    refused(tables_mesh, job, code=3, why=why)
    assert tables_mesh.counted(study, B, rule=rule) == tables_mesh.counted(study, A) == (0, "0")
    rule = {"columns": ["patient"]}
    tables_mesh.give(study, B, serial=2, rule=rule)
    refused(tables_mesh, job, code=3, why="the job uses the column cost (job-columns)")
    assert tables_mesh.counted(study, A) == (0, "0")
    tables_mesh.give(study, B, serial=3)
    assert tables_mesh.run(job).ended() == 0  # the same directory goes on once they agree
    assert tables_mesh.counted(study, A) == (1, "0")


def test_too_few_rows_and_no_use_left(tables_mesh: TablesMesh) -> None:
    study = tables_mesh.study("few", A)
    changes: dict[str, Any] = {"uses": 1, "rule": {"output": {"smallest_join": 41}}}
    tables_mesh.give(study, B, **changes)
    job = tables_mesh.job(study)
    refused(tables_mesh, job, code=3, why="too few rows are in the join")
    assert tables_mesh.counted(study, B, **changes) == (1, "0")
    refused(tables_mesh, job, code=3, why="all releases that the owner granted were had")
    assert tables_mesh.counted(study, B, **changes) == (1, "0")


def test_what_shows_before_anything_is_asked(tables_mesh: TablesMesh) -> None:
    study = tables_mesh.study("early", A, B)
    job = tables_mesh.job(study)
    kept = study.paths[B].read_bytes()
    study.paths[B].write_bytes(b"patient,cost\n")
    refused(tables_mesh, job, code=1, why=f"{B}, table claims-early: ")
    study.paths[B].write_bytes(kept)
    assert tables_mesh.counted(study, A) == (0, "0")


def test_a_job_that_cannot_even_begin_says_why(tables_mesh: TablesMesh) -> None:
    study = tables_mesh.study("nowhere", A, B)
    job = tables_mesh.job(study)
    manifest = tables_mesh.state.enclave / "job.manifest"
    hidden = manifest.rename(manifest.with_name("hidden"))
    try:
        process = tables_mesh.run(job)
        assert process.ended() == 2
    finally:
        hidden.rename(manifest)
    told = command("job", "status", job.root)
    assert told.status == 1
    assert "job.manifest" in told.error
    assert "nothing runs it" not in told.error


def test_who_looks_whether_a_job_runs_does_not_stop_it(tables_mesh: TablesMesh) -> None:
    study = tables_mesh.study("looked-at")
    job = tables_mesh.job(study)
    over, seen = threading.Event(), set[bool]()

    def look() -> None:
        while not over.is_set():
            seen.add(job.running)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for each in lookers:
        each.start()
    try:
        for _ in range(20):
            with job.locked():
                time.sleep(0.001)
        time.sleep(0.05)
        with job.locked(), pytest.raises(ConfigError, match="runs already"), job.locked():
            raise AssertionError
    finally:
        over.set()
        for each in lookers:
            each.join()
    assert seen == {False, True}
    assert not job.running
