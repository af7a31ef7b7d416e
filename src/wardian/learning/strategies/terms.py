"""The strategies that a plan can name, each with its settings; unknown names and keys are refused.

Types are checked here, ranges and defaults are the constructors'.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from wardian._internal.settings import Settings
from wardian.errors import ConfigError
from wardian.learning.strategies.bagging import Bagging
from wardian.learning.strategies.fedavg import FedAvg
from wardian.learning.strategies.fedprox import FedProx
from wardian.learning.strategies.optimisers import FedAdam, FedAvgM, FedYogi
from wardian.learning.strategies.robust import Krum, Median, TrimmedMean
from wardian.learning.strategies.scaffold import Scaffold
from wardian.learning.strategies.strategy import Strategy

Real = float | msgspec.UnsetType
Whole = int | msgspec.UnsetType


class NoTerms(Settings, frozen=True, kw_only=True):
    """Of `fedavg` and `median`: there is nothing to set."""


class BaggingTerms(Settings, frozen=True, kw_only=True):
    """Of `bagging`; see `Bagging`."""

    columns: int
    outputs: Whole = msgspec.UNSET
    trees: Whole = msgspec.UNSET
    depth: Whole = msgspec.UNSET
    leaf: Real = msgspec.UNSET


class FedProxTerms(Settings, frozen=True, kw_only=True):
    """Of `fedprox`; see `FedProx`."""

    mu: Real = msgspec.UNSET


class FedAvgMTerms(Settings, frozen=True, kw_only=True):
    """Of `fedavgm`; see `FedAvgM`."""

    lr: Real = msgspec.UNSET
    momentum: Real = msgspec.UNSET


class AdaptiveTerms(Settings, frozen=True, kw_only=True):
    """Of `fedadam` and `fedyogi`; see `FedAdam`."""

    lr: Real = msgspec.UNSET
    beta_1: Real = msgspec.UNSET
    beta_2: Real = msgspec.UNSET
    tau: Real = msgspec.UNSET


class ScaffoldTerms(Settings, frozen=True, kw_only=True):
    """Of `scaffold`; see `Scaffold`. A plan knows how many `parties` there are."""

    parties: int
    lr: Real = msgspec.UNSET


class TrimmedMeanTerms(Settings, frozen=True, kw_only=True):
    """Of `trimmed-mean`; see `TrimmedMean`."""

    cut: Real = msgspec.UNSET


class KrumTerms(Settings, frozen=True, kw_only=True):
    """Of `krum`; see `Krum`. With `keep` above 1 it is multi-Krum."""

    liars: int
    keep: Whole = msgspec.UNSET


STRATEGIES: Final[Mapping[str, tuple[type[Settings], Callable[..., Strategy]]]] = {
    "bagging": (BaggingTerms, Bagging),
    "fedadam": (AdaptiveTerms, FedAdam),
    "fedavg": (NoTerms, FedAvg),
    "fedavgm": (FedAvgMTerms, FedAvgM),
    "fedprox": (FedProxTerms, FedProx),
    "fedyogi": (AdaptiveTerms, FedYogi),
    "krum": (KrumTerms, Krum),
    "median": (NoTerms, Median),
    "scaffold": (ScaffoldTerms, Scaffold),
    "trimmed-mean": (TrimmedMeanTerms, TrimmedMean),
}


def build_strategy(terms: Mapping[str, Any], *, parties: int | None = None) -> Strategy:
    """Return the strategy that a plan's table `[strategy]` states: its `name`, and its settings.

    Args:
        terms: the table.
        parties: how many the plan names: for a strategy that has to know, and is not told.

    Raises:
        ConfigError: see `build`; or there is no name, or it is told another number of parties.
    """
    name = terms.get("name")
    if not isinstance(name, str):
        raise ConfigError("strategy: name: is missing, or no text")
    settings = {key: value for key, value in terms.items() if key != "name"}
    if parties is not None and name == "scaffold":
        settings.setdefault("parties", parties)
        if settings["parties"] != parties:
            raise ConfigError(f"strategy {name}: parties: there are {parties}")
    return build(name, settings)


def build(name: str, settings: Mapping[str, Any]) -> Strategy:
    """Return a new strategy: the one called `name`, with `settings`.

    Raises:
        ConfigError: there is no such strategy, or no such setting, or one is out of range.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"strategy: name: there are {', '.join(STRATEGIES)}")
    kind, make = STRATEGIES[name]
    try:
        terms = msgspec.convert(dict(settings), kind, strict=True)
    except msgspec.ValidationError as err:
        raise ConfigError(f"strategy {name}: {err}") from err
    given = msgspec.structs.asdict(terms)
    return make(**{key: value for key, value in given.items() if value is not msgspec.UNSET})
