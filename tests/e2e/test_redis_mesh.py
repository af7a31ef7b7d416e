"""A whole mesh whose queue is a Redis: it answers, it survives it, and it refuses a wrong one."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from mesh import DIGITS, RunningMesh
from own_redis import RedisServer

import wardian
from wardian.cli.resolving import free_port
from wardian.errors import WardianError
from wardian.inference.model import load_model

DEADLINE_S = 10.0  # limits.deadline_ms of the example
SLACK_S = 5.0  # the machine is shared; what is tested is that nothing hangs
CALLERS = 8


def heldout() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DIGITS / "heldout.npz") as data:
        return (data["image"] * np.float32(0.0625)).astype(np.float32), data["label"]


@pytest.fixture(scope="module")
def redis_mesh(
    tmp_path_factory: pytest.TempPathFactory, need_program: Callable[[str], str]
) -> Iterator[RunningMesh]:
    need_program("redis-server")
    state = tmp_path_factory.mktemp("redis") / "state"
    mesh = RunningMesh(state=state, options=("--queue", "redis")).start()
    try:
        yield mesh
    finally:
        assert mesh.stop() == 0, mesh.screen


def test_every_answer_equals_the_plain_model_s(redis_mesh: RunningMesh) -> None:
    rows, labels = heldout()
    plain = load_model(
        (DIGITS / "digits.onnx").read_bytes(),
        media_type="application/onnx",
        engine="openvino",
        threads=1,
    )
    with wardian.connect(redis_mesh.url, policy=redis_mesh.policy) as client:
        answered = [client.infer("digits", {"image": row[np.newaxis]})["label"][0] for row in rows]
    expected = [plain.infer({"image": row[np.newaxis]})["label"][0] for row in rows]
    plain.close()
    assert answered == expected
    assert np.mean(np.array(answered) == labels) > 0.97


def test_the_queue_is_the_redis_and_the_screen_and_the_status_say_so(
    redis_mesh: RunningMesh,
) -> None:
    assert "redis     started" in redis_mesh.screen
    assert "access to Redis, to that frontend" in redis_mesh.screen
    assert "access to Redis, to that worker" in redis_mesh.screen
    assert not (redis_mesh.state / "run" / "queue" / "queue.sock").exists()
    shown = subprocess.run(
        [sys.executable, "-m", "wardian.cli", "status", "--state", str(redis_mesh.state)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "  redis " in shown.stdout
    assert "got access to Redis" in shown.stdout


def test_its_files_are_its_user_s_alone_and_no_secret_is_where_it_should_not(
    redis_mesh: RunningMesh,
) -> None:
    directory = redis_mesh.state / "redis"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in directory.iterdir())
    pid = redis_mesh.role_pid("redis")
    told = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    key = (directory / "server.key").read_bytes()
    assert b"redis-server" in told
    for log in (redis_mesh.state / "logs").iterdir():
        told += log.read_bytes()
    assert key.splitlines()[1] not in told
    assert not list(directory.glob("*.rdb"))
    assert not list(directory.glob("*.aof"))


@pytest.mark.slow
async def test_kill_9_of_redis_under_load(redis_mesh: RunningMesh) -> None:
    """It comes back empty. What was in it was sealed under a counter, and is sealed anew."""
    mesh, image = redis_mesh, np.zeros((1, 64), np.float32)
    outcomes: Counter[str] = Counter()
    longest, killed_at, late = 0.0, time.monotonic() + 60, 0

    async def call(client: wardian.AsyncClient, until: float) -> None:
        nonlocal longest, late
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                answer = await client.infer("digits", {"image": image})
                assert answer["label"].shape == (1,)
                outcomes["answered"] += 1
                late += began > killed_at
            except WardianError as err:
                outcomes[type(err).__name__] += 1
                await asyncio.sleep(0.02)
            longest = max(longest, time.monotonic() - began)

    async with await wardian.connect_async(mesh.url, policy=mesh.policy) as client:
        until = time.monotonic() + 12
        callers = [asyncio.create_task(call(client, until)) for _ in range(CALLERS)]
        for _ in range(2):
            await asyncio.sleep(1.0)
            pid = mesh.role_pid("redis")
            os.kill(pid, signal.SIGKILL)
            killed_at = time.monotonic() + 1
            await _another_redis(mesh, than=pid)
        await asyncio.gather(*callers)
    print(dict(outcomes), f"longest {longest:.2f} s")
    assert longest < DEADLINE_S + SLACK_S
    assert late > 0
    assert outcomes["answered"] > 10 * (sum(outcomes.values()) - outcomes["answered"])
    processes = {each["name"]: each for each in mesh.status["processes"]}
    assert processes["redis"]["starts"] == 3
    assert processes["frontend"]["starts"] == processes["worker-digits-1"]["starts"] == 1


async def _another_redis(mesh: RunningMesh, *, than: int) -> None:
    for _ in range(400):
        try:
            if mesh.role_pid("redis") != than:
                return
        except (IndexError, ValueError):
            pass  # between two
        await asyncio.sleep(0.05)
    raise AssertionError("no other Redis came up")


def test_redis_ends_with_its_launcher(redis_mesh: RunningMesh) -> None:
    pid = redis_mesh.role_pid("redis")
    (process,) = [each for each in redis_mesh.status["processes"] if each["name"] == "redis"]
    os.kill(process["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.05)
    assert not _alive(pid)
    asyncio.run(_another_redis(redis_mesh, than=pid))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# A Redis of the operator's own


def up(state: Path, queue: str) -> "subprocess.CompletedProcess[str]":
    arguments = ["up", str(DIGITS), "--state", str(state), "--port", "0", "--once"]
    return subprocess.run(
        [sys.executable, "-m", "wardian.cli", *arguments, "--queue", queue],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


class Foreign:
    """A broker of another mesh, for a Redis that is none of ours."""

    def __init__(self, directory: Path) -> None:
        sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
        from toy_mesh import ToyBroker, ToyMesh

        from wardian.broker.infrastructure.keeping import Infrastructure

        self.broker = ToyBroker(ToyMesh(name="other"), directory / "other.db")
        self.broker.host_time = int(time.time())
        self.infrastructure = Infrastructure(self.broker.authority)


@pytest.mark.slow
def test_a_redis_of_another_authority_is_refused(
    tmp_path: Path, need_program: Callable[[str], str]
) -> None:
    foreign = Foreign(tmp_path)
    redis = RedisServer(
        need_program("redis-server"), tmp_path / "redis", foreign.infrastructure
    ).start()
    try:
        done = up(tmp_path / "state", f"rediss://127.0.0.1:{redis.port}")
    finally:
        redis.stop()
        foreign.broker.close()
    assert done.returncode == 1
    assert "Redis: cannot be reached (SSLCertVerificationError)" in done.stderr
    log = (redis.directory / "log").read_text()
    assert "worker" not in log


@pytest.mark.slow
def test_a_port_that_speaks_in_the_clear_is_refused(tmp_path: Path) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_speak_clear, args=(listening, heard))
        thread.start()
        done = up(tmp_path / "state", f"rediss://127.0.0.1:{listening.getsockname()[1]}")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert done.returncode == 1
    assert "Redis: cannot be reached (SSLError)" in done.stderr
    assert heard
    assert all(each[:1] == b"\x16" for each in heard)  # a TLS handshake and nothing else
    clear = up(tmp_path / "state", "redis://127.0.0.1:6379")
    assert clear.returncode == 2
    assert "write rediss://" in clear.stderr


def _speak_clear(listening: socket.socket, heard: list[bytes]) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(5)
            heard.append(connection.recv(64))
            connection.sendall(b"-ERR unknown command\r\n")


@pytest.mark.slow
def test_nobody_there_is_said(tmp_path: Path) -> None:
    done = up(tmp_path / "state", f"rediss://127.0.0.1:{free_port(['127.0.0.1'])}")
    assert done.returncode == 1
    assert "Redis: cannot be reached (ConnectionRefusedError)" in done.stderr


@pytest.mark.slow
def test_a_redis_that_does_not_know_the_passwords(
    tmp_path: Path, need_program: Callable[[str], str]
) -> None:
    """An operator's own, with files of this mesh's broker; then somebody edits its users."""
    program = need_program("redis-server")
    port = free_port(["127.0.0.1"])
    url, out = f"rediss://127.0.0.1:{port}", tmp_path / "redis"
    mesh = RunningMesh(state=tmp_path / "state", options=("--queue", "redis")).start()
    try:
        where = ("--state", str(mesh.state), "--name", "127.0.0.1", "--out", str(out))
        size = ("--port", str(port), "--memory", "64mb")
        made = subprocess.run(
            [sys.executable, "-m", "wardian.cli", "broker", "queue-files", *where, *size],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        mesh.stop()
    assert made.returncode == 0, made.stderr
    assert up_with(program, out, tmp_path / "state", url).returncode == 0
    users = (out / "users.acl").read_text()
    changed = users.replace("#", "#0000", 1).replace(users.split("#")[1][60:64], "", 1)
    (out / "users.acl").write_text(changed)
    done = up_with(program, out, tmp_path / "state", url)
    assert done.returncode == 1
    assert "Redis: does not let this role in (WRONGPASS)" in done.stderr


def up_with(
    program: str, directory: Path, state: Path, url: str
) -> "subprocess.CompletedProcess[str]":
    with (directory / "log").open("wb") as log:
        redis = subprocess.Popen([program, str(directory / "redis.conf")], stdout=log, stderr=log)
        try:
            return up(state, url)
        finally:
            redis.terminate()
            redis.wait()


def test_without_a_redis_server_it_is_said_what_to_install(tmp_path: Path) -> None:
    arguments = ("up", str(DIGITS), "--state", str(tmp_path / "state"), "--queue", "redis")
    done = subprocess.run(
        [sys.executable, "-m", "wardian.cli", *arguments, "--once"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert "apt install redis-server" in done.stderr


def test_the_log_of_a_mesh_with_a_redis_is_json_but_for_redis_itself(
    redis_mesh: RunningMesh,
) -> None:
    for log in (redis_mesh.state / "logs").iterdir():
        if log.name != "redis.jsonl":
            for line in log.read_text().splitlines():
                json.loads(line)
