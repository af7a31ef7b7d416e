"""Their side of the Redis dialect: a plain redis-server, a client of theirs, and the role's loop.

Records are JSON (`serde` = `stream`) or a frozen payload of their client; results are compared with
the bytes that `encode_result` makes, which were read back by their own reader.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from simulators.data_plane import LANES, MemoryQueue, Pipe, ToyModel, sender
from simulators.redis_server import free_port

from wardian._internal.zoo_redis import ZooJob
from wardian.serving.dispatch import Dispatcher
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_wire import Refusal, Reply, ReplyReader, command
from wardian.serving.zoo.results import encode_result
from wardian.serving.zoo.stream.answering import Answering
from wardian.serving.zoo.stream.consumer import JobConsumer
from wardian.serving.zoo.stream.counts import Counts
from wardian.serving.zoo.stream.their_redis import TheirRedis
from wardian.serving.zoo.stream.window import Window

JOB = b"serving_stream"
LARGEST = 256 * 1024 * 1024


class TheirClient:
    """One connection, blocking, as theirs is."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._reader = ReplyReader(max_bytes=LARGEST)

    def __call__(self, *words: bytes | int | str) -> Reply:
        return self.pipeline([words])[0]

    def pipeline(self, all_words: list[tuple[bytes | int | str, ...]]) -> list[Reply]:
        raw = [[w.encode() if isinstance(w, str) else w for w in words] for words in all_words]
        self._socket.sendall(b"".join(command(*words) for words in raw))
        replies: list[Reply] = []
        while len(replies) < len(all_words):
            data = self._socket.recv(1024 * 1024)
            assert data, "redis-server closed the connection"
            replies += self._reader.feed(data)
        return replies

    def enqueue(self, uri: bytes | str, data: bytes, *more: bytes, job: bytes = JOB) -> bytes:
        return self("XADD", job, "*", "uri", uri, "data", data, *more)

    def result(self, uri: bytes | str, *, job: bytes = JOB) -> bytes | None:
        name = uri.encode() if isinstance(uri, str) else uri
        return self("HGET", b"cluster-serving_" + job + b":" + name, "value")

    def results(self, *, job: bytes = JOB) -> dict[bytes, bytes]:
        """Return every result, as their `dequeue` finds them, but nothing is deleted."""
        prefix = b"cluster-serving_" + job + b":"
        cursor, keys = b"0", []
        while True:
            cursor, some = self("SCAN", cursor, "MATCH", prefix + b"*", "COUNT", 1000)
            keys += some
            if cursor == b"0":
                break
        names = list(dict.fromkeys(keys))
        found = self.pipeline([("HGET", key, "value") for key in names])
        return {key[len(prefix) :]: value for key, value in zip(names, found, strict=True)}

    def close(self) -> None:
        self._socket.close()


@dataclass
class PlainRedis:
    """A redis-server as its users have it, killed and started at will, always on the same port."""

    program: str
    directory: Path
    settings: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    tls: bool = False
    """Whether `settings` say that the port is one of TLS."""
    process: subprocess.Popen | None = None

    def start(self) -> "PlainRedis":
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = ["bind 127.0.0.1", f"port {0 if self.tls else self.port}", f"dir {self.directory}", 'save ""',
                 "appendonly yes", "appendfsync no", *self.settings]  # fmt: skip
        path = self.directory / "redis.conf"
        path.write_text("\n".join(lines) + "\n")
        with (self.directory / "redis.log").open("ab") as sink:
            self.process = subprocess.Popen([self.program, str(path)], stdout=sink, stderr=sink)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.client().close()
                return self
            time.sleep(0.02)
        raise AssertionError((self.directory / "redis.log").read_text()[-2000:])

    def client(self) -> TheirClient:
        return TheirClient(self.port)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def access(self) -> TheirRedis:
        return TheirRedis(address=Address(host="127.0.0.1", port=self.port))


def json_record(value: float, *, name: str = "image") -> bytes:
    return json.dumps({"instances": [{name: [value] * 4}]}).encode()


STREAM = (b"serde", b"stream")
"""The further field of a record that is JSON."""


def toy_result(value: float) -> bytes:
    """Return what `ToyModel` answers to `json_record(value)`, as their client reads it."""
    doubles = np.full(4, 2 * value, np.float32)
    return encode_result([doubles, np.float32(4 * value).reshape(())])


class ZooRole:
    """The role's loop for one stream over a dispatcher in this process; started and cut at will."""

    def __init__(
        self,
        redis: TheirRedis,
        *,
        job: ZooJob | None = None,
        consumer: bytes = b"wardian-1",
        deadline_s: float = 5.0,
        most: int = 1024,
        queue: MemoryQueue | None = None,
        **options: object,
    ) -> None:
        self.queue = queue or MemoryQueue()
        self.dispatcher = Dispatcher(
            queue=self.queue, codecs={"digits": sender()}, lanes=LANES, max_waiting=4096
        )
        job = job or ZooJob(model="digits")
        self.counts = Counts()
        self.window = Window(most=most, pause_s=deadline_s)
        self.answering = Answering(
            self.dispatcher,
            job,
            deadline_s=deadline_s,
            max_bytes=1024 * 1024,
            window=self.window,
            counts=self.counts,
        )
        self.consumer = JobConsumer(
            job=JOB,
            consumer=consumer,
            redis=redis,
            answering=self.answering,
            window=self.window,
            counts=self.counts,
            deadline_s=deadline_s,
            ttl_s=job.result_ttl_s,
            max_bytes=1024 * 1024,
            **options,
        )
        self._tasks: list[asyncio.Task] = []

    async def worker(self, model: ToyModel | None = None) -> asyncio.Task:
        pipe = Pipe(self.queue.connect(), model)
        task = asyncio.get_running_loop().create_task(pipe.serve())
        self._tasks.append(task)
        while not self.dispatcher.catalog()["digits"].ready:
            await asyncio.sleep(0.001)
        return task

    def start(self) -> "ZooRole":
        self._tasks.append(asyncio.get_running_loop().create_task(self.consumer.run()))
        return self

    async def cut(self) -> None:
        """End as `kill -9` does: nothing is written any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.answering.close()
        self.dispatcher.close()


async def until(condition: Callable[[], object], *, within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


def is_refusal(reply: Reply) -> bool:
    return isinstance(reply, Refusal)
