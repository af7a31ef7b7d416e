"""Processes on few cores, as a simulation sees them: pure, no clock but its own.

A process has turns of work with sleep between. Each core has a queue of its own, as in Linux: who
wakes up goes to a core that is idle, else queues where it is woken from or where it ran last, and
interrupts who runs there unless that has just begun. A core with nothing to do takes from another's
queue, but nobody who ran a moment ago: what its caches hold is there.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, TypeAlias

Then: TypeAlias = Callable[[], None]
TICK_S: Final = 0.004
"""A kernel of 250 Hz looks so often whether a process is to make room, and whether an idle core
could help."""
PROTECTED_S: Final = 0.0014
"""For so long who runs is not interrupted: Linux' slice on two cores."""
HOT_S: Final = 0.0005
"""Who ran so shortly ago is not moved to another core (`migration_cost`)."""
FORGETS_S: Final = 0.003
"""After so long a sleep most of what a process had in caches is gone. Assumed; by how much its work
is longer then is calibrated."""


class Core:
    """Who runs on it, and who waits for it."""

    __slots__ = ("ready", "running")

    def __init__(self) -> None:
        """Idle."""
        self.running: Process | None = None
        self.ready: deque[Process] = deque()

    @property
    def load(self) -> int:
        """How many want it."""
        return len(self.ready) + (self.running is not None)


class Processors:
    """The clock, the cores and what waits for them."""

    def __init__(self, cores: int | None) -> None:
        """Nothing runs. `cores` None: each process has one of its own."""
        self.now = 0.0
        self.shared = [Core() for _ in range(cores or 0)]
        self.waker: Process | None = None
        """Whose work is being done: who is woken now is woken by it."""
        self._events: list[tuple[float, int, Then]] = []
        self._numbers = itertools.count()

    def home(self) -> Core:
        """Return the core on which a new process would run."""
        return min(self.shared, key=lambda core: core.load, default=Core())

    def at(self, when: float, then: Then) -> None:
        """Call `then` at the time `when`."""
        heapq.heappush(self._events, (when, next(self._numbers), then))

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
        if not self.shared or not gaps or not rate:
            return
        rate *= len(self.shared)

        def stop() -> None:
            core = random.choice(self.shared)
            if core.running is not None:
                core.running.stand(random.choice(gaps))
            self.at(self.now + random.expovariate(rate), stop)

        self.at(self.now + random.expovariate(rate), stop)

    def choose(self, process: "Process") -> Core:
        """Return where `process`, which wakes up, is to run: `select_task_rq_fair`."""
        last = process.core
        for core in (last, *self.shared):
            if core.running is None:
                return core
        here = self.waker.core if self.waker is not None else last
        return here if here.load < last.load + (here.load == 1) else last

    def wake(self, process: "Process", after: float) -> None:
        """`process` has work: it runs `after` so long where a core is idle, else it waits."""
        core = process.core = self.choose(process)
        if core.running is None:
            core.running, process.began = process, self.now + after
            self.at(process.began, process.go)
        else:
            core.ready.append(process)
            self.at(self.now, lambda: self.make_room(core))

    def make_room(self, core: Core) -> None:
        """Who runs on `core` leaves it to who waits, unless it has just begun."""
        running = core.running
        if running is not None and core.ready and self.now - running.began >= PROTECTED_S:
            running.pause()
            core.ready.append(running)
            self._start(core, core.ready.popleft())

    def leave(self, core: Core) -> None:
        """Who ran on `core` sleeps; the next one gets it."""
        core.running = None
        if core.ready:
            self._start(core, core.ready.popleft())
        else:
            self._help(core)

    def _start(self, core: Core, process: "Process") -> None:
        core.running, process.core = process, core
        process.go()

    def _help(self, core: Core) -> None:
        """Take over who waits elsewhere: now, or at a tick."""
        if core.running is not None:
            return
        waits = False
        for other in self.shared:
            for process in other.ready:
                if self.now - process.ran >= HOT_S:
                    other.ready.remove(process)
                    self._start(core, process)
                    return
                waits = True
        if waits:
            self.at(self.next_tick(), lambda: self._help(core))

    def next_tick(self) -> float:
        """Return when the next tick is."""
        return (math.floor(self.now / TICK_S + 1e-9) + 1) * TICK_S


class Process:
    """One process of one thread."""

    __slots__ = (
        "_asleep", "_cold", "_ends", "_pieces", "_scale", "_slow", "_then",
        "_turn", "_version", "_wake", "began", "busy", "core", "cpu", "left", "ran",
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
            scale: by what a piece of work is longer or shorter than usual.
            cold: by what part work is longer after a long sleep, in which caches forget.
        """
        self.cpu, self._turn, self._wake, self._scale = cpu, turn, wake, scale
        self._cold = cold
        self.core = cpu.home()
        self.began = self.ran = 0.0
        self._pieces: deque[tuple[float, Then | None]] = deque()
        self._then: Then | None = None
        self._asleep = True
        self._version = 0
        self._ends = 0.0
        self._slow = 1.0
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
        if not self._asleep:
            return
        self._asleep = False
        self._slow = 1 + self._cold * (1 - math.exp(-(self.cpu.now - self.ran) / FORGETS_S))
        self.cpu.wake(self, self._wake * self._scale())

    def go(self) -> None:
        """Run, on a core that it has now."""
        self.began = self.cpu.now
        if not self.left and not self._begin():
            self._sleep()
            return
        self._run()
        version = self._version
        self.cpu.at(self.cpu.next_tick(), lambda: self._tick(version))

    def pause(self) -> None:
        """Another has the core now."""
        self._version += 1
        self.ran = self.cpu.now
        self.left = max(self._ends - self.cpu.now, 1e-9)
        self._ends = math.inf

    def stand(self, seconds: float) -> None:
        """The core stands still for so long."""
        if self.left:
            self._ends += seconds
            self.cpu.at(self._ends, self._end)

    def _run(self) -> None:
        self._ends = self.cpu.now + self.left
        self.cpu.at(self._ends, self._end)

    def _begin(self) -> bool:
        """Take up the next piece; return whether there is one."""
        if not self._pieces:
            self._turn()
        if not self._pieces:
            return False
        work, self._then = self._pieces.popleft()
        self.left = max(work * self._slow * self._scale(), 1e-9)
        self.busy += self.left
        return True

    def _end(self) -> None:
        """The piece under way is done, unless that was put off."""
        if not self.left or self.cpu.now < self._ends:
            return
        self.left = 0.0
        if self._then is not None:
            self.cpu.waker = self
            self._then()
            self.cpu.waker = None
        if self._begin():
            self._run()
        else:
            self._sleep()

    def _sleep(self) -> None:
        self._version += 1
        self._asleep = True
        self.ran = self.cpu.now
        self.cpu.leave(self.core)

    def _tick(self, version: int) -> None:
        if version == self._version:
            self.cpu.at(self.cpu.next_tick(), lambda: self._tick(version))
            self.cpu.make_room(self.core)
