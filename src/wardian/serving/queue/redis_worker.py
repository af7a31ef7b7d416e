"""The Redis queue, worker side: one blocking TLS connection, one write a batch.

A write carries the answers of a batch (one entry for each front end), takes its messages off the
streams, and asks for the next. Until a front end has admitted this worker it reads its own stream
alone. Everything that Redis says is untrusted: what does not parse costs the connection, what does
not open is handed back.
"""

import logging
import secrets
import ssl
import threading
import time
from collections import deque
from typing import Final, NamedTuple

from typing_extensions import override

from wardian._internal.log import event
from wardian.errors import ConnectionLost, PeerProtocolError, WardianError
from wardian.serving.queue.frames import CHALLENGE, MAX_FRAME_BYTES
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_access import GROUP, RedisAccess
from wardian.serving.queue.redis_entries import Asked, Entry, parse_request, parse_streams
from wardian.serving.queue.redis_heartbeat import Heartbeat
from wardian.serving.queue.redis_link import BlockingLink
from wardian.serving.queue.redis_outbox import READ, Outbox, Sent
from wardian.serving.queue.redis_session import accept
from wardian.serving.queue.redis_wire import NO_ROOM, Refusal, Reply, command, entry_bytes
from wardian.serving.queue.seam import Delivered, WorkerQueue
from wardian.serving.queue.worker import DEFAULT_CREDIT

log = logging.getLogger(__name__)

STOP_GRACE_S = 30.0
"""How long a worker that stops may still be answering what it holds."""
POLL_MS: Final = 250
"""How soon `stop` is noticed by a worker that has nothing to do."""
NO_ROOM_PAUSE_S: Final = 0.05
"""How long to wait before an answer for which Redis had no memory is said again."""

_MIN_PAUSE_S: Final = 0.02
_MAX_PAUSE_S: Final = 1.0
_REMEMBERED: Final = 1024
_NEW: Final = b">"
_AGAIN: Final = 1 << 63  # added to a number that another front end's message here has as well


class _Held(NamedTuple):
    """A message that was handed out and not answered yet."""

    stream: bytes
    entry: bytes
    front: bytes
    message: int


