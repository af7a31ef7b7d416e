"""Regressions over columns that stay apart are those of the joined columns."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from vertical_world import (
    CLEAR,
    answers,
    breast_cancer,
    by_embeddings,
    by_features,
    linear_parties,
    noise,
    ten_and_twenty,
)

from wardian.errors import ConfigError, FormatError, LocalProtocolError, PolicyDenied
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import RecordDict
from wardian.learning.vertical.linear.coordinator import EmbeddingsRegression, FeaturesRegression
from wardian.learning.vertical.linear.descent import LinearPlan, Loss, fit
from wardian.learning.vertical.linear.party import LinearParty
from wardian.learning.vertical.noise import LabelNoise

LEARNT, LABELS, HELD, HELD_LABELS = breast_cancer()
PLAN = LinearPlan(l2=1e-3)
NUMBERS = LEARNT @ np.linspace(-1, 1, 30) + 3.0 + 0.1 * np.random.default_rng(0).normal(size=426)


def clear(parts, labels, plan):
    return by_embeddings(parts, labels, plan, CLEAR)


@pytest.mark.parametrize("placement", [by_features, clear])
@pytest.mark.parametrize(
    ("loss", "labels"), [(Loss.LOGISTIC, LABELS), (Loss.SQUARED, NUMBERS)], ids=lambda x: str(x)[:8]
)
def test_coefficients_are_those_of_the_joined_data(placement, loss, labels):
    plan = LinearPlan(loss=loss, l2=1e-3)
    joined, head = fit([LEARNT], labels, plan)
    parties, model, _ = placement(ten_and_twenty(LEARNT), labels, plan)
    apart = np.concatenate([parties["a"].weights, parties["b"].weights])
    assert np.abs(apart - joined[0]).max() < 1e-9
    assert abs(model.intercept - head.intercept) < 1e-9
    assert head.rounds < plan.rounds


def test_it_converges_to_what_others_find():
    joined, head = fit([LEARNT], LABELS, PLAN)
    rows = len(LEARNT)
    other = LogisticRegression(C=1 / (rows * PLAN.l2), tol=1e-12, max_iter=100_000)
    other.fit(LEARNT, LABELS)
    assert np.abs(joined[0] - other.coef_[0]).max() < 1e-4
    assert abs(head.intercept - other.intercept_[0]) < 1e-4
    free = LinearPlan(loss=Loss.SQUARED, l2=0.0, rounds=20_000)
    few = LEARNT[:, [1, 4, 5, 8, 9]]  # others are nearly sums of each other
    joined, head = fit([few], NUMBERS, free)
    exact = LinearRegression().fit(few, NUMBERS)
    assert np.abs(joined[0] - exact.coef_).max() < 1e-6
    assert abs(head.intercept - exact.intercept_) < 1e-6


def test_new_records_are_predicted_by_parts_and_better_than_by_one_party_alone():
    parties, model, _ = by_features(ten_and_twenty(LEARNT), LABELS, PLAN)
    apart = model.predict(answers(parties, ten_and_twenty(HELD)))
    joined, head = fit([LEARNT], LABELS, PLAN)
    sums = HELD @ joined[0] + head.intercept
    assert np.abs(apart - 1 / (1 + np.exp(-sums))).max() < 1e-12
    right = ((apart > 0.5) == HELD_LABELS).mean()
    (alone,), head = fit([LEARNT[:, :10]], LABELS, PLAN)
    right_alone = ((HELD[:, :10] @ alone + head.intercept > 0) == HELD_LABELS).mean()
    assert right > 0.95
    assert right > right_alone


def test_with_default_noise_it_still_learns():
    plan = LinearPlan(rounds=10)
    rights = []
    for seed in range(20):
        protection = noise(plan, seed=seed)
        parties, model, _ = by_embeddings(ten_and_twenty(LEARNT), LABELS, plan, protection)
        found = model.predict(answers(parties, ten_and_twenty(HELD)))
        rights.append(((found > 0.5) == HELD_LABELS).mean())
    assert np.mean(rights) > 0.92  # without noise 0.97, by chance 0.63
    assert max(rights) < 1.0


def test_a_party_that_has_labels_alone():
    nothing = {"a": np.empty((len(LEARNT), 0)), "b": LEARNT}
    joined, _ = fit([LEARNT], LABELS, PLAN)
    for placement in (by_features, clear):
        parties, model, _ = placement(nothing, LABELS, PLAN)
        assert np.abs(parties["b"].weights - joined[0]).max() < 1e-9
        new = {"a": np.empty((len(HELD), 0)), "b": HELD}
        assert len(model.predict(answers(parties, new))) == len(HELD)


def test_a_constant_column_does_no_harm():
    parts = ten_and_twenty(LEARNT)
    constant = {**parts, "b": np.column_stack([parts["b"], np.zeros(len(LEARNT))])}
    without, _, _ = by_features(parts, LABELS, PLAN)
    parties, _, _ = by_features(constant, LABELS, PLAN)
    assert parties["b"].weights[-1] == 0
    assert np.abs(parties["b"].weights[:-1] - without["b"].weights).max() < 1e-9


# Bad input


@pytest.mark.parametrize(
    ("features", "labels", "reason"),
    [
        (np.full((3, 2), np.nan), None, r"columns \[0, 1\]"),
        (np.array([[1.0, np.inf]]), None, r"columns \[1\]"),
        (np.zeros((3, 2), np.float32), None, "float64"),
        (np.zeros(3), None, "records, columns"),
        (np.zeros((0, 2)), None, "one record"),
        (np.zeros((3, 0)), None, "only who has the labels"),
        (np.zeros((3, 1)), np.array([0.0, 1.0]), "each of 3"),
        (np.zeros((2, 1)), np.array([0.0, np.nan]), "missing"),
        (np.zeros((2, 1)), np.array(["yes", "no"]), "one number"),
    ],
)
def test_what_a_party_may_not_bring(features, labels, reason):
    with pytest.raises(FormatError, match=reason):
        LinearParty(features, labels)


@pytest.mark.parametrize(
    "labels", [np.zeros(426), np.ones(426), LABELS + 1, LABELS * 0.5, LABELS * 2 - 1]
)
def test_labels_that_are_no_two_classes(labels):
    for placement in (by_features, clear):
        with pytest.raises(FormatError, match="0 and 1"):
            placement(ten_and_twenty(LEARNT), labels, PLAN)


def test_missing_labels_and_records_are_named_and_harm_nobody():
    parts = ten_and_twenty(LEARNT)
    parties = linear_parties(parts, LABELS)
    coordinator = FeaturesRegression(PLAN, parties=["a", "b"], labels_of="a")
    with pytest.raises(FormatError, match="labels"):
        coordinator.take("a", LinearParty(parts["a"]).features())
    coordinator.take("b", LinearParty(parts["b"][:-1]).features())
    with pytest.raises(LocalProtocolError):
        coordinator.fit()
    coordinator.take("a", parties["a"].features())
    with pytest.raises(FormatError, match="records: b has"):
        coordinator.fit()


def begun() -> tuple[EmbeddingsRegression, dict[str, LinearParty]]:
    parties = linear_parties(ten_and_twenty(LEARNT), LABELS)
    coordinator = EmbeddingsRegression(PLAN, CLEAR, parties=["a", "b"], labels_of="a")
    for name, party in parties.items():
        coordinator.start(name, party.start())
    begin = coordinator.begin()
    for party in parties.values():
        party.begin(begin)
    return coordinator, parties


def partial(array: np.ndarray) -> RecordDict:
    return RecordDict({"partial": ArrayRecord({"partial": array})})


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        partial(np.zeros(425)),
        partial(np.zeros((426, 1))),
        partial(np.zeros(426, np.float32)),
        partial(np.full(426, np.nan)),
    ],
)
def test_a_partial_sum_that_is_refused_harms_nobody(content):
    coordinator, parties = begun()
    with pytest.raises(FormatError):
        coordinator.take("b", content)
    with pytest.raises(LocalProtocolError):
        coordinator.errors()
    for name, party in parties.items():
        coordinator.take(name, party.partial())
    assert np.array_equal(np.sign(coordinator.errors()["errors"]["errors"]), 1 - 2 * LABELS)


def test_a_second_answer_in_a_round_changes_nothing():
    """Two answers to two different sums, under the same noise, would be the noise's end."""
    coordinator, parties = begun()
    for name, party in parties.items():
        coordinator.take(name, party.partial())
    coordinator.take("b", partial(np.full(426, 1e6)))
    assert np.abs(coordinator.errors()["errors"]["errors"]).max() == 0.5
    with pytest.raises(LocalProtocolError):
        coordinator.errors()


