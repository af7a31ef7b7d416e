"""Requests a second, latency and CPU per request: sealed, clear, and what most people would write.

All servers run at once and are loaded in turn, round after round, so that what the machine does
meanwhile falls on all of them alike. Medians over the rounds. One JSON line goes to
`bench/results/serving.jsonl`, the table to `docs/reference/benchmarks.md`.

    python bench/serving.py [--rounds 3] [--seconds 2]
"""

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wardian.broker.ca import MeshCa
from wardian.broker.certificates import MeshIdentity, build_csr, chain_pem, parse_csr
from wardian.crypto.tls_keys import TlsKey

BENCH = Path(__file__).parent
ROOT = BENCH.parent
DIGITS = ROOT / "examples" / "digits"
CONNECTIONS = (1, 16, 64)
PREDICT = "/v1/models/digits:predict"
INFER = "/v2/models/digits/infer"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Target:
    """One server and one way of asking it."""

    name: str
    url: str
    ca: Path
    body: Path
    headers: tuple[str, ...]
    root: int


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def descendants(root: int) -> list[int]:
    """Return `root` and every process below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def end_below(root: int) -> None:
    """End every process below `root`."""
    for pid in descendants(root)[1:]:
        os.kill(pid, signal.SIGTERM)


def cpu_seconds(root: int) -> float:
    """Return the CPU time that `root` and every process below it has used."""
    ticks = 0
    for pid in descendants(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / CLOCK_TICKS


@contextmanager
def process(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `argv` until the block ends."""
    started = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Return once `condition` holds."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise SystemExit(f"{what} did not come up")


def answers(url: str, ca: Path, body: Path) -> bool:
    """Say whether a request is answered with 200."""
    load = [sys.executable, str(BENCH / "load.py"), url, "--ca", str(ca), "--body", str(body)]
    tried = subprocess.run([*load, "--seconds", "0.05"], capture_output=True, check=False)
    return tried.returncode == 0


def identity(directory: Path) -> tuple[Path, Path, Path, Path]:
    """Write a key (DER and PEM), its certificate and the CA's for servers that get none."""
    now = int(time.time())
    ca = MeshCa.create(mesh="bench", simulated=True, now=now)
    key = TlsKey.generate()
    request = parse_csr(build_csr(key, names=("localhost", "127.0.0.1")))
    role = MeshIdentity(role="frontend", measurement=bytes(32), manifest_digest=bytes(32))
    issuer = ca.create_issuing(manifest_digest=bytes(32), now=now)
    chain = issuer.issue(request, identity=role, now=now, life_s=24 * 3600)[:2]
    paths = (directory / "key.der", directory / "key.pem", directory / "cert.pem")
    paths[0].write_bytes(key.to_secret().reveal())
    paths[1].write_bytes(key.private_pem().reveal())
    paths[2].write_bytes(chain_pem(chain))
    (directory / "ca.pem").write_bytes(chain_pem((ca.certificate,)))
    return (*paths, directory / "ca.pem")


