"""Renders `docs/reference/benchmarks.md` from the newest line of each file in `bench/results/`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines_page import engines_section
from soak_page import soak_section
from zoo_page import zoo_section

BENCH = Path(__file__).parent
PAGE = BENCH.parent / "docs" / "reference" / "benchmarks.md"

HEAD = """\
# Benchmarks

What was measured, on which machine, by which command. Servers, workers and load generator share the
machine; enclaves are SIMULATED, so what hardware adds is not in these figures. A machine that does
other work as well is a poor scale: compare figures of one table, which were taken in turn, and not
those of two. The load is made by `wrk` where a table says so: it costs a tenth of what our own
generator costs, that of `wardian bench serving` ([how to measure your own](../how-to/measure.md)),
which makes it elsewhere.
"""

SERVING = """
## Sealed, clear, and what most people would write

The digits model (64-128-128-10), one image a request, HTTPS with TLS 1.3, ONNX Runtime with one
thread. {where} `make bench` measures it again.

| server | connections | answers/s | p50 ms | p99 ms | CPU µs/answer | errors | spread |
|---|---:|---:|---:|---:|---:|---:|---:|
{rows}
{servers}
*Clear twin*: the same front end, queue and worker with nothing sealed and nothing attested; it
exists in `bench/` alone. *FastAPI*: `bench/fastapi_twin.py`, what most people would write. CPU and
memory (proportional set size) are those of all server processes together; for Wardian that is the
broker and the supervisor, too, and its start includes sealing the model and signing the manifest.
*Spread*: between the slowest and the fastest round, as a part of the median.
"""

QUEUES = """
## The two queues

Front end, worker and queue alone, requests in the binary form; FastAPI in JSON beside them.
*Strangers* share neither message nor batch, as it is unless a model's owner allows it (each
connection counts as one here); elsewhere the owner does. What says *clear* has nothing sealed in
the queue (HTTPS and, with Redis, TLS it has). *600 KB*:
a tensor of 150,528 floats to a model that does nothing. {where}
`python bench/queue_redis.py` measures it again.

| server | connections | answers/s | p50 ms | p99 ms | CPU µs/answer |
|---|---:|---:|---:|---:|---:|
{rows}

| server | start to first answer, s | memory, MB |
|---|---:|---:|
{starts}

CPU is that of front end, worker and Redis together; memory likewise, with the 10 MB of the process
that starts them.
"""

LARGE_MODEL = """
## A large model

A network of the size of ResNet-50 (random weights), one image of 600 KB a request, sealed, over the
embedded queue; {engine}, one thread a worker, four connections where several are asked at once.
{where} `python bench/large_model.py` measures it again.

| | |
|---|---:|
{rows}

Served over bare: {served_over_bare:.3f}; two workers over one: {two_over_one:.2f}.
"""

SEALED_MODEL = """
## A sealed model of {mib} MiB

From the page cache into memory. {where} `python bench/sealed_model.py` measures it again.

| | GB/s |
|---|---:|
{rows}

Opening a sealed model in fresh memory reaches {of_clear:.2f} of the speed of reading the same file
in the clear; the process grows to {peak_over_model:.3f} times the model.
"""

PEERS = """
## Peers

Each in an environment of its own, ONNX Runtime with one thread, one replica: an MLP of
64-128-128-10 and a network of the size of ResNet-50 (random weights, 224x224, one image of 600 KB).
{where} `make bench-peers` measures it again.

| server | TLS | model | connections | answers/s | p50 ms | p99 ms | CPU µs | errors | spread |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|
{rows}

| server | version | start to first answer, s | memory, MB |
|---|---|---:|---:|
{servers}

{absent}
"""

MLPERF = """
## The server scenario of MLPerf

Poisson arrivals by MLCommons' own load generator over the digits model: the highest rate at which
99 % of the answers come within {bound_ms:g} ms. {where} Runs of {seconds:g} s are far shorter than
a valid submission's 600 s. `make mlperf` measures it again.

