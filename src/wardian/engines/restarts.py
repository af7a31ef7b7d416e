"""When a process that ended is started again: after a growing while, or never."""

from typing import Final

SETTINGS: Final = 2
REFUSED: Final = 3
"""Exit statuses after which a restart cannot help: usage or settings, and refusal."""

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 10.0
STEADY_AFTER_S: Final = 30.0
"""A process that ran so long ended by an accident, and not because it cannot run."""


class Restarts:
    """The delays between the starts of one process.

    One that ran steadily had settings that work: where it then ends for wrong ones, somebody is
    editing them, and it is started again until they are right. It is not what a typo may end.
    """

    __slots__ = ("_delay_s", "_worked")

    def __init__(self) -> None:
        """Begin with the first, and shortest, delay."""
        self._delay_s = FIRST_DELAY_S
        self._worked = False

    def delay_s(self, status: int, *, ran_s: float) -> float | None:
        """Return how long to wait before the next start; None: a start cannot help.

        Args:
            status: the exit status; negative for a signal.
            ran_s: how long the process ran, seconds.
        """
        if ran_s > STEADY_AFTER_S:
            self._delay_s, self._worked = FIRST_DELAY_S, True
        if status == REFUSED or (status == SETTINGS and not self._worked):
            return None
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        return delay_s
