"""The mean of a cohort's updates, of which no single one moves it much, with noise. Pure.

An update is the difference of a party's arrays from the round's model. Each is scaled down to an L2
norm of `clip` over all arrays together, if it is longer, and rounded towards zero to a grid whose
step is `noise * clip / SCALE`. What is on the grid is added up in whole numbers, evenly weighted;
noise of standard deviation `SCALE` comes on top, once; the sum is divided by a number of parties
that was fixed beforehand. Only then it becomes floating point again.

So, in steps of the grid, one party's part is a vector of whole numbers no longer than
`SCALE / noise`: adding or removing a party, or having it send nothing, changes the sum by at most
that. Replacing one changes it by at most twice that. A party whose update is too large for the
arithmetic, or no number at all, counts as one that sent the model back unchanged; it stops nobody,
and says nothing.

Everything is the same whatever the order of arrival, and on every processor: nothing goes through
BLAS, whose sums depend on it.
"""

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wardian._internal import wire
from wardian.errors import ConfigError, FormatError
from wardian.learning.arrays import Array, ArrayRecord
from wardian.learning.privacy.noise import SCALE, DiscreteGaussian, NoiseSource
from wardian.learning.replies import Block, Replies

LEAST_NOISE: Final = 2.0**-10
MOST_NOISE: Final = 2.0**20
"""Of the noise multiplier: the ratio of the noise's standard deviation to the clip."""
LEAST_CLIP: Final = 2.0**-100
MOST_CLIP: Final = 2.0**100
MOST_PARTIES: Final = 2**20
"""So that the sums fit into 64 bits with room to spare."""
LABEL: Final = "wardian private mean v1"

