"""A Redis in this process's memory, behind wires that no socket carries.

It knows the commands that clients of Cluster Serving's streams need. `before` is called with each
command before it is carried out: what another client does in between, or an error on the way.
"""

from collections import deque
from collections.abc import Callable
from fnmatch import fnmatchcase

from wardian.compat.zoo.unprotected.place import RedisPlace
from wardian.serving.queue.redis_wire import ReplyReader

Words = list[bytes]
OK = b"+OK\r\n"
NONE = b"$-1\r\n"
WRONG_TYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
LARGEST = 2**30


def bulk(value: bytes | None) -> bytes:
    return NONE if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def array(items: list[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(items), b"".join(items))


class MemoryRedis:
    """What it holds, and who asked what."""

    def __init__(self, *, password: bytes = b"", user: bytes = b"") -> None:
        self.keys: dict[bytes, dict[bytes, bytes] | list[dict[bytes, bytes]]] = {}
        self.changes: dict[bytes, int] = {}
        self.seen: list[Words] = []
        self.before: Callable[[Words], None] = lambda words: None
        self.refuse: dict[bytes, bytes] = {}
        self.opened = 0
        self.down = False
        self.used, self.maxmemory = 10, 0
        self.page = 10
        self.login = [each for each in (user, password) if each]
        self.wires: list[MemoryWire] = []

    def open(self, place: RedisPlace, timeout_s: float) -> "MemoryWire":
        assert timeout_s > 0
        if self.down:
            raise ConnectionRefusedError
        self.opened += 1
        self.wires.append(MemoryWire(self))
        return self.wires[-1]

    def put(self, key: str, value: bytes, field: bytes = b"value") -> None:
        self._hash(key.encode())[field] = value
        self.touch(key.encode())

    def touch(self, key: bytes) -> None:
        self.changes[key] = self.changes.get(key, 0) + 1

    def records(self, name: str = "serving_stream") -> list[dict[bytes, bytes]]:
        found = self.keys.get(name.encode(), [])
        assert isinstance(found, list)
        return found

    def names(self) -> list[bytes]:
        return [words[0] for words in self.seen]

    def _hash(self, key: bytes) -> dict[bytes, bytes]:
        found = self.keys.setdefault(key, {})
        assert isinstance(found, dict)
        return found

    # Commands: each returns the bytes of its reply.

    def ping(self) -> bytes:
        return b"+PONG\r\n"

    def info(self, _: bytes) -> bytes:
        text = f"# Memory\r\nused_memory:{self.used}\r\nmaxmemory:{self.maxmemory}\r\n"
        return bulk(text.encode())

    def xadd(self, key: bytes, _: bytes, *fields: bytes) -> bytes:
        found = self.keys.setdefault(key, [])
        if not isinstance(found, list):
            return WRONG_TYPE
        found.append(dict(zip(fields[::2], fields[1::2], strict=True)))
        self.touch(key)
        return bulk(b"%d-0" % len(found))

    def hget(self, key: bytes, field: bytes) -> bytes:
        found = self.keys.get(key, {})
        return bulk(found.get(field)) if isinstance(found, dict) else WRONG_TYPE

    def hdel(self, key: bytes, field: bytes) -> bytes:
        found = self.keys.get(key, {})
        if not isinstance(found, dict):
            return WRONG_TYPE
        gone = found.pop(field, None)
        if not found:
            self.keys.pop(key, None)
        self.touch(key)
        return b":%d\r\n" % (gone is not None)

    def scan(self, cursor: bytes, _: bytes, pattern: bytes, *__: bytes) -> bytes:
        names, at = list(self.keys), int(cursor)
        page = names[at : at + self.page]
        after = at + self.page if at + self.page < len(names) else 0
        matched = [
            bulk(each) for each in page if fnmatchcase(each.decode("latin-1"), pattern.decode())
        ]
        return array([bulk(b"%d" % after), array(matched)])


class MemoryWire:
    """One connection to it."""

    def __init__(self, redis: MemoryRedis) -> None:
        self.redis = redis
        self.closed = False
        self.silent = False
        self.piece = 1 << 20
        self._commands = ReplyReader(max_bytes=LARGEST)
        self._out: deque[bytes] = deque()
        self._queued: list[Words] | None = None
        self._aborted = False
        self._watched: dict[bytes, int] = {}
        self._in = not redis.login

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def sendall(self, data: bytes) -> None:
        if self.closed:
            raise BrokenPipeError
        for words in self._commands.feed(data):
            assert isinstance(words, list)
            self.redis.seen.append(words)
            self.redis.before(words)
            self._out.append(self._answer(words))

    def recv(self, size: int) -> bytes:
        if self.closed:
            return b""
        if self.silent or not self._out:
            raise TimeoutError
        data = self._out.popleft()
        if len(data) > self.piece:
            self._out.appendleft(data[self.piece :])
        return data[: self.piece]

    def close(self) -> None:
        self.closed = True

    def _answer(self, words: Words) -> bytes:
        name = words[0]
        if name == b"AUTH":
            self._in = words[1:] == self.redis.login
            return OK if self._in else b"-WRONGPASS invalid username-password pair\r\n"
        if not self._in:
            return b"-NOAUTH Authentication required.\r\n"
        if name in self.redis.refuse:
            self._aborted = True
            return b"-%b\r\n" % self.redis.refuse[name]
        return self._allowed(words)

    def _allowed(self, words: Words) -> bytes:
        own = {b"EXEC": self._exec, b"MULTI": self._multi, b"UNWATCH": self._unwatch}
        if words[0] in own:
            return own[words[0]]()
        if self._queued is not None:
            self._queued.append(words)
            return b"+QUEUED\r\n"
        if words[0] == b"WATCH":
            self._watched |= {key: self.redis.changes.get(key, 0) for key in words[1:]}
            return OK
        return self._carry_out(words)

    def _multi(self) -> bytes:
        self._queued, self._aborted = [], False
        return OK

    def _unwatch(self) -> bytes:
        self._watched = {}
        return OK

    def _exec(self) -> bytes:
        queued, self._queued = self._queued or [], None
        watched, self._watched = self._watched, {}
        if self._aborted:
            return b"-EXECABORT Transaction discarded because of previous errors.\r\n"
        if any(self.redis.changes.get(key, 0) != known for key, known in watched.items()):
            return b"*-1\r\n"
        return array([self._carry_out(words) for words in queued])

    def _carry_out(self, words: Words) -> bytes:
        return getattr(self.redis, words[0].decode().lower())(*words[1:])
