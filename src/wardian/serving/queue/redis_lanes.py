"""Which messages of one front end are under way over Redis, and what more may be. Pure.

Any worker of a lane takes the next message of its stream, so that a front end does not know who
holds which. It knows how many it has sent and how many the workers that it admitted take together:

- a message waits here, is sent once, or is gone because it was answered, forgotten or lost;
- no more is sent to a lane than its workers gave credit for, all together;
- a message that travels `alone` goes to one worker's own stream, when there are fewer messages
  under way than workers; meanwhile that worker's credit does not count;
- waiting messages of a lane are sent in the order in which they were offered.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from wardian.serving.queue.lease import Lane


@dataclass(slots=True, eq=False)
class RedisWorker:
    """A worker that says it is there.

    Attributes:
        name: random, in hex; its own word.
        number: in this process, never used twice.
        lane: which it says it serves.
        credit: messages that it takes at a time; 0 while it takes no more.
        asked_at: when it was last challenged; None before.
        admitted: it answered a challenge.
        proving: a challenge after the first is open; nothing is sent on its account.
        alone: the message on its own stream, if there is one.
        absent: in how many looks in a row it was not there.
    """

    name: bytes
    number: int
    lane: Lane
    credit: int
    asked_at: float | None = None
    admitted: bool = False
    proving: bool = False
    alone: int | None = None
    absent: int = 0

    @property
    def takes(self) -> bool:
        """Whether messages are sent on its account."""
        return self.admitted and not self.proving and self.credit > 0 and self.alone is None


@dataclass(slots=True, eq=False)
class Sent:
    """A message under way.

    Attributes:
        message: its number.
        lane: where it was sent.
        worker: to whose own stream; None for the lane's.
        entry: its id in the stream; None until Redis acknowledged it.
        sent_at: monotonic.
        forgotten: nobody waits for it.
        missing: it was not where it should be, at the last look.
    """

    message: int
    lane: Lane
    worker: RedisWorker | None
    sent_at: float
    entry: bytes | None = None
    forgotten: bool = False
    missing: bool = False


class Waiting(NamedTuple):
    """A message that was not sent yet."""

    message: int
    sealed: bytes
    alone: bool


@dataclass(slots=True)
class _Lane:
    workers: list[RedisWorker] = field(default_factory=list)
    shared: int = 0  # sent to the lane's stream and not settled
    alone: int = 0  # likewise, to own streams
    waiting: deque[Waiting] = field(default_factory=deque)
    paused_until: float = 0.0


class LaneBook:
    """Workers, what waits and what is under way, by lane."""

    def __init__(self) -> None:
        self.sent: dict[int, Sent] = {}
        self._lanes: dict[Lane, _Lane] = {}

    def enter(self, worker: RedisWorker) -> None:
        """`worker` may be counted as soon as it is admitted."""
        self._lane(worker.lane).workers.append(worker)

    def leave(self, worker: RedisWorker) -> None:
        """`worker` is counted no more; what is under way stays so."""
        self._lane(worker.lane).workers.remove(worker)

    def pause(self, lane: Lane, until: float) -> None:
        """Nothing is sent to `lane` before `until`."""
        self._lane(lane).paused_until = until

    def offer(self, waiting: Waiting, *, lane: Lane) -> None:
        """A message is to be sent to `lane` when there is room."""
        self._lane(lane).waiting.append(waiting)

    def take_back(self, message: int, *, lane: Lane) -> bool:
        """Return whether `message` was still waiting; it waits no more."""
        record = self._lane(lane)
        kept = deque(each for each in record.waiting if each.message != message)
        found = len(kept) != len(record.waiting)
        record.waiting = kept
        return found

    def drain(self) -> list[int]:
        """Return the messages that wait, and forget them."""
        messages = []
        for record in self._lanes.values():
            messages += [each.message for each in record.waiting]
            record.waiting.clear()
        return messages

    def room(self, lane: Lane, now: float, *, most: int | None = None) -> int:
        """Return how many workers of `lane` a message would be for if it were sent at `now`.

        `most`: a worker's credit counts up to that.
        """
        record = self._lanes.get(lane)
        if record is None or record.waiting or record.paused_until > now:
            return 0
        return _room(record, most=most)

    def crew(self, lane: Lane) -> int:
        """Return how many workers of `lane` take messages."""
        record = self._lanes.get(lane)
        return 0 if record is None else sum([worker.takes for worker in record.workers])

    def idle(self, lane: Lane) -> bool:
        """Return whether fewer messages are under way to `lane` than it has workers."""
        record = self._lanes.get(lane)
        return record is not None and self.crew(lane) > record.shared

    def stalled(self, worker: RedisWorker) -> bool:
        """Return whether `worker` gets nothing because of messages that nobody waits for."""
        record = self._lanes[worker.lane]
        if not record.shared + record.alone or _room(record):
            return False
        mine = [each for each in self.sent.values() if each.lane == worker.lane]
        return all(each.forgotten for each in mine)

    def due(self, lane: Lane, now: float) -> Iterator[tuple[Sent, bytes]]:
        """Yield each waiting message of `lane` that is to be sent at `now`, and what is sealed."""
        record = self._lanes.get(lane)
        while record is not None and record.waiting and record.paused_until <= now:
            message, sealed, alone = record.waiting[0]
            worker = _idle(record) if alone else None
            if (alone and worker is None) or (not alone and not _room(record)):
                return
            record.waiting.popleft()
            sent = Sent(message, lane, worker, now)
            if worker is None:
                record.shared += 1
            else:
                worker.alone = message
                record.alone += 1
            self.sent[message] = sent
            yield sent, sealed

    def settle(self, message: int) -> Sent | None:
        """`message` is under way no more; returns what it was, if it was."""
        sent = self.sent.pop(message, None)
        if sent is None:
            return None
        record = self._lanes[sent.lane]
        if sent.worker is None:
            record.shared -= 1
        else:
            record.alone -= 1
            sent.worker.alone = None
        return sent

    def shared(self, lane: Lane) -> dict[bytes, Sent]:
        """Return what is under way on the stream of `lane` by the id of its entry there."""
        return {
            sent.entry: sent
            for sent in self.sent.values()
            if sent.lane == lane and sent.worker is None and sent.entry is not None
        }

    def lanes(self) -> list[Lane]:
        """Return every lane that was ever heard of or used here and is not empty."""
        for lane in [each for each, record in self._lanes.items() if _empty(record)]:
            del self._lanes[lane]
        return list(self._lanes)

    def _lane(self, lane: Lane) -> _Lane:
        return self._lanes.setdefault(lane, _Lane())


def _room(record: _Lane, *, most: int | None = None) -> int:
    takes = [worker.credit for worker in record.workers if worker.takes]
    if most is not None:
        takes = [min(most, credit) for credit in takes]
    idle = len(takes) - record.shared
    return idle if idle > 0 else max(0, min(len(takes), sum(takes) - record.shared))


def _idle(record: _Lane) -> RedisWorker | None:
    """Return a worker that probably holds nothing, for a message that travels alone."""
    free = [worker for worker in record.workers if worker.takes]
    # Those with a message of their own are not among `free`; the lane's may be with any of these.
    return free[0] if len(free) > record.shared else None


def _empty(record: _Lane) -> bool:
    return not (record.workers or record.waiting or record.shared or record.alone)
