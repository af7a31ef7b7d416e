"""A closed-loop load over HTTP/2, of gRPC calls or of REST requests, with N connections.

Each connection has one request under way, so that the figures stand beside those of `load.py`.
It speaks just enough HTTP/2 that it costs little beside the server that it measures: after the
first request its field block is references into the dynamic table alone, as gRPC's clients send.

    python bench/load_http2.py https://localhost:8443 --ca CA --model digits --input image \
        --shape 1,64 --connections 16 [--rest]
"""

import argparse
import asyncio
import json
import ssl
import struct
import time
from typing import cast
from urllib.parse import urlsplit

import hpack
import numpy as np
import uvloop
from typing_extensions import override

from wardian.serving.grpc import wire
from wardian.serving.http.http2 import frames

Fields = list[tuple[str, str]]


class Connection(asyncio.Protocol):
    """Sends one request over and over until `until`, and notes how long each answer took."""

    def __init__(self, fields: Fields, body: bytes, until: float) -> None:
        self.encoder = hpack.Encoder()
        self.fields, self.body, self.until = fields, body, until
        self.latencies: list[float] = []
        self.errors = 0
        self.stream = -1
        self.unacknowledged = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reader = frames.FrameReader(max_payload=2**24 - 1)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class
        window = {frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW}
        self.transport.write(frames.PREFACE + frames.settings(window))
        self.send()

    def send(self) -> None:
        """Send the next request, or finish."""
        self.sent = time.perf_counter()
        if self.sent >= self.until:
            self.transport.close()
            return
        self.stream += 2
        block = self.encoder.encode(self.fields)
        self.transport.write(
            frames.frame(frames.HEADERS, frames.END_HEADERS, self.stream, block)
            + frames.frame(frames.DATA, frames.END_STREAM, self.stream, self.body)
        )

    @override
    def data_received(self, data: bytes) -> None:
        for frame in self.reader.feed(data):
            if frame.kind == frames.SETTINGS and not frame.flags & frames.ACK:
                self.transport.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
            if frame.kind == frames.DATA:
                self.unacknowledged += len(frame.payload)
            if frame.kind in (frames.DATA, frames.HEADERS) and frame.flags & frames.END_STREAM:
                self.latencies.append(time.perf_counter() - self.sent)
                if self.unacknowledged > frames.DEFAULT_WINDOW // 2:
                    self.transport.write(frames.window_update(0, self.unacknowledged))
                    self.unacknowledged = 0
                self.send()
            if frame.kind in (frames.RST_STREAM, frames.GOAWAY):
                self.errors += 1

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def request(options: argparse.Namespace) -> tuple[Fields, bytes]:
    """Return the fields and the body of the one request."""
    shape = tuple(int(axis) for axis in options.shape.split(","))
    raw = np.full(shape, 0.5, "<f4").tobytes()
    usual = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost")]
    if options.rest:
        tensor = {"name": options.input, "datatype": "FP32", "shape": shape,
                  "parameters": {"binary_data_size": len(raw)}}  # fmt: skip
        said = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
        head = json.dumps(said).encode()
        path, length = f"/v2/models/{options.model}/infer", str(len(head))
        return [*usual, (":path", path), ("inference-header-content-length", length)], head + raw
    tensor_ = wire.field(1, options.input.encode()) + wire.field(2, b"FP32")
    tensor_ += wire.field(3, b"".join(wire.varint(axis) for axis in shape))
    message = wire.field(1, options.model.encode()) + wire.element(5, tensor_)
    message += wire.element(7, raw)
    path = "/inference.GRPCInferenceService/ModelInfer"
    fields = [*usual, (":path", path), ("content-type", "application/grpc"), ("te", "trailers")]
    return fields, struct.pack(">BI", 0, len(message)) + message


async def load(options: argparse.Namespace) -> dict[str, float]:
    """Return requests a second and latency percentiles in milliseconds."""
    url = urlsplit(options.url)
    context = ssl.create_default_context(cafile=options.ca)
    context.set_alpn_protocols(["h2"])
    fields, body = request(options)
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + options.seconds
    began = time.perf_counter()
    connections: list[Connection] = []
    for _ in range(options.connections):
        _, protocol = await loop.create_connection(
            lambda: Connection(fields, body, until), url.hostname, url.port, ssl=context
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
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--shape", required=True)
    parser.add_argument("--rest", action="store_true")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print(json.dumps(uvloop.run(load(options))))


if __name__ == "__main__":
    main()