def test_strangers_and_steps_out_of_order():
    coordinator, parties = begun()
    with pytest.raises(PolicyDenied) as caught:
        coordinator.take("mallory", parties["b"].partial())
    assert caught.value.rule == "vertical-party"
    with pytest.raises(LocalProtocolError):
        LinearParty(LEARNT).partial()
    fresh = EmbeddingsRegression(PLAN, CLEAR, parties=["a"], labels_of="a")
    for call in (fresh.begin, fresh.model, lambda: fresh.take("a", parties["a"].partial())):
        with pytest.raises(LocalProtocolError):
            call()
    with pytest.raises(LocalProtocolError):
        EmbeddingsRegression(PLAN, CLEAR, parties=[], labels_of="a")
    negative = RecordDict({"curvature": ArrayRecord({"curvature": np.array([-1.0])})})
    with pytest.raises(FormatError):
        fresh.start("a", negative)


def test_what_is_over_is_over_and_what_started_twice_started_once():
    parties = linear_parties(ten_and_twenty(LEARNT), LABELS)
    plan = LinearPlan(rounds=1)
    coordinator = EmbeddingsRegression(plan, CLEAR, parties=["a", "b"], labels_of="a")
    for name, party in (*parties.items(), *parties.items()):
        coordinator.start(name, party.start())
    begin = coordinator.begin()
    for name, party in parties.items():
        party.begin(begin)
        coordinator.take(name, party.partial())
    coordinator.errors()
    assert coordinator.over
    for name, party in parties.items():
        coordinator.take(name, party.partial())
    with pytest.raises(LocalProtocolError, match="over"):
        coordinator.errors()
    features = FeaturesRegression(PLAN, parties=["a"], labels_of="z")
    for _ in range(2):
        features.take("a", parties["a"].features())
    with pytest.raises(LocalProtocolError, match="labels"):
        features.fit()


