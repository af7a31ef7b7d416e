"""The costs that follow from measured points. Pure, but for the simulations that it runs.

Processor time by role and message follows from the accounts by least squares. Four things that no
account shows are found by letting the simulation agree with what was measured: how long a sleeping
process takes to wake up (median of one connection), how much the time of a piece of work varies
(99th percentile of one connection), and, at a quarter of the capacity, how often cores stand still
(99th percentile, small model) or how much dearer work is after a sleep (accounts, heavy model).
What is predicted later is none of these points.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from costs import Closed, Costs, Deployment, Open, Predicted
from simulate import simulate

BATCH = {"digits": 64, "heavy": 2}
CORES = 2
FIGURES = ("per_second", "p50_ms", "p99_ms", "mean_ms")
SEEDS = range(1, 6)
MOST_FAILED = 0.001
ROLES = ("client", "frontend", "redis", "worker")


def clean(points: Iterable[dict[str, Any]], *, quiet: float) -> list[dict[str, Any]]:
    """Return the points during which the machine was ours and the requests were answered.

    An open loop counts what was due in its very last moment as not started: that may be one or two.
    """
    return [
        each
        for each in points
        if each["others"] <= quiet and each["failed"] <= MOST_FAILED * each["answered"]
    ]


def medians(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one point of several of one load: medians, and how far the 99th percentile went."""
    first = points[0]
    found = {name: statistics.median(each[name] for each in points) for name in FIGURES}
    cpu = {
        role: statistics.median(each["cpu_s"].get(role, 0.0) / each["answered"] for each in points)
        for role in first["cpu_s"]
    }
    pack = statistics.median(each["answered"] / max(1.0, each["packs"]) for each in points)
    tails = [each["p99_ms"] for each in points]
    seen = {"p99_least_ms": min(tails), "p99_most_ms": max(tails), "rounds": len(points)}
    return {**first, **found, **seen, "cpu": cpu, "pack": pack}


