"""What a job tosses: independent uses of one seed that nobody outside of the enclave knows."""

import hashlib
from collections.abc import Sequence
from typing import Final

from wardian._internal import wire
from wardian.broker.jobs.plan import JobPlan, plan_digest
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError
from wardian.learning.privacy.noise import DiscreteGaussian, Randomness
from wardian.learning.shared.joining import Joined

SEED_BYTES: Final = 32
_TRAINING: Final = "wardian job training seed v1"
_JOINING: Final = "wardian job joining key v1"
_NOISE: Final = "wardian job noise v1"


class Seeds:
    """Derived from the seed of a job and its plan: the same job made again tosses the same."""

    __slots__ = ("_plan", "_run", "_seed")

    def __init__(self, seed: Secret, plan: JobPlan) -> None:
        """Derive from `seed`, 32 bytes of full entropy.

        Raises:
            LocalProtocolError: another length.
        """
        if len(seed) != SEED_BYTES:
            raise LocalProtocolError(f"the seed of a job has {SEED_BYTES} bytes")
        self._seed, self._plan, self._run = seed, plan, plan_digest(plan)

    @property
    def joining(self) -> Secret:
        """The key of identifiers' tags, 32 bytes."""
        return hkdf(self._seed, salt=self._run, info=wire.fields(_JOINING))

    @property
    def training(self) -> int:
        """What training tosses from, 0 to 2**32 - 1: the plan's number, or a derived one."""
        if self._plan.seed != "derived":
            return self._plan.seed % 2**32
        derived = hkdf(self._seed, salt=self._run, info=wire.fields(_TRAINING), length=16)
        return int.from_bytes(derived.reveal()) % 2**32

    def noise(self, joined: Joined) -> DiscreteGaussian:
        """Return the noise of all that is told of `joined`, drawn in one order.

        It depends on every value that goes in: no two results that differ in what went in have the
        same noise, which would show the difference.
        """
        secret = hkdf(self._seed, salt=self._run, info=wire.fields(_NOISE))
        return Randomness(secret, run=self._run, number=1).noise(_digest(joined))


def _digest(joined: Joined) -> bytes:
    """Return SHA-256 of all values of `joined`."""
    parts: Sequence[bytes] = [
        *(joined.columns[name].astype("<f8").tobytes() for name in joined.names),
        b"" if joined.label is None else joined.label.astype("<f8").tobytes(),
    ]
    return hashlib.sha256(wire.fields(_NOISE, *parts)).digest()
