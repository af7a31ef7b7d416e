"""No key without evidence: what a broker of a real mesh refuses, and what it says.

Other nonces, keys, purposes, replays, debug enclaves and roots are refused message by message in
`tests/unit/broker`; here whole processes ask, and the ones that changed get nothing.
"""

import json
import shutil
import threading
from pathlib import Path

import pytest
from mesh import REPOSITORY, RunningMesh

import wardian
from wardian._internal import wire
from wardian.roles.host import HostSettings
from wardian.tee.launch.launcher import launch_simulated

PACKAGE = Path(wardian.__file__).parent


def launch(mesh: RunningMesh, role: str, **changes: object) -> tuple[int, list[dict[str, object]]]:
    """Run `role` against the broker of `mesh`, and return its status and what it announced."""
    host, _, port = (mesh.state / "run" / "broker.address").read_text().strip().rpartition(":")
    settings = HostSettings(
        listen=("127.0.0.1", 0),
        broker=(host, int(port)),
        queues=(str(mesh.state / "run" / "other.sock"),),
        model="digits",
        sealed_models={"digits:1": str(mesh.state / "models" / "digits-1.sealed")},
    )
    said: list[dict[str, object]] = []
    status: list[int] = []

    def run() -> None:
        status.append(
            launch_simulated(
                role,
                state=mesh.state,
                host_settings=wire.encode(settings),
                announce=lambda event, fields: said.append({"event": event, **fields}),
                **changes,
            )
        )

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert status, "the role neither ended nor was refused"
    return status[0], said


@pytest.mark.parametrize("role", ["worker", "frontend"])
def test_one_byte_more_in_a_measured_file_and_there_is_no_key(
    own_mesh: RunningMesh, tmp_path: Path, role: str
) -> None:
    changed = shutil.copytree(PACKAGE, tmp_path / "wardian")
    (entry,) = changed.glob(f"roles/{role}.py")
    entry.write_bytes(entry.read_bytes() + b"#")
    status, said = launch(own_mesh, role, package=changed)
    assert status == 3
    (failed,) = said
    assert failed["event"] == "failed"
    assert "measurement" in failed["reason"]
    assert "not one that the policy names" in failed["reason"]
    log = (own_mesh.state / "logs" / "broker.jsonl").read_text()
    assert '"event": "broker.refusal"' in log
    (refusal,) = [line for line in log.splitlines() if '"event": "broker.refusal"' in line]
    assert json.loads(refusal)["rule"].lower() == "measurementin"


def test_another_wardian_toml_is_another_measurement(own_mesh: RunningMesh) -> None:
    agreed = (own_mesh.state / "wardian.toml").read_bytes()
    status, said = launch(
        own_mesh, "worker", agreed=agreed.replace(b"max_batch = 64", b"max_batch = 65")
    )
    assert status == 3
    assert "not one that the policy names" in said[0]["reason"]


def test_another_sealed_file_under_the_model_s_name_is_not_opened(own_mesh: RunningMesh) -> None:
    path = own_mesh.state / "models" / "digits-1.sealed"
    good = path.read_bytes()
    try:
        raw = bytearray(good)
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
        status, said = launch(own_mesh, "worker")
        assert status == 3
        assert "sealed file" in said[0]["reason"]
    finally:
        path.write_bytes(good)


def test_a_simulation_of_another_state_directory_is_refused(
    own_mesh: RunningMesh, tmp_path: Path
) -> None:
    """The same code and settings, measured alike, under another simulation's root."""
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(own_mesh.state / "wardian.toml", other)
    (other / "run").mkdir()
    (other / "models").mkdir()
    shutil.copy(own_mesh.state / "run" / "broker.address", other / "run")
    twin = RunningMesh(state=other)
    status, said = launch(twin, "worker")
    assert status == 3
    assert "SIMULATED" in said[0]["reason"]
    assert "does not name that root" in said[0]["reason"]


def test_the_repository_s_own_path_is_in_no_measurement() -> None:
    from wardian.tee.measurement import measure_role

    manifest = measure_role("broker", agreed=b"").canonical()
    assert str(REPOSITORY).encode() not in manifest
