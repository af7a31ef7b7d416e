"""Wardian against the servers that people use: the same models, measured in turn.

Each peer lives in an environment of its own below a scratch directory; one that does not install or
start is left out, and the page says why. All servers of one model run at once and are loaded in
turn, round after round. Medians go to `bench/results/peers.jsonl` and to the page.

    python bench/peers/run.py [--peers mlserver,kserve] [--rounds 3] [--seconds 2] [--scratch DIR]
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import models
from environments import NotInstalled, install, version_of
from processes import free_port, process, resident_mb, wait_for
from serving import (
    BenchFailed,
    Target,
    answers,
    identity,
    keep,
    load_by,
    measure,
    medians,
    setting,
)
from table import PEERS, Peer, write_body

import wardian

HERE = Path(__file__).parent
START_S = 60.0
CONNECTIONS = {"mlp": (1, 16, 64), "resnet50": (1,)}
LARGE = "takes gigabytes to install: name it with --peers to measure it"
MESH = """\
[mesh]
name = "peers"
owners = []

[models.mlp]
max_model_bytes = 4194304
batch_across_tenants = true

[models.resnet50]
max_batch = 4
batch_across_tenants = true
"""
EXAMPLE = """\
[models.mlp]
file = "mlp.onnx"

[models.resnet50]
file = "resnet50.onnx"
"""


class Run:
    """What has been measured, and what could not be."""

    def __init__(self, scratch: Path, rounds: int, seconds: float) -> None:
        """Nothing yet."""
        self.scratch, self.rounds, self.seconds = scratch, rounds, seconds
        self.models = scratch / "models"
        self.rows: list[dict[str, Any]] = []
        self.servers: dict[str, dict[str, Any]] = {}
        self.absent: dict[str, str] = {}

    def installed(self, wanted: list[str]) -> list[tuple[Peer, Path]]:
        """Return the peers that could be installed, each with its interpreter."""
        found = []
        for peer in PEERS:
            if peer.script not in wanted and (wanted or peer.large):
                if not wanted:
                    self.absent[peer.name] = LARGE
                continue
            try:
                python = install(self.scratch / "environments", peer.script, peer.packages)
                version = version_of(python, peer.package)
            except NotInstalled as err:
                self.absent[peer.name] = f"does not install here: {err}"
                continue
            self.servers[peer.name] = {"version": version, "start_s": 0.0, "memory_mb": 0.0}
            found.append((peer, python))
        return found

    def model(self, model: str, peers: list[tuple[Peer, Path]]) -> None:
        """Start all servers of `model`, and load them in turn."""
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            directory = Path(folder)
            _, key, cert, ca = identity(directory)
            targets = []
            if mesh := self._wardian(stack, directory, model):
                targets.append((mesh, True))
            for peer, python in peers:
                body, headers = write_body(directory, model, peer.asked[model][1], name="x")
                port = free_port()
                argv = [str(python), str(HERE / f"{peer.script}_peer.py")]
                argv += [str(self.models / f"{model}.onnx"), str(port), str(key), str(cert)]
                scheme = "https" if peer.tls else "http"
                target = Target(
                    peer.name,
                    f"{scheme}://localhost:{port}{peer.asked[model][0]}",
                    ca if peer.tls else None,
                    body,
                    tuple(headers),
                    0,
                )
                if started := self._start(stack, target, argv):
                    targets.append((started, peer.tls))
            self._measure(model, targets)

    def _start(self, stack: ExitStack, target: Target, argv: list[str]) -> Target | None:
        log = self.scratch / f"{target.name.replace(' ', '')}.log"
        print(f"starting {target.name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        own = stack.enter_context(ExitStack())
        started = own.enter_context(process(*argv, log=log))

        def up() -> bool:
            if started.poll() is not None:
                raise SystemExit(f"ended with status {started.returncode}")
            ca_there = target.ca is None or target.ca.exists()
            return ca_there and bool(answers(target.url, target.ca, target.body, target.headers))

        try:
            wait_for(up, target.name, timeout_s=START_S)
        except SystemExit as err:
            own.close()
            lines = log.read_text(errors="replace").strip().splitlines() or ["said nothing"]
            self.absent[target.name] = f"does not serve here: {err}: {lines[-1][:160]}"
            return None
        server = self.servers.setdefault(target.name, {"version": wardian.__version__})
        server["start_s"] = server.get("start_s") or time.monotonic() - began
        return Target(target.name, target.url, target.ca, target.body, target.headers, started.pid)

    def _wardian(self, stack: ExitStack, directory: Path, model: str) -> Target | None:
        example, state, port = directory / "example", directory / "state", free_port()
        example.mkdir()
        (example / "wardian.toml").write_text(_only(MESH, model))
        (example / "example.toml").write_text(_only(EXAMPLE, model))
        (example / f"{model}.onnx").symlink_to(self.models / f"{model}.onnx")
        form = "v2" if model == "mlp" else "binary"
        body, headers = write_body(directory, model, form, name="x")
        url = f"https://localhost:{port}/v2/models/{model}/infer"
        ca = state / "mesh-ca.pem"
        argv = [sys.executable, "-m", "wardian.cli", "up", str(example), "--state", str(state)]
        target = Target("Wardian, sealed", url, ca, body, tuple(headers), 0)
        return self._start(stack, target, [*argv, "--port", str(port)])

    def _measure(self, model: str, targets: list[tuple[Target, bool]]) -> None:
        found: dict[tuple[str, bool, int], list[dict[str, float]]] = {}
        for number in range(self.rounds):
            print(f"{model}: round {number + 1} of {self.rounds}", file=sys.stderr, flush=True)
            for connections in CONNECTIONS[model]:
                for target, tls in targets:
                    try:
                        figures = measure(target, connections, self.seconds)
                    except BenchFailed as err:
                        self.absent[f"{target.name}, {model}, {connections} connections"] = str(err)
                        continue
                    found.setdefault((target.name, tls, connections), []).append(figures)
        for target, _ in targets:
            server = self.servers[target.name]
            server["memory_mb"] = server.get("memory_mb") or resident_mb(target.root)
        self.rows += [
            {
                "server": name,
                "tls": "yes" if tls else "no",
                "model": model,
                "connections": connections,
                **medians(figures),
            }
            for (name, tls, connections), figures in found.items()
        ]


def _only(text: str, model: str) -> str:
    """Return `text`, which is TOML, without the tables of other models."""
    tables = text.split("\n\n")
    return "\n\n".join(each for each in tables if "[models." not in each or model in each) + "\n"


def main() -> None:
    """Measure, keep the figures and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="", help="names of scripts; default: all but the large")
    parser.add_argument("--models", default="mlp,resnet50")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument(
        "--scratch", type=Path, default=Path(tempfile.gettempdir()) / "wardian-peers"
    )
    options = parser.parse_args()
    run = Run(options.scratch, options.rounds, options.seconds)
    before = {**setting(options.rounds, options.seconds), "load_by": load_by()}
    run.models.mkdir(parents=True, exist_ok=True)
    if not (run.models / "resnet50.onnx").exists():
        models.mlp(run.models / "mlp.onnx")
        models.resnet50(run.models / "resnet50.onnx")
    wanted = [name for name in options.peers.split(",") if name]
    if unknown := set(wanted) - {peer.script for peer in PEERS}:
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))}")
    peers = run.installed(wanted)
    for model in options.models.split(","):
        run.model(model, peers)
    servers = {name: each for name, each in run.servers.items() if each.get("memory_mb")}
    keep("peers", {**before, "rows": run.rows, "servers": servers, "absent": run.absent})


if __name__ == "__main__":
    main()
