"""Noise: whole numbers of the discrete Gaussian distribution, drawn from a keystream. Pure.

A Gaussian that is computed in floating point and added to a sum leaves holes and patterns in the
low bits of the result, which give the sum away (Mironov, "On significance of the least significant
bits for differential privacy", CCS 2012). So sums here are whole numbers on a fixed grid, and what
is added are whole numbers z with a probability proportional to exp(-z**2 / (2 * SCALE**2)). Such
noise has at most the Renyi divergences of continuous Gaussian noise of the same standard deviation
(Canonne, Kamath, Steinke, "The discrete Gaussian for differential privacy", NeurIPS 2020,
theorem 4), coordinate by coordinate, hence also in a vector.

Sampling is by rejection, as there, and compares whole numbers only. Each proposal takes 16 bytes:

    V     a number of 0 to 15 with probability 2**-(V + 1): the trailing zeros of 16 bits
    U     24 bits; the candidate is U + SCALE * V
    sign  1 bit; minus zero is rejected, so that zero does not come up twice as often
    R     87 bits; the candidate is taken if R < 2**87 * p(candidate), where
          p = 2**(V - 1) * exp(1/2 - candidate**2 / (2 * SCALE**2)), which is 1 at most

`numpy` evaluates p for all proposals at once. Where that is too close to R to be sure, the
comparison is made again with 60 digits: so the result is that of exact arithmetic, and the same on
every processor. A number's distribution is off by less than 2**-80 in all: p is cut after 87 bits,
and nothing beyond 16 standard deviations is ever proposed.
"""

import decimal
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from wardian._internal import wire
from wardian.crypto.kdf import hkdf
from wardian.crypto.keystream import Keystream
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError

SCALE_BITS: Final = 24
SCALE: Final = 2**SCALE_BITS
"""Standard deviation of the noise, in steps of the grid: so fine that what is lost to the grid is
nothing beside the noise."""
LABEL: Final = "wardian privacy noise v1"

_BITS: Final = 87  # of R: 64 of its own word, and what the other one has left
_LOW_BITS: Final = 23
_V_BITS: Final = 16
_SURE: Final = 2.0**-40  # far more than what rounding and `exp` can be off, relatively
_BATCH: Final = 2**16
_YIELD: Final = 0.51  # of all proposals, 0.5166 are taken
_DIGITS: Final = decimal.Context(prec=60)


class DiscreteGaussian:
    """Whole numbers of standard deviation `SCALE` around 0, each independent of the others."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Keystream) -> None:
        """Draw from `stream`, from where it is."""
        self._stream = stream

    def draw(self, count: int) -> NDArray[np.int64]:
        """Return the next `count` numbers, each of less than 2**28 in size.

        The same stream and the same counts give the same numbers.
        """
        drawn = np.empty(count, np.int64)
        done = 0
        while done < count:
            proposals = min(_BATCH, int((count - done) / _YIELD) + 16)
            found = accepted(self._stream.take(16 * proposals))[: count - done]
            drawn[done : done + len(found)] = found
            done += len(found)
        return drawn


class NoiseSource(Protocol):
    """Gives noise for one result: asked once for each, before the result exists."""

    def noise(self, inputs: bytes) -> DiscreteGaussian:
        """Return the noise of what is made of inputs with this digest, 32 bytes."""
        ...


class Randomness:
    """Where the noise of one round comes from: nobody outside of the enclave foresees it.

    The keystream depends on the enclave's secret, the run, the round, and on everything that goes
    into the result. So a round that is worked out again after a crash, from the same answers, gives
    the same result bit for bit, and its noise cannot be averaged away by doing so often; and no two
    results that differ in what went in have the same noise, which would show the difference.
    """

    __slots__ = ("_number", "_run", "_secret")

    def __init__(self, secret: Secret, *, run: bytes, number: int) -> None:
        """Derive the noise of round `number` of `run`.

        Args:
            secret: of the enclave, kept with the run's sealed state; 32 bytes of full entropy.
            run: 32 bytes that name the run.
            number: from 1.

        Raises:
            LocalProtocolError: a secret of another length, or no round.
        """
        if len(secret) != 32 or number < 1:
            raise LocalProtocolError("noise takes a secret of 32 bytes, and a round from 1")
        self._secret, self._run, self._number = secret, run, number

    def noise(self, inputs: bytes) -> DiscreteGaussian:
        """See `NoiseSource`."""
        info = wire.fields(LABEL, self._number.to_bytes(8), inputs)
        return DiscreteGaussian(Keystream(hkdf(self._secret, salt=self._run, info=info)))


def accepted(raw: bytes) -> NDArray[np.int64]:
    """Return the numbers that the proposals in `raw`, 16 bytes each, amount to, in their order."""
    first, second = np.frombuffer(raw, "<u8").reshape(-1, 2).T.astype(np.uint64)
    heads = first >> np.uint64(64 - _V_BITS)  # (proposals,)
    lowest = heads & (~heads + np.uint64(1))
    zeros = np.maximum(np.frexp(lowest.astype(np.float64))[1] - 1, 0).astype(np.int64)
    minus = (first >> np.uint64(_LOW_BITS + SCALE_BITS)) & np.uint64(1) == np.uint64(1)
    within = (first >> np.uint64(_LOW_BITS)) & np.uint64(SCALE - 1)
    sizes = within.astype(np.int64) + (zeros << SCALE_BITS)
    exponents = 0.5 - np.square(sizes).astype(np.float64) / (2.0 * SCALE * SCALE)
    likely = np.ldexp(np.exp(exponents), zeros - 1)
    random = second.astype(np.float64) * 2.0**-64
    taken = random < likely
    for place in np.flatnonzero(np.abs(random - likely) <= likely * _SURE):
        low = int(first[place]) & (2**_LOW_BITS - 1)
        drawn = int(second[place]) << _LOW_BITS | low
        taken[place] = drawn < threshold(int(zeros[place]), int(sizes[place]))
    taken &= (heads != 0) & ~(minus & (sizes == 0))
    numbers: NDArray[np.int64] = np.where(minus, -sizes, sizes)[taken]
    return numbers


def threshold(zeros: int, size: int) -> int:
    """Return 2**87 * p of a candidate, rounded down: how many values of R take it."""
    with decimal.localcontext(_DIGITS):
        exponent = decimal.Decimal(1) / 2 - decimal.Decimal(size**2) / (2 * SCALE**2)
        return int(exponent.exp() * 2 ** (_BITS + zeros) / 2)
