"""What load is put on a server, and when each request of it is due. No clock, no socket."""

import math
import random
from dataclasses import dataclass
from typing import Final, TypeAlias

from wardian.errors import ConfigError

MAX_RATE: Final = 1_000_000.0
MAX_SECONDS: Final = 86_400.0
MAX_CONNECTIONS: Final = 4096
DEFAULT_IN_FLIGHT: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoad:
    """Requests arrive by themselves, whether or not those before are answered.

    Attributes:
        rate: arrivals a second on average; the time between two is exponential (Poisson arrivals).
        seconds: for which they arrive.
        connections: most requests in flight; one that arrives while all are busy is not started,
            and counted as such.
        seed: of the arrivals; the same seed gives the same arrivals.
    """

    rate: float
    seconds: float
    connections: int = DEFAULT_IN_FLIGHT
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if not 0 < self.rate <= MAX_RATE:  # false for NaN as well
            raise ConfigError(f"rate: requests a second, above 0 and at most {MAX_RATE:,.0f}")
        _expect_common(self.seconds, self.connections)

    @property
    def label(self) -> str:
        """What it is called on a screen."""
        return f"open loop, {self.rate:,.0f}/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoad:
    """Each connection sends its next request when it has the answer to the last.

    Attributes:
        connections: that do so.
        seconds: for which they do.
    """

    connections: int
    seconds: float

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        _expect_common(self.seconds, self.connections)

    @property
    def label(self) -> str:
        """What it is called on a screen."""
        return f"closed loop, {self.connections} connection{'s' * (self.connections != 1)}"


Load: TypeAlias = OpenLoad | ClosedLoad


def _expect_common(seconds: float, connections: int) -> None:
    if not 0 < seconds <= MAX_SECONDS:
        raise ConfigError(f"seconds: above 0 and at most {MAX_SECONDS:,.0f}")
    if not 1 <= connections <= MAX_CONNECTIONS:
        raise ConfigError(f"connections: 1 to {MAX_CONNECTIONS}")


class Arrivals:
    """The arrivals of an open load, in seconds from its start; each is taken once, in order."""

    __slots__ = ("_end", "_random", "_rate", "next_s")

    def __init__(self, load: OpenLoad) -> None:
        """None is taken yet."""
        self._random = random.Random(load.seed)  # noqa: S311  arrivals are no secret
        self._rate = load.rate
        self._end = load.seconds
        self.next_s: float | None = 0.0
        self._advance()

    def take(self, now_s: float, *, room: int) -> tuple[list[float], int]:
        """Take what is due at `now_s`.

        A clock that jumped forward makes much due at once: what is beyond `room` is only counted,
        so memory is bounded. One that jumped back makes nothing due.

        Args:
            now_s: seconds since the start of the load.
            room: requests that can be started now.

        Returns:
            When each that is to be started now should have been, the oldest first, and how many
            more were due that cannot be started.
        """
        due: list[float] = []
        missed = 0
        while self.next_s is not None and self.next_s <= now_s:
            if len(due) < room:
                due.append(self.next_s)
            else:
                missed += 1
            self._advance()
        return due, missed

    def _advance(self) -> None:
        if self.next_s is None:
            return
        following = self.next_s + self._random.expovariate(self._rate)
        self.next_s = following if following < self._end else None


def ramp(capacity: float) -> tuple[float, ...]:
    """Return the rates at which a curve of latency against load is measured, in order.

    Args:
        capacity: answers a second of a closed loop.
    """
    if not (math.isfinite(capacity) and capacity > 0):
        raise ConfigError("nothing was answered, so there is no load to draw a curve over")
    return tuple(max(1.0, round(capacity * part, 1)) for part in _PARTS)


_PARTS: Final = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0)
