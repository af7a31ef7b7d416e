"""What a party has at hand while it answers one question: its plan, its table, its own state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wardian._internal.consortium import Consortium
from wardian._internal.vertical import Vertical
from wardian.crypto.signing import Signer
from wardian.errors import ConfigError, FormatError, LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import ConfigRecord, Record, RecordDict, Setting
from wardian.learning.vertical.rows import own_labels
from wardian.learning.vertical.script import Of
from wardian.learning.vertical.table import Table

POSITIONS: Final = "positions."
"""Before the name of which records: where they stand in the party's own table."""
MODEL: Final = "model"
"""The party's own part of the finished model."""
PREDICTED: Final = "predictions"


@dataclass(slots=True, kw_only=True)
class Desk:
    """For one question.

    Attributes:
        plan: what the parties agreed to.
        name: this party's.
        signer: has the key that the plan names for it.
        table: what it brings.
        hidden: widths of its own layers before its embedding.
        run: names the run.
        of: the records that the question is about.
        state: what the party keeps; written together with the answer, before that leaves.
        times: how often in a row this step is asked now, from 1.
        aligned: features in the common order, by which records; for this process.
    """

    plan: Consortium
    name: str
    signer: Signer
    table: Table
    hidden: tuple[int, ...]
    run: bytes
    of: Of
    state: dict[str, Record]
    times: int
    aligned: dict[Of, NDArray[Any]] = field(default_factory=dict)

    @property
    def vertical(self) -> Vertical:
        """What the plan says of the model."""
        if self.plan.vertical is None:
            raise LocalProtocolError("the plan has no model")
        return self.plan.vertical

    def settings(self, name: str) -> Mapping[str, Any]:
        """Return the settings `name` of the state; empty if there are none."""
        found = self.state.get(name, ConfigRecord())
        if not isinstance(found, ConfigRecord):
            raise ConfigError("party state: is damaged")
        return found

    def put(self, name: str, **settings: Setting) -> None:
        """Keep `settings` as `name`."""
        self.state[name] = ConfigRecord(settings)

    def arrays(self, name: str) -> ArrayRecord:
        """Return the arrays `name` of the state.

        Raises:
            ConfigError: there are none.
        """
        found = self.state.get(name)
        if not isinstance(found, ArrayRecord):
            raise ConfigError("party state: is damaged")
        return found

    def put_arrays(self, name: str, **arrays: NDArray[Any]) -> None:
        """Keep `arrays` as `name`."""
        self.state[name] = ArrayRecord(arrays)

    def positions(self, of: Of) -> NDArray[Any] | None:
        """Return where the records `of` that all parties have stand; None: all do, as they are."""
        if self.plan.psi is None:
            return None
        return self.arrays(POSITIONS + of.value)["positions"]

    def features(self, of: Of) -> NDArray[Any]:
        """Return the columns of the records `of` that all parties have, in the common order."""
        if of not in self.aligned:
            whole, places = self.table.of(of).features, self.positions(of)
            self.aligned[of] = whole if places is None else whole[places]
        return self.aligned[of]

    def labels(self) -> NDArray[Any] | None:
        """Return the labels of what is learnt from, (records,) float64; None: another's.

        Raises:
            FormatError: one is missing, or no finite number.
        """
        if self.name != self.vertical.labels:
            return None
        if self.table.labels is None:
            raise FormatError("labels: this party has them, and its table does not")
        places = self.positions(Of.LEARN)
        labels = np.asarray(self.table.labels)
        rows = labels if places is None else labels[places]
        return own_labels(rows, rows=len(rows))


Hand: TypeAlias = Callable[[Desk, RecordDict], RecordDict]
"""Answers one question, given what the coordinator said with it."""
