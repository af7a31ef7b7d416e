"""Strategies do what their papers say, and go on from a kept state as if nothing had been."""

import numpy as np
import pytest
from strategy_cases import course, held, model

from wardian.errors import ConfigError, FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.strategies.fedavg import FedAvg
from wardian.learning.strategies.fedprox import FedProx, proximal_gradient, proximal_loss
from wardian.learning.strategies.optimisers import FedAdam, FedAvgM, FedYogi
from wardian.learning.strategies.robust import Krum, Median, TrimmedMean
from wardian.learning.strategies.scaffold import Scaffold

MAKERS = {
    "fedavg": FedAvg,
    "fedprox": lambda: FedProx(mu=0.5),
    "fedavgm": FedAvgM,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "scaffold": lambda: Scaffold(parties=7, lr=0.7),
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "krum": lambda: Krum(liars=1, keep=2),
}
EXAMPLES = {"a": 1, "b": 4, "c": 3}
NUMBERS = ("weight", "scale")


def updates(seed: int) -> dict[str, ArrayRecord]:
    return {p: model(10 * seed + place, kind="float64") for place, p in enumerate(EXAMPLES)}


def mean_change(first: ArrayRecord, given: dict[str, ArrayRecord], name: str) -> np.ndarray:
    """The weighted mean of the updates, less the model; one number after the other."""
    total = sum(EXAMPLES.values())
    change = np.zeros(first[name].shape)
    for party, arrays in given.items():
        change = change + EXAMPLES[party] / total * (arrays[name] - first[name])
    return change


# Questions


@pytest.mark.parametrize("name", MAKERS)
def test_every_party_is_told_the_model_and_the_config(name):
    strategy, arrays = MAKERS[name](), model(0)
    config, parties = ConfigRecord({"server-round": 3, "lr": 0.1}), tuple("abcde")
    for told in (
        strategy.configure_train(3, arrays, config, parties),
        strategy.configure_evaluate(3, arrays, config, parties),
    ):
        assert tuple(told) == parties
        for content in told.values():
            assert content["arrays"] is arrays
            assert config.items() <= content["config"].items()


def test_fedprox_tells_mu():
    told = FedProx(mu=0.25).configure_train(1, model(0), ConfigRecord({"lr": 1}), ["a"])
    assert dict(told["a"]["config"]) == {"lr": 1, "proximal-mu": 0.25}


@pytest.mark.parametrize("name", MAKERS)
def test_records_and_whether_it_looks_at_single_updates(name):
    strategy = MAKERS[name]()
    assert strategy.records == (("arrays", "control") if name == "scaffold" else ("arrays",))
    assert strategy.robust == (name in {"median", "trimmed-mean", "krum"})


# FedAvg and FedProx


@pytest.mark.parametrize("name", ["fedavg", "fedprox"])
def test_the_mean_is_weighted_by_records(name):
    first, given = model(99, kind="float64"), updates(1)
    found, metrics = MAKERS[name]().aggregate_train(1, first, held(given, EXAMPLES))
    for array in NUMBERS:
        expected = first[array] + mean_change(first, given, array)
        np.testing.assert_allclose(found[array], expected, rtol=1e-12)
    assert dict(metrics) == {"num-examples": 8}


def test_evaluation_is_the_weighted_mean():
    from wardian.learning.replies import HeldReplies

    answers = {
        "a": ({}, MetricRecord({"num-examples": 1, "accuracy": 1.0})),
        "b": ({}, MetricRecord({"num-examples": 3, "accuracy": 0.0})),
    }
    found = FedAvg().aggregate_evaluate(1, HeldReplies(answers))
    assert dict(found) == {"num-examples": 4, "accuracy": 0.25}


def test_the_proximal_gradient_is_that_of_half_mu_times_the_squared_distance():
    now, given = model(1, kind="float64")["weight"], model(2, kind="float64")["weight"]
    step = 1e-6

    def term(at):
        return 0.3 / 2 * ((at - given) ** 2).sum()

    found = proximal_gradient(now, given, 0.3)
    for place in np.ndindex(now.shape):
        moved = np.zeros(now.shape)
        moved[place] = step
        assert found[place] == pytest.approx(
            (term(now + moved) - term(now - moved)) / (2 * step), rel=1e-6
        )


def test_the_proximal_gradient_keeps_the_kind():
    now, given = model(1)["weight"], model(2)["weight"]
    assert proximal_gradient(now, given, 0.3).dtype == np.float32


