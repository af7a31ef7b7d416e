"""The Redis queue, front end side: one connection for commands, and one that waits for answers.

Workers are found by their presence, challenged on their own streams, admitted by their answers;
messages go to a lane's stream, from which any of its workers takes them. While Redis is away no
lane has room, and the dispatcher keeps what waits, unsealed. The whole picture: `queue-redis.md`.
"""

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import time
from typing import Final

from typing_extensions import override

from wardian._internal.log import event
from wardian.errors import ConnectionLost, PeerProtocolError, Timeout, WardianError
from wardian.serving.queue.frames import CHALLENGE, MAX_FRAME_BYTES, Address
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_access import GROUP, RedisAccess
from wardian.serving.queue.redis_connection import SILENCE_S, RedisConnection
from wardian.serving.queue.redis_entries import Entry, parse_answers, parse_streams
from wardian.serving.queue.redis_heartbeat import PRESENCE_MS
from wardian.serving.queue.redis_presence import look, tidy
from wardian.serving.queue.redis_session import accept, open_session, run_id
from wardian.serving.queue.redis_traffic import Why
from wardian.serving.queue.redis_wire import Refusal, Reply, command, entry_bytes
from wardian.serving.queue.redis_workers import Workforce
from wardian.serving.queue.seam import FrontQueue, FrontSink

log = logging.getLogger(__name__)

FORGOTTEN_GRACE_S = 5.0
"""How long a worker may hold a message that nobody waits for, before it is let go of."""
LOOK_S: Final = 0.25
"""How often is asked which workers are there."""
REPLIES_S: Final = 60
"""How long the stream of answers outlives its front end."""

_BLOCK_MS: Final = 1000
_ENTRIES: Final = 16  # that one reply brings
_MOST_DONE: Final = 64  # entries that were read and are not deleted yet, ...
_MOST_DONE_BYTES: Final = 256 * 1024  # ... and how much is in them; no longer than a look takes
_SWEEP_S: Final = 1.0
_TIDY_S: Final = 30.0
_MIN_PAUSE_S: Final = 0.02
_MAX_PAUSE_S: Final = 1.0


