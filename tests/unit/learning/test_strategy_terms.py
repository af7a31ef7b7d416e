"""What a plan names becomes a strategy, or is refused."""

import pytest

from wardian.errors import ConfigError
from wardian.learning.strategies.bagging import Bagging
from wardian.learning.strategies.fedavg import FedAvg
from wardian.learning.strategies.fedprox import FedProx
from wardian.learning.strategies.optimisers import FedAdam, FedAvgM, FedYogi
from wardian.learning.strategies.robust import Krum, Median, TrimmedMean
from wardian.learning.strategies.scaffold import Scaffold
from wardian.learning.strategies.terms import STRATEGIES, build, build_strategy

BUILT = [
    ("bagging", {"columns": 4, "outputs": 3, "trees": 2, "depth": 5, "leaf": 2.0}, Bagging),
    ("fedadam", {"lr": 0.5, "beta_1": 0, "beta_2": 0.5, "tau": 1}, FedAdam),
    ("fedavg", {}, FedAvg),
    ("fedavgm", {"lr": 2, "momentum": 0.5}, FedAvgM),
    ("fedprox", {"mu": 1}, FedProx),
    ("fedyogi", {}, FedYogi),
    ("krum", {"liars": 1, "keep": 3}, Krum),
    ("median", {}, Median),
    ("scaffold", {"parties": 10, "lr": 0.5}, Scaffold),
    ("trimmed-mean", {"cut": 0.1}, TrimmedMean),
]


@pytest.mark.parametrize(("name", "settings", "kind"), BUILT, ids=[each[0] for each in BUILT])
def test_every_strategy_is_built_by_its_name(name, settings, kind):
    made = build(name, settings)
    assert type(made) is kind
    kept = made._bounds if kind is Bagging else None
    for key, value in settings.items():
        found = getattr(kept, key) if hasattr(kept, key) else getattr(made, f"_{key}")
        assert found == value


def test_the_table_is_whole_and_sorted():
    assert list(STRATEGIES) == sorted(STRATEGIES) == [each[0] for each in BUILT]


@pytest.mark.parametrize("name", ["", "FedAvg", "bulyan", "fedavg "])
def test_another_name_is_refused(name):
    with pytest.raises(ConfigError, match="there are bagging, fedadam, fedavg,"):
        build(name, {})


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_unknown_setting_is_refused(name):
    with pytest.raises(ConfigError, match=f"strategy {name}: .*unknown field `more`"):
        build(name, {**dict(next(s for n, s, _ in BUILT if n == name)), "more": 1})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fedprox", {"mu": "1"}),
        ("fedprox", {"mu": True}),
        ("fedprox", {"mu": None}),
        ("scaffold", {"parties": 1.5}),
        ("krum", {"liars": True}),
        ("trimmed-mean", {"cut": [0.1]}),
    ],
)
def test_a_value_of_another_type_is_refused(name, settings):
    with pytest.raises(ConfigError, match=f"strategy {name}"):
        build(name, settings)


@pytest.mark.parametrize(
    ("name", "missing"), [("scaffold", "parties"), ("krum", "liars"), ("bagging", "columns")]
)
def test_what_has_no_default_is_demanded(name, missing):
    with pytest.raises(ConfigError, match=f"missing required field `{missing}`"):
        build(name, {})


def test_a_value_out_of_range_is_refused_by_the_strategy():
    with pytest.raises(ConfigError, match="strategy: cut"):
        build("trimmed-mean", {"cut": 0.5})


def test_each_is_built_anew():
    assert build("fedadam", {}) is not build("fedadam", {})


def test_a_table_of_a_plan_has_the_name_and_the_settings():
    made = build_strategy({"name": "krum", "liars": 2, "keep": 3})
    assert (type(made), made._liars, made._keep) == (Krum, 2, 3)


def test_a_plan_knows_how_many_parties_there_are():
    assert build_strategy({"name": "scaffold"}, parties=7)._parties == 7
    assert build_strategy({"name": "scaffold", "parties": 7}, parties=7)._parties == 7
    assert type(build_strategy({"name": "fedavg"}, parties=7)) is FedAvg
    with pytest.raises(ConfigError, match="strategy scaffold: parties: there are 7"):
        build_strategy({"name": "scaffold", "parties": 6}, parties=7)
    with pytest.raises(ConfigError, match="there are bagging"):
        build_strategy({"name": "scaffolding"}, parties=7)


@pytest.mark.parametrize("table", [{}, {"mu": 1}, {"name": None}, {"name": ["fedavg"]}])
def test_a_table_without_a_name_is_refused(table):
    with pytest.raises(ConfigError, match="strategy: name"):
        build_strategy(table)
