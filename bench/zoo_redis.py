"""The Redis dialect of Cluster Serving: a filled stream drained, and its client in a closed loop.

A mesh of whole, confined processes (SIMULATED): broker, front end with an idle worker, the role
`zoo` with one worker. Beside it a plain redis-server that keeps nothing on disk, and the client of
`bigdl-serving` 2.4.0 as it is, in an environment of its own: the Python that `WARDIAN_ZOO_PYTHON`
or `--python` names, or one that is made below `--scratch`. The model is an MLP of 16-64-10 with
random weights; every result is read by that client and compared with NumPy's.

A stream is filled while the role is stopped (SIGSTOP): `data` of each record is what the client's
own `enqueue` writes there, made once for 256 records, and put by XADD with the same fields (`uri`,
`data`) in pipelines, since `enqueue` itself puts some hundred a second. The clock runs from SIGCONT
until the stream is empty: a record leaves it in the transaction that writes its result.

One JSON line goes to `bench/results/zoo_redis.jsonl`, the tables to `docs/reference/benchmarks.md`.

    python bench/zoo_redis.py [--rounds 5] [--records 20000] [--requests 1000] [--python PYTHON]
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))
import models
import numpy as np
from environments import NotInstalled, install
from onnx import numpy_helper
from processes import children, cpu_seconds, free_port, process, resident_mb, wait_for
from serving import keep, medians, setting

from wardian.serving.queue.redis_wire import Reply, ReplyReader, command

BENCH = Path(__file__).parent
JOB = b"serving_stream"
DISTINCT = 256
WARM_UP = 4000
PIPELINE = 2000
LONGEST_S = 120.0
POLLINGS = ("predict", "busy", "alone")
CLIENT = (
    "bigdl-serving==2.4.0", "redis", "pyarrow", "numpy", "httpx", "pyyaml",
    "opencv-python-headless",
)  # fmt: skip
MESH = """\
[mesh]
name = "zoo-bench"
owners = []

[models.mlp]
engine = "onnxruntime"
threads = 1
max_model_bytes = 1048576
batch_across_tenants = true

[limits]
max_waiting = 4096

[dialects.zoo_redis.jobs]
serving_stream = { model = "mlp" }
"""
EXAMPLE = '[models.mlp]\nfile = "mlp.onnx"\n'


class BenchFailed(Exception):
    """A result is missing or wrong: the figures would mean nothing."""


class PlainClient:
    """A connection to the plain Redis that pipelines."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=LONGEST_S)
        self._reader = ReplyReader(max_bytes=2**20)

    def ask(self, *commands: bytes) -> list[Reply]:
        """Send `commands` at once and return their replies."""
        self._socket.sendall(b"".join(commands))
        replies: list[Reply] = []
        while len(replies) < len(commands):
            data = self._socket.recv(2**20)
            if not data:
                raise BenchFailed("Redis closed the connection")
            replies += self._reader.feed(data)
        return replies

    def waiting(self) -> int:
        """Return how many records have no result yet."""
        (length,) = self.ask(command(b"XLEN", JOB))
        if not isinstance(length, int):
            raise BenchFailed("Redis does not say how long the stream is")
        return length

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


class Running:
    """The processes that are measured."""

    def __init__(self, *, port: int, redis: int, mesh: int, state: Path) -> None:
        """Find them by the mesh's status file."""
        self.port, self.redis, self.mesh = port, redis, mesh
        status = json.loads((state / "run" / "status.json").read_text())
        pids = {str(each["name"]): int(each["pid"]) for each in status["processes"]}
        self.zoo, self.worker = pids["zoo"], pids["worker-mlp-zoo"]
        (self.role,) = children(self.zoo)

    def cpu(self) -> dict[str, float]:
        """Return the seconds of CPU that each has used."""
        roots = {"zoo": self.zoo, "worker": self.worker, "redis": self.redis}
        return {name: cpu_seconds(pid) for name, pid in roots.items()}

    def memory(self) -> dict[str, float]:
        """Return their memory in MB, each shared page divided among its users."""
        roots = {
            "zoo": self.zoo,
            "worker": self.worker,
            "mesh": self.mesh,
            "redis": self.redis,
        }
        return {name: resident_mb(pid) for name, pid in roots.items()}


class Client:
    """Runs `zoo_client.py`."""

    def __init__(self, python: Path, folder: Path, port: int) -> None:
        """Use the interpreter `python`, and the records in `folder`."""
        self._python, self._place = python, (str(port), str(folder))

    def __call__(self, name: str, *rest: object) -> dict[str, Any]:
        """Return what it says."""
        place = () if name == "versions" else self._place
        argv = [str(self._python), str(BENCH / "zoo_client.py"), name, *place, *map(str, rest)]
        done = subprocess.run(argv, capture_output=True, check=False, text=True)
        if done.returncode:
            raise BenchFailed(f"the client failed: {done.stderr.strip()[-500:]}")
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return said


def write_example(directory: Path, port: int) -> tuple["np.ndarray[Any, Any]", Any]:
    """Write model and settings; return records, (n, 16), and what NumPy makes of them, (n, 10)."""
    directory.mkdir()
    graph = models.Graph()
    hidden = graph.relu(graph.dense("x", 16, 64))
    graph.save(directory / "mlp.onnx", given=[16], output=graph.dense(hidden, 64, 10), wide=10)
    (directory / "wardian.toml").write_text(MESH)
    (directory / "example.toml").write_text(EXAMPLE)
    (directory / "operator.toml").write_text(f'[zoo]\nredis = "redis://127.0.0.1:{port}"\n')
    first, second = (numpy_helper.to_array(each) for each in graph.weights)
    records = np.random.default_rng(2).random((DISTINCT, 16), np.float32)
    sums = np.maximum(records @ first.T, 0) @ second.T
    powers = np.exp(sums - sums.max(axis=1, keepdims=True))
    return records, powers / powers.sum(axis=1, keepdims=True)


