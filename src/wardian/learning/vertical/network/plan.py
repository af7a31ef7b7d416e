"""What the parties agreed to before a split network is trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wardian.crypto.secret import Secret
from wardian.errors import ConfigError
from wardian.learning.vertical.noise import LabelNoise, NoiseTerms

MAX_WIDTH: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """A classifier in parts: each party's first layers end in its embedding.

    Attributes:
        classes: 2 or more; labels are 0 to `classes` - 1.
        embeddings: how many numbers each party makes of a record, by its name.
        hidden: widths of the coordinator's layers between the embeddings and the classes.
        epochs: how often each record is learnt from.
        batch: records of a step.
        rate: of a step.
        momentum: 0 to below 1.
        seed: of the coordinator's first weights and of the order of records.
    """

    classes: int
    embeddings: Mapping[str, int]
    hidden: tuple[int, ...] = field(default=())
    epochs: int = 30
    batch: int = 32
    rate: float = 0.05
    momentum: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            ConfigError: see the attributes.
        """
        widths = (*self.embeddings.values(), *self.hidden)
        if not self.embeddings or not all(1 <= each <= MAX_WIDTH for each in widths):
            raise ConfigError(f"network: widths are 1 to {MAX_WIDTH}, one party's or more")
        if not 2 <= self.classes <= MAX_WIDTH or self.epochs < 1 or self.batch < 1 or self.seed < 0:
            raise ConfigError("network: `classes`, `epochs`, `batch` or `seed` is out of range")
        if not (self.rate > 0 and 0 <= self.momentum < 1):
            raise ConfigError("network: `rate` or `momentum` is out of range")

    def noise(self, terms: NoiseTerms, *, seed: Secret) -> LabelNoise:
        """Return the noise that keeps `terms` over all epochs of this plan.

        Another label takes 1 from one class's error and adds it to that of another.

        Args:
            terms: of the owner of the labels.
            seed: see `LabelNoise`.
        """
        return LabelNoise(terms, looks=self.epochs, change=math.sqrt(2), seed=seed)
