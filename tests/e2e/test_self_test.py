"""Each role tests itself where it runs: confined, from the files of its manifest alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mesh import RunningMesh
from simulators.of_no_mesh import AGREED

from wardian.tee.role_table import ROLES

TRIALS = {
    "broker": {"kbs", "store"},
    "frontend": {"http", "event loop", "metrics"},
    "aggregator": {"columns", "keeping"},
    "job": {"trainers"},
    "keeper": {"ledger"},
    "worker": {"image", "tokens", "model"},
    "zoo": {"record", "event loop"},
}


def self_test(state: Path, role: str, *more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "wardian.cli", "enclave", "run", role, "--state", str(state)]
    return subprocess.run(
        [*command, "--self-test", *more], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_passes_its_self_test(shared_mesh: RunningMesh, tmp_path: Path, role: str) -> None:
    state = shared_mesh.state
    if role in {"aggregator", "job", "keeper", "zoo"}:  # not in a mesh of the example
        state, agreed = tmp_path / "state", shared_mesh.state / "wardian.toml"
        if role in AGREED:
            agreed = tmp_path / f"{role}.toml"
            agreed.write_text(AGREED[role])
        place = str(state / (f"{role}-enclave" if role in AGREED else "enclave"))
        built = [sys.executable, "-m", "wardian.cli", "enclave", "build", role, "-o", place]
        state.mkdir(mode=0o700)
        subprocess.run([*built, "--deployment", str(agreed)], check=True)
    done = self_test(state, role)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    trials = {line["trial"] for line in said if line["event"] == "self-test"}
    assert trials == {"evidence", "sealing", "keys", "threads", "tls"} | TRIALS[role]
    assert said[-1] == {"event": "self-test.passed", "tee": "simulated", "simulated": True}
    (confined,) = [line for line in done.stderr.splitlines() if '"role.confined"' in line]
    assert json.loads(confined)["landlock"] >= 0


def test_a_self_test_that_fails_says_so(shared_mesh: RunningMesh, tmp_path: Path) -> None:
    """The broker's state cannot be written: the trial of its store fails, typed."""
    operator = tmp_path / "state"
    operator.mkdir(mode=0o700)
    (operator / "enclave").symlink_to(shared_mesh.state / "enclave")
    (operator / "broker").mkdir(mode=0o500)  # for root as well: a role gives its privileges up
    done = self_test(operator, "broker")
    assert done.returncode in (1, 2)
    assert '"failed"' in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("tool", ["gramine-sgx", "gramine-direct"])
def test_without_gramine_one_line_says_what_is_missing(
    shared_mesh: RunningMesh, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    done = self_test(shared_mesh.state, "worker", "--tee", tool)
    assert done.returncode == 2
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert f"{tool} is not installed" in error


def test_under_the_real_gramine_direct(shared_mesh: RunningMesh) -> None:
    import shutil

    if shutil.which("gramine-direct") is None:
        pytest.skip("gramine-direct is not installed, and neither PyPI nor Debian has it")
    for role in ROLES:
        done = self_test(shared_mesh.state, role, "--tee", "gramine-direct")
        assert done.returncode == 0, done.stderr[-2000:]
        assert "self-test.passed" in done.stderr
        checked = subprocess.run(
            ["gramine-manifest-check", str(shared_mesh.state / "enclave" / f"{role}.manifest")],
            capture_output=True,
            check=False,
        )
        assert checked.returncode == 0
