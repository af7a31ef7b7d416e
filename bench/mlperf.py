"""The server scenario of MLPerf on a front end, driven by MLCommons' own load generator.

The generator decides when each query is issued (Poisson arrivals) and judges the run; this script
is its system under test: it puts each query on a verified connection and reports the answer. It
runs as two processes, since `mlcommons-loadgen` lives in an environment of its own: this one keeps
the connections, the other (`mlperf_issue.py`) holds the generator; they speak over a pair of pipes.

    python bench/mlperf.py [--rates 200,400,800] [--seconds 10] [--bound-ms 10] [--scratch DIR]
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "peers"))
import uvloop
from environments import NotInstalled, install, version_of
from processes import free_port, process, wait_for
from serving import DIGITS, keep, setting
from soak import payloads

from wardian.errors import WardianError
from wardian.serving.client.messages import Answer
from wardian.serving.client.origin import parse_origin
from wardian.serving.client.policy import load_client_policy
from wardian.serving.loadgen.dial import VerifiedDial
from wardian.serving.loadgen.link import Link
from wardian.serving.loadgen.payload import Payload

HERE = Path(__file__).parent
CONNECTIONS = 64
NUMBER_BYTES = 8
END = b"\xff" * NUMBER_BYTES
"""Sent by the generator when it is done, and sent back."""
PACKAGE = "mlcommons-loadgen"


class Carrier:
    """Answers the numbers of queries that come on one pipe with the same numbers on another."""

    def __init__(self, asked: list[Payload], links: list[Link], sink: asyncio.StreamWriter) -> None:
        """`links` are verified, and idle."""
        self.asked, self.idle, self.sink = asked, links, sink
        self.waiting: list[bytes] = []
        self.lost = 0

    def ask(self, number: bytes) -> None:
        """Put the query `number` on a connection, or let it wait for one: none is dropped."""
        if not self.idle:
            self.waiting.append(number)
            return
        link = self.idle.pop()
        payload = self.asked[int.from_bytes(number, "little") % len(self.asked)]

        def done(answer: Answer | WardianError) -> None:
            if isinstance(answer, WardianError) or answer.status != 200:
                self.lost += 1  # the generator then waits in vain, and the run is not valid
            else:
                self.sink.write(number)
            if link.usable:
                self.idle.append(link)
            if self.waiting:
                self.ask(self.waiting.pop(0))

        link.send((payload.before, number.hex().encode(), payload.after), done)


async def run_once(
    url: str, policy: Path, python: Path, rate: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Return the generator's own figures for one rate."""
    origin = parse_origin(url)
    asked, _ = payloads(origin.authority)
    dial = VerifiedDial(origin, load_client_policy(policy))
    links = [await dial(lambda: None) for _ in range(CONNECTIONS)]
    with tempfile.TemporaryDirectory(prefix="mlperf-") as folder:
        argv = [str(HERE / "mlperf_issue.py"), folder, str(rate), str(options.seconds)]
        issuing = await asyncio.create_subprocess_exec(
            str(python),
            *argv,
            str(options.bound_ms),
            str(len(asked)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        if issuing.stdin is None or issuing.stdout is None:
            raise SystemExit("no pipes to the generator")
        carrier = Carrier(asked, list(links), issuing.stdin)
        try:
            async with asyncio.timeout(4 * options.seconds + 30):
                with suppress(asyncio.IncompleteReadError):  # the generator died
                    while (number := await issuing.stdout.readexactly(NUMBER_BYTES)) != END:
                        carrier.ask(number)
                    issuing.stdin.write(END)
                status = await issuing.wait()
        except TimeoutError:  # it waits for ever for a query that was lost
            issuing.kill()
            status = await issuing.wait()
        if status:
            raise SystemExit(f"the generator failed; {carrier.lost} queries were lost")
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    for link in links:
        await link.close()
    return {"rate": rate, "lost": carrier.lost, **figures(summary)}


def figures(summary: str) -> dict[str, Any]:
    """Return what the generator's summary says."""
    said = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in summary.splitlines())
    }
    return {
        "valid": said["Result is"] == "VALID",
        "completed": float(said["Completed samples per second"]),
        "p50_ms": float(said["50.00 percentile latency (ns)"]) / 1e6,
        "p99_ms": float(said["99.00 percentile latency (ns)"]) / 1e6,
    }


def main() -> None:
    """Measure each rate, keep the figures and print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="400,800,1600,3200,4800,6400")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--bound-ms", type=float, default=10.0)
    parser.add_argument(
        "--scratch", type=Path, default=Path(tempfile.gettempdir()) / "wardian-peers"
    )
    options = parser.parse_args()
    before = setting(1, options.seconds)
    try:
        python = install(options.scratch / "environments", "mlperf", (PACKAGE,))
    except NotInstalled as err:
        raise SystemExit(f"{PACKAGE} does not install here: {err}") from err
    with tempfile.TemporaryDirectory(prefix="wardian-") as folder:
        state, port = Path(folder) / "state", free_port()
        argv = [sys.executable, "-m", "wardian.cli", "up", str(DIGITS), "--state", str(state)]
        status = state / "run" / "status.json"
        with process(*argv, "--port", str(port)):
            wait_for(lambda: status.exists() and '"serving"' in status.read_text(), "the mesh")
            url, policy = f"https://localhost:{port}", state / "client-policy.toml"
            rows = []
            for rate in (float(each) for each in options.rates.split(",")):
                print(f"{rate:g}/s ...", file=sys.stderr, flush=True)
                rows.append(uvloop.run(run_once(url, policy, python, rate, options)))
    del before["rounds"]
    version = version_of(python, PACKAGE)
    keep("mlperf", {**before, "bound_ms": options.bound_ms, "rows": rows, "version": version})


if __name__ == "__main__":
    main()
