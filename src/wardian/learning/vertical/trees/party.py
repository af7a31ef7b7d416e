"""A party's side of boosted trees: it has columns, and in the end the questions about its own."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError, LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.rows import own_features, own_labels
from wardian.learning.vertical.trees.bins import MOST, learn_bins
from wardian.learning.vertical.trees.messages import BINS, LABELS, SIDES, SPLITS


class TreeParty:
    """One party's columns of the records that all parties have, in the common order.

    What it learns of the others is which of its columns and ranges the trees ask for: not in which
    tree, how often, nor what the answer counts for.
    """

    def __init__(
        self, features: NDArray[Any], labels: NDArray[Any] | None = None, *, ranges: int = MOST
    ) -> None:
        """Take part.

        Args:
            features: (records, columns) float64, NaN where a value is missing; no column where
                `labels` are given.
            labels: (records,) numbers, of the one party that has them; classes are 0, 1, 2 ...
            ranges: of a column, at most, 2 to 255.

        Raises:
            FormatError: not such an array, infinite, or neither column nor label.
        """
        self._features = own_features(features, empty=labels is not None, missing=True)
        self._labels = None if labels is None else own_labels(labels, rows=len(features))
        self._bins = learn_bins(features, most=ranges)
        self._splits: NDArray[Any] | None = None

    def bins(self) -> RecordDict:
        """Return the range of each of its values, with the labels if it has them."""
        indices = self._bins.indices(self._features)
        records = {BINS: ArrayRecord({BINS: indices})}
        if self._labels is not None:
            records[LABELS] = ArrayRecord({LABELS: self._labels})
        return RecordDict(records)

    def take_splits(self, content: RecordDict) -> None:
        """Take in the questions of the finished trees about its columns.

        Raises:
            FormatError: not (questions, 2) int32 of its columns and their ranges.
        """
        found = array_of(content, SPLITS, SPLITS, dtype="int32", shape=(None, 2))
        highest = np.array([len(cuts) for cuts in self._bins.cuts], np.int64)
        columns = found[:, 0]
        if ((columns < 0) | (columns >= len(highest))).any():
            raise FormatError("splits: not of columns of this party")
        if ((found[:, 1] < 0) | (found[:, 1] > highest[columns])).any():
            raise FormatError("splits: not at ranges of this party")
        self._splits = found

    @property
    def splits(self) -> NDArray[Any]:
        """Its part of the model: (questions, 2) int32, column and highest range that goes left."""
        if self._splits is None:
            raise LocalProtocolError("the trees are not grown yet")
        return self._splits

    @property
    def thresholds(self) -> NDArray[Any]:
        """The greatest value that each question sends left, (questions,); -inf: missing ones."""
        cuts = self._bins.cuts
        found = [cuts[column][cut - 1] if cut else -np.inf for column, cut in self.splits]
        return np.array(found, np.float64)

    def answer(self, features: NDArray[Any]) -> RecordDict:
        """Return its answers about new records: whether each goes right, (records, questions) bool.

        Args:
            features: (records, columns) float64, NaN where a value is missing.

        Raises:
            FormatError: not such an array, infinite, or other columns than were learnt from.
        """
        indices = self._bins.indices(features)
        sides = indices[:, self.splits[:, 0]] > self.splits[:, 1]
        return RecordDict({SIDES: ArrayRecord({SIDES: sides})})