class RedisFrontQueue(FrontQueue):
    """A front end's end of the queue, over connections that are made again when they are lost."""

    def __init__(
        self,
        access: RedisAccess,
        *,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        look_s: float = LOOK_S,
    ) -> None:
        """Reach Redis through `access` once started.

        Args:
            access: where and as whom.
            max_frame_bytes: entries with larger answers are refused.
            look_s: pause between two looks for workers.
        """
        self._access = access
        self._front = secrets.token_hex(16).encode()
        self._replies_key = access.keys.replies(self._front)
        self._max_frame_bytes = max_frame_bytes
        self._look_s = look_s
        self._work = Workforce(access.keys, self._front)
        self._replies: RedisConnection | None = None
        self._last_entry = b"0-0"
        self._entries = _ENTRIES
        self._done: list[bytes] = []
        self._done_bytes = 0
        self._heard_at = 0.0
        self._connected_at = 0.0
        self._run_id: bytes | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def refusals(self) -> dict[Why, int]:
        """How many answers were refused so far, by reason."""
        return self._work.refusals.counts

    @property
    def connected(self) -> bool:
        """Whether Redis is there."""
        return self._work.commands is not None

    @override
    def attach(self, sink: FrontSink) -> None:
        self._work.attached = sink

    def use(self, access: RedisAccess) -> None:
        """Be who `access` says on every new connection."""
        self._access = access

    async def start(self) -> None:
        """Connect, now or as soon as Redis is there."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Let go of everything; what was under way is reported lost."""
        if self._task is None:
            return
        for task in (self._task, *self._work.tasks):
            task.cancel()
        await asyncio.gather(self._task, *self._work.tasks, return_exceptions=True)
        self._task = None
        self._work.lose_all()

    @override
    def room(self, lane: Lane, *, most: int | None = None) -> int:
        return self._work.room(lane, most=most)

    @override
    def crew(self, lane: Lane) -> int:
        return self._work.book.crew(lane)

    @override
    def idle(self, lane: Lane) -> bool:
        return self._work.book.idle(lane)

    @override
    def send(self, message: int, sealed: bytes, *, lane: Lane, alone: bool) -> None:
        self._work.offer(message, sealed, lane=lane, alone=alone)

    @override
    def forget(self, message: int, *, lane: Lane) -> None:
        self._work.forget(message, lane=lane, grace_s=FORGOTTEN_GRACE_S)

    @override
    def stalled(self, worker: int) -> bool:
        known = self._work.named(worker)
        return known is not None and self._work.book.stalled(known)

    @override
    def rechallenge(self) -> None:
        for worker in list(self._work.workers.values()):
            self._work.challenge(worker)

    # The connections

    async def _run(self) -> None:
        pause = 0.0
        while True:
            try:
                commands, replies = await self._connect()
            except (WardianError, OSError) as err:
                if not pause:
                    why = str(err) if isinstance(err, WardianError) else type(err).__name__
                    event(log, "queue.redis_unreachable", level=logging.WARNING, why=why)
                pause = min(_MAX_PAUSE_S, 2 * pause or _MIN_PAUSE_S)
                await asyncio.sleep(pause)
                continue
            pause = 0.0
            await self._use(commands, replies)

    async def _connect(self) -> tuple[RedisConnection, RedisConnection]:
        """Return both connections, and know whether Redis remembers this front end."""
        access, context = self._access, self._access.tls()
        limit = _ENTRIES * 1024 + 2 * entry_bytes(self._max_frame_bytes)

        async def dial(address: Address) -> RedisConnection:
            return await RedisConnection.open(
                address, context, access.server_name, max_reply_bytes=limit
            )

        expire = command(b"EXPIRE", self._replies_key, REPLIES_S)
        commands, address = await open_session(access, dial, first=expire)
        try:
            known = await commands.call(command(b"EXISTS", self._replies_key))
            make = command(b"XGROUP", b"CREATE", self._replies_key, GROUP, b"0", b"MKSTREAM")
            accept(await commands.call(make))
            run = await run_id(commands)
            there = dataclasses.replace(access, addresses=(address,), sentinel=None)
            replies, _ = await open_session(there, dial, first=expire)
        except BaseException:
            commands.close()
            raise
        if run != self._run_id or known != 1:
            self._run_id, self._last_entry = run, b"0-0"
            self._done, self._done_bytes = [], 0
            self._work.lose_all()
        return commands, replies

    async def _use(self, commands: RedisConnection, replies: RedisConnection) -> None:
        """Work with both connections until one is lost."""
        self._connected_at = self._heard_at = time.monotonic()
        self._work.commands, self._replies = commands, replies
        event(log, "queue.redis_connected", front=self._front.decode())
        patrol = asyncio.get_running_loop().create_task(self._patrol(commands, replies))
        self._read()
        try:
            ends = (commands.lost, replies.lost, patrol)
            await asyncio.wait(ends, return_when="FIRST_COMPLETED")
            lost = commands.lost if commands.lost.done() else replies.lost
            why = str(lost.result()) if lost.done() else "the patrol ended"
            event(log, "queue.redis_lost", level=logging.WARNING, why=why)
        finally:
            self._work.commands = self._replies = None
            patrol.cancel()
            commands.close()
            replies.close()
            with contextlib.suppress(asyncio.CancelledError):
                await patrol
            self._work.lose_unacknowledged()

    async def _patrol(self, commands: RedisConnection, replies: RedisConnection) -> None:
        """See who comes and goes, until a connection is lost."""
        work, keys = self._work, self._work.keys
        sweep_at = tidy_at = 0.0
        try:
            work.welcome_again()
            for lane in work.book.lanes():
                work.refill(lane)
            while True:
                now = time.monotonic()
                self._delete_done()
                present = await look(commands, keys, known=work.workers)
                work.compare(present, settled=now - self._connected_at > PRESENCE_MS / 1000)
                if now - self._heard_at > _BLOCK_MS / 1000 + SILENCE_S:
                    replies.end(Timeout("Redis: says nothing"))
                    return
                if now >= sweep_at:
                    sweep_at = now + _SWEEP_S
                    await self._stay_known(commands)
                    await work.sweep(commands)
                if now >= tidy_at:
                    tidy_at = now + _TIDY_S
                    await tidy(commands, keys, present)
                    await work.clear_abandoned(commands)
                    await work.forget_gone(commands)
                await asyncio.sleep(self._look_s)
        except WardianError as err:
            commands.end(err)

    async def _stay_known(self, commands: RedisConnection) -> None:
        """Keep the stream of answers.

        Raises:
            ConnectionLost: Redis has forgotten it: connecting anew makes it, and gives up the rest.
        """
        if await commands.call(command(b"EXPIRE", self._replies_key, REPLIES_S)) != 1:
            raise ConnectionLost("Redis: has forgotten this front end")

    # Answers

    def _read(self) -> None:
        """Ask for the next answers, and delete those that are done once it is worth a command."""
        link = self._replies
        if link is None:
            return
        if len(self._done) >= _MOST_DONE or self._done_bytes >= _MOST_DONE_BYTES:
            self._delete_done()
        asked = command(
            b"XREAD", b"COUNT", self._entries, b"BLOCK", _BLOCK_MS,
            b"STREAMS", self._replies_key, self._last_entry,
        )  # fmt: skip
        link.send([asked], self._take)

    def _delete_done(self) -> None:
        """Delete the answers that were read; before that they cost Redis memory, no more."""
        link = self._work.commands  # the other one waits for answers, and this would wait behind
        if self._done and link is not None:
            link.send([command(b"XDEL", self._replies_key, *self._done)], _ignore)
            self._done, self._done_bytes = [], 0

    def _take(self, reply: Reply) -> None:
        self._heard_at = time.monotonic()
        if isinstance(reply, Refusal):
            raise PeerProtocolError(f"Redis: gives no answers ({reply.code})")
        entries = parse_streams(reply, (self._replies_key,)).get(self._replies_key, [])
        if entries:
            self._last_entry = entries[-1].id
            self._done += [entry.id for entry in entries]
            self._done_bytes += sum(len(field) for entry in entries for field in entry.fields)
        self._read()
        lanes: dict[Lane, None] = {}
        for entry in entries:
            self._take_entry(entry, lanes)
        for lane in lanes:
            self._work.refill(lane)

    def _take_entry(self, entry: Entry, lanes: dict[Lane, None]) -> None:
        try:
            answers = parse_answers(entry)
        except WardianError:
            self._work.refusals.note("malformed")
            return
        for answered in answers:
            if answered.message == CHALLENGE:
                self._work.admit(answered)
            elif (lane := self._work.answer(answered)) is not None:
                lanes[lane] = None


def _ignore(_: Reply) -> None:
    """Deleting an entry that is gone changes nothing."""
