"""Accepted requests without an outcome: each ends here, once, at its deadline at the latest."""

import asyncio
import heapq
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wardian._internal import clock
from wardian._internal.log import event
from wardian.errors import FormatError, Timeout, WardianError
from wardian.serving.lane_counts import ANSWERED, LaneCounts
from wardian.serving.packing import ERRORS, Outcome, Request
from wardian.serving.queue.lease import Lane
from wardian.serving.tensors import Group
from wardian.serving.traces import Trace

log = logging.getLogger(__name__)

_STALE_DEADLINES: Final = 1024
"""Deadlines of requests that have ended which are kept in any case: clearing them costs time."""


@dataclass(slots=True)
class Counters:
    """What happened since the start; for metrics."""

    accepted: int = 0
    answered: int = 0
    failed: int = 0  # ended with an error other than a timeout
    timed_out: int = 0
    packs: int = 0
    redelivered: int = 0
    lanes: dict[Lane, LaneCounts] = field(default_factory=dict)

    def of(self, lane: Lane) -> LaneCounts:
        """Return the counts of one version of a model."""
        counts = self.lanes.get(lane)
        if counts is None:
            counts = self.lanes[lane] = LaneCounts()
        return counts


class OpenRequests:
    """The open requests of one front end.

    Attributes:
        counters: what was accepted, and how it ended.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, expired: Callable[[Request], None]
    ) -> None:
        """Have none.

        Args:
            loop: tells the time of deadlines.
            expired: told of each request that has just ended as `Timeout`.
        """
        self.counters = Counters()
        self._loop = loop
        self._expired = expired
        self._open: dict[int, Request] = {}
        self._deadlines: list[tuple[float, int]] = []  # a heap; requests that ended may be there
        self._next_sweep = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, request: Request) -> None:
        """`request` was accepted: from now on it will end."""
        self.counters.accepted += 1
        self._open[request.number] = request
        heap = self._deadlines
        heapq.heappush(heap, (request.deadline, request.number))
        if len(heap) > _STALE_DEADLINES + 2 * len(self._open):  # most have ended in time
            heap[:] = [(each.deadline, number) for number, each in self._open.items()]
            heapq.heapify(heap)
        if request.deadline < self._next_sweep:
            self._sweep_at(request.deadline)

    def end(self, request: Request, outcome: Outcome) -> None:
        """End `request`, unless it has ended; the one place where that happens."""
        done = request.done
        if done is None:
            return
        request.done = None
        request.inputs = {}
        del self._open[request.number]
        if outcome.error is None:
            self.counters.answered += 1
        elif isinstance(outcome.error, Timeout):
            self.counters.timed_out += 1
        else:
            self.counters.failed += 1
        error, now = outcome.error, clock.monotonic()
        self.counters.of(request.lane.lane).end(
            ANSWERED if error is None else type(error).__name__, now - request.began
        )
        if type(done) is Trace:
            done.note(accepted=request.began, sent=request.sent, ended=now)
        try:
            done(outcome)
        except Exception as err:  # noqa: BLE001  the other requests of the pack must not suffer
            event(log, "outcome.refused", level=logging.ERROR, error=type(err).__name__)

    def end_group(self, group: Group, asked: dict[int, Request], outputs: frozenset[str]) -> None:
        """End the requests in `group` of an answer, and take them out of `asked`.

        Raises:
            FormatError: its tensors are not `outputs`.
        """
        if group.failure:
            error = ERRORS[group.failure]
            for number in group.ids:
                if request := asked.pop(number, None):
                    self.end(request, Outcome(error=error()))
            return
        if group.parts.keys() != outputs:
            raise FormatError("answer: the outputs are not the model's")
        tensors = {name: parts[0] for name, parts in group.parts.items()}
        single = len(group.ids) == 1
        start = 0
        for number, rows in zip(group.ids, group.rows, strict=True):
            request = asked.pop(number, None)
            stop = start + rows
            if request is not None and request.done is not None:
                names = tensors if request.outputs is None else request.outputs
                if single:
                    mine = {name: tensors[name] for name in names}
                else:
                    mine = {name: tensors[name][start:stop] for name in names}
                self.end(request, Outcome(mine, None, request.lane.lane.version))
            start = stop

    def end_waiting(self, error: Callable[[], WardianError]) -> None:
        """End every request that travels in no message."""
        for request in [each for each in self._open.values() if not each.message]:
            self.end(request, Outcome(error=error()))
            request.lane.note_ended()

    def end_all(self, error: Callable[[], WardianError]) -> None:
        """End every request; no deadline is looked at any more."""
        if self._timer is not None:
            self._timer.cancel()
        for request in list(self._open.values()):
            self.end(request, Outcome(error=error()))

    def _sweep_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_sweep = when
        self._timer = self._loop.call_at(when, self._sweep)

    def _sweep(self) -> None:
        """End the requests whose deadline has passed; look again when the next one does."""
        self._timer, self._next_sweep = None, math.inf
        now = self._loop.time()
        heap = self._deadlines
        while heap and (heap[0][0] <= now or heap[0][1] not in self._open):
            _, number = heapq.heappop(heap)
            request = self._open.get(number)
            if request is not None:
                self.end(request, Outcome(error=Timeout("no answer within the deadline")))
                self._expired(request)
        if heap:
            self._sweep_at(heap[0][0])
