"""The Redis of a hostile host: a TLS proxy before a real redis-server that plays tricks.

It has the server's own certificate and key, as the host does, and reads every command and reply. A
trick alters what passes; `inject` says anything to the server beside it, as a user with all rights.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable

from simulators.redis_server import NAME, PASSWORDS, RedisServer, free_port

from wardian.serving.queue.redis_wire import Refusal, ReplyReader, command

Words = list[bytes]


class Trick:
    """Passes everything on; each trick overrides what it plays with."""

    def __init__(self) -> None:
        self.random = random.Random(5)
        self.proxy: HostileRedis

    def command(self, words: Words) -> Words | None:
        """Return what reaches the server instead of `words`; None breaks the connection off."""
        if words[0] == b"XADD" and self.is_work(words):
            return self.added(words)
        return words

    def added(self, words: Words) -> Words | None:
        return words

    def reply(self, reply):
        """Return what reaches the client instead of `reply`."""
        return reply

    @staticmethod
    def to_worker(words: Words) -> bool:
        return b"}:q:" in words[1] or b"}:o:" in words[1]

    def is_work(self, words: Words) -> bool:
        """Whether these are requests or answers, and no challenge, answer to one or welcome."""
        return not words[-2].endswith(b":0") and not words[-2].startswith(b"0:")


class HostileRedis:
    """Listens on `port` with the server's certificate, and relays to the server itself."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.port = free_port()
        self.trick = Trick()
        self.seen: list[bytes] = []
        self.cut = False
        self._tasks: set[asyncio.Task] = set()
        self._accepted: set[asyncio.Task] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._injections: asyncio.Queue[Words] = asyncio.Queue()

    def play(self, trick: Trick) -> None:
        trick.proxy = self
        self.trick = trick

    def inject(self, words: Words) -> None:
        self._injections.put_nowait(list(words))

    async def start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server.path("server.pem"), self.server.path("server.key"))
        self._listener = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=context
        )
        self._spawn(self._injector())

    async def close(self) -> None:
        self._listener.close()
        self.break_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._accepted, return_exceptions=True)

    def break_all(self) -> None:
        """Break every connection off."""
        for writer in list(self._writers):
            writer.transport.abort()

    def _spawn(self, steps) -> asyncio.Task:
        task = asyncio.get_running_loop().create_task(steps)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _dial(self):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(cadata=self.server.ca.der)
        client.load_cert_chain(self.server.path("server.pem"), self.server.path("server.key"))
        streams = await asyncio.open_connection(
            "127.0.0.1", self.server.port, ssl=client, server_hostname=NAME
        )
        self._writers.add(streams[1])
        return streams

    async def _injector(self) -> None:
        reader, writer = await self._dial()
        writer.write(command(b"AUTH", b"prober", PASSWORDS["prober"].encode()))
        await reader.readline()
        while True:
            words = await self._injections.get()
            writer.write(command(*words))
            await reader.read(65536)

    async def _accept(self, reader, writer) -> None:
        self._writers.add(writer)
        accepted = asyncio.current_task()
        self._accepted.add(accepted)
        try:
            if self.cut:
                return
            upstream_in, upstream_out = await self._dial()
            pumps = [
                self._spawn(self._commands(reader, upstream_out)),
                self._spawn(self._replies(upstream_in, writer)),
            ]
            await asyncio.wait(pumps, return_when="FIRST_COMPLETED")
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            upstream_out.transport.abort()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._accepted.discard(accepted)

    async def _commands(self, reader, out) -> None:
        parser = ReplyReader(max_bytes=2**30)
        while data := await reader.read(65536):
            self.seen.append(data)
            await self._hold()
            for words in parser.feed(data):
                passed_on = self.trick.command(words)
                if passed_on is None:
                    return
                out.write(command(*passed_on))

    async def _replies(self, reader, out) -> None:
        parser = ReplyReader(max_bytes=2**30)
        while data := await reader.read(65536):
            self.seen.append(data)
            await self._hold()
            for reply in parser.feed(data):
                passed_on = self.trick.reply(reply)
                out.write(passed_on if isinstance(passed_on, Raw) else encode(passed_on))

    async def _hold(self) -> None:
        """While the network is cut nothing passes, and nobody is told."""
        while self.cut:
            await asyncio.sleep(0.02)


