"""An owner stacks rows that it made up upon others', to take them off what comes out."""

import importlib.util

import numpy as np
import pytest
from shared_world import A, B, C, Owner, cancer, csv_text, metrics, opened, plan_of, run, trained

from wardian.broker.jobs.merge import OutputTerms
from wardian.errors import PolicyDenied
from wardian.learning.boosting.forest import LEAF
from wardian.learning.boosting.predicting import leaf_records
from wardian.learning.shared.joining import Joined
from wardian.learning.shared.trainers import trees, xgboosted
from wardian.learning.shared.trainers.tell import Tally
from wardian.learning.shared.trainers.trained import Task

TREES = ["random-forest", "gradient-boosting", "xgboost"]
COHORT = 20


def needs(algorithm: str) -> None:
    if algorithm == "xgboost" and importlib.util.find_spec("xgboost") is None:
        pytest.skip("xgboost is not installed")


def table(values: np.ndarray, label: np.ndarray) -> bytes:
    columns = {f"c{at:02d}": values[:, at] for at in range(values.shape[1])}
    return csv_text(columns | {"y": label.astype(int)})


def stacked(owners: list[Owner], algorithm: str, columns: int = 2, outputs=None, **parameters):
    names = [f"c{at:02d}" for at in range(columns)]
    changes = {"outputs": outputs} if outputs else {}
    return plan_of(
        owners, [names] * len(owners), algorithm, kind="stack", parameters=parameters, **changes
    )


@pytest.fixture
def forests(monkeypatch) -> list:
    """The trees that models were made of."""
    seen: list = []
    for module in (trees, xgboosted):
        made = module.trees_classifier

        def watched(forest, *, made=made, **rest):
            seen.append(forest)
            return made(forest, **rest)

        monkeypatch.setattr(module, "trees_classifier", watched)
    return seen


@pytest.mark.parametrize("algorithm", TREES)
def test_another_owner_fills_no_leaf_up_with_rows_that_it_knows(
    tmp_path, forests, algorithm
) -> None:
    """Whether A has the one it looks for, far away from all others, or nobody there."""
    needs(algorithm)
    chance = np.random.default_rng(3)
    sick = np.tile([0, 1], 100)
    near = chance.normal(size=(200, 2)) + 2 * sick[:, None]
    near = near.astype(np.float32).astype(np.float64)
    for at, far in enumerate(([[50.0, 50.0]], [])):
        folder = tmp_path / str(at)
        folder.mkdir()
        mine = np.vstack([near, np.reshape(far, (-1, 2))])
        theirs = np.vstack([near + 0.125, np.full((80, 2), 50.0)])
        owners = [
            Owner(A, folder, table(mine, np.append(sick, [0] * len(far)))),
            Owner(B, folder, table(theirs, np.append(sick, [0] * 80))),
        ]
        plan = stacked(owners, algorithm, trees=5, min_leaf_rows=COHORT, depth=4)
        run(plan, owners, smallest_cohort=COHORT)
        forest = forests.pop()
        own = leaf_records(forest, mine)[forest["feature"] == LEAF]
        assert own.min() >= COHORT
        split = forest["feature"] != LEAF
        assert split.any()
        assert not (split & (forest["value"] > 10)).any()  # nothing parts those far away


@pytest.mark.parametrize("algorithm", TREES)
def test_leaves_of_stacked_tables_are_those_of_the_pooled_one(tmp_path, algorithm) -> None:
    needs(algorithm)
    data, target, _ = cancer()
    data, whose = data[:, :6], np.repeat(np.arange(3, dtype=np.uint8), [180, 200, 189])
    if algorithm != "xgboost":  # it has the rows in an order of their own
        order = np.lexsort([target, *data.T[::-1]])
        data, target, whose = data[order], target[order], whose[order]
    pooled = trained(algorithm, data, target, {"trees": 5}, sources=whose)
    owners = [
        Owner(name, tmp_path, table(data[whose == at], target[whose == at]))
        for at, name in enumerate((A, B, C))
    ]
    finished = run(stacked(owners, algorithm, 6, trees=5), owners)
    assert opened(finished.held, "model", A) == pooled.model
    assert metrics(finished) == pooled.metrics
    alone = trained(algorithm, data, target, {"trees": 5})
    assert alone.model != pooled.model


@pytest.mark.parametrize("algorithm", TREES)
def test_as_many_rows_as_were_asked_for_stand_behind_every_leaf(forests, algorithm) -> None:
    """Nothing to learn: splits are as small as they may."""
    needs(algorithm)
    chance = np.random.default_rng(6)
    rows, label = chance.normal(size=(2000, 5)), chance.integers(0, 2, 2000)
    rows = rows.astype(np.float32).astype(np.float64)  # as leaves of the model take them
    asked = {"trees": 5, "min_leaf_rows": 60, "depth": 12}
    trained(algorithm, rows, label, asked, measured=False, smallest_cohort=60)
    forest = forests.pop()
    counts = leaf_records(forest, rows)[forest["feature"] == LEAF]
    assert 60 <= counts.min() < 180


@pytest.mark.parametrize("algorithm", TREES[:2])
def test_a_leaf_of_too_few_rows_is_found_whatever_scikit_learn_was_told(
    monkeypatch, algorithm
) -> None:
    own = trees.fitting

    def unbounded(estimator, features, labels):
        return own(estimator.set_params(min_samples_leaf=1), features, labels)

    monkeypatch.setattr(trees, "fitting", unbounded)
    data, target, _ = cancer()
    with pytest.raises(PolicyDenied) as refused:
        trained(algorithm, data, target, {"trees": 2}, smallest_cohort=COHORT)
    assert refused.value.rule == "cohort-small"


