"""Trainers against the libraries that know better, and within the cohort."""

import importlib.util
import sys

import numpy as np
import onnxruntime
import pytest
from shared_world import A, Owner, cancer, csv_text, plan_of, run, trained

from wardian.broker.jobs.trainers import TRAINERS, settled
from wardian.errors import ConfigError, FormatError, PolicyDenied
from wardian.inference.onnx_file import verify_onnx
from wardian.learning.centres import clusters
from wardian.learning.shared.trainers import means, newton


def needs(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


def said(model: bytes, output: str, rows: np.ndarray) -> np.ndarray:
    assert verify_onnx(model)
    session = onnxruntime.InferenceSession(model)
    return session.run([output], {"input": rows.astype(np.float32)})[0]


def scaled(data: np.ndarray) -> np.ndarray:
    return (data - data.mean(axis=0)) / data.std(axis=0)


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_newton_finds_what_scikit_learn_finds(monkeypatch, bounded, classes) -> None:
    from sklearn.linear_model import LogisticRegression

    data, target, _ = cancer()
    data = scaled(data[:, :4])
    target = target + (classes - 2) * 2 * (data[:, 0] > 0.5)
    monkeypatch.setattr(newton, "MOST_CURVED", 0 if bounded else 1024)
    parameters = {"l2": 20.0}
    found = trained("logistic-regression", data, target, parameters)
    pooled = LogisticRegression(C=1 / 20, tol=1e-12, max_iter=10_000).fit(data, target)
    chances = said(found.model, "probabilities", data)
    assert np.abs(chances - pooled.predict_proba(data)).max() < 2e-6
    assert found.metrics is not None
    assert found.metrics["iterations"] < (100 if bounded else 12)


def test_a_number_that_is_too_large_for_xgboost_is_refused_within_its_own_loop() -> None:
    needs("xgboost")
    data, target, _ = cancer()
    huge = data[:, :3].copy()
    huge[400, 1] = 1e39
    with pytest.raises(FormatError, match="not of numbers that this trainer takes"):
        trained("xgboost", huge, target, {"trees": 2})


def test_classes_that_a_plane_parts_end_all_the_same() -> None:
    rows = np.linspace(-1, 1, 400)[:, None]
    found = trained("logistic-regression", rows, (rows[:, 0] > 0).astype(float), {"l2": 0.0})
    assert (said(found.model, "label", rows) == (rows[:, 0] > 0)).all()


@pytest.mark.parametrize("l2", [0.0, 3.0])
def test_ridge_is_scikit_learns_far_from_zero_and_with_columns_alike(l2) -> None:
    from sklearn.linear_model import Ridge

    chance = np.random.default_rng(2)
    rows = chance.normal(size=(500, 5)) * [1, 1e-3, 10, 1, 1] + [0, 5, -1e4, 3, 0]
    rows[:, 4] = rows[:, 3]  # alike: only together determined
    label = rows @ [1, 100, -0.5, 1, 1] + chance.normal(size=500)
    found = trained("linear-regression", rows, label, {"l2": l2})
    if l2:
        expected = Ridge(alpha=l2, solver="svd").fit(scaled(rows), label).predict(scaled(rows))
    else:  # it takes columns that are alike for different ones
        weights, *_ = np.linalg.lstsq(scaled(rows), label - label.mean(), rcond=1e-12)
        expected = label.mean() + scaled(rows) @ weights
    assert np.abs(said(found.model, "value", rows)[:, 0] - expected).max() < 2e-2  # of 32 bits
    assert found.metrics is not None
    assert found.metrics["root_mean_square_error"] == pytest.approx(1.0, abs=0.2)


def test_k_means_stands_where_scikit_learns_stands_still(monkeypatch) -> None:
    from sklearn.cluster import KMeans

    chance = np.random.default_rng(4)
    middles = chance.normal(size=(4, 6)) * 10
    rows = middles[chance.integers(0, 4, 3000)] + chance.normal(size=(3000, 6))
    monkeypatch.setattr(means, "SAMPLE_ROWS", 500)
    found = trained("k-means", rows, None, {"clusters": 4})
    pooled = KMeans(4, n_init=10, random_state=0).fit(scaled(rows))
    own = said(found.model, "cluster", rows)
    expected = pooled.predict(scaled(rows))
    pairs = set(zip(own.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == 4  # the same clusters, however they are called
    distances = np.sort(said(found.model, "distances", rows), axis=1)
    assert np.abs(distances - np.sort(pooled.transform(scaled(rows)), axis=1)).max() < 1e-4
    assert found.metrics is not None
    assert found.metrics["mean_square_distance"] == pytest.approx(pooled.inertia_ / 3000, rel=1e-9)


def test_no_centre_stands_for_fewer_rows_than_the_cohort() -> None:
    chance = np.random.default_rng(5)
    rows = chance.normal(size=(503, 2))
    rows[500:] += 90
    for clusters_wanted, steps in ((2, 100), (8, 100), (8, 1), (1000, 2)):
        parameters = {"clusters": clusters_wanted, "max_iterations": steps}
        found = trained("k-means", rows, None, parameters, smallest_cohort=20)
        told = found.metrics
        assert told is not None
        assert min(told["rows"]) >= 20
        assert sum(told["rows"]) == 503
        assert len(told["rows"]) == told["clusters"] <= clusters_wanted
    with pytest.raises(PolicyDenied) as refused:
        trained("k-means", rows, None, smallest_cohort=504)
    assert refused.value.rule == "cohort-small"


def test_rows_that_are_all_alike_are_one_cluster() -> None:
    two = np.repeat([-9.0, 9.0], 50) + np.random.default_rng(0).normal(size=100)
    tiny = 1e-33 * np.random.default_rng(1).random(100)  # as good as constant, and counted as that
    far = [
        trained("k-means", np.c_[two, each], None, {"clusters": 2}).metrics
        for each in (tiny, np.zeros(100))
    ]
    assert far[0] == far[1]
    found = trained("k-means", np.full((50, 3), 0.1), None)
    assert found.metrics == {"clusters": 1, "rows": [50], "mean_square_distance": 0.0}


def test_centres_that_fit_nothing_are_refused() -> None:
    for changes in (
        {"centres": [[1.0, 2.0]]},
        {"centres": [[np.nan]]},
        {"deviation": [0.0]},
        {"mean": [1e300]},
        {"centres": np.zeros((0, 1))},
    ):
        given = {"centres": [[1.0]], "mean": [0.0], "deviation": [1.0], **changes}
        with pytest.raises(FormatError, match="centres"):
            clusters(given.pop("centres"), **given)


@pytest.mark.parametrize("classes", [2, 3])
def test_every_leaf_of_xgboost_has_its_rows(classes) -> None:
    needs("xgboost")
    from wardian.learning.boosting.forest import LEAF
    from wardian.learning.boosting.predicting import leaf_records
    from wardian.learning.shared.trainers import xgboosted

    chance = np.random.default_rng(6)
    rows = chance.normal(size=(2000, 5))
    rows[chance.random(rows.shape) < 0.1] = np.nan
    label = chance.integers(0, classes, 2000)  # nothing to learn: splits are as small as they may
    seen = []
    own = xgboosted._counted

    def watched(task, forest, batches):
        seen.append(forest)
        return own(task, forest, batches)

    xgboosted._counted, found = watched, None
    try:
        found = trained("xgboost", rows, label, {"trees": 20, "min_leaf_rows": 30}, measured=False)
    finally:
        xgboosted._counted = own
    assert found is not None
    (forest,) = seen
    counts = leaf_records(forest, rows)[forest["feature"] == LEAF]
    assert len(forest["size"]) == 20 * (1 if classes == 2 else 3)
    assert 30 <= counts.min() < 90  # the bound is near what it bounds
    assert counts.sum() == 2000 * len(forest["size"])


@pytest.mark.parametrize("algorithm", ["random-forest", "gradient-boosting", "xgboost"])
def test_more_trees_and_classes_than_a_model_holds_are_refused_before_they_grow(
    algorithm, monkeypatch
) -> None:
    if algorithm == "xgboost":
        needs("xgboost")
        monkeypatch.setattr("xgboost.train", None)  # it would grow them for minutes
    rows, label = np.zeros((30_000, 1)), np.arange(30_000) % 1000
    parameters = {"trees": 1000, "depth": 16, "min_leaf_rows": 5}
    with pytest.raises(FormatError, match="more than 67108864 nodes"):
        trained(algorithm, rows, label, parameters)
    with pytest.raises(FormatError, match="more than 1024 classes"):
        trained(algorithm, rows, np.arange(30_000) % 3000, parameters)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_split_by_what_is_missing_tells_no_largest_value(sign) -> None:
    """XGBoost's bound of it is twice the largest value of all rows, and a little."""
    needs("xgboost")
    import onnx

    chance = np.random.default_rng(2)
    rows = np.stack([chance.normal(size=400), 1000 + 100 * chance.random(400)], axis=1)
    largest = rows[7, 1] = 4321.25
    label = (chance.random(400) < 0.5).astype(int)
    rows[label == 1, 1] = np.nan
    label[7], rows[7, 1] = 0, largest
    rows[:, 1] *= sign
    model = onnx.load_from_string(trained("xgboost", rows, label, {"trees": 3}).model)
    (node,) = (each for each in model.graph.node if each.op_type.startswith("TreeEnsemble"))
    bounds = [f for each in node.attribute if each.name == "nodes_values" for f in each.floats]
    assert np.abs(np.abs(bounds) - 2 * largest).min() > 1
    assert np.finfo(np.float32).max in np.abs(bounds)


def test_a_leaf_of_too_few_rows_is_found_whatever_xgboost_was_told(monkeypatch) -> None:
    """Were the bound wrong, as it is here, nothing would come out."""
    needs("xgboost")
    from wardian.learning.shared.trainers import xgboosted

    data, target, _ = cancer()
    monkeypatch.setattr(xgboosted, "STEEPEST", {True: 0.0, False: 0.0})
    with pytest.raises(PolicyDenied) as refused:
        trained("xgboost", data, target, {"trees": 5, "l2": 0.0}, smallest_cohort=20)
    assert refused.value.rule == "cohort-small"


def test_xgboost_says_what_its_booster_says() -> None:
    needs("xgboost")
    import xgboost

    data, target, _ = cancer()
    parameters = {"trees": 10, "min_leaf_rows": 8}
    found = trained("xgboost", data, target, parameters)
    settings = {
        "objective": "binary:logistic", "tree_method": "hist", "nthread": 1, "base_score": 0.5,
        "max_depth": 6, "learning_rate": 0.3, "lambda": 1.0, "min_child_weight": 2.0,
    }  # fmt: skip
    matrix = xgboost.QuantileDMatrix(data.astype(np.float32), label=target)
    booster = xgboost.train(settings, matrix, 10)
    expected = booster.inplace_predict(data.astype(np.float32))
    assert np.abs(said(found.model, "probabilities", data)[:, 1] - expected).max() < 1e-6


@pytest.mark.parametrize("library", ["torch", "xgboost", "sklearn.cluster"])
def test_a_library_that_is_missing_is_named(monkeypatch, library) -> None:
    algorithm = {"torch": "dense-network", "xgboost": "xgboost"}.get(library, "k-means")
    data, target, _ = cancer()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"{library.partition('.')[0]} (is not|cannot be) i"):
        trained(algorithm, data, target)


def test_parameters_stay_within_their_ranges() -> None:
    for name, trainer in TRAINERS.items():
        assert settled(name, {}) == dict(trainer.parameters)
        for parameter, (least, largest) in trainer.ranges.items():
            whole = isinstance(trainer.parameters[parameter], int)
            for wrong in (least - 1, largest + 1):
                with pytest.raises(ValueError, match=f"`{parameter}` is between"):
                    settled(name, {parameter: int(wrong) if whole else float(wrong)})


def test_what_is_no_number_for_a_trainer_is_refused() -> None:
    data, target, _ = cancer()
    for algorithm in ("logistic-regression", "linear-regression", "k-means", "dense-network"):
        if algorithm == "dense-network" and importlib.util.find_spec("torch") is None:
            continue
        holes, huge = data[:, :3].copy(), data[:, :3].copy()
        holes[5, 1] = np.nan
        with pytest.raises(FormatError, match="column c01: a value is missing"):
            trained(algorithm, holes, target)
        huge[:2, 2] = [1.7e308, -1.7e308]
        with pytest.raises(FormatError, match="not of numbers that this trainer takes"):
            trained(algorithm, huge, target)


def test_a_plan_of_k_means_has_no_label(tmp_path) -> None:
    owner = Owner(A, tmp_path, csv_text({"x": range(100), "y": range(100)}))
    outputs = {"model": [A]}
    finished = run(plan_of([owner], ["x"], "k-means", label=None, outputs=outputs), [owner])
    assert [each.output for each in finished.held.outputs] == ["model"]
    with pytest.raises(ConfigError, match="label"):
        plan_of([owner], ["x"], "k-means", label="y", outputs=outputs)