def start(stack: ExitStack, folder: Path) -> Running:
    """Start Redis and the mesh; both end with `stack`."""
    port, state = free_port(), folder / "state"
    records, expected = write_example(folder / "example", port)
    np.save(folder / "records.npy", records)
    np.save(folder / "expected.npy", expected)
    lines = ("bind 127.0.0.1", f"port {port}", f"dir {folder}", 'save ""', "appendonly no")
    (folder / "redis.conf").write_text("\n".join(lines) + "\n")
    redis = stack.enter_context(process("redis-server", str(folder / "redis.conf")))
    wait_for(lambda: is_open(port), "redis-server")
    argv = [sys.executable, "-m", "wardian.cli", "up", str(folder / "example")]
    mesh = stack.enter_context(process(*argv, "--state", str(state), "--port", str(free_port())))
    status = state / "run" / "status.json"
    wait_for(lambda: status.exists() and '"serving"' in status.read_text(), "the mesh")
    return Running(port=port, redis=redis.pid, mesh=mesh.pid, state=state)


def is_open(port: int) -> bool:
    """Return whether somebody listens on `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def drain(
    running: Running, plain: PlainClient, payloads: list[bytes], prefix: str, count: int
) -> dict[str, float]:
    """Fill the stream with `count` records while the role is stopped, and return how it drained."""
    os.kill(running.role, signal.SIGSTOP)
    try:
        for first in range(0, count, PIPELINE):
            plain.ask(
                *(
                    command(
                        b"XADD", JOB, b"*", b"uri", f"{prefix}{number}".encode(),
                        b"data", payloads[number % len(payloads)],
                    )
                    for number in range(first, min(count, first + PIPELINE))
                )
            )  # fmt: skip
        if plain.waiting() != count:
            raise BenchFailed("a record was answered while the role was stopped")
        before, began = running.cpu(), time.perf_counter()
    finally:
        os.kill(running.role, signal.SIGCONT)
    while plain.waiting():
        if time.perf_counter() - began > LONGEST_S:
            raise BenchFailed("the stream is not drained")
        time.sleep(0.002)
    took = time.perf_counter() - began
    after = running.cpu()
    cpu_us = {f"{name}_us": 1e6 * (after[name] - before[name]) / count for name in after}
    return {"per_second": count / took, **cpu_us}


def run(python: Path, rounds: int, count: int, requests: int) -> dict[str, Any]:
    """Return every figure, medians over the rounds."""
    drains: list[dict[str, float]] = []
    loops: dict[str, list[dict[str, float]]] = {name: [] for name in POLLINGS}
    with tempfile.TemporaryDirectory(prefix="wardian-") as directory, ExitStack() as stack:
        folder = Path(directory)
        running = start(stack, folder)
        client = Client(python, folder, running.port)
        plain = PlainClient(running.port)
        stack.callback(plain.close)
        client("payloads")
        payloads = (folder / "payloads.txt").read_bytes().split(b"\n")
        for number in range(-1, rounds):  # the first one warms up
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            prefix, records = f"drain-{number}-", count if number >= 0 else WARM_UP
            drained = drain(running, plain, payloads, prefix, records)
            if (right := client("compare", prefix, records)["right"]) != records:
                raise BenchFailed(f"{records - right} of {records} results are missing or wrong")
            for polling in POLLINGS if number >= 0 else ():
                said = client("loop", f"{polling}-{number}-", requests, polling)
                if said.pop("wrong"):
                    raise BenchFailed("a result of the closed loop is missing or wrong")
                loops[polling].append({"per_second": 1000 / said["p50_ms"], **said})
            if number >= 0:
                drains.append(drained)
        memory = running.memory()
    return {
        "records": count,
        "requests": requests,
        "drain": {**medians(drains), "best": max(each["per_second"] for each in drains)},
        "loops": {name: medians(found) for name, found in loops.items()},
        "memory_mb": memory,
    }


def client_python(options: argparse.Namespace) -> Path:
    """Return the interpreter that has the client, made now if none is named."""
    if options.python:
        return Path(options.python)
    try:
        return install(options.scratch / "environments", "zoo-client", CLIENT)
    except NotInstalled as err:
        raise SystemExit(f"{CLIENT[0]} does not install here: {err}; name one by --python") from err


def main() -> None:
    """Measure, keep the figures and print the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--python", default=os.environ.get("WARDIAN_ZOO_PYTHON", ""))
    parser.add_argument("--dry", action="store_true", help="print the figures, keep nothing")
    parser.add_argument(
        "--scratch", type=Path, default=Path(tempfile.gettempdir()) / "wardian-peers"
    )
    options = parser.parse_args()
    python, before = client_python(options), setting(options.rounds, 0.0)
    del before["seconds"]
    about = {"tee": "SIMULATED", "client": Client(python, Path(), 0)("versions")}
    result = {**before, **about, **run(python, options.rounds, options.records, options.requests)}
    if options.dry:
        print(json.dumps(result, indent=1))
    else:
        keep("zoo_redis", result)


if __name__ == "__main__":
    main()
