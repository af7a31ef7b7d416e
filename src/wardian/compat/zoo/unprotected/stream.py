"""Records and results of one stream of Cluster Serving, in the clear in its Redis.

A record is an entry of the stream, a result the field `value` of a hash of its own. A result is
deleted only where it is what was read: WATCH sees what another one writes in between. Commands of
Redis 5 alone, and none that looks at all keys at once.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.log import event
from wardian.compat.zoo.unprotected.connection import BlockingRedis, accept
from wardian.errors import (
    ConfigError,
    ConnectionLost,
    PeerProtocolError,
    QueueFull,
    RequestError,
    Timeout,
    TransportError,
)
from wardian.serving.queue.redis_wire import Refusal, Reply, command
from wardian.serving.zoo.records import MAX_URI_BYTES, result_key
from wardian.serving.zoo.stream.commands import VALUE

log = logging.getLogger(__name__)

MAX_RECORDS: Final = 10_000
"""Records that are enqueued at once: all of them, or none."""
MAX_BATCH_BYTES: Final = 256 * 1024**2
"""Of all their data."""
MAX_TAKEN: Final = 100_000
"""About how many results are taken at once; the rest stays for the next time."""
FULL_PERCENT: Final = 60
"""Of Redis' `maxmemory`: from there on Cluster Serving's own server drops what it has not read."""
FIRST_LOOK_S: Final = 0.001
SELDOM_S: Final = 0.02
"""How long it is between two looks for a result, at first and at most."""

_NAME: Final = re.compile(r"\A[A-Za-z0-9._-]{1,128}\Z")
_MEMORY: Final = re.compile(rb"^(used_memory|maxmemory):([0-9]{1,19})\r?$", re.MULTILINE)
_SCANNED: Final = 1000
_AT_ONCE: Final = 64  # Redis holds all of their replies in memory until they are read
_TRIES: Final = 4


class Stream:
    """What is said about one stream. Thread-safe, as the connection is."""

    def __init__(
        self,
        redis: BlockingRedis,
        name: str,
        *,
        timeout_s: float,
        clock: Monotonic = monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Speak about the stream `name` over `redis`, each exchange within `timeout_s`.

        Raises:
            ConfigError: a stream has no such name. With a ":" its results could be another's.
        """
        if not _NAME.match(name):
            raise ConfigError(
                f"name {name!r}: a stream's name has 1 to 128 letters, digits, '.', '_' and '-'"
            )
        self._redis, self._clock, self._timeout_s = redis, clock, timeout_s
        self._name, self._sleep = name.encode(), sleep

    def greet(self) -> None:
        """Connect and log in.

        Raises:
            TransportError, ConfigError: as of `BlockingRedis.ask`.
        """
        accept(self._exchange([command(b"PING")])[0])

    def put(self, records: Sequence[tuple[str, bytes]], *, deadline: float | None = None) -> None:
        """Append `records`, each a uri and its data: all of them, or none.

        Raises:
            QueueFull: `FULL_PERCENT` of Redis' memory are used, or Redis refuses more.
            RequestError: a uri is too long; or they are too many for once.
            TransportError: whether they were appended is unknown.
        """
        adds = [
            command(b"XADD", self._name, b"*", b"uri", encode_uri(uri), b"data", data)
            for uri, data in records
        ]
        if len(adds) > MAX_RECORDS or sum(map(len, adds)) > MAX_BATCH_BYTES:
            raise RequestError(
                f"at most {MAX_RECORDS} records, and {MAX_BATCH_BYTES} bytes of them, are enqueued "
                "at once"
            )
        if not adds:
            return
        _expect_room(self._exchange([command(b"INFO", b"memory")], deadline)[0])
        if len(adds) > 1:
            adds = [command(b"MULTI"), *adds, command(b"EXEC")]
        for reply in self._exchange(adds, deadline):
            for each in reply if isinstance(reply, list) else [reply]:
                accept(each)

    def find(self, uri: str, *, deadline: float | None = None) -> bytes | None:
        """Return the result of `uri`, if it is there.

        Raises:
            RequestError: no uri is as long.
            TransportError: Redis cannot be asked, or what is there is no result.
        """
        asked = command(b"HGET", self._key(uri), VALUE)
        found = accept(self._exchange([asked], deadline)[0])
        return found if isinstance(found, bytes) else None

    def take(self, uri: str, *, deadline: float | None = None) -> bytes | None:
        """Return the result of `uri`, if it is there, and delete it; what is no result stays.

        Raises:
            RequestError: no uri is as long.
            TransportError: Redis cannot be asked.
        """
        key = self._key(uri)
        return self._take([key], deadline).get(key)

    def ask(self, record: bytes, *, timeout_s: float) -> bytes:
        """Return the result of `record`, which is enqueued under a uri of its own, and delete it.

        Raises:
            Timeout: there is none within `timeout_s`.
            QueueFull, TransportError: as of `put`.
        """
        deadline, uri = self._clock() + timeout_s, str(uuid.uuid4())
        self.put([(uri, record)], deadline=deadline)
        pause_s = FIRST_LOOK_S
        while self._clock() < deadline:
            found = self.find(uri, deadline=deadline)
            if found is not None:
                with suppress(TransportError):  # it is in our hands, and goes by itself
                    self.take(uri, deadline=deadline)
                return found
            self._sleep(min(pause_s, max(0.0, deadline - self._clock())))
            pause_s = min(1.5 * pause_s, SELDOM_S)
        raise Timeout("no answer within the time that was given")

    def take_all(self) -> dict[str, bytes]:
        """Return the results that are there, by uri, and delete just these.

        Where Redis goes away in between, those that were read are returned; some of them may come
        again.

        Raises:
            TransportError: Redis cannot be asked.
        """
        prefix = result_key(self._name, b"")
        taken: dict[bytes, bytes] = {}
        cursor = b"0"
        while len(taken) < MAX_TAKEN:
            try:
                cursor, keys = self._scan(cursor, prefix)
                for start in range(0, len(keys), _AT_ONCE):
                    taken |= self._take(keys[start : start + _AT_ONCE], None)
            except TransportError as err:
                if not taken:
                    raise
                event(log, "zoo.dequeue_cut", level=logging.WARNING, kind=type(err).__name__)
                break
            if cursor == b"0":
                break
        return {decode_uri(key[len(prefix) :]): value for key, value in taken.items()}

    def _scan(self, cursor: bytes, prefix: bytes) -> tuple[bytes, list[bytes]]:
        """Return where to go on, and some keys that begin with `prefix`, each once."""
        asked = command(b"SCAN", cursor, b"MATCH", prefix + b"*", b"COUNT", _SCANNED)
        reply = accept(self._exchange([asked])[0])
        if isinstance(reply, list) and len(reply) == 2:
            after, keys = reply
            if isinstance(after, bytes) and isinstance(keys, list):
                found = [each for each in keys if isinstance(each, bytes)]
                return after, [each for each in dict.fromkeys(found) if each.startswith(prefix)]
        raise PeerProtocolError("Redis: not a page of keys")

    def _take(self, keys: list[bytes], deadline: float | None) -> dict[bytes, bytes]:
        """Return the results under `keys` that are there, and delete these."""
        for _ in range(_TRIES):
            found: dict[bytes, bytes] = {}
            try:
                with self._redis.alone(deadline=self._until(deadline)) as talk:
                    asked = [command(b"WATCH", *keys)]
                    asked += [command(b"HGET", key, VALUE) for key in keys]
                    watched, *values = talk(asked)
                    accept(watched)
                    pairs = zip(keys, values, strict=True)
                    found = {key: value for key, value in pairs if isinstance(value, bytes)}
                    if not found:
                        talk([command(b"UNWATCH")])
                        return {}
                    deletions = [command(b"HDEL", key, VALUE) for key in found]
                    ended = talk([command(b"MULTI"), *deletions, command(b"EXEC")])[-1]
            except (ConnectionLost, Timeout) as err:
                if not found:
                    raise
                event(log, "zoo.deletion_unknown", level=logging.WARNING, kind=type(err).__name__)
                return found
            if accept(ended) is not None:
                return found
        return {}  # another result each time: they are still there

    def _key(self, uri: str) -> bytes:
        return result_key(self._name, encode_uri(uri))

    def _exchange(self, commands: list[bytes], deadline: float | None = None) -> list[Reply]:
        return self._redis.ask(commands, deadline=self._until(deadline))

    def _until(self, deadline: float | None) -> float:
        return self._clock() + self._timeout_s if deadline is None else deadline


