"""Trees over columns that stay apart are those of the joined columns, and as good as XGBoost's."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from vertical_world import answers, breast_cancer, by_bins, digits, halves, ten_and_twenty

from wardian.errors import ConfigError, FormatError, LocalProtocolError, PolicyDenied
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import RecordDict
from wardian.learning.vertical.trees.bins import learn_bins
from wardian.learning.vertical.trees.boosting import Ensemble, answer, boost
from wardian.learning.vertical.trees.coordinator import BinsBoosting
from wardian.learning.vertical.trees.growth import LEAF
from wardian.learning.vertical.trees.party import TreeParty
from wardian.learning.vertical.trees.plan import MAX_DEPTH, Objective, TreePlan

CANCER = breast_cancer()
DIGITS = digits()
NUMBERS = CANCER[0] @ np.linspace(-1, 1, 30)
PLAN = TreePlan(rounds=20, depth=4)
CASES = {
    "binary": (CANCER[0], CANCER[1], CANCER[2], ten_and_twenty, PLAN),
    "regression": (
        CANCER[0],
        NUMBERS,
        CANCER[2],
        ten_and_twenty,
        TreePlan(objective=Objective.SQUARED, rounds=20, depth=4),
    ),
    "classes": (
        DIGITS[0],
        DIGITS[1],
        DIGITS[2],
        halves,
        TreePlan(objective=Objective.SOFTMAX, classes=10, rounds=10, depth=4),
    ),
}


def walked(ensemble: Ensemble, indices: np.ndarray) -> np.ndarray:
    """What trees over all columns say, record by record and node by node."""
    scores = np.tile(ensemble.base, (len(indices), 1))
    for place, tree in enumerate(ensemble.trees):
        for row, ranges in enumerate(indices):
            node = 0
            while tree.column[node] != LEAF:
                node = tree.left[node] + (ranges[tree.column[node]] > tree.cut[node])
            scores[row, place % len(ensemble.base)] += tree.value[node]
    return answer(ensemble.objective, scores)


@pytest.mark.parametrize("case", CASES)
def test_trees_and_predictions_are_those_of_the_joined_data(case):
    features, labels, held, divided, plan = CASES[case]
    parts = divided(features)
    columns = np.concatenate(list(parts.values()), axis=1)
    bins = learn_bins(columns)
    joined = boost(bins.indices(columns), labels, plan)

    coordinator = BinsBoosting(plan, parties=list(parts), labels_of="a")
    for name, each in parts.items():
        coordinator.take(name, TreeParty(each, labels if name == "a" else None).bins())
    apart = coordinator.ensemble()
    assert len(apart.trees) == len(joined.trees) == plan.rounds * plan.outputs
    for one, other in zip(apart.trees, joined.trees, strict=True):
        for field in ("column", "cut", "left", "value"):
            assert np.array_equal(getattr(one, field), getattr(other, field))

    parties, forest, _ = by_bins(parts, labels, plan)
    new = divided(held)
    found = forest.predict(answers(parties, new))
    expected = walked(joined, bins.indices(np.concatenate(list(new.values()), axis=1)))
    assert np.array_equal(found, expected)


def margins(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Ours, and XGBoost's, on held-out records."""
    import xgboost

    features, labels, held, divided, plan = CASES[case]
    parties, forest, _ = by_bins(divided(features), labels, plan)
    kind = xgboost.XGBRegressor if case == "regression" else xgboost.XGBClassifier
    other = kind(
        n_estimators=plan.rounds,
        max_depth=plan.depth,
        learning_rate=plan.rate,
        reg_lambda=plan.l2,
        tree_method="hist",
        max_bin=256,
        n_jobs=1,
    )
    other.fit(features, labels)
    theirs = other.predict(held) if case == "regression" else other.predict_proba(held)
    return forest.predict(answers(parties, divided(held))), theirs


def test_as_good_as_xgboost():
    ours, theirs = margins("binary")
    assert abs(roc_auc_score(CANCER[3], ours) - roc_auc_score(CANCER[3], theirs[:, 1])) < 0.01
    ours, theirs = margins("classes")
    labels = DIGITS[3].astype(int)
    assert abs(log_loss(labels, ours) - log_loss(labels, theirs)) < 0.05
    assert (ours.argmax(axis=1) == labels).mean() > 0.93
    ours, theirs = margins("regression")
    exact = CANCER[2] @ np.linspace(-1, 1, 30)
    assert np.std(ours - exact) < 1.1 * np.std(theirs - exact)


