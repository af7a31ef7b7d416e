"""What noise costs: the epsilon of rounds, and the noise for an epsilon, by `dp-accounting`.

The unit is a party: what is protected is everything that one party contributed to the run. The
accountant is Google's, an extra (`pip install 'wardian[dp]'`); there is no other in its place.

Which rounds cost less because a party may not have been asked is a matter of who may know that it
was (`Sampling`). An operator sees whom the coordinator sends a model to, and a plan's seed is known
to everybody who reads the plan: against them nothing is gained, so `open` is the default.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, get_args

from wardian.errors import ConfigError
from wardian.learning.privacy.mean import MOST_NOISE, MOST_PARTIES, verify_noise

Method = Literal["rdp", "pld"]
"""Renyi divergences: quick. Privacy loss distributions: tighter by a tenth, and slower."""
MOST_ROUNDS: Final = 2**20

_TOLERANCE: Final = 1e-4  # relative, of a noise multiplier that is looked for, upwards
_LEAST_LOOKED_FOR: Final = 2.0**-4  # below, nobody would speak of privacy


class Sampling(StrEnum):
    """How a round's cohort comes about, and what neighbouring runs are."""

    OPEN = "open"
    """Who is asked may be known: no gain. One run has a party's updates, its neighbour has it send
    nothing."""
    POISSON = "poisson"
    """Each party is asked with the same probability, independently, by randomness that nobody
    knows whom the guarantee is meant against. Neighbours differ by a party."""
    FIXED = "fixed"
    """So many parties are asked, chosen evenly, likewise in secret. Neighbours have another party
    in one party's place: the noise counts half. Only by `rdp`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """Rounds that were, or are to be, published with the same noise.

    Attributes:
        rounds: how many.
        noise: the noise multiplier.
        rate: the share of the parties that is asked in a round, above 0, at most 1.
        parties: of the run.
        sampling: how they are chosen.
    """

    rounds: int
    noise: float
    rate: float
    parties: int
    sampling: Sampling

    def __post_init__(self) -> None:
        """Refuse what is out of range, with ConfigError."""
        if self.sampling not in tuple(Sampling):
            raise ConfigError(f"privacy: sampling is one of {', '.join(Sampling)}")
        if not 0 <= self.rounds <= MOST_ROUNDS:
            raise ConfigError(f"privacy: rounds is a whole number of 0 to {MOST_ROUNDS}")
        verify_noise(self.noise)
        if not 1 <= self.parties <= MOST_PARTIES:
            raise ConfigError(f"privacy: parties is a whole number of 1 to {MOST_PARTIES}")
        if not 0 < self.rate <= 1:
            raise ConfigError("privacy: of the parties a share above 0, at most 1, is asked")


def epsilon(
    *,
    rounds: int,
    cohort: int,
    parties: int,
    noise: float,
    delta: float,
    sampling: Sampling = Sampling.OPEN,
    method: Method = "rdp",
) -> float:
    """Return the epsilon, at `delta`, of `rounds` rounds with `cohort` of `parties` parties each.

    Raises:
        ConfigError: a number is out of range, the method does not know this sampling, or
            `dp-accounting` is not installed.
    """
    releases = _releases(rounds, cohort, parties, noise, sampling)
    return epsilon_of((releases,), delta=delta, method=method)


def epsilon_of(releases: Sequence[Releases], *, delta: float, method: Method) -> float:
    """Return the epsilon, at `delta`, of all `releases` together; infinite if there is no bound.

    By `rdp`, with sampling `open`, this holds for the noise as it is drawn. Otherwise the noise
    counts as continuous. What is drawn differs from that, rounded to the grid, by a total variation
    of less than `1.1e-16 * sqrt(rounds * elements)`; that times `1 + exp(epsilon)` is what to take
    off `delta` beforehand, if nothing at all is to be neglected.

    Raises:
        ConfigError: a number is out of range, the method does not know this sampling, or
            `dp-accounting` is not installed.
    """
    verify_budget(delta=delta)
    spent = [each for each in releases if each.rounds]
    if not spent:
        return 0.0
    accountant = _accountant(method, {each.sampling for each in spent})
    for each in spent:
        accountant.compose(_event(each), each.rounds)
    found = float(accountant.get_epsilon(delta))
    return math.inf if math.isnan(found) else found


def noise_for(
    *,
    epsilon: float,
    delta: float,
    rounds: int,
    cohort: int,
    parties: int,
    sampling: Sampling = Sampling.OPEN,
    method: Method = "rdp",
) -> float:
    """Return the least noise multiplier with which so many rounds cost `epsilon`, and no more.

    It is at most a ten thousandth too large, and 1/32 or more.

    Raises:
        ConfigError: as `epsilon`; or no noise that is accepted is enough.
    """
    verify_budget(epsilon=epsilon, delta=delta)

    def spends(noise: float) -> float:
        releases = _releases(rounds, cohort, parties, noise, sampling)
        return epsilon_of((releases,), delta=delta, method=method)

    low, high = _LEAST_LOOKED_FOR, 1.0
    if method == "pld":  # slow where the noise is far too small: begin where `rdp` ends
        high = noise_for(
            epsilon=epsilon, delta=delta, rounds=rounds,
            cohort=cohort, parties=parties, sampling=sampling,
        )  # fmt: skip
        low = high / 2
    while spends(high) > epsilon:
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise ConfigError("privacy: no noise is enough for this epsilon and delta")
    while high > _LEAST_LOOKED_FOR and spends(low) <= epsilon:
        low, high = low / 2, low
    while high - low > _TOLERANCE * high and high > _LEAST_LOOKED_FOR:
        middle = (low + high) / 2
        low, high = (low, middle) if spends(middle) <= epsilon else (middle, high)
    return high


def verify_budget(*, epsilon: float = 1.0, delta: float) -> None:
    """Return if these are bounds of a guarantee; raise ConfigError if not."""
    if not 0 < epsilon < math.inf:
        raise ConfigError("privacy: epsilon is a number above 0")
    if not 0 < delta < 1:
        raise ConfigError("privacy: delta is a number above 0 and below 1")


def _releases(rounds: int, cohort: int, parties: int, noise: float, sampling: Sampling) -> Releases:
    if not 1 <= cohort <= parties:
        raise ConfigError("privacy: a cohort is of 1 party or more, and at most of all")
    return Releases(
        rounds=rounds, noise=noise, rate=cohort / parties, parties=parties, sampling=sampling
    )


def _accountant(method: Method, samplings: set[Sampling]) -> Any:
    if method not in get_args(Method):
        raise ConfigError(f"privacy: the accountant is one of {', '.join(get_args(Method))}")
    if len(samplings) > 1:
        raise ConfigError("privacy: rounds of one run are all sampled the same way")
    fixed = Sampling.FIXED in samplings
    if method == "pld" and fixed:
        raise ConfigError("privacy: the accountant pld does not know sampling fixed; rdp does")
    library = _library()
    relations = library.NeighboringRelation
    relation = relations.REPLACE_ONE if fixed else relations.ADD_OR_REMOVE_ONE
    kind = library.pld.PLDAccountant if method == "pld" else library.rdp.RdpAccountant
    return kind(neighboring_relation=relation)


def _event(releases: Releases) -> Any:
    """Return one round of `releases` as `dp-accounting` speaks of it."""
    library = _library()
    if releases.sampling == Sampling.POISSON:
        each = library.GaussianDpEvent(releases.noise)
        return library.PoissonSampledDpEvent(releases.rate, each)
    if releases.sampling == Sampling.FIXED:
        # Replacing a party moves the sum by up to two clips; the library counts in such moves.
        each = library.GaussianDpEvent(releases.noise / 2)
        asked = max(1, math.ceil(releases.rate * releases.parties - 1e-6))
        return library.SampledWithoutReplacementDpEvent(releases.parties, asked, each)
    return library.GaussianDpEvent(releases.noise)


def _library() -> Any:
    try:
        import dp_accounting  # noqa: PLC0415  an extra
        import dp_accounting.pld  # noqa: PLC0415
        import dp_accounting.rdp  # noqa: PLC0415
    except ImportError as err:
        raise ConfigError(
            "privacy: the books are kept by dp-accounting, which is not installed: "
            "pip install 'wardian[dp]'"
        ) from err
    return dp_accounting
