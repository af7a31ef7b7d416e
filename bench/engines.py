"""The digits mesh on every engine, side by side: what an engine costs in time, memory and start.

One mesh for each engine, all up at once and loaded in turn, round after round; medians. Only the
line `engine` of operator.toml differs. What an engine adds to a request should be nothing, since no
request passes it; what it costs is memory and start-up.

    python bench/engines.py [--rounds 5] [--seconds 3]
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from processes import process, resident_mb, wait_for
from serving import (
    DIGITS,
    INFER,
    PREDICT,
    Target,
    answers,
    keep,
    load_by,
    measure_all,
    requests,
    setting,
)

ENGINES = ("local", "flink", "ray")
START_S = 300.0


def start(stack: ExitStack, directory: Path, engine: str) -> tuple[Target, dict[str, float]]:
    """Start the mesh on `engine`; return what is loaded, and how it started."""
    example, state = directory / engine, directory / f"{engine}-state"
    shutil.copytree(DIGITS, example)
    (example / "operator.toml").write_text(f'engine = "{engine}"\n')
    as_json, as_binary, headers = requests(directory)
    log = directory / f"{engine}.log"
    up = [sys.executable, "-m", "wardian.cli", "up", str(example), "--state", str(state)]
    began = time.monotonic()
    root = stack.enter_context(process(*up, "--port", "0", log=log)).pid
    status = state / "run" / "status.json"

    def url() -> str:
        try:
            return str(json.loads(status.read_text()).get("url", ""))
        except (OSError, json.JSONDecodeError):
            return ""

    ca = state / "mesh-ca.pem"
    wait_for(
        lambda: bool(url()) and answers(url() + PREDICT, ca, as_json), engine, timeout_s=START_S
    )
    start_s = time.monotonic() - began
    target = Target(engine, url() + INFER, ca, as_binary, headers, root, start_s)
    return target, {"start_s": start_s, "memory_mb": resident_mb(root)}


def run(rounds: int, seconds: float, starts: int) -> dict[str, Any]:
    """Return every figure, median over the rounds; the mesh starts `starts` times on each."""
    started: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    for _ in range(starts - 1):
        for engine in ENGINES:
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                started[engine].append(start(stack, Path(folder), engine)[1])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        targets = []
        for engine in ENGINES:
            target, found = start(stack, Path(folder), engine)
            targets.append(target)
            started[engine].append(found)
        rows = measure_all(targets, rounds, seconds)
        loaded = {target.name: resident_mb(target.root) for target in targets}
    engines = {
        engine: {
            "start_s": statistics.median(each["start_s"] for each in found),
            "idle_mb": statistics.median(each["memory_mb"] for each in found),
            "loaded_mb": loaded[engine],
        }
        for engine, found in started.items()
    }
    about = {**setting(rounds, seconds), "load_by": load_by(), "tee": "SIMULATED"}
    return {**about, "starts": starts, "rows": rows, "engines": engines}


def main() -> None:
    """Measure, keep the figures and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--starts", type=int, default=2)
    options = parser.parse_args()
    keep("engines", run(options.rounds, options.seconds, options.starts))


if __name__ == "__main__":
    main()
