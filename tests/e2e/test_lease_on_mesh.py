"""The shortest lease that `wardian.toml` allows, waited for by the clock on the wall."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from mesh import DIGITS, RunningMesh

from wardian.cli.host import free_port
from wardian.errors import WardianError
from wardian.serving.client.sync import connect

LEASE_S = 60
PROCESSES = ("frontend", "worker-digits-1")


def events(mesh: RunningMesh, process: str, name: str) -> list[dict[str, object]]:
    lines = (mesh.state / "logs" / f"{process}.jsonl").read_text().splitlines()
    read = [json.loads(line) for line in lines if line.startswith("{")]
    return [each for each in read if each["event"] == name]


def until(condition: object, seconds: float) -> float:
    """Return after how many seconds `condition` held; fail if it did not."""
    began = time.monotonic()
    while not condition():  # type: ignore[operator]
        assert time.monotonic() - began < seconds
        time.sleep(0.2)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    not os.environ.get("WARDIAN_REQUIRE_ALL"),
    reason="waits for a lease of 60 s to end; WARDIAN_REQUIRE_ALL=1 runs it",
)
def test_t21_a_lease_is_renewed_and_without_a_broker_it_ends(tmp_path: Path) -> None:
    example = shutil.copytree(DIGITS, tmp_path / "digits")
    toml = example / "wardian.toml"
    toml.write_text(toml.read_text().replace("[mesh]", f"[mesh]\nlease_s = {LEASE_S}", 1))
    with np.load(DIGITS / "heldout.npz") as data:
        image = (data["image"][:1] / 16).astype(np.float32)
    port = ("--port", str(free_port(["127.0.0.1"])))  # one that a front end started anew has too
    mesh = RunningMesh(state=tmp_path / "state", example=example, options=port).start()
    try:
        with connect(mesh.url, policy=mesh.policy) as client:

            def serves() -> bool:
                try:
                    client.infer("digits", {"image": image}, timeout_s=2)
                except WardianError:
                    return False
                return True

            assert serves()
            for process in PROCESSES:
                until(
                    lambda process=process: events(mesh, process, "lease.renewed"), LEASE_S / 2 + 8
                )
            assert serves()
            broker = mesh.role_pid("broker")
            os.kill(broker, signal.SIGSTOP)
            try:
                stopped = time.monotonic()
                until(lambda: not serves(), LEASE_S + 10)
                assert time.monotonic() - stopped > LEASE_S / 2 - 10
                for process in PROCESSES:
                    until(
                        lambda process=process: events(mesh, process, "role.failed"), LEASE_S + 10
                    )
                    (failed,) = events(mesh, process, "role.failed")
                    assert "the lease has ended" in str(failed["reason"])
            finally:
                os.kill(broker, signal.SIGCONT)
            until(serves, 40)  # the engine starts them anew, and the broker admits them
    finally:
        mesh.stop()
