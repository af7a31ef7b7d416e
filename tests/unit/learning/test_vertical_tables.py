"""From two parties' tables to a model and its predictions: every step that there is."""

import numpy as np
import pytest
from psi_world import PsiWorld
from sklearn.metrics import roc_auc_score
from vertical_world import CLEAR, answers, by_bins, by_embeddings, by_features, noise, split_rows

from wardian.learning.vertical.columns import Columns, Missing
from wardian.learning.vertical.linear.descent import LinearPlan, Loss, fit
from wardian.learning.vertical.trees.bins import learn_bins
from wardian.learning.vertical.trees.boosting import boost
from wardian.learning.vertical.trees.plan import Objective, TreePlan

Table = dict[str, np.ndarray]


def rows_of(table: Table, rows: np.ndarray) -> Table:
    return {name: column[rows] for name, column in table.items()}


def aligned(tables: dict[str, Table], key: str) -> dict[str, Table]:
    """The records that both tables have, by intersecting what names them."""
    identifiers = {name: [str(each) for each in table[key]] for name, table in tables.items()}
    positions = PsiWorld(identifiers, cap=2000).intersect()
    return {name: rows_of(table, positions[name]) for name, table in tables.items()}


@pytest.fixture(scope="module")
def diabetes(table) -> tuple[dict[str, Table], np.ndarray]:
    """Two tables whose records stand in different orders, and of which each has some alone."""
    chance = np.random.default_rng(0)
    one, two = table("diabetes-vfl-1.csv"), table("diabetes-vfl-2.csv")
    assert (one["ID"] == two["ID"]).all()
    one = rows_of(one, chance.permutation(768)[:760])
    two = rows_of(two, chance.permutation(768)[:760])
    both = aligned({"a": one, "b": two}, "ID")
    assert np.array_equal(both["a"]["ID"], both["b"]["ID"])
    assert len(both["a"]["ID"]) == len(set(one["ID"]) & set(two["ID"])) > 744
    order = np.argsort(both["a"]["ID"])  # figures do not depend on the draw of the order
    both = {name: rows_of(each, order) for name, each in both.items()}
    labels = both["a"].pop("Outcome")
    for each in both.values():
        each.pop("ID")
    return both, labels


@pytest.fixture(scope="module")
def diabetes_numbers(diabetes):
    both, labels = diabetes
    learnt, held = split_rows(len(labels))
    columns = {name: Columns(rows_of(each, learnt)) for name, each in both.items()}
    parts = [
        {name: columns[name].numbers(rows_of(both[name], rows)) for name in both}
        for rows in (learnt, held)
    ]
    return parts[0], labels[learnt], parts[1], labels[held]


def test_diabetes_by_regression_is_that_of_the_joined_table(diabetes_numbers):
    parts, labels, new, held = diabetes_numbers
    joined, head = fit([np.concatenate(list(parts.values()), axis=1)], labels, LinearPlan())
    for placement in (
        by_features,
        lambda *about: by_embeddings(*about, CLEAR),
    ):
        parties, model, _ = placement(parts, labels, LinearPlan())
        apart = np.concatenate([parties["a"].weights, parties["b"].weights])
        assert np.abs(apart - joined[0]).max() < 1e-9
        assert abs(model.intercept - head.intercept) < 1e-9
        assert roc_auc_score(held, model.predict(answers(parties, new))) > 0.78


def test_diabetes_by_trees_is_that_of_the_joined_table(diabetes_numbers):
    parts, labels, new, held = diabetes_numbers
    plan = TreePlan(rounds=50, depth=3, rate=0.1)
    parties, forest, _ = by_bins(parts, labels, plan)
    columns = np.concatenate(list(parts.values()), axis=1)
    joined = boost(learn_bins(columns).indices(columns), labels, plan)
    assert forest.base == joined.base
    for one, other in zip(forest.trees, joined.trees, strict=True):
        assert np.array_equal(one.left, other.left)
        assert np.array_equal(one.value, other.value)
    assert roc_auc_score(held, forest.predict(answers(parties, new))) > 0.78


def test_diabetes_with_default_noise(diabetes_numbers):
    parts, labels, new, held = diabetes_numbers
    plan = LinearPlan(rounds=10)
    found = []
    for seed in range(20):
        parties, model, _ = by_embeddings(parts, labels, plan, noise(plan, seed=seed))
        found.append(roc_auc_score(held, model.predict(answers(parties, new))))
    assert np.mean(found) > 0.7


@pytest.fixture(scope="module")
def houses(table) -> tuple[dict[str, Table], np.ndarray]:
    """`SalePrice` is what is predicted; it stands in the second party's table alone."""
    both = {"b": table("house-prices-train-1.csv"), "a": table("house-prices-train-2.csv")}
    both = {name: both[name] for name in ("a", "b")}
    assert (both["a"]["Id"] == both["b"]["Id"]).all()
    prices = both["a"].pop("SalePrice")
    for each in both.values():
        each.pop("Id")
    return both, prices


def house_numbers(both, rows, missing):
    learnt, held = rows
    columns = {name: Columns(rows_of(each, learnt), missing=missing) for name, each in both.items()}
    return [
        {name: columns[name].numbers(rows_of(both[name], rows)) for name in both}
        for rows in (learnt, held)
    ]


def root_mean_square(error: np.ndarray) -> float:
    return float(np.sqrt(np.square(error).mean()))


@pytest.mark.parametrize("model", ["trees", "regression"])
def test_house_prices_are_predicted_to_less_than_half_of_the_means_error(houses, model):
    both, prices = houses
    rows = split_rows(len(prices))
    learnt, held = rows
    target = np.log(prices[learnt])
    if model == "trees":
        parts, new = house_numbers(both, rows, Missing.KEPT)
        plan = TreePlan(objective=Objective.SQUARED, rounds=100, depth=4, rate=0.1)
        parties, forest, _ = by_bins(parts, target, plan)
        found = forest.predict(answers(parties, new))
    else:
        parts, new = house_numbers(both, rows, Missing.MEAN)
        parties, line, _ = by_features(parts, target, LinearPlan(loss=Loss.SQUARED, l2=0.1))
        found = line.predict(answers(parties, new))
    assert found.std() > 0.2  # not one constant
    by_mean = root_mean_square(prices[learnt].mean() - prices[held])
    assert root_mean_square(np.exp(found) - prices[held]) < 0.5 * by_mean


def test_the_test_tables_houses_are_predicted_too(houses, table):
    """Their prices are not known; what they say that nobody said before does no harm."""
    both, prices = houses
    new = {"a": table("house-prices-test-2.csv"), "b": table("house-prices-test-1.csv")}
    for each in new.values():
        each.pop("Id")
    plan = TreePlan(objective=Objective.SQUARED, rounds=30, depth=3)
    columns = {name: Columns(each, missing=Missing.KEPT) for name, each in both.items()}
    parts = {name: columns[name].numbers(both[name]) for name in both}
    parties, forest, _ = by_bins(parts, np.log(prices), plan)
    asked = {name: columns[name].numbers(new[name]) for name in new}
    found = np.exp(forest.predict(answers(parties, asked)))
    assert len(found) == 1459
    assert np.isfinite(found).all()
    assert prices.min() * 0.8 < found.min() < np.median(prices) < found.max() < prices.max() * 1.2
