"""A worker's presence: a key that lapses unless this thread of the worker's process renews it.

The thread lives and stops with the process, also where that is frozen. That the engine is stuck it
does not notice: a worker that does not answer is let go of by the front ends.
"""

import logging
import ssl
import threading
from collections.abc import Callable
from typing import Final

from wardian._internal.log import event
from wardian.errors import TransportError, WardianError
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_access import RedisAccess, lane_name
from wardian.serving.queue.redis_link import BlockingLink
from wardian.serving.queue.redis_wire import NO_ROOM, Refusal, command

log = logging.getLogger(__name__)

BEAT_S = 1.0
PRESENCE_MS = 3000
"""A worker that is not heard of for so long is gone."""
OWN_STREAM_S: Final = 60
"""How long the stream of a worker that is gone remains."""
_MAX_REPLY_BYTES: Final = 64 * 1024


class Heartbeat:
    """Says every second that a worker of a lane is there and how much it takes."""

    def __init__(
        self, access: Callable[[], RedisAccess], *, lane: Lane, worker: bytes, credit: int
    ) -> None:
        """Beat for `worker` once started; `access` is asked before each connection."""
        self._access = access
        self._lane = lane
        self._worker = worker
        self._credit = credit
        self._stopped = threading.Event()
        self._due = threading.Event()  # a beat is, before its time
        self._link: BlockingLink | None = None
        self._lock = threading.Lock()  # beats of two threads do not mix
        self._thread = threading.Thread(target=self._run, name="redis-presence", daemon=True)

    def start(self) -> None:
        """Beat from now on; a second call changes nothing."""
        if not self._thread.is_alive() and not self._stopped.is_set():
            self._thread.start()

    def grant(self, credit: int) -> None:
        """Say `credit` soon, unless nothing new is taken any more."""
        if self._credit:
            self._credit = credit
            self._due.set()

    def take_no_more(self) -> None:
        """Say that this worker is still there and takes nothing new."""
        self._credit = 0
        if not self._stopped.is_set():  # else it is gone already, and makes no new connection
            self._try_to_beat(PRESENCE_MS)

    def stop(self) -> None:
        """Say that this worker is gone, if it can be said, and beat no more."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._due.set()
        if self._thread.is_alive():
            self._thread.join()
            self._credit = 0
            if self._link is not None:
                self._try_to_beat(1)
        self._drop()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._due.clear()
            self._try_to_beat(PRESENCE_MS)
            self._due.wait(BEAT_S)

    def _try_to_beat(self, lapse_ms: int) -> None:
        with self._lock:
            try:
                self._beat(lapse_ms)
            except WardianError as err:
                event(log, "queue.presence_failed", level=logging.WARNING, why=str(err))
                self._drop()

    def _beat(self, lapse_ms: int) -> None:
        access = self._access()
        keys, own = access.keys, access.keys.own(self._worker)
        beat = [
            command(b"SADD", keys.lanes, lane_name(self._lane)),
            command(b"SADD", keys.workers(self._lane), self._worker),
            command(b"SET", keys.presence(self._worker), self._credit, b"PX", lapse_ms),
            command(b"EXPIRE", own, OWN_STREAM_S),
        ]
        if lapse_ms == PRESENCE_MS:  # what is set stays so also where Redis has no memory for SET
            beat.append(command(b"EXPIRE", keys.presence(self._worker), lapse_ms // 1000))
        if self._link is None:
            self._link = _open(access, access.tls(), beat[0])
        self._link.write(b"".join(beat))
        replies = [self._link.read() for _ in beat]
        for reply in replies:
            if isinstance(reply, Refusal) and reply.code not in NO_ROOM:
                raise TransportError(f"Redis: refuses a worker's presence ({reply.code})")

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def _open(access: RedisAccess, context: ssl.SSLContext, first: bytes) -> BlockingLink:
    return BlockingLink.open(access, context, first=first, max_reply_bytes=_MAX_REPLY_BYTES)
