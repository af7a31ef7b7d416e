"""A histogram of durations in bounded memory, as HdrHistogram keeps one.

From one microsecond to over an hour, each octave has 64 buckets of equal width: a percentile is
wrong by 1.6 % at most, however many durations there were.
"""

import math
from typing import Final, Self

_BITS: Final = 6
_PER_OCTAVE: Final = 1 << _BITS
_TOP_US: Final = 2**32 - 1
_BUCKETS: Final = (32 - _BITS - 1) * _PER_OCTAVE + 2 * _PER_OCTAVE


class Histogram:
    """Counts durations; 14 KB, and no more with time."""

    __slots__ = ("_counts", "count", "max_s", "total_s")

    def __init__(self) -> None:
        """Empty."""
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.max_s = 0.0
        self.total_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration; a negative one, from a clock that was put back, counts as zero."""
        seconds = max(seconds, 0.0)
        self._counts[_bucket(min(int(seconds * 1e6), _TOP_US))] += 1
        self.count += 1
        self.total_s += seconds
        self.max_s = max(self.max_s, seconds)

    def merge(self, other: Self) -> None:
        """Count all that `other` counted as well."""
        for index, count in enumerate(other._counts):
            self._counts[index] += count
        self.count += other.count
        self.total_s += other.total_s
        self.max_s = max(self.max_s, other.max_s)

    def percentile(self, percent: float) -> float | None:
        """Return the seconds that `percent` of the durations do not exceed; None if there are none.

        At most 1.6 % above the true value, never below it and never above `max_s`.

        Args:
            percent: above 0, up to 100.
        """
        if not self.count:
            return None
        rank = max(1, math.ceil(self.count * percent / 100))
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return (
                    min(_upper_us(index) / 1e6, self.max_s) if index < _BUCKETS - 1 else self.max_s
                )
        return self.max_s


def _bucket(us: int) -> int:
    shift = max(0, us.bit_length() - _BITS - 1)
    return shift * _PER_OCTAVE + (us >> shift)


def _upper_us(index: int) -> int:
    """Return the microseconds just above what bucket `index` holds."""
    shift = max(0, index // _PER_OCTAVE - 1)
    return (index - shift * _PER_OCTAVE + 1) << shift
