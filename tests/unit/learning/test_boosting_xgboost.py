"""XGBoost's boosters as arrays and back, and the example that boosts together."""

import sys
from pathlib import Path

import numpy as np
import pytest
from forests import DEEP, STUMP, forest

from wardian.errors import ConfigError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.boosters import booster_of, trees_of
from wardian.learning.boosting.forest import Bounds, append, empty_forest, verify_trees
from wardian.learning.boosting.predicting import margins

xgboost = pytest.importorskip("xgboost", reason="no XGBoost: pip install xgboost-cpu")

OBJECTIVES = [
    ("binary:logistic", 1), ("reg:squarederror", 1), ("reg:absoluteerror", 1),
    ("multi:softprob", 3), ("multi:softmax", 3),
]  # fmt: skip


def data(outputs: int, *, holes: bool = True):
    """Records of four columns, some of them missing, and labels that depend on them."""
    source = np.random.default_rng(outputs)
    records = source.standard_normal((300, 4)).astype(np.float32)
    labels = (records[:, 0] > 0).astype(int) + (records[:, 1] * records[:, 2] > 0.2)
    if holes:
        records[source.random(records.shape) < 0.1] = np.nan
    return records, np.minimum(labels, max(outputs - 1, 1)).astype(np.float32)


def trained(objective: str, outputs: int, rounds: int = 6, **more):
    records, labels = data(outputs)
    settings = {"objective": objective, "max_depth": 4, "nthread": 1, "seed": 1, "base_score": 0.5}
    settings |= {"num_class": outputs} if outputs > 1 else {}
    return xgboost.train(settings | more, xgboost.DMatrix(records, labels), rounds)


def raw(booster, records: np.ndarray, outputs: int) -> np.ndarray:
    found = booster.predict(xgboost.DMatrix(records), output_margin=True)
    return found.reshape(len(records), outputs)


def base_of(objective: str) -> float:
    return 0.0 if objective == "binary:logistic" else 0.5


def model_of(booster, objective: str) -> ArrayRecord:
    return append(empty_forest(base_of(objective)), [trees_of(booster)])


@pytest.mark.parametrize(("objective", "outputs"), OBJECTIVES)
@pytest.mark.parametrize("gamma", [0.0, 1.0], ids=["", "pruned"])
def test_arrays_predict_what_xgboost_does(objective, outputs, gamma):
    booster = trained(objective, outputs, gamma=gamma)
    records, _ = data(outputs)
    found = model_of(booster, objective)
    verify_trees(trees_of(booster), Bounds(columns=4, outputs=outputs, depth=4, leaf=100.0))
    ours = margins(found, records, outputs=outputs)
    np.testing.assert_allclose(ours, raw(booster, records, outputs), rtol=1e-6, atol=1e-6)
    back = booster_of(found, columns=4, objective=objective, outputs=outputs)
    np.testing.assert_allclose(ours, raw(back, records, outputs), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        back.predict(xgboost.DMatrix(records)), booster.predict(xgboost.DMatrix(records)), rtol=1e-5
    )
    assert trees_of(back) == trees_of(booster)


def test_values_come_back_bit_for_bit():
    made = forest(STUMP, DEEP, value=np.float32([0.1, 1 / 3, -1e-30, 3.4e38, 1e-45, 7, -0.7, 2e9]))
    back = booster_of(made, columns=3)
    assert append(empty_forest(), [trees_of(back)]) == made
    assert len(trees_of(back, skip=1)["size"]) == 1


@pytest.mark.parametrize(("objective", "outputs"), OBJECTIVES[:4:3])
def test_training_goes_on_from_the_joint_model(objective, outputs):
    """The same trees as of a training that was never interrupted."""
    records, labels = data(outputs)
    settings = {"objective": objective, "max_depth": 4, "nthread": 1, "seed": 1}
    settings |= {"num_class": outputs} if outputs > 1 else {}
    half = model_of(trained(objective, outputs, 3), objective)
    before = booster_of(half, columns=4, objective=objective, outputs=outputs)
    after = xgboost.train(settings, xgboost.DMatrix(records, labels), 3, xgb_model=before)
    new = trees_of(after, skip=len(half["size"]))
    assert len(new["size"]) == 3 * outputs
    whole = trees_of(trained(objective, outputs, 6))
    both = append(half, [new])
    assert all(np.array_equal(both[n], whole[n]) for n in whole if n != "value")
    np.testing.assert_allclose(both["value"], whole["value"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "more",
    [{"booster": "dart"}, {"booster": "gblinear", "max_depth": None}, {"num_parallel_tree": 2}],
)
def test_what_has_no_place_in_the_layout_is_refused(more):
    if more.get("booster") == "gblinear":
        records, labels = data(1, holes=False)
        booster = xgboost.train(
            {"booster": "gblinear", "nthread": 1}, xgboost.DMatrix(records, labels), 1
        )
    else:
        booster = trained("multi:softprob", 3, **more)
    with pytest.raises(ConfigError, match="xgboost"):
        trees_of(booster)


def test_splits_by_category_are_refused():
    codes = np.random.default_rng(0).integers(0, 3, (200, 1)).astype(np.float32)
    matrix = xgboost.DMatrix(
        codes, (codes[:, 0] == 1).astype(np.float32), feature_types=["c"], enable_categorical=True
    )
    booster = xgboost.train({"max_cat_to_onehot": 1, "nthread": 1}, matrix, 1)
    with pytest.raises(ConfigError, match="categories"):
        trees_of(booster)


def test_an_objective_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="count:poisson"):
        booster_of(empty_forest(), columns=1, objective="count:poisson")


def test_without_xgboost_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(ConfigError, match="pip install xgboost-cpu"):
        booster_of(empty_forest(), columns=1)


# The example


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("sklearn", reason="no scikit-learn: pip install scikit-learn")
    import importlib.util

    place = Path(__file__).parents[3] / "examples" / "federated-xgboost" / "boosting_app.py"
    spec = importlib.util.spec_from_file_location("federated_xgboost", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_together_parties_learn_more_than_each_alone(example):
    history = example.federated(5)
    assert all(len(each.cohort) == 5 for each in history.rounds)
    together = history.rounds[-1].judged["accuracy"]
    assert together > np.mean(example.alone(5)) + 0.1
    assert together > 0.93
    _, _, records, _ = example.records(0)
    ours = margins(history.arrays, records)
    booster = booster_of(history.arrays, columns=example.COLUMNS)
    np.testing.assert_allclose(ours, raw(booster, records, 1), rtol=1e-5, atol=1e-5)


def test_every_record_has_one_owner_and_everybody_some(example):
    shares = example.shared_out(5, 0.3, 0)
    assert sorted(np.concatenate(shares)) == list(range(380))
    assert min(map(len, shares)) >= 1