| rate asked/s | completed/s | p50 ms | p99 ms | within the bound |
|---:|---:|---:|---:|---|
{rows}
"""


def write_page() -> str:
    """Write the page and return it."""
    parts = [HEAD]
    for name, render in SECTIONS.items():
        path = BENCH / "results" / f"{name}.jsonl"
        if path.exists() and (lines := path.read_text().splitlines()):
            parts.append(render(json.loads(lines[-1])))
    text = "".join(parts)
    PAGE.write_text(text)
    return text


def where(result: dict[str, Any]) -> str:
    """Return the sentence that says where and when."""
    text = f"{result['machine']}; commit {result['git']}, {result['date']}"
    if "seconds" in result and "rounds" in result:
        text += f"; medians of {result['rounds']} interleaved rounds of {result['seconds']:g} s"
    if "load_average" in result:
        text += f"; load average {result['load_average']:.1f} before it began"
    if result.get("load_by") == "wrk":
        text += "; load by wrk"
    return text + "."


def figures(row: dict[str, Any]) -> str:
    """Return the cells that every row of a load has."""
    spread = f"{100 * row['spread']:.0f} %" if "spread" in row else "-"
    return (
        f"{row['connections']} | {row['per_second']:,.0f} | {row['p50_ms']:.2f} "
        f"| {row['p99_ms']:.2f} | {row['cpu_us']:.0f} | {row['errors']:.0f} | {spread} |"
    )


def serving(result: dict[str, Any]) -> str:
    """Return the section of `serving.py`."""
    rows = sorted(result["rows"], key=lambda row: int(row["connections"]))
    servers = "".join(
        f"| {name} | {each['start_s']:.1f} | {each['memory_mb']:.0f} |\n"
        for name, each in result.get("servers", {}).items()
    )
    if servers:
        servers = (
            f"\n| server | start to first answer, s | memory, MB |\n|---|---:|---:|\n{servers}"
        )
    table = "\n".join(f"| {row['server']} | {figures(row)}" for row in rows)
    return SERVING.format(where=where(result), rows=table, servers=servers)


def queues(result: dict[str, Any]) -> str:
    """Return the section of `queue_redis.py`."""
    rows = "\n".join(
        f"| {row['server']} | {row['connections']} | {row['goodput']:,.0f} | {row['p50_ms']:.2f} "
        f"| {row['p99_ms']:.2f} | {row['cpu_us']:.0f} |"
        for row in sorted(result["rows"], key=lambda row: int(row["connections"]))
    )
    starts = "\n".join(
        f"| {each['server']} | {each['start_s']:.1f} | {each['resident_mb']:.0f} |"
        for each in result["starts"]
    )
    return QUEUES.format(where=where(result), rows=rows, starts=starts)


def large_model(result: dict[str, Any]) -> str:
    """Return the section of `large_model.py`."""
    rows = "\n".join(f"| {name} | {value:,.1f} |" for name, value in result["medians"].items())
    return LARGE_MODEL.format(**{**result, "where": where(result), "rows": rows})


def sealed_model(result: dict[str, Any]) -> str:
    """Return the section of `sealed_model.py`."""
    rows = "\n".join(f"| {name} | {speed:.2f} |" for name, speed in result["gb_per_s"].items())
    return SEALED_MODEL.format(**{**result, "where": where(result), "rows": rows})


def peers(result: dict[str, Any]) -> str:
    """Return the section of `peers/run.py`."""
    rows = sorted(result["rows"], key=lambda row: (row["model"], row["connections"]))
    table = "\n".join(
        f"| {row['server']} | {row['tls']} | {row['model']} | {figures(row)}" for row in rows
    )
    servers = "\n".join(
        f"| {name} | {each['version']} | {each['start_s']:.1f} | {each['memory_mb']:.0f} |"
        for name, each in result["servers"].items()
    )
    absent = "\n".join(f"- {name}: {why}" for name, why in result["absent"].items())
    if absent:
        absent = "Not measured:\n\n" + absent
    return PEERS.format(where=where(result), rows=table, servers=servers, absent=absent)


def mlperf(result: dict[str, Any]) -> str:
    """Return the section of `mlperf.py`."""
    rows = "\n".join(
        f"| {row['rate']:,.0f} | {row['completed']:,.0f} | {row['p50_ms']:.2f} "
        f"| {row['p99_ms']:.2f} | {'yes' if row['valid'] else 'no'} |"
        for row in result["rows"]
    )
    return MLPERF.format(**{**result, "where": where(result), "rows": rows})


def soak(result: dict[str, Any]) -> str:
    """Return the section of `soak.py`."""
    return soak_section(result, where(result))


def zoo_redis(result: dict[str, Any]) -> str:
    """Return the section of `zoo_redis.py`."""
    return zoo_section(result, where(result))


def engines(result: dict[str, Any]) -> str:
    """Return the section of `engines.py`."""
    return engines_section(result, where(result))


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "serving": serving,
    "queue_redis": queues,
    "large_model": large_model,
    "sealed_model": sealed_model,
    "peers": peers,
    "mlperf": mlperf,
    "zoo_redis": zoo_redis,
    "engines": engines,
    "soak": soak,
}
