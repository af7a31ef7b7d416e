"""A joint model is the model of the joined table, to the last digit; only its recipients read it."""

import json

import numpy as np
import onnxruntime
import pytest
from shared_world import (
    SEED,
    A,
    B,
    C,
    Owner,
    agreed,
    cancer,
    csv_text,
    metrics,
    opened,
    plan_of,
    run,
    trained,
)
from toy_jobs import KEYS

from wardian.broker.jobs import conditions
from wardian.broker.jobs.trainers import TRAINERS
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied
from wardian.inference.onnx_file import verify_onnx
from wardian.learning.boosting.onnx import Scores, trees_classifier
from wardian.learning.shared.joining import sorted_rows
from wardian.learning.shared.running import opened as joined_rows
from wardian.learning.shared.seeds import Seeds
from wardian.learning.shared.trainers.grown import forest_of
from wardian.learning.shared.trainers.trees import _boosted_trees

NAMES = [f"c{at:02d}" for at in range(30)]


def predicted(model: bytes, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert verify_onnx(model)
    session = onnxruntime.InferenceSession(model)
    chances, labels = session.run(["probabilities", "label"], {"input": rows.astype(np.float32)})
    return chances, labels


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Two owners with other columns, in other orders and with strangers among the rows."""
    data, target, ids = cancer()
    chance = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("split")
    mine, its = chance.permutation(569)[:540], chance.permutation(569)[:550]
    a = {"id": [ids[at] for at in mine], "y": target[mine], "secret": ["CANARY-A"] * 540}
    a |= {NAMES[at]: data[mine, at] for at in range(10)}
    b = {"id": [ids[at] for at in its]} | {NAMES[at]: data[its, at] for at in range(10, 30)}
    owners = [Owner(A, folder, csv_text(a)), Owner(B, folder, csv_text(b))]
    both = sorted(set(mine) & set(its), key=lambda at: ids[at])
    return owners, data[both], target[both]


COLUMNS = [NAMES[:10], NAMES[10:]]


def test_logistic_regression_of_two_owners_is_that_of_the_joined_table(split) -> None:
    from sklearn.linear_model import LogisticRegression

    owners, data, target = split
    finished = run(plan_of(owners, COLUMNS, "logistic-regression", parameters={"l2": 0.5}), owners)
    mean, deviation = data.mean(axis=0), data.std(axis=0)
    pooled = LogisticRegression(C=2.0, tol=1e-10, max_iter=1000)
    pooled.fit((data - mean) / deviation, target)
    model = opened(finished.held, "model", A)
    assert model == trained("logistic-regression", data, target, {"l2": 0.5}).model
    chances, labels = predicted(model, data)
    assert np.abs(chances - pooled.predict_proba((data - mean) / deviation)).max() < 1e-4
    assert (labels == pooled.predict((data - mean) / deviation)).mean() > 0.99
    told = metrics(finished)  # fewer rows than the smallest cohort are wrong: not said how few
    assert told["rows_tried"] == len(data) // 5
    assert told.get("accuracy", told.get("accuracy_above")) > 0.93
    assert np.allclose(chances.sum(axis=1), 1)


def test_the_joined_rows_are_those_of_one_table_bit_for_bit(split) -> None:
    owners, data, target = split
    plan = plan_of(owners, COLUMNS, "logistic-regression")
    _, terms = agreed(plan, owners)
    found = joined_rows(plan, [each.sealed() for each in owners], terms, Seeds(SEED, plan))
    assert found.features().tobytes() == data.tobytes()
    assert found.label is not None
    assert found.label.tolist() == target.tolist()


def test_the_order_of_files_and_of_rows_is_no_matter(split, tmp_path) -> None:
    owners, _, _ = split
    plan = plan_of(owners, COLUMNS, "gradient-boosting", parameters={"trees": 5})
    first, again = run(plan, owners), run(plan, list(reversed(owners)))
    assert opened(first.held, "model", A) == opened(again.held, "model", A)


def test_boosting_of_two_owners_is_that_of_the_joined_table(split) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    owners, data, target = split
    plan = plan_of(owners, COLUMNS, "gradient-boosting", parameters={"trees": 20})
    finished = run(plan, owners)
    pooled = HistGradientBoostingClassifier(
        max_iter=20, max_depth=6, max_leaf_nodes=None, learning_rate=0.3, l2_regularization=1.0,
        min_samples_leaf=20, early_stopping=False, random_state=5,
    ).fit(data, target)  # fmt: skip
    model = opened(finished.held, "model", A)
    chances, labels = predicted(model, data)
    exact = data.astype(np.float32).astype(np.float64)
    assert (labels == pooled.predict(exact)).all()
    assert np.abs(chances - pooled.predict_proba(exact)).max() < 1e-5
    rounds, base = _boosted_trees(pooled)
    forest = forest_of(tree for each in rounds for tree in each.trees)
    assert model == trees_classifier(
        forest, base=base, columns=30, labels=[0, 1], scores=Scores.LOGITS
    )


def test_stacked_rows_of_three_owners_make_the_model_of_one_table(tmp_path) -> None:
    data, target, _ = cancer()
    chance = np.random.default_rng(4).permutation(569)
    whole = {name: data[:, at] for at, name in enumerate(NAMES)} | {"y": target}

    def owner(name: str, rows: np.ndarray, folder: str) -> Owner:
        (tmp_path / folder).mkdir(exist_ok=True)
        return Owner(
            name, tmp_path / folder, csv_text({key: each[rows] for key, each in whole.items()})
        )

    parts = [
        owner(name, rows, "3")
        for name, rows in zip((A, B, C), np.split(chance, [200, 380]), strict=True)
    ]
    others = [
        owner(name, rows, "2")
        for name, rows in zip((B, A), np.split(chance[::-1], [17]), strict=True)
    ]
    for algorithm in ("logistic-regression", "gradient-boosting", "random-forest"):
        small = {"trees": 5} if algorithm != "logistic-regression" else {}
        first = run(
            plan_of(parts, [NAMES] * 3, algorithm, kind="stack", parameters=small),
            parts,
            smallest_cohort=1,
        )
        again = run(
            plan_of(others, [NAMES] * 2, algorithm, kind="stack", parameters=small),
            others,
            smallest_cohort=1,
        )
        assert opened(first.held, "model", A) == opened(again.held, "model", A), algorithm
    order = sorted_rows(whole)
    from sklearn.ensemble import HistGradientBoostingClassifier

    pooled = HistGradientBoostingClassifier(
        max_iter=5, max_depth=6, max_leaf_nodes=None, learning_rate=0.3, l2_regularization=1.0,
        min_samples_leaf=20, early_stopping=False, random_state=5,
    ).fit(data[order], target[order])  # fmt: skip
    finished = run(
        plan_of(parts, [NAMES] * 3, "gradient-boosting", kind="stack", parameters={"trees": 5}),
        parts,
        smallest_cohort=1,
    )
    exact = data.astype(np.float32).astype(np.float64)
    model = opened(finished.held, "model", A)
    assert np.abs(predicted(model, data)[0] - pooled.predict_proba(exact)).max() < 1e-6


@pytest.mark.parametrize("algorithm", ["random-forest", "perceptron", "linear-regression"])
def test_the_other_trainers_make_models_that_are_served(split, algorithm) -> None:
    owners, data, target = split
    small = {"random-forest": {"trees": 20}, "perceptron": {"hidden": 8}}.get(algorithm, {})
    finished = run(plan_of(owners, COLUMNS, algorithm, parameters=small), owners)
    model = opened(finished.held, "model", A)
    if algorithm == "linear-regression":
        session = onnxruntime.InferenceSession(model)
        (values,) = session.run(["value"], {"input": data.astype(np.float32)})
        assert ((values[:, 0] > 0.5) == target).mean() > 0.95
        assert metrics(finished)["root_mean_square_error"] < 0.3
    else:
        assert (predicted(model, data)[1] == target).mean() > 0.93
        told = metrics(finished)
        assert told.get("accuracy", told.get("accuracy_above")) > 0.9
    again = run(plan_of(owners, COLUMNS, algorithm, parameters=small), owners)
    assert opened(again.held, "model", A) == model


def test_only_recipients_open_results_and_no_canary_leaves(split) -> None:
    owners, data, _ = split
    finished = run(plan_of(owners, COLUMNS, "logistic-regression"), owners)
    assert opened(finished.held, "model", A) is not None
    assert [opened(finished.held, "model", each, to=A) for each in (B, C)] == [None, None]
    assert opened(finished.held, "metrics", B) is not None
    assert opened(finished.held, "metrics", B, to=A) is None
    everything = b"".join(finished.held.release(()).values())
    everything += json.dumps(finished.report).encode() + repr(finished).encode()
    for canary in (b"CANARY-A", b"p000000", str(data[0, 0]).encode()):
        assert canary not in everything
    model = opened(finished.held, "model", A)
    assert model is not None
    assert b"CANARY-A" not in model


def test_a_derived_seed_is_the_same_for_the_same_job_and_no_other(split) -> None:
    owners, _, _ = split
    small = {"trees": 3}
    plan = plan_of(owners, COLUMNS, "random-forest", parameters=small, seed=None)
    models = [
        opened(run(plan, owners, seed=seed).held, "model", A)
        for seed in (SEED, SEED, Secret(b"another".ljust(32)))
    ]
    assert models[0] == models[1] != models[2]


def test_a_join_and_a_cohort_that_are_too_small_train_nothing(split) -> None:
    owners, _, _ = split
    plan = plan_of(owners, COLUMNS, "logistic-regression")
    for output, rule in (
        ({"smallest_join": 568}, "join-small"),
        ({"smallest_cohort": 300}, "cohort-small"),
        ({"smallest_cohort": 600}, "cohort-small"),
    ):
        with pytest.raises(PolicyDenied) as refused:
            run(plan, owners, **output)
        assert refused.value.rule == rule


@pytest.mark.parametrize("algorithm", [name for name, each in TRAINERS.items() if each.grows])
def test_trees_of_smaller_leaves_than_a_cohort_are_not_grown_whoever_let_them_through(
    split, monkeypatch, algorithm
) -> None:
    """The broker refuses such a plan before a key is given, and the job looks by itself."""
    owners, _, _ = split
    monkeypatch.setattr(conditions, "LEAST_ROWS", "")
    with pytest.raises(PolicyDenied) as refused:
        run(plan_of(owners, COLUMNS, algorithm, parameters={"min_leaf_rows": 4}), owners)
    assert refused.value.rule == "cohort-small"


def test_nothing_leaves_before_it_is_approved(split) -> None:
    owners, _, _ = split
    plan = plan_of(owners, COLUMNS, "logistic-regression")
    held = run(plan, owners, approvals={"needed": 2, "of": [A, B, C]}).held
    for few in ((), [KEYS[A].public.hex()], [KEYS[A].public.hex()] * 2):
        with pytest.raises(PolicyDenied) as refused:
            held.release(few)
        assert refused.value.rule == "export-approvals"
    enough = [KEYS[A].public.hex(), KEYS[C].public.hex()]
    assert len(held.release(enough)) == 3
    assert len(held.digest) == 32
