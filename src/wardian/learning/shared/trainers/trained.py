"""What a trainer is given, and what it gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wardian.broker.jobs.merge import OutputTerms
from wardian.broker.jobs.plan import Privacy
from wardian.broker.jobs.trainers import Scalar
from wardian.errors import FormatError, LocalProtocolError
from wardian.learning.privacy.noise import DiscreteGaussian
from wardian.learning.shared.cohort import refuse_classes
from wardian.learning.shared.joining import Joined
from wardian.learning.shared.rows import Rows
from wardian.learning.shared.sound import classes_of

Predict: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""(rows, columns) to (rows,): classes, or numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One training.

    Attributes:
        rows: to learn from.
        parameters: every one of the trainer.
        terms: what holds for whatever comes out.
        privacy: what the run may spend; None: without noise.
        noise: as `privacy` asks for.
        seed: of what training tosses, 0 to 2**32 - 1.
        measured: whether anybody is given metrics.
    """

    rows: Rows
    parameters: Mapping[str, Scalar]
    terms: OutputTerms
    privacy: Privacy | None
    noise: DiscreteGaussian | None
    seed: int
    measured: bool

    @property
    def joined(self) -> Joined:
        """The rows, for a trainer that has them in memory, all of them and in one order.

        Raises:
            LocalProtocolError: they are read pass by pass.
        """
        if not isinstance(self.rows, Joined):
            raise LocalProtocolError("this trainer takes its rows from memory")
        return self.rows

    def number(self, name: str) -> float:
        """Return the parameter `name`."""
        return float(self.parameters[name])

    def whole(self, name: str) -> int:
        """Return the parameter `name`."""
        return int(self.parameters[name])

    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the classes, sorted (classes,), and which of them each row has, (rows,).

        Raises:
            FormatError: the label is not of whole numbers of 32 bits, of two classes or more.
            PolicyDenied: the rule `cohort-small`: too few rows, of all or of one owner, have one of
                them.
        """
        label, owners = self.targets(), len(self.joined.owners)
        found = classes_of(label)
        places = np.searchsorted(found, label.astype(np.int64))
        counts = np.bincount(places * owners + self.joined.sources, minlength=len(found) * owners)
        refuse_classes(self.terms, counts.reshape(-1, owners))
        return found, places.astype(np.int64)

    def targets(self) -> NDArray[np.float64]:
        """Return the label as numbers, (rows,).

        Raises:
            FormatError: there is none.
        """
        if self.joined.label is None:
            raise FormatError("no label")
        return self.joined.label


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came out; what the trainer does not give is None.

    Attributes:
        model: ONNX.
        metrics: how good it is.
        aggregates: a table as CSV.
    """

    model: bytes | None = None
    metrics: Mapping[str, Any] | None = None
    aggregates: bytes | None = None