def test_the_proximal_loss_in_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    module = torch.nn.Linear(3, 2)
    given = ArrayRecord({"weight": np.zeros((2, 3), np.float32), "bias": np.ones(2, np.float32)})
    loss = proximal_loss(module, given, 0.5)
    loss.backward()
    for name, each in module.named_parameters():
        expected = proximal_gradient(each.detach().numpy(), given[name], 0.5)
        np.testing.assert_allclose(each.grad.numpy(), expected, rtol=1e-6)


# Server optimisers, each beside its formula


def fedavgm(first, changes, name):
    x, v = first[name], np.zeros(first[name].shape)
    for number in changes:
        v = 0.8 * v + number(x)
        x = x + 0.5 * v
    return x


def adaptive(first, changes, name, second):
    """Algorithm 2 of Reddi et al., 2021, with beta_1 0.7, beta_2 0.95, tau 0.01, eta 0.3."""
    x, m, v = first[name], np.zeros(first[name].shape), np.full(first[name].shape, 0.01**2)
    for number in changes:
        delta = number(x)
        m = 0.7 * m + (1 - 0.7) * delta
        v = second(v, delta)
        x = x + 0.3 * m / (np.sqrt(v) + 0.01)
    return x


def fedadam(first, changes, name):
    return adaptive(first, changes, name, lambda v, d: 0.95 * v + (1 - 0.95) * d**2)


def fedyogi(first, changes, name):
    return adaptive(first, changes, name, lambda v, d: v - (1 - 0.95) * d**2 * np.sign(v - d**2))


@pytest.mark.parametrize(
    ("strategy", "formula"),
    [
        (lambda: FedAvgM(lr=0.5, momentum=0.8), fedavgm),
        (lambda: FedAdam(lr=0.3, beta_1=0.7, beta_2=0.95, tau=0.01), fedadam),
        (lambda: FedYogi(lr=0.3, beta_1=0.7, beta_2=0.95, tau=0.01), fedyogi),
    ],
    ids=["fedavgm", "fedadam", "fedyogi"],
)
def test_server_optimisers_follow_their_formula(strategy, formula):
    first, rounds, made = model(99, kind="float64"), [updates(n) for n in range(1, 5)], strategy()
    arrays = first
    for number, given in enumerate(rounds, start=1):
        arrays, _ = made.aggregate_train(number, arrays, held(given, EXAMPLES))

    for name in NUMBERS:

        def change(given, name=name):
            mean = sum(EXAMPLES[p] / 8 * each[name] for p, each in given.items())
            return lambda x: mean - x

        expected = formula(first, [change(given) for given in rounds], name)
        np.testing.assert_allclose(arrays[name], expected, rtol=1e-10)
    counters = [10 * 4 + place for place in range(3)]
    expected = round(sum(w * c for w, c in zip(EXAMPLES.values(), counters, strict=True)) / 8)
    assert arrays["batches"].tolist() == [expected]


def test_defaults_are_those_of_the_paper():
    for made, lr in ((FedAdam(), 0.1), (FedYogi(), 0.01)):
        assert (made._lr, made._beta_1, made._beta_2, made._tau) == (lr, 0.9, 0.99, 1e-3)
        assert made._first == {"m": 0.0, "v": 1e-6}


def test_momentum_of_zero_is_the_mean():
    first, given = model(99, kind="float64"), updates(1)
    found, _ = FedAvgM(momentum=0).aggregate_train(1, first, held(given, EXAMPLES))
    plain, _ = FedAvg().aggregate_train(1, first, held(given, EXAMPLES))
    for name in NUMBERS:
        np.testing.assert_allclose(found[name], plain[name], rtol=1e-12)


@pytest.mark.parametrize("strategy", [FedAvgM, FedAdam, FedYogi])
def test_a_moment_that_becomes_infinite_names_its_array_and_leaves_the_state(strategy):
    made, first = strategy(), model(0, kind="float64")
    course(made, first, [1, 2])
    before = made.state()
    huge = ArrayRecord({**first, "weight": np.full((5, 7), 1.7e308)})
    with pytest.raises(FormatError, match="weight"):
        for number in range(3, 60):
            made.aggregate_train(number, first, held({"a": huge}))
            before = made.state()
    assert made.state().keys() == before.keys()
    for name, record in before.items():
        assert made.state()[name] == record
        assert all(np.isfinite(each).all() for each in record.values())