def test_predictions_need_every_party():
    parties, model, _ = by_features(ten_and_twenty(LEARNT), LABELS, PLAN)
    parts = answers(parties, ten_and_twenty(HELD))
    with pytest.raises(FormatError, match="each party"):
        model.predict({"a": parts["a"]})
    with pytest.raises(FormatError, match="number of them"):
        model.predict({**parts, "b": parties["b"].answer(HELD[:5, 10:])})
    with pytest.raises(FormatError, match="20 columns, not 10"):
        parties["a"].answer(HELD[:, 10:])
    with pytest.raises(FormatError):
        parties["a"].take_weights(RecordDict({"weights": ArrayRecord({"weights": np.zeros(9)})}))


def test_the_errors_leave_no_oftener_than_agreed():
    few: LabelNoise = noise(LinearPlan(rounds=3))
    with pytest.raises(PolicyDenied) as caught:
        by_embeddings(ten_and_twenty(LEARNT), LABELS, LinearPlan(rounds=4), few)
    assert caught.value.rule == "label-noise"


@pytest.mark.parametrize(
    "change", [{"l2": -1.0}, {"l2": np.nan}, {"rounds": 0}, {"tolerance": 1.0}]
)
def test_plans_out_of_range(change):
    with pytest.raises(ConfigError):
        LinearPlan(**change)
