"""A network of the size of ResNet-50 behind a front end, beside the same network alone.

Sealed, over the embedded queue, binary tensors of 600 KB. *Bare* is the inference and nothing else,
in a process of its own, by the engine that the worker chose. Interleaved, medians over the rounds.

    python bench/large_model.py [--rounds 3] [--seconds 4]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import queue_redis as plane
from processes import AS_A_ROLE, free_port, wait_for
from serving import identity, keep, setting

from wardian.inference.choice import choose_model

BENCH = Path(__file__).parent
SHAPE = (1, 3, 224, 224)
MODEL = "resnet50"
CONNECTIONS = 4


def write_request(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Write one image in the binary form; return it and its header."""
    image = np.random.default_rng(1).random(SHAPE, np.float32)
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(SHAPE),
        "parameters": {"binary_data_size": image.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = folder / "image.bin"
    body.write_bytes(head + image.tobytes())
    return body, (f"Inference-Header-Content-Length: {len(head)}",)


def bare(model: Path, seconds: float) -> None:
    """Print the median of single inferences, milliseconds."""
    chosen = choose_model(model.read_bytes(), media_type="application/onnx").model
    image = np.random.default_rng(1).random(SHAPE, np.float32)
    times, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        chosen.infer({"x": image})
        times.append(time.perf_counter() - began)
    print(json.dumps({"p50_ms": 1000 * statistics.median(times), "engine": chosen.engine}))


def start(stack: ExitStack, folder: Path, workers: int) -> plane.Target:
    """Start a front end and so many workers; return how they are asked."""
    own = folder / str(workers)
    own.mkdir()
    _, _, _, ca = identity(own)
    ca.rename(own / "ca-https.pem")
    (own / "queue.key").write_bytes(os.urandom(32))
    (own / "resnet50.onnx").symlink_to(folder / "resnet50.onnx")
    body, headers = write_request(own)
    me = [sys.executable, str(BENCH / "queue_redis.py"), "--folder", str(own)]
    port, go = free_port(), own / "go"
    go.touch()
    commands = [[*me, "--frontend", "embedded", "--port", str(port)]]
    commands += [[*me, "--worker", "embedded", "--model", MODEL] for _ in range(workers)]
    root = plane.together(stack, commands, [], go)
    url = f"https://localhost:{port}/v2/models/{MODEL}/infer"
    target = plane.Target(str(workers), url, body, headers, root, (1,))
    wait_for(lambda: plane.answers(target, own / "ca-https.pem"), f"{workers} workers")
    return target


def run(rounds: int, seconds: float) -> dict[str, Any]:
    """Return medians over `rounds`."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        folder = Path(directory)
        maker = [sys.executable, str(BENCH / "peers" / "models.py"), directory]
        subprocess.run(maker, check=True)
        one, two = start(stack, folder, 1), start(stack, folder, 2)
        engine = ""
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            argv = [sys.executable, __file__, "--bare", str(folder / "resnet50.onnx")]
            done = subprocess.run(
                [*argv, "--seconds", str(seconds)],
                capture_output=True,
                check=True,
                env={**os.environ, **AS_A_ROLE},
            )
            alone = json.loads(done.stdout)
            engine = alone["engine"]
            note("bare, p50 ms", alone["p50_ms"])
            ca = folder / "1" / "ca-https.pem"
            note("served, one connection, p50 ms", plane.measure(one, ca, 1, seconds)["p50_ms"])
            note("one worker, answers/s", plane.measure(one, ca, CONNECTIONS, seconds)["goodput"])
            ca = folder / "2" / "ca-https.pem"
            note("two workers, answers/s", plane.measure(two, ca, CONNECTIONS, seconds)["goodput"])
    medians = {name: statistics.median(values) for name, values in found.items()}
    served, single = medians["served, one connection, p50 ms"], medians["one worker, answers/s"]
    return {
        **setting(rounds, seconds),
        "engine": engine,
        "medians": medians,
        "served_over_bare": served / medians["bare, p50 ms"],
        "two_over_one": medians["two workers, answers/s"] / single,
    }


def main() -> None:
    """Measure, keep the figures and print the page; or be the bare inference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--bare", type=Path)
    options = parser.parse_args()
    if options.bare:
        bare(options.bare, options.seconds)
    else:
        keep("large_model", run(options.rounds, options.seconds))


if __name__ == "__main__":
    main()
