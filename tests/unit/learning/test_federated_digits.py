"""The example of the digits, and three cells of the table of what parties' differences cost."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "bench" / "learning"))
import digits_table  # noqa: E402
from digits_data import LEAST, load, shared_out  # noqa: E402
from digits_network import first_weights, gradients, measure  # noqa: E402


@pytest.mark.parametrize("alpha", digits_table.ALPHAS.values())
def test_every_image_has_one_owner_and_every_party_enough(alpha):
    shares = shared_out(10, alpha, 0)
    train, held = load(0)
    assert sorted(np.concatenate(shares)) == list(range(len(train.labels)))
    assert min(map(len, shares)) >= LEAST
    assert (len(train.labels), len(held.labels)) == (1198, 599)


def test_parties_differ_the_more_the_smaller_alpha_is():
    def classes(alpha):
        """How many classes parties have, of which each makes out a twentieth or more."""
        train, _ = load(0)
        counts = [
            np.bincount(train.labels[share], minlength=10) for share in shared_out(10, alpha, 0)
        ]
        return np.mean([(each > each.sum() / 20).sum() for each in counts])

    assert classes(0.0) > classes(0.5) > classes(0.1) > classes(0.05)


def test_gradients_are_those_of_the_loss():
    weights = {n: each.astype(np.float64) for n, each in first_weights(1).items()}
    images, labels = load(0)[0].images[:7].astype(np.float64), load(0)[0].labels[:7]
    found = gradients(weights, images, labels)
    source = np.random.default_rng(2)
    for name, weight in weights.items():
        place = tuple(source.integers(size) for size in weight.shape)
        losses = []
        for sign in (1, -1):
            moved = {n: each.copy() for n, each in weights.items()}
            moved[name][place] += sign * 1e-6
            losses.append(measure(moved, images, labels)[0])
        assert found[name][place] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-6)


def test_the_table_has_every_cell():
    found = digits_table.run(1, 1)
    assert set(found["table"]) == {"FedAvg", "FedProx", "SCAFFOLD"}
    assert all(set(cells) == set(digits_table.ALPHAS) for cells in found["table"].values())
    assert digits_table.text(found).count("\n") == 5


@pytest.mark.slow
def test_scaffold_keeps_what_fedavg_loses():
    rounds, seeds = 50, 3

    def accuracy(name):
        make = digits_table.STRATEGIES[name]
        return np.mean(
            [digits_table.federated(make, 0.05, seed, rounds)[-1] for seed in range(seeds)]
        )

    scaffold, joined = (
        accuracy("SCAFFOLD"),
        np.mean([digits_table.joined(s, rounds) for s in range(seeds)]),
    )
    assert scaffold - accuracy("FedAvg") > 0.02
    assert abs(scaffold - joined) < 0.015
