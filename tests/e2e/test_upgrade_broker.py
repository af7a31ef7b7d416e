"""An upgrade of the broker's code, in processes as users start them: the mesh goes on, the old code ends."""

import json
import shutil
import time
from pathlib import Path

import msgspec
import pytest
from mesh import RunningMesh
from test_recover_broker import PATIENCE_S, BrokerProcess, status_of, wardian_command

from wardian._internal import wire
from wardian.broker.mesh.manifest import (
    MeshManifest,
    SignedManifest,
    manifest_digest,
    parse_manifest,
    sign_manifest,
)
from wardian.broker.mesh.trust import RoleReference
from wardian.cli.owner.keys import read_owner_key
from wardian.cli.state import StateDir
from wardian.tee.manifest.builder import Builder


def installed(old: Path, new: Path) -> bytes:
    """Install newer code on the same machine; return the broker's measurement, 32 bytes.

    What is newer here is `wardian.toml`: any byte of it is another measurement.
    """
    state = StateDir.open(new)
    shutil.copytree(old / "simulation", new / "simulation")
    agreed = (old / "wardian.toml").read_bytes() + b"# newer\n"
    state.agreed.write_bytes(agreed)
    return Builder(state.enclave, deployment=agreed).build("broker").mr_enclave


def signed_next(old: Path, before: SignedManifest, brokers: tuple[str, ...], name: str) -> Path:
    """Return the owner's next manifest, which lists `brokers`."""
    manifest: MeshManifest = parse_manifest(before)
    fresh = msgspec.structs.replace(
        manifest,
        version=manifest.version + 1,
        previous=manifest_digest(before).hex(),
        roles={**manifest.roles, "broker": RoleReference(measurements=brokers)},
    )
    path = old / name
    path.write_bytes(wire.encode(sign_manifest(fresh, [read_owner_key(old / "owner.key")])))
    return path


def signed_in(path: Path) -> SignedManifest:
    return wire.decode(path.read_bytes(), SignedManifest, what="manifest")


@pytest.mark.slow
def test_newer_code_takes_the_mesh_over(own_mesh: RunningMesh, tmp_path: Path) -> None:
    old, new = own_mesh.state, tmp_path / "new"
    measurement = installed(old, new).hex()
    first = signed_in(old / "manifest.json")
    running = parse_manifest(first).roles["broker"].measurements
    address = (old / "run" / "broker.address").read_text().strip()

    # Before the owners admit it, it gets nothing, and the old one goes on.
    stranger = BrokerProcess(new, "--take-over", address)
    assert stranger.process.wait(20) == 3
    assert "MeasurementIn" in stranger.output.read_text()
    shutil.rmtree(new / "broker")

    both = signed_next(old, first, (*running, measurement), "both.json")
    wardian_command("mesh", "propose", str(both), "--state", str(old))
    before = status_of(old)
    successor = BrokerProcess(new, "--take-over", address)
    try:
        successor.announced("broker.listening")
        after = status_of(new)
        assert (after.measurement, before.measurement) == (measurement, running[0])
        assert after.mesh_ca == before.mesh_ca
        assert after.witnessed.head.audit.count >= before.witnessed.head.audit.count + 3

        # The old code is started again, has nothing left to decide, and says where to go.
        log, deadline = old / "logs" / "broker.jsonl", time.monotonic() + PATIENCE_S
        while '"broker.handed-over"' not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        refused = wardian_command("mesh", "rotate", "--state", str(old), status=1)
        assert "handed its mesh over" in refused.stderr

        # The owner takes the old code out, at the new one; nobody has to seal anything anew.
        last = signed_next(old, signed_in(both), (measurement,), "last.json")
        told = wardian_command(
            "mesh",
            "propose",
            str(last),
            "--broker",
            (new / "run" / "broker.address").read_text().strip(),
            "--agreed",
            str(new / "wardian.toml"),
            "--key",
            str(old / "owner.key"),
            "--json",
        )
        assert json.loads(told.stdout)["receipt"]["missing"] == []
        # Started again with the same option it is what it has become.
        assert successor.stop() == 0
        successor = BrokerProcess(new, "--take-over", address)
        successor.announced("broker.listening")
        assert status_of(new).manifest_version == 3
    finally:
        successor.stop()
