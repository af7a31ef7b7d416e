"""An open loop at half of the capacity while processes are killed and frozen, one after the other.

Every answer is compared with what the plain model answers. The run ends with status 1 if an answer
was wrong or came twice, if a request had no outcome, or if one came more than 100 ms past its
deadline. Recovery is stated for each fault.

    python bench/soak.py [--seconds 600] [--rate R] [--workers 2] [--queue redis]
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
import uvloop
from processes import children, free_port, process, wait_for
from serving import DIGITS, keep, setting

from wardian._internal.clock import monotonic
from wardian.errors import WardianError
from wardian.serving.client.connection import parse_origin
from wardian.serving.client.messages import Answer, build_infer, parse_infer
from wardian.serving.client.policy import load_client_policy
from wardian.serving.loadgen.dial import VerifiedDial
from wardian.serving.loadgen.drive import Driver, Ended
from wardian.serving.loadgen.load import ClosedLoad, OpenLoad
from wardian.serving.loadgen.payload import Payload, build_payload
from wardian.serving.loadgen.report import Report

DEADLINE_S = 2.0
PATIENCE_S = 6.0
"""The generator waits past the deadline: it is to see how late an outcome comes."""
ALLOWED_OVERRUN_S = 0.1
SLOW_S = 0.25
FROZEN_S = 5.0
QUIET_S = 3.0
"""Longer than a deadline: what a fault disturbs shows within one."""
IMAGES = 64
CALIBRATION_S = 4.0
CONNECTIONS = 256
KILL = "kill -9 of "


Fault: TypeAlias = tuple[str, Callable[[], Awaitable[None]]]


class WrongAnswer(WardianError):
    """An answer is not what the plain model answers."""


@dataclass
class Observed:
    """What is kept of the outcomes: only the disturbed ones, so memory follows the faults."""

    disturbed: list[Ended] = field(default_factory=list)
    overrun_s: float = 0.0

    def note(self, ended: Ended) -> None:
        """Look at one outcome."""
        if ended.asked:  # else no front end ever had it: the client could not connect
            self.overrun_s = max(self.overrun_s, ended.at - ended.asked - DEADLINE_S)
        if ended.kind or ended.at - ended.due > SLOW_S:
            self.disturbed.append(ended)


def recoveries(disturbed: list[Ended], faults: list[tuple[str, float]]) -> list[dict[str, Any]]:
    """Return what each fault disturbed, and after how long `QUIET_S` without disturbance began.

    On a busy machine requests are slow for other reasons as well, so what comes later than that is
    counted, but does not put off the recovery.

    Args:
        disturbed: outcomes that were errors, or slow.
        faults: names and times, in order; an outcome belongs to the last fault before it ended.
    """
    found = []
    for place, (name, at) in enumerate(faults):
        until = faults[place + 1][1] if place + 1 < len(faults) else float("inf")
        mine = sorted((each for each in disturbed if at <= each.at < until), key=lambda e: e.at)
        last = at
        for each in mine:
            if each.at - last > QUIET_S:
                break
            last = each.at
        kinds = sorted({each.kind for each in mine if each.kind})
        row = {"fault": name, "disturbed": len(mine), "recovery_s": last - at, "errors": kinds}
        found.append(row)
    return found


def failures(report: Report, overrun_s: float) -> list[str]:
    """Return what the run has shown that must not be; empty if it is as it should be."""
    wrong = report.errors.get(WrongAnswer.__name__, 0)
    without = report.started - report.answered - report.failed
    said = []
    if wrong:
        said.append(f"{wrong} answers were wrong")
    if report.unasked:
        said.append(f"{report.unasked} answers came twice, or to nobody")
    if without:
        said.append(f"{without} requests had no outcome")
    if overrun_s > ALLOWED_OVERRUN_S:
        said.append(f"an outcome came {1e3 * overrun_s:.0f} ms past its deadline")
    if not report.answered:
        said.append("nothing was answered")
    return said


def unhurt(
    killed: Mapping[str, int], before: Mapping[str, int], after: Mapping[str, int]
) -> list[str]:
    """Return which processes were not started again as often as they were killed."""
    return [
        f"{name} was killed {times} times and started again {after.get(name, 0) - before[name]}"
        for name, times in killed.items()
        if after.get(name, 0) - before[name] < times
    ]


class Cluster:
    """The processes of one mesh, as its status file names them."""

    def __init__(self, state: Path) -> None:
        """`state` is the state directory of `wardian up`."""
        self.state = state

    def starts(self) -> dict[str, int]:
        """Return how often each process was started."""
        status = json.loads((self.state / "run" / "status.json").read_text())
        return {str(each["name"]): int(each["starts"]) for each in status["processes"]}

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the role itself, the child of its launcher; a Redis has none."""
        status = json.loads((self.state / "run" / "status.json").read_text())
        (pid,) = [each["pid"] for each in status["processes"] if each["name"] == name]
        for child in children(pid) or [pid]:
            with suppress(ProcessLookupError):
                os.kill(child, number)

    async def freeze(self, name: str) -> None:
        """Stop the role for a while."""
        self.signal(name, signal.SIGSTOP)
        try:
            await asyncio.sleep(FROZEN_S)
        finally:
            self.signal(name, signal.SIGCONT)

    async def kill(self, name: str) -> None:
        """End the role at once."""
        self.signal(name, signal.SIGKILL)

    def faults(self) -> list[Fault]:
        """Return what can be done to it: each process killed, one worker frozen."""
        names = list(self.starts())
        found: list[Fault] = [(f"{KILL}{name}", partial(self.kill, name)) for name in names]
        worker = next(name for name in names if name.startswith("worker"))
        found.append((f"SIGSTOP of {worker}, {FROZEN_S:g} s", partial(self.freeze, worker)))
        return found


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