_MARGIN: Final = 1 - 2.0**-32
"""Norms are computed to 2**-38; by this much less than the clip nothing exceeds it."""
_FLOATS: Final = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a first pass over the updates finds.

    Attributes:
        norms: of each party's update, in the order of `Replies.parties`; infinite or NaN where it
            is beyond the arithmetic. (parties,)
        digest: SHA-256 over the parties' names, the record and every value.
    """

    norms: NDArray[np.float64]
    digest: bytes

    def within(self, clip: float) -> int:
        """Return how many updates are no longer than `clip`."""
        return int(np.count_nonzero(self.norms <= clip))


def private_mean(
    replies: Replies,
    record: str,
    arrays: ArrayRecord,
    *,
    clip: float,
    noise: float,
    expected: int,
    random: NoiseSource,
) -> ArrayRecord:
    """Return `arrays` moved by the noisy mean of the updates in `record`.

    Args:
        replies: of the cohort, at most 2**20 parties; gone through twice.
        record: of which the arrays fit `arrays`.
        arrays: the round's model: floating point alone.
        clip: the longest that an update may be, 2**-100 to 2**100.
        noise: the noise multiplier, 2**-10 to 2**20.
        expected: by how many parties the sum is divided: those of the plan, whoever came.
        random: of this round.

    Raises:
        ConfigError: a setting is out of range, or an array is not of floating point.
        FormatError: the record's arrays are not those of the model, or the result is more than the
            kind of an array holds; names the array.
    """
    verify(arrays, clip=clip, noise=noise, expected=expected)
    measured = measure(replies, record, arrays)
    settings = struct.pack("<ddQ", clip, noise, expected)
    source = random.noise(hashlib.sha256(measured.digest + settings).digest())
    return noisy_mean(
        replies, record, arrays, measured,
        clip=clip, noise=noise, expected=expected, source=source,
    )  # fmt: skip


def verify(arrays: ArrayRecord, *, clip: float, noise: float, expected: int) -> None:
    """Return if a private mean can be made so.

    Raises:
        ConfigError: a setting is out of range, or an array is not of floating point.
    """
    if not LEAST_CLIP <= clip <= MOST_CLIP:  # NaN is in no range
        raise ConfigError("privacy: clip is a number of 2**-100 to 2**100")
    verify_noise(noise)
    if not 1 <= expected <= MOST_PARTIES:
        raise ConfigError(f"privacy: expected is a whole number of 1 to {MOST_PARTIES}")
    for name, array in arrays.items():
        if array.dtype.name not in _FLOATS:
            raise ConfigError(
                f"privacy: the array {name} is of kind {array.dtype.name}: only floating point can "
                "be clipped and noised. Leave it out of what parties send"
            )


def verify_noise(noise: float) -> None:
    """Return if `noise` is a noise multiplier that is accepted; raise ConfigError if not."""
    if not LEAST_NOISE <= noise <= MOST_NOISE:
        raise ConfigError("privacy: noise is a number of 2**-10 to 2**20")


def measure(replies: Replies, record: str, arrays: ArrayRecord) -> Measured:
    """Return the norm of each update in `record` of `replies` against `arrays`, and their digest.

    Raises:
        ConfigError: there are too many parties.
        FormatError: the record's arrays are not those of the model.
    """
    if len(replies.parties) > MOST_PARTIES:
        raise ConfigError(f"privacy: at most {MOST_PARTIES} parties answer a round")
    if not ArrayRecord(replies.shapes(record)).fits(arrays):
        raise FormatError(f"privacy: the arrays of {record} are not those of the model")
    squares = np.zeros(len(replies.parties))
    names = (party.encode() for party in replies.parties)
    found = hashlib.sha256(wire.fields(LABEL, record.encode(), *names))
    for block in replies.blocks(record):
        values = np.ascontiguousarray(block.values)
        shape = struct.pack("<QQ", block.start, values.shape[1])
        found.update(wire.fields(block.array, values.dtype.str.encode(), shape))
        found.update(_model_part(arrays, block).tobytes())
        found.update(values.reshape(-1).data)
        with np.errstate(over="ignore", invalid="ignore"):
            for place, update in _updates(block, arrays):
                squares[place] += np.sum(np.square(update))
    return Measured(norms=np.sqrt(squares), digest=found.digest())


def noisy_mean(
    replies: Replies,
    record: str,
    arrays: ArrayRecord,
    measured: Measured,
    *,
    clip: float,
    noise: float,
    expected: int,
    source: DiscreteGaussian,
) -> ArrayRecord:
    """Return `arrays` moved by the noisy mean of the updates that `measured` tells of.

    Raises:
        FormatError: the result is more than the kind of an array holds; names the array.
    """
    step = noise * clip / SCALE
    made: dict[str, Array] = {name: np.empty_like(array) for name, array in arrays.items()}
    for block, total in clipped_sums(replies, record, arrays, measured, clip=clip, noise=noise):
        noised = total + source.draw(len(total))
        kept = made[block.array].reshape(-1)[block.start :][: len(total)]
        with np.errstate(over="ignore"):
            kept[:] = _model_part(arrays, block) + noised * (step / expected)
        if not np.isfinite(kept).all():
            raise FormatError(f"privacy: the array {block.array} grew beyond its kind of elements")
    return ArrayRecord(made)


def clipped_sums(
    replies: Replies,
    record: str,
    arrays: ArrayRecord,
    measured: Measured,
    *,
    clip: float,
    noise: float,
) -> Iterator[tuple[Block, NDArray[np.int64]]]:
    """Yield each block with the sum of the clipped updates there, in steps of the grid.

    The parts of one party, over all blocks, are together no longer than `SCALE / noise`.
    """
    scale = factors(measured.norms, clip=clip, noise=noise)
    for block in replies.blocks(record):
        total = np.zeros(block.values.shape[1], np.int64)
        with np.errstate(over="ignore", invalid="ignore"):
            for place, update in _updates(block, arrays):
                if scale[place]:  # else the update may hold what is no number
                    total += np.trunc(update * scale[place]).astype(np.int64)
        yield block, total


def factors(norms: NDArray[np.float64], *, clip: float, noise: float) -> NDArray[np.float64]:
    """Return what each update is multiplied by: clipped, and in steps of the grid. (parties,)."""
    limit = clip * _MARGIN
    known = np.where(np.isfinite(norms), norms, math.inf)
    return (SCALE / noise) * _MARGIN / np.maximum(known, limit)


def _updates(block: Block, arrays: ArrayRecord) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield each party's place, and its values less the model's."""
    before = _model_part(arrays, block)
    for place, values in enumerate(block.values):
        yield place, values.astype(np.float64) - before


def _model_part(arrays: ArrayRecord, block: Block) -> NDArray[np.float64]:
    whole: NDArray[Any] = arrays[block.array].reshape(-1)
    return whole[block.start :][: block.values.shape[1]].astype(np.float64)
