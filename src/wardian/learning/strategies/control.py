"""A party's side of SCAFFOLD: how its gradients are corrected, and what it says of them.

control = ControlVariate(message, context)
...
    weight -= lr * (gradient + control.correction["weight"])
...
answer = RecordDict({
    "arrays": arrays, "control": control.change(arrays, steps=steps, lr=lr), "metrics": ...
})
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from wardian.errors import ConfigError, FormatError
from wardian.learning.app import Context
from wardian.learning.arrays import Array, ArrayRecord
from wardian.learning.message import Message
from wardian.learning.records import ConfigRecord
from wardian.learning.reduce import as_kind
from wardian.learning.strategies.scaffold import CONTROL, CONTROL_ROUND

_COUNTED: Final = "scaffold.counted"
_NEXT: Final = "scaffold.next"
_ROUND: Final = "scaffold.round"


class ControlVariate:
    """The variate of one party in one round; from round to round it is in `context.state`.

    Attributes:
        correction: what to add to the gradient of each array, of the array's kind.
    """

    def __init__(self, message: Message, context: Context) -> None:
        """Take up the mean of all, of `message`, and the party's own.

        Raises:
            FormatError: the message is none of the strategy `Scaffold`'s, or the model is another
                than the one of the round before.
        """
        given, mean = message.content.get("arrays"), message.content.get(CONTROL)
        config = message.content.get("config")
        if not (
            isinstance(given, ArrayRecord)
            and isinstance(mean, ArrayRecord)
            and isinstance(config, ConfigRecord)
            and mean.fits(given)
            and CONTROL_ROUND in config
        ):
            raise FormatError("control variate: the message is not of the strategy SCAFFOLD")
        self._given, self._mean, self._state = given, mean, context.state
        self._round = message.metadata.round
        self._own = self._counted(config[CONTROL_ROUND])
        self.correction: Final = ArrayRecord(
            {name: mean[name] - self._own[name] for name in given if given[name].dtype.kind == "f"}
        )

    def change(self, arrays: Mapping[str, Array], *, steps: int, lr: float) -> ArrayRecord:
        """Return the record "control" of the answer; the party's next variate is then kept.

        Args:
            arrays: the model after training.
            steps: how many steps were taken, 1 or more.
            lr: the step's length, above 0: with another method than plain gradient descent, the
                length that the whole way had per unit of gradient.

        Raises:
            ConfigError: a number is out of range.
            FormatError: `arrays` are not the model's, or too far from it.
        """
        if steps < 1 or not lr > 0:
            raise ConfigError("control variate: steps is 1 or more, and lr above 0")
        if not ArrayRecord(arrays).fits(self._given):
            raise FormatError("control variate: other arrays than the model's")
        with np.errstate(over="ignore", invalid="ignore"):
            changes = ArrayRecord(
                {name: self._of(name, array, steps * lr) for name, array in arrays.items()}
            )
            own = ArrayRecord(
                {
                    name: as_kind(name, np.float64(0) + self._own[name] + each, each.dtype)
                    for name, each in changes.items()
                }
            )
        self._state[_COUNTED], self._state[_NEXT] = self._own, own
        self._state[_ROUND] = ConfigRecord({"round": self._round})
        return changes

    def _of(self, name: str, array: Array, way: float) -> Array:
        """Return -c + (x - y) / (K lr), or 0 for what is no parameter."""
        given = self._given[name]
        if given.dtype.kind != "f":
            return np.zeros_like(given)
        apart = given.astype(np.float64) - array
        return as_kind(name, apart / way - self._mean[name], given.dtype)

    def _counted(self, told: object) -> ArrayRecord:
        """Return the party's variate of the round that it is told counted last."""
        kept = self._state.get(_ROUND)
        newest = isinstance(kept, ConfigRecord) and kept.get("round") == told
        own = self._state.get(_NEXT if newest else _COUNTED)
        if own is None:
            return ArrayRecord({name: np.zeros_like(each) for name, each in self._given.items()})
        if not isinstance(own, ArrayRecord) or not own.fits(self._given):
            raise FormatError("control variate: the model is another than in the round before")
        return own