async def inject(cluster: Cluster, seconds: float, done: list[tuple[str, float]]) -> None:
    """Do one fault after the other, evenly over `seconds`; again from the first while time is."""
    faults = cluster.faults()
    pause = max(seconds / (len(faults) + 1), FROZEN_S + 3.0)
    pause = min(pause, 20.0)
    until = monotonic() + seconds - pause / 2
    turn = 0
    await asyncio.sleep(pause / 2)
    while monotonic() < until:
        name, act = faults[turn % len(faults)]
        done.append((name, monotonic()))
        print(f"{name} ...", file=sys.stderr, flush=True)
        await act()
        turn += 1
        await asyncio.sleep(max(0.0, done[-1][1] + pause - monotonic()))


async def soak(url: str, state: Path, seconds: float, rate: float) -> dict[str, Any]:
    """Return the figures of the run; `rate` 0 means half of what a closed loop shows."""
    origin = parse_origin(url)
    asked, expected = payloads(origin.authority)

    def judge(payload: Payload, answer: Answer) -> None:
        got = parse_infer(answer)["probabilities"]
        if not np.allclose(got, expected[payload.number], rtol=1e-3, atol=1e-5):
            raise WrongAnswer("not what the plain model answers")

    observed = Observed()
    done: list[tuple[str, float]] = []
    dial = VerifiedDial(origin, load_client_policy(state / "client-policy.toml"))
    driver = Driver(dial, asked, patience_s=PATIENCE_S, judge=judge)
    capacity = await driver.run(ClosedLoad(connections=32, seconds=CALIBRATION_S))
    driver.observe = observed.note
    load = OpenLoad(rate=rate or capacity.goodput / 2, seconds=seconds, connections=CONNECTIONS)
    cluster = Cluster(state)
    before = cluster.starts()
    injecting = asyncio.ensure_future(inject(cluster, seconds, done))
    try:
        report = await driver.run(load)
    finally:
        injecting.cancel()
        with suppress(asyncio.CancelledError):
            await injecting
        await driver.close()
    killed = Counter(name.removeprefix(KILL) for name, _ in done if name.startswith(KILL))
    said = failures(report, observed.overrun_s)
    said += unhurt(killed, before, cluster.starts())
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
        "p50_ms": report.p50_ms,
        "p99_ms": report.p99_ms,
        "lag_ms": report.lag_ms,
        "overrun_ms": max(0.0, 1e3 * observed.overrun_s),
        "slow_ms": 1e3 * SLOW_S,
        "faults": recoveries(observed.disturbed, done),
        "failures": said,
    }


def example(directory: Path, workers: int) -> Path:
    """Return a copy of the digits example with so many workers."""
    copied = directory / "example"
    shutil.copytree(DIGITS, copied)
    with (copied / "operator.toml").open("a") as file:
        file.write(f"\n[worker]\nreplicas = {workers}\n")
    return copied


def main() -> None:
    """Run it, keep the figures, and say what must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queue", default="embedded", help="as of `wardian up`; a Redis is killed")
    options = parser.parse_args()
    before = setting(1, options.seconds)
    with tempfile.TemporaryDirectory(prefix="wardian-") as folder:
        directory = Path(folder)
        state, port = directory / "state", free_port()
        argv = [sys.executable, "-m", "wardian.cli", "up", str(example(directory, options.workers))]
        argv += ["--queue", options.queue]
        status = state / "run" / "status.json"
        with process(*argv, "--state", str(state), "--port", str(port)):
            wait_for(lambda: status.exists() and '"serving"' in status.read_text(), "the mesh")
            url = f"https://localhost:{port}"
            result = uvloop.run(soak(url, state, options.seconds, options.rate))
    del before["rounds"]
    keep("soak", {**before, "queue": options.queue, **result})
    if result["failures"]:
        raise SystemExit("; ".join(result["failures"]))


if __name__ == "__main__":
    main()
