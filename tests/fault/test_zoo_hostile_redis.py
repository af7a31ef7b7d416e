"""What a Redis of Cluster Serving's clients must not bring about, whatever it says or holds.

It denies service as it likes; once it serves again, so does the role. On a virtual clock, without a
socket; `tests/fuzz/zoo_replies.py` makes up many more.
"""

import asyncio
import random
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

from toy_redis import ToyLoop, ToyRedis
from zoo_replies import JOB, ME, heard, make_role, record, result

from wardian.serving.queue.redis_wire import Refusal
from wardian.serving.zoo.stream.consumer import JobConsumer

OTHER = b"wardian-2"
LAST = b"18446744073709551615"


def key(uri: bytes) -> bytes:
    return b"cluster-serving_" + JOB + b":" + uri


def serve(
    redis: ToyRedis,
    steps: Callable[[ToyRedis, JobConsumer], Coroutine],
    *,
    prepare: Callable[[JobConsumer], None] = lambda _: None,
) -> list[str]:
    """Run a role over `redis` while `steps` go on; return the names of its events."""

    async def main() -> None:
        role = make_role()
        prepare(role)
        running = asyncio.get_running_loop().create_task(role.run())
        await steps(redis, role)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with heard() as said, asyncio.Runner(loop_factory=partial(ToyLoop, redis)) as runner:
        runner.run(main())
    return said


async def answered(redis: ToyRedis, *uris: bytes, within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not all(key(uri) in redis.results for uri in uris):
            await asyncio.sleep(0.1)


def honest() -> ToyRedis:
    return ToyRedis(random.Random(1), JOB)


def test_a_stream_of_nothing_does_not_end_the_service() -> None:
    """Attack: entries with an empty field and nothing in it; the mean size went to zero."""
    redis = honest()
    for number in range(15_000):
        redis.entries[b"%d-1" % number] = [b"", b""]
        redis._fresh.append(b"%d-1" % number)
    redis.add(b"good", record(3))

    async def steps(redis: ToyRedis, role: JobConsumer) -> None:
        await answered(redis, b"good")
        assert role._counts.dropped["no-uri"] == 15_000

    said = serve(redis, steps)
    assert redis.results == {key(b"good"): result(3)}
    assert "zoo.failed" not in said
    assert said.count("zoo.redis_connected") == 1


@pytest.mark.parametrize("code", ["LOADING", "MISCONF", "NOGROUP", "READONLY"])
def test_a_refusal_is_no_record_that_is_too_large(code: str) -> None:
    """What is claimed by itself was deleted when Redis refused that just then."""

    class Refuses(ToyRedis):
        left = 3

        def execute(self, words):
            if words[0] == b"XCLAIM" and self.left:
                self.left -= 1
                return Refusal(code, code.encode())
            return super().execute(words)

    redis = Refuses(random.Random(1), JOB)
    for number in range(5):
        redis.add(b"%d" % number, record(number), holder=ME)

    def careful(role: JobConsumer) -> None:
        role._careful = True  # as after a reply that was too large

    async def steps(redis: ToyRedis, role: JobConsumer) -> None:
        await answered(redis, *(b"%d" % number for number in range(5)))
        assert not role._counts.dropped

    serve(redis, steps, prepare=careful)
    assert redis.results == {key(b"%d" % n): result(n) for n in range(5)}
    assert not redis.entries


def test_a_redis_that_does_not_wait_keeps_nobody_busy() -> None:
    class Hasty(ToyRedis):
        def is_waiting(self, words) -> float:
            return 0.0

    redis = Hasty(random.Random(1), JOB)

    async def steps(redis: ToyRedis, role: JobConsumer) -> None:
        await asyncio.sleep(10)
        assert redis.reads < 600  # and not 10,000
        redis.add(b"good", record(1))
        await answered(redis, b"good", within_s=1.0)

    serve(redis, steps)


def test_a_record_that_is_here_already_keeps_nobody_busy() -> None:
    class Repeats(ToyRedis):
        def execute(self, words):
            if words[0] != b"XREADGROUP":
                return super().execute(words)
            self.reads += 1
            return [[self.job, [[b"1-0", [b"uri", b"one", b"data", record(1)]]]]]

        def is_waiting(self, words) -> float:
            return 0.0

    redis = Repeats(random.Random(1), JOB)

    def unanswered(role: JobConsumer) -> None:
        role._answering.answer = lambda fields, give: None  # its worker takes its time

    async def steps(redis: ToyRedis, role: JobConsumer) -> None:
        await asyncio.sleep(10)
        assert role.held == 1
        assert role._counts.read == 1
        assert 100 < redis.reads < 600  # and not 10,000

    serve(redis, steps, prepare=unanswered)


def test_pending_records_without_end() -> None:
    class Endless(ToyRedis):
        lists = 0
        again = True

        def execute(self, words):
            if words[0] != b"XPENDING" or not self.again:
                return super().execute(words)
            self.lists += 1
            return [[b"%d-0" % number, words[6], 0, 1] for number in range(1, 65)]

    redis = Endless(random.Random(1), JOB)

    async def steps(redis: ToyRedis, role: JobConsumer) -> None:
        await asyncio.sleep(20)
        assert redis.lists < 80  # two for each connection, of which there is one a second
        redis.again = False
        redis.add(b"good", record(1))
        await answered(redis, b"good")

    said = serve(redis, steps)
    assert "zoo.failed" not in said


def test_pending_records_up_to_the_last_id_that_there_is() -> None:
    redis = honest()
    for number in range(64):
        name = b"%b-%d" % (LAST, 2**64 - 64 + number)
        redis.entries[name] = [b"uri", b"%d" % number, b"data", record(number), b"serde", b"stream"]
        redis._pending[name] = [ME, 1]

    async def steps(redis: ToyRedis, role: JobConsumer) -> None:
        await answered(redis, *(b"%d" % number for number in range(64)))

    said = serve(redis, steps)
    assert said.count("zoo.redis_connected") == 1
    assert "zoo.redis_lost" not in said


def test_a_bug_is_never_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    room, left = JobConsumer._room, [ZeroDivisionError("of ours")]

    async def breaks(self: JobConsumer) -> int:
        if left:
            raise left.pop()
        return await room(self)

    monkeypatch.setattr(JobConsumer, "_room", breaks)
    redis = honest()
    redis.add(b"good", record(1))

    async def steps(redis: ToyRedis, role: JobConsumer) -> None:
        await answered(redis, b"good")

    assert serve(redis, steps).count("zoo.failed") == 1
