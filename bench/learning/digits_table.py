"""What parties whose data differ lose, and what SCAFFOLD gives back: digits over ten parties.

Each class is shared out among the parties by a Dirichlet distribution; the smaller its parameter,
the more they differ. *Joined* is the same network trained on all images in one place, for as many
epochs. Accuracy on images that nobody trains on, after the last round, mean and spread (standard
deviation) over seeds of data, shares and first weights.

    python bench/learning/digits_table.py [--seeds 3] [--rounds 50]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BENCH = Path(__file__).parents[1]
sys.path.insert(0, str(BENCH))
sys.path.insert(0, str(BENCH.parent / "examples" / "federated-digits"))
from app import SETTINGS, app  # noqa: E402
from digits_data import load  # noqa: E402
from digits_network import first_weights, gradients, measure  # noqa: E402
from serving import setting  # noqa: E402

from wardian.learning.arrays import ArrayRecord  # noqa: E402
from wardian.learning.records import MetricRecord  # noqa: E402
from wardian.learning.simulation import simulate  # noqa: E402
from wardian.learning.strategies.strategy import Strategy  # noqa: E402
from wardian.learning.strategies.terms import build  # noqa: E402

PARTIES = 10
ALPHAS = {"IID": 0.0, "Dir(0.5)": 0.5, "Dir(0.1)": 0.1, "Dir(0.05)": 0.05}
STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "FedAvg": lambda: build("fedavg", {}),
    "FedProx": lambda: build("fedprox", {"mu": 0.1}),
    "SCAFFOLD": lambda: build("scaffold", {"parties": PARTIES}),
}
EARLY = 10
"""The round after which a first accuracy is taken."""


def federated(make: Callable[[], Strategy], alpha: float, seed: int, rounds: int) -> list[float]:
    """Return the accuracy on held-out images after each round."""
    config = {**SETTINGS, "alpha": alpha, "seed": seed}
    _, held = load(seed)

    def judge(_number: int, arrays: ArrayRecord) -> MetricRecord:
        _, accuracy = measure(dict(arrays), held.images, held.labels)
        return MetricRecord({"accuracy": accuracy})

    first = ArrayRecord(first_weights(seed))
    history = simulate(app, make(), PARTIES, first, rounds, config=config, judge=judge)
    return [each.judged["accuracy"] for each in history.rounds]


def joined(seed: int, rounds: int) -> float:
    """Return the accuracy of the network trained on all images in one place."""
    train, held = load(seed)
    weights, order = first_weights(seed), np.random.default_rng([seed, PARTIES])
    for _ in range(rounds * SETTINGS["epochs"]):
        places = order.permutation(len(train.labels))
        for start in range(0, len(places), SETTINGS["batch"]):
            some = train.at(places[start : start + SETTINGS["batch"]])
            for name, gradient in gradients(weights, some.images, some.labels).items():
                weights[name] -= SETTINGS["lr"] * gradient
    return measure(weights, held.images, held.labels)[1]


def spread(values: list[float]) -> float:
    """Return the standard deviation; of one value 0."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def run(seeds: int, rounds: int) -> dict[str, Any]:
    """Return the table: by strategy and share-out mean and spread of the accuracy."""
    began = time.process_time()
    whole = [joined(seed, rounds) for seed in range(seeds)]
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name, make in STRATEGIES.items():
        for column, alpha in ALPHAS.items():
            runs = [federated(make, alpha, seed, rounds) for seed in range(seeds)]
            last = [each[-1] for each in runs]
            table.setdefault(name, {})[column] = {
                "accuracy": statistics.mean(last),
                "spread": spread(last),
                "early": statistics.mean(each[min(EARLY, rounds) - 1] for each in runs),
            }
            print(name, column, table[name][column], file=sys.stderr)
    about = setting(rounds, 0)
    del about["seconds"]
    return {
        **about,
        "seeds": seeds,
        "parties": PARTIES,
        "joined": {"accuracy": statistics.mean(whole), "spread": spread(whole)},
        "table": table,
        "cpu_s": time.process_time() - began,
    }


def text(found: dict[str, Any]) -> str:
    """Return the table in Markdown."""
    rows = [
        f"| | {' | '.join(ALPHAS)} |",
        f"|---|{'---:|' * len(ALPHAS)}",
        f"| joined | {found['joined']['accuracy']:.4f} ± {found['joined']['spread']:.4f} |"
        + " |" * (len(ALPHAS) - 1),
    ]
    for name, cells in found["table"].items():
        shown = [
            f"{each['accuracy']:.4f} ± {each['spread']:.4f} (r{EARLY} {each['early']:.3f})"
            for each in cells.values()
        ]
        rows.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(rows)


def main() -> None:
    """Measure, keep the figures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    found = run(options.seeds, options.rounds)
    with (BENCH / "results" / "federated_table.jsonl").open("a") as sink:
        sink.write(json.dumps(found) + "\n")
    print(text(found))


if __name__ == "__main__":
    main()
