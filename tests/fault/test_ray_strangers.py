"""Who has no certificate of the cluster's reaches none of Ray's ports; what Ray keeps holds nothing."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from simulators import ray_strangers
from simulators.infrastructure_files import write_node_files
from simulators.placed_workers import PlacedWorkers
from simulators.ray_cluster import RayCluster, below, ray_cluster, ray_python
from simulators.what_stands import comm, files_below

from wardian.engines import WorkersSpec
from wardian.engines.engine import LIFELINE
from wardian.engines.ray.engine import RayEngine
from wardian.engines.ray.place import (
    PORTS_OF_A_NODE,
    RayPlace,
    RayTls,
    cluster_processes,
    environment,
    short_directory,
    write_token,
)

OTHER_ADDRESS = "ip addr add 10.9.9.9/24 dev lo; ip route add default dev lo"
"""As a host has that is on a network: Ray takes it for its own, and listens on all, if it can."""
CANARY = "what-a-worker-holds-in-the-clear"
HOLDER = """
import json, os, select, sys
held = bytes.fromhex(sys.argv[2]).decode()
print(held, flush=True)
print(json.dumps({"event": "worker.ready"}), flush=True)
while select.select([int(sys.argv[1].partition(":")[0])], [], [], 20)[0]:
    if not os.read(int(sys.argv[1].partition(":")[0]), 4096):
        break
"""
CONNECT = """
import os, sys, ray
try:
    ray.init(address=sys.argv[1], _node_ip_address="127.0.0.1", log_to_driver=False)
except BaseException as err:
    print("refused", type(err).__name__, err)
else:
    print("reached")
sys.stdout.flush()
os._exit(0)
"""


async def serving(engine: RayEngine) -> None:
    async with asyncio.timeout(90):
        while [each.state for each in await engine.status()] != ["ready"]:
            await asyncio.sleep(0.1)


async def test_strangers_get_nowhere_and_what_ray_keeps_holds_nothing(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("WARDIAN_SECRET", "what-wardian-has-in-its-environment")
    logs = PlacedWorkers.under(tmp_path).logs
    argv = (sys.executable, "-I", "-c", HOLDER, LIFELINE, CANARY.encode().hex())
    spec = WorkersSpec(name="worker-m", argv=argv, env={}, logs=logs, replicas=1)
    async with ray_cluster(tmp_path, setup=OTHER_ADDRESS) as cluster:
        engine = RayEngine(cluster.place)
        await engine.start(spec)
        await serving(engine)
        assert CANARY in (logs / "worker-m-1.jsonl").read_text()
        listens_on_loopback_and_lets_only_its_own_in(cluster)
        driver = engine._link
        assert driver is not None
        holds_nothing(cluster, spec, [driver._process.pid])
        await engine.stop()


def listens_on_loopback_and_lets_only_its_own_in(cluster: RayCluster) -> None:
    done = cluster.inside(sys.executable, "-I", ray_strangers.__file__, str(cluster.files))
    assert done.returncode == 0, done.stderr
    ports = json.loads(done.stdout)
    assert {"gcs_server", "raylet"} <= {each["program"] for each in ports}
    first = cluster.place.first_port
    for each in ports:
        assert each["address"] == "127.0.0.1", each
        assert first <= each["port"] < first + PORTS_OF_A_NODE, each
        heard = each["heard"]
        if each["program"] == "ray::RuntimeEnv":  # HTTP: it asks for the token
            assert "401 Unauthorized" in heard["http"], each
            continue
        assert heard["own"].startswith("heard: \0"), each  # HTTP/2's SETTINGS: the way is open
        refused = {who: what for who, what in heard.items() if who != "own"}
        assert all(what.startswith("refused: ") for what in refused.values()), each


def takes_its_own_token_alone(cluster: RayCluster) -> None:
    """Whoever has even the cluster's own certificate gets nowhere without its token."""
    python = str(cluster.place.python)
    wrong = cluster.files / "wrong"
    wrong.write_text("0" * 64)
    env = {**environment(cluster.place), "RAY_py_gcs_connect_timeout_s": "3"}
    address = cluster.place.cluster_address()
    tries = {
        "right": env,
        "wrong": {**env, "RAY_AUTH_TOKEN_PATH": str(wrong)},
        "none": {**env, "RAY_AUTH_MODE": "disabled"},
    }
    heard = {
        what: cluster.inside(python, "-c", CONNECT, address, env=each).stdout
        for what, each in tries.items()
    }
    assert heard["right"].endswith("reached\n"), heard
    assert heard["wrong"].startswith("refused"), heard
    assert heard["none"].startswith("refused"), heard


