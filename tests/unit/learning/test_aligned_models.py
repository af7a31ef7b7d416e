"""Models over aligned columns, by the aggregator, beside the same on joined data."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aligned_world import AlignedConsort, shuffled
from vertical_world import breast_cancer

from wardian.learning.arrays import ArrayRecord
from wardian.learning.vertical.app import Records, Table
from wardian.learning.vertical.linear.descent import LinearPlan, fit, predicted
from wardian.learning.vertical.trees.bins import learn_bins
from wardian.learning.vertical.trees.boosting import boost
from wardian.learning.vertical.trees.plan import TreePlan

COLUMNS = {"a": slice(0, 12), "b": slice(12, 22), "c": slice(22, 30)}


def names(count: int, first: int = 0) -> list[str]:
    return [f"person {n}" for n in range(first, first + count)]


def tables(**changes: Any) -> dict[str, Table]:
    """Columns of the same people at three parties, each in an order of its own; a has labels.

    Each has people, too, whom not all have.
    """
    learnt, labels, held, _ = breast_cancer()
    known, new = names(len(learnt)), names(len(held), 5000)
    found = {}
    for place, (name, columns) in enumerate(COLUMNS.items()):
        keep = np.arange(len(learnt)) % 10 != place  # not all have all
        table = Table(
            identifiers=[known[at] for at in np.flatnonzero(keep)],
            features=np.ascontiguousarray(learnt[keep][:, columns]),
            labels=labels[keep].astype(float) if name == "a" else None,
            predict=Records(identifiers=new, features=np.ascontiguousarray(held[:, columns])),
        )
        found[name] = shuffled(table, 100 + place)
    return found | changes


class Joined:
    """The rows that all parties have, in the order that the run gave them."""

    def __init__(self, world: AlignedConsort, found: Mapping[str, ArrayRecord]) -> None:
        brought = world.tables
        self.parts = [brought[name].features[found[name]["positions"]] for name in sorted(found)]
        self.columns = np.concatenate(self.parts, axis=1)
        labels = brought["a"].labels
        assert labels is not None
        self.labels = labels[found["a"]["positions"]]
        new = [
            brought[name].predict.features[found[name]["predict-positions"]]  # type: ignore[union-attr]
            for name in sorted(found)
            if "predict-positions" in found[name]
        ]
        self.new = np.concatenate(new, axis=1) if new else np.zeros((0, 0))


LINEAR = {"model": "linear", "placement": "features", "labels": "a", "predict": "b"}
TREES = {"model": "trees", "placement": "bins", "labels": "a", "predict": "c", "rounds": 6}


async def test_logistic_regression_is_the_joined_one(tmp_path: Path) -> None:
    world = AlignedConsort(tmp_path, tables(), psi={}, vertical=LINEAR)
    found = await world.have()
    joined = Joined(world, found)
    assert len(joined.labels) == sum(n % 10 > 2 for n in range(len(breast_cancer()[0])))
    (weights,), head = fit([joined.columns], joined.labels, LinearPlan())
    own = np.concatenate([found[name]["weights"] for name in sorted(found)])
    assert np.abs(own - weights).max() < 1e-9
    expected = predicted(LinearPlan().loss, joined.new @ weights + head.intercept)
    assert np.abs(found["b"]["predictions"] - expected).max() < 1e-9
    assert {name for name in found if "predictions" in found[name]} == {"b"}


async def test_trees_are_those_of_joined_data(tmp_path: Path) -> None:
    world = AlignedConsort(tmp_path, tables(), psi={}, vertical=TREES)
    found = await world.have()
    joined = Joined(world, found)
    bins = learn_bins(joined.columns)
    ensemble = boost(bins.indices(joined.columns), joined.labels, TreePlan(rounds=6))
    first = 0
    own = []
    for name, part in zip(sorted(found), joined.parts, strict=True):
        own += [(column + first, cut) for column, cut in found[name]["splits"].tolist()]
        first += part.shape[1]
    assert own == ensemble.splits()
    indices = bins.indices(joined.new)
    scores = np.tile(ensemble.base, (len(indices), 1))
    for tree in ensemble.trees:
        node = np.zeros(len(indices), np.int64)
        for _ in range(10):
            column = tree.column[node]
            right = indices[np.arange(len(node)), column] > tree.cut[node]
            node = np.where(column < 0, node, tree.left[node] + right)
        scores[:, 0] += tree.value[node]
    chances = 1 / (1 + np.exp(-scores[:, 0]))
    assert np.allclose(found["c"]["predictions"], chances, rtol=0, atol=1e-12)
    values = joined.parts[0][:, found["a"]["splits"][:, 0]]
    left = bins.indices(joined.columns)[:, found["a"]["splits"][:, 0]]
    assert np.array_equal(values <= found["a"]["thresholds"], left <= found["a"]["splits"][:, 1])


def in_one_order() -> dict[str, Table]:
    """The same columns, whose records stand in one order: so noise and order are the same again."""
    learnt, labels, held, _ = breast_cancer()
    return {
        name: Table(
            features=np.ascontiguousarray(learnt[:, columns]),
            labels=labels.astype(float) if name == "a" else None,
            predict=Records(features=np.ascontiguousarray(held[:, columns])),
        )
        for name, columns in COLUMNS.items()
    }


def test_noised_sums_learn_something(tmp_path: Path) -> None:
    vertical = {**LINEAR, "placement": "embeddings", "noise": {"mu": 2.0}, "rounds": 12}
    world = AlignedConsort(tmp_path, in_one_order(), vertical=vertical)
    world.begin()
    found = asyncio.run(world.have())
    assert ((found["b"]["predictions"] > 0.5) == breast_cancer()[3]).mean() > 0.85


def test_a_network_learns_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.randbits", lambda _: 5)
    vertical = {
        "model": "network",
        "placement": "embeddings",
        "labels": "a",
        "predict": "a",
        "noise": {"mu": 4.0},
        "classes": 2,
        "embeddings": {"b": 4, "c": 4},
        "epochs": 3,
        "batch": 64,
    }
    world = AlignedConsort(tmp_path, in_one_order(), vertical=vertical, hidden=(6,))
    world.begin()
    found = asyncio.run(world.have())
    assert "layer.0" not in found["a"]
    assert found["b"]["layer.0"].shape == (10, 6)
    truth = breast_cancer()[3]
    assert found["a"]["predictions"].shape == (len(truth), 2)
    assert (found["a"]["predictions"].argmax(axis=1) == truth).mean() > 0.8


async def test_records_that_stand_in_one_order_need_no_intersection(tmp_path: Path) -> None:
    learnt, labels, _, _ = breast_cancer()
    brought = {
        name: Table(
            features=np.ascontiguousarray(learnt[:, columns]),
            labels=labels.astype(float) if name == "a" else None,
        )
        for name, columns in COLUMNS.items()
    }
    vertical = {"model": "linear", "placement": "features", "labels": "a"}
    found = await AlignedConsort(tmp_path, brought, vertical=vertical).have()
    (weights,), _ = fit([learnt], labels.astype(float), LinearPlan())
    own = np.concatenate([found[name]["weights"] for name in sorted(found)])
    assert np.abs(own - weights).max() < 1e-9
