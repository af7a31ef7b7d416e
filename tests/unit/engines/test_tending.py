"""A worker that is tended in beats: started, watched, restarted, ended, and never left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from simulators.placed_workers import PlacedWorkers

from wardian.engines import tending
from wardian.engines.tending import Tender, ancestors, program_of


@pytest.fixture
def workers(tmp_path: Path) -> PlacedWorkers:
    return PlacedWorkers.under(tmp_path)


def until(tender: Tender, condition, seconds: float = 20.0):
    late = time.monotonic() + seconds
    while not condition(status := tender.beat(0.1)):
        assert time.monotonic() < late, status
    return status


def test_a_beat_starts_the_worker_and_hears_that_it_serves(workers: PlacedWorkers) -> None:
    tender = Tender(workers.spec(), number=3)
    assert tender.status().state == "waiting"
    status = until(tender, lambda found: found.state == "ready")
    assert (status.name, status.starts) == ("worker-m-3", 1)
    assert status.pid in workers.living()
    assert (workers.logs / "worker-m-3.jsonl").read_text() == '{"event": "worker.ready"}\n'
    tender.stop()
    assert tender.status().state == "stopped"
    assert workers.said()[status.pid] == ["ready", "answered"]


def test_a_killed_worker_is_started_again_later(workers: PlacedWorkers) -> None:
    tender = Tender(workers.spec(), number=1)
    first = until(tender, lambda found: found.state == "ready").pid
    workers.kill(first)
    seen = []
    again = until(tender, lambda found: seen.append(found.state) or found.starts == 2)
    assert "waiting" in seen
    assert again.exit_status == -signal.SIGKILL
    assert until(tender, lambda found: found.state == "ready").pid != first
    tender.stop()
    assert not workers.living()


def test_a_refused_worker_fails_for_good(workers: PlacedWorkers) -> None:
    tender = Tender(workers.spec(mode="refused"), number=1)
    status = until(tender, lambda found: found.state == "failed")
    assert (status.exit_status, status.reason) == (3, "the broker refused it")
    assert tender.beat(0.0).starts == 1
    tender.stop()
    assert tender.status().state == "failed"


def test_silence_ends_the_worker(workers: PlacedWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "SILENCE_S", 1.0)
    tender = Tender(workers.spec(), number=1)
    until(tender, lambda found: found.state == "ready")
    workers.until(lambda found: not found.living())  # no beat meanwhile
    ((said),) = workers.said().values()
    assert said == ["ready", "cut off"]
    tender.stop()


def test_beats_keep_it_alive(workers: PlacedWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tending, "SILENCE_S", 1.0)
    tender = Tender(workers.spec(), number=1)
    until(tender, lambda found: found.state == "ready")
    for _ in range(30):
        assert tender.beat(0.1).state == "ready"
    tender.stop()


def test_a_worker_that_reads_no_lifeline_blocks_no_beat(workers: PlacedWorkers) -> None:
    spec = workers.spec()
    deaf = "import time; print('up', flush=True); time.sleep(60)"
    tender = Tender(replace(spec, argv=(sys.executable, "-I", "-c", deaf)), number=1)
    tender.beat(0.0)
    for _ in range(70_000):  # a pipe holds 64 KiB
        tender._keep_alive()
    assert tender.beat(0.0).state == "starting"
    tender.stop(grace_s=0.1)
    assert tender.status().state == "stopped"


def test_a_worker_that_ignores_its_end_is_killed(workers: PlacedWorkers) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf', flush=True); time.sleep(60)"
    )
    tender = Tender(
        replace(workers.spec(), argv=(sys.executable, "-I", "-c", deaf)),
        number=1,
    )
    pid = tender.beat(0.0).pid
    log = workers.logs / "worker-m-1.jsonl"
    until(tender, lambda _: log.exists() and "deaf" in log.read_text())
    tender.stop(grace_s=0.3)
    assert tender.status().exit_status == -signal.SIGKILL
    assert not Path(f"/proc/{pid}").exists()


def test_a_program_that_is_not_there_is_tried_again(workers: PlacedWorkers) -> None:
    tender = Tender(replace(workers.spec(), argv=("/no/such/program",)), number=1)
    assert tender.beat(0.0).state == "waiting"
    assert tender.status().exit_status == 127
    began = time.monotonic()
    tender.beat(0.2)
    assert time.monotonic() - began < 5


def test_long_lines_and_nonsense_are_not_believed(workers: PlacedWorkers) -> None:
    code = (
        "import json, sys, time\n"
        "print('[' * 100000)\nprint('{\"event\": ' + '[' * 5000)\nprint('null')\n"
        "print(json.dumps({'event': 'failed', 'reason': 'x\\x1b[2J' + 'y' * 1000}))\n"
        "print(json.dumps({'event': 'worker.ready', 'pad': 'z' * 70000}))\n"
        "print('end', flush=True)\ntime.sleep(60)"
    )
    tender = Tender(replace(workers.spec(), argv=(sys.executable, "-I", "-c", code)), number=1)
    log = workers.logs / "worker-m-1.jsonl"
    until(tender, lambda _: log.exists() and log.read_text().endswith("end\n"))
    status = tender.beat(0.0)
    assert status.state == "starting"
    assert status.reason.startswith("x?[2Jyyy")
    assert len(status.reason) == 300
    tender.stop()


ORPHAN = """
import os, subprocess, sys, time
from wardian.engines.tending import die_with
middle = int(sys.argv[1])
die_with([middle])
print("watching", flush=True)
time.sleep(60)
"""


def test_a_process_dies_with_the_one_it_works_for() -> None:
    above = subprocess.Popen(["/bin/sleep", "60"])
    task = subprocess.Popen([sys.executable, "-c", ORPHAN, str(above.pid)], stdout=subprocess.PIPE)
    try:
        assert task.stdout is not None
        assert task.stdout.readline() == b"watching\n"
        above.kill()
        above.wait()
        assert task.wait(20) == -signal.SIGKILL
    finally:
        task.kill()
        task.wait()
        task.stdout.close()


def test_a_process_of_something_that_is_gone_dies_at_once() -> None:
    above = subprocess.Popen(["/bin/true"])
    above.wait()
    task = subprocess.run(
        [sys.executable, "-c", ORPHAN, str(above.pid)], timeout=20, check=False, capture_output=True
    )
    assert task.returncode == -signal.SIGKILL
    assert task.stdout == b""


def test_who_is_above() -> None:
    assert ancestors()[0] == os.getppid()
    assert 1 not in ancestors()
    assert program_of(os.getpid())
    assert program_of(2**22 + 1) == ""
