"""Requests a second, latency and CPU per request: sealed, clear, and what most people would write.

All servers run at once and are loaded in turn, round after round, so that what the machine does
meanwhile falls on all of them alike. Medians over the rounds. One JSON line goes to
`bench/results/serving.jsonl`, the tables to `docs/reference/benchmarks.md`.

    python bench/serving.py [--rounds 3] [--seconds 2]
"""

import argparse
import json
import os
import platform
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pages import write_page
from processes import AS_A_ROLE, free_port, process, resident_mb, wait_for

from wardian.broker.ca import MeshCa
from wardian.broker.certificates import MeshIdentity, build_csr, chain_pem, parse_csr
from wardian.crypto.tls_keys import TlsKey

BENCH = Path(__file__).parent
ROOT = BENCH.parent
DIGITS = ROOT / "examples" / "digits"
CONNECTIONS = (1, 16, 64)
PREDICT = "/v1/models/digits:predict"
INFER = "/v2/models/digits/infer"


@dataclass(frozen=True)
class Target:
    """One server and one way of asking it."""

    name: str
    url: str
    ca: Path | None
    body: Path
    headers: tuple[str, ...]
    root: int
    start_s: float = 0.0
    """From its start to its first answer."""


class BenchFailed(Exception):
    """A server did not answer a load."""


def answers(url: str, ca: Path | None, body: Path, headers: tuple[str, ...] = ()) -> bool:
    """Say whether a request is answered with 200."""
    fields = dict(line.split(": ", 1) for line in headers)
    request = urllib.request.Request(url, body.read_bytes(), fields, method="POST")
    context = None if ca is None else ssl.create_default_context(cafile=ca)
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as response:
            return int(response.status) == 200
    except OSError:
        return False


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
    """Start every server, one after the other, and return what is to be measured."""
    key_der, key_pem, cert, ca = identity(directory)
    as_json, as_binary, headers = requests(directory)
    state, queue = directory / "mesh", directory / "clear.sock"
    ports = [free_port() for _ in range(3)]
    urls = [f"https://localhost:{port}" for port in ports]
    python, model = sys.executable, str(DIGITS / "digits.onnx")
    up = [python, "-m", "wardian.cli", "up", str(DIGITS), "--state", str(state)]
    twin = [python, str(BENCH / "clear_twin.py")]
    clear = [*twin, "frontend", str(key_der), str(cert), str(ports[1]), str(queue)]
    # One shell-less parent for both clear processes, so that their CPU adds up below one pid.
    both = [clear, [*twin, "worker", model, str(queue)]]
    code = f"import subprocess; [p.wait() for p in [subprocess.Popen(a) for a in {both!r}]]"
    fastapi = [
        python,
        str(BENCH / "fastapi_twin.py"),
        model,
        str(key_pem),
        str(cert),
        str(ports[2]),
    ]
    mesh_ca = state / "mesh-ca.pem"
    targets = []
    for name, argv, url, its_ca in (
        ("Wardian sealed", [*up, "--port", str(ports[0])], urls[0], mesh_ca),
        ("clear twin", [python, "-c", code], urls[1], ca),
        ("FastAPI + uvicorn", fastapi, urls[2], ca),
    ):
        began = time.monotonic()
        env = AS_A_ROLE if name == "clear twin" else None
        root = stack.enter_context(process(*argv, env=env)).pid
        wait_for(lambda: its_ca.exists() and answers(url + PREDICT, its_ca, as_json), name)  # noqa: B023
        start_s = time.monotonic() - began
        targets.append(Target(f"{name}, JSON", url + PREDICT, its_ca, as_json, (), root, start_s))
        if argv is not fastapi:
            binary = (f"{name}, binary", url + INFER, its_ca, as_binary, headers, root, start_s)
            targets.append(Target(*binary))
    return targets


def measure(target: Target, connections: int, seconds: float) -> dict[str, float]:
    """Load `target` once and return its figures."""
    argv = [sys.executable, str(BENCH / "load.py"), target.url, "--body", str(target.body)]
    argv += ["--connections", str(connections), "--seconds", str(seconds)]
    argv += ["--root", str(target.root), *(f"--header={line}" for line in target.headers)]
    argv += [] if target.ca is None else ["--ca", str(target.ca)]
    done = subprocess.run(argv, capture_output=True, check=False, text=True)
    if done.returncode:
        raise BenchFailed(f"{target.name}: {done.stderr.strip()[-300:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return {
        "per_second": figures["goodput"],
        "p50_ms": figures["p50_ms"],
        "p99_ms": figures["p99_ms"],
        "cpu_us": figures["cpu_us"],
        "errors": sum(figures["errors"].values()),
    }


def measure_all(targets: list[Target], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Load the targets in turn, round after round; return a row for each, medians."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for connections in CONNECTIONS:
            for target in targets:
                figures = measure(target, connections, seconds)
                found.setdefault((target.name, connections), []).append(figures)
    return [
        {"server": server, "connections": connections, **medians(figures)}
        for (server, connections), figures in found.items()
    ]


def medians(figures: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure, and how far apart the rates of the rounds lay."""
    rates = [one["per_second"] for one in figures]
    middle = {name: statistics.median(one[name] for one in figures) for name in figures[0]}
    spread = (max(rates) - min(rates)) / middle["per_second"] if middle["per_second"] else 0.0
    return {**middle, "spread": spread}


def run(rounds: int, seconds: float) -> dict[str, Any]:
    """Return every figure, median over the rounds."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        targets = start_all(stack, Path(folder))
        rows = measure_all(targets, rounds, seconds)
        servers = {
            target.name.rpartition(",")[0]: {
                "start_s": target.start_s,
                "memory_mb": resident_mb(target.root),
            }
            for target in targets
        }
    about = {**setting(rounds, seconds), "load_by": load_by(), "tee": "SIMULATED"}
    return {**about, "rows": rows, "servers": servers}


def load_by() -> str:
    """Return what makes the load of `load.py` in a closed loop."""
    return "wrk" if shutil.which("wrk") else "wardian bench serving"


def setting(rounds: int, seconds: float) -> dict[str, Any]:
    """Return what a reader must know of a run: commit, day, machine, length, how busy it was."""
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
        "machine": f"{machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load_average": os.getloadavg()[0],
        "rounds": rounds,
        "seconds": seconds,
    }


def machine() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def keep(name: str, result: dict[str, Any]) -> None:
    """Add `result` to `bench/results/NAME.jsonl`, and render the page anew."""
    results = BENCH / "results"
    results.mkdir(exist_ok=True)
    with (results / f"{name}.jsonl").open("a") as sink:
        sink.write(json.dumps(result) + "\n")
    print(write_page())


def main() -> None:
    """Measure, keep the figures and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    keep("serving", run(options.rounds, options.seconds))


if __name__ == "__main__":
    main()
