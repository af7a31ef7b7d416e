"""Cluster Serving's configuration moves over: a migrated directory serves, its old commands work."""

import json
import subprocess
import sys
import time
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from mesh import REPOSITORY, RunningMesh

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "compat"))

from simulators.zoo_redis import STREAM, PlainRedis
from zoo_models import WEIGHTS, make_openvino

import wardian

PROTECTED = ("--no-stream", "--no-http")

SCRIPTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]


def script(name: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    module, function = SCRIPTS[name].split(":")
    return subprocess.run(
        [sys.executable, "-P", "-c", f"from {module} import {function}; {function}()", *arguments],
        capture_output=True, text=True, check=False, cwd=cwd, timeout=100, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def ask(url: str, state: Path) -> None:
    """The answers are those of the model, the three largest of them."""
    rows = np.array([[1, 0, 0, 0], [0, 2, -1, 1]], "<f4")
    with wardian.connect(url, policy=state / "client-policy.toml") as client:
        answer = client.infer("mobilenet_job", {"image": rows})
    scores = rows @ WEIGHTS
    order = np.argsort(-scores, axis=-1, kind="stable")[:, :3]
    assert np.array_equal(answer["scores_index"], order)
    np.testing.assert_allclose(
        answer["scores_value"], np.take_along_axis(scores, order, axis=-1), rtol=1e-5
    )


@pytest.fixture
def job(tmp_path: Path) -> Path:
    make_openvino(tmp_path / "model")
    (tmp_path / "config.yaml").write_text(
        "modelPath: model\njobName: mobilenet_job\npostProcessing: topN(3)\nmodelParallelism: 2\n"
    )
    return tmp_path


def test_a_migrated_directory_passes_wardian_up(job: Path) -> None:
    done = script("wardian", "migrate", "config.yaml", "--out", "out", cwd=job)
    assert done.returncode == 0, done.stderr
    up = script("wardian", "up", "out", "--once", "--port", "0", cwd=job)
    assert up.returncode == 0, up.stdout + up.stderr
    assert "mobilenet_job version 1" in up.stdout
    assert up.stdout.count("worker    attested") == 2


@pytest.mark.slow
def test_what_a_migrated_directory_answers_is_what_the_model_says(job: Path) -> None:
    assert script("wardian", "migrate", "config.yaml", "--out", "out", cwd=job).returncode == 0
    mesh = RunningMesh(state=job / "state", example=job / "out").start()
    try:
        ask(mesh.url, job / "state")
    finally:
        assert mesh.stop() == 0, mesh.screen


@pytest.mark.slow
def test_the_old_commands_start_and_end_it(job: Path) -> None:
    (job / "wardian.py").write_text("raise SystemExit(9)")  # the working directory runs nothing
    done = script("cluster-serving-start", "--port", "0", "-o", "2", *PROTECTED, cwd=job)
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        assert "UNPROTECTED" not in done.stdout
        assert "threads = 2" in (job / "migrated" / "wardian.toml").read_text()
        (name, url) = script("cluster-serving-cli", "list", cwd=job).stdout.split()
        assert name == "mobilenet_job"
        ask(url, job / ".wardian")
        again = script("cluster-serving-start", *PROTECTED, cwd=job)
        assert again.returncode == 2
        assert "runs already" in again.stderr
        other = script("cluster-serving-restart", "--port", "0", *PROTECTED, cwd=job)
        assert other.returncode == 2, "other threads"
        assert "--force makes it anew" in other.stderr
        assert script("cluster-serving-cli", "list", cwd=job).stdout, "what runs goes on"
        other = script("cluster-serving-cli", "stop", "another", cwd=job)
        assert other.returncode == 2
        assert "another: no such job" in other.stderr
        done = script("cluster-serving-restart", "--port", "0", "-o", "2", *PROTECTED, cwd=job)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "is used again" in done.stdout
    finally:
        done = script("cluster-serving-cli", "stop", "mobilenet_job", cwd=job)
    assert done.returncode == 0, done.stderr
    assert json.loads((job / ".wardian/run/status.json").read_text())["state"] == "stopped"
    assert script("cluster-serving-cli", "list", cwd=job).stdout == ""
    assert script("cluster-serving-stop", cwd=job).returncode == 2


def test_each_script_is_there() -> None:
    for target in SCRIPTS.values():
        module, function = target.split(":")
        assert callable(getattr(import_module(module), function))


def test_init_writes_a_file_that_start_reads_and_never_overwrites_one(tmp_path: Path) -> None:
    assert script("cluster-serving-init", cwd=tmp_path).returncode == 0
    made = tmp_path / "config.yaml"
    done = script("cluster-serving-start", cwd=tmp_path)
    assert done.returncode == 1
    assert "modelPath: is not there" in done.stdout
    made.write_text("mine")
    again = script("cluster-serving-init", cwd=tmp_path)
    assert again.returncode == 2
    assert "never overwritten" in again.stderr
    assert made.read_text() == "mine"


@pytest.mark.parametrize("name", ["cluster-serving-stop", "cluster-serving-shutdown"])
def test_where_nothing_runs_it_is_said(tmp_path: Path, name: str) -> None:
    done = script(name, cwd=tmp_path)
    assert (done.returncode, "no such directory" in done.stderr) == (2, True)
    (tmp_path / ".wardian").mkdir(mode=0o700)
    done = script(name, cwd=tmp_path)
    assert (done.returncode, "nothing runs there" in done.stderr) == (2, True)


def test_a_number_that_is_another_process_s_by_now_gets_no_signal(tmp_path: Path) -> None:
    run = tmp_path / ".wardian" / "run"
    run.mkdir(mode=0o700, parents=True)
    (tmp_path / ".wardian").chmod(0o700)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        record = {"pid": bystander.pid, "started": 1}
        (run / "cluster-serving.json").write_text(json.dumps(record))
        assert script("cluster-serving-stop", cwd=tmp_path).returncode == 2
        assert bystander.poll() is None
        bystander.communicate(b"\n")
    assert bystander.returncode == 0


@pytest.mark.slow
def test_the_old_commands_serve_their_stream(need_program, job: Path) -> None:
    redis = PlainRedis(need_program("redis-server"), job / "redis").start()
    try:
        with (job / "config.yaml").open("a") as config:
            config.write(f"redisUrl: localhost:{redis.port}\n")
        done = script("cluster-serving-start", "--port", "0", cwd=job)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "UNPROTECTED" in done.stdout
        client = redis.client()
        record = json.dumps({"instances": [{"image": [1, 0, 0, 0]}]}).encode()
        client.enqueue("a", record, *STREAM, job=b"mobilenet_job")
        deadline = time.monotonic() + 30
        while not client.result("a", job=b"mobilenet_job"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.result("a", job=b"mobilenet_job").startswith(b"[[9,")
        client.close()
        assert script("cluster-serving-stop", cwd=job).returncode == 0
    finally:
        redis.kill()


def test_a_start_that_fails_says_why(job: Path) -> None:
    assert script("wardian", "migrate", "config.yaml", cwd=job).returncode == 0
    agreed = job / "migrated" / "wardian.toml"
    agreed.write_text(agreed.read_text().replace("threads = 1", "threads = 0"))
    done = script("cluster-serving-start", "--port", "0", *PROTECTED, cwd=job)
    assert done.returncode == 1
    assert "wardian up ended" in done.stderr
    assert "threads" in done.stderr
    assert script("cluster-serving-start", "-o", "2", *PROTECTED, cwd=job).returncode == 2


def test_another_wardian_in_the_state_directory_is_left_alone(job: Path) -> None:
    import fcntl

    run = job / ".wardian" / "run"
    run.mkdir(mode=0o700, parents=True)
    (job / ".wardian").chmod(0o700)
    (run / "status.json").write_text('{"state":"serving","url":"x"}')
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = script("cluster-serving-start", *PROTECTED, cwd=job)
    assert done.returncode == 2
    assert "another Wardian runs there" in done.stderr
    assert (run / "status.json").exists()