def holds_nothing(cluster: RayCluster, spec: WorkersSpec, drivers: list[int]) -> None:
    """Look through all files of Ray, and the command lines, environments and memory of it."""
    canaries = (CANARY.encode(), b"what-wardian-has-in-its-environment")
    token = cluster.place.token.read_bytes()
    files = list(files_below(cluster.place.directory))
    assert files
    logs = [(path, path.read_bytes()) for path in cluster.files.glob("*.log")]
    for path, content in (*files, *logs):
        assert not any(each in content for each in (*canaries, token)), path
    pids = [*below(cluster.pid("ray-1")), *drivers]
    programs = {comm(pid) for pid in pids}
    assert {"gcs_server", "raylet", "ray::WorkerActo"} <= programs
    for pid in pids:
        for what in ("cmdline", "environ"):
            told = Path(f"/proc/{pid}/{what}").read_bytes()
            assert token not in told, (pid, what)
            assert not any(each in told for each in canaries), (pid, what)
    for pid in (pid for pid in pids if comm(pid) in {"gcs_server", "raylet"}):
        memory = memory_of(pid)
        assert not any(each in memory for each in canaries), comm(pid)
        if comm(pid) == "gcs_server":  # so it would have been seen
            assert spec.argv[-1].encode() in memory


def memory_of(pid: int) -> bytes:
    """All that `pid` has mapped to write to: its tables, and the object store."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if span is None:
                continue
            start, end = (int(each, 16) for each in span.groups())
            try:
                memory.seek(start)
                found.append(memory.read(end - start))
            except (OSError, OverflowError, ValueError):
                continue
    return b"\0".join(found)


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_with_the_authority_trusted_only_the_token_keeps_its_other_certificates_out(
    tmp_path: Path,
) -> None:
    """Why a cluster trusts its own certificate, and not whatever the CA signs."""
    async with ray_cluster(tmp_path, trusted="ca.pem") as cluster:
        engine = RayEngine(cluster.place)
        await engine.start(PlacedWorkers.under(tmp_path).spec())
        await serving(engine)
        done = cluster.inside(sys.executable, "-I", ray_strangers.__file__, str(cluster.files))
        gcs = next(e for e in json.loads(done.stdout) if e["program"] == "gcs_server")
        assert gcs["heard"]["sibling"].startswith("heard: ")
        assert gcs["heard"]["no certificate"].startswith("refused: ")
        takes_its_own_token_alone(cluster)
        await engine.stop()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_node_calls_nobody_outside(tmp_path: Path, need_program) -> None:
    """No name service, no metadata service of a cloud, nobody: what it calls is on loopback."""
    need_program("strace")
    write_node_files(tmp_path, names=("localhost", "127.0.0.1"))
    write_token(tmp_path / "token")
    certificate = tmp_path / "node.pem"
    place = RayPlace(
        python=ray_python(),
        directory=short_directory(tmp_path / ("x" * 99)),
        tls=RayTls(certificate=certificate, key=tmp_path / "node.key", trusted=certificate),
        token=tmp_path / "token",
    )
    (spec,) = cluster_processes(place, logs=tmp_path)
    node = spec.argv[spec.argv.index(str(place.python)) :]
    trace = tmp_path / "trace"
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    strace = ("strace", "-f", "-qq", "-o", str(trace), "-e", calls, *node)
    script = f'ip link set lo up; {OTHER_ADDRESS}; exec timeout -s INT 30 "$@"'
    argv = ["unshare", "--net", "sh", "-c", script, "sh", *strace]
    try:
        subprocess.run(argv, env=dict(spec.env), capture_output=True, timeout=90, check=False)
    finally:
        shutil.rmtree(place.directory, ignore_errors=True)
    lines = trace.read_text(errors="replace").splitlines()
    called = {
        found[1]
        for line in lines
        if (found := re.search(r'inet_(?:addr|pton)\([^"]*"([^"]+)"', line))
    }
    assert "127.0.0.1" in called or "::ffff:127.0.0.1" in called
    assert {each for each in called if not each.removeprefix("::ffff:").startswith("127.")} == set()
