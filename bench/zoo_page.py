"""The section of the benchmarks' page on what `zoo_redis.py` has shown."""

from typing import Any

ZOO = """
## Clients of Cluster Serving over Redis

The [Redis dialect](zoo-redis.md) with the client of `bigdl-serving` {client} as it is: an MLP of
16-64-10, one row a record, one worker with one thread, a plain redis-server on the same machine.
{where} Medians of {rounds} rounds. `make bench-zoo` measures it again.

| | Wardian | Cluster Serving, measured earlier |
|---|---:|---:|
| records/s, a stream of {records:,} drained: median | {per_second:,.0f} | |
| the same: best round | {best:,.0f} | 1,448 |
| closed loop, polled as `predict` does: p50 / p95 / p99 ms | {predict} | p50 1.6 to 2.0 |
| closed loop, polled without pause: p50 / p95 / p99 ms | {busy} | |
| the client alone, its answer already there: p50 / p95 / p99 ms | {alone} | |
| memory of the role `zoo` and its worker, MB | {serving_mb:.0f} | 864 |
| memory of the whole mesh, MB | {mesh_mb:.0f} | |

| CPU µs a drained record | |
|---|---:|
| role `zoo` | {zoo_us:.0f} |
| its worker | {worker_us:.0f} |
| Redis | {redis_us:.0f} |

*Measured earlier*: the original cannot run here (Analytics Zoo 0.11.2 on a JVM and Flink,
TensorFlow 1.15, the same shape of model). Its figures are the best of an earlier measurement, on
two quiet cores, and not of this run: they say of which order it is and no more. The stream is
filled while the role is stopped, with what the client's own serialisation writes; the clock runs
from then until the last result is written (spread over the rounds: {spread:.0f} %). Every result is
read by that client and compared with NumPy's. A request of the closed loop is the client's
`enqueue` (its serialisation, INFO and XADD) and polling until its reader has the array; polled as
`predict` does, that is by HGETALL after pauses of 1, 2, 3 ms ... The client alone enqueues to a
stream that nobody reads, and finds its result at the first look: no service can be faster than that
here. Memory is proportional set size;
that of the mesh has the broker, the front end with an idle worker and the supervisor in it.
"""


def zoo_section(result: dict[str, Any], where: str) -> str:
    """Return the section; `where` says on which machine and when."""
    drain, memory = result["drain"], result["memory_mb"]
    return ZOO.format(
        where=where,
        client=result["client"]["bigdl-serving"],
        rounds=result["rounds"],
        records=result["records"],
        per_second=drain["per_second"],
        best=drain["best"],
        spread=100 * drain["spread"],
        zoo_us=drain["zoo_us"],
        worker_us=drain["worker_us"],
        redis_us=drain["redis_us"],
        serving_mb=memory["zoo"] + memory["worker"],
        mesh_mb=memory["mesh"],
        predict=_percentiles(result["loops"]["predict"]),
        busy=_percentiles(result["loops"]["busy"]),
        alone=_percentiles(result["loops"]["alone"]),
    )


def _percentiles(loop: dict[str, float]) -> str:
    return " / ".join(f"{loop[name]:.2f}" for name in ("p50_ms", "p95_ms", "p99_ms"))