@pytest.mark.parametrize("algorithm", ["logistic-regression", "perceptron"])
def test_another_owner_fills_no_class_up(tmp_path, algorithm) -> None:
    chance = np.random.default_rng(3)
    rows = chance.normal(size=(203, 2))
    mine, theirs = np.tile([0, 1], 100), np.append(np.tile([0, 1], 90), [2] * 23)
    for few, passes in ((3, False), (0, True), (23, True)):
        folder = tmp_path / str(few)
        folder.mkdir()
        owners = [
            Owner(A, folder, table(rows[: 200 + few], np.append(mine, [2] * few)[: 200 + few]))
            if few <= 3
            else Owner(A, folder, table(rows, np.append(mine[:180], [2] * few))),
            Owner(B, folder, table(rows, theirs)),
        ]
        plan = stacked(owners, algorithm)
        if passes:
            run(plan, owners, smallest_cohort=COHORT)
            continue
        with pytest.raises(PolicyDenied) as refused:
            run(plan, owners, smallest_cohort=COHORT)
        assert refused.value.rule == "cohort-small"


@pytest.mark.parametrize(
    "algorithm", ["logistic-regression", "linear-regression", "perceptron", *TREES]
)
def test_another_owner_fills_no_metric_up(tmp_path, algorithm) -> None:
    """A fifth of A's rows is tried, and these are too few, however many of B's are."""
    needs(algorithm)
    rows = np.random.default_rng(5).normal(size=(1000, 2))
    label = rows[:, 0] > 0
    small = {"trees": 2} if algorithm in TREES else {}
    owners = [
        Owner(A, tmp_path, table(rows[:90], label[:90])),
        Owner(B, tmp_path, table(rows, label)),
    ]
    with pytest.raises(PolicyDenied) as refused:
        run(stacked(owners, algorithm, **small), owners, smallest_cohort=COHORT)
    assert refused.value.rule == "cohort-small"
    without = stacked(owners, algorithm, **small, outputs={"model": [A]})
    run(without, owners, smallest_cohort=COHORT)


TOLD = [  # right and wrong of A, of B, and what is told of them
    ((90, 30), (0, 50), {"accuracy": 90 / 170}),
    ((90, 3), (60, 50), {"accuracy_above": (93 - 20 + 60) / 203}),
    ((3, 90), (60, 50), {"accuracy_below": (20 + 60) / 203}),
    ((90, 3), (3, 90), {"accuracy_below": (93 + 20) / 186}),
]


@pytest.mark.parametrize(("mine", "theirs", "expected"), TOLD)
def test_of_few_right_or_wrong_rows_of_one_owner_no_share_tells(mine, theirs, expected) -> None:
    """B knows which of its rows were right, and took them off the share."""
    terms = OutputTerms(
        model=frozenset(), metrics=frozenset(), aggregates=frozenset(), serving=frozenset(),
        smallest_join=1, smallest_cohort=COHORT, epsilon=None, delta=None, approvals=frozenset(),
    )  # fmt: skip
    whose = np.repeat(np.arange(2, dtype=np.uint8), [sum(mine), sum(theirs)])
    rows = Joined(
        names=(), columns={}, label=None, sources=whose, rows=len(whose),
        owners=(frozenset({A}), frozenset({B})),
    )  # fmt: skip
    tally = Tally(
        Task(rows=rows, parameters={}, terms=terms, privacy=None, noise=None, seed=1, measured=True)
    )
    for at, (right, wrong) in enumerate((mine, theirs)):
        tally.add(whose[whose == at], np.arange(right + wrong) < right)
    told = tally.accuracy()
    assert told.pop("rows_tried") == sum(mine + theirs)
    assert told == expected


def test_whether_somebody_is_at_a_place_no_cluster_tells(tmp_path) -> None:
    """Rows made up around a place made a cluster of their own only if nobody was there."""
    near = np.random.default_rng(1).normal(size=(100, 2))
    found = []
    for at, far in enumerate((0, 1, 4)):
        folder = tmp_path / str(at)
        folder.mkdir()
        mine = np.vstack([near, np.full((far, 2), 50.0)])
        theirs = np.vstack([near, np.full((20, 2), 50.0)])
        owners = [
            Owner(name, folder, table(rows, np.zeros(len(rows))))
            for name, rows in ((A, mine), (B, theirs))
        ]
        plan = plan_of(
            owners, [["c00", "c01"]] * 2, "k-means", kind="stack", label=None,
            parameters={"clusters": 2}, outputs={"model": [A], "metrics": [A]},
        )  # fmt: skip
        found.append(metrics(run(plan, owners))["clusters"])
    assert found == [1, 1, 1]


def test_tables_of_one_owner_are_one_cohort(tmp_path) -> None:
    """Whoever takes its own rows off has both together: each by itself would be too few."""
    owners = [
        Owner(A, tmp_path, csv_text({"x": range(12)}), table="first"),
        Owner(B, tmp_path, csv_text({"x": range(30)})),
    ]
    (tmp_path / "x").mkdir()
    owners.append(Owner(A, tmp_path / "x", csv_text({"x": range(12)}), table="second"))
    plan = plan_of(owners, [["x"]] * 3, "statistics", kind="stack", label=None)
    raw = opened(run(plan, owners, smallest_cohort=COHORT).held, "aggregates", A)
    assert raw is not None
    assert raw.splitlines()[1].startswith(b"x,54,")
    few = owners[:2]
    plan = plan_of(few, [["x"]] * 2, "statistics", kind="stack", label=None)
    with pytest.raises(PolicyDenied) as refused:
        run(plan, few, smallest_cohort=COHORT)
    assert refused.value.rule == "cohort-small"
