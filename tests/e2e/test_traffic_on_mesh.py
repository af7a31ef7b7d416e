"""The split of traffic changes on a running mesh, from `operator.toml`, and nobody notices."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mesh import RunningMesh

import wardian

pytestmark = pytest.mark.slow

IMAGE = {"image": np.zeros((1, 64), "f4")}


def test_a_split_is_taken_up_live(tmp_path: Path) -> None:
    mesh = RunningMesh(tmp_path / "state")
    mesh.start()
    try:
        answers, stop = [], threading.Event()

        def ask() -> None:
            with wardian.connect(mesh.url, policy=mesh.policy) as client:
                while not stop.is_set():
                    answers.append(client.infer("digits", IMAGE))

        load = threading.Thread(target=ask)
        load.start()
        operator = mesh.state / "operator.toml"
        before = operator.read_text() if operator.exists() else ""

        def until(log: str, says: str, count: int = 1) -> None:
            end = time.monotonic() + 20
            while (mesh.state / "logs" / log).read_text().count(says) < count:
                assert time.monotonic() < end, f"{log} does not say {says}"
                time.sleep(0.1)

        operator.write_text(before + '\n[models.digits.traffic]\n"1" = 1\n"9" = 1\n')
        until("frontend.jsonl", "traffic.unknown")  # taken up; there is no version 9
        lines = (before + '\n[models.digits.traffic]\n"1" = -1\n').splitlines()
        operator.write_text("\n".join(lines) + "\n")
        until("frontend.jsonl", "traffic.refused")
        assert f"line {len(lines) - 1}" in (mesh.state / "logs" / "frontend.jsonl").read_text()
        operator.write_text(before)
        until("frontend.jsonl", "traffic.in-force", 2)
        seen = len(answers)
        time.sleep(0.3)
        stop.set()
        load.join(20)
        assert len(answers) > seen > 0
    finally:
        mesh.stop()
