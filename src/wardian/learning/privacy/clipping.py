"""How long an update may be: a fixed norm, or one that follows a quantile of the norms. Pure.

Adaptive clipping is that of Andrew, Thakkar, McMahan and Ramaswamy, "Differentially private
learning with adaptive clipping", NeurIPS 2021, with their constants as defaults. Beside its update
each party's part has one more coordinate: +1/2 if its update was not clipped, -1/2 if it was. Their
noisy mean tells which share of the updates was not clipped, and the clip moves towards the quantile
geometrically. Both are noised together: the update with more noise than `noise` says, so that
update and bit in all lose what one release with `noise` loses.
"""

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Final

from wardian.errors import ConfigError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.privacy.mean import (
    LEAST_CLIP,
    LEAST_NOISE,
    MOST_CLIP,
    MOST_NOISE,
    Measured,
    measure,
    noisy_mean,
    private_mean,
    verify,
    verify_noise,
)
from wardian.learning.privacy.noise import SCALE, DiscreteGaussian, NoiseSource
from wardian.learning.replies import Replies

BIT_SHARE: Final = 20
"""The bits' noise is the expected number of parties over this, where a plan says nothing."""
_FAR: Final = 200.0  # exp of it is farther than the least clip is from the most


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedClip:
    """Updates of more than `norm` are scaled down to it, 2**-100 to 2**100."""

    norm: float

    def first(self) -> float:
        """Return the clip of the first round."""
        return self.norm


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveClip:
    """The clip follows a quantile of the updates' norms.

    Attributes:
        initial: of the first round.
        quantile: the share of updates that should not be clipped, 0 to 1.
        rate: how fast; by exp(rate) a round at most, but for noise.
        bit_noise: standard deviation of the noise on the number of updates that were not clipped;
            None: a twentieth of the expected number of parties.
    """

    initial: float = 0.1
    quantile: float = 0.5
    rate: float = 0.2
    bit_noise: float | None = None

    def first(self) -> float:
        """Return the clip of the first round."""
        return self.initial

    def verify(self) -> None:
        """Return if the settings are in range; raise ConfigError if not."""
        if not 0 <= self.quantile <= 1:
            raise ConfigError("privacy: quantile is a share of 0 to 1")
        if not 0 < self.rate <= 1:
            raise ConfigError("privacy: rate is a number above 0, at most 1")
        if self.bit_noise is not None and not LEAST_NOISE <= self.bit_noise <= MOST_NOISE:
            raise ConfigError("privacy: bit_noise is a number of 2**-10 to 2**20")

    def noise_of_bits(self, expected: int) -> float:
        """Return the standard deviation of the noise on the number of bits that are set."""
        return expected / BIT_SHARE if self.bit_noise is None else self.bit_noise

    def noise_of_updates(self, noise: float, expected: int) -> float:
        """Return the updates' noise multiplier, so that with the bits `noise` is spent (theorem 1).

        Raises:
            ConfigError: the bits alone would spend as much.
        """
        bits = 2 * self.noise_of_bits(expected)
        if not bits > noise:
            raise ConfigError(
                f"privacy: with noise {noise:g} bit_noise is more than {noise / 2:g}: for adaptive "
                f"clipping set it, or let more than {BIT_SHARE * noise / 2:g} parties be expected"
            )
        return 1 / math.sqrt(noise**-2 - bits**-2)

    def next(self, clip: float, unclipped: float) -> float:
        """Return the clip after a round in which the share `unclipped` was not clipped."""
        exponent = -self.rate * (unclipped - self.quantile)
        moved = clip * math.exp(min(max(exponent, -_FAR), _FAR))
        return min(max(moved, LEAST_CLIP), MOST_CLIP)


class PrivateMean:
    """Makes the private mean of round after round, with a clip that it is told.

    Attributes:
        clipping: how long an update may be.
        noise: the noise multiplier that a round counts as.
        expected: by how many parties sums are divided.
    """

    __slots__ = ("clipping", "expected", "noise")

    def __init__(self, clipping: FixedClip | AdaptiveClip, *, noise: float, expected: int) -> None:
        """Make means so; for the ranges see `mean.private_mean`.

        Raises:
            ConfigError: a setting is out of range, or does not go with the others.
        """
        verify(ArrayRecord(), clip=clipping.first(), noise=noise, expected=expected)
        if isinstance(clipping, AdaptiveClip):
            clipping.verify()
            verify_noise(clipping.noise_of_updates(noise, expected))
        self.clipping, self.noise, self.expected = clipping, noise, expected

    def make(
        self,
        replies: Replies,
        record: str,
        arrays: ArrayRecord,
        *,
        clip: float,
        random: NoiseSource,
    ) -> tuple[ArrayRecord, float]:
        """Return `arrays` moved by the noisy mean of the updates in `record`, and the next clip.

        The clips may be published.

        Args:
            replies: see `private_mean`.
            record: see `private_mean`.
            arrays: see `private_mean`.
            clip: of this round: `clipping.first()`, or what the round before returned.
            random: asked once.

        Raises:
            ConfigError: the clip is out of range, or an array is not of floating point.
            FormatError: the result is more than the kind of an array holds; names the array.
        """
        if isinstance(self.clipping, FixedClip):
            made = private_mean(
                replies, record, arrays,
                clip=clip, noise=self.noise, expected=self.expected, random=random,
            )  # fmt: skip
            return made, clip
        verify(arrays, clip=clip, noise=self.noise, expected=self.expected)
        measured = measure(replies, record, arrays)
        bit_noise = self.clipping.noise_of_bits(self.expected)
        settings = struct.pack("<dddQ", clip, self.noise, bit_noise, self.expected)
        source = random.noise(hashlib.sha256(measured.digest + settings).digest())
        unclipped = noisy_share(
            measured, clip=clip, noise=bit_noise, expected=self.expected, source=source
        )
        made = noisy_mean(
            replies, record, arrays, measured,
            clip=clip, noise=self.clipping.noise_of_updates(self.noise, self.expected),
            expected=self.expected, source=source,
        )  # fmt: skip
        return made, self.clipping.next(clip, unclipped)


def noisy_share(
    measured: Measured, *, clip: float, noise: float, expected: int, source: DiscreteGaussian
) -> float:
    """Return which share of `expected` updates is within `clip`, with noise; any number.

    On the grid, one party's part is a whole number of at most `SCALE / (2 * noise)`.
    """
    half = math.trunc(SCALE / (2 * noise))
    total = half * (2 * measured.within(clip) - len(measured.norms)) + int(source.draw(1)[0])
    return total * noise / SCALE / expected + 0.5
