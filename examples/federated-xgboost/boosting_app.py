"""Hospitals who boost trees together on scikit-learn's breast-cancer data: what each of them runs.

Each round a party goes on from the joint model with a tree of its own, by XGBoost; the coordinator,
without XGBoost, appends the trees of all. It is Flower's bagging.

    pip install xgboost-cpu scikit-learn
    python examples/federated-xgboost/boosting_app.py

XGBoost is no dependency of Wardian. On Linux the package `xgboost` brings NVIDIA's NCCL with it,
hundreds of MB for GPUs; `xgboost-cpu` is the same without.
"""

from functools import cache
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.boosters import booster_of, trees_of
from wardian.learning.boosting.forest import empty_forest
from wardian.learning.boosting.predicting import margins
from wardian.learning.message import Message
from wardian.learning.records import MetricRecord, RecordDict
from wardian.learning.simulation import History, simulate
from wardian.learning.strategies.bagging import BAGGING_DEPTH, BAGGING_TREES, Bagging

Floats = NDArray[np.float32]

app = ClientApp()

COLUMNS = 30
DEPTH = 3
ROUNDS = 20
SETTINGS: dict[str, Any] = {  # where a plan's [app] says nothing else
    "alpha": 0.3,  # of the share-out of classes; the smaller, the more parties differ
    "eta": 0.1,  # a tree's; all trees of a round count, so its step is this times the parties
    "seed": 0,
}


@cache
def records(seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return columns and labels of 380 records to train with, then of 189 that are held out."""
    columns, labels = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    columns, labels = columns[order].astype(np.float32), labels[order].astype(np.float32)
    return columns[:380], labels[:380], columns[380:], labels[380:]


def shared_out(parties: int, alpha: float, seed: int) -> list[NDArray[np.intp]]:
    """Return whose each record is: of each class, shares by a Dirichlet distribution."""
    labels = records(seed)[1]
    source = np.random.default_rng([seed, parties])
    owner = np.empty(len(labels), np.intp)
    for label in (0, 1):
        places = np.flatnonzero(labels == label)
        owner[places] = source.choice(
            parties, size=len(places), p=source.dirichlet([alpha] * parties)
        )
    for party in range(parties):  # nobody comes without any
        owner[party] = party
    return [np.flatnonzero(owner == party) for party in range(parties)]


def own(context: Context) -> tuple[Floats, Floats]:
    """Return the party's own records."""
    config: dict[str, Any] = {**SETTINGS, **context.run_config, **context.node_config}
    shares = shared_out(config["num-partitions"], config["alpha"], config["seed"])
    share = shares[config["partition-id"]]
    columns, labels, _, _ = records(config["seed"])
    return columns[share], labels[share]


def boosted(forest: ArrayRecord, columns: Floats, labels: Floats, *, trees: int, depth: int,
            eta: float) -> ArrayRecord:  # fmt: skip
    """Return the trees that XGBoost adds to `forest` on these records."""
    settings = {"objective": "binary:logistic", "max_depth": depth, "eta": eta, "nthread": 1}
    before = booster_of(forest, columns=COLUMNS)
    after = xgboost.train(settings, xgboost.DMatrix(columns, labels), trees, xgb_model=before)
    return trees_of(after, skip=len(forest["size"]))


def measure(forest: ArrayRecord, columns: Floats, labels: Floats) -> tuple[float, float]:
    """Return the loss and the accuracy of `forest`; no XGBoost is needed for it."""
    found = margins(forest, columns)[:, 0].astype(np.float64)
    loss = np.logaddexp(0, np.where(labels > 0, -found, found)).mean()
    return float(loss), float(((found > 0) == (labels > 0)).mean())


@app.query()
def first_model(message: Message, _context: Context) -> Message:
    """Return the model that the first round begins with: no tree."""
    return Message(RecordDict({"arrays": empty_forest()}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Boost some trees on top of the joint model, on the party's own records."""
    config: dict[str, Any] = {**SETTINGS, **message.content.config_records["config"]}
    columns, labels = own(context)
    trees = boosted(
        message.content.array_records["arrays"], columns, labels,
        trees=config[BAGGING_TREES], depth=config[BAGGING_DEPTH], eta=config["eta"],
    )  # fmt: skip
    metrics = MetricRecord({"num-examples": len(labels)})
    return Message(RecordDict({"trees": trees, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the model on the party's own records."""
    columns, labels = own(context)
    loss, accuracy = measure(message.content.array_records["arrays"], columns, labels)
    metrics = {"num-examples": len(labels), "loss": loss, "accuracy": accuracy}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


def judge(_number: int, arrays: ArrayRecord) -> MetricRecord:
    """Measure the model on the records that are held out."""
    _, _, columns, labels = records(SETTINGS["seed"])
    loss, accuracy = measure(arrays, columns, labels)
    return MetricRecord({"loss": loss, "accuracy": accuracy})


def federated(parties: int) -> History:
    """Return a run of `parties` in this process."""
    return simulate(
        app, Bagging(columns=COLUMNS, depth=DEPTH), parties, empty_forest(), ROUNDS,
        config=SETTINGS, judge=judge,
    )  # fmt: skip


def alone(parties: int) -> list[float]:
    """Return the accuracy, on the records held out, of what each party learns by itself.

    It boosts as many trees as it gave to the joint model, each with the step of a whole round.
    """
    seed, found = SETTINGS["seed"], []
    columns, labels, _, _ = records(seed)
    for share in shared_out(parties, SETTINGS["alpha"], seed):
        model = ArrayRecord(
            {**boosted(
                empty_forest(), columns[share], labels[share],
                trees=ROUNDS, depth=DEPTH, eta=SETTINGS["eta"] * parties,
            ), "base": empty_forest()["base"]}
        )  # fmt: skip
        accuracy: Any = judge(0, model)["accuracy"]
        found.append(accuracy)
    return found


def main() -> None:
    """Simulate five parties, and print how good their model and those of each alone are."""
    for each in (history := federated(5)).rounds:
        print(f"round {each.round}: {each.judged['accuracy']:.4f} on held-out records")
    print(f"{len(history.arrays['size'])} trees, {history.arrays.nbytes:,} bytes")
    found = alone(5)
    print(f"each alone: {', '.join(f'{one:.4f}' for one in found)}, mean {np.mean(found):.4f}")


if __name__ == "__main__":
    main()
