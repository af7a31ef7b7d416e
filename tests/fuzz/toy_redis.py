"""A Redis in memory that a role speaks to without a socket, honest or hostile, on a virtual clock.

It knows the commands of the role `zoo` and no others. While it is hostile it says something else
than it should to some of them, is silent, breaks off, or answers at once where it was asked to wait.
"""

import asyncio
import random
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from reply_trees import Status, Tree, encode, pieces, tampered
from simulators.virtual_time import VirtualLoop

from wardian.serving.queue.redis_wire import Refusal, ReplyReader

ROUND_TRIP_S = 0.001
QUEUED = Status(b"QUEUED")


class ToyRedis:
    """One stream with one group, and the hashes of its results."""

    def __init__(self, rng: random.Random, job: bytes) -> None:
        self.rng, self.job = rng, job
        self.hostile = False
        self.lies = rng.choice((0.01, 0.05, 0.2, 0.5))  # of its replies, while it is hostile
        self.hasty = rng.random() < 0.5
        self.reads = 0
        self.results: dict[bytes, bytes] = {}
        self.names: list[bytes] = []
        self.entries: dict[bytes, list[bytes]] = {}
        self._fresh: list[bytes] = []
        self._pending: dict[bytes, list[Any]] = {}  # holder, deliveries
        self._numbers = count(1)

    def add(self, uri: bytes, data: bytes, *, holder: bytes | None = None) -> None:
        """Put a record; `holder` has had it for long."""
        name = b"%d-0" % next(self._numbers)
        self.entries[name] = [b"uri", uri, b"data", data, b"serde", b"stream"]
        if holder is None:
            self._fresh.append(name)
        else:
            self._pending[name] = [holder, 1]

    def execute(self, words: list[bytes]) -> Tree:
        """Carry out a command and return its reply."""
        return _COMMANDS[words[0]](self, words)

    def is_waiting(self, words: list[bytes]) -> float:
        """Return for how many seconds `words` wait, since there is nothing."""
        if words[0] != b"XREADGROUP" or self._fresh:
            return 0.0
        return int(words[7]) / 1000

    def _join(self, words: list[bytes]) -> Tree:
        if words[2] not in self.names:
            self.names.append(words[2])
        return 1

    def _read(self, words: list[bytes]) -> Tree:
        self.reads += 1
        given, self._fresh = self._fresh[: int(words[5])], self._fresh[int(words[5]) :]
        for name in given:
            self._pending[name] = [words[3], 1]
        return [[self.job, [self._entry(name) for name in given]]] if given else None

    def _entry(self, name: bytes) -> Tree:
        return [name, list(self.entries[name])] if name in self.entries else None

    def _list(self, words: list[bytes]) -> Tree:
        least = (0, 0) if words[3] == b"-" else _order(words[3])
        if max(least) >= 2**64:
            return Refusal("ERR", b"ERR Invalid stream ID specified as stream command argument")
        rows: list[Tree] = []
        for name in sorted(self._pending, key=_order):
            holder, deliveries = self._pending[name]
            if holder == words[6] and _order(name) >= least:
                rows.append([name, holder, 10**6, deliveries])
        return rows[: int(words[5])]

    def _claim(self, words: list[bytes]) -> Tree:
        asked = [name for name in words[5:] if name in self._pending]
        if words[-1] == b"JUSTID":
            return list(asked)
        for name in asked:
            self._pending[name] = [words[3], self._pending[name][1] + 1]
        return [self._entry(name) for name in asked]

    def _write(self, words: list[bytes]) -> Tree:
        self.results[words[1]] = words[3]
        return 1

    def _acknowledge(self, words: list[bytes]) -> Tree:
        return sum(self._pending.pop(name, None) is not None for name in words[3:])

    def _delete(self, words: list[bytes]) -> Tree:
        return sum(self.entries.pop(name, None) is not None for name in words[2:])


_COMMANDS: dict[bytes, Callable[[ToyRedis, list[bytes]], Tree]] = {
    b"PING": lambda _, __: Status(b"PONG"),
    b"AUTH": lambda _, __: Status(b"OK"),
    b"XGROUP": lambda _, __: Refusal("BUSYGROUP", b"BUSYGROUP it is there"),
    b"SADD": ToyRedis._join,
    b"SMEMBERS": lambda redis, _: list(redis.names),
    b"XREADGROUP": ToyRedis._read,
    b"XPENDING": ToyRedis._list,
    b"XCLAIM": ToyRedis._claim,
    b"HSET": ToyRedis._write,
    b"EXPIRE": lambda _, __: 1,
    b"XACK": ToyRedis._acknowledge,
    b"XDEL": ToyRedis._delete,
}


def _order(name: bytes) -> tuple[int, ...]:
    return tuple(map(int, name.split(b"-")))


class ToyTransport(asyncio.Transport):
    """One connection to a `ToyRedis`; replies come a round trip later, in their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, redis: ToyRedis, protocol: Any) -> None:
        super().__init__()
        self._loop, self._redis, self._protocol = loop, redis, protocol
        self._reader = ReplyReader(max_bytes=2**30)
        self._due, self._closed = loop.time(), False
        self._queued: list[list[bytes]] | None = None
        loop.call_soon(protocol.connection_made, self)

    def is_closing(self) -> bool:
        return self._closed

    def abort(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    close = abort

    def writelines(self, list_of_data) -> None:
        self.write(b"".join(list_of_data))

    def write(self, data) -> None:
        for words in self._reader.feed(data):
            self._answer(words)

    def _answer(self, words: list[bytes]) -> None:
        redis, rng = self._redis, self._redis.rng
        delay = ROUND_TRIP_S + redis.is_waiting(words)
        reply = self._execute(words)
        said, lying = [reply], None
        if redis.hostile and redis.hasty:
            delay = ROUND_TRIP_S
        if redis.hostile and rng.random() < redis.lies:
            if rng.random() < 0.05:
                self._loop.call_later(ROUND_TRIP_S, self.abort)
                return
            said, lying = tampered(reply, rng), rng
        wire = b"".join([encode(each, lying) for each in said])
        self._due = max(self._due, self._loop.time() + delay)
        for piece in pieces(wire, rng):
            self._loop.call_at(self._due, self._deliver, piece)
            self._due += 1e-6  # equal times have no order

    def _execute(self, words: list[bytes]) -> Tree:
        """Carry out `words`, or what was queued before them."""
        if words[0] == b"MULTI":
            self._queued = []
            return Status(b"OK")
        if self._queued is None:
            return self._redis.execute(words)
        if words[0] != b"EXEC":
            self._queued.append(words)
            return QUEUED
        queued, self._queued = self._queued, None
        return [self._redis.execute(each) for each in queued]

    def _deliver(self, piece: bytes) -> None:
        if not self._closed and piece:
            self._protocol.data_received(piece)


class ToyLoop(VirtualLoop):
    """Connects to `redis` and to nobody else."""

    def __init__(self, redis: ToyRedis) -> None:
        super().__init__()
        self.redis = redis

    async def create_connection(self, protocol_factory, *_: Any, **__: Any):
        await asyncio.sleep(ROUND_TRIP_S)
        if self.redis.hostile and self.redis.rng.random() < 0.05:
            raise ConnectionRefusedError
        protocol = protocol_factory()
        transport = ToyTransport(self, self.redis, protocol)
        await asyncio.sleep(0)
        return transport, protocol
