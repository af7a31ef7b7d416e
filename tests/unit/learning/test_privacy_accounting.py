"""What noise costs, against published figures, by the accountant in the environment of `make dp`."""

import importlib.util
import json
import math
import os
import subprocess
import sys

import pytest
from scipy import optimize, stats

from wardian.engines.environment import find_python
from wardian.errors import ConfigError
from wardian.learning.privacy import accounting
from wardian.learning.privacy.accounting import Releases, Sampling
from wardian.learning.privacy.gaussian import gaussian_epsilon

SCRIPT = """
import json, sys
from wardian.learning.privacy.accounting import epsilon, noise_for
found = []
for name, settings in json.load(sys.stdin):
    found.append({"epsilon": epsilon, "noise_for": noise_for}[name](**settings))
json.dump(found, sys.stdout)
"""


def python() -> str:
    """An interpreter that has the accountant; skips (fails in CI) where there is none."""
    if importlib.util.find_spec("dp_accounting") is not None:
        return sys.executable
    try:
        return str(find_python("dp", os.environ.get("WARDIAN_DP_PYTHON")))
    except ConfigError as err:
        if os.environ.get("WARDIAN_REQUIRE_ALL"):
            pytest.fail(str(err))
        pytest.skip("no dp-accounting: `make dp` installs it")


def ask(*calls: tuple[str, dict]) -> list[float]:
    """Return what each call gives, in one process."""
    done = subprocess.run(
        [python(), "-c", SCRIPT],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def open_rounds(rounds: int, noise: float, delta: float, **more) -> tuple[str, dict]:
    settings = {"rounds": rounds, "cohort": 10, "parties": 10, "noise": noise, "delta": delta}
    return "epsilon", {**settings, **more}


def sampled(rounds: int, cohort: int, parties: int, noise: float, delta: float, **more):
    settings = {"rounds": rounds, "cohort": cohort, "parties": parties, "noise": noise}
    return "epsilon", {**settings, "delta": delta, "sampling": "poisson", **more}


def delta_of_gaussian(epsilon: float, distance: float) -> float:
    """Return the exact delta of Gaussian noise (Balle, Wang, ICML 2018, theorem 8)."""
    upper = stats.norm.cdf(distance / 2 - epsilon / distance)
    lower = stats.norm.cdf(-distance / 2 - epsilon / distance)
    return upper - math.exp(epsilon) * lower


def test_against_published_figures():
    # (figure, call): ours are later analyses of the same, so at most that, and not far below.
    published = [
        # Abadi et al., "Deep learning with differential privacy", CCS 2016, section 3.2
        (1.26, sampled(10_000, 600, 60_000, 4.0, 1e-5)),
        # McMahan et al., "Learning differentially private recurrent language models", ICLR 2018
        (4.634, sampled(5000, 5000, 763_430, 1.0, 1e-9)),
    ]
    for (figure, _), found in zip(published, ask(*(call for _, call in published)), strict=True):
        assert 0.8 * figure < found <= figure


def test_against_the_exact_curve_of_the_gaussian_mechanism():
    cases = [(1, 1.0, 1e-5), (20, 10.0, 1e-3), (200, 20.0, 1e-6), (50, 3.0, 1e-5)]
    calls = [open_rounds(*case, method=method) for case in cases for method in ("rdp", "pld")]
    found = iter(ask(*calls))
    for rounds, noise, delta in cases:
        distance = math.sqrt(rounds) / noise
        exact = optimize.brentq(
            lambda e, d=distance, target=delta: delta_of_gaussian(e, d) - target, 0, 500
        )
        by_rdp, by_pld = next(found), next(found)
        assert exact <= by_rdp <= 1.2 * exact
        assert exact * (1 - 1e-9) <= by_pld <= 1.003 * exact


def test_sampling_in_secret_costs_less_and_each_kind_its_own():
    open_, poisson, fixed, pld = ask(
        open_rounds(100, 4.0, 1e-5),
        sampled(100, 5, 100, 4.0, 1e-5),
        sampled(100, 5, 100, 4.0, 1e-5, sampling="fixed"),
        sampled(100, 5, 100, 4.0, 1e-5, method="pld"),
    )
    assert pld < poisson < fixed < open_


def test_without_a_choice_of_who_is_asked_a_fixed_cohort_pays_for_replacement():
    # Replacing a party moves the sum twice as far as its silence does.
    everybody, half_the_noise = ask(
        sampled(20, 50, 50, 20.0, 1e-5, sampling="fixed"), open_rounds(20, 10.0, 1e-5)
    )
    assert everybody == pytest.approx(half_the_noise, rel=1e-6)


def test_a_cohort_that_may_be_known_gains_nothing_by_being_small():
    small, all_ = ask(open_rounds(20, 5.0, 1e-5, cohort=1), open_rounds(20, 5.0, 1e-5))
    assert small == all_


def test_the_noise_for_a_budget_is_enough_and_hardly_less_would_be():
    budget = {"delta": 1e-5, "rounds": 30, "cohort": 10, "parties": 10}
    noises = ask(
        ("noise_for", {**budget, "epsilon": 2.0}),
        ("noise_for", {**budget, "epsilon": 2.0, "method": "pld"}),
        ("noise_for", {**budget, "epsilon": 2.0, "parties": 200, "sampling": "poisson"}),
        ("noise_for", {**budget, "epsilon": 1e9}),
    )
    more = [{}, {"method": "pld"}, {"parties": 200, "sampling": "poisson"}]
    calls = []
    for noise, changed in zip(noises[:3], more, strict=True):
        calls += [
            ("epsilon", {**budget, **changed, "noise": noise}),
            ("epsilon", {**budget, **changed, "noise": noise * 0.999}),
        ]
    found = ask(*calls)
    for enough, too_little in zip(found[::2], found[1::2], strict=True):
        assert too_little > 2.0 >= enough > 1.99
    assert noises[1] < noises[0]
    assert noises[2] < noises[0]
    assert noises[3] == 1 / 16


def test_no_round_costs_nothing_and_more_cost_more():
    none, one, two, quiet = ask(
        open_rounds(0, 1.0, 1e-5),
        open_rounds(1, 1.0, 1e-5),
        open_rounds(2, 1.0, 1e-5),
        open_rounds(2, 2.0, 1e-5),
    )
    assert none == 0
    assert quiet < one < two


# What needs no accountant


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    settings = {"rounds": 1, "cohort": 1, "parties": 1, "delta": 1e-5}
    with pytest.raises(ConfigError, match=r"pip install 'wardian\[dp\]'"):
        accounting.epsilon(**settings, noise=1.0)
    with pytest.raises(ConfigError, match=r"pip install 'wardian\[dp\]'"):
        accounting.noise_for(**settings, epsilon=1.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"noise": math.nan},
        {"noise": math.inf},
        {"noise": 0.0},
        {"noise": -1.0},
        {"delta": math.nan},
        {"delta": 0.0},
        {"delta": 1.0},
        {"rounds": -1},
        {"rounds": 2**21},
        {"cohort": 0},
        {"cohort": 11},
        {"parties": 0},
        {"parties": 2**21},
    ],
)
def test_numbers_out_of_range(changed):
    settings = {"rounds": 1, "cohort": 10, "parties": 10, "noise": 1.0, "delta": 1e-5}
    with pytest.raises(ConfigError):
        accounting.epsilon(**{**settings, **changed})


