"""Puts a load on a server and counts what becomes of it; everything runs on one event loop."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from wardian._internal.clock import Monotonic, monotonic
from wardian.serving.client.messages import Answer, raise_for_status
from wardian.serving.loadgen.alarm import Alarm
from wardian.serving.loadgen.dial import Dial
from wardian.serving.loadgen.load import Arrivals, Load, OpenLoad
from wardian.serving.loadgen.payload import Payload
from wardian.serving.loadgen.report import Report, Tally, build_report
from wardian.serving.loadgen.slot import Judge, Means, Slot

Watch: TypeAlias = Callable[[float, Tally], None]
"""Told now and then: the seconds since the start, and the counts."""

_SWEEP_S: Final = 0.05
_PAUSE_AFTER_ERROR_S: Final = 0.01
"""A closed loop waits so long after an error: a dead server would be asked in a busy loop."""
_DIALS_AT_ONCE: Final = 16
_STOP_S: Final = 1.0
"""How long a run that is stopped by hand waits for what is in flight."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of one request, as observed; times are those of the driver's clock.

    Attributes:
        due: when it should have started.
        sent: when it did; a connection may have had to be opened then.
        asked: when it was last put on a connection, whose other end it counts from; 0 if never,
            or if that connection was lost.
        at: when it ended.
        kind: "" for an answer, else the class of the error.
    """

    due: float
    sent: float
    asked: float
    at: float
    kind: str


Observe: TypeAlias = Callable[[Ended], None]


def accept_success(_: Payload, answer: Answer) -> None:
    """Return if `answer` is a success, whatever it says; the usual judge."""
    if answer.status != 200:
        raise_for_status(answer)


class Driver:
    """Asks one server, over connections that it keeps between loads."""

    def __init__(
        self,
        dial: Dial,
        payloads: Sequence[Payload],
        *,
        patience_s: float,
        judge: Judge = accept_success,
        observe: Observe | None = None,
        alarm: Callable[[Callable[[], None]], Alarm] = Alarm,
        clock: Monotonic = monotonic,
    ) -> None:
        """Connect to nothing yet; made on the running loop.

        Args:
            dial: opens a connection.
            payloads: what is asked, in turn.
            patience_s: after which a request that has no answer ends as `Timeout`.
            judge: of every answer.
            observe: is told of every outcome.
            alarm: makes the timer of the arrivals.
            clock: of all times; that of an event loop may count in whole milliseconds (uvloop).
        """
        self.loop = asyncio.get_running_loop()
        self.patience_s = patience_s
        self.observe = observe
        self.alarm = alarm
        self.clock = clock
        self._means = Means(
            dial=dial, payloads=payloads, judge=judge, clock=clock, unasked=self._note_unasked
        )
        self.stopping = asyncio.Event()
        self._slots: list[Slot] = []
        self._tally = Tally()

    def stop(self) -> None:
        """End the load that is being put on, and all that would follow."""
        self.stopping.set()

    async def run(self, load: Load, watch: Watch | None = None) -> Report:
        """Return the figures of `load`, once it is over or `stop` was called.

        Raises:
            WardianError: a connection could not be opened, or verified, before the load began.
        """
        await self.connect(load.connections)
        run = _Run(self, load, self._slots[: load.connections])
        self._tally = run.tally
        sweeps = self.loop.create_task(run.sweep(watch))
        try:
            return await run.whole()
        finally:
            sweeps.cancel()
            with suppress(asyncio.CancelledError):
                await sweeps

    async def close(self) -> None:
        """Close all connections."""
        slots, self._slots = self._slots, []
        await asyncio.gather(*(slot.close() for slot in slots))

    async def connect(self, connections: int) -> None:
        """Have `connections` slots, connected: what a load measures is not its handshakes."""
        while len(self._slots) < connections:
            self._slots.append(Slot(self._means))
        free = asyncio.Semaphore(_DIALS_AT_ONCE)

        async def connect(slot: Slot) -> None:
            async with free:
                if not slot.connected:
                    await slot.connect()

        tasks = [self.loop.create_task(connect(slot)) for slot in self._slots[:connections]]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _note_unasked(self) -> None:
        """Count an answer that nobody had asked for in the load that is being put on."""
        self._tally.unasked += 1


class _Run:
    """One load under way."""

    def __init__(self, driver: Driver, load: Load, slots: list[Slot]) -> None:
        self.driver = driver
        self.loop = driver.loop
        self.clock = driver.clock
        self.load = load
        self.slots = slots
        self.idle = list(slots)
        self.tally = Tally()
        self.began = self.clock()
        self.until = self.began + load.seconds
        self._arrivals = Arrivals(load) if isinstance(load, OpenLoad) else None
        self._alarm = driver.alarm(self._arrive)
        self._changed = asyncio.Event()
        self._starts = True

    async def whole(self) -> Report:
        """Put the load on, wait for what is in flight, and return the figures."""
        self._begin()
        stopping = self.driver.stopping
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.load.seconds):
                    await stopping.wait()
            seconds = min(self.clock() - self.began, self.load.seconds)
            self._starts = False
            await self._drain()
        finally:
            self._starts = False
            self._alarm.close()
        if self._arrivals is not None and not stopping.is_set():
            self._count_missed(self._arrivals.take(self.load.seconds, room=0)[1])
        return build_report(self.tally, self.load, seconds=seconds, stopped=stopping.is_set())

    async def sweep(self, watch: Watch | None) -> None:
        """Give up what has no answer in time, and tell `watch`, until cancelled."""
        patience_s = self.driver.patience_s
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = self.clock()
            for slot in self.slots:
                if slot.busy and now - slot.sent > patience_s:
                    slot.give_up()
            if watch is not None:
                watch(now - self.began, self.tally)

    def ended(self, slot: Slot) -> None:
        """`slot` has an outcome, and is free again."""
        now = self.clock()
        held_s = now - slot.sent
        if slot.kind:
            self.tally.fail(slot.kind, held_s=held_s)
        else:
            self.tally.answer(now - slot.due, held_s=held_s, within=now <= self.until)
        if self.driver.observe is not None:
            self.driver.observe(Ended(slot.due, slot.sent, slot.asked, now, slot.kind))
        if self._arrivals is not None or not self._starts:
            self._free(slot)
        elif slot.kind:
            self.loop.call_later(_PAUSE_AFTER_ERROR_S, self._again, slot)
        elif now < self.until:
            self._start(slot, now, now)
        else:
            self._free(slot)

    def _begin(self) -> None:
        self.began = now = self.clock()
        self.until = now + self.load.seconds
        if self._arrivals is not None:
            self._arrive()
            return
        for slot in self.slots:
            self._again(slot)

    def _again(self, slot: Slot) -> None:
        now = self.clock()
        if self._starts and now < self.until:
            if slot in self.idle:
                self.idle.remove(slot)
            self._start(slot, now, now)
        elif slot not in self.idle:
            self._free(slot)

    def _arrive(self) -> None:
        """Start what is due; be called again when the next is."""
        arrivals = self._arrivals
        if arrivals is None or not self._starts:
            return
        now = self.clock()
        due, missed = arrivals.take(now - self.began, room=len(self.idle))
        self._count_missed(missed)
        for start_s in due:
            self._start(self.idle.pop(), self.began + start_s, now)
        if arrivals.next_s is not None:
            self._alarm.at(self.began + arrivals.next_s)

    def _start(self, slot: Slot, due: float, now: float) -> None:
        self.tally.start(now - due)
        slot.start(self, due)

    def _count_missed(self, missed: int) -> None:
        self.tally.not_started += missed

    def _free(self, slot: Slot) -> None:
        self.idle.append(slot)
        self._changed.set()

    async def _drain(self) -> None:
        """Return when nothing is in flight, or has waited for long enough."""
        by_hand = self.driver.stopping.is_set()
        limit_s = _STOP_S if by_hand else self.driver.patience_s + 4 * _SWEEP_S
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while len(self.idle) < len(self.slots):
                    self._changed.clear()
                    await self._changed.wait()
        for slot in self.slots:
            if slot.busy:
                self.tally.unfinished += 1
                slot.forget()
