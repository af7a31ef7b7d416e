"""`wardian serve --zoo`: their files as they are, over a real Redis, to their clients as they are."""

import json
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mesh import REPOSITORY, RunningMesh
from simulators.zoo_models import SALT, SECRET, encrypted, openvino_digits
from simulators.zoo_redis import STREAM, PlainRedis, TheirClient

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "compat"))

from zoo_models import WEIGHTS, make_openvino

from wardian.crypto.zoo_formats import ZooForm
from wardian.serving.zoo.results import NAN

PAYLOADS = json.loads((REPOSITORY / "tests/vectors/zoo/payloads.json").read_text())
(ROWS,) = [
    each["payload"].encode()
    for each in PAYLOADS
    if (each["name"], each["source"]) == ("rows", "client 2.4.0, pyarrow 26.0.0")
]
"""A record of their client: eight rows of 0, 1, 2 and so on to 31."""
CBC = ZooForm.UNAUTHENTICATED_CBC_128


@pytest.fixture(scope="module")
def redis(need_program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainRedis]:
    server = PlainRedis(need_program("redis-server"), tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def client(redis: PlainRedis) -> Iterator[TheirClient]:
    made = redis.client()
    made("FLUSHALL")
    yield made
    made.close()


def answer(client: TheirClient, job: str, data: bytes, *more: bytes, within_s: float = 30) -> bytes:
    client.enqueue("my-uri", data, *more, job=job.encode())
    deadline = time.monotonic() + within_s
    while (found := client.result("my-uri", job=job.encode())) is None:
        assert time.monotonic() < deadline, "not answered"
        time.sleep(0.02)
    return found


def pairs(text: bytes) -> list[tuple[int, float]]:
    found = re.findall(r"\[(\d+),([^\]]+)\]", text.decode())
    return [(int(place), float(value)) for place, value in found]


def post(mesh: RunningMesh, path: str, body: object) -> bytes:
    context = ssl.create_default_context(cafile=str(mesh.ca))
    request = urllib.request.Request(
        f"{mesh.url}{path}", data=json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(request, context=context, timeout=20) as reply:
        return reply.read()


def serving(job: Path, *options: str) -> RunningMesh:
    return RunningMesh(
        state=job / "state",
        command=("serve", "--zoo", str(job / "config.yaml"), "--out", str(job / "out")),
        options=options,
    )


def command(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "wardian.cli", *arguments],
        capture_output=True, text=True, check=False, cwd=cwd, timeout=100, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def flat(job: Path, port: int) -> None:
    make_openvino(job / "model")
    (job / "config.yaml").write_text(
        f"modelPath: model\njobName: serving_stream\npostProcessing: topN(3)\n"
        f"redisUrl: localhost:{port}\nimageResize: 224,224\nmodelParallelism: 1\n"
    )


def test_a_flat_file_is_served_to_their_clients_and_again(
    redis: PlainRedis, client: TheirClient, tmp_path: Path
) -> None:
    flat(tmp_path, redis.port)
    mesh = serving(tmp_path).start()
    try:
        assert "imageResize" in mesh.screen
        assert "modelParallelism" not in mesh.screen  # it simply works
        assert "UNPROTECTED records and results of stream serving_stream" in mesh.screen
        scores = (np.arange(32, dtype="f4").reshape(8, 4) @ WEIGHTS).ravel()
        found = pairs(answer(client, "serving_stream", ROWS))
        assert [place for place, _ in found] == [79, 78, 77]
        np.testing.assert_allclose([value for _, value in found], scores[[79, 78, 77]], rtol=1e-5)
        row = {"instances": [{"image": [1, 0, 0, 0]}]}
        (told,) = json.loads(post(mesh, "/models/serving_stream/versions/1/predict", row))[
            "predictions"
        ]
        data = json.loads(json.loads(told)["value"])
        np.testing.assert_allclose(data["data"], WEIGHTS[0], rtol=1e-5)  # all, not the three
        assert b"predictions" in post(mesh, "/predict", row)
    finally:
        assert mesh.stop() == 0, mesh.screen
    made = (tmp_path / "out" / "serving_stream.ir").stat().st_mtime_ns
    mesh = serving(tmp_path, "--once").start_once()
    assert "is used again" in mesh
    assert (tmp_path / "out" / "serving_stream.ir").stat().st_mtime_ns == made


@pytest.mark.slow
def test_a_nested_file_of_0_9(redis: PlainRedis, client: TheirClient, tmp_path: Path) -> None:
    make_openvino(tmp_path / "model")
    (tmp_path / "config.yaml").write_text(
        "model:\n  path: model\n  name: old\n"
        f"data:\n  src: 127.0.0.1:{redis.port}\n  filter:\nparams:\n  core_number: 1\n"
    )
    mesh = serving(tmp_path).start()
    try:
        record = json.dumps({"instances": [{"image": [1, 0, 0, 0]}]}).encode()
        found = answer(client, "old", record, *STREAM)
        assert found != NAN
        assert b"predictions" in post(mesh, "/predict", json.loads(record))
    finally:
        assert mesh.stop() == 0, mesh.screen


@pytest.mark.slow
def test_an_encrypted_pair_whose_secret_lies_in_their_redis(
    redis: PlainRedis, client: TheirClient, tmp_path: Path
) -> None:
    clear = tmp_path.parent / f"{tmp_path.name}-clear"
    clear.mkdir()
    pair = openvino_digits(clear)
    (tmp_path / "model").mkdir()
    for name, content in zip(("n.xml", "n.bin"), pair, strict=True):
        (tmp_path / "model" / name).write_bytes(encrypted(content, CBC))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "config.yaml").write_text(
        f"modelPath: model\njobName: digits\nmodelEncrypted: true\n"
        f"redisUrl: localhost:{redis.port}\n"
    )
    client("HSET", "model_secured", "secret", SECRET)
    client("HSET", "model_secured", "salt", SALT)
    mesh = serving(tmp_path, "--model-secured", "--form", "cbc", "--bits", "128")
    mesh.env = {"TMPDIR": str(tmp_path / "tmp")}
    mesh.start()
    try:
        assert mesh.screen.count("DEL model_secured") == 1
        record = json.dumps({"instances": [{"image": [0.5] * 64}]}).encode()
        assert answer(client, "digits", record, *STREAM) != NAN
        assert b"predictions" in post(mesh, "/predict", json.loads(record))
        client("DEL", "model_secured")
    finally:
        assert mesh.stop() == 0, mesh.screen
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for canary in (pair[0][100:140], pair[1][500:532], SECRET, SALT):
                assert canary not in content, path
    again = serving(tmp_path, "--model-secured", "--form", "cbc", "--bits", "128", "--once")
    assert "is used again" in again.start_once()  # the secret is needed no more


def test_without_its_redis_it_says_so_before_anything_is_made(tmp_path: Path) -> None:
    from simulators.redis_server import free_port

    flat(tmp_path, port := free_port())
    done = command("serve", "--zoo", "config.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert f"config.yaml: redisUrl: redis://127.0.0.1:{port}: cannot be reached" in done.stderr
    assert "--no-stream" in done.stderr
    assert not (tmp_path / "migrated").exists()


def test_a_redis_with_a_password_is_told_from_one_that_is_away(
    need_program, tmp_path: Path
) -> None:
    server = PlainRedis(
        need_program("redis-server"), tmp_path / "redis", settings=("requirepass hush",)
    ).start()
    try:
        flat(tmp_path, server.port)
        done = command("serve", "--zoo", "config.yaml", cwd=tmp_path)
        assert (done.returncode, "does not let this role in (NOAUTH)" in done.stderr) == (2, True)
        (tmp_path / "secret").mkdir()
        password = tmp_path / "secret" / "password"
        password.touch(mode=0o600)
        password.write_text("hush\n")
        with_it = ("serve", "--zoo", "config.yaml", "--redis-password-file", "secret/password")
        done = command(*with_it, "--port", "0", "--once", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "hush" not in done.stdout + done.stderr
    finally:
        server.kill()


def test_a_password_in_the_arguments_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("not: [a config")
    for more in (("--httpsKeyStoreToken", "canary"), ("--redissTrustStoreToken=canary",)):
        done = command("serve", "--zoo", "config.yaml", "--", *more, cwd=tmp_path)
        assert done.returncode == 2
        assert "other users can read arguments" in done.stderr
        assert "canary" not in done.stderr + done.stdout
