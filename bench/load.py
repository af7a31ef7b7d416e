"""A closed-loop HTTPS load: N connections, each sends its next request when the answer is there.

Runs as a process of its own and prints one JSON line. It speaks just enough HTTP/1.1 (fixed request
bytes, Content-Length answers) that it costs little beside the server that it measures.

    python bench/load.py https://localhost:8443/path --ca CA --body FILE --connections 16
"""

import argparse
import asyncio
import json
import ssl
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop
from typing_extensions import override

HEADER_END = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """Sends `request` over and over until `until`, and notes how long each answer took."""

    def __init__(self, request: bytes, until: float) -> None:
        self.request, self.until = request, until
        self.latencies: list[float] = []
        self.errors = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = bytearray()
        self.sent = 0.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self.send()

    def send(self) -> None:
        """Send the next request, or finish."""
        self.sent = time.perf_counter()
        if self.sent >= self.until:
            self.transport.close()
            return
        self.transport.write(self.request)

    @override
    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(HEADER_END)
        if head < 0:
            return
        header = bytes(self.buffer[:head]).lower()
        length = int(header.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self.buffer) < head + len(HEADER_END) + length:
            return
        if header.split(b" ", 2)[1] == b"200":
            self.latencies.append(time.perf_counter() - self.sent)
        else:
            self.errors += 1
        del self.buffer[:]
        self.send()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.errors += 1
        if not self.done.done():
            self.done.set_result(None)


async def load(options: argparse.Namespace) -> dict[str, float]:
    """Return requests a second and latency percentiles in milliseconds."""
    url = urlsplit(options.url)
    body = Path(options.body).read_bytes()
    head = f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{line}\r\n" for line in options.header) + "\r\n"
    context = ssl.create_default_context(cafile=options.ca)
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + options.seconds
    connections: list[Connection] = []
    began = time.perf_counter()
    for _ in range(options.connections):
        _, protocol = await loop.create_connection(
            lambda: Connection(head.encode() + body, until), url.hostname, url.port, ssl=context
        )
        connections.append(protocol)
    await asyncio.gather(*(connection.done for connection in connections))
    seconds = time.perf_counter() - began
    latencies = sorted(latency for each in connections for latency in each.latencies)
    if not latencies:
        raise SystemExit("no request was answered")
    return {
        "requests": len(latencies),
        "errors": sum(each.errors for each in connections),
        "per_second": len(latencies) / seconds,
        "p50_ms": 1e3 * latencies[len(latencies) // 2],
        "p99_ms": 1e3 * latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))],
    }


def main() -> None:
    """Run the load and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--ca", required=True)
    parser.add_argument("--body", required=True)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print(json.dumps(uvloop.run(load(options))))


if __name__ == "__main__":
    main()