# Going on


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_restored_in_the_middle_it_goes_on_bit_for_bit(name, kind):
    first = model(99, kind=kind)
    whole = course(MAKERS[name](), first, range(1, 9))
    before = MAKERS[name]()
    half = course(before, first, range(1, 5))
    after = MAKERS[name]()
    after.restore(RecordDict(before.state()))
    assert course(after, half, range(5, 9)) == whole
    if name in {"fedavgm", "fedadam", "fedyogi", "scaffold"}:
        stateful = course(MAKERS[name](), half, range(5, 9))
        assert (stateful == whole) == (name == "scaffold")  # its state is in what parties are told


@pytest.mark.parametrize("name", MAKERS)
def test_a_fresh_state_is_empty_and_restores(name):
    strategy = MAKERS[name]()
    assert not strategy.state()
    course(strategy, model(0), [1])
    strategy.restore(RecordDict())
    assert not strategy.state()


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi", "scaffold"])
@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, "more": ConfigRecord()},
        lambda state: {("other" if n == min(state) else n): each for n, each in state.items()},
        lambda state: {n: ConfigRecord() for n in state},
        lambda state: {n: _other(each, np.float32) for n, each in state.items()},
        lambda state: {n: _other(each, np.float64, np.nan) for n, each in state.items()},
    ],
    ids=["more", "renamed", "settings", "float32", "nan"],
)
def test_another_state_is_refused_and_changes_nothing(name, change):
    strategy = MAKERS[name]()
    course(strategy, model(0), [1, 2])
    state = dict(strategy.state())
    with pytest.raises(FormatError, match="strategy state"):
        strategy.restore(RecordDict(change(state)))
    assert dict(strategy.state()) == state


def _other(record, kind, value=1.0):
    if isinstance(record, MetricRecord):
        return record
    return ArrayRecord({n: np.full(each.shape, value, kind) for n, each in record.items()})


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi", "scaffold"])
def test_the_state_of_another_model_is_refused(name):
    strategy = MAKERS[name]()
    course(strategy, model(0), [1])
    other = ArrayRecord({"weight": np.zeros((7, 5), np.float32)})
    with pytest.raises(FormatError, match="another model"):
        course(strategy, other, [2])


# Settings


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda v: FedProx(mu=v), "mu"),
        (lambda v: FedAvgM(lr=v), "lr"),
        (lambda v: FedAdam(lr=v), "lr"),
        (lambda v: FedAdam(tau=v), "tau"),
        (lambda v: FedYogi(lr=v), "lr"),
        (lambda v: Scaffold(parties=2, lr=v), "lr"),
        (lambda v: TrimmedMean(cut=v), "cut"),
    ],
    ids=["fedprox", "fedavgm", "fedadam", "fedadam-tau", "fedyogi", "scaffold", "trimmed-mean"],
)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "1", None])
def test_numbers_out_of_range_are_refused(make, setting, value):
    with pytest.raises(ConfigError, match=f"strategy: {setting}"):
        make(value)


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda v: FedAvgM(momentum=v), "momentum"),
        (lambda v: FedAdam(beta_1=v), "beta_1"),
        (lambda v: FedYogi(beta_2=v), "beta_2"),
    ],
    ids=["fedavgm", "fedadam", "fedyogi"],
)
@pytest.mark.parametrize("value", [1, 1.5, -0.1, float("nan"), False, "0"])
def test_shares_out_of_range_are_refused(make, setting, value):
    with pytest.raises(ConfigError, match=f"strategy: {setting}"):
        make(value)


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda v: Scaffold(parties=v), "parties"),
        (lambda v: Krum(liars=v), "liars"),
        (lambda v: Krum(liars=1, keep=v), "keep"),
    ],
    ids=["scaffold", "krum", "krum-keep"],
)
@pytest.mark.parametrize("value", [-1, 1025, 1.0, True, "1", None])
def test_whole_numbers_out_of_range_are_refused(make, setting, value):
    with pytest.raises(ConfigError, match=f"strategy: {setting}"):
        make(value)


@pytest.mark.parametrize("value", [0.5, 0.7])
def test_half_the_parties_cannot_be_cut(value):
    with pytest.raises(ConfigError, match="strategy: cut"):
        TrimmedMean(cut=value)
