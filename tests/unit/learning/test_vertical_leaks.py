"""What a party can make of all that it is told, of labels that its columns say nothing of.

The labels are tossed coins. So whoever guesses them better than every other time has it from what
the coordinator told, and from nothing else. Guesses are counted as right in the better of both ways
round, which the attacker would not know.
"""

import numpy as np
import pytest
from vertical_world import CLEAR, by_bins, by_embeddings, by_features, by_network, noise

from wardian.learning.records import RecordDict
from wardian.learning.vertical.linear.descent import LinearPlan
from wardian.learning.vertical.network.plan import NetworkPlan
from wardian.learning.vertical.noise import NoiseTerms, Protection
from wardian.learning.vertical.trees.plan import TreePlan

RECORDS = 2000
SEEDS = range(5)
CHANCE = 0.05
"""So far above 0.5 is what coins and the finished model itself account for."""
ATTACKED = "b"
PLAN = LinearPlan(rounds=100)


def coins(seed: int, columns: int = 5) -> tuple[dict[str, np.ndarray], np.ndarray]:
    chance = np.random.default_rng(seed)
    features = chance.normal(size=(RECORDS, 2 * columns))
    labels = (chance.random(RECORDS) < 0.5).astype(float)
    return {"a": features[:, :columns], "b": features[:, columns:]}, labels


def right(guessed: np.ndarray, labels: np.ndarray) -> float:
    return max((guessed == labels).mean(), (guessed != labels).mean())


def kinds(told: list[RecordDict]) -> set[tuple[str, str]]:
    return {(record, name) for each in told for record in each for name in each[record]}


# Placement `features`


def test_features_are_told_coefficients_alone_and_they_tell_no_label():
    found = []
    for seed in SEEDS:
        parts, labels = coins(seed)
        _, _, told = by_features(parts, labels, LinearPlan())
        assert kinds(told.by[ATTACKED]) == {("weights", "weights")}
        weights = told.by[ATTACKED][0]["weights"]["weights"]
        assert weights.shape == (5,)
        found.append(right(parts[ATTACKED] @ weights > 0, labels))
    assert np.mean(found) < 0.5 + CHANCE


# Placement `bins`


def test_bins_are_told_splits_alone_and_they_tell_no_label():
    """The attack: labels change where a tree splits, so guess another one on each side of it."""
    plan = TreePlan(rounds=50, depth=5)
    found = []
    for seed in SEEDS:
        parts, labels = coins(seed)
        parties, _, told = by_bins(parts, labels, plan)
        assert kinds(told.by[ATTACKED]) == {("splits", "splits")}
        splits = told.by[ATTACKED][0]["splits"]["splits"]
        assert len(splits) > 100
        assert splits.tolist() == np.unique(splits, axis=0).tolist()  # in no order of the trees'
        sides = parties[ATTACKED].answer(parts[ATTACKED])["sides"]["sides"]
        guesses = [sides.sum(axis=1) > np.median(sides.sum(axis=1))]
        guesses += [sides[:, splits[:, 0] == column].sum(axis=1) % 2 == 1 for column in range(5)]
        found.append(np.mean([right(each, labels) for each in guesses]))
    assert np.mean(found) < 0.5 + CHANCE


# Placement `embeddings`


def guessed_of_errors(protection_of, seed: int) -> float:
    """The best that there is: the mean of each record's errors; below 0 is a label 1."""
    parts, labels = coins(seed)
    _, _, told = by_embeddings(parts, labels, PLAN, protection_of(seed))
    assert kinds(told.by[ATTACKED]) == {
        ("steepness", "steepness"),
        ("l2", "l2"),
        ("errors", "errors"),
    }
    errors = [each["errors"]["errors"] for each in told.by[ATTACKED] if "errors" in each]
    assert len(errors) == PLAN.rounds
    return right(np.mean(errors, axis=0) < 0, labels)


def test_clear_errors_tell_every_label():
    assert guessed_of_errors(lambda _: CLEAR, 0) == 1.0


@pytest.mark.parametrize("mu", [0.5, NoiseTerms().mu])
def test_noised_errors_tell_no_more_than_the_terms_say(mu):
    found = [guessed_of_errors(lambda n: noise(PLAN, mu=mu, seed=n), s) for s in SEEDS]
    bound = NoiseTerms(mu=mu).most_guessed
    assert np.mean(found) < bound + 0.015  # of 10000 coins: three deviations
    assert np.mean(found) > bound - 0.05  # the attack is a good one, and the bound not idle


def test_every_party_is_told_the_same_errors_so_that_two_know_no_more_than_one():
    parts, labels = coins(0)
    _, _, told = by_embeddings(parts, labels, LinearPlan(rounds=5), noise(LinearPlan(rounds=5)))
    for mine, its in zip(told.by["a"][1:], told.by["b"][1:], strict=True):
        assert mine["errors"] == its["errors"]


NETWORK = NetworkPlan(classes=2, embeddings={"a": 2, "b": 2}, epochs=10, batch=100, momentum=0.0)


def guessed_of_slopes(protection: Protection, seed: int, monkeypatch) -> float:
    """Stronger than any party: the attacker also knows the last layer, whose weights it is not told.

    So it computes the very errors that were sent back, and takes the mean of each record's.
    """
    from wardian.learning.vertical.network.layers import Layers

    last, backward = [], Layers.backward

    def watched(self, slopes, **about):
        if self.weights[-1].shape[1] == 2 and self.takes == 4:
            last.append(self.weights[-1].copy())
        return backward(self, slopes, **about)

    monkeypatch.setattr(Layers, "backward", watched)
    parts, labels = coins(seed)
    _, _, told = by_network(parts, labels, NETWORK, protection)
    assert kinds(told.by[ATTACKED]) == {("rows", "rows"), ("slopes", "slopes")}
    asked = [each["rows"]["rows"] for each in told.by[ATTACKED] if "rows" in each]
    slopes = [each["slopes"]["slopes"] for each in told.by[ATTACKED] if "slopes" in each]
    assert len(asked) == len(slopes) == len(last) == NETWORK.epochs * RECORDS // NETWORK.batch
    summed = np.zeros((RECORDS, 2))
    for rows, slope, weights in zip(asked, slopes, last, strict=True):
        summed[rows] += slope @ np.linalg.pinv(weights[2:].T)
    return right(summed[:, 0] > summed[:, 1], labels)


def test_clear_slopes_tell_every_label(monkeypatch):
    assert guessed_of_slopes(CLEAR, 0, monkeypatch) > 0.99


def test_noised_slopes_tell_no_more_than_the_terms_say(monkeypatch):
    found = [guessed_of_slopes(noise(NETWORK, seed=s), s, monkeypatch) for s in SEEDS]
    bound = NoiseTerms().most_guessed
    assert bound - 0.05 < np.mean(found) < bound + 0.015
