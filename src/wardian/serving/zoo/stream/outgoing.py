"""Results on their way into their Redis: those of a tick in one transaction, again if it failed."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from wardian._internal.log import event
from wardian.serving.queue.redis_connection import RedisConnection
from wardian.serving.queue.redis_wire import Refusal, Reply
from wardian.serving.zoo.stream import commands
from wardian.serving.zoo.stream.commands import Result
from wardian.serving.zoo.stream.counts import Counts

log = logging.getLogger(__name__)

MOST_WRITTEN: Final = 256
"""Results of one transaction: Redis serves nobody else meanwhile."""
REFUSED_PAUSE_S: Final = 1.0
"""How long to wait after a refusal: its memory is full, or its disk."""


class Outgoing:
    """The results of one stream, each kept until it is known to be written."""

    def __init__(
        self,
        job: bytes,
        *,
        ttl_s: int,
        counts: Counts,
        released: Callable[[list[Result]], None],
    ) -> None:
        """Write results of `job`; `released` is told of those that are written, or never can be."""
        self._job, self._ttl_s, self._counts, self._released = job, ttl_s, counts, released
        self._loop = asyncio.get_running_loop()
        self._link: RedisConnection | None = None
        self._waiting: dict[bytes, Result] = {}
        self._sent: dict[bytes, Result] = {}
        self._due: asyncio.Handle | None = None
        self.stuck = False
        """Whether Redis refuses to write."""

    def put(self, result: Result) -> None:
        """Write `result` at the end of this tick, or when there is a connection."""
        self._waiting[result.id] = result
        if self._due is None:
            self._due = self._loop.call_soon(self._flush)

    def use(self, link: RedisConnection | None) -> None:
        """Write to `link` from now on; what was sent and not answered is written once more."""
        self._link = link
        self._waiting = {**self._sent, **self._waiting}
        self._sent = {}
        self._flush_after(0.0)

    def _flush_after(self, pause_s: float) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = self._loop.call_later(pause_s, self._flush)

    def _flush(self) -> None:
        self._due = None
        link = self._link
        if link is None or link.lost.done():
            return
        results, self._waiting = list(self._waiting.values()), {}
        for start in range(0, len(results), MOST_WRITTEN):
            part = results[start : start + MOST_WRITTEN]
            self._sent.update((each.id, each) for each in part)
            pieces = commands.write_results(self._job, part, ttl_s=self._ttl_s)
            takers = [_ignore] * (len(pieces) - 1)
            link.send(pieces, *takers, partial(self._written, part, link))

    def _written(self, results: list[Result], link: RedisConnection, reply: Reply) -> None:
        if link is not self._link:
            return  # a connection of before: they were sent again
        refused = commands.refused_writes(reply)
        if refused is None:
            self._keep(results, reply)
            return
        if refused:
            self._counts.dropped["key-taken"] += refused
            event(log, "zoo.dropped", level=logging.ERROR, stream=self._job.decode(),
                  why="key-taken")  # fmt: skip
        self.stuck = False
        for each in results:
            self._sent.pop(each.id, None)
        self._released(results)

    def _keep(self, results: list[Result], reply: Reply) -> None:
        """Redis did nothing of it: try again later."""
        if not self.stuck:
            code = reply.code if isinstance(reply, Refusal) else ""
            event(log, "zoo.results_refused", level=logging.WARNING, code=code)
        self.stuck = True
        for each in results:
            self._sent.pop(each.id, None)
            self._waiting[each.id] = each
        self._flush_after(REFUSED_PAUSE_S)


def _ignore(_: Reply) -> None:
    """A command was queued in its transaction; what becomes of it EXEC says."""
