"""Errors are clipped and noised as the terms say, and a repeated step has the same noise."""

import math

import numpy as np
import pytest

from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, PolicyDenied
from wardian.learning.vertical.linear.descent import LinearPlan, Loss
from wardian.learning.vertical.network.plan import NetworkPlan
from wardian.learning.vertical.noise import LabelNoise, NoiseTerms

SEED = Secret(b"s" * 32)
ZEROS = np.zeros((50_000, 2))


def made(mu: float = 1.0, clip: float = 1.0, looks: int = 4, change: float = 1.0, seed=SEED):
    return LabelNoise(NoiseTerms(mu=mu, clip=clip), looks=looks, change=change, seed=seed)


def test_the_noise_is_normal_and_as_large_as_the_looks_need():
    noise = made(mu=0.5, looks=9, change=1.5)
    assert noise.sigma == pytest.approx(1.5 * 3 / 0.5)
    found = noise.protect(ZEROS, look=0, number=0).ravel() / noise.sigma
    for below in (-2.0, -1.0, 0.0, 0.5, 1.5):
        expected = 0.5 * math.erfc(-below / math.sqrt(2))
        assert (found < below).mean() == pytest.approx(expected, abs=0.006)  # four deviations
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.015
    assert np.isfinite(found).all()


def test_another_label_moves_a_clipped_error_by_no_more_than_its_bound():
    assert made(clip=0.2, change=1.0).sigma == pytest.approx(0.4 * 2)
    assert made(clip=9.0, change=1.0).sigma == pytest.approx(1.0 * 2)
    assert made(clip=0.5, change=math.inf).sigma == pytest.approx(1.0 * 2)


def test_long_errors_are_scaled_and_short_ones_left():
    hardly = made(clip=1.0, mu=1e15)
    errors = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    clipped = hardly.protect(errors, look=0, number=5)
    assert clipped == pytest.approx(np.array([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


def test_a_repeated_step_has_the_same_noise_and_another_step_or_seed_has_not():
    first = made().protect(ZEROS[:9], look=1, number=1)
    assert np.array_equal(made().protect(ZEROS[:9], look=1, number=1), first)
    assert not np.isin(made().protect(ZEROS[:9], look=1, number=2), first).any()
    others = made().protect(ZEROS[:9] + 0.1, look=1, number=1)
    assert not np.isclose(others - 0.1, first).any()  # no difference without noise
    other = made(seed=Secret(b"t" * 32))
    assert not np.isin(other.protect(ZEROS[:9], look=1, number=1), first).any()


@pytest.mark.parametrize("look", [-1, 4, 5])
def test_looks_beyond_those_agreed_are_refused(look):
    with pytest.raises(PolicyDenied) as caught:
        made(looks=4).protect(ZEROS[:1], look=look, number=0)
    assert caught.value.rule == "label-noise"


def test_how_often_a_label_is_guessed_at_most():
    assert NoiseTerms(mu=1e-9).most_guessed == pytest.approx(0.5)
    assert NoiseTerms(mu=0.5).most_guessed == pytest.approx(0.5987, abs=1e-4)
    assert NoiseTerms().most_guessed == pytest.approx(0.6915, abs=1e-4)
    assert NoiseTerms(mu=20).most_guessed == pytest.approx(1.0)


@pytest.mark.parametrize(
    "change", [{"mu": 0.0}, {"mu": math.nan}, {"clip": 0.0}, {"clip": math.inf}]
)
def test_terms_that_protect_nothing_are_refused(change):
    with pytest.raises(ConfigError):
        NoiseTerms(**change)


def test_no_look_at_all_is_a_mistake():
    with pytest.raises(ConfigError):
        made(looks=0)


def test_plans_know_their_looks_and_how_far_a_label_moves_an_error():
    terms = NoiseTerms(mu=0.5, clip=3.0)
    logistic = LinearPlan(rounds=100).noise(terms, seed=SEED)
    assert logistic.sigma == pytest.approx(1.0 * 10 / 0.5)
    squared = LinearPlan(loss=Loss.SQUARED, rounds=100).noise(terms, seed=SEED)
    assert squared.sigma == pytest.approx(6.0 * 10 / 0.5)
    network = NetworkPlan(classes=5, embeddings={"a": 1}, epochs=25).noise(terms, seed=SEED)
    assert network.sigma == pytest.approx(math.sqrt(2) * 5 / 0.5)
