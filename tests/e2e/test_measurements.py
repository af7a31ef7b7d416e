"""What changes a measurement and what does not, over whole meshes and as a user builds them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mesh import DIGITS, RunningMesh
from simulators.of_no_mesh import AGREED

from wardian.tee.manifest.lint import lint
from wardian.tee.role_table import ROLES

OF_MESH = sorted(
    role for role, spec in ROLES.items() if spec.of_mesh and role not in {"zoo", "job"}
)
"""Those of the example, which agreed to no dialect, and learns nothing."""


def manifests(mesh: RunningMesh) -> dict[str, bytes]:
    return {role: (mesh.state / "enclave" / f"{role}.manifest").read_bytes() for role in OF_MESH}


@pytest.mark.slow
def test_the_operator_s_file_changes_no_measurement_and_the_agreed_one_all(tmp_path: Path) -> None:
    example = shutil.copytree(DIGITS, tmp_path / "example")
    mesh = RunningMesh(state=tmp_path / "state", example=example)

    def built() -> dict[str, bytes]:
        mesh.start()
        assert mesh.stop() == 0
        return manifests(mesh)

    first = built()
    (example / "operator.toml").write_text(
        'log_level = "debug"\n[worker]\nreplicas = 2\n[frontend]\naddress = "127.0.0.1"\n'
        'names = ["localhost"]\n[broker]\naddress = "localhost"\n[queue]\nport = 0\n'
    )
    assert built() == first
    agreed = example / "wardian.toml"
    agreed.write_text(agreed.read_text().replace("max_waiting = 4096", "max_waiting = 4095"))
    after = built()
    assert all(after[role] != first[role] for role in OF_MESH)


@pytest.mark.parametrize(
    "role",
    [
        pytest.param(role, marks=() if role == "worker" else pytest.mark.slow)
        for role in sorted(ROLES)
    ],
)
def test_built_on_the_command_line_twice(
    shared_mesh: RunningMesh, tmp_path: Path, role: str
) -> None:
    told, deployment = [], shared_mesh.state / "wardian.toml"
    if not ROLES[role].of_mesh:
        deployment = tmp_path / f"{role}.toml"
        deployment.write_text(AGREED[role])
    for name in ("a", "b"):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "wardian.cli", "enclave", "build", role, "--json"),
                *("--deployment", str(deployment)),
                *("-o", str(tmp_path / name)),
            ],
            capture_output=True,
            text=True,
            check=True,
            cwd="/",
        )
        told.append(json.loads(done.stdout))
    text = (tmp_path / "a" / f"{role}.manifest").read_text()
    assert text == (tmp_path / "b" / f"{role}.manifest").read_text()
    assert role not in OF_MESH or text.encode() == manifests(shared_mesh)[role]
    assert told[0]["simulated_mr_enclave"] == told[1]["simulated_mr_enclave"]
    assert told[0]["manifest_bytes"] == len(text.encode())
    assert len(text.encode()) <= (400_000 if role == "job" else 200_000)
    assert told[0]["trusted_files"] == text.count("sha256 = ") - text.count('libsysdb.so", sha256')
    assert lint(text, name=role) == ()


@pytest.mark.parametrize("role", OF_MESH)
def test_reference_values_name_what_the_broker_accepts(
    shared_mesh: RunningMesh, tmp_path: Path, role: str
) -> None:
    target = tmp_path / "reference-values.toml"
    subprocess.run(
        [
            *(sys.executable, "-m", "wardian.cli", "enclave", "measure"),
            *(str(shared_mesh.state / "enclave" / f"{each}.manifest") for each in OF_MESH),
            *("-o", str(target)),
        ],
        check=True,
        capture_output=True,
    )
    signed = json.loads((shared_mesh.state / "manifest.json").read_bytes())
    accepted = json.dumps(signed)
    from wardian.tee.manifest.reference_values import load_reference_values

    (measurement,) = load_reference_values(target).to_roles()[role]
    from wardian._internal import wire
    from wardian.broker.mesh.manifest import SignedManifest, parse_manifest

    manifest = parse_manifest(wire.decode(accepted.encode(), SignedManifest, what="manifest"))
    assert manifest.roles[role].measurements == (measurement,)
