"""The coordinator's side of boosted trees: every column's ranges, the labels, and the trees."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError, LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.rows import Gathered, one_length
from wardian.learning.vertical.trees.boosting import Ensemble, boost
from wardian.learning.vertical.trees.forest import Forest, divide
from wardian.learning.vertical.trees.messages import BINS, LABELS, SPLITS
from wardian.learning.vertical.trees.plan import TreePlan


class BinsBoosting:
    """Placement `bins`: ranges come in, and the questions about its own columns go to a party."""

    def __init__(self, plan: TreePlan, *, parties: Sequence[str], labels_of: str) -> None:
        """Grow `plan` from the columns of `parties` and the labels of the party `labels_of`."""
        self._plan, self._labels_of = plan, labels_of
        self._bins: Gathered[NDArray[Any]] = Gathered(parties)
        self._labels: NDArray[Any] | None = None
        self._splits: dict[str, NDArray[Any]] = {}

    def take(self, party: str, content: RecordDict) -> None:
        """Take in what `TreeParty.bins` returned; nothing changes if it is refused.

        Raises:
            FormatError: not (records, columns) uint8, or the labels are missing.
            PolicyDenied: `party` takes no part (rule `vertical-party`).
        """
        if self._bins.wants(party):
            found = array_of(content, BINS, BINS, dtype="uint8", shape=(None, None))
            if party == self._labels_of:
                shape = (len(found),)
                self._labels = array_of(content, LABELS, LABELS, dtype="float64", shape=shape)
            self._bins.add(party, found)

    def ensemble(self) -> Ensemble:
        """Return the trees over the columns of all parties in a row, sorted by party.

        Raises:
            FormatError: the numbers of records differ, nobody has a column or a record, or the
                labels are not what the objective needs.
            LocalProtocolError: a party's part is missing yet.
        """
        parts = self._bins.all()
        if self._labels is None:
            raise LocalProtocolError("who has the labels takes no part")
        joined = np.zeros((one_length(parts), 0), np.uint8)
        joined = np.concatenate([joined, *parts.values()], axis=1)
        if not joined.size:
            raise FormatError("records: no party has a column, or none has a record")
        return boost(joined, self._labels, self._plan)

    def grow(self) -> Forest:
        """Return the finished model's common part; see `ensemble` for what it raises."""
        columns = {party: part.shape[1] for party, part in self._bins.all().items()}
        forest, self._splits = divide(self.ensemble(), columns)
        return forest

    def part(self, party: str) -> RecordDict:
        """Return the questions about the columns of `party`, all that it is ever told.

        Raises:
            LocalProtocolError: the trees are not grown yet, or `party` takes no part.
        """
        if party not in self._splits:
            raise LocalProtocolError("there is no part for this party")
        return RecordDict({SPLITS: ArrayRecord({SPLITS: self._splits[party]})})