def grouped(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the medians of every load, in the order of the first."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in points:
        names = ("model", "workers", "why", "rate", "connections", "rows")
        groups.setdefault(tuple(each[name] for name in names), []).append(each)
    return [medians(group) for group in groups.values()]


def divide(points: Sequence[dict[str, Any]], role: str) -> tuple[float, float]:
    """Return the cost of a request and of a message in `role`: least squares, relative errors."""
    rows = [(1.0, 1 / each["pack"], each["cpu"][role]) for each in points]
    left = np.array([[one / cost, message / cost] for one, message, cost in rows])
    request, message = np.linalg.lstsq(left, np.ones(len(rows)), rcond=None)[0]
    if request < 0:  # lost in the noise
        return 0.0, float(statistics.median(cost / one for _, one, cost in rows))
    return float(request), float(message)


def fit_small(points: Sequence[dict[str, Any]], gaps: tuple[float, ...], rate: float) -> Costs:
    """Return the costs that the points of the small model show, one worker."""
    closed = [each for each in points if each["rate"] is None]
    client_request, client_turn = divide(closed, "client")
    front_request, front_message = divide(closed, "frontend")
    row, worker_message = divide(closed, "worker")
    redis = statistics.median(each["cpu"]["redis"] * each["pack"] for each in closed)
    costs = Costs(
        client_turn=client_turn,
        client_request=client_request,
        front_request=front_request,
        front_message=front_message,
        redis_message=redis,
        worker_message=worker_message,
        batch=0.0,
        row=row,
        wake=0.0,
        spread=0.2,
        gaps_per_second=rate,
        gaps=gaps,
    )
    return stall(tune(costs, points, BATCH["digits"]), points, BATCH["digits"])


def fit_heavy(points: Sequence[dict[str, Any]], small: Costs, rate: float) -> Costs:
    """Return the costs of the heavy model: what a request costs is that of the small one.

    The caches hold its weights, so that every message costs more everywhere. Cores stand still
    `rate` times a second, as a spin saw it: beside times of milliseconds the rest does not show.
    """
    one, two = sorted((p for p in points if p["rate"] is None), key=lambda each: int(each["rows"]))
    row = two["cpu"]["worker"] - one["cpu"]["worker"]
    costs = replace(
        small,
        client_turn=max(0.0, one["cpu"]["client"] - small.client_request),
        front_message=max(0.0, one["cpu"]["frontend"] - small.front_request),
        redis_message=one["cpu"]["redis"],
        worker_message=max(0.0, one["cpu"]["worker"] - row),
        row=row,
        wake=0.0,
        spread=0.2,
        gaps_per_second=rate,
    )
    return tune(cool(costs, points), points, BATCH["heavy"])


def tune(costs: Costs, points: Sequence[dict[str, Any]], max_batch: int) -> Costs:
    """Return `costs` with two figures that no account shows: waking, and how much work varies."""
    alone = next(p for p in points if p["connections"] == 1 and p["rows"] == 1)
    deployed = Deployment(workers=1, max_batch=max_batch, cores=CORES)

    def alone_with(changed: Costs) -> Predicted:
        return simulate(changed, deployed, Closed(connections=1), seconds=8)

    def woken(costs: Costs) -> Costs:
        def p50(wake: float) -> float:
            return alone_with(replace(costs, wake=wake)).p50

        return replace(costs, wake=bisect(p50, alone["p50_ms"] / 1e3, 0.0, 2e-4))

    def spread(costs: Costs) -> Costs:
        def p99(value: float) -> float:
            return alone_with(replace(costs, spread=value)).p99

        return replace(costs, spread=bisect(p99, alone["p99_ms"] / 1e3, 0.01, 1.0))

    for _ in range(2):  # each moves the other a little
        costs = spread(woken(costs))
    return costs


def stall(costs: Costs, points: Sequence[dict[str, Any]], max_batch: int) -> Costs:
    """Return `costs` with as many gaps as the tail of the open loop shows: a spin sees fewer."""
    quarter = next(p for p in points if p["rate"] is not None)
    deployed = Deployment(workers=1, max_batch=max_batch, cores=CORES)

    def tail(rate: float) -> float:
        changed = replace(costs, gaps_per_second=rate)
        load = Open(rate=quarter["rate"])
        return predict(changed, deployed, load, seconds=quarter["seconds"])["p99_ms"] / 1e3

    most = 40 * costs.gaps_per_second
    return replace(costs, gaps_per_second=bisect(tail, quarter["p99_ms"] / 1e3, 0.0, most))


def cool(costs: Costs, points: Sequence[dict[str, Any]]) -> Costs:
    """Return `costs` with how much longer work is after a sleep, as the open loop shows it."""
    quarter = next(p for p in points if p["rate"] is not None)
    deployed = Deployment(workers=1, max_batch=BATCH[quarter["model"]], cores=CORES)
    load = Open(rate=quarter["rate"])
    cold = dict.fromkeys(ROLES, 0.2)
    bare = simulate(costs, deployed, load, seconds=quarter["seconds"])
    for _ in range(3):
        shown = simulate(replace(costs, cold=cold), deployed, load, seconds=quarter["seconds"])
        for role in ROLES:
            without, now = (run.busy[role] / run.per_second for run in (bare, shown))
            if now > without:
                grow = (quarter["cpu"][role] - without) / (now - without)
                cold[role] = min(5.0, max(0.001, cold[role] * grow))
    return replace(costs, cold=cold)


def bisect(shown: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Return where a rising function is `wanted`, or the end that is nearer."""
    if shown(low) >= wanted:
        return low
    if shown(high) <= wanted:
        return high
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if shown(middle) < wanted else (low, middle)
    return (low + high) / 2


def predict(
    costs: Costs, deployed: Deployment, load: Closed | Open, *, seconds: float
) -> dict[str, float]:
    """Return the medians of several simulated rounds, each as long as a measured one."""
    runs = [simulate(costs, deployed, load, seconds=seconds, seed=seed) for seed in SEEDS]

    def middle(of: Callable[[Predicted], float]) -> float:
        return statistics.median(of(run) for run in runs)

    return {
        "per_second": middle(lambda run: run.per_second),
        "p50_ms": 1e3 * middle(lambda run: run.p50),
        "p99_ms": 1e3 * middle(lambda run: run.p99),
        "pack": middle(lambda run: run.pack),
    }
