"""The embedded queue against Redis with TLS, each with messages sealed and in the clear.

All run at once with FastAPI beside them and are loaded in turn, round after round; medians over
the rounds. CPU is that of front end, worker and Redis together. One JSON line goes to
`bench/results/queue_redis.jsonl`.

    python bench/queue_redis.py [--rounds 3] [--seconds 2]
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from clear_twin import ClearReceiver, ClearSender, NoEvidence
from processes import AS_A_ROLE, end_below, free_port, process, resident_mb, wait_for
from serving import answers as answers_once
from serving import identity, keep, load_by, requests, setting
from typing_extensions import override

from wardian._internal.agreed import Limits
from wardian._internal.metrics import Metrics
from wardian.broker.certificates import build_csr, chain_pem, parse_csr
from wardian.broker.infrastructure.acl import COMMANDS, users_acl
from wardian.broker.infrastructure.ca import InfrastructureCa
from wardian.cli.redis.files import ServerPlace, redis_conf
from wardian.crypto.message import QueueReceiver, QueueSender
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.inference.choice import Chosen, choose_model
from wardian.inference.model import load_model
from wardian.inference.spec import FREE, Model, Tensors, TensorSpec
from wardian.roles.start import settle
from wardian.serving.api.routes import Api
from wardian.serving.codec import MessageCodec, WorkerCodec
from wardian.serving.dispatch import Dispatcher
from wardian.serving.http.server import HttpServer
from wardian.serving.http.tls import TlsIdentity, server_context
from wardian.serving.queue.frames import Address
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_access import RedisAccess
from wardian.serving.queue.redis_front import RedisFrontQueue
from wardian.serving.queue.redis_worker import RedisWorkerQueue
from wardian.serving.queue.seam import WorkerQueue
from wardian.serving.queue.worker import SocketWorkerQueue
from wardian.serving.worker import Worker

BENCH = Path(__file__).parent
DIGITS = BENCH.parent / "examples" / "digits"
MESH = "bench"
LANES = {name: Lane(name, 1) for name in ("digits", "apart", "blob", "resnet50")}
APART = frozenset({"apart"})
"""The digits model again, whose owner lets no strangers share a message: the default. Here each
connection is a stranger."""
FLOATS = 150_528  # 224 * 224 * 3: about 600 KB
DIGEST = bytes(32)
INFER = "/v2/models/%s/infer"
KINDS = ("clear", "embedded", "redis clear", "redis")
"""Which queue; what says "clear" has the same pipeline with nothing sealed in it."""


class NoOp(Model):
    """Takes 600 KB a row and answers with its first number: what is measured is the way."""

    engine = "no-op 1"
    inputs = (TensorSpec(name="image", dtype="FP32", shape=(FREE, FLOATS)),)
    outputs = (TensorSpec(name="first", dtype="FP32", shape=(FREE,)),)
    batchable = True

    @override
    def infer(self, inputs: Tensors) -> Tensors:
        """Return the first number of each row."""
        return {"first": inputs["image"][:, 0].copy()}

    @override
    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True)
class Target:
    """One server and one way of asking it."""

    name: str
    url: str
    body: Path
    headers: tuple[str, ...]
    root: int
    connections: tuple[int, ...]
    start_s: float = 0.0
    """From the start of its processes to its first answer."""
    resident_mb: float = 0.0
    """Of those processes then, and of one small that started them."""


def redis_access(folder: Path, role: str) -> RedisAccess:
    """Return how `role` reaches the bench's Redis, from the files that `write_redis` made."""
    facts = json.loads((folder / "redis.json").read_text())
    return RedisAccess(
        addresses=(Address(host="127.0.0.1", port=facts["port"]),),
        server_name="localhost",
        username=role,
        password=Secret(facts[role].encode()),
        ca_der=(folder / "infrastructure.der").read_bytes(),
        certificate_chain_pem=(folder / f"{role}.pem").read_bytes(),
        key=TlsKey.from_secret(Secret((folder / f"{role}.key.der").read_bytes())),
        mesh=MESH,
    )


def write_redis(folder: Path) -> Path:
    """Write what Redis and its clients need; return the server's settings."""
    now = int(time.time())
    ca = InfrastructureCa.create(mesh=MESH, simulated=True, now=now)
    (folder / "infrastructure.der").write_bytes(ca.certificate)
    port, facts = free_port(), {}
    for role in COMMANDS:
        key = TlsKey.generate()
        request = parse_csr(build_csr(key, names=("localhost",)))
        leaf = ca.issue_client(request, role=role, now=now, life_s=86_400)
        (folder / f"{role}.pem").write_bytes(chain_pem((leaf,)))
        (folder / f"{role}.key.der").write_bytes(key.to_secret().reveal())
        facts[role] = os.urandom(32).hex()
    (folder / "redis.json").write_text(json.dumps({"port": port, **facts}))
    server = TlsKey.generate()
    request = parse_csr(build_csr(server, names=("localhost",)))
    (folder / "server.pem").write_bytes(chain_pem((ca.issue_server(request, now=now),)))
    (folder / "server.key").write_bytes(server.private_pem().reveal())
    (folder / "ca.pem").write_bytes(chain_pem((ca.certificate,)))
    passwords = {role: Secret(facts[role].encode()) for role in facts}
    (folder / "users.acl").write_text(users_acl(MESH, passwords))
    conf = folder / "redis.conf"
    conf.write_text(redis_conf(ServerPlace(listen=("127.0.0.1",), port=port), folder))
    return conf


