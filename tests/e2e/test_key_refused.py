"""No key without evidence: what a broker of a real mesh refuses, and what it says.

Other nonces, keys, purposes, replays, debug enclaves and roots are refused message by message in
`tests/unit/broker`; here whole processes ask, and the ones that changed get nothing.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from mesh import RunningMesh

import wardian
from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian.attestation.verifier import verify_evidence
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.manifest import SignedManifest, parse_manifest
from wardian.errors import PolicyDenied
from wardian.tee.launch.simulation import load_platform, open_platform
from wardian.tee.manifest.builder import Builder
from wardian.tee.manifest.canonical import measure_manifest

PACKAGE = Path(wardian.__file__).parent


def launch(
    mesh: RunningMesh, role: str, *, directory: Path | None = None
) -> tuple[int, list[dict[str, object]]]:
    """Run `role` against the broker of `mesh`, and return its status and what it announced.

    `directory` is the role's, if it is another than that of the mesh.
    """
    state = mesh.state
    if directory is not None:
        state = directory.parent
        (state / "run").mkdir(exist_ok=True)
        (state / "models").mkdir(exist_ok=True)
        shutil.copy(mesh.state / "run" / "broker.address", state / "run")
        for path in (mesh.state / "models").iterdir():
            shutil.copy(path, state / "models")
        if not (state / "simulation").exists():
            shutil.copytree(mesh.state / "simulation", state / "simulation")
        state.chmod(0o700)
    more = {"worker": ("--model", "digits"), "frontend": ("--port", "0"), "broker": ()}[role]
    done = subprocess.run(
        [sys.executable, "-m", "wardian.cli", role, "--state", str(state), *more],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, [line for line in lines if line["event"] == "failed"]


def rebuild(mesh: RunningMesh, place: Path, role: str, **changes: object) -> Path:
    """Build `role` again as an attacker would, and return its directory."""
    agreed = changes.pop("deployment", (mesh.state / "wardian.toml").read_bytes())
    directory = place / "enclave"
    Builder(directory, deployment=agreed, **changes).build(role)
    return directory


def copied(mesh: RunningMesh, place: Path) -> Path:
    """Return a copy of the directory of the roles of `mesh`."""
    place.mkdir()
    return shutil.copytree(mesh.state / "enclave", place / "enclave")


@pytest.mark.parametrize("role", ["worker", "frontend"])
def test_one_byte_more_in_a_measured_file_and_there_is_no_key(
    own_mesh: RunningMesh, tmp_path: Path, role: str
) -> None:
    changed = shutil.copytree(PACKAGE, tmp_path / "wardian")
    (entry,) = changed.glob(f"roles/{role}.py")
    entry.write_bytes(entry.read_bytes() + b"#")
    status, said = launch(
        own_mesh, role, directory=rebuild(own_mesh, tmp_path / "s", role, package=changed)
    )
    assert status == 3
    (failed,) = said
    assert failed["event"] == "failed"
    assert "measurement" in failed["reason"]
    assert "not one that the policy names" in failed["reason"]
    log = (own_mesh.state / "logs" / "broker.jsonl").read_text()
    assert '"event": "broker.refusal"' in log
    (refusal,) = [line for line in log.splitlines() if '"event": "broker.refusal"' in line]
    assert json.loads(refusal)["rule"].lower() == "measurementin"


def test_another_wardian_toml_is_another_measurement(own_mesh: RunningMesh, tmp_path: Path) -> None:
    agreed = (own_mesh.state / "wardian.toml").read_bytes()
    other = agreed.replace(b"max_batch = 64", b"max_batch = 65")
    assert other != agreed
    status, said = launch(
        own_mesh, "worker", directory=rebuild(own_mesh, tmp_path / "s", "worker", deployment=other)
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
    directory = rebuild(own_mesh, tmp_path / "s", "worker")
    assert (directory / "worker.manifest").read_bytes() == (
        own_mesh.state / "enclave" / "worker.manifest"
    ).read_bytes()
    open_platform(tmp_path / "s" / "simulation")
    status, said = launch(own_mesh, "worker", directory=directory)
    assert status == 3
    assert "SIMULATED" in said[0]["reason"]
    assert "does not name that root" in said[0]["reason"]


CHANGES = {
    "argument": ('"-X", "utf8"', '"-X", "utf8=1"'),
    "environment": ('TZ = "UTC0"', 'TZ = "UTC1"'),
    "security version": ("isvsvn = 1", "isvsvn = 2"),
    "enclave size": ('enclave_size = "', 'enclave_size = "1'),
    "allowed file": ('"file:host.json",', '"file:host.json", "file:evil",'),
    "mount": ('root = { type = "tmpfs" }', 'root = { type = "chroot", uri = "file:/" }'),
}


@pytest.mark.parametrize("what", sorted(CHANGES))
def test_a_manifest_that_the_host_edited_gets_no_key(
    shared_mesh: RunningMesh, tmp_path: Path, what: str
) -> None:
    directory = copied(shared_mesh, tmp_path / "s")
    manifest = directory / "worker.manifest"
    old, new = CHANGES[what]
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new, 1))
    status, said = launch(shared_mesh, "worker", directory=directory)
    assert status == 3
    assert "not one that the policy names" in said[0]["reason"]


CLASSES = {
    "interpreter": ("/bin/python", ""),
    "loader": ("/ld-linux", ""),
    "c library": ("/libc.so", ""),
    "extension module": ("/lib-dynload/", ".so"),
    "standard library": ("/json/decoder", ".pyc"),
    "package": ("/numpy/", ".pyc"),
    "shared object of a package": ("/openvino/libs/libopenvino.so", ""),
    "metadata": (".dist-info/METADATA", ""),
    "own module": ("/wardian/roles/worker", ".pyc"),
    "bootstrap": ("/tee/bootstrap.py", ""),
    "settings": ("file:wardian.toml", ""),
}


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_a_host_that_trusts_another_content_of_a_file_gets_no_key(
    shared_mesh: RunningMesh, tmp_path: Path, kind: str
) -> None:
    """One byte of a file of each class: the launcher refuses it; a manifest with the changed
    file's own hash starts it, and the broker refuses that.
    """
    directory = copied(shared_mesh, tmp_path / "s")
    manifest = directory / "worker.manifest"
    table = tomllib.loads(manifest.read_text())
    inside, end = CLASSES[kind]
    victim = next(
        file
        for file in table["sgx"]["trusted_files"]
        if inside in file["uri"] and file["uri"].endswith(end)
    )
    content = (directory / victim["uri"].removeprefix("file:")).read_bytes()
    changed = hashlib.sha256(content[:-1] + bytes([content[-1] ^ 1])).hexdigest()
    forged = manifest.read_text().replace(victim["sha256"], changed)
    expected = measure_manifest(manifest.read_text())
    assert measure_manifest(forged) != expected
    manifest.write_text(forged)
    done, _ = launch(shared_mesh, "worker", directory=directory)
    assert done == 2  # the launcher's hash differs from what the forged manifest says
    evidence = load_platform(shared_mesh.state / "simulation").evidence(
        mr_enclave=measure_manifest(forged), report_data=bytes(64), product_id=3, svn=1
    )
    signed = wire.decode(
        (shared_mesh.state / "manifest.json").read_bytes(), SignedManifest, what="m"
    )
    with pytest.raises(PolicyDenied, match="not one that the policy names"):
        verify_evidence(
            evidence,
            policy=appraisal_policy(parse_manifest(signed), "worker"),
            report_data=bytes(64),
            now=unix_time(),
        )
