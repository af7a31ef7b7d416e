"""An open loop at half of the capacity while everything that can fail does, one after the other.

Processes are killed (Redis with and without its data) and frozen, the network between any two is
cut and reset, the disk is filled. Every answer is compared with what the plain model answers. The
run ends with status 1 if an answer was wrong or came twice, if a request had no outcome, if one
came more than 100 ms past its deadline, or if a fault was not survived. Recovery is stated for
each.

    python bench/soak.py [--seconds 600] [--rate R] [--workers 2] [--queue redis]
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uvloop
from processes import process, wait_for
from serving import DIGITS, keep, setting
from soak_cluster import Cluster
from soak_disk import INSIDE, enter, small_disk, why_not
from soak_faults import faults_of, inject
from soak_judge import (
    DEADLINE_S,
    SLOW_S,
    Observed,
    WrongAnswer,
    failures,
    recoveries,
    unhurt,
)
from soak_machines import BROKER, CLIENT, FRONTEND, Layout

from wardian.serving.client.messages import Answer, build_infer, parse_infer
from wardian.serving.client.origin import parse_origin
from wardian.serving.client.policy import load_client_policy
from wardian.serving.loadgen.dial import VerifiedDial
from wardian.serving.loadgen.drive import Driver
from wardian.serving.loadgen.load import ClosedLoad, OpenLoad
from wardian.serving.loadgen.payload import Payload, build_payload

BENCH = Path(__file__).parent
PATIENCE_S = 6.0
"""The generator waits past the deadline: it is to see how late an outcome comes."""
IMAGES = 64
CALIBRATION_S = 4.0
ALONE_S = 8.0
"""Longer than it takes to notice that a worker is frozen, and to admit one anew."""
CONNECTIONS = 256


def payloads(authority: str) -> tuple[list[Payload], list[np.ndarray[Any, Any]]]:
    """Return requests, and the probabilities that the plain model answers to each."""
    with np.load(DIGITS / "heldout.npz") as data:
        images = (data["image"][:IMAGES] / 16).astype(np.float32)
    plain = ort.InferenceSession(str(DIGITS / "digits.onnx"), providers=["CPUExecutionProvider"])
    asked, expected = [], []
    for number in range(len(images)):
        row = images[number : number + 1]
        call = build_infer(
            "digits", {"image": row}, version=None, outputs=None, timeout_s=DEADLINE_S
        )
        asked.append(build_payload(call, authority=authority, number=number))
        expected.append(np.asarray(plain.run(["probabilities"], {"image": row})[0]))
    return asked, expected


async def soak(url: str, cluster: Cluster, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the run; a rate of 0 means half of what a closed loop shows."""
    origin = parse_origin(url)
    asked, expected = payloads(origin.authority)

    def judge(payload: Payload, answer: Answer) -> None:
        got = parse_infer(answer)["probabilities"]
        if not np.allclose(got, expected[payload.number], rtol=1e-3, atol=1e-5):
            raise WrongAnswer("not what the plain model answers")

    observed, seconds = Observed(), options.seconds
    dial = VerifiedDial(origin, load_client_policy(cluster.state / "client-policy.toml"))
    driver = Driver(dial, asked, patience_s=PATIENCE_S, judge=judge)
    capacity = await driver.run(ClosedLoad(connections=32, seconds=CALIBRATION_S))
    driver.observe = observed.note
    rate = options.rate or capacity.goodput / 2
    load = OpenLoad(rate=rate, seconds=seconds, connections=CONNECTIONS)
    before = cluster.starts()
    faults = [
        fault
        for fault in faults_of(cluster, small_disk=options.inside)
        if not options.only or options.only in fault.name
    ]
    injecting = asyncio.ensure_future(inject(cluster, faults, seconds, observed))
    try:
        report = await driver.run(load)
        injected = await injecting
        said = await idle_workers(cluster, driver)
    finally:
        injecting.cancel()
        with suppress(asyncio.CancelledError):
            await injecting
        await driver.close()
    said += failures(report, observed.overrun_s)
    said += unhurt(injected.killed, before, cluster.starts())
    return {
        "seconds": seconds,
        "capacity": capacity.goodput,
        "rate": load.rate,
        "started": report.started,
        "answered": report.answered,
        "errors": report.errors,
        "not_started": report.not_started,
        "retried": report.retried,
        "unasked": report.unasked,
        "wrong": report.errors.get(WrongAnswer.__name__, 0),
        "cut_off": observed.cut_off,
        "p50_ms": report.p50_ms,
        "p99_ms": report.p99_ms,
        "lag_ms": report.lag_ms,
        "overrun_ms": max(0.0, 1e3 * observed.overrun_s),
        "slow_ms": 1e3 * SLOW_S,
        "faults": recoveries(observed.disturbed, observed.faults),
        "not_done": injected.not_done,
        "failures": said,
    }


