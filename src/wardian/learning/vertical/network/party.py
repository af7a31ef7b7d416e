"""A party's side of a split network: its columns, and the layers that make its embedding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError, LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict
from wardian.learning.vertical.network.layers import Layers
from wardian.learning.vertical.network.messages import EMBEDDING, LABELS, ROWS, SLOPES
from wardian.learning.vertical.rows import own_features, own_labels


class NetworkParty:
    """One party's columns of the records that all parties have, in the common order.

    It sends an embedding of each record, and gets a slope for each: made of noised errors, so what
    it says of labels is bounded. The slopes also depend on what the other parties' embeddings are.

    Attributes:
        layers: its part of the model; they end in ReLU.
    """

    def __init__(
        self,
        features: NDArray[Any],
        labels: NDArray[Any] | None = None,
        *,
        widths: Sequence[int],
        rate: float,
        momentum: float,
        seed: int,
    ) -> None:
        """Take part.

        Args:
            features: (records, columns) float64, of one scale, one column or more.
            labels: (records,) classes 0, 1, 2 ..., of the one party that has them.
            widths: what comes out of each of its layers; the last one is its embedding's.
            rate: of a step, as the plan says.
            momentum: as the plan says.
            seed: of its first weights.

        Raises:
            FormatError: not such an array, or not finite.
        """
        self._features = own_features(features)
        self._labels = None if labels is None else own_labels(labels, rows=len(features))
        self.layers = Layers((features.shape[1], *widths), bent=True, seed=seed)
        self._rate, self._momentum = rate, momentum
        self._asked = 0

    def labels(self) -> RecordDict:
        """Return the labels, for the enclave alone.

        Raises:
            LocalProtocolError: it has none.
        """
        if self._labels is None:
            raise LocalProtocolError("this party has no labels")
        return labels_alone(self._labels)

    def embed(self, content: RecordDict) -> RecordDict:
        """Return the embedding of the records that `content` asks for.

        Raises:
            FormatError: they are not places of its records.
        """
        rows = array_of(content, ROWS, ROWS, dtype="int64", shape=(None,))
        if not len(rows) or ((rows < 0) | (rows >= len(self._features))).any():
            raise FormatError("rows: not places of this party's records")
        self._asked = len(rows)
        return _embedding(self.layers.forward(self._features[rows], keep=True))

    @property
    def asked(self) -> int:
        """Of how many records it sent embeddings for which no slopes came yet."""
        return self._asked

    def step(self, content: RecordDict) -> None:
        """Go one step, of the slopes of the records that were asked for last.

        Raises:
            LocalProtocolError: none were asked for.
            FormatError: not one finite number for each number sent; nothing changed.
        """
        if not self._asked:
            raise LocalProtocolError("no records were asked for")
        shape = (self._asked, len(self.layers.biases[-1]))
        slopes = array_of(content, SLOPES, SLOPES, dtype="float64", shape=shape)
        self._asked = 0
        self.layers.backward(slopes, rate=self._rate, momentum=self._momentum)

    def answer(self, features: NDArray[Any]) -> RecordDict:
        """Return the embedding of new records, (records, columns) float64.

        Raises:
            FormatError: not such an array, not finite, or other columns than were learnt from.
        """
        found = own_features(features, columns=self.layers.takes)
        return _embedding(self.layers.forward(found))


def labels_alone(labels: NDArray[Any]) -> RecordDict:
    """Return what a party says that has labels, (records,) classes 0, 1, 2 ..., and no column.

    Raises:
        FormatError: not one number for each record, or not finite.
    """
    return RecordDict({LABELS: ArrayRecord({LABELS: own_labels(labels, rows=len(labels))})})


def _embedding(found: NDArray[Any]) -> RecordDict:
    return RecordDict({EMBEDDING: ArrayRecord({EMBEDDING: np.ascontiguousarray(found)})})
