"""What a hostile Redis may answer to the role `zoo`: each reply by itself, and the whole role.

It may deny service. It may not end the role, fill its memory, keep it busy with nothing, or make it
answer wrongly: once such a Redis is an honest one again, the role serves as if nothing had been.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from reply_trees import Status, Tree, encode, pieces, tampered
from toy_redis import ToyLoop, ToyRedis

from wardian._internal.zoo_redis import ZooJob
from wardian.crypto.secret import Secret
from wardian.errors import PeerProtocolError, WardianError
from wardian.inference.spec import FREE, TensorSpec
from wardian.serving.descriptions import Description, ModelInfo
from wardian.serving.packing import Outcome
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_entries import Entry
from wardian.serving.queue.redis_session import accept
from wardian.serving.queue.redis_wire import ReplyReader
from wardian.serving.zoo.results import encode_result
from wardian.serving.zoo.stream import answering, commands, consumer, outgoing
from wardian.serving.zoo.stream.counts import Counts
from wardian.serving.zoo.stream.their_redis import TheirRedis
from wardian.serving.zoo.stream.window import Window

JOB, ME, OTHER = b"serving_stream", b"wardian-1", b"wardian-2"
SEEDS = tuple(random.Random(number).randbytes(16) for number in range(8))
MOST = 16  # records under way
READS_PER_S = 100
WITHIN_S = 30.0
_LOGS = tuple(each.log for each in (answering, consumer, outgoing))


def zoo_replies() -> Iterator[dict[str, Any]]:
    """Yield what targets are made of; an input seeds what a hostile Redis says."""
    yield {"name": "Zoo role's replies", "parse": _read_one, "seeds": SEEDS}
    yield {"name": "Zoo role and a hostile Redis", "parse": _serve, "seeds": SEEDS, "cost": 5}


# Replies by themselves

_FIELDS = (b"uri", b"a", b"data", b"AAAA")
_REPLIES: tuple[tuple[Tree, Callable[[Tree], object]], ...] = (
    ([[JOB, [[b"1-1", [*_FIELDS]], [b"1-2", [*_FIELDS, b"serde", b"stream"]]]]],
     partial(commands.parse_new, job=JOB)),
    ([[b"1-1", [*_FIELDS]], None, [b"3-0", None]], partial(commands.parse_claimed, job=JOB)),
    ([[b"%d-0" % number, ME, 5, 1] for number in range(64)],
     partial(commands.parse_pending, after=b"0-0")),
    ([ME, OTHER], commands.parse_consumers),
    ([1, 1, 0, 1], commands.refused_writes),
    (Status(b"OK"), accept),
)  # fmt: skip


def _read_one(raw: bytes) -> None:
    rng = random.Random(raw)
    tree, parse = rng.choice(_REPLIES)
    wire = b"".join([encode(each, rng) for each in tampered(tree, rng)])
    whole, cut = _replies([wire]), _replies(pieces(wire, rng))
    if whole != cut:
        raise AssertionError(f"whole: {whole}, in pieces: {cut}")
    if not isinstance(whole, list) or not whole:
        raise PeerProtocolError("refused")
    for reply in whole:
        _bounded(parse(reply), len(wire))


def _replies(parts: list[bytes]) -> list[Tree] | type[WardianError]:
    reader = ReplyReader(max_bytes=64 * 1024)
    try:
        return [reply for part in parts for reply in reader.feed(part)]
    except WardianError as err:
        return type(err)


def _bounded(found: object, size: int) -> None:
    """Compare what was found with the `size` of what it came from, and see that lists have ends."""
    if not isinstance(found, list) or not found:
        return
    if isinstance(found[0], Entry):
        total = sum(len(each.id) + sum(map(len, each.fields)) for each in found)
    elif isinstance(found[0], commands.Pending):
        total = sum(len(each.id) for each in found)
        if None in [commands.next_id(each.id) for each in found[:-1]]:
            raise AssertionError("a list goes on behind its end")
    else:
        total = sum(map(len, found))
    if total > size:
        raise AssertionError(f"{total} bytes from {size}")


# The role


class _Dispatcher:
    """Answers at the end of the turn: y = 2 x."""

    described = Description(
        model="m", version=1, engine="toy", max_batch=8, batchable=True,
        inputs=(TensorSpec(name="x", dtype="FP32", shape=(FREE, 2)),),
        outputs=(TensorSpec(name="y", dtype="FP32", shape=(FREE, 2)),),
    )  # fmt: skip

    def description(self, model: str, version: int | None) -> Description:
        return self.described

    def submit(self, *, inputs, done, **_: object) -> None:
        outcome = Outcome(outputs={"y": 2 * inputs["x"]}, version=1)
        asyncio.get_running_loop().call_soon(done, outcome)

    def catalog(self) -> dict[str, ModelInfo]:
        return {}


def record(value: int) -> bytes:
    return json.dumps({"instances": [{"x": [value, 1]}]}).encode()


def result(value: int) -> bytes:
    return encode_result([np.array([2 * value, 2], np.float32)])


def make_role(password: bytes = b"") -> consumer.JobConsumer:
    """Return the role's loop for one stream, which logs in with a password, or without."""
    secret = partial(Secret, password) if password else None
    redis = TheirRedis(address=Address(host="127.0.0.1", port=1), password=secret)
    window, counts = Window(most=MOST, pause_s=1.0), Counts()
    answers = answering.Answering(
        _Dispatcher(), ZooJob(model="m"), deadline_s=1.0, max_bytes=4096,
        window=window, counts=counts,
    )  # fmt: skip
    return consumer.JobConsumer(
        job=JOB, consumer=ME, redis=redis,
        answering=answers, window=window, counts=counts, deadline_s=1.0, ttl_s=60, max_bytes=4096,
    )  # fmt: skip


