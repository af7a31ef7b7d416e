"""A party's side of a regression: it has columns, and in the end the coefficients of its own."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.received import array_of, setting_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.linear.descent import Block, Descent, curvature
from wardian.learning.vertical.linear.messages import (
    CURVATURE,
    ERRORS,
    FEATURES,
    L2,
    LABELS,
    PARTIAL,
    STEEPNESS,
    WEIGHTS,
)
from wardian.learning.vertical.rows import own_features, own_labels


class LinearParty:
    """One party's columns of the records that all parties have, in the common order.

    In the placement `embeddings` it sends its part of each record's sum and gets noised errors;
    what it makes of them are its coefficients, which no one else sees. In the placement `features`
    it sends its columns, and gets its coefficients.
    """

    def __init__(self, features: NDArray[Any], labels: NDArray[Any] | None = None) -> None:
        """Take part.

        Args:
            features: (records, columns) float64, of one scale; no column where `labels` are given.
            labels: (records,) float64, of the one party that has them.

        Raises:
            FormatError: not such an array, not finite, or neither column nor label.
        """
        self._features = own_features(features, empty=labels is not None)
        self._labels = None if labels is None else own_labels(labels, rows=len(features))
        self._block: Block | None = None
        self._weights: NDArray[Any] | None = None

    def features(self) -> RecordDict:
        """Return its columns, for the enclave alone, with the labels if it has them."""
        return self._with_labels({FEATURES: ArrayRecord({FEATURES: self._features})})

    def start(self) -> RecordDict:
        """Return how steep its columns make the loss, with the labels if it has them."""
        steep = ArrayRecord({CURVATURE: np.array([curvature(self._features)])})
        return self._with_labels({CURVATURE: steep})

    def _with_labels(self, records: dict[str, ArrayRecord]) -> RecordDict:
        if self._labels is not None:
            records[LABELS] = ArrayRecord({LABELS: self._labels})
        return RecordDict(records)

    def begin(self, content: RecordDict) -> None:
        """Take in how to descend; the coefficients are zeros."""
        steepness, l2 = setting_of(content, STEEPNESS, float), setting_of(content, L2, float)
        self._block = Block(self._features, steepness=steepness, l2=l2)

    def partial(self) -> RecordDict:
        """Return its part of each record's sum."""
        return RecordDict({PARTIAL: ArrayRecord({PARTIAL: self._begun().partial()})})

    def step(self, content: RecordDict) -> None:
        """Go one step, of the noised errors in `content`.

        Raises:
            FormatError: they are not one finite number for each record; nothing changed.
        """
        shape = (len(self._features),)
        self._begun().step(array_of(content, ERRORS, ERRORS, dtype="float64", shape=shape))

    @property
    def descent(self) -> Descent:
        """Where its coefficients are, to be kept.

        Raises:
            LocalProtocolError: the regression has not begun.
        """
        return self._begun().descent

    def go_on(self, weights: NDArray[Any], ahead: NDArray[Any], steps: int) -> None:
        """Go on where its coefficients were, once it has begun."""
        self.descent.go_on(weights, ahead, steps)

    def keep_weights(self, weights: NDArray[Any]) -> None:
        """Go on with finished coefficients, (columns,)."""
        self._weights = weights

    def take_weights(self, content: RecordDict) -> None:
        """Take in its coefficients, which the enclave computed of its columns.

        Raises:
            FormatError: not one finite number for each column.
        """
        shape = (self._features.shape[1],)
        self._weights = array_of(content, WEIGHTS, WEIGHTS, dtype="float64", shape=shape)

    @property
    def weights(self) -> NDArray[Any]:
        """Its coefficients, (columns,)."""
        return self._begun().descent.weights if self._weights is None else self._weights

    def answer(self, features: NDArray[Any]) -> RecordDict:
        """Return its part of the sums of new records.

        Args:
            features: (records, columns) float64, scaled as those that were learnt from.

        Raises:
            FormatError: not such an array, or other columns than were learnt from.
        """
        columns = self._features.shape[1]
        partial = own_features(features, columns=columns) @ self.weights
        return RecordDict({PARTIAL: ArrayRecord({PARTIAL: partial})})

    def _begun(self) -> Block:
        if self._block is None:
            raise LocalProtocolError("the regression has not begun")
        return self._block
