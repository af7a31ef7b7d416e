"""The coordinator's side of a split network: the labels, the last layers, and the order."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError, LocalProtocolError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.received import array_of
from wardian.learning.records import ConfigRecord, RecordDict
from wardian.learning.vertical.chances import chances
from wardian.learning.vertical.drawn import Drawn
from wardian.learning.vertical.network.layers import Layers
from wardian.learning.vertical.network.messages import EMBEDDING, LABELS, ROWS, SLOPES
from wardian.learning.vertical.network.plan import NetworkPlan
from wardian.learning.vertical.noise import Protection
from wardian.learning.vertical.rows import Gathered, kinds_of, one_length


class SplitNetwork:
    """Placement `embeddings`: embeddings come in, slopes made of noised errors go out.

    The last layers, too, learn from the noised errors alone: so all that leaves, however often,
    tells no more of the labels than the noise allows. An epoch is one look at each record.
    """

    def __init__(self, plan: NetworkPlan, protection: Protection, content: RecordDict) -> None:
        """Train `plan`.

        Args:
            plan: of the network.
            protection: of the labels: `plan.noise`.
            content: what `NetworkParty.labels` returned.

        Raises:
            FormatError: it has no labels, or one that is no class of the plan.
        """
        labels = array_of(content, LABELS, LABELS, dtype="float64", shape=(None,))
        if not len(labels) or not kinds_of(labels) <= set(range(plan.classes)):
            raise FormatError(f"labels: each is a class, 0 to {plan.classes - 1}")
        self._plan, self._protection = plan, protection
        self._target = np.eye(plan.classes)[labels.astype(np.int64)]  # (records, classes)
        self._embeddings: Gathered[NDArray[Any]] = Gathered(list(plan.embeddings))
        width = sum(plan.embeddings.values())
        self._layers = Layers((width, *plan.hidden, plan.classes), bent=False, seed=plan.seed)
        self._drawn = Drawn(plan.seed)
        self._epoch, self._left, self._number = -1, np.empty(0, np.int64), 0
        self._rows = self._next()
        self._slopes: dict[str, NDArray[Any]] = {}

    @property
    def over(self) -> bool:
        """Whether every record was learnt from as often as the plan says."""
        return self._epoch >= self._plan.epochs

    def _next(self) -> NDArray[Any]:
        """Return the next records to learn from; each once an epoch, in an order of its own."""
        if not len(self._left):
            self._left = self._drawn.permutation(len(self._target))
            self._epoch += 1
        rows, self._left = np.split(self._left, [self._plan.batch])
        return rows

    STATE: ClassVar = ("last-layers", "order")
    """Names of the records of `state`."""

    def state(self) -> RecordDict:
        """Return all that it knows between two steps, but for the labels."""
        order = {"epoch": self._epoch, "left": len(self._left), "number": self._number}
        return RecordDict(
            {"last-layers": ArrayRecord(self._layers.state()), "order": ConfigRecord(order)}
        )

    def restore(self, state: RecordDict) -> None:
        """Go on from what `state` returned, of the same plan and labels.

        Raises:
            FormatError: it is none.
        """
        layers, order = state["last-layers"], state["order"]
        if not isinstance(layers, ArrayRecord) or not isinstance(order, ConfigRecord):
            raise FormatError("network: its state is damaged")
        self.restore_layers(layers)
        epoch, left, self._number = (
            int(order[name])  # type: ignore[arg-type]
            for name in ("epoch", "left", "number")
        )
        while (self._epoch, len(self._left)) != (epoch, left):
            if self._epoch > epoch:
                raise FormatError("network: its state is damaged")
            self._rows = self._next()

    def restore_layers(self, layers: ArrayRecord) -> None:
        """Predict with the layers of a network that is trained.

        Raises:
            FormatError: they are of another plan.
        """
        self._layers.restore(layers)

    def rows(self) -> RecordDict:
        """Return which records' embeddings every party is asked for."""
        return RecordDict({ROWS: ArrayRecord({ROWS: self._rows})})

    def take(self, party: str, content: RecordDict) -> None:
        """Take in the embedding of `party`; nothing changes if it is refused.

        Raises:
            FormatError: not as many finite numbers of each record as the plan says.
            PolicyDenied: `party` takes no part (rule `vertical-party`).
        """
        if self._embeddings.wants(party):
            shape = (len(self._rows), self._plan.embeddings[party])
            found = array_of(content, EMBEDDING, EMBEDDING, dtype="float64", shape=shape)
            self._embeddings.add(party, found)

    def learn(self) -> None:
        """Learn from the embeddings of all parties; the next step begins.

        Raises:
            LocalProtocolError: one is missing yet, or it is over.
        """
        if self.over:
            raise LocalProtocolError("the network is trained")
        parts = self._embeddings.all()
        logits = self._layers.forward(np.concatenate(list(parts.values()), axis=1), keep=True)
        errors = chances(logits) - self._target[self._rows]  # (batch, classes)
        noised = self._protection.protect(errors, look=self._epoch, number=self._number)
        rate, momentum = self._plan.rate, self._plan.momentum
        slopes = self._layers.backward(noised / len(noised), rate=rate, momentum=momentum)
        ends = np.cumsum([part.shape[1] for part in parts.values()])[:-1]
        self._slopes = dict(zip(parts, np.split(slopes, ends, axis=1), strict=True))
        self._embeddings.clear()
        self._number += 1
        self._rows = self._next()

    def slopes(self, party: str) -> RecordDict:
        """Return what `party` is told of the step that was made last.

        Raises:
            LocalProtocolError: there was none, or `party` takes no part.
        """
        if party not in self._slopes:
            raise LocalProtocolError("there are no slopes for this party")
        return RecordDict({SLOPES: ArrayRecord({SLOPES: self._slopes[party]})})

    def logits(self, contents: Mapping[str, RecordDict]) -> NDArray[Any]:
        """Return the logits of new records, (records, classes).

        Args:
            contents: what `NetworkParty.answer` returned, of every party.

        Raises:
            FormatError: a party's part is missing or of another width, or they have different
                numbers of records.
        """
        if set(contents) != set(self._plan.embeddings):
            raise FormatError("prediction: an embedding of each party is needed")
        parts = {
            party: array_of(
                contents[party],
                EMBEDDING,
                EMBEDDING,
                dtype="float64",
                shape=(None, self._plan.embeddings[party]),
            )
            for party in self._embeddings.parties
        }
        one_length(parts)
        return self._layers.forward(np.concatenate(list(parts.values()), axis=1))

    def predict(self, contents: Mapping[str, RecordDict]) -> NDArray[Any]:
        """Return the chance of each class, (records, classes); see `logits` for what it raises."""
        return chances(self.logits(contents))