class Raw(bytes):
    """Bytes that are sent as they are, whatever they mean."""


def encode(reply) -> bytes:
    """Return `reply` in RESP2."""
    if reply is None:
        return b"*-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, Refusal):
        return b"-%b\r\n" % reply.text
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


class Flip(Trick):
    """Changes one bit of each message in one direction."""

    def __init__(self, *, requests: bool) -> None:
        super().__init__()
        self.requests = requests

    def added(self, words):
        if self.to_worker(words) == self.requests:
            words[-1] = flipped(words[-1], self.random)
        return words


class Truncate(Trick):
    def added(self, words):
        words[-1] = words[-1][: len(words[-1]) // 2]
        return words


class Drop(Trick):
    """Acknowledges every message and keeps none."""

    def added(self, words):
        words[1] = b"{wardian:test}:void"
        return [word for word in words if word != b"NOMKSTREAM"]


class Duplicate(Trick):
    def added(self, words):
        self.proxy.inject(words)
        return words


class Replay(Trick):
    """Says everything that it has seen again, under new numbers and old ones."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[bool, list[Words]] = {True: [], False: []}

    def added(self, words):
        old = self.heard[self.to_worker(words)]
        for was in old[-3:]:
            self.proxy.inject(was)
            self.proxy.inject([*words[:-1], was[-1]])
        old.append(list(words))
        return words


class ForgeFirst(Trick):
    """Puts a forgery before each message, under its own name."""

    def added(self, words):
        self.proxy.inject([*words[:-1], flipped(words[-1], self.random)])
        return words


class Swap(Trick):
    """Gives each answer the number of the one before it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = b"1"

    def added(self, words):
        if not self.to_worker(words):
            words[-2], self.last = self.last, words[-2]
        return words


class Reflect(Trick):
    """Answers each request with itself, at once."""

    def added(self, words):
        if self.to_worker(words):
            front, _, number = words[-2].partition(b":")
            self.proxy.inject([b"XADD", b"{wardian:test}:r:" + front, b"*", number, words[-1]])
        return words


class AnswerForOthers(Trick):
    """Answers every request with noise, tells that it was refused, and invents numbers."""

    def added(self, words):
        if self.to_worker(words):
            front, _, number = words[-2].partition(b":")
            stream = b"{wardian:test}:r:" + front
            for name in (number, b"%d" % (int(number) + 1000), b"-%b" % number):
                self.proxy.inject([b"XADD", stream, b"*", name, self.random.randbytes(120)])
        return words


class OtherFront(Trick):
    """Says of each request that it is of another front end."""

    def added(self, words):
        if self.to_worker(words):
            words[-2] = b"ab" * 16 + words[-2][32:]
        return words


class Reorder(Trick):
    """Puts each message where the one before it was to be."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[bytes, tuple[bytes, bytes]] = {}

    def added(self, words):
        now = (words[-2], words[-1])
        words[-2:] = self.held.get(words[1], now)
        self.held[words[1]] = now
        return words


class Refuse(Trick):
    """Claims that every message was refused by its worker."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 40

    def added(self, words):
        if not self.to_worker(words) and self.left:
            self.left -= 1
            words[-2] = b"-" + words[-2]
            words[-1] = b"1-1"
        return words


class BreakOff(Trick):
    """Breaks the connection off at every tenth message."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def added(self, words):
        self.count += 1
        return None if self.count % 10 == 0 else words


class Say(Trick):
    """Sends `data` in the place of a client's next reply, once for each of `times`."""

    def __init__(self, data: bytes, times: int = 1) -> None:
        super().__init__()
        self.data, self.times = Raw(data), times

    def reply(self, reply):
        if self.times and isinstance(reply, list):
            self.times -= 1
            return self.data
        return reply


TRICKS: dict[str, Callable[[], Trick]] = {
    "honest": Trick,
    "flips requests": lambda: Flip(requests=True),
    "flips answers": lambda: Flip(requests=False),
    "truncates": Truncate,
    "drops": Drop,
    "duplicates": Duplicate,
    "replays": Replay,
    "forges before the true message": ForgeFirst,
    "swaps answers": Swap,
    "reflects": Reflect,
    "answers for others": AnswerForOthers,
    "says it is another front end's": OtherFront,
    "reorders": Reorder,
    "claims refusals": Refuse,
    "breaks off": BreakOff,
}
