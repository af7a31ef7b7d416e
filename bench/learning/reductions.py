"""What a round costs the coordinator: each reduction beside plain numpy, and a run of a thousand.

CPU seconds of this process (`time.process_time`), interleaved, medians. *Plain* is what numpy does
with all updates stacked in memory, in the updates' own kind. The thousand parties do nothing but
send the model back, so that what is left is the simulation's own.

    python bench/learning/reductions.py [--rounds 5]
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BENCH = Path(__file__).parents[1]
sys.path.insert(0, str(BENCH))
from serving import setting  # noqa: E402

from wardian.learning.app import ClientApp, Context  # noqa: E402
from wardian.learning.arrays import ArrayRecord  # noqa: E402
from wardian.learning.message import Message  # noqa: E402
from wardian.learning.records import MetricRecord, Record, RecordDict  # noqa: E402
from wardian.learning.reduce import (  # noqa: E402
    median,
    squared_distances,
    trimmed_mean,
    weighted_mean,
)
from wardian.learning.replies import HeldReplies  # noqa: E402
from wardian.learning.simulation import simulate  # noqa: E402
from wardian.learning.strategies.terms import build  # noqa: E402

SIZES = ((10, 1_000_000), (100, 100_000))
"""Parties, and parameters of each."""
STRATEGIES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedadam": {},
    "scaffold": {"parties": 1000},
    "median": {},
}


def apart(updates: Any) -> Any:
    """Return all squared distances as numpy users write them."""
    return [((updates - each) ** 2).sum(axis=1) for each in updates]


def reductions(parties: int, size: int) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    source = np.random.default_rng(1)
    updates = source.standard_normal((parties, size), np.float32)
    weights = source.integers(1, 1000, parties).tolist()
    arrays = [ArrayRecord({"x": each}) for each in updates]
    replies = HeldReplies(
        {f"p{n:03}": ({"arrays": e}, MetricRecord()) for n, e in enumerate(arrays)}
    )
    cut = parties // 5
    return {
        "mean": lambda: weighted_mean(replies, "arrays", weights),
        "mean, plain": lambda: np.average(updates, axis=0, weights=weights),
        "median": lambda: median(replies, "arrays"),
        "median, plain": lambda: np.median(updates, axis=0),
        "trimmed mean": lambda: trimmed_mean(replies, "arrays", 0.2),
        "trimmed mean, plain": lambda: np.sort(updates, axis=0)[cut : parties - cut].mean(axis=0),
        "distances": lambda: squared_distances(replies, "arrays"),
        "distances, plain": lambda: apart(updates),
    }


def timed(work: Callable[[], object]) -> float:
    """Return the CPU seconds that `work` takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def returning(size: int) -> tuple[ClientApp, ArrayRecord]:
    """Return an app that sends the model back, and a model."""
    app = ClientApp()

    @app.train()
    def train(message: Message, _: Context) -> Message:
        arrays = message.content.array_records
        records: dict[str, Record] = {
            "arrays": arrays["arrays"],
            "metrics": MetricRecord({"num-examples": 1}),
        }
        if "control" in arrays:
            records["control"] = arrays["control"]
        return Message(RecordDict(records), reply_to=message)

    return app, ArrayRecord({"x": np.zeros(size, np.float32)})


def peak_mb() -> float:
    """Return the most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def thousand(size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return CPU seconds a round of a thousand parties, and by how much memory grew."""
    found = {}
    for name, settings in STRATEGIES.items():
        (app, model), strategy, before = returning(size), build(name, settings), peak_mb()
        began = time.process_time()
        simulate(app, strategy, 1000, model, rounds)
        took = time.process_time() - began
        found[name] = {"cpu_s_a_round": took / rounds, "peak_grew_mb": peak_mb() - before}
    return found


def run(rounds: int) -> dict[str, Any]:
    """Return every figure."""
    simulated = thousand(10_000, rounds)  # first: peaks only grow
    table: dict[str, dict[str, float]] = {}
    for parties, size in SIZES:
        works = reductions(parties, size)
        for work in works.values():  # warm
            work()
        times = [{name: timed(work) for name, work in works.items()} for _ in range(rounds)]
        medians = {name: statistics.median(each[name] for each in times) for name in works}
        table[f"{parties} x {size:,}"] = medians
    about = setting(rounds, 0)
    del about["seconds"]
    return {**about, "cpu_s": table, "thousand_x_10000": simulated}


def main() -> None:
    """Measure, keep the figures and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    found = run(parser.parse_args().rounds)
    with (BENCH / "results" / "federated_reductions.jsonl").open("a") as sink:
        sink.write(json.dumps(found) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
