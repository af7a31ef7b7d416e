"""What a run over columns costs: aggregator and parties in one process, each on its socket.

A JSON line each: seconds and CPU seconds of everything together, and how many steps it took.

    python bench/learning/columns.py [--records 200000]
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "unit" / "learning")]
from aligned_world import AlignedConsort  # type: ignore[import-not-found]  # noqa: E402
from sklearn.datasets import load_breast_cancer  # noqa: E402

from wardian.learning.vertical.app import Table  # noqa: E402
from wardian.learning.vertical.linear.descent import LinearPlan, fit  # noqa: E402

COLUMNS = {"a": slice(0, 12), "b": slice(12, 22), "c": slice(22, 30)}
LINEAR = {"model": "linear", "labels": "a"}
NOISED = {**LINEAR, "placement": "embeddings", "noise": {"mu": 1.0}, "rounds": 50}
TREES = {"model": "trees", "placement": "bins", "labels": "a", "rounds": 10, "depth": 4}


def tables(records: int | None) -> dict[str, Table]:
    """Return columns at three parties: of tumours, or of so many drawn records at two."""
    if records is None:
        columns, labels = load_breast_cancer(return_X_y=True)
        columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
        parts = {name: columns[:, which] for name, which in COLUMNS.items()}
    else:
        columns = np.random.default_rng(0).standard_normal((records, 20))
        labels = columns[:, 0] + columns[:, 15] > 0
        parts = {"a": columns[:, :10], "b": columns[:, 10:]}
    names = [f"person {number}" for number in range(len(columns))]
    return {
        name: Table(
            identifiers=names,
            features=np.ascontiguousarray(part),
            labels=labels.astype(np.float64) if name == "a" else None,
        )
        for name, part in parts.items()
    }


def measure(what: str, brought: Mapping[str, Table], **plan: Any) -> dict[str, Any]:
    """Print what a run of `plan` costs, and return what each party has of it."""
    with tempfile.TemporaryDirectory(prefix="wardian-") as folder:
        world = AlignedConsort(Path(folder), brought, **plan)
        began, busy = time.perf_counter(), time.process_time()
        found: dict[str, Any] = asyncio.run(world.have())
        seconds, cpu = time.perf_counter() - began, time.process_time() - busy
        steps = sum(said["event"] == "round.done" for said in world.said)
    line = {"what": what, "seconds": round(seconds, 2), "cpu_s": round(cpu, 2), "steps": steps}
    print(json.dumps(line), flush=True)
    return found


def main() -> None:
    """Print a JSON line for each run, and how far coefficients are from the joined ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    options = parser.parse_args()
    small = tables(None)
    found = measure("features", small, psi={}, vertical={**LINEAR, "placement": "features"})
    parts = [small[name].features[own["positions"]] for name, own in sorted(found.items())]
    labels = np.asarray(small["a"].labels)[found["a"]["positions"]]
    (joined,), _ = fit([np.concatenate(parts, axis=1)], labels, LinearPlan())
    own = np.concatenate([each["weights"] for _, each in sorted(found.items())])
    print(json.dumps({"from_joined": float(np.abs(own - joined).max())}), flush=True)
    measure("embeddings", small, vertical=NOISED)
    measure("bins", tables(options.records), psi={}, vertical=TREES)


if __name__ == "__main__":
    main()
