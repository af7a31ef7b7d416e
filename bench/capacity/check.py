"""Predicted against measured: the costs of a run's calibration, and what they say of its check."""

import statistics
from typing import Any

from calibrate import BATCH, CORES, clean, fit_heavy, fit_small, grouped, predict
from costs import Closed, Costs, Deployment, Open
from queueing import bounds, closed_bound, wait_quantile

LONGEST_GAP_S = 0.03
"""A longer one is a pause of the whole machine, of which no percentile of a service tells."""
CALIBRATION = {"digits": 5, "heavy": 3}
"""Loads from which the costs of each model follow."""
SHOWN = ("per_second", "p50_ms", "p99_ms", "p99_least_ms", "p99_most_ms", "pack")


class TooBusy(Exception):
    """Other processes left too little of the machine to calibrate on."""


def gaps_of(stood: list[dict[str, Any]], *, quiet: float) -> tuple[tuple[float, ...], float]:
    """Return the gaps seen while the machine was ours, and how many a second a core has."""
    ours = [each for each in stood if each["others"] <= quiet] or stood
    found = [gap for each in ours for gap in each["gaps"] if gap < LONGEST_GAP_S]
    return tuple(sorted(found)), len(found) / (CORES * sum(each["seconds"] for each in ours))


def costs_of(run: dict[str, Any], *, quiet: float) -> dict[str, Costs]:
    """Return the costs of both models, by the points of the calibration alone."""
    points = grouped([p for p in clean(run["points"], quiet=quiet) if p["why"] == "calibration"])
    for model, loads in CALIBRATION.items():
        if sum(point["model"] == model for point in points) < loads:
            raise TooBusy(f"{model}: others were at work in every round of a load it needs")
    gaps, rate = gaps_of(run["gaps"], quiet=quiet)
    small = fit_small([p for p in points if p["model"] == "digits"], gaps, rate)
    return {
        "digits": small,
        "heavy": fit_heavy([p for p in points if p["model"] == "heavy"], small, rate),
    }


def check(run: dict[str, Any], costs: dict[str, Costs], *, quiet: float) -> list[dict[str, Any]]:
    """Return every load, measured and predicted; those of the calibration as well, marked."""
    rows = []
    for point in grouped(clean(run["points"], quiet=quiet)):
        if point["rows"] != 1:
            continue
        model, rate = point["model"], point["rate"]
        deployed = Deployment(workers=point["workers"], max_batch=BATCH[model], cores=CORES)
        load = Closed(connections=point["connections"]) if rate is None else Open(rate=rate)
        predicted = predict(costs[model], deployed, load, seconds=point["seconds"])
        rows.append(
            {
                "model": model,
                "workers": point["workers"],
                "load": f"{point['connections']} connections" if rate is None else f"{rate:,.0f}/s",
                "closed": rate is None,
                "why": point["why"],
                "rounds": point["rounds"],
                "measured": {name: point[name] for name in SHOWN},
                "predicted": predicted,
                "by_hand": by_hand(costs[model], deployed, load, predicted["pack"]),
            }
        )
    return rows


def by_hand(
    costs: Costs, deployed: Deployment, load: Closed | Open, pack: float
) -> dict[str, float]:
    """Return what pen and paper say: a bound of the throughput, or the 99th percentile (M/G/c).

    The latter where workers take messages of few requests, each as it comes.
    """
    if isinstance(load, Closed):
        return {"per_second": closed_bound(costs, deployed, load.connections)}
    most = bounds(costs, deployed, pack=pack).most
    service = costs.worker_message + costs.inference(pack)
    messages = load.rate / pack
    if messages * service >= deployed.workers or costs.row < 1e-3:
        return {"per_second": min(load.rate, most)}
    waits = wait_quantile(0.99, deployed.workers, rate=messages, service=service, spread=0.2)
    way = costs.front_request + costs.front_message + costs.redis_message + service
    return {"per_second": min(load.rate, most), "p99_ms": 1e3 * (waits + way)}


def errors(rows: list[dict[str, Any]], name: str, *, closed: bool | None) -> list[float]:
    """Return predicted over measured, less 1, of the loads of the check."""
    return [
        row["predicted"][name] / row["measured"][name] - 1
        for row in rows
        if row["why"] == "check" and closed in {None, row["closed"]}
    ]


def facts_of(run: dict[str, Any], *, quiet: float) -> dict[str, Any]:
    """Return what a plan needs beside the costs."""
    full = [
        each
        for each in clean(run["points"], quiet=quiet)
        if each["model"] == "digits" and each["why"] == "check" and each["rate"] is None
    ]
    if not full:
        raise TooBusy("digits: others were at work whenever it was saturated")
    memory = run["memory_mb"]
    return {
        "handshake": statistics.median(each["frontend_s"] for each in run["handshake"]),
        "release": 1 / statistics.median(each["per_s"] for each in run["releases"]),
        "release_cpu": statistics.median(each["broker_cpu_ms"] for each in run["releases"]) / 1e3,
        "release_bytes": statistics.median(each["state_bytes"] for each in run["releases"]),
        "network_bytes": statistics.median(each["bytes_moved"] / each["answered"] for each in full),
        "frontend_mb": memory["frontend"],
        "redis_mb": memory["redis"],
        "worker_mb": memory["worker-digits-1"],
        "broker_mb": memory["broker"],
        "start_s": run["start_s"],
    }