@pytest.mark.parametrize("epsilon", [math.nan, math.inf, 0.0, -1.0])
def test_budgets_that_are_none(epsilon):
    with pytest.raises(ConfigError, match="epsilon"):
        accounting.noise_for(epsilon=epsilon, delta=1e-5, rounds=1, cohort=1, parties=1)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_rates_that_are_none(rate):
    with pytest.raises(ConfigError):
        Releases(rounds=1, noise=1.0, rate=rate, parties=10, sampling=Sampling.OPEN)


def test_what_the_accountants_do_not_know():
    settings = {"noise": 1.0, "rate": 0.5, "parties": 10}
    fixed = Releases(rounds=1, sampling=Sampling.FIXED, **settings)
    poisson = Releases(rounds=1, sampling=Sampling.POISSON, **settings)
    with pytest.raises(ConfigError, match="pld does not know"):
        accounting.epsilon_of((fixed,), delta=1e-5, method="pld")
    with pytest.raises(ConfigError, match="accountant is one of rdp, pld"):
        accounting.epsilon_of((fixed,), delta=1e-5, method="own")
    with pytest.raises(ConfigError, match="sampling is one of open, poisson, fixed"):
        Releases(rounds=1, sampling="secret", **settings)
    with pytest.raises(ConfigError, match="the same way"):
        accounting.epsilon_of((fixed, poisson), delta=1e-5, method="rdp")


def test_the_books_of_the_enclave_say_what_the_library_says() -> None:
    cases = [
        (rounds, noise, delta)
        for rounds in (1, 7, 500)
        for noise in (0.3, 1.0, 5.5, 200.0)
        for delta in (1e-9, 1e-5, 0.01)
    ]
    settings = [
        {"rounds": rounds, "cohort": 4, "parties": 4, "noise": noise, "delta": delta}
        for rounds, noise, delta in cases
    ]
    theirs = ask(*(("epsilon", each) for each in settings))
    for (rounds, noise, delta), found in zip(cases, theirs, strict=True):
        each = Releases(rounds=rounds, noise=noise, rate=1.0, parties=4, sampling=Sampling.OPEN)
        assert gaussian_epsilon((each,), delta) == pytest.approx(found, rel=1e-9)