def test_the_first_tree_is_the_best_there_is():
    """Of depth 1, against every split that there is, tried one by one."""
    features, labels = CANCER[0], CANCER[1]
    plan = TreePlan(rounds=1, depth=1)
    bins = learn_bins(features)
    indices = bins.indices(features)
    chance = labels.mean()
    slope, bend = chance - labels, np.full(len(labels), chance * (1 - chance))

    def score(rows: np.ndarray) -> float:
        return slope[rows].sum() ** 2 / (bend[rows].sum() + plan.l2)

    gains = {}
    for column in range(30):
        for cut in range(1, len(bins.cuts[column]) + 1):
            left = indices[:, column] <= cut
            if min(bend[left].sum(), bend[~left].sum()) >= plan.least_weight:
                gains[column, cut] = score(left) + score(~left)
    best = max(gains, key=lambda each: gains[each])
    tree = boost(indices, labels, plan).trees[0]
    assert (tree.column[0], tree.cut[0]) == best
    left = indices[:, best[0]] <= best[1]
    worth = -plan.rate * slope[left].sum() / (bend[left].sum() + plan.l2)
    assert tree.value[tree.left[0]] == pytest.approx(worth, rel=1e-12)


def test_better_than_one_party_alone():
    parties, forest, _ = by_bins(ten_and_twenty(CANCER[0]), CANCER[1], PLAN)
    together = roc_auc_score(CANCER[3], forest.predict(answers(parties, ten_and_twenty(CANCER[2]))))
    alone = {"a": CANCER[0][:, :10]}
    parties, forest, _ = by_bins(alone, CANCER[1], PLAN)
    apart = roc_auc_score(CANCER[3], forest.predict(answers(parties, {"a": CANCER[2][:, :10]})))
    assert together > apart > 0.9


# Missing values, constant columns, parties without


def test_missing_values_are_a_range_of_their_own():
    chance = np.random.default_rng(0)
    column = chance.normal(size=400)
    labels = (np.isnan(np.where(column > 0.5, np.nan, column))).astype(float)
    features = np.where(column > 0.5, np.nan, column)[:, None]
    parties, forest, _ = by_bins({"a": features}, labels, TreePlan(rounds=20, depth=1))
    new = np.array([[np.nan], [0.0], [-9.0], [9.0]])
    assert (
        (forest.predict(answers(parties, {"a": new})) > 0.5) == [True, False, False, False]
    ).all()


def test_constant_columns_and_parties_that_nothing_is_asked_of():
    parts = {
        **ten_and_twenty(CANCER[0]),
        "c": np.full((426, 3), 5.0),
        "d": np.full((426, 1), np.nan),
    }
    plain, _, _ = by_bins(ten_and_twenty(CANCER[0]), CANCER[1], PLAN)
    parties, forest, _ = by_bins(parts, CANCER[1], PLAN)
    assert len(parties["c"].splits) == len(parties["d"].splits) == 0
    assert np.array_equal(parties["b"].splits, plain["b"].splits)
    new = {**ten_and_twenty(CANCER[2]), "c": np.zeros((143, 3)), "d": np.zeros((143, 1))}
    assert len(forest.predict(answers(parties, new))) == 143


def test_a_party_that_has_labels_alone_and_nobody_who_has_columns():
    parts = {"a": np.empty((426, 0)), "b": CANCER[0]}
    parties, forest, _ = by_bins(parts, CANCER[1], PLAN)
    new = {"a": np.empty((143, 0)), "b": CANCER[2]}
    assert roc_auc_score(CANCER[3], forest.predict(answers(parties, new))) > 0.95
    with pytest.raises(FormatError, match="no party has a column"):
        by_bins({"a": np.empty((426, 0))}, CANCER[1], PLAN)


def test_a_record_that_nothing_splits():
    parties, forest, _ = by_bins({"a": np.zeros((10, 1))}, np.arange(10) % 2.0, PLAN)
    assert forest.predict(answers(parties, {"a": np.zeros((2, 1))})) == pytest.approx([0.5, 0.5])


def test_ranges_hold_equally_many_and_lose_nothing_of_few_values():
    chance = np.random.default_rng(0)
    many, few = chance.normal(size=10_000), chance.integers(0, 255, 10_000).astype(float)
    bins = learn_bins(np.column_stack([many, few]))
    indices = bins.indices(np.column_stack([many, few]))
    counts = np.bincount(indices[:, 0])
    assert counts[0] == 0
    assert len(counts) == 256
    assert counts[1:].min() >= 35
    assert counts[1:].max() <= 45
    assert len({(one, other) for one, other in zip(few, indices[:, 1], strict=True)}) == 255
    assert (np.diff(indices[np.argsort(many), 0].astype(int)) >= 0).all()
    coarse = learn_bins(many[:, None], most=2)
    assert set(np.unique(coarse.indices(many[:, None]))) == {1, 2}
    beyond = bins.indices(np.array([[-99.0, -99.0], [999.0, 999.0]]))
    assert beyond.tolist() == [[1, 1], [255, 255]]


