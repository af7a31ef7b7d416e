"""Rate, errors and duration of one version of a model, and how long its requests wait; for metrics.

Counted where a request begins and ends, so every dialect and every refusal of a request for a known
version is in it.
"""

from dataclasses import dataclass, field
from typing import Final

from wardian._internal.metrics import DurationCounts

ANSWERED: Final = "answered"
WINDOW_S: Final = 15.0
"""How long a delay stays in the signal: the usual time between two scrapes."""


@dataclass(slots=True)
class QueueDelay:
    """The longest that a request has waited lately before it was sealed for a worker.

    A gauge that showed only the moment of the scrape would miss what happens between two; this one
    holds each delay for one to two windows.
    """

    _began: float = 0.0
    _present: float = 0.0
    _before: float = 0.0

    def note(self, delay_s: float, *, now: float) -> None:
        """A request that waited `delay_s` was sealed at `now`, monotonic seconds."""
        self._turn(now)
        self._present = max(self._present, delay_s)

    def longest_s(self, *, now: float, waiting_since: float | None) -> float:
        """Return the longest delay lately, that of a request which still waits included.

        Args:
            now: monotonic seconds.
            waiting_since: when the request that waits longest was accepted; None if none waits.
        """
        self._turn(now)
        still = 0.0 if waiting_since is None else max(0.0, now - waiting_since)
        return max(self._present, self._before, still)

    def _turn(self, now: float) -> None:
        passed = now - self._began
        if passed < WINDOW_S:
            return
        self._before = self._present if passed < 2 * WINDOW_S else 0.0
        self._present, self._began = 0.0, now


@dataclass(slots=True)
class LaneCounts:
    """What happened to the requests of one version of a model since the start.

    Attributes:
        outcomes: how many ended in each: `ANSWERED`, or the class of the error.
        seconds: from accepted to ended, whichever way.
        delay: before they were sealed.
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    seconds: DurationCounts = field(default_factory=DurationCounts)
    delay: QueueDelay = field(default_factory=QueueDelay)

    def end(self, outcome: str, seconds: float) -> None:
        """A request ended after `seconds`."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.seconds.record(seconds)

    def refuse(self, error: Exception) -> None:
        """A request for this version was not accepted: it has an outcome, and no duration."""
        name = type(error).__name__
        self.outcomes[name] = self.outcomes.get(name, 0) + 1
