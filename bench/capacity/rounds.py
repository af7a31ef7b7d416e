"""Every load of calibration and check, in turn, round after round, on meshes that run at once."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measured import Point, handshake, machine_s, measure
from meshes import Mesh, mesh
from processes import resident_mb

from wardian.serving.loadgen.load import ClosedLoad, Load, OpenLoad

HERE = Path(__file__).parent
WORKERS = (1, 2)
SATURATED = {"digits": 64, "heavy": 16}
"""Connections of the closed loop that is predicted; calibrated with fewer."""
CALIBRATED = {"digits": ((1, 1), (4, 1), (16, 1), (32, 1)), "heavy": ((1, 1), (1, 2))}
"""Closed loops of the calibration: connections, rows of a request."""
CALIBRATED_PART, PARTS = 0.25, (0.4, 0.7)
"""Open loops, as parts of the capacity: of the calibration, with one worker, and of the check."""
IN_FLIGHT = {"digits": 512, "heavy": 64}
SECONDS = {"digits": (3.0, 8.0), "heavy": (4.0, 10.0)}
"""Of a closed and of an open loop."""
GAP_SECONDS = 3.0
LOOK_S, IDLE = 1.0, 0.05
"""A load begins after so long in which the machine was busy for no larger part of its time."""
ATTEMPTS = 3
"""How often a load is put on anew that others disturbed."""
QUIET = 0.03
"""A load counts if other processes had no larger part of the machine."""


def gaps() -> dict[str, Any]:
    """Return the gaps of the machine's cores, and how busy others were meanwhile."""
    before, own = machine_s(), resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = [sys.executable, str(HERE / "gaps.py"), "--seconds", str(GAP_SECONDS)]
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    after, then = machine_s(), resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = then.ru_utime + then.ru_stime - own.ru_utime - own.ru_stime
    whole = after[2] - before[2]
    return {
        "gaps": json.loads(done.stdout),
        "seconds": GAP_SECONDS,
        "steal": (after[1] - before[1]) / whole,
        "others": max(0.0, after[0] - before[0] - spent) / whole,
    }


def loads(model: str, rates: dict[int, float], seed: int) -> Iterator[tuple[int, str, Load, int]]:
    """Yield workers, what it is for, load and rows of everything that is asked of a model."""
    closed_s, open_s = SECONDS[model]
    for connections, rows in CALIBRATED[model]:
        yield 1, "calibration", ClosedLoad(connections=connections, seconds=closed_s), rows
    most = IN_FLIGHT[model]

    def arriving(workers: int, part: float) -> OpenLoad:
        rate = round(part * rates[workers], 1)
        return OpenLoad(rate=rate, seconds=open_s, connections=most, seed=seed)

    yield 1, "calibration", arriving(1, CALIBRATED_PART), 1
    for workers in WORKERS:
        full = ClosedLoad(connections=SATURATED[model], seconds=closed_s)
        yield workers, "check", full, 1
        for part in PARTS:
            yield workers, "check", arriving(workers, part), 1


def await_quiet(until: float) -> None:
    """Return once nobody else works on this machine, or at `until`, monotonic."""
    while time.monotonic() < until:
        before = machine_s()
        time.sleep(LOOK_S)
        after = machine_s()
        if after[0] - before[0] <= IDLE * (after[2] - before[2]):
            return


def row(load: Load, rows: int, point: Point) -> dict[str, Any]:
    """Return one load and its figures as JSON takes them."""
    about = {"connections": load.connections, "seconds": load.seconds, "rows": rows}
    rate = load.rate if isinstance(load, OpenLoad) else None
    return {"rate": rate, **about, **asdict(point)}


def capacities(meshes: dict[int, Mesh]) -> dict[str, dict[int, float]]:
    """Return what closed loops reach, by model and workers: the rates of the open ones."""
    found: dict[str, dict[int, float]] = {}
    for model, connections in SATURATED.items():
        for workers, one in meshes.items():
            load = ClosedLoad(connections=connections, seconds=SECONDS[model][0])
            found.setdefault(model, {})[workers] = measure(one, model, load).per_second
    return found


def run_rounds(number: int, *, minutes: float) -> dict[str, Any]:
    """Return every point of so many rounds, noisy ones too; after `minutes` none begins."""
    until = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="wardian-") as folder, ExitStack() as stack:
        meshes = {
            workers: stack.enter_context(mesh(Path(folder) / str(workers), workers=workers))
            for workers in WORKERS
        }
        rates = capacities(meshes)
        points, stood = [], []
        for seed in range(1, number + 1):
            print(f"round {seed} of {number}", file=sys.stderr, flush=True)
            await_quiet(until)
            stood.append(gaps())
            for model in SATURATED:
                for workers, why, load, rows in loads(model, rates[model], seed):
                    if time.monotonic() > until:
                        break
                    for _ in range(ATTEMPTS):
                        await_quiet(until)
                        point = measure(meshes[workers], model, load, rows=rows)
                        about = {"model": model, "workers": workers, "why": why}
                        points.append({**about, **row(load, rows, point)})
                        if point.others <= QUIET:
                            break
        facts = {
            "handshake": [handshake(meshes[1]) for _ in range(3)],
            "memory_mb": memory(meshes[1]),
            "start_s": meshes[1].start_s,
        }
    return {"points": points, "gaps": stood, **facts}


def memory(one: Mesh) -> dict[str, float]:
    """Return the proportional set size of every process and its launcher, megabytes."""
    return {name: sum(map(resident_mb, pids[:1])) for name, pids in one.roles().items()}


def releases(workloads: int = 200) -> dict[str, Any]:
    """Return what the broker's own benchmark says of releases."""
    argv = [sys.executable, str(HERE.parent / "release.py"), "--json"]
    done = subprocess.run(
        [*argv, "--workloads", str(workloads)], capture_output=True, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
