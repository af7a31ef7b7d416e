"""How much of something in how much time. Pure: the time is given, in monotonic seconds."""

import math
from typing import Final

DAY_S: Final = 86_400


class Allowance:
    """A token bucket: `rate` units a second, of which `burst` can be saved up.

    What is taken may be more than is there, so that a single large thing passes through a small
    bucket; then nothing passes until it is paid back.
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        """Begin full."""
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, now

    def change(self, *, rate: float, burst: float) -> None:
        """Go on with other terms; what was saved up stays, as far as it fits."""
        self._rate, self._burst = rate, burst
        self._level = min(self._level, burst)

    def wait_s(self, now: float, *, need: float = 1.0) -> float:
        """Return in how many seconds there will be `need`, or all that fits; 0: there is."""
        passed = now - self._at
        if passed > 0:
            self._level = min(self._burst, self._level + passed * self._rate)
            self._at = now
        short = min(need, self._burst) - self._level
        return 0.0 if short <= 0 else short / self._rate

    def take(self, amount: float = 1.0) -> None:
        """Take `amount`; ask `wait_s` before."""
        self._level -= amount


class DayCount:
    """How many there were on the present UTC day. No day comes twice, whatever a clock does."""

    __slots__ = ("_count", "_day")

    def __init__(self) -> None:
        """Nothing was counted yet."""
        self._day, self._count = 0, 0

    def spent(self, now_s: int, *, quota: int) -> bool:
        """Return whether the `quota` of the day at `now_s` (Unix) is used up."""
        day = now_s // DAY_S
        if day > self._day:
            self._day, self._count = day, 0
        return self._count >= quota

    def add(self) -> None:
        """Count one."""
        self._count += 1


def whole_seconds(wait_s: float) -> int:
    """Return `wait_s` as a Retry-After says it: 1 to 86,400."""
    return max(1, min(DAY_S, math.ceil(wait_s)))
