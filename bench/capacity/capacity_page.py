"""Renders `docs/explanation/capacity.md` and its pictures from one line of results."""

import statistics
from pathlib import Path
from typing import Any

from page_text import CHECK, HEAD, LIMITS, MILLION
from picture import draw_check, draw_plan

DOCS = Path(__file__).parents[2] / "docs" / "explanation"
MICRO = ("client_turn", "client_request", "front_request", "front_message", "redis_message",
         "worker_message", "row", "wake")  # fmt: skip
WHAT = {
    "client_turn": "load generator, a turn of its loop",
    "client_request": "load generator, a request",
    "front_request": "front end, a request",
    "front_message": "front end, a message",
    "redis_message": "Redis, a message",
    "worker_message": "worker, a message",
    "row": "worker, a row of the inference",
    "wake": "until a sleeping process runs",
}
MILLION_KEY = "1000000"
TARGET = 0.20


def write_capacity(result: dict[str, Any]) -> str:
    """Write the page and both pictures; return the page."""
    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / "capacity-check.svg").write_text(
        draw_check([row for row in result["rows"] if row["why"] == "check"])
    )
    (DOCS / "capacity-plan.svg").write_text(draw_plan(series(result["plan"])))
    text = page(result)
    (DOCS / "capacity.md").write_text(text)
    return text


def page(result: dict[str, Any]) -> str:
    """Return the page."""
    where = (
        f"{result['machine']}; commit {result['git']}, {result['date']}; medians of "
        f"{result['rounds']} interleaved rounds; {result['kept']} of {result['loads']} loads kept"
    )
    return (
        HEAD.format(where=where, costs=costs_table(result["costs"]), **figures(result))
        + CHECK.format(rows=check_table(result["rows"]), verdict=verdict(result["rows"]))
        + MILLION.format(needs=needs_table(result["plan"]), **figures(result))
        + LIMITS
    )


def costs_table(costs: dict[str, Any]) -> str:
    """Return what each kind of work costs, by model."""
    lines = [
        f"| {WHAT[name]} | {1e6 * costs['digits'][name]:,.0f} | {1e6 * costs['heavy'][name]:,.0f} |"
        for name in MICRO
    ]
    return "\n".join(lines)


def check_table(rows: list[dict[str, Any]]) -> str:
    """Return measured and predicted, load by load; of the calibration too, in brackets."""
    lines = []
    for row in sorted(rows, key=lambda each: (each["why"] == "calibration", each["model"],
                                              each["workers"], not each["closed"])):  # fmt: skip
        seen, told = row["measured"], row["predicted"]
        hand = row["by_hand"]
        name = row["model"] if row["why"] == "check" else f"({row['model']})"
        by_hand = f"{hand['per_second']:,.0f}" if row["closed"] else ""
        late = f"{hand['p99_ms']:.1f}" if "p99_ms" in hand else ""
        lines.append(
            f"| {name} | {row['workers']} | {row['load']} | {row['rounds']} "
            f"| {seen['per_second']:,.0f} | {told['per_second']:,.0f} "
            f"| {off(row, 'per_second')} | {by_hand} "
            f"| {seen['p99_ms']:.1f} ({seen['p99_least_ms']:.1f}-{seen['p99_most_ms']:.1f}) "
            f"| {told['p99_ms']:.1f} | {off(row, 'p99_ms')} | {late} |"
        )
    return "\n".join(lines)


def off(row: dict[str, Any], name: str) -> str:
    """Return by how much the prediction is off, signed."""
    return f"{100 * (row['predicted'][name] / row['measured'][name] - 1):+.0f} %"


