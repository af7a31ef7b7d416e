"""The messages of one front end over Redis: sent, acknowledged, answered, taken back.

Redis may say anything about any message. What it says is matched with what was sent here, and an
answer counts only if the sink opens it: everything else is refused, counted, and changes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from wardian._internal.log import event
from wardian.errors import LocalProtocolError, PeerProtocolError, WardianError
from wardian.serving.queue.frames import CHALLENGE
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_access import Keys
from wardian.serving.queue.redis_connection import RedisConnection
from wardian.serving.queue.redis_entries import Answered, parse_id, xadd_request
from wardian.serving.queue.redis_lanes import LaneBook, Sent, Waiting
from wardian.serving.queue.redis_presence import is_held, remove
from wardian.serving.queue.redis_wire import NO_ROOM, Refusal, Reply, command
from wardian.serving.queue.seam import FrontSink

log = logging.getLogger(__name__)

FULL_PAUSE_S: Final = 1.0
"""How long a lane has no room after Redis had none."""
SOMEBODY_ELSE: Final = CHALLENGE
"""Among lost messages: the worker held others as well, so none of these is what it died of."""

Why: TypeAlias = Literal["malformed", "unknown", "not authentic"]
_LOG_EVERY_S: Final = 1.0


class Refusals:
    """Counts what was refused by reason, and logs it at most once a second for each."""

    def __init__(self) -> None:
        self.counts: dict[Why, int] = {}
        self._logged: dict[Why, tuple[float, int]] = {}

    def note(self, why: Why, *, worker: int = 0) -> None:
        """One more was refused because of `why`."""
        count = self.counts[why] = self.counts.get(why, 0) + 1
        at, before = self._logged.get(why, (-_LOG_EVERY_S, 0))
        now = time.monotonic()
        if now - at >= _LOG_EVERY_S:
            self._logged[why] = now, count
            fields = {"worker": worker, "why": why, "count": count - before}
            event(log, "queue.answer_refused", level=logging.WARNING, **fields)


class Traffic:
    """What one front end has under way. Everything runs on its event loop."""

    def __init__(self, keys: Keys, front: bytes) -> None:
        self.keys = keys
        self.front = front
        self.book = LaneBook()
        self.refusals = Refusals()
        self.commands: RedisConnection | None = None
        self.attached: FrontSink | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def sink(self) -> FrontSink:
        """Who is told."""
        if self.attached is None:
            raise LocalProtocolError("attach a sink before the queue starts")
        return self.attached

    def spawn(self, steps: Coroutine[Any, Any, None]) -> None:
        """Carry out `steps`; what fails with the connection is left to the next one."""
        task = asyncio.get_running_loop().create_task(self._quietly(steps))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _quietly(self, steps: Coroutine[Any, Any, None]) -> None:
        try:
            await steps
        except WardianError as err:
            if self.commands is not None:
                self.commands.end(err)

    def room(self, lane: Lane, *, most: int | None = None) -> int:
        """Return for how many workers a message would be if it were sent now."""
        return 0 if self.commands is None else self.book.room(lane, time.monotonic(), most=most)

    def deliver(self, lane: Lane) -> None:
        """Send what waits for `lane`, as far as there is room."""
        link = self.commands
        if link is None:
            return
        for sent, sealed in self.book.due(lane, time.monotonic()):
            own = sent.worker is not None
            pieces = xadd_request(self.stream(sent), self.front, sent.message, sealed, own=own)
            link.send(pieces, partial(self._acknowledged, sent))

    def stream(self, sent: Sent) -> bytes:
        """Return the key of the stream that `sent` was put into."""
        worker = sent.worker
        return self.keys.lane(sent.lane) if worker is None else self.keys.own(worker.name)

    def refill(self, lane: Lane) -> None:
        """Send on what waits for `lane`, and say so if there is still room."""
        self.deliver(lane)
        if self.room(lane):
            self.sink.room_opened(lane)

    def answer(self, answered: Answered) -> Lane | None:
        """Take an answer to a message; returns the lane in which there may be room now."""
        sent = self.book.sent.get(answered.message)
        if sent is None:
            self.refusals.note("unknown")
            return None
        if answered.refused:
            if sent.entry not in (None, answered.sealed):
                self.refusals.note("unknown")
                return None
            event(log, "queue.message_refused", level=logging.WARNING, model=sent.lane.model)
            self.lose([sent], others=True)
            return sent.lane
        try:
            self.sink.answered(answered.message, answered.sealed)
        except WardianError:
            self.refusals.note("not authentic")
            return None
        self.book.settle(answered.message)
        return sent.lane

    def lose(self, lost: Iterable[Sent], *, others: bool) -> None:
        """Give messages back to the sink; `others`: who had them held further ones."""
        messages = [sent.message for sent in lost if self.book.settle(sent.message) is not None]
        if messages:
            self.sink.lost([*messages, SOMEBODY_ELSE] if others else messages)

    def lose_unacknowledged(self) -> None:
        """The connection is lost: what Redis did not acknowledge may never have reached it."""
        self.lose([sent for sent in self.book.sent.values() if sent.entry is None], others=True)

    def lose_all(self) -> None:
        """Redis was started anew, or has forgotten this front end: nothing will be answered."""
        self.lose(list(self.book.sent.values()), others=True)

    def forget(self, message: int, *, lane: Lane, grace_s: float) -> None:
        """Nobody waits for `message` any more."""
        if self.book.take_back(message, lane=lane):
            self.deliver(lane)  # it may have stood in the way of the next
        elif (sent := self.book.sent.get(message)) is not None:
            sent.forgotten = True
            asyncio.get_running_loop().call_later(grace_s, self._overdue, sent)
            self.spawn(self._withdraw(sent))

    async def _withdraw(self, sent: Sent) -> None:
        """Take a message off its stream unless a worker has it; that one goes on holding it."""
        link = self.commands
        if link is None or sent.entry is None:
            return  # lost with the connection, or withdrawn when it is acknowledged
        await link.call(command(b"XDEL", self.stream(sent), sent.entry))
        if await is_held(link, self.stream(sent), sent.entry) is None:
            self.settle_and_refill(sent)

    def settle_and_refill(self, sent: Sent) -> None:
        """A message that nobody waits for is with nobody."""
        if self.book.settle(sent.message) is not None:
            self.refill(sent.lane)

    def _overdue(self, sent: Sent) -> None:
        if sent.message in self.book.sent:
            self.spawn(self.drop_holder(sent))

    async def drop_holder(self, sent: Sent) -> None:
        """Let go of the worker that holds a message for too long; here: of the message."""
        if self.commands is not None and sent.entry is not None:
            await remove(self.commands, self.stream(sent), [sent.entry])
        self.settle_and_refill(sent)

    def _acknowledged(self, sent: Sent, reply: Reply) -> None:
        if isinstance(reply, bytes):
            sent.entry = parse_id(reply)
            if sent.forgotten:
                self.spawn(self._withdraw(sent))
            return
        if isinstance(reply, Refusal):
            if reply.code not in NO_ROOM:
                raise PeerProtocolError(f"Redis: refuses a message ({reply.code})")
            event(log, "queue.redis_full", level=logging.WARNING, code=reply.code)
            self.book.pause(sent.lane, time.monotonic() + FULL_PAUSE_S)
            asyncio.get_running_loop().call_later(FULL_PAUSE_S, self.refill, sent.lane)
        # Else its worker's own stream is gone, and the worker with it.
        self.lose([sent], others=True)

    def offer(self, message: int, sealed: bytes, *, lane: Lane, alone: bool) -> None:
        """Send `sealed` as soon as there is room."""
        self.book.offer(Waiting(message, sealed, alone), lane=lane)
        self.deliver(lane)
