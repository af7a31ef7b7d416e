"""What rounds of Gaussian noise cost, by arithmetic alone: the books that are kept in the enclave.

This is the one case that a plan can name: `Sampling.OPEN`, and noise that is the same for all. It
holds for the noise as it is drawn, since the discrete Gaussian on a grid has the divergences of the
continuous one (Canonne, Kamath and Steinke 2020, corollary 16 and proposition 12). `dp-accounting`
gives the same numbers by the same bound (`accounting`, and a test that compares them); it would
bring scipy and compiled code of 90 MB into what is measured.

What noise a budget buys decides on what grid it is drawn, and one debit has one result. So it comes
out alike on every processor: logarithms are taken in decimal digits, and all else is of operations
that IEEE 754 rounds one way. A mathematical library's own differ by the kind of processor.
"""

import decimal
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from wardian.errors import ConfigError
from wardian.learning.privacy.accounting import Releases, Sampling, verify_budget
from wardian.learning.privacy.mean import MOST_NOISE

ORDERS: Final = (
    *(1 + step / 10 for step in range(1, 100)),
    *range(11, 64),
    *(128, 256, 512, 1024),
)
"""Of the Renyi divergences that are tried: those of `dp-accounting`."""
_TOLERANCE: Final = 1e-6
_LEAST: Final = 2.0**-4
_DIGITS: Final = decimal.Context(prec=60)


def gaussian_epsilon(releases: Sequence[Releases], delta: float) -> float:
    """Return the epsilon, at `delta`, of all `releases` together.

    Raises:
        ConfigError: a number is out of range, or a sampling other than `open`.
    """
    verify_budget(delta=delta)
    if any(each.sampling is not Sampling.OPEN for each in releases):
        raise ConfigError("privacy: these books know rounds whose cohort may be known, alone")
    per_order = sum(each.rounds / (2 * each.noise * each.noise) for each in releases)
    least, added = _conversions(delta)
    divergences = [order * per_order for order in ORDERS]
    return min(
        max(0.0, divergence + more) if divergence >= least else 0.0
        for divergence, more in zip(divergences, added, strict=True)
    )


def noise_within(*, epsilon: float, delta: float, rounds: int, parties: int) -> float:
    """Return the least noise multiplier with which so many rounds cost `epsilon`, and no more.

    It is at most a millionth too large, and 1/16 or more.

    Raises:
        ConfigError: a number is out of range, or no noise that is accepted is enough.
    """
    verify_budget(epsilon=epsilon, delta=delta)

    def affordable(noise: float) -> bool:
        each = Releases(
            rounds=rounds, noise=noise, rate=1.0, parties=parties, sampling=Sampling.OPEN
        )
        return gaussian_epsilon((each,), delta) <= epsilon

    low, high = _LEAST, _LEAST
    while not affordable(high):
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise ConfigError("privacy: no noise is enough for this epsilon and delta")
    while high - low > _TOLERANCE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if affordable(middle) else (middle, high)
    return high


@lru_cache(maxsize=64)
def _conversions(delta: float) -> tuple[float, tuple[float, ...]]:
    """Return how Renyi divergences become an epsilon at `delta`.

    Returns:
        The divergence below which it is 0, and of each of `ORDERS` what is added to one.
    """
    with decimal.localcontext(_DIGITS):
        small, one = decimal.Decimal(delta), decimal.Decimal(1)
        orders = [decimal.Decimal(order) for order in ORDERS]
        added = ((one - one / at).ln() - (small * at).ln() / (at - 1) for at in orders)
        return float(-(one - small * small).ln()), tuple(map(float, added))
