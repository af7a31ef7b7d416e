"""The whole way, in processes as users start them: back up, lose the machine, recover, serve."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mesh import REPOSITORY, RunningMesh

from wardian._internal import wire
from wardian.broker.mesh.manifest import (
    SignedManifest,
    manifest_digest,
    parse_manifest,
    sign_manifest,
)
from wardian.broker.status import Status, read_status
from wardian.cli.owner.keys import read_owner_key
from wardian.tee import open_platform

pytestmark = pytest.mark.slow

PATIENCE_S = 40.0


def wardian_command(*arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "wardian.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def status_of(state: Path) -> Status:
    host, _, port = (state / "run" / "broker.address").read_text().strip().rpartition(":")
    return asyncio.run(read_status((host, int(port))))


class BrokerProcess:
    """`wardian broker` in the foreground, and what it announces."""

    def __init__(self, state: Path, *options: str) -> None:
        self.output = state.parent / f"broker-{time.monotonic_ns()}.out"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "wardian.cli", "broker", "--state", str(state), *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=dict(os.environ),
            )

    def announced(self, event: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for line in self.output.read_text().splitlines():
                if line.startswith("{"):
                    record = json.loads(line)
                    if record.get("event") == event and "address" in record:
                        return record
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"no {event}: {self.output.read_text()}")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def started() -> Iterator[list[BrokerProcess]]:
    processes: list[BrokerProcess] = []
    yield processes
    for process in processes:
        process.stop()


def backed_up(mesh: RunningMesh, directory: Path) -> Path:
    """Give the broker a recovery key, wait for its package, and back it up while it runs."""
    public = wardian_command("keygen", str(directory / "recovery.key")).stdout.strip()
    wardian_command(
        "mesh",
        "propose",
        str(mesh.state / "manifest.json"),
        "--state",
        str(mesh.state),
        "--recovery-public",
        public,
        "--head",
        str(directory / "memory.json"),
    )
    package, deadline = mesh.state / "broker" / "broker.recovery", time.monotonic() + PATIENCE_S
    while not package.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    address = (mesh.state / "run" / "broker.address").read_text().strip()
    file = directory / "mesh.backup"
    wardian_command("broker", "backup", "--broker", address, "--out", str(file))
    return file


def lose_machine(state: Path) -> None:
    """What is left is what the owners have, and the installed package."""
    for name in ("broker", "broker-2", "counters", "simulation", "run"):
        shutil.rmtree(state / name, ignore_errors=True)


def signed_for_new_platform(state: Path) -> Path:
    """Return the owners' next manifest, which accepts the new machine."""
    platform = open_platform(state / "simulation")
    old = wire.decode((state / "manifest.json").read_bytes(), SignedManifest, what="manifest")
    manifest = parse_manifest(old)
    trust = msgspec.structs.replace(
        manifest.trust, simulation_root_sha256=platform.root_sha256.hex()
    )
    fresh = msgspec.structs.replace(
        manifest, version=manifest.version + 1, previous=manifest_digest(old).hex(), trust=trust
    )
    owner = read_owner_key(state / "owner.key")
    path = state / "next.json"
    path.write_bytes(wire.encode(sign_manifest(fresh, [owner])))
    return path


def test_a_lost_broker_is_recovered_on_another_machine(
    own_mesh: RunningMesh, tmp_path: Path, started: list[BrokerProcess]
) -> None:
    state = own_mesh.state
    file = backed_up(own_mesh, tmp_path)
    before = status_of(state)
    own_mesh.stop()
    ca = (state / "mesh-ca.pem").read_bytes()
    lose_machine(state)
    restored = wardian_command("broker", "restore", str(file), "--state", str(state))
    assert "Recovery takes 1 of 1 owners" in restored.stdout
    refused = wardian_command("broker", "restore", str(file), "--state", str(state), status=2)
    assert "overwrites nothing" in refused.stderr

    # Without the owners it does not open: another platform, and no counter that knows it.
    alone = BrokerProcess(state)
    started.append(alone)
    assert alone.process.wait(20) == 1
    assert "altered, or sealed by another" in alone.output.read_text()

    broker = BrokerProcess(state, "--recover")
    started.append(broker)
    waiting = broker.announced("broker.awaits-owners")
    address = f"{waiting['address']}:{waiting['port']}"
    give = (
        "owner",
        "recover",
        "--broker",
        address,
        "--agreed",
        str(state / "wardian.toml"),
        "--key",
        str(state / "owner.key"),
        "--recovery-key",
        str(tmp_path / "recovery.key"),
        "--mesh-ca",
        str(state / "mesh-ca.pem"),
        "--head",
        str(tmp_path / "memory.json"),
    )
    # The manifest in the backup knows another platform: the owner does not give a share away.
    assert "root" in wardian_command(*give, status=3).stderr
    fresh = signed_for_new_platform(state)
    told = wardian_command(*give, "--manifest", str(fresh))
    assert "Recovery  done" in told.stdout
    assert "SIMULATED" in told.stdout

    listening = broker.announced("broker.listening")
    assert (state / "run" / "broker.address").read_text().strip().endswith(str(listening["port"]))
    wardian_command(
        "mesh",
        "propose",
        str(fresh),
        "--state",
        str(state),
        "--head",
        str(tmp_path / "memory.json"),
        "--mesh-ca",
        str(tmp_path / "ca.pem"),
    )
    assert (tmp_path / "ca.pem").read_bytes() == ca
    after = status_of(state)
    assert after.mesh_ca == before.mesh_ca
    assert after.epoch == before.epoch + 1
    shown = wardian_command(
        "audit", "show", "--state", str(state), "--last", "200", "--json"
    ).stdout
    assert '"recovered"' in shown

    # It is an ordinary broker from now on: stopped, backed up, started again.
    assert broker.stop() == 0
    wardian_command(
        "broker", "backup", "--state", str(state), "--out", str(tmp_path / "second.backup")
    )
    again = BrokerProcess(state, "--recover")
    started.append(again)
    again.announced("broker.listening")


def test_an_older_backup_is_refused_on_the_same_machine(
    own_mesh: RunningMesh, tmp_path: Path, started: list[BrokerProcess]
) -> None:
    file = backed_up(own_mesh, tmp_path)
    wardian_command("mesh", "rotate", "--state", str(own_mesh.state))
    own_mesh.stop()
    shutil.rmtree(own_mesh.state / "broker")
    wardian_command("broker", "restore", str(file), "--state", str(own_mesh.state))
    broker = BrokerProcess(own_mesh.state)
    started.append(broker)
    assert broker.process.wait(20) == 1
    assert "not the newest" in broker.output.read_text()
