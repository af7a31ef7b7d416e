"""What a party brings to a run over aligned records: its table."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wardian.errors import ConfigError
from wardian.learning.psi.tags import encoded
from wardian.learning.vertical.script import Of

Identifiers = Sequence[str] | Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Records:
    """Some records of a party.

    Attributes:
        identifiers: of each record, each once, as all parties write them; empty where the plan
            has no `[psi]`: the records then stand in one order at all parties.
        features: (records, columns) float64; (records, 0) of a party that has labels alone.
    """

    identifiers: Identifiers = ()
    features: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0)))

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.identifiers)} identifiers)"

    @property
    def rows(self) -> int:
        """How many."""
        return max(len(self.identifiers), len(self.features))

    def demand(self, *, named: bool, columns: bool) -> None:
        """Return if it has what the plan needs.

        Raises:
            ConfigError: identifiers or columns are missing, or are not of as many records.
        """
        if named and not len(self.identifiers):
            raise ConfigError("table: identifiers are needed")
        if self.features.dtype != np.float64 or self.features.ndim != 2:
            raise ConfigError("table: features are (records, columns) float64")
        if columns and not len(self.features):
            raise ConfigError("table: features are needed")
        if named and columns and len(self.identifiers) != len(self.features):
            raise ConfigError("table: as many identifiers as records of features are needed")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Table(Records):
    """All that a party brings.

    Attributes:
        labels: (records,) numbers, of the one party that has them.
        predict: other records, of which the run predicts what the labels would be.
    """

    labels: NDArray[Any] | None = None
    predict: Records | None = None

    def of(self, which: Of) -> Records:
        """Return the records `which`.

        Raises:
            ConfigError: there are none to predict.
        """
        if which is Of.LEARN:
            return self
        if self.predict is None:
            raise ConfigError("table: the plan predicts new records, and there are none")
        return self.predict

    def digest(self) -> bytes:
        """Return what tells this table from another one, 32 bytes; for the party alone."""
        found = hashlib.sha256()
        for each in (self, self.predict):
            if each is not None:
                for identifier in encoded(each.identifiers):
                    found.update(len(identifier).to_bytes(4))
                    found.update(identifier)
                found.update(repr(each.features.shape).encode())
                found.update(np.ascontiguousarray(each.features).tobytes())
        if self.labels is not None:
            found.update(np.asarray(self.labels, np.float64).tobytes())
        return found.digest()
