"""The loop of one stream: records in, results out, nothing lost, memory bounded.

A record stays pending in their Redis until its result is written: in one transaction the result is
there, the record acknowledged and deleted. So whoever dies in between leaves it pending, and it is
claimed: by this process when it comes back under its name, by another one of the role once the
record is idle. What a server of theirs left in the group is never touched.

Two connections, as one of them waits for records: `reader` hands out, `writer` writes results.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from functools import partial
from typing import Final

from wardian._internal.log import event
from wardian.errors import FormatError, PeerProtocolError, WardianError
from wardian.serving.queue.redis_connection import RedisConnection
from wardian.serving.queue.redis_entries import Entry
from wardian.serving.queue.redis_session import accept
from wardian.serving.zoo.records import parse_uri, result_key
from wardian.serving.zoo.stream import commands
from wardian.serving.zoo.stream.answering import Answering
from wardian.serving.zoo.stream.counts import Counts
from wardian.serving.zoo.stream.outgoing import Outgoing
from wardian.serving.zoo.stream.their_redis import TheirRedis, open_theirs
from wardian.serving.zoo.stream.window import Window

log = logging.getLogger(__name__)

MOST_READ: Final = 256
"""Records of one read, ..."""
READ_BYTES: Final = 8 * 1024**2
"""... or as many as are about so large together, by the size of those before."""
MOST_BYTES: Final = 64 * 1024**2
"""Of the records under way, of all streams together."""
MOST_DELIVERIES: Final = 16
"""A record that was handed out so often was the end of every process that had it."""
BLOCK_MS: Final = 1000
_LISTED: Final = 64  # pending records that are looked at, and claimed, at a time
_KEPT: Final = 512  # ids in one command
_MIN_PAUSE_S: Final = 0.02
_MAX_PAUSE_S: Final = 1.0
_OVERHEAD: Final = 4096  # of a record, beside its data: uri, names, framing
_ENTRY: Final = 64  # bytes of a record that has nothing in it: no count of records is without end


class JobConsumer:
    """Serves one stream over connections that are made again when they are lost."""

    def __init__(
        self,
        *,
        job: bytes,
        consumer: bytes,
        redis: TheirRedis,
        answering: Answering,
        window: Window,
        counts: Counts,
        deadline_s: float,
        ttl_s: int,
        max_bytes: int,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """Serve `job` once run.

        Args:
            job: the name of the stream.
            consumer: the name of this process among those of the role; it keeps it when it is
                started anew, and no other has it.
            redis: where the stream is.
            answering: answers its records.
            window: bounds how many are under way.
            counts: are kept.
            deadline_s: of one request; what is idle for two of them is claimed.
            ttl_s: how long results stay.
            max_bytes: of a record's data; a larger one is not read.
            most_bytes: of the records under way.
        """
        self._job, self._consumer, self._redis = job, consumer, redis
        self._answering, self._window, self._counts = answering, window, counts
        self._beat_s, self._idle_ms = deadline_s / 2, int(2000 * deadline_s)
        self._max_reply = max(READ_BYTES, max_bytes + _OVERHEAD) + READ_BYTES
        self._most_bytes = most_bytes
        self._out = Outgoing(job, ttl_s=ttl_s, counts=counts, released=self._release)
        self._held: dict[bytes, int] = {}  # sizes of the records under way, by id
        self._held_bytes = 0
        self._size = 1024.0  # of a record, by those that were read lately
        self._one: bytes | None = None  # the record that is claimed by itself
        self._careful = False  # a reply was too large: records are claimed one by one
        self._stopping = False
        self._changed = asyncio.Event()
        answering.room = self._changed.set

    @property
    def held(self) -> int:
        """How many records are under way."""
        return len(self._held)

    @property
    def stuck(self) -> bool:
        """Whether their Redis refuses results: its memory is full, or its disk."""
        return self._out.stuck

    async def run(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        pause = 0.0
        while True:
            began = loop.time()
            try:
                await self._use(*await self._connect())
            except (WardianError, OSError) as err:
                if not pause:
                    why = str(err) if isinstance(err, WardianError) else type(err).__name__
                    event(log, "zoo.redis_unreachable", level=logging.WARNING, why=why)
            if loop.time() - began > _MAX_PAUSE_S:  # it worked for a while
                pause = 0.0
            pause = min(_MAX_PAUSE_S, 2 * pause or _MIN_PAUSE_S)
            await asyncio.sleep(pause)

    async def drain(self, timeout_s: float) -> None:
        """Read nothing more; return when all that was read has its result, or it is late.

        What has none by then is pending, and claimed by whoever comes next.
        """
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._held:
                    self._changed.clear()
                    await self._changed.wait()

    # The connections

    async def _connect(self) -> tuple[RedisConnection, RedisConnection]:
        writer = await open_theirs(self._redis, max_reply_bytes=READ_BYTES)
        try:
            accept(await writer.call(commands.make_group(self._job)))
            await writer.call(commands.join(self._job, self._consumer))
            reader = await open_theirs(self._redis, max_reply_bytes=self._max_reply)
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def _use(self, reader: RedisConnection, writer: RedisConnection) -> None:
        """Work with both connections until one is lost."""
        event(log, "zoo.redis_connected", stream=self._job.decode())
        self._one = None
        self._out.use(writer)
        loop = asyncio.get_running_loop()
        tasks = (loop.create_task(self._feed(reader)), loop.create_task(self._beat(writer)))
        try:
            await asyncio.wait((reader.lost, writer.lost, *tasks), return_when="FIRST_COMPLETED")
            for link in (reader, writer):
                if link.lost.done():
                    self._note_lost(link.lost.result(), reading=link is reader)
        finally:
            self._out.use(None)
            for task in tasks:
                task.cancel()
            reader.close()
            writer.close()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):  # a bug of ours: never without a word
                    event(log, "zoo.failed", level=logging.ERROR, error=type(ended).__name__)

    def _note_lost(self, why: WardianError, *, reading: bool) -> None:
        event(log, "zoo.redis_lost", level=logging.WARNING, why=str(why))
        if not reading or not isinstance(why, PeerProtocolError):
            return
        if self._one is not None:  # it alone is too large
            self._counts.dropped["too-large"] += 1
            event(
                log, "zoo.dropped", level=logging.ERROR, stream=self._job.decode(), why="too-large"
            )
            self._hold(self._one, 0)
            self._out.put(commands.Result(self._one, None, None))
        self._careful = True

    async def _beat(self, writer: RedisConnection) -> None:
        """Say again and again which records are still here, so that nobody claims them."""
        try:
            while True:
                await asyncio.sleep(self._beat_s)
                held = list(self._held)
                for start in range(0, len(held), _KEPT):
                    ids = held[start : start + _KEPT]
                    await writer.call(commands.keep(self._job, self._consumer, ids))
        except WardianError as err:
            writer.end(err)

    # Records

    async def _feed(self, reader: RedisConnection) -> None:
        """Take records, those first that this process had before it was started anew."""
        loop = asyncio.get_running_loop()
        try:
            await self._claim(reader, self._consumer, idle_ms=0)
            self._careful = False
            claim_at = loop.time()
            while True:
                if loop.time() >= claim_at:
                    claim_at = loop.time() + 2 * self._beat_s
                    await self._claim_orphans(reader)
                count = await self._room()
                if self._stopping:
                    break
                asked = commands.read_new(self._job, self._consumer, count=count, block_ms=BLOCK_MS)
                began = loop.time()
                found = commands.parse_new(await reader.call(asked), self._job)
                if not self._take(found) and loop.time() - began < BLOCK_MS / 2000:
                    await asyncio.sleep(_MIN_PAUSE_S)  # it did not wait as it was asked to
            await loop.create_future()  # until cancelled: results go on
        except WardianError as err:
            reader.end(err)

    async def _claim_orphans(self, reader: RedisConnection) -> None:
        """Claim what other processes of the role do not hold any more."""
        others = commands.parse_consumers(await reader.call(commands.list_consumers(self._job)))
        for other in others:
            if other != self._consumer:
                await self._claim(reader, other, idle_ms=self._idle_ms)

    async def _claim(self, reader: RedisConnection, consumer: bytes, *, idle_ms: int) -> None:
        """Take over what `consumer` has held for so long, and is not held here."""
        after: bytes | None = b"0-0"
        while after is not None:
            asked = commands.list_pending(self._job, consumer, after=after, count=_LISTED)
            rows = commands.parse_pending(await reader.call(asked), after=after)
            wanted = [row for row in rows if row.idle_ms >= idle_ms and row.id not in self._held]
            fatal = {row.id for row in wanted if row.deliveries >= MOST_DELIVERIES}
            # A careful one is claimed by itself: what does not even fit alone is known by its id.
            for ids in _cut([row.id for row in wanted], 1 if self._careful else self._per_claim()):
                await self._room()
                self._one = ids[0] if self._careful else None
                asked = commands.claim(self._job, self._consumer, idle_ms=idle_ms, ids=ids)
                reply = await reader.call(asked)
                self._one = None  # whatever it says, it was not too large
                found = commands.parse_claimed(reply, self._job)
                self._counts.claimed += len(found)
                self._take(found, fatal=fatal)
            if len(rows) < _LISTED:
                return
            after = commands.next_id(rows[-1].id)

    def _per_claim(self) -> int:
        return max(1, min(_LISTED, int(READ_BYTES / self._size)))

    async def _room(self) -> int:
        """Return how many records may be taken, once some may be."""
        while True:
            room = self._window.size - len(self._held)
            enough = room >= max(1, self._window.size // 4) and self._held_bytes < self._most_bytes
            if enough and not self._answering.waits and not self._out.stuck:
                return max(1, min(room, MOST_READ, int(READ_BYTES / self._size)))
            self._changed.clear()
            await self._changed.wait()

    def _take(self, entries: Iterable[Entry], *, fatal: Iterable[bytes] = ()) -> int:
        """Answer `entries`, and return how many of them were not here already."""
        before = self._counts.read
        for entry in entries:
            if entry.id in self._held:
                continue
            fields = dict(zip(entry.fields[::2], entry.fields[1::2], strict=False))
            size = _ENTRY + sum(map(len, entry.fields))
            self._size += (size - self._size) / 16
            self._counts.read += 1
            self._hold(entry.id, size)
            try:
                key = result_key(self._job, parse_uri(fields))
            except FormatError:
                if entry.fields:  # else somebody deleted it while it was pending
                    self._counts.dropped["no-uri"] += 1
                self._out.put(commands.Result(entry.id, None, None))
                continue
            give = partial(self._give, entry.id, key)
            if entry.id in fatal:
                self._answering.nan(give, "fatal")
            else:
                self._answering.answer(fields, give)
        return self._counts.read - before

    def _hold(self, record: bytes, size: int) -> None:
        self._held[record] = size
        self._held_bytes += size

    def _give(self, record: bytes, key: bytes, value: bytes) -> None:
        self._window.answered(held=len(self._held))
        self._out.put(commands.Result(record, key, value))

    def _release(self, results: list[commands.Result]) -> None:
        """What is written is of no concern any more."""
        for result in results:
            self._held_bytes -= self._held.pop(result.id, 0)
        self._changed.set()


def _cut(ids: list[bytes], size: int) -> list[list[bytes]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]