async def frontend(folder: Path, kind: str, port: int) -> None:
    """Serve HTTPS until killed."""
    queue: SocketFrontQueue | RedisFrontQueue
    if kind.startswith("redis"):
        queue = RedisFrontQueue(redis_access(folder / kind, "frontend"))
    else:
        queue = SocketFrontQueue(Address.parse(str(folder / kind)))
    secret = (folder / "queue.key").read_bytes()
    codecs: dict[str, MessageCodec] = {
        name: ClearSender()
        if kind.endswith("clear")
        else QueueSender(queue_key=Secret(secret), model=name, epoch=1, certificate_digest=DIGEST)
        for name in LANES
    }
    dispatcher = Dispatcher(
        queue=queue,
        codecs=codecs,
        lanes=set(LANES.values()),
        max_waiting=4096,
        batch_across_tenants=frozenset(LANES) - APART,
    )
    api = Api(
        dispatcher=dispatcher,
        desk=NoEvidence(),
        metrics=Metrics(),
        deadline_s=10.0,
        serves=lambda _: True,
    )
    server = HttpServer(handler=api.handle, limits=Limits(), count_refusal=lambda _: None)
    key = TlsKey.from_secret(Secret((folder / "key.der").read_bytes()))
    chain = (folder / "cert.pem").read_bytes()
    context = server_context(TlsIdentity(chain_pem=chain, key=key))
    server.use(context, tls_spki=key.spki)
    await queue.start()
    await server.start("localhost", port)
    settle()
    await asyncio.Event().wait()


def worker(folder: Path, kind: str, name: str) -> None:
    """Serve one model until killed."""
    chosen = Chosen(model=NoOp(), max_batch=4)
    if name in ("digits", "apart"):
        content = (DIGITS / "digits.onnx").read_bytes()
        model = load_model(content, media_type="application/onnx", engine="onnxruntime", threads=1)
        chosen = Chosen(model=model, max_batch=64)
    elif name == "resnet50":
        chosen = choose_model(
            (folder / "resnet50.onnx").read_bytes(), media_type="application/onnx"
        )
    queue: WorkerQueue
    if kind.startswith("redis"):
        queue = RedisWorkerQueue(redis_access(folder / kind, "worker"), lane=LANES[name])
    else:
        queue = SocketWorkerQueue(Address.parse(str(folder / kind)), lane=LANES[name])
    codec: WorkerCodec = ClearReceiver()
    if not kind.endswith("clear"):
        codec = QueueReceiver(
            queue_key=Secret((folder / "queue.key").read_bytes()),
            model=name,
            epoch=1,
            certificate_digest=DIGEST,
        )
    Worker(
        model=chosen.model,
        lane=LANES[name],
        max_batch=chosen.max_batch,
        batch_across_tenants=name not in APART,
        queue=queue,
        codec=codec,
    ).run()


def together(stack: ExitStack, now: list[list[str]], later: list[list[str]], go: Path) -> int:
    """Start processes below one, so that their CPU adds up; return its number.

    Those of `later` start once there is a file `go`.
    """
    code = (
        "import pathlib, subprocess, time\n"
        f"started = [subprocess.Popen(a) for a in {now!r}]\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.05)\n"
        f"started += [subprocess.Popen(a) for a in {later!r}]\n"
        "for p in started: p.wait()"
    )
    parent = stack.enter_context(process(sys.executable, "-c", code, env=AS_A_ROLE))
    stack.callback(end_below, parent.pid)
    return parent.pid


