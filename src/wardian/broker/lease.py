"""Leases: how long a certificate, and the keys that go with it, may be used. Pure: time is given.

One lease bounds how long a process serves without a broker (TRUST T21). Two clocks measure it and
the first to say so ends it: elapsed seconds from when the process asked, so that a wall clock that
stands still makes no lease longer; and the wall clock against the certificate's end, so that a
machine that was asleep, or a clock that was put right, does not either.

Both clocks come from the host. One that lies about both keeps a process that it holds serving; what
it cannot do is give it keys of a later epoch.
"""

import enum
import time
from dataclasses import dataclass
from typing import Final

from wardian._internal.clock import Monotonic, monotonic

RENEW_AT: Final = 0.5
"""A lease is renewed when this share of it is left."""
SPREAD: Final = 0.1
"""Up to this share sooner, by chance: not all processes of a mesh renew at once."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
RETRIES_LEFT: Final = 8
"""A retry comes no later than after this part of what is left."""


def _elapsed() -> Monotonic:
    """Return a clock that also runs while the machine sleeps, where there is one."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    return monotonic if boot is None else lambda: time.clock_gettime(boot)


elapsed: Final = _elapsed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Both clocks, read together: `ticks` never go back, `now` is Unix seconds."""

    ticks: float
    now: int


class Standing(enum.Enum):
    """What a lease allows at some moment."""

    FRESH = enum.auto()
    """Use it."""
    RENEW = enum.auto()
    """Use it, and ask for another."""
    ENDED = enum.auto()
    """Erase what came with it, and stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One lease.

    Attributes:
        began: ticks when it was asked for, which is before it was given.
        life_s: seconds from then.
        ends_at: the last second (Unix) at which the certificate is valid.
        renew_left_s: renewed from when only so many seconds are left.
    """

    began: float
    life_s: float
    ends_at: int
    renew_left_s: float

    @classmethod
    def begin(cls, at: Moment, *, life_s: float, ends_at: int, chance: float) -> "Lease":
        """Return the lease that was asked for at `at`.

        Args:
            at: when it was asked for.
            life_s: the mesh's `lease_s`. By the wall clock less may be left; then half of that is
                when to renew, so that a clock that is ahead does not make a process ask on and on.
            ends_at: the last second (Unix) at which the certificate is valid.
            chance: 0 to 1; spreads the renewals of many processes.
        """
        life_s = max(0.0, min(life_s, ends_at - at.now))
        return cls(
            began=at.ticks,
            life_s=life_s,
            ends_at=ends_at,
            renew_left_s=life_s * (RENEW_AT + SPREAD * chance),
        )

    def left_s(self, at: Moment) -> float:
        """Return how many seconds are left, by the clock that says less; 0 when it has ended."""
        passed = at.ticks - self.began
        if passed < 0:  # ticks that go back measure nothing
            return 0.0
        return max(0.0, min(self.life_s - passed, self.ends_at - at.now))

    def standing(self, at: Moment) -> Standing:
        """Return what the lease allows at `at`."""
        left = self.left_s(at)
        if not left:
            return Standing.ENDED
        return Standing.RENEW if left <= self.renew_left_s else Standing.FRESH


class Renewals:
    """When to ask for the next lease: at half of it, and again after every failure."""

    __slots__ = ("_failures", "_retry_at", "lease")

    lease: Lease
    """The one that holds."""

    def __init__(self, lease: Lease) -> None:
        """Begin with `lease`."""
        self.renewed(lease)

    def renewed(self, lease: Lease) -> None:
        """`lease` was given."""
        self.lease = lease
        self._failures = 0
        self._retry_at = lease.began

    def failed(self, at: Moment, *, chance: float) -> None:
        """Nobody gave one: wait 1 s, then twice as long each time, at most a minute.

        Near the end of the lease it is less, so that there are several more attempts.

        Args:
            at: when the attempt ended.
            chance: 0 to 1; spreads the attempts of many processes.
        """
        pause = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**self._failures)
        pause = min(pause, max(FIRST_RETRY_S, self.lease.left_s(at) / RETRIES_LEFT))
        self._failures = min(self._failures + 1, 30)
        self._retry_at = at.ticks + pause * (1 - SPREAD * chance)

    def due(self, at: Moment) -> bool:
        """Return whether to ask now."""
        return self.lease.standing(at) is Standing.RENEW and at.ticks >= self._retry_at

    def wait_s(self, at: Moment) -> float:
        """Return for how many seconds there is nothing to do, but for what others bring up.

        At the end of it `due` says yes, or the lease has ended.
        """
        left = self.lease.left_s(at)
        until_renewal = max(left - self.lease.renew_left_s, self._retry_at - at.ticks)
        return max(0.0, min(left, until_renewal))