def _serve(raw: bytes) -> None:
    """Let a role serve a hostile Redis for a while, and then an honest one."""
    rng = random.Random(raw)
    redis = ToyRedis(rng, JOB)
    with heard() as said, asyncio.Runner(loop_factory=partial(ToyLoop, redis)) as runner:
        runner.run(_session(redis, rng, said))
    if "zoo.redis_lost" in said or "zoo.redis_unreachable" in said:
        raise PeerProtocolError("it hung up")


async def _session(redis: ToyRedis, rng: random.Random, said: list[str]) -> None:
    loop, wrong = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: wrong.append(str(context)))
    for number in range(rng.randrange(40)):
        holder = rng.choice((None, None, ME, OTHER))
        redis.add(b"%d" % number, record(number), holder=holder)
    redis.names, redis.hostile, role = [OTHER], True, make_role(rng.choice((b"", b"hush")))
    running, began = loop.create_task(role.run()), loop.time()
    await asyncio.sleep(rng.choice((0.05, 0.5, 2.0)))
    spent = loop.time() - began
    if redis.reads > READS_PER_S * (1 + spent) + role._counts.read:
        wrong.append(f"{redis.reads} reads in {spent} s")
    redis.hostile = False
    expected = {}
    for number in range(20):
        uri = b"cluster-serving_serving_stream:good %d" % number
        redis.add(b"good %d" % number, record(number))
        expected[uri] = result(number)
    until = loop.time() + WITHIN_S
    while role.held or not expected.keys() <= redis.results.keys():
        if loop.time() > until or running.done():
            wrong.append(f"it does not serve any more: {role.held} held, {running}")
            break
        await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    role._answering.close()
    if role._held_bytes:
        wrong.append(f"{role._held_bytes} bytes of nothing")
    if any(redis.results.get(uri, value) != value for uri, value in expected.items()):
        wrong.append("a wrong answer")
    if wrong or "zoo.failed" in said:
        raise AssertionError(f"{wrong or said}")


@contextmanager
def heard() -> Iterator[list[str]]:
    """Yield the names of events, which are logged nowhere meanwhile."""
    said: list[str] = []

    def hear(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    levels = [log.level for log in _LOGS]
    for log in _LOGS:
        log.addFilter(hear)
        log.setLevel(logging.INFO)
    try:
        yield said
    finally:
        for log, level in zip(_LOGS, levels, strict=True):
            log.removeFilter(hear)
            log.setLevel(level)
