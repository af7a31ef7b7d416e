"""Updates as whole numbers mod 2^64, so that masks cancel to the last bit.

A value becomes the nearest multiple of 2^-fraction_bits, times the party's weight; the last element
of a vector is the weight itself, so that the weights are masked as well. What does not fit is
refused, never wrapped: sums are bounded for the whole roster when the codec is made.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian.crypto.masks import Ring
from wardian.errors import ConfigError, FormatError, LocalProtocolError

MAX_FRACTION_BITS: Final = 52
MAX_SUM: Final = 2**63 - 1
"""Of a coordinate's absolute value: the numbers are read as signed ones."""
_BLOCK: Final = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPoint:
    """The form of a run's vectors, the same for all parties.

    Attributes:
        fraction_bits: 0 to 52; a value is off by at most 2^-(fraction_bits + 1).
        bound: the largest absolute value of an update's coordinate; parties clip to it before.
        max_weight: the largest weight of a party, 1 or more; 1 for an unweighted sum.
        parties: how many there are on the roster.
    """

    fraction_bits: int
    bound: float
    max_weight: int
    parties: int

    def __post_init__(self) -> None:
        """Refuse a form in which a sum could wrap.

        Raises:
            ConfigError: names the setting.
        """
        if not 0 <= self.fraction_bits <= MAX_FRACTION_BITS:
            raise ConfigError(f"masking: `fraction_bits` is 0 to {MAX_FRACTION_BITS}")
        if not 0 < self.bound < 2.0**63:  # not so for NaN and infinity either
            raise ConfigError("masking: `bound` is a positive number below 2^63")
        if self.max_weight < 1 or self.parties < 1:
            raise ConfigError("masking: `max_weight` and the number of parties are 1 or more")
        if self.limit < 1:
            raise ConfigError("masking: `bound` is less than one step of `fraction_bits`")
        if self.parties * self.max_weight * self.limit > MAX_SUM:
            raise ConfigError(
                f"masking: a sum of {self.parties} parties could wrap: `bound` * `max_weight` * "
                "2^`fraction_bits` * parties has to be below 2^63"
            )

    @property
    def limit(self) -> int:
        """The largest absolute value of a coordinate before weighting, in steps."""
        return round(self.bound * 2.0**self.fraction_bits)

    def encode(self, values: NDArray[Any], *, weight: int) -> Ring:
        """Return `values` times `weight`, and the weight, as numbers mod 2^64.

        Args:
            values: (elements,), floating point.
            weight: 1 to `max_weight`.

        Returns:
            (elements + 1,).

        Raises:
            FormatError: a value is not finite or beyond the bound; or the weight is out of range.
        """
        if values.ndim != 1 or values.dtype.kind != "f":
            raise LocalProtocolError("a vector of floating-point numbers is encoded")
        if not 1 <= weight <= self.max_weight:
            raise FormatError("masking: the weight is out of the range that was agreed on")
        encoded = np.empty(values.size + 1, np.int64)
        encoded[-1] = weight
        for start in range(0, values.size, _BLOCK):
            part = values[start : start + _BLOCK]  # (at most a block,)
            with np.errstate(over="ignore", invalid="ignore"):
                scaled = np.multiply(part, 2.0**self.fraction_bits, dtype=np.float64)
            np.rint(scaled, out=scaled)
            if not (np.abs(scaled) <= self.limit).all():  # not so for NaN
                raise FormatError(
                    f"masking: a value at {start} to {start + part.size - 1} is not finite, or "
                    "beyond the bound that was agreed on"
                )
            np.multiply(scaled.astype(np.int64), weight, out=encoded[start : start + part.size])
        return encoded.view(np.uint64)

    def decode(self, total: Ring) -> tuple[NDArray[np.float64], int]:
        """Return the weighted mean of what was encoded, and the sum of the weights.

        Args:
            total: (elements + 1,), the sum of what up to `parties` parties encoded.

        Returns:
            The mean, (elements,), and the weight, 1 or more.

        Raises:
            FormatError: no parties within the bounds have this sum: one did not keep to them.
        """
        signed = total.view(np.int64)
        weight, sums = int(signed[-1]), signed[:-1]
        most = weight * self.limit
        if not 1 <= weight <= self.parties * self.max_weight or not (
            -most <= int(sums.min(initial=0)) and int(sums.max(initial=0)) <= most
        ):
            raise FormatError("masking: a party did not keep to the bounds: the sum is of no use")
        mean = sums.astype(np.float64)
        mean /= weight
        mean *= 2.0**-self.fraction_bits
        return mean, weight
