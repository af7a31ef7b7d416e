"""What learning over columns that stay apart costs and yields, beside the same on joined columns.

One process plays all parts, so its CPU seconds are those of the coordinator and of every party
together, messages put into bytes and taken out of them included. Accuracies are of held-out
records. Beside each: how far it is from the same algorithm on the joined columns.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_classification
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "unit" / "learning"))

from vertical_world import (  # type: ignore[import-not-found]  # beside the tests, not installed
    CLEAR,
    answers,
    breast_cancer,
    by_bins,
    by_embeddings,
    by_features,
    by_network,
    digits,
    halves,
    noise,
    split_rows,
    ten_and_twenty,
)

from wardian.learning.vertical.linear.descent import LinearPlan, fit
from wardian.learning.vertical.network.plan import NetworkPlan
from wardian.learning.vertical.trees.bins import learn_bins
from wardian.learning.vertical.trees.boosting import Ensemble, boost
from wardian.learning.vertical.trees.plan import Objective, TreePlan

Line = dict[str, Any]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` returns, and the CPU seconds that it took."""
    start = time.process_time()
    found = work()
    return found, round(time.process_time() - start, 3)


def regressions() -> Iterator[Line]:
    learnt, labels, held, truth = breast_cancer()
    parts, new = ten_and_twenty(learnt), ten_and_twenty(held)
    plan = LinearPlan()
    (joined, _), joined_s = timed(lambda: fit([learnt], labels, plan))
    for name, work in (
        ("features", partial(by_features, parts, labels, plan)),
        ("embeddings, no noise", partial(by_embeddings, parts, labels, plan, CLEAR)),
    ):
        (parties, model, _), cpu_s = timed(work)
        apart = np.concatenate([parties["a"].weights, parties["b"].weights])
        found = model.predict(answers(parties, new)) > 0.5
        yield {
            "what": "logistic regression, breast cancer, 10 + 20 columns",
            "placement": name,
            "accuracy": round(float((found == truth).mean()), 4),
            "furthest_coefficient": float(np.abs(apart - joined[0]).max()),
            "cpu_s": cpu_s,
            "joined_cpu_s": joined_s,
        }
    few = LinearPlan(rounds=10)
    for mu in (2.0, 1.0, 0.5):
        rights, start = [], time.process_time()
        for seed in range(20):
            protection = noise(few, mu=mu, seed=seed)
            parties, model, _ = by_embeddings(parts, labels, few, protection)
            found = model.predict(answers(parties, new)) > 0.5
            rights.append(float((found == truth).mean()))
        yield {
            "what": "logistic regression, breast cancer, 10 + 20 columns",
            "placement": f"embeddings, mu {mu}, 10 rounds, 20 seeds",
            "accuracy": round(float(np.mean(rights)), 4),
            "worst_accuracy": round(min(rights), 4),
            "cpu_s": round((time.process_time() - start) / 20, 3),
        }


def on_joined(columns: NDArray[Any], labels: NDArray[Any], plan: TreePlan) -> Ensemble:
    return boost(learn_bins(columns).indices(columns), labels, plan)


def forests() -> Iterator[Line]:
    made, coin = make_classification(20_000, 30, n_informative=12, random_state=1)
    learnt, held = split_rows(len(made))
    cancer, pictures = breast_cancer(), digits()
    binary = TreePlan(rounds=50, depth=6)
    classes = TreePlan(objective=Objective.SOFTMAX, classes=10, rounds=30, depth=4)
    drawn = made[learnt], coin[learnt].astype(float), made[held], coin[held]
    for name, data, divided, plan in (
        ("breast cancer, 10 + 20 columns", cancer, ten_and_twenty, binary),
        ("15000 drawn records, 10 + 20 columns", drawn, ten_and_twenty, binary),
        ("digits, left and right half", pictures, halves, classes),
    ):
        columns, labels, new, truth = data
        parts = divided(columns)
        whole = np.concatenate(list(parts.values()), axis=1)
        joined, joined_s = timed(partial(on_joined, whole, labels, plan))
        (parties, forest, _), cpu_s = timed(partial(by_bins, parts, labels, plan))
        found = forest.predict(answers(parties, divided(new)))
        same = all(
            np.array_equal(one.left, other.left) and np.array_equal(one.value, other.value)
            for one, other in zip(forest.trees, joined.trees, strict=True)
        )
        right = (
            {"accuracy": round(float((found.argmax(axis=1) == truth).mean()), 4)}
            if plan.classes
            else {"auc": round(float(roc_auc_score(truth, found)), 4)}
        )
        yield {
            "what": f"trees, {name}",
            "placement": "bins",
            **right,
            "identical": same,
            "cpu_s": cpu_s,
            "joined_cpu_s": joined_s,
        }


def networks() -> Iterator[Line]:
    learnt, labels, held, truth = digits()
    parts, new = halves(learnt), halves(held)
    plan = NetworkPlan(classes=10, embeddings={"a": 32, "b": 32}, hidden=(32,), epochs=20)
    whole = NetworkPlan(
        classes=10, embeddings={"a": 32, "b": 32}, epochs=10, rate=0.2, batch=len(learnt)
    )
    for name, chosen, protection in (
        ("embeddings, no noise", plan, CLEAR),
        ("embeddings, mu 16", whole, noise(whole, mu=16)),
        ("embeddings, mu 1", whole, noise(whole)),
    ):
        work = partial(by_network, parts, labels, chosen, protection)
        (parties, coordinator, _), cpu_s = timed(work)
        found = coordinator.logits(answers(parties, new)).argmax(axis=1)
        yield {
            "what": "split network, digits, left and right half",
            "placement": name,
            "accuracy": round(float((found == truth).mean()), 4),
            "cpu_s": cpu_s,
        }


if __name__ == "__main__":
    for each in (regressions, forests, networks):
        for line in each():
            print(json.dumps({"bench": "vertical", **line}))