def requests(directory: Path) -> tuple[Path, Path, tuple[str, ...]]:
    """Write one image as JSON and as v2 binary; return both and the header of the latter."""
    with np.load(DIGITS / "heldout.npz") as data:
        row = (data["image"][0] / 16).astype(np.float32)
    as_json, as_binary = directory / "request.json", directory / "request.bin"
    as_json.write_text(json.dumps({"instances": [row.tolist()]}))
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": [1, 64],
        "parameters": {"binary_data_size": row.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    as_binary.write_bytes(head + row.tobytes())
    return as_json, as_binary, (f"Inference-Header-Content-Length: {len(head)}",)


def start_all(stack: ExitStack, directory: Path) -> list[Target]:
    """Start every server and return what is to be measured."""
    key_der, key_pem, cert, ca = identity(directory)
    as_json, as_binary, headers = requests(directory)
    state, queue = directory / "mesh", directory / "clear.sock"
    ports = [free_port() for _ in range(3)]
    urls = [f"https://localhost:{port}" for port in ports]
    python, model = sys.executable, str(DIGITS / "digits.onnx")
    up = [python, "-m", "wardian.cli", "up", str(DIGITS), "--state", str(state)]
    sealed = stack.enter_context(process(*up, "--port", str(ports[0])))
    twin = [python, str(BENCH / "clear_twin.py")]
    clear_argv = [*twin, "frontend", str(key_der), str(cert), str(ports[1]), str(queue)]
    # One shell-less parent for both clear processes, so that their CPU adds up below one pid.
    both = [clear_argv, [*twin, "worker", model, str(queue)]]
    code = f"import subprocess; [p.wait() for p in [subprocess.Popen(a) for a in {both!r}]]"
    clear = stack.enter_context(process(python, "-c", code))
    stack.callback(end_below, clear.pid)
    fastapi = stack.enter_context(
        process(
            python, str(BENCH / "fastapi_twin.py"), model, str(key_pem), str(cert), str(ports[2])
        )
    )
    mesh_ca = state / "mesh-ca.pem"
    wait_for(lambda: mesh_ca.exists() and answers(urls[0] + PREDICT, mesh_ca, as_json), "the mesh")
    wait_for(lambda: answers(urls[1] + PREDICT, ca, as_json), "the clear twin")
    wait_for(lambda: answers(urls[2] + PREDICT, ca, as_json), "FastAPI")
    return [
        Target("Wardian sealed, JSON", urls[0] + PREDICT, mesh_ca, as_json, (), sealed.pid),
        Target("Wardian sealed, binary", urls[0] + INFER, mesh_ca, as_binary, headers, sealed.pid),
        Target("clear twin, JSON", urls[1] + PREDICT, ca, as_json, (), clear.pid),
        Target("clear twin, binary", urls[1] + INFER, ca, as_binary, headers, clear.pid),
        Target("FastAPI + uvicorn, JSON", urls[2] + PREDICT, ca, as_json, (), fastapi.pid),
    ]


def measure(target: Target, connections: int, seconds: float) -> dict[str, float]:
    """Load `target` once and return its figures."""
    argv = [sys.executable, str(BENCH / "load.py"), target.url, "--ca", str(target.ca)]
    argv += ["--body", str(target.body), "--connections", str(connections)]
    argv += ["--seconds", str(seconds), *(f"--header={line}" for line in target.headers)]
    before = cpu_seconds(target.root)
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    used = cpu_seconds(target.root) - before
    figures: dict[str, float] = json.loads(done.stdout)
    figures["cpu_us"] = 1e6 * used / figures["requests"]
    return figures


def run(rounds: int, seconds: float) -> dict[str, Any]:
    """Return every figure, median over the rounds."""
    names = ("per_second", "p50_ms", "p99_ms", "cpu_us", "errors")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        targets = start_all(stack, Path(folder))
        found: dict[tuple[str, int], list[dict[str, float]]] = {}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for connections in CONNECTIONS:
                for target in targets:
                    figures = measure(target, connections, seconds)
                    found.setdefault((target.name, connections), []).append(figures)
    rows = [
        {
            "server": server,
            "connections": connections,
            **{name: statistics.median(one[name] for one in figures) for name in names},
        }
        for (server, connections), figures in found.items()
    ]
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "git": head.stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "tee": "SIMULATED",
        "rounds": rounds,
        "seconds": seconds,
        "rows": rows,
    }


PAGE = """\
# Benchmarks

The digits model (64-128-128-10), one image a request, HTTPS with TLS 1.3, OpenVINO with one thread.
Servers, worker and load generator share the machine: {machine}. Enclaves are {tee}: what hardware
adds is not in these figures. Medians of {rounds} interleaved rounds of {seconds:g} s, commit {git},
{date}. `make bench` measures them again.

| server | connections | requests/s | p50 ms | p99 ms | CPU µs/request | errors |
|---|---:|---:|---:|---:|---:|---:|
{table}

*Clear twin*: the same front end, queue and worker with nothing sealed and nothing attested; it
exists in `bench/` alone. *FastAPI*: `bench/fastapi_twin.py`, what most people would write. CPU is
that of all server processes together.
"""


def page(result: dict[str, Any]) -> str:
    """Return the page that shows `result`."""
    rows = sorted(result["rows"], key=lambda row: int(row["connections"]))
    table = "\n".join(
        f"| {row['server']} | {row['connections']} | {row['per_second']:,.0f} "
        f"| {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['cpu_us']:.0f} "
        f"| {row['errors']:.0f} |"
        for row in rows
    )
    return PAGE.format(**{**result, "table": table})


def main() -> None:
    """Measure, keep the figures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    result = run(options.rounds, options.seconds)
    results = BENCH / "results"
    results.mkdir(exist_ok=True)
    with (results / "serving.jsonl").open("a") as sink:
        sink.write(json.dumps(result) + "\n")
    text = page(result)
    (ROOT / "docs" / "reference" / "benchmarks.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
