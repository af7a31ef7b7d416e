"""When a process that ended is started again: after a growing while, or never."""

from typing import Final

FINAL_STATUSES: Final = frozenset({2, 3})
"""Exit statuses after which a restart cannot help: usage or settings, and refusal."""

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 10.0
STEADY_AFTER_S: Final = 30.0
"""A process that ran so long ended by an accident, and not because it cannot run."""


class Restarts:
    """The delays between the starts of one process."""

    __slots__ = ("_delay_s",)

    def __init__(self) -> None:
        """Begin with the first, and shortest, delay."""
        self._delay_s = FIRST_DELAY_S

    def delay_s(self, status: int, *, ran_s: float) -> float | None:
        """Return how long to wait before the next start; None: a start cannot help.

        Args:
            status: the exit status; negative for a signal.
            ran_s: how long the process ran, seconds.
        """
        if status in FINAL_STATUSES:
            return None
        if ran_s > STEADY_AFTER_S:
            self._delay_s = FIRST_DELAY_S
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        return delay_s
