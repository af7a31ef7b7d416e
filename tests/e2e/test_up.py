"""`wardian up` does the main job: the answers over HTTPS are the plain model's, one by one."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mesh import DIGITS, REPOSITORY, RunningMesh

import wardian
from wardian.errors import ConfigError, PolicyDenied
from wardian.inference.model import load_model


def heldout() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DIGITS / "heldout.npz") as data:
        return (data["image"] * np.float32(0.0625)).astype(np.float32), data["label"]


def test_every_answer_equals_the_plain_model_s(shared_mesh: RunningMesh) -> None:
    rows, labels = heldout()
    plain = load_model(
        (DIGITS / "digits.onnx").read_bytes(),
        media_type="application/onnx",
        engine="openvino",
        threads=1,
    )
    correct = 0
    with wardian.connect(shared_mesh.url, policy=shared_mesh.policy) as client:
        for row, label in zip(rows, labels, strict=True):
            over_https = client.infer("digits", {"image": row[np.newaxis]})
            in_process = plain.infer({"image": row[np.newaxis]})
            assert over_https["label"][0] == in_process["label"][0]
            np.testing.assert_allclose(
                over_https["probabilities"], in_process["probabilities"], rtol=1e-5, atol=1e-7
            )
            correct += int(over_https["label"][0] == label)
    assert correct / len(rows) > 0.97


async def test_the_async_client_answers_as_well(shared_mesh: RunningMesh) -> None:
    rows, _ = heldout()
    async with await wardian.connect_async(shared_mesh.url, policy=shared_mesh.policy) as client:
        answer = await client.infer("digits", {"image": rows})
    with wardian.connect(shared_mesh.url, policy=shared_mesh.policy) as client:
        assert np.array_equal(client.infer("digits", {"image": rows})["label"], answer["label"])


def test_the_curl_line_works_when_pasted(
    shared_mesh: RunningMesh, need_program: Callable[[str], str]
) -> None:
    need_program("curl")
    (line,) = re.findall(r"^  (curl .*?)(?:   #.*)?$", shared_mesh.screen, re.MULTILINE)
    done = subprocess.run(shlex.split(line), capture_output=True, check=True, cwd=REPOSITORY)
    (prediction,) = json.loads(done.stdout)["predictions"]
    assert prediction["label"] == heldout()[1][0]


def test_the_screen_tells_the_whole_story(shared_mesh: RunningMesh) -> None:
    screen = shared_mesh.screen
    for told in ("sealed", "signed", "handed over", "released", "serving", "passed", "SIMULATED"):
        assert told in screen
    for role in ("broker", "frontend", "worker"):
        assert re.search(rf"{role} +attested +SIMULATED +mr_enclave [0-9a-f]{{16}}", screen)
    assert re.search(r"599 answers, accuracy 0\.9\d+, p50 [\d.]+ ms, p99 [\d.]+ ms", screen)


def altered_policy(mesh: RunningMesh, tmp_path: Path, pattern: str, replacement: str) -> Path:
    text, count = re.subn(pattern, replacement, mesh.policy.read_text(), flags=re.MULTILINE)
    assert count == 1
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return path


def test_a_policy_that_pins_another_manifest_refuses(
    shared_mesh: RunningMesh, tmp_path: Path
) -> None:
    path = altered_policy(
        shared_mesh, tmp_path, r'^manifest_digest = "[0-9a-f]{2}', 'manifest_digest = "00'
    )
    with pytest.raises(PolicyDenied, match="manifest"):
        wardian.connect(shared_mesh.url, policy=path)


def test_a_policy_that_names_no_simulation_refuses_and_says_why(
    shared_mesh: RunningMesh, tmp_path: Path
) -> None:
    path = altered_policy(
        shared_mesh, tmp_path, r"^simulation_root_sha256 = .*$", 'any_platform = "risk accepted"'
    )
    with pytest.raises(PolicyDenied, match="SIMULATED.*does not name that root"):
        wardian.connect(shared_mesh.url, policy=path)


def test_a_policy_that_pins_nothing_is_none(shared_mesh: RunningMesh, tmp_path: Path) -> None:
    path = altered_policy(shared_mesh, tmp_path, r"^manifest_digest = .*$", "")
    with pytest.raises(ConfigError, match="names no mesh"):
        wardian.connect(shared_mesh.url, policy=path)


def wardian_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "wardian.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )


def test_attest_show_verifies_and_hands_out_the_ca(
    shared_mesh: RunningMesh, tmp_path: Path
) -> None:
    out, ca = tmp_path / "evidence.json", tmp_path / "ca.pem"
    shown = wardian_command(
        "attest",
        "show",
        shared_mesh.url,
        "--policy",
        str(shared_mesh.policy),
        "--out",
        str(out),
        "--ca-out",
        str(ca),
    )
    assert shown.returncode == 0, shown.stderr
    assert "SIMULATED" in shown.stdout
    assert "Bound to this connection" in shown.stdout
    assert ca.read_bytes() == shared_mesh.ca.read_bytes()
    evidence_policy = tmp_path / "evidence.toml"
    evidence_policy.write_text(
        re.search(r"\[evidence\]\n(.*)\[mesh\]", shared_mesh.policy.read_text(), re.DOTALL).group(1)
    )
    explained = wardian_command("attest", "explain", str(out), "--policy", str(evidence_policy))
    assert explained.returncode == 0, explained.stdout
    assert "MeasurementIn" in explained.stdout


def test_attest_show_without_a_policy_accepts_nothing(shared_mesh: RunningMesh) -> None:
    shown = wardian_command("attest", "show", shared_mesh.url)
    assert shown.returncode == 3
    assert "REFUSES" in shown.stdout
    assert wardian_command("attest", "show", shared_mesh.url, "--ca-out", "x").returncode == 2


def test_status_tells_processes_evidence_and_audit(shared_mesh: RunningMesh) -> None:
    shown = wardian_command("status", "--state", str(shared_mesh.state))
    assert shown.returncode == 0, shown.stderr
    assert "SIMULATED" in shown.stdout
    for process in ("broker", "frontend", "worker-digits-1"):
        assert process in shown.stdout
    as_json = json.loads(
        wardian_command("status", "--state", str(shared_mesh.state), "--json").stdout
    )
    assert as_json["broker"]["simulated"] is True
    assert as_json["broker"]["witnessed"]["head"]["audit"]["count"] > 0


def test_a_second_up_on_the_same_state_is_told_off(shared_mesh: RunningMesh) -> None:
    second = wardian_command("up", str(DIGITS), "--state", str(shared_mesh.state), "--once")
    assert second.returncode == 2
    assert "another Wardian runs there" in second.stderr
