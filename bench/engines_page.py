"""The section of the benchmarks' page on what `engines.py` has shown."""

from typing import Any

ENGINES = """
## The engines

The digits model, one worker, the embedded queue, one image a request in the binary form; one mesh
for each engine, which differ in the line `engine` of operator.toml alone, all up at once and loaded
in turn. {where} `make bench-engines` measures it again.

| engine | connections | answers/s | of local | p50 ms | of local | p99 ms | CPU µs/answer |
|---|---:|---:|---:|---:|---:|---:|---:|
{rows}

| engine | `wardian up` to the first answer, s | memory idle, MB | under load, MB |
|---|---:|---:|---:|
{starts}

No request passes an engine, so what it adds to one is what its own processes take from the machine
that they share. Memory (proportional set size) is that of all processes of the mesh, with the
engine's own: of Flink a JobManager, a TaskManager and its Python, of Ray a head, its agents, a
driver and an actor. The start includes sealing the model and signing the manifest; median of
{count} starts.
"""


def engines_section(result: dict[str, Any], where: str) -> str:
    """Return the section; `where` says on what it was measured."""
    local = {row["connections"]: row for row in result["rows"] if row["server"] == "local"}
    rows = "\n".join(_row(row, local[row["connections"]]) for row in result["rows"])
    starts = "\n".join(
        f"| {name} | {one['start_s']:.1f} | {one['idle_mb']:,.0f} | {one['loaded_mb']:,.0f} |"
        for name, one in result["engines"].items()
    )
    return ENGINES.format(where=where, rows=rows, starts=starts, count=result["starts"])


def _row(row: dict[str, Any], local: dict[str, Any]) -> str:
    return (
        f"| {row['server']} | {row['connections']} | {row['per_second']:,.0f} "
        f"| {row['per_second'] / local['per_second']:.2f} | {row['p50_ms']:.2f} "
        f"| {row['p50_ms'] / local['p50_ms']:.2f} | {row['p99_ms']:.2f} | {row['cpu_us']:.0f} |"
    )
