"""`wardian workers`: an operator starts broker, front end and workers one by one."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mesh import RunningMesh, children_of

import wardian
from wardian.errors import WardianError


class Started:
    """A process of `wardian`, and what it printed."""

    def __init__(self, state: Path, *command: str) -> None:
        self.log = state.parent / f"{command[0]}.log"
        with self.log.open("w") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "wardian.cli", *command, "--state", str(state)],
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def until(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        late = time.monotonic() + seconds
        while (found := re.search(pattern, self.log.read_text())) is None:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < late, self.log.read_text()
            time.sleep(0.05)
        return found

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    mesh = RunningMesh(state=tmp_path / "state", options=("--once",))
    mesh.start_once()
    return mesh.state


@pytest.fixture
def started(state: Path) -> Iterator[list[Started]]:
    running: list[Started] = []
    yield running
    for each in reversed(running):
        each.end()


def test_workers_by_themselves(state: Path, started: list[Started]) -> None:
    started.append(Started(state, "broker"))
    started[-1].until("broker.listening")
    started.append(Started(state, "frontend", "--port", "0"))
    port = started[-1].until(r'"frontend.ready".*"port": (\d+)')[1]
    workers = Started(state, "workers")
    started.append(workers)
    workers.until("workers +serving +digits by local")
    image = np.zeros((2, 64), np.float32)
    policy = state / "client-policy.toml"
    with wardian.connect(f"https://localhost:{port}", policy=policy) as client:
        late = time.monotonic() + 30
        while not client.ready():
            assert time.monotonic() < late
            time.sleep(0.05)
        assert client.infer("digits", {"image": image})["label"].shape == (2,)
        (state / "operator.toml").write_text("[worker]\nreplicas = 2\n")
        workers.until("workers +scaled +from 1 to 2")
        second = state / "logs" / "worker-digits-2.jsonl"
        while not (second.exists() and "worker.ready" in second.read_text()):
            assert time.monotonic() < late + 60
            time.sleep(0.05)
        (state / "operator.toml").write_text("[worker]\nreplicas = two\n")
        time.sleep(1.5)
        assert workers.process.poll() is None
        assert len(children_of(workers.process.pid)) == 2
        launchers = children_of(workers.process.pid)
        assert workers.end() == 0
        assert not [pid for pid in launchers if Path(f"/proc/{pid}").exists()]
        with pytest.raises(WardianError):
            client.infer("digits", {"image": image}, timeout_s=2.0)


def test_a_killed_one_leaves_no_worker(state: Path, started: list[Started]) -> None:
    started.append(Started(state, "broker"))
    started[-1].until("broker.listening")
    started.append(Started(state, "frontend", "--port", "0"))
    workers = Started(state, "workers")
    started.append(workers)
    workers.until("workers +serving")
    launchers = children_of(workers.process.pid)
    os.kill(workers.process.pid, signal.SIGKILL)
    late = time.monotonic() + 20
    while [pid for pid in launchers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < late
        time.sleep(0.05)


def test_a_model_that_nobody_agreed_on_is_refused(state: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wardian.cli", "workers", "--model", "x", "--state", str(state)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "has no such model" in done.stderr