async def idle_workers(cluster: Cluster, driver: Driver) -> list[str]:
    """Return which workers answer nothing, each asked while the others are frozen."""
    said, workers = [], cluster.workers()
    driver.observe = None
    for worker in workers:
        async with cluster.frozen([name for name in workers if name != worker]):
            report = await driver.run(ClosedLoad(connections=1, seconds=ALONE_S))
        if not report.answered:
            said.append(f"{worker} does not serve any more")
    return said


def example(directory: Path, layout: Layout, workers: int) -> Path:
    """Return a copy of the digits example with so many workers, and a broker where it says."""
    copied = directory / "example"
    shutil.copytree(DIGITS, copied)
    with (copied / "operator.toml").open("a") as file:
        file.write(f"\n[broker]\nport = {layout.ports[BROKER]}\n")
        file.write(f"\n[worker]\nreplicas = {workers}\n")
    return copied


@contextmanager
def relaying(layout: Layout) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the relay of all links until the block ends."""
    argv = [sys.executable, str(BENCH / "soak_relay.py")]
    argv.append(json.dumps([asdict(link) for link in layout.links]))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as relay:
        try:
            if relay.stdout is None or relay.stdout.readline() != b"ready\n":
                raise SystemExit("the relay did not come up")
            yield relay
        finally:
            relay.terminate()


def run(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Start a mesh below `directory` and return what a run over it has shown."""
    workers = [f"worker-digits-{number + 1}" for number in range(options.workers)]
    layout = Layout.choose(queue=options.queue, workers=workers)
    layout.write(directory / "layout.json")
    state = directory / "state"
    status = state / "run" / "status.json"
    argv = [sys.executable, str(BENCH / "soak_machines.py"), str(directory / "layout.json"), "up"]
    argv += [str(example(directory, layout, options.workers)), "--queue", options.queue]
    argv += ["--state", str(state), "--port", str(layout.ports[FRONTEND])]
    with relaying(layout) as relay, process(*argv):
        wait_for(lambda: status.exists() and '"serving"' in status.read_text(), "the mesh")
        url = f"https://localhost:{layout.port(CLIENT, FRONTEND)}"
        return uvloop.run(soak(url, Cluster(state, relay, layout.links), options))


def main() -> None:
    """Run it, keep the figures, and say what must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queue", choices=("embedded", "redis"), default="embedded")
    parser.add_argument("--only", default="", help="faults with this in their name; nothing kept")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    why = "" if options.inside else why_not()
    if not options.inside and not why:
        enter()
    if why:
        print(f"the disk is not filled: {why}", file=sys.stderr)
    before = setting(1, options.seconds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wardian-")))
        if options.inside:
            stack.enter_context(small_disk(folder))
        result = run(folder, options)
    del before["rounds"]
    result = {**before, "queue": options.queue, "disk_not_filled": why, **result}
    if options.only:
        print(json.dumps(result, indent=1))
    else:
        keep("soak", result)
    if result["failures"]:
        raise SystemExit("; ".join(result["failures"]))


if __name__ == "__main__":
    main()
