"""What rounds of Gaussian noise cost, by arithmetic alone: the books that are kept in the enclave.

This is the one case that a plan can name: `Sampling.OPEN`, and noise that is the same for all. It
holds for the noise as it is drawn, since the discrete Gaussian on a grid has the divergences of the
continuous one (Canonne, Kamath and Steinke 2020, corollary 16 and proposition 12). `dp-accounting`
gives the same numbers by the same bound (`accounting`, and a test that compares them); it would
bring scipy and compiled code of 90 MB into what is measured.
"""

import math
from collections.abc import Sequence
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


def gaussian_epsilon(releases: Sequence[Releases], delta: float) -> float:
    """Return the epsilon, at `delta`, of all `releases` together.

    Raises:
        ConfigError: a number is out of range, or a sampling other than `open`.
    """
    verify_budget(delta=delta)
    if any(each.sampling is not Sampling.OPEN for each in releases):
        raise ConfigError("privacy: these books know rounds whose cohort may be known, alone")
    per_order = sum(each.rounds / (2 * each.noise**2) for each in releases)
    return min(_converted(order, order * per_order, delta) for order in ORDERS)


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


def _converted(order: float, divergence: float, delta: float) -> float:
    """Return the epsilon that a Renyi divergence of this order gives at `delta`, 0 or more."""
    if delta**2 + math.expm1(-divergence) > 0:
        return 0.0
    return max(0.0, divergence + math.log1p(-1 / order) - math.log(delta * order) / (order - 1))
