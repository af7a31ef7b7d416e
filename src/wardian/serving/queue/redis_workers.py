"""The workers that a front end knows over Redis: found, challenged, admitted, let go of.

That a worker is there is Redis' word. It gets messages once it has answered a challenge that only
the queue key opens; what it held when it is gone is taken back.
"""

import itertools
import logging
import time
from collections import deque
from functools import partial
from typing import Final

from typing_extensions import override

from wardian._internal.log import event
from wardian.errors import CryptoError, WardianError
from wardian.serving.queue.frames import CHALLENGE
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_access import Keys
from wardian.serving.queue.redis_entries import Answered, xadd_request
from wardian.serving.queue.redis_heartbeat import PRESENCE_MS
from wardian.serving.queue.redis_lanes import RedisWorker, Sent
from wardian.serving.queue.redis_presence import (
    MAX_WORKERS,
    Present,
    claim_abandoned,
    exists,
    forget_consumer,
    held,
    held_by,
    is_held,
    remove,
)
from wardian.serving.queue.redis_session import Link
from wardian.serving.queue.redis_traffic import Traffic
from wardian.serving.queue.redis_wire import Reply

log = logging.getLogger(__name__)

CHALLENGE_TIMEOUT_S = 10.0
ABSENT_LOOKS: Final = 2
"""In how many looks in a row a worker is missing before it is gone."""
MOST_LOOKED_FOR: Final = 64
"""Messages that are under way for long which are looked for in one go."""
GONE_FOR_GOOD_S: Final = 600.0
"""A worker that was let go of and did not come back for so long is forgotten by Redis, too."""
_REMEMBERED_GONE: Final = 1024
_SHUNNED_S: Final = 1.0  # before one that cannot be challenged, or answers wrongly, is tried again


