"""Processes on few cores, as a simulation sees them: pure, no clock but its own.

A process has turns of work with sleep between. One that wakes up runs at once where a core is idle;
else it waits in one queue for all cores until a process sleeps, or has run for a slice. That is how
Linux' scheduler (EEVDF) treats short turns: who wakes up does not interrupt who has just begun.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, TypeAlias

Then: TypeAlias = Callable[[], None]
SLICE_S: Final = 0.004
"""After which a process makes room for another: Linux' slice of 2.8 ms on two cores, noticed by the
tick of a kernel of 250 Hz."""
FORGETS_S: Final = 0.003
"""After so long a sleep most of what a process had in caches is gone. Assumed; by how much its work
is longer then is calibrated."""


class Processors:
    """The clock, the cores and what waits for them."""

    def __init__(self, cores: int | None) -> None:
        """Nothing runs. `cores` None: each process has one of its own."""
        self.now = 0.0
        self.cores = cores
        self.running: list[Process] = []
        self.ready: deque[Process] = deque()
        self._events: list[tuple[float, int, Then]] = []
        self._numbers = itertools.count()

    def at(self, when: float, then: Then) -> None:
        """Call `then` at the time `when`."""
        heapq.heappush(self._events, (when, next(self._numbers), then))

    @property
    def idle(self) -> bool:
        """Whether a core has nothing to do."""
        return self.cores is None or len(self.running) < self.cores

    def run(self, until: float) -> None:
        """Let time pass until `until`."""
        events = self._events
        while events and events[0][0] <= until:
            when, _, then = heapq.heappop(events)
            self.now = when
            then()
        self.now = until

    def freeze(self, random: Random, *, rate: float, gaps: Sequence[float]) -> None:
        """Let every core stand still now and then, as one whose host has other guests does.

        Args:
            random: of when, and for how long.
            rate: how often a second, each core.
            gaps: for how long, seconds; one of these each time.
        """
        if self.cores is None or not gaps or not rate:
            return
        cores = self.cores

        def stop() -> None:
            place = random.randrange(cores)
            if place < len(self.running):
                self.running[place].stand(random.choice(gaps))
            self.at(self.now + random.expovariate(rate * cores), stop)

        self.at(self.now + random.expovariate(rate * cores), stop)

    def want(self, process: "Process") -> None:
        """`process` has work: it runs, or waits for a core."""
        if self.idle:
            self.running.append(process)
            process.go()
        else:
            self.ready.append(process)

    def leave(self, process: "Process") -> None:
        """`process` needs its core no more; the next one gets it."""
        self.running.remove(process)
        if self.ready:
            following = self.ready.popleft()
            self.running.append(following)
            following.go()


class Process:
    """One process of one thread."""

    __slots__ = (
        "_asleep", "_cold", "_ends", "_luck", "_pieces", "_scale", "_since", "_slow", "_then",
        "_turn", "_version", "_wake", "busy", "cpu", "left",
    )  # fmt: skip

    def __init__(
        self,
        cpu: Processors,
        *,
        turn: Then,
        wake: float,
        scale: Callable[[], float],
        cold: float = 0.0,
    ) -> None:
        """Sleep.

        Args:
            cpu: where it runs.
            turn: called whenever it has nothing to do; adds work, or it sleeps.
            wake: how long it takes to wake up on an idle core.
            scale: by what the work of a turn is longer or shorter than usual.
            cold: by what part work is longer after a long sleep, in which caches forget.
        """
        self.cpu, self._turn, self._wake, self._scale = cpu, turn, wake, scale
        self._cold, self._since = cold, 0.0
        self._pieces: deque[tuple[float, Then | None]] = deque()
        self._then: Then | None = None
        self._asleep = True
        self._version = 0
        self._ends = 0.0
        self._slow = self._luck = 1.0
        self.left = self.busy = 0.0

    @property
    def has_work(self) -> bool:
        """Whether pieces wait for their turn."""
        return bool(self._pieces)

    def add(self, work: float, then: Then | None = None) -> None:
        """Append a piece of work; `then` is called at its end. Only from its own turn or pieces."""
        self._pieces.append((work, then))

    def rouse(self) -> None:
        """There is work: begin a turn, unless one is under way."""
        if self._asleep:
            self._asleep = False
            slept = self.cpu.now - self._since
            self._slow = 1 + self._cold * (1 - math.exp(-slept / FORGETS_S))
            wake = self._wake * self._scale() if self.cpu.idle else 0.0
            self.cpu.at(self.cpu.now + wake, lambda: self.cpu.want(self))

    def go(self) -> None:
        """Run, on a core that it has now."""
        if not self.left and not self._begin():
            self._sleep()
            return
        self._run()
        version = self._version
        self.cpu.at(self.cpu.now + SLICE_S, lambda: self._expire(version))

    def stand(self, seconds: float) -> None:
        """The core stands still for so long."""
        self._ends += seconds
        self.cpu.at(self._ends, self._end)

    def _run(self) -> None:
        self._ends = self.cpu.now + self.left
        self.cpu.at(self._ends, self._end)

    def _begin(self) -> bool:
        """Take up the next piece; return whether there is one."""
        if not self._pieces:
            self._turn()
            self._luck = self._scale()
        if not self._pieces:
            return False
        work, self._then = self._pieces.popleft()
        self.left = max(work * self._slow * self._luck, 1e-9)
        self.busy += self.left
        return True

    def _end(self) -> None:
        """The piece under way is done, unless that was put off."""
        if not self.left or self.cpu.now < self._ends:
            return
        self.left = 0.0
        if self._then is not None:
            self._then()
        if self._begin():
            self._run()
        else:
            self._sleep()

    def _sleep(self) -> None:
        self._version += 1
        self._asleep = True
        self._since = self.cpu.now
        self.cpu.leave(self)

    def _expire(self, version: int) -> None:
        """A slice is over: make room, if another waits."""
        if version != self._version:
            return
        if not self.cpu.ready:
            self.cpu.at(self.cpu.now + SLICE_S, lambda: self._expire(version))
            return
        self._version += 1
        self.left = max(self._ends - self.cpu.now, 1e-9)
        self._ends = float("inf")
        self.cpu.ready.append(self)
        self.cpu.leave(self)
