"""How many messages a worker takes at a time: what it does in a few milliseconds. Pure.

A message in the engine and one on the way are enough for a model that takes long. Of small ones
that is not so: each would wait for the way of the one before it, where requests of strangers share
no message and one holds a single request. So a worker that is quick takes more at a time, and each
side says more in one write. It is never much time's worth: what a worker holds is not dealt out
again, when another comes or a tenant has his turn.
"""

from typing import Final

AHEAD_S: Final = 0.004
"""How much work a worker takes ahead, seconds, beyond `LEAST`."""
LEAST: Final = 2
"""One message in the engine and one on the way: the engine never waits, and packs grow."""
MOST: Final = 64
FIRST_AFTER: Final = 32
"""Messages after which the time that one takes is believed."""
_SLACK: Final = 0.25  # by so much the time has to leave what the credit stands for
_FADES: Final = 1 / 32  # what one message counts in the mean
_LEAST_S: Final = 1e-6  # what the clock of a host may not even show
_SLOWER: Final = 1 / 8  # of that, one that took longer than the mean
_OUTLIER: Final = 4  # times the mean: none counts as more


class Pace:
    """The credit of one worker.

    Attributes:
        credit: messages that it takes at a time, a power of 2 from `LEAST` to `MOST`.
    """

    __slots__ = ("_left", "_taken_s", "_worked_s", "credit")

    def __init__(self) -> None:
        """Nothing has been measured: `LEAST`."""
        self.credit = LEAST
        self._worked_s = self._taken_s = _LEAST_S
        self._left = FIRST_AFTER

    def note(self, messages: int, *, taken_s: float, worked_s: float) -> bool:
        """Return whether `credit` is another one now.

        What a message costs is the mean of the work; where the model waits for something else, it
        is how long messages take, as the quicker of them show: the others may have waited for a
        processor, and a worker on a busy machine would take fewer messages the more it needs many.

        Args:
            messages: how many were served, 1 or more.
            taken_s: how long that took, seconds.
            worked_s: how much work it was, seconds of all threads.
        """
        worked, taken = max(worked_s / messages, _LEAST_S), max(taken_s / messages, _LEAST_S)
        if self._left > 0:  # a slow one is not made up for by quick ones
            self._worked_s, self._taken_s = max(self._worked_s, worked), max(self._taken_s, taken)
            self._left -= messages
            return self._left <= 0 and self._settle()
        weight = min(1.0, messages * _FADES)
        self._worked_s = _moved(self._worked_s, worked, weight)
        quicker = taken < self._taken_s
        self._taken_s = _moved(self._taken_s, taken, weight if quicker else weight * _SLOWER)
        return self._settle()

    def _settle(self) -> bool:
        fit = AHEAD_S / max(self._worked_s, self._taken_s)
        before = self.credit
        while self.credit < MOST and fit >= 2 * self.credit * (1 + _SLACK):
            self.credit *= 2
        while self.credit > LEAST and fit < self.credit * (1 - _SLACK):
            self.credit //= 2
        return self.credit != before


def _moved(mean: float, to: float, weight: float) -> float:
    return mean + weight * (min(to, _OUTLIER * mean) - mean)
