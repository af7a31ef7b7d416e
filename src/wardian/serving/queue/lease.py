"""Who holds which message: the embedded queue as a pure state machine.

No sockets, no threads, no clock, no payloads: numbers in, deliveries out. What it promises:

- a message that was offered is waiting, held by one worker, or gone because it was answered,
  forgotten or lost with its worker; never two of these, never held twice;
- a worker holds at most as many messages as it gave credit for;
- a message offered `alone` is held by a worker that holds nothing else, so that if the worker dies
  it is clear which message it died of;
- a worker that is not to get anything because of messages that nobody waits for is stalled;
- waiting messages of a lane are delivered in the order in which they were offered.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from wardian.errors import LeaseLost, LocalProtocolError


class Lane(NamedTuple):
    """What workers of one kind serve: a version of a model."""

    model: str
    version: int


class Delivery(NamedTuple):
    """An action: pass this message to this worker."""

    worker: int
    message: int


@dataclass(slots=True)
class _Worker:
    lane: Lane
    credit: int
    turn: int
    held: dict[int, bool] = field(default_factory=dict)  # message: alone
    guarded: bool = False  # holds a message that wants to be alone
    forgotten: set[int] = field(default_factory=set)  # of those held

    def takes(self, *, alone: bool, most: int | None = None) -> bool:
        if alone:
            return self.credit > 0 and not self.held
        credit = self.credit if most is None else min(most, self.credit)
        return not self.guarded and len(self.held) < credit

    @property
    def stalled(self) -> bool:
        return len(self.forgotten) == len(self.held) > 0 and not self.takes(alone=False)


class _Waiting(NamedTuple):
    message: int
    alone: bool


class LeaseTable:
    """The leases of one queue; workers and messages are numbers that are never used twice."""

    def __init__(self) -> None:
        self._workers: dict[int, _Worker] = {}
        self._lanes: dict[Lane, dict[int, _Worker]] = {}
        self._waiting: dict[Lane, deque[_Waiting]] = {}
        self._turn = 0

    def join(self, worker: int, *, lane: Lane, credit: int) -> list[Delivery]:
        """`worker` takes up to `credit` messages of `lane` at a time."""
        if worker in self._workers:
            raise LocalProtocolError("a worker joins once")
        record = _Worker(lane, credit, self._turn)
        self._workers[worker] = record
        self._lanes.setdefault(lane, {})[worker] = record
        return self._deliver(lane)

    def set_credit(self, worker: int, credit: int) -> list[Delivery]:
        """`worker` takes up to `credit` messages from now on; 0 means no more."""
        record = self._workers[worker]
        record.credit = credit
        return self._deliver(record.lane)

    def leave(self, worker: int) -> list[int]:
        """`worker` is gone; returns the messages that are lost with it, in the order delivered."""
        record = self._workers.pop(worker, None)
        if record is None:
            return []
        del self._lanes[record.lane][worker]
        if not self._lanes[record.lane]:
            del self._lanes[record.lane]
        return list(record.held)

    def offer(self, message: int, *, lane: Lane, alone: bool = False) -> list[Delivery]:
        """`message` is to be answered by one worker of `lane`; it waits until one has room."""
        self._waiting.setdefault(lane, deque()).append(_Waiting(message, alone))
        return self._deliver(lane)

    def holds(self, worker: int, message: int) -> bool:
        """Return whether `worker` holds `message`."""
        record = self._workers.get(worker)
        return record is not None and message in record.held

    def held(self, worker: int) -> int:
        """Return how many messages `worker` holds."""
        return len(self._workers[worker].held)

    def answered(self, worker: int, message: int) -> list[Delivery]:
        """`worker` answered `message`, which makes room for another.

        Raises:
            LeaseLost: it does not hold it (any more).
        """
        record = self._workers.get(worker)
        if record is None or message not in record.held:
            raise LeaseLost("the worker does not hold this message")
        del record.held[message]
        record.forgotten.discard(message)
        record.guarded = False  # who holds one that wants to be alone holds no other
        return self._deliver(record.lane)

    def forget(self, message: int, *, lane: Lane) -> list[Delivery]:
        """Nobody waits for `message` any more: it is not delivered if it was not yet.

        A worker that holds it goes on holding it until it answers: it is busy with it, or it
        will never answer; see `stalled`.
        """
        holder = self.holder(message, lane=lane)
        if holder is not None:
            self._workers[holder].forgotten.add(message)
            return []
        waiting = self._waiting.get(lane)
        if waiting:
            kept = deque(entry for entry in waiting if entry.message != message)
            if len(kept) != len(waiting):
                self._waiting[lane] = kept
                return self._deliver(lane)  # it may have stood in the way of the next
        return []

    def holder(self, message: int, *, lane: Lane) -> int | None:
        """Return the worker of `lane` that holds `message`, if one does."""
        for worker, record in self._lanes.get(lane, {}).items():
            if message in record.held:
                return worker
        return None

    def stalled(self, worker: int) -> bool:
        """Return whether `worker` gets nothing because of messages that nobody waits for."""
        record = self._workers.get(worker)
        return record is not None and record.stalled

    def room(self, lane: Lane, *, most: int | None = None) -> int:
        """Return how many workers of `lane` would be handed a message if it were offered now.

        `most`: those that hold as many as that do not count, whatever their credit.
        """
        if self._waiting.get(lane):
            return 0
        workers = self._lanes.get(lane, {}).values()
        return sum([record.takes(alone=False, most=most) for record in workers])

    def idle(self, lane: Lane) -> bool:
        """Return whether a worker of `lane` that takes messages holds none."""
        workers = self._lanes.get(lane, {}).values()
        return any(not record.held and record.takes(alone=False) for record in workers)

    def crew(self, lane: Lane) -> int:
        """Return how many workers serve `lane`."""
        return len(self._lanes.get(lane, ()))

    def _deliver(self, lane: Lane) -> list[Delivery]:
        """Hand out what waits in `lane`, oldest first, as far as there is room."""
        waiting = self._waiting.get(lane)
        if not waiting:
            return []
        deliveries: list[Delivery] = []
        while waiting:
            message, alone = waiting[0]
            worker = self._choose(lane, alone=alone)
            if worker is None:
                return deliveries
            waiting.popleft()
            record = self._workers[worker]
            record.held[message] = alone
            record.guarded = alone
            self._turn += 1
            record.turn = self._turn
            deliveries.append(Delivery(worker, message))
        del self._waiting[lane]
        return deliveries

    def _choose(self, lane: Lane, *, alone: bool) -> int | None:
        """Return the worker that holds least, of those the one served longest ago, if any."""
        best: tuple[int, int, int] | None = None
        for worker, record in self._lanes.get(lane, {}).items():
            if record.takes(alone=alone):
                rank = (len(record.held), record.turn, worker)
                if best is None or rank < best:
                    best = rank
        return None if best is None else best[2]
