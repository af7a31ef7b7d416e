"""The section of the benchmarks' page on what `soak.py` has shown."""

from typing import Any

SOAK = """
## Faults under load

An open loop at half of the capacity, over {queue}, while everything that can fail does, one after
the other: processes are killed and frozen, the network between any two is cut (nothing is forwarded
and nothing accepted, without closing) and reset, the state directory's disk is filled to the last
byte. Every answer is compared with what the plain model answers. A relay of the benchmark stands
between any two parties, so rate and latency are not those of a mesh without. {where}
{seconds:.0f} s at {rate:,.0f}/s; `make soak` runs it for ten minutes.

| | |
|---|---:|
| requests started | {started:,} |
| answered | {answered:,} |
| ended in a typed error | {errors} |
| not started, since 256 were in flight | {not_started:,} |
| answered wrongly; answered twice | {wrong}; {unasked} |
| latest outcome after its deadline, ms | {overrun_ms:.0f} |
| under way while the client could hear nothing, ended by its own clock | {cut_off:,} |
| the generator itself was late by up to, ms | {lag_ms:.0f} |

| fault | requests disturbed | recovered after, s |
|---|---:|---:|
{rows}

A request is disturbed if it ended in an error or took longer than {slow_ms:g} ms. Recovery is from
the end of the fault (of a kill, from the kill) to the last such request before three seconds
without one. Errors are the client's typed ones: it tries a lost connection twice more under the
same idempotency key, at once, and then says `ConnectionLost`. What is past a deadline is so by the
generator's clock, and the generator shares the cores. While its front end is frozen, or cut off
from it, a client hears nothing, and only its own clock can end a request: those are counted by
themselves. {redis}{verdict}
"""

SOAK_REDIS = """\
This Redis keeps an append-only file, so that it can come back with its data; what `wardian redis`
runs keeps nothing on a disk, and a full one does not concern it. """


def soak_section(result: dict[str, Any], where: str) -> str:
    """Return the section; `where` says where and when it was measured."""
    rows = "\n".join(
        f"| {each['fault']} | {each['disturbed']:,} | {each['recovery_s']:.2f} |"
        for each in result["faults"]
    )
    errors = ", ".join(f"{kind} {count:,}" for kind, count in result["errors"].items()) or "none"
    said = "; ".join(result["failures"])
    verdict = f"The run failed: {said}." if said else "The run showed nothing that must not be."
    if result["not_done"]:
        verdict += f" Not done for want of time: {'; '.join(result['not_done'])}."
    if result["disk_not_filled"]:
        verdict += f" The disk was not filled: {result['disk_not_filled']}."
    shown = {
        "where": where,
        "rows": rows,
        "errors": errors,
        "redis": SOAK_REDIS if result["queue"] == "redis" else "",
        "queue": "Redis" if result["queue"] == "redis" else "the embedded queue on TCP",
        "verdict": verdict,
    }
    return SOAK.format(**{**result, **shown})
