"""What the errors of a model say of the labels, clipped and drowned in noise. Pure.

A party that computes its own part of a gradient needs the error of each record, and the error is
the label less what the model says. So errors leave the enclave only after two steps: each record's
is scaled down to a norm, and Gaussian noise is added. Everything else that a party gets is computed
from the noised errors, and the enclave, too, learns from these alone: so nothing else tells of
labels, however long the training.

How well anybody can tell one label from another, who knows all else and sees every look, is what
telling N(0, 1) from N(mu, 1) is (Gaussian differential privacy; Dong, Roth, Su 2019). With two
labels that are equally likely, no guess is right more often than Phi(mu / 2): 0.60 for mu = 0.5,
0.69 for mu = 1. The looks add up to mu, so each of many has more noise.

Limit: the noise is a double, and its lowest bits are those that the generator gives (Mironov 2012).
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from wardian._internal import wire
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, PolicyDenied
from wardian.learning.vertical.drawn import normals

_LABEL: Final = "wardian label noise v1"


class Protection(Protocol):
    """What happens to errors before anything leaves that was made of them."""

    def protect(self, errors: NDArray[Any], *, look: int, number: int) -> NDArray[Any]:
        """Return `errors`, (records, outputs), as they may leave.

        Args:
            errors: one row a record.
            look: how often errors of these records left before.
            number: of this call.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseTerms:
    """What the owner of the labels consented to.

    Attributes:
        mu: how distinguishable two labels of a record are by all that leaves, above 0.
        clip: the largest norm of a record's error; what is larger is scaled down to it.
    """

    mu: float = 1.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what protects nothing.

        Raises:
            ConfigError: a number is not finite, or not above 0.
        """
        if not (0 < self.mu < math.inf and 0 < self.clip < math.inf):
            raise ConfigError("label noise: `mu` and `clip` are numbers above 0")

    @property
    def most_guessed(self) -> float:
        """How often, at most, one of two equally likely labels is guessed: 0.5 to 1."""
        return 0.5 * math.erfc(-self.mu / math.sqrt(8))


class LabelNoise:
    """Clips and noises errors, as often as was agreed.

    The noise is that of the seed, of the call's number and of the errors. So whoever has a step
    repeated gets the same again, and nothing to average; and whoever has it repeated with other
    sums gets other noise, and no difference of two answers in which it is gone.
    """

    __slots__ = ("_clip", "_looks", "_seed", "sigma")

    def __init__(self, terms: NoiseTerms, *, looks: int, change: float, seed: Secret) -> None:
        """Noise errors under `terms`.

        Args:
            terms: of the owner of the labels.
            looks: how often the errors of one record leave.
            change: by how much, at most, another label changes a record's error, as a norm, before
                it is clipped; infinity where there is no such bound.
            seed: 32 random bytes of this run; kept with its state, and told nobody.

        Raises:
            ConfigError: `looks` is below 1.
        """
        if looks < 1:
            raise ConfigError("label noise: one look or more")
        self._clip, self._looks, self._seed = terms.clip, looks, seed
        self.sigma: Final = min(change, 2 * terms.clip) * math.sqrt(looks) / terms.mu

    def protect(self, errors: NDArray[Any], *, look: int, number: int) -> NDArray[Any]:
        """See `Protection`.

        Raises:
            PolicyDenied: as many looks as were agreed are over (rule `label-noise`).
        """
        if not 0 <= look < self._looks:
            raise PolicyDenied("the errors left as often as was agreed", rule="label-noise")
        norms = np.linalg.norm(errors, axis=1, keepdims=True)  # (records, 1)
        clipped = errors * np.minimum(1.0, self._clip / np.maximum(norms, self._clip))
        noised: NDArray[Any] = clipped + self.sigma * self._normal(number, errors)
        return noised

    def _normal(self, number: int, errors: NDArray[Any]) -> NDArray[Any]:
        """Return standard normal numbers of SHAKE256 of the seed."""
        parts = self._seed.reveal(), number.to_bytes(8, "big"), errors.tobytes()
        raw = hashlib.shake_256(wire.fields(_LABEL, *parts)).digest(16 * errors.size)
        return normals(raw).reshape(errors.shape)