def start_all(stack: ExitStack, folder: Path) -> list[Target]:
    """Start every server and return what is to be measured."""
    _, key_pem, cert, ca = identity(folder)
    ca = ca.rename(folder / "ca-https.pem")
    as_json, as_binary, headers = requests(folder)
    (folder / "queue.key").write_bytes(os.urandom(32))
    row = np.zeros((1, FLOATS), np.float32)
    tensor = {
        "name": "image", "datatype": "FP32", "shape": [1, FLOATS],
        "parameters": {"binary_data_size": row.nbytes},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    blob = folder / "blob.bin"
    blob.write_bytes(head + row.tobytes())
    of_blob = (f"Inference-Header-Content-Length: {len(head)}",)
    targets: list[Target] = []
    for kind in KINDS:
        me = [sys.executable, str(BENCH / "queue_redis.py"), "--folder", str(folder)]
        port = free_port()
        names = ("digits", "apart", "blob")
        workers = [[*me, "--worker", kind, "--model", name] for name in names]
        commands = [[*me, "--frontend", kind, "--port", str(port)], workers[0]]
        if kind.startswith("redis"):
            (folder / kind).mkdir()
            commands.append(["redis-server", str(write_redis(folder / kind))])
        began, go = time.monotonic(), folder / f"go-{kind}"
        root, url = together(stack, commands, workers[1:], go), f"https://localhost:{port}"
        small, apart, large = (url + INFER % name for name in names)
        start_s = first_answer(small, ca, as_binary, headers) - began
        memory = resident_mb(root)
        go.touch()
        targets += [
            Target(f"{kind}, MLP", small, as_binary, headers, root, (1, 16, 64), start_s, memory),
            Target(f"{kind}, MLP, strangers", apart, as_binary, headers, root, (16, 64)),
            Target(f"{kind}, 600 KB", large, blob, of_blob, root, (16,)),
        ]
    port = free_port()
    model = str(DIGITS / "digits.onnx")
    twin = [sys.executable, str(BENCH / "fastapi_twin.py"), model, str(key_pem), str(cert)]
    began = time.monotonic()
    fastapi = stack.enter_context(process(*twin, str(port)))
    url = f"https://localhost:{port}/v1/models/digits:predict"
    start_s = first_answer(url, ca, as_json, ()) - began
    memory, all_loads = resident_mb(fastapi.pid), (1, 16, 64)
    targets.append(
        Target("FastAPI, MLP", url, as_json, (), fastapi.pid, all_loads, start_s, memory)
    )
    for target in targets:
        wait_for(lambda target=target: answers(target, ca), target.name)  # type: ignore[misc]
    return targets


def first_answer(url: str, ca: Path, body: Path, headers: tuple[str, ...]) -> float:
    """Return when the server at `url` gave its first answer, monotonic seconds."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if answers_once(url, ca, body, headers):
            return time.monotonic()
        time.sleep(0.02)
    raise SystemExit(f"{url} did not come up")


def measure(target: Target, ca: Path, connections: int, seconds: float) -> dict[str, Any]:
    """Load `target` once and return its figures."""
    argv = [sys.executable, str(BENCH / "load.py"), target.url, "--ca", str(ca)]
    argv += ["--body", str(target.body), "--connections", str(connections)]
    argv += ["--seconds", str(seconds), "--root", str(target.root)]
    argv += [f"--header={line}" for line in target.headers]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def answers(target: Target, ca: Path) -> bool:
    """Say whether a request is answered."""
    try:
        return bool(measure(target, ca, 1, 0.05)["answered"])
    except subprocess.CalledProcessError:
        return False


def run(rounds: int, seconds: float) -> dict[str, Any]:
    """Return every figure, median over the rounds."""
    names = ("goodput", "p50_ms", "p99_ms", "cpu_us")
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        folder = Path(directory)
        targets = start_all(stack, folder)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for connections in (1, 16, 64):
                for target in targets:
                    if connections in target.connections:
                        figures = measure(target, folder / "ca-https.pem", connections, seconds)
                        found.setdefault((target.name, connections), []).append(figures)
        starts = [
            {
                "server": target.name,
                "start_s": target.start_s,
                "resident_mb": target.resident_mb,
            }
            for target in targets
            if target.start_s
        ]
    rows = [
        {
            "server": server,
            "connections": connections,
            **{name: statistics.median(one[name] for one in figures) for name in names},
        }
        for (server, connections), figures in found.items()
    ]
    return {**setting(rounds, seconds), "load_by": load_by(), "rows": rows, "starts": starts}


def main() -> None:
    """Measure, keep the figures and print them; or be one of the processes measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    for name in ("--folder", "--frontend", "--worker", "--model", "--port"):
        parser.add_argument(name)
    options = parser.parse_args()
    if options.frontend:
        uvloop.run(frontend(Path(options.folder), options.frontend, int(options.port)))
        return
    if options.worker:
        worker(Path(options.folder), options.worker, options.model)
        return
    result = run(options.rounds, options.seconds)
    keep("queue_redis", result)
    for row in result["rows"]:
        print(
            f"{row['server']:<20} c={row['connections']:<3} {row['goodput']:>9,.0f}/s "
            f"p50 {row['p50_ms']:.2f} p99 {row['p99_ms']:.2f} ms, {row['cpu_us']:.0f} us CPU"
        )
    for each in result["starts"]:
        print(f"{each['server']:<20} up in {each['start_s']:.2f} s, {each['resident_mb']:.0f} MB")


if __name__ == "__main__":
    main()
