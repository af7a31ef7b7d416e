"""A load on servers that have no evidence to show.

A process of its own that prints one JSON line: what was answered, how soon, and the server's CPU
per answer. A closed loop is `wrk`'s where that is installed: it costs a tenth of what our own load
generator costs, which otherwise competes with fast servers for the machine that they share. An open
loop, and a load of less than a second, is that of `wardian.serving.loadgen`. What both leave out is
the verification: a peer's server cannot be verified, and with our own the paired runs must put the
same load on both sides. Nothing in the package connects like this.

    python bench/load.py https://localhost:8443/path --ca CA --body FILE --connections 16
    python bench/load.py http://127.0.0.1:8080/path --body FILE --rate 500
"""

import argparse
import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import uvloop
from processes import cpu_seconds

from wardian.errors import ConnectionLost
from wardian.serving.client.messages import Call
from wardian.serving.loadgen.drive import Driver
from wardian.serving.loadgen.link import Link
from wardian.serving.loadgen.load import ClosedLoad, Load, OpenLoad
from wardian.serving.loadgen.payload import build_payload


class PlainDial:
    """Connects, over TLS with a CA or in the clear, to whoever is there."""

    def __init__(self, host: str, port: int, ca: str | None) -> None:
        """`ca` is a file; without one nothing is encrypted."""
        self._host, self._port = host, port
        self._context = None if ca is None else ssl.create_default_context(cafile=ca)

    async def __call__(self, unasked: Callable[[], None]) -> Link:
        """Return a new connection."""
        try:
            _, link = await asyncio.get_running_loop().create_connection(
                lambda: Link(unasked=unasked), self._host, self._port, ssl=self._context
            )
        except OSError as err:
            raise ConnectionLost(f"cannot connect: {err}") from err
        return link


def closed_loop(wrk: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a closed loop that the program `wrk` makes."""
    argv = [wrk, "-t1", f"-c{options.connections}", f"-d{round(options.seconds)}s", "--latency"]
    argv += ["--timeout", f"{options.timeout:g}s", "-s", str(Path(__file__).with_name("wrk.lua"))]
    before = cpu_seconds(options.root) if options.root else 0.0
    done = subprocess.run(
        [*argv, options.url, "--", options.body, *options.header],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    used = cpu_seconds(options.root) - before if options.root else 0.0
    line = next(each for each in done.stdout.splitlines() if each.startswith("figures "))
    told = json.loads(line.removeprefix("figures "))
    answered = told["requests"] - told["refused"]
    errors = {"status": told["refused"], "connection": told["broken"]}
    return {
        "answered": answered,
        "goodput": 1e6 * answered / told["microseconds"],
        "p50_ms": told["p50"] / 1e3,
        "p99_ms": told["p99"] / 1e3,
        "errors": {kind: count for kind, count in errors.items() if count},
        "cpu_us": 1e6 * used / max(1, answered),
    }


async def load(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the load that `options` describe, and the server's CPU per answer."""
    url = urlsplit(options.url)
    headers = [line.partition(":") for line in options.header]
    call = Call(
        method=b"POST",
        target=url.path.encode(),
        headers=tuple((name.encode(), value.strip().encode()) for name, _, value in headers),
        body=Path(options.body).read_bytes(),
    )
    port = url.port or (443 if url.scheme == "https" else 80)
    driver = Driver(
        PlainDial(url.hostname or "", port, options.ca),
        [build_payload(call, authority=url.netloc)],
        patience_s=options.timeout,
    )
    asked: Load = ClosedLoad(connections=options.connections, seconds=options.seconds)
    if options.rate:
        asked = OpenLoad(
            rate=options.rate, seconds=options.seconds, connections=options.connections
        )
    try:
        await driver.connect(options.connections)  # before its CPU counts
        before = cpu_seconds(options.root) if options.root else 0.0
        report = await driver.run(asked)
        used = cpu_seconds(options.root) - before if options.root else 0.0
    finally:
        await driver.close()
    figures: dict[str, Any] = msgspec.to_builtins(report)
    figures["cpu_us"] = 1e6 * used / max(1, report.answered)
    return figures


def main() -> None:
    """Run the load and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--ca")
    parser.add_argument("--body", required=True)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--root", type=int, help="the server's process, whose CPU is counted")
    parser.add_argument("--timeout", type=float, default=30.0)
    options = parser.parse_args()
    wrk = None if options.rate or options.seconds < 1 else shutil.which("wrk")
    figures = uvloop.run(load(options)) if wrk is None else closed_loop(wrk, options)
    print(json.dumps(figures))
    if not figures["answered"]:
        raise SystemExit(f"no request was answered: {figures['errors']}")


if __name__ == "__main__":
    main()