# Bad input


def test_infinite_values_are_refused():
    with pytest.raises(FormatError, match=r"columns \[1\]"):
        TreeParty(np.array([[0.0, np.inf], [np.nan, 0.0]]))


@pytest.mark.parametrize(
    ("labels", "plan"),
    [
        (np.zeros(426), PLAN),
        (CANCER[1] + 1, PLAN),
        (CANCER[1] * 2, TreePlan(objective=Objective.SOFTMAX, classes=2)),
        (CANCER[1] - 1, TreePlan(objective=Objective.SOFTMAX, classes=2)),
        (CANCER[1] * 0.5, TreePlan(objective=Objective.SOFTMAX, classes=2)),
    ],
)
def test_labels_that_do_not_fit_the_objective(labels, plan):
    with pytest.raises(FormatError, match="labels"):
        by_bins(ten_and_twenty(CANCER[0]), labels, plan)


def bins_of(array: np.ndarray) -> RecordDict:
    return RecordDict({"bins": ArrayRecord({"bins": array})})


def test_what_is_refused_harms_nobody():
    parts = ten_and_twenty(CANCER[0])
    coordinator = BinsBoosting(PLAN, parties=["a", "b"], labels_of="a")
    for wrong in (RecordDict(), bins_of(np.zeros(3, np.uint8)), bins_of(np.zeros((3, 2)))):
        with pytest.raises(FormatError):
            coordinator.take("b", wrong)
    with pytest.raises(FormatError, match="labels"):
        coordinator.take("a", TreeParty(parts["a"]).bins())
    with pytest.raises(PolicyDenied):
        coordinator.take("mallory", TreeParty(parts["b"]).bins())
    with pytest.raises(LocalProtocolError):
        coordinator.grow()
    with pytest.raises(LocalProtocolError):
        coordinator.part("a")
    coordinator.take("b", TreeParty(parts["b"]).bins())
    coordinator.take("b", bins_of(np.zeros((426, 20), np.uint8)))  # a second time: changes nothing
    coordinator.take("a", TreeParty(parts["a"], CANCER[1]).bins())
    assert len(coordinator.grow().trees) == 20
    assert len(coordinator.part("b")["splits"]["splits"]) > 0
    nobody = BinsBoosting(PLAN, parties=["b"], labels_of="z")
    nobody.take("b", TreeParty(parts["b"]).bins())
    with pytest.raises(LocalProtocolError, match="labels"):
        nobody.grow()


def test_other_numbers_of_records_are_named():
    parts = ten_and_twenty(CANCER[0])
    with pytest.raises(FormatError, match="records: c has"):
        by_bins({**parts, "c": parts["b"][:-1]}, CANCER[1], PLAN)


@pytest.mark.parametrize("wrong", [[[10, 1]], [[-1, 1]], [[0, 256]], [[0, -1]], [[0, 1, 2]]])
def test_splits_that_are_not_the_partys_are_refused(wrong):
    party = TreeParty(CANCER[0][:, :10])
    content = RecordDict({"splits": ArrayRecord({"splits": np.array(wrong, np.int32)})})
    with pytest.raises(FormatError):
        party.take_splits(content)
    with pytest.raises(LocalProtocolError):
        party.answer(CANCER[0][:, :10])


def test_predictions_need_every_partys_answers():
    parties, forest, _ = by_bins(ten_and_twenty(CANCER[0]), CANCER[1], PLAN)
    parts = answers(parties, ten_and_twenty(CANCER[2]))
    with pytest.raises(FormatError, match="each party"):
        forest.predict({"b": parts["b"]})
    with pytest.raises(FormatError, match="sides"):
        forest.predict({"a": parts["b"], "b": parts["a"]})
    with pytest.raises(FormatError, match="number of them"):
        forest.predict({**parts, "a": parties["a"].answer(CANCER[2][:3, :10])})
    with pytest.raises(FormatError, match="20 columns, not 10"):
        parties["a"].answer(CANCER[2][:, 10:])


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0.0},
        {"rate": np.nan},
        {"l2": -1.0},
        {"least_gain": -1.0},
        {"least_weight": 0.0},
        {"depth": 0},
        {"depth": MAX_DEPTH + 1},
        {"rounds": 0},
        {"rounds": 10_001},
        {"classes": 3},
        {"objective": Objective.SOFTMAX},
        {"objective": Objective.SOFTMAX, "classes": 257},
    ],
)
def test_plans_out_of_range(change):
    with pytest.raises(ConfigError):
        TreePlan(**change)