def verdict(rows: list[dict[str, Any]]) -> str:
    """Return how many predictions are within the target, and where the worst is."""
    checked = [row for row in rows if row["why"] == "check"]
    said = []
    for what, name, closed in (
        ("throughput of closed loops", "per_second", True),
        ("p99 of open loops", "p99_ms", False),
        ("p99 of closed loops", "p99_ms", True),
    ):
        found = [
            (abs(row["predicted"][name] / row["measured"][name] - 1), row)
            for row in checked
            if row["closed"] is closed
        ]
        if not found:
            said.append(f"The {what}: nothing was measured on a quiet machine.")
            continue
        within = sum(error <= TARGET for error, _ in found)
        middle = statistics.median(error for error, _ in found)
        worst, row = max(found, key=lambda each: each[0])
        said.append(
            f"The {what}: {within} of {len(found)} within {100 * TARGET:.0f} %, median error "
            f"{100 * middle:.0f} %, worst {100 * worst:.0f} % ({row['model']}, {row['workers']} "
            f"worker{'s' * (row['workers'] > 1)}, {row['load']})."
        )
    return "\n".join(said)


def needs_table(plan: dict[str, Any]) -> str:
    """Return what a million requests a second takes, by model."""
    small, large = (
        {need["name"]: count(need["count"]) for need in plan[model]["needs"][MILLION_KEY]}
        for model in ("digits", "heavy")
    )
    return "\n".join(f"| {name} | {small[name]} | {large[name]} |" for name in small)


def count(value: float) -> str:
    """Return a figure with as many digits as it is worth."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def figures(result: dict[str, Any]) -> dict[str, str]:
    """Return the figures of the text."""
    facts, plan = result["facts"], result["plan"]
    small, large = plan["digits"]["cell"], plan["heavy"]["cell"]
    need = {n["name"]: n for n in plan["digits"]["needs"][MILLION_KEY]}
    heavy = {n["name"]: n for n in plan["heavy"]["needs"][MILLION_KEY]}
    return {
        "digits_rate": f"{small['rate']:,.0f}",
        "digits_pack": f"{small['pack']:.1f}",
        "digits_workers": f"{small['workers']}",
        "digits_p99": f"{1e3 * small['p99']:.1f}",
        "heavy_rate": f"{large['rate']:,.0f}",
        "heavy_pack": f"{large['pack']:.1f}",
        "handshake_ms": f"{1e3 * facts['handshake']:.2f}",
        "releases": f"{1 / facts['release']:.0f}",
        "release_ms": f"{1e3 * facts['release_cpu']:.1f}",
        "release_bytes": f"{facts['release_bytes']:,.0f}",
        "network_bytes": f"{facts['network_bytes']:,.0f}",
        "gbit": f"{need['network, Gbit/s']['count']:.0f}",
        "shards": f"{need['Redis']['count']:,.0f}",
        "restart_digits": f"{need['restart of everything, s']['count']:.0f}",
        "restart_heavy": f"{heavy['restart of everything, s']['count']:,.0f}",
        "ration_digits": f"{need['the same at the default limit, s']['count']:.0f}",
        "ration_heavy": f"{heavy['the same at the default limit, s']['count']:,.0f}",
        "renewals_heavy": f"{heavy['renewals a second']['count']:.1f}",
        "workers_heavy": f"{heavy['workers']['count']:,.0f}",
        "meshes_heavy": f"{heavy['workers, at 256 a Redis']['count']:,.0f}",
        "frontend_mb": f"{facts['frontend_mb']:.0f}",
        "worker_mb": f"{facts['worker_mb']:.0f}",
        "broker_mb": f"{facts['broker_mb']:.0f}",
        "heavy_row_ms": f"{1e3 * result['costs']['heavy']['row']:.1f}",
    }


def series(plan: dict[str, Any]) -> dict[str, list[tuple[float, float, str]]]:
    """Return the lines of the picture of the plan."""
    wanted = (
        ("front ends", "digits", "front ends"),
        ("Redis", "digits", "Redis"),
        ("workers, digits", "digits", "workers"),
        ("workers, heavy", "heavy", "workers"),
    )
    drawn: dict[str, list[tuple[float, float, str]]] = {}
    for label, model, name in wanted:
        for rate, each in plan[model]["needs"].items():
            (amount,) = [need["count"] for need in each if need["name"] == name]
            tip = f"{float(rate):,.0f}/s: {count(amount)} {label}"
            drawn.setdefault(label, []).append((float(rate), amount, tip))
    return drawn