class Workforce(Traffic):
    """The workers, beside the messages that go to them."""

    def __init__(self, keys: Keys, front: bytes) -> None:
        """Know nobody yet."""
        super().__init__(keys, front)
        self.workers: dict[bytes, RedisWorker] = {}
        self._numbers = itertools.count(1)
        self._shunned: dict[bytes, float] = {}
        self._present: frozenset[bytes] = frozenset()
        self._gone: deque[tuple[float, Lane, bytes]] = deque(maxlen=_REMEMBERED_GONE)

    def named(self, number: int) -> RedisWorker | None:
        """Return the worker with `number`, if it is known."""
        return next((each for each in self.workers.values() if each.number == number), None)

    def compare(self, present: Present, *, settled: bool) -> None:
        """Take up who came, and let go of who left.

        Args:
            present: what Redis says now.
            settled: it has had time to hear of every worker since it was started.
        """
        now = time.monotonic()
        self._present = frozenset(name for _, name in present.credit)
        self._shunned = {name: at for name, at in self._shunned.items() if at > now}
        for (lane, name), credit in present.credit.items():
            worker = self.workers.get(name)
            if worker is None:
                self._enter(lane, name, credit)
            else:
                self._update(worker, credit, now)
        for worker in [each for name, each in self.workers.items() if name not in self._present]:
            worker.absent += 1
            if settled and worker.absent >= ABSENT_LOOKS:
                self.let_go(worker, "is gone")

    def _enter(self, lane: Lane, name: bytes, credit: int) -> None:
        if not credit or name in self._shunned or len(self.workers) >= MAX_WORKERS:
            return
        worker = RedisWorker(name, next(self._numbers), lane, credit)
        self.workers[name] = worker
        self.book.enter(worker)
        self.challenge(worker)

    def _update(self, worker: RedisWorker, credit: int, now: float) -> None:
        worker.absent = 0
        if worker.credit != credit:
            worker.credit = credit
            self.refill(worker.lane)
        if (worker.proving or not worker.admitted) and credit and worker.asked_at is not None:
            if now - worker.asked_at < CHALLENGE_TIMEOUT_S:
                return
            if worker.proving and not any(s.lane == worker.lane for s in self.book.sent.values()):
                self.let_go(worker, "did not prove itself anew")
            else:  # it is busy with what it holds, or the question was lost
                self.challenge(worker)

    def challenge(self, worker: RedisWorker) -> None:
        """Let `worker` prove, for the first time or anew, that it is one of its lane."""
        worker.proving = worker.admitted
        worker.asked_at = time.monotonic()
        try:
            sealed = self.sink.challenge(worker.number, worker.lane)
        except WardianError as err:
            self.let_go(worker, str(err))
            return
        self.post(worker, sealed)

    def post(self, worker: RedisWorker, sealed: bytes) -> None:
        """Put a challenge on the worker's own stream; nothing sealed is a welcome."""
        if self.commands is not None:
            own = self.keys.own(worker.name)
            pieces = xadd_request(own, self.front, CHALLENGE, sealed, own=True)
            self.commands.send(pieces, partial(self._posted, worker))

    def welcome_again(self) -> None:
        """Redis may have lost the welcome of a worker, which would wait for it for ever."""
        for worker in self.workers.values():
            if worker.admitted:
                self.post(worker, b"")

    def _posted(self, worker: RedisWorker, reply: Reply) -> None:
        if not isinstance(reply, bytes):  # no memory, or no such stream: asked again soon
            worker.admitted = worker.proving = False
            worker.asked_at = time.monotonic() - CHALLENGE_TIMEOUT_S + _SHUNNED_S

    def admit(self, answered: Answered) -> None:
        """Take the answer to a challenge."""
        worker = self.workers.get(answered.worker)
        if worker is None or (worker.admitted and not worker.proving):
            self.refusals.note("unknown")
            return
        try:
            self.sink.admit(worker.number, answered.sealed)
        except CryptoError:
            self.refusals.note("not authentic", worker=worker.number)
            return
        except WardianError as err:
            self.let_go(worker, str(err))
            return
        if not worker.admitted:
            self.post(worker, b"")
        worker.admitted, worker.proving = True, False
        self.refill(worker.lane)

    def let_go(self, worker: RedisWorker, reason: str) -> None:
        """`worker` gets nothing more; what it holds is taken back."""
        if self.workers.pop(worker.name, None) is None:
            return
        self._shunned[worker.name] = time.monotonic() + _SHUNNED_S
        self.book.leave(worker)
        self._gone.append((time.monotonic(), worker.lane, worker.name))
        self.spawn(self._take_back(worker, reason))

    async def _take_back(self, worker: RedisWorker, reason: str) -> None:
        link = self.commands
        shared: list[bytes] = []
        running = False  # the message on its own stream
        try:
            if link is not None:
                shared = await held_by(link, self.keys.lane(worker.lane), worker.name)
                running = await self._runs_alone(link, worker)
        finally:
            mine = self.book.shared(worker.lane)
            sent = [mine[entry] for entry in shared if entry in mine]
            event(
                log,
                "queue.worker_left",
                worker=worker.number,
                model=worker.lane.model,
                held=len(sent),
                reason=reason,
            )
            self.sink.gone(worker.number)
            if worker.alone is not None and worker.alone in self.book.sent:
                self.lose([self.book.sent[worker.alone]], others=not running)
            self.lose(sent, others=running or len(shared) > len(sent))
        if link is not None:
            await remove(link, self.keys.lane(worker.lane), [e for e in shared if e in mine])

    async def _runs_alone(self, link: Link, worker: RedisWorker) -> bool:
        """Return whether `worker` had begun with the message on its own stream."""
        sent = None if worker.alone is None else self.book.sent.get(worker.alone)
        if sent is None or sent.entry is None:
            return False
        own = self.keys.own(worker.name)
        holder = await is_held(link, own, sent.entry)
        await remove(link, own, [sent.entry])
        return holder is not None

    @override
    async def drop_holder(self, sent: Sent) -> None:
        link = self.commands
        if link is not None and sent.entry is not None:
            holder = await is_held(link, self.stream(sent), sent.entry)
            worker = None if holder is None else self.workers.get(holder)
            if worker is not None:
                self.let_go(worker, "held for too long what nobody waits for")
                return
        await super().drop_holder(sent)

    async def sweep(self, link: Link) -> None:
        """Take back what is with workers that are gone, and give up what Redis has lost."""
        now = time.monotonic()
        old = [s for s in self.book.sent.values() if now - s.sent_at > PRESENCE_MS / 1000]
        taken: set[tuple[bytes, bytes]] = set()
        for lane in {sent.lane for sent in old if sent.worker is None}:
            stream = self.keys.lane(lane)
            by_worker: dict[bytes, list[bytes]] = {}
            for entry, name in await held(link, stream):
                taken.add((stream, entry))
                if name not in self._present and name not in self.workers:
                    by_worker.setdefault(name, []).append(entry)
            await self._take_back_from_unknown(link, lane, by_worker)
        for sent in old[:MOST_LOOKED_FOR]:
            await self._look_for(link, sent, taken)

    async def _take_back_from_unknown(
        self, link: Link, lane: Lane, by_worker: dict[bytes, list[bytes]]
    ) -> None:
        """Take back what is with workers that came and went unseen."""
        mine = self.book.shared(lane)
        for entries in by_worker.values():
            lost = [mine[entry] for entry in entries if entry in mine]
            self.lose(lost, others=len(entries) > len(lost))
            await remove(link, self.keys.lane(lane), [each for each in entries if each in mine])

    async def _look_for(self, link: Link, sent: Sent, taken: set[tuple[bytes, bytes]]) -> None:
        """Give `sent` up if it was twice found to be neither with a worker nor in its stream."""
        stream, entry = self.stream(sent), sent.entry
        if entry is None or (stream, entry) in taken or await exists(link, stream, entry):
            sent.missing = False
        elif sent.missing:
            event(log, "queue.message_gone", level=logging.WARNING, model=sent.lane.model)
            self.lose([sent], others=True)
            self.refill(sent.lane)
        else:
            sent.missing = True  # or its answer is on the way here

    async def clear_abandoned(self, link: Link) -> None:
        """Take off the lanes what was sent by front ends that are gone to workers that are gone."""
        for lane in self.book.lanes():
            stream = self.keys.lane(lane)
            mine = self.book.shared(lane)
            entries = await claim_abandoned(link, stream, self.front)
            await remove(link, stream, [entry for entry in entries if entry not in mine])

    async def forget_gone(self, link: Link) -> None:
        """Let Redis forget the workers that left long ago."""
        due = time.monotonic() - GONE_FOR_GOOD_S
        while self._gone and self._gone[0][0] < due:
            _, lane, name = self._gone.popleft()
            if name not in self._present:
                await forget_consumer(link, self.keys.lane(lane), name)