def encode_uri(uri: str) -> bytes:
    """Return the bytes of `uri`; see `decode_uri`.

    Raises:
        RequestError: too many, or it is no text.
    """
    try:
        raw = uri.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise RequestError("a uri is no Unicode: it has a lone surrogate") from None
    if len(raw) > MAX_URI_BYTES:
        raise RequestError(f"a uri of {len(raw)} bytes, at most {MAX_URI_BYTES} fit")
    return raw


def decode_uri(raw: bytes) -> str:
    """Return the text of `raw`; bytes that are not UTF-8 come back out of it as they were."""
    return raw.decode("utf-8", "surrogateescape")


def _expect_room(reply: Reply) -> None:
    """Return unless the reply to INFO says that Redis is full; who may not ask cannot know."""
    if isinstance(reply, Refusal) and reply.code == "NOPERM":
        return
    said = accept(reply)
    found = dict(_MEMORY.findall(said)) if isinstance(said, bytes) else {}
    most, used = int(found.get(b"maxmemory", 0)), int(found.get(b"used_memory", 0))
    if most and used * 100 >= most * FULL_PERCENT:
        raise QueueFull(
            f"Redis: {FULL_PERCENT} % of its memory are used: nothing was enqueued; fetch "
            "results, or raise maxmemory"
        )