class RedisWorkerQueue(WorkerQueue):
    """A worker's own stream and its lane's, over a connection made again when it is lost."""

    def __init__(
        self,
        access: RedisAccess,
        *,
        lane: Lane,
        credit: int = DEFAULT_CREDIT,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        """Serve `lane` to every front end that uses this Redis.

        Args:
            access: how to reach it.
            lane: the model and version of this worker.
            credit: messages that front ends may have under way for each worker, 1 to 1024.
            max_frame_bytes: largest request message that is accepted.
        """
        self._access = access
        self._worker = secrets.token_hex(16).encode()
        keys = access.keys
        self._own, self._lane = keys.own(self._worker), keys.lane(lane)
        self._max_frame_bytes = max_frame_bytes
        self._heartbeat = Heartbeat(
            lambda: self._access, lane=lane, worker=self._worker, credit=credit
        )
        self._outbox = Outbox(replies=keys.replies(b""), max_entry_bytes=max_frame_bytes)
        self._context: tuple[RedisAccess, ssl.SSLContext] | None = None
        self._link: BlockingLink | None = None
        self._cursors: dict[bytes, bytes] = {}  # where each stream that is read goes on
        self._welcome = False
        self._pause_s = 0.0
        self._refusals = 0  # in a row
        self._credit, self._at_once = credit, 1
        self._ready: deque[list[Delivered]] = deque()
        self._held: dict[int, _Held] = {}
        self._known: deque[tuple[bytes, bytes]] = deque(maxlen=_REMEMBERED)  # handed out
        self._changed = threading.Condition(threading.RLock())
        self._stopping = self._closed = False
        self._leave_at: float | None = None

    def use(self, access: RedisAccess) -> None:
        """Be who `access` says on every new connection; may be called from another thread."""
        self._access = access

    @override
    def take(self) -> list[Delivered] | None:
        with self._changed:
            while not self._ready:
                if self._stopping and self._finished():
                    return None
                try:
                    if self._link is None:
                        self._connect()
                    elif self._ready_to_ask():
                        self._receive(self._link)
                except WardianError as err:
                    self._lost(err)
            return self._ready.popleft()

    @override
    def answer(self, answers: list[Delivered]) -> None:
        with self._changed:
            finished: dict[int, _Held] = {}
            for message, sealed in answers:
                held = self._held.get(message)
                if held is None:
                    continue  # not of the last `take`: nobody waits for it
                name = b"%d" % held.message
                if held.message == CHALLENGE:
                    name += b":" + self._worker
                else:
                    self._refusals = 0
                self._outbox.add(held.front, name, sealed)
                finished[message] = held
            for message, held in finished.items():
                del self._held[message]
                self._outbox.finish(held.stream, held.entry)
            try:
                self._flush()
            except WardianError as err:
                self._lost(err)
            self._changed.notify_all()

    @override
    def grant(self, credit: int) -> None:
        self._credit = credit
        self._heartbeat.grant(credit)

    @override
    def refused(self, message: int) -> None:
        with self._changed:
            held = self._held.pop(message, None)
            if held is None:
                return
            self._refusals += 1
            if held.message != CHALLENGE:
                self._outbox.add(held.front, b"-%d" % held.message, held.entry)
            self._outbox.finish(held.stream, held.entry)
            self._changed.notify_all()

    @override
    def stop(self) -> None:
        self._stopping = True

    @override
    def close(self) -> None:
        self._stopping = self._closed = True
        self._heartbeat.stop()
        if self._link is not None:
            self._link.close()
            self._link = None

    # Coming and going

    def _connect(self) -> None:
        """Connect, log in, and make the groups: at 0, so that no message comes too early."""
        time.sleep(self._pause_s)
        self._pause_s = min(_MAX_PAUSE_S, 2 * self._pause_s or _MIN_PAUSE_S)
        access = self._access
        if self._context is None or self._context[0] is not access:
            self._context = access, access.tls()
        link = BlockingLink.open(
            access,
            self._context[1],
            first=_make_group(self._lane),
            max_reply_bytes=2 * entry_bytes(self._max_frame_bytes),
        )
        try:
            link.write(_make_group(self._own))
            accept(link.read())
        except WardianError:
            link.close()
            raise
        if self._closed:  # meanwhile, by another thread
            link.close()
            raise ConnectionLost("Redis: this worker is closed")
        self._link = link
        self._heartbeat.start()
        # What was on its way when a connection broke is still assigned to this worker.
        self._cursors = dict.fromkeys(self._streams(), b"0")
        event(log, "queue.redis_connected", worker=self._worker.decode())

    def _streams(self) -> tuple[bytes, ...]:
        return (self._own, self._lane) if self._welcome else (self._own,)

    def _lost(self, err: WardianError) -> None:
        event(log, "queue.redis_lost", level=logging.WARNING, why=str(err))
        if self._link is not None:
            self._link.close()
            self._link = None
        self._outbox.restore()
        self._at_once = 1  # it may have been too much for one reply

    def _finished(self) -> bool:
        """Return whether a worker that stops has answered what it holds; wait a little for it."""
        if self._leave_at is None:
            self._leave_at = time.monotonic() + STOP_GRACE_S
            self._heartbeat.take_no_more()
        if time.monotonic() >= self._leave_at:
            return True
        if self._held:
            if READ in self._outbox.sent:
                return False
            self._changed.wait(POLL_MS / 1000)
            return not self._ready and time.monotonic() >= self._leave_at
        return self._link is None or not (self._outbox or self._outbox.sent)

    # What travels

    def _ready_to_ask(self) -> bool:
        """Send what there is to say; return whether a reply is to be waited for."""
        if READ in self._outbox.sent:
            return True
        self._flush(ask=not self._stopping)
        return bool(self._outbox.sent)

    def _flush(self, *, ask: bool | None = None) -> None:
        """Say what there is to say, in one write, and ask for more once nothing is held."""
        link = self._link
        if link is None:
            return
        pieces = self._outbox.commands()
        if ask is None:
            idle = not self._held and not self._ready and not self._refusals
            ask = idle and not self._stopping and READ not in self._outbox.sent
        elif ask and self._refusals:  # with other keys, perhaps, or forgeries: no hurry
            time.sleep(min(_MAX_PAUSE_S, _MIN_PAUSE_S * 2 ** min(self._refusals, 8)))
        if ask:
            pieces.append(self._ask())
        if pieces:
            link.write(b"".join(pieces))

    def _ask(self) -> bytes:
        """Return the command that asks for the next message of each stream."""
        self._outbox.sent.append(READ)
        # No more than half: another worker may have nothing to do.
        self._at_once = max(1, min(self._at_once, self._credit // 2))
        head = (b"XREADGROUP", b"GROUP", GROUP, self._worker, b"COUNT", self._at_once)
        streams = (*self._cursors, *self._cursors.values())
        return command(*head, b"BLOCK", POLL_MS, b"STREAMS", *streams)

    def _receive(self, link: BlockingLink) -> None:
        """Take one reply."""
        reply = link.read()
        sent = self._outbox.sent.popleft()
        if sent is READ:
            self._receive_messages(reply)
        elif isinstance(reply, Refusal):
            self._say_again(sent, reply)

    def _say_again(self, sent: Sent, reply: Refusal) -> None:
        """Redis had no room for answers: they wait, and so does this worker.

        Raises:
            PeerProtocolError: it refused for another reason.
        """
        if reply.code not in NO_ROOM:
            raise PeerProtocolError(f"Redis: refuses a command ({reply.code})")
        event(log, "queue.redis_full", level=logging.WARNING, code=reply.code)
        self._outbox.retry(sent)
        time.sleep(NO_ROOM_PAUSE_S)

    def _receive_messages(self, reply: Reply) -> None:
        if isinstance(reply, Refusal):
            raise PeerProtocolError(f"Redis: gives no messages ({reply.code})")
        found = parse_streams(reply, tuple(self._cursors))
        self._pause_s = 0.0
        for stream, cursor in self._cursors.items():
            entries = found.get(stream, [])
            if cursor != _NEW:
                self._cursors[stream] = entries[-1].id if entries else _NEW
            messages = [each for entry in entries if (each := self._hand_out(stream, entry))]
            if stream == self._own:  # challenges, and what is to run by itself
                self._ready.extend([each] for each in messages)
            elif messages:
                self._ready.append(messages)
                if (
                    len(entries) == self._at_once
                ):  # there may be more, and so many were not too large
                    self._at_once *= 2
        if self._welcome and self._lane not in self._cursors:
            self._cursors[self._lane] = b"0"

    def _hand_out(self, stream: bytes, entry: Entry) -> Delivered | None:
        """Return the message in `entry`, unless it is here already or nobody waits for it."""
        place = stream, entry.id  # two streams may well give one id
        if place in self._known:
            return None
        self._known.append(place)
        if not entry.fields:  # deleted while it was on its way here
            self._outbox.finish(stream, entry.id)
            return None
        try:
            asked = parse_request(entry)
        except PeerProtocolError as err:
            event(log, "queue.entry_refused", level=logging.WARNING, why=str(err))
            self._outbox.finish(stream, entry.id)
            return None
        if not asked.sealed:
            self._welcome = True
            self._outbox.finish(stream, entry.id)
            return None
        return self._hold(stream, entry.id, asked)

    def _hold(self, stream: bytes, entry: bytes, asked: Asked) -> Delivered | None:
        number = asked.message
        while number in self._held:
            number += _AGAIN
        self._held[number] = _Held(stream, entry, asked.front, asked.message)
        if len(asked.sealed) > self._max_frame_bytes:
            self.refused(number)
            return None
        return Delivered(number, asked.sealed)


def _make_group(stream: bytes) -> bytes:
    return command(b"XGROUP", b"CREATE", stream, GROUP, b"0", b"MKSTREAM")
