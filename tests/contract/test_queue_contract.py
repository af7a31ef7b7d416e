"""What every queue promises to a front end and to a worker, for each implementation.

Last comes what all of it is for, on each wire and under a carrier that drops, delays, duplicates,
reorders, replays and forges: requests accepted = answers + typed errors, none twice, none wrong.
"""

import asyncio
import contextlib
import threading
from typing import ClassVar

import pytest
from simulators import hostile_queue, hostile_redis
from simulators.data_plane import (
    LANE,
    LANES,
    Collector,
    MemoryQueue,
    RecordingSink,
    ToyModel,
    image,
    is_answer,
    receiver,
    sender,
)
from simulators.redis_plane import RedisPlane
from simulators.redis_server import RedisServer

from wardian.errors import JobFailed, Timeout
from wardian.serving.dispatch import Dispatcher
from wardian.serving.queue import redis_heartbeat
from wardian.serving.queue.frames import LARGE_BYTES, Address
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_front import RedisFrontQueue
from wardian.serving.queue.redis_worker import RedisWorkerQueue
from wardian.serving.queue.seam import Delivered, WorkerQueue
from wardian.serving.queue.slab_front import SlabDepot
from wardian.serving.queue.worker import SocketWorkerQueue
from wardian.serving.worker import Worker


class BlockingWorker:
    """A blocking worker's queue, awaited in a thread."""

    def __init__(self, queue: WorkerQueue) -> None:
        self.queue = queue
        self.taking: asyncio.Future | None = None

    def take_ahead(self) -> None:
        """Read what comes before it is asked for."""
        self.taking = asyncio.ensure_future(asyncio.to_thread(self.queue.take))

    async def take(self):
        taking, self.taking = self.taking, None
        return await (taking or asyncio.to_thread(self.queue.take))

    async def answer(self, answers):
        await asyncio.to_thread(self.queue.answer, answers)

    def grant(self, credit):
        self.queue.grant(credit)

    def stop(self):
        self.queue.stop()

    def vanish(self):
        self.queue.close()


class SocketPair:
    def __init__(self, address: str) -> None:
        self.front = SocketFrontQueue(Address.parse(address))
        self.workers: list[BlockingWorker] = []

    async def start(self, sink) -> None:
        self.front.attach(sink)
        await self.front.start()

    def connect(self, lane: Lane = LANE, credit: int = 2) -> BlockingWorker:
        queue = SocketWorkerQueue(self.front.address, lane=lane, credit=credit)
        self.workers.append(BlockingWorker(queue))
        return self.workers[-1]

    async def close(self) -> None:
        for worker in self.workers:
            worker.vanish()
        await self.front.close()

    async def settle(self, worker: BlockingWorker) -> None:
        """Return once all is as it stays for a worker that was admitted."""


class SlabPair(SocketPair):
    """Every message that can travels in a slab, however small."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.front = SocketFrontQueue(Address.parse(address), slabs=SlabDepot(from_bytes=1))

    def connect(self, lane: Lane = LANE, credit: int = 2) -> BlockingWorker:
        queue = SocketWorkerQueue(self.front.address, lane=lane, credit=credit, slab_from_bytes=1)
        self.workers.append(BlockingWorker(queue))
        return self.workers[-1]

    async def settle(self, worker: BlockingWorker) -> None:
        for peer in [each for each in self.front.peers.values() if each._slabs is None]:
            peer._offer_slabs(peer._transport)
            worker.take_ahead()
            while not peer._slabs.in_use:
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        await super().close()
        for worker in self.workers:
            if worker.taking is not None:
                await worker.taking
        while self.front.peers:
            await asyncio.sleep(0.001)
        assert self.front.slabs.used_bytes() == 0


class MemoryPair:
    def __init__(self) -> None:
        self.front = MemoryQueue()
        self.workers = []

    async def start(self, sink) -> None:
        self.front.attach(sink)

    def connect(self, lane: Lane = LANE, credit: int = 2):
        self.workers.append(self.front.connect(lane, credit))
        return self.workers[-1]

    async def close(self) -> None:
        for worker in self.workers:
            worker.vanish()

    async def settle(self, worker) -> None:
        pass


class RedisPair:
    """Both ends over a real redis-server, with TLS and ACL users."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.front = RedisFrontQueue(server.access("frontend"), look_s=0.02)
        self.workers: list[BlockingWorker] = []

    async def start(self, sink) -> None:
        self.front.attach(sink)
        await self.front.start()

    def connect(self, lane: Lane = LANE, credit: int = 2) -> BlockingWorker:
        queue = RedisWorkerQueue(self.server.access("worker"), lane=lane, credit=credit)
        self.workers.append(BlockingWorker(queue))
        return self.workers[-1]

    async def close(self) -> None:
        for worker in self.workers:
            await asyncio.to_thread(worker.vanish)
        await self.front.close()

    async def settle(self, worker: BlockingWorker) -> None:
        pass


@pytest.fixture
def sink():
    return RecordingSink()


@pytest.fixture(scope="module")
def redis(need_program, tmp_path_factory):
    server = RedisServer(need_program("redis-server"), tmp_path_factory.mktemp("redis"))
    yield server.start()
    server.close()


@pytest.fixture(params=["memory", "unix", "slab", "tcp", "redis"])
async def pair(request, tmp_path, sink):
    if request.param == "memory":
        pair = MemoryPair()
    elif request.param == "redis":
        pair = RedisPair(request.getfixturevalue("redis"))
    elif request.param == "slab":
        pair = SlabPair(str(tmp_path / "q"))
    else:
        unix = request.param == "unix"
        pair = SocketPair(str(tmp_path / "q") if unix else "tcp:127.0.0.1:0")
    await pair.start(sink)
    yield pair
    await pair.close()


async def admitted(pair, sink, **options):
    """Return a worker that has answered its challenge."""
    before = len(sink.admitted)
    worker = pair.connect(**options)
    ((number, question),) = await worker.take()
    assert question == b"who are you?"
    await worker.answer([Delivered(number, b"one of us")])
    await sink.until(lambda: len(sink.admitted) > before)
    await pair.settle(worker)
    return worker


def send(pair, message: int, *, lane: Lane = LANE, alone: bool = False) -> None:
    pair.front.send(message, b"request %d" % message, lane=lane, alone=alone)


async def take(worker, count: int) -> list[int]:
    """Return the next `count` messages that the worker gets."""
    numbers: list[int] = []
    while len(numbers) < count:
        delivered = await worker.take()
        assert all(sealed == b"request %d" % message for message, sealed in delivered)
        numbers += [message for message, _ in delivered]
    return numbers


async def test_a_message_is_answered(pair, sink):
    worker = await admitted(pair, sink)
    send(pair, 5)
    assert await take(worker, 1) == [5]
    await worker.answer([Delivered(5, b"answer")])
    await sink.until(lambda: sink.answers)
    assert sink.answers == [(5, b"answer")]
    assert sink.losses == []


async def test_messages_wait_for_a_worker_in_their_order(pair, sink):
    for message in (1, 2, 3):
        send(pair, message)
    assert pair.front.room(LANE) == 0
    worker = await admitted(pair, sink, credit=3)
    assert await take(worker, 3) == [1, 2, 3]


async def test_a_worker_gets_as_much_as_it_gave_credit_for(pair, sink):
    worker = await admitted(pair, sink, credit=2)
    for message in (1, 2, 3, 4):
        send(pair, message)
    assert await take(worker, 2) == [1, 2]
    await worker.answer([Delivered(2, b"a"), Delivered(1, b"b")])
    assert await take(worker, 2) == [3, 4]
    assert sink.answers == [(2, b"a"), (1, b"b")]


async def test_room_counts_workers_and_opens_when_one_answers(pair, sink):
    worker = await admitted(pair, sink, credit=1)
    await admitted(pair, sink, credit=5)
    assert pair.front.room(LANE) == 2
    send(pair, 1)
    assert pair.front.room(LANE) == 1
    assert await take(worker, 1) == [1]
    sink.rooms.clear()
    await worker.answer([Delivered(1, b"a")])
    await sink.until(lambda: sink.answers)
    assert sink.rooms == [LANE]
    assert pair.front.room(LANE) == 2


async def test_a_worker_that_grants_more_gets_more(pair, sink, monkeypatch):
    monkeypatch.setattr(redis_heartbeat, "BEAT_S", 0.05)
    worker = await admitted(pair, sink, credit=2)
    for message in range(1, 11):
        send(pair, message)
    assert await take(worker, 2) == [1, 2]
    assert pair.front.room(LANE) == 0
    worker.grant(8)
    assert await take_and_answer(worker, 8, also=(1, 2)) == list(range(3, 11))
    await sink.until(lambda: len(sink.answers) == 10)
    for message in range(11, 14):
        send(pair, message)
    while pair.front.room(LANE) != 1:  # it holds three of eight, as soon as that is known
        await asyncio.sleep(0.01)
    assert pair.front.room(LANE, most=4) == 1
    assert pair.front.room(LANE, most=3) == 0
    assert await take_and_answer(worker, 3) == [11, 12, 13]
    await sink.until(lambda: len(sink.answers) == 13)
    assert sink.losses == []


async def take_and_answer(worker, count: int, *, also: tuple[int, ...] = ()) -> list[int]:
    """Answer `also` and the next `count` messages as they come, and return these."""
    answered: list[int] = []
    await worker.answer([Delivered(message, b"answer") for message in also])
    while len(answered) < count:
        messages = [message for message, _ in await worker.take()]
        await worker.answer([Delivered(message, b"answer") for message in messages])
        answered += messages
    return answered


async def test_over_redis_a_read_brings_more_once_there_is_more(redis, sink):
    pair = RedisPair(redis)
    await pair.start(sink)
    try:
        worker = await admitted(pair, sink, credit=16)
        for message in range(1, 33):
            send(pair, message)
        sizes, seen = [], []
        while len(seen) < 32:
            messages = [message for message, _ in await worker.take()]
            await worker.answer([Delivered(message, b"answer") for message in messages])
            sizes.append(len(messages))
            seen += messages
        assert sorted(seen) == list(range(1, 33))
        assert sizes[0] == 1
        assert 1 < max(sizes) <= 8
    finally:
        await pair.close()


async def test_over_redis_messages_too_large_for_one_reply_come_one_by_one(redis, sink):
    pair = RedisPair(redis)
    await pair.start(sink)
    try:
        queue = RedisWorkerQueue(redis.access("worker"), lane=LANE, credit=16, max_frame_bytes=1000)
        pair.workers.append(BlockingWorker(queue))
        worker = pair.workers[0]
        ((number, _),) = await worker.take()
        await worker.answer([Delivered(number, b"one of us")])
        await sink.until(lambda: sink.admitted)
        queue._at_once = 8  # as after many small ones
        for message in range(1, 17):
            pair.front.send(message, bytes(900), lane=LANE, alone=False)
        seen: set[int] = set()
        while len(seen) < 16:
            messages = [message for message, _ in await worker.take()]
            await worker.answer([Delivered(message, b"answer") for message in messages])
            seen |= set(messages)
        await sink.until(lambda: len(sink.answers) == 16)
        assert seen == set(range(1, 17))
    finally:
        await pair.close()


async def test_lanes_do_not_mix(pair, sink):
    other = Lane("digits", 2)
    first, second = await admitted(pair, sink), await admitted(pair, sink, lane=other)
    send(pair, 1, lane=other)
    send(pair, 2)
    assert await take(first, 1) == [2]
    assert await take(second, 1) == [1]


async def test_what_a_lost_worker_held_is_reported(pair, sink):
    worker = await admitted(pair, sink)
    for message in (1, 2, 3):
        send(pair, message)
    await take(worker, 2)
    worker.vanish()
    await sink.until(lambda: sink.losses)
    assert sink.losses == [[1, 2]]  # and 3 still waits:
    assert await take(await admitted(pair, sink), 1) == [3]


async def test_a_suspect_is_with_a_worker_that_holds_nothing_else(pair, sink):
    worker = await admitted(pair, sink, credit=3)
    send(pair, 1)
    send(pair, 2, alone=True)
    send(pair, 3)
    assert pair.front.room(LANE) == 0
    for expected in (1, 2, 3):
        assert await take(worker, 1) == [expected]
        await worker.answer([Delivered(expected, b"a")])


async def test_what_nobody_waits_for_is_not_delivered(pair, sink):
    send(pair, 1)
    send(pair, 2)
    pair.front.forget(1, lane=LANE)
    worker = await admitted(pair, sink)
    assert await take(worker, 1) == [2]
    pair.front.forget(2, lane=LANE)  # too late: the worker goes on holding it
    await worker.answer([Delivered(2, b"a")])
    await sink.until(lambda: sink.answers)


async def test_a_worker_that_holds_only_what_nobody_waits_for_is_stalled(pair, sink):
    worker = await admitted(pair, sink, credit=2)
    (number,) = sink.admitted
    send(pair, 1)
    send(pair, 2)
    await take(worker, 2)
    pair.front.forget(1, lane=LANE)
    assert not pair.front.stalled(number)
    pair.front.forget(2, lane=LANE)
    assert pair.front.stalled(number)
    await worker.answer([Delivered(2, b"late")])
    await sink.until(lambda: sink.answers)
    assert not pair.front.stalled(number)


async def test_a_forged_answer_changes_nothing(pair, sink):
    worker = await admitted(pair, sink, credit=1)
    send(pair, 1)
    send(pair, 2)
    assert await take(worker, 1) == [1]
    await worker.answer([Delivered(1, b"forged"), Delivered(1, b"true"), Delivered(1, b"again")])
    assert await take(worker, 1) == [2]
    assert sink.answers == [(1, b"true")]


async def test_answers_to_what_a_worker_does_not_hold_are_passed_over(pair, sink):
    first = await admitted(pair, sink, credit=1)
    send(pair, 1)
    second = await admitted(pair, sink, credit=1)
    send(pair, 2)
    assert await take(first, 1) == [1]
    assert await take(second, 1) == [2]
    await second.answer([Delivered(1, b"stolen"), Delivered(99, b"invented"), Delivered(2, b"b")])
    await first.answer([Delivered(1, b"a")])
    await sink.until(lambda: len(sink.answers) == 2)
    assert sorted(sink.answers) == [(1, b"a"), (2, b"b")]


async def test_who_fails_the_challenge_gets_nothing(pair, sink):
    worker = pair.connect()
    send(pair, 1)
    ((number, _),) = await worker.take()
    await worker.answer([Delivered(number, b"let me in")])
    assert pair.front.room(LANE) == 0
    assert await take(await admitted(pair, sink), 1) == [1]


async def test_a_worker_that_stops_finishes_what_it_holds(pair, sink):
    worker = await admitted(pair, sink, credit=1)
    send(pair, 1)
    assert await take(worker, 1) == [1]
    worker.stop()
    taking = asyncio.ensure_future(worker.take())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(taking), 0.4)
    await worker.answer([Delivered(1, b"a")])
    assert await taking is None
    assert sink.answers == [(1, b"a")]
    assert sink.losses == []


async def test_large_messages_arrive_whole(pair, sink):
    worker = await admitted(pair, sink)
    large = bytes(range(256)) * 8192
    pair.front.send(1, large, lane=LANE, alone=False)
    ((_, sealed),) = await worker.take()
    assert sealed == large
    await worker.answer([Delivered(1, large)])
    await sink.until(lambda: sink.answers)
    assert sink.answers == [(1, large)]


# Asked again: with an epoch of the keys every worker proves itself anew


async def asked_again(worker) -> None:
    ((number, question),) = await worker.take()
    assert (number, question) == (0, b"who are you?")


async def test_who_is_asked_again_gets_nothing_until_it_answers(pair, sink):
    worker = await admitted(pair, sink)
    pair.front.rechallenge()
    assert pair.front.room(LANE) == 0
    send(pair, 1)
    await asked_again(worker)
    sink.rooms.clear()
    await worker.answer([Delivered(0, b"one of us")])
    assert await take(worker, 1) == [1]
    assert pair.front.room(LANE) == 1
    await worker.answer([Delivered(1, b"a")])
    await sink.until(lambda: sink.answers)


async def test_what_it_held_it_answers_before_or_after(pair, sink):
    worker = await admitted(pair, sink, credit=2)
    send(pair, 1)
    send(pair, 2)
    assert await take(worker, 2) == [1, 2]
    pair.front.rechallenge()
    await asked_again(worker)
    await worker.answer([Delivered(1, b"a"), Delivered(0, b"one of us"), Delivered(2, b"b")])
    await sink.until(lambda: len(sink.answers) == 2)
    assert sink.answers == [(1, b"a"), (2, b"b")]
    assert sink.losses == []
    assert pair.front.room(LANE) == 1


async def test_a_wrong_answer_changes_nothing_and_the_true_one_counts(pair, sink):
    """It may have been the answer to the question before."""
    worker = await admitted(pair, sink, credit=1)
    pair.front.rechallenge()
    await asked_again(worker)
    await worker.answer([Delivered(0, b"let me in")])
    send(pair, 1)
    pair.front.rechallenge()
    await asked_again(worker)
    await worker.answer([Delivered(0, b"one of us")])
    assert await take(worker, 1) == [1]


async def test_who_cannot_be_asked_any_more_is_let_go_of(pair, sink):
    worker = await admitted(pair, sink)
    send(pair, 1)
    assert await take(worker, 1) == [1]
    sink.refuses = True
    pair.front.rechallenge()
    await sink.until(lambda: sink.left)
    assert sink.losses == [[1]]


async def test_a_worker_that_stops_while_it_is_asked(pair, sink):
    worker = await admitted(pair, sink, credit=1)
    send(pair, 1)
    assert await take(worker, 1) == [1]
    pair.front.rechallenge()
    await asked_again(worker)
    worker.stop()
    taking = asyncio.ensure_future(worker.take())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(taking), 0.4)
    await worker.answer([Delivered(0, b"one of us"), Delivered(1, b"a")])
    assert await taking is None
    assert sink.answers == [(1, b"a")]


# Accepted = answers + typed errors, none twice (`Collector` refuses a second outcome), none wrong


class EmbeddedPlane:
    """Dispatcher, embedded queue and a worker, by way of a relay that may lie."""

    tricks: ClassVar = {
        "nothing": lambda: lambda _, frame: [frame],
        "duplicates": lambda: hostile_queue.duplicate,
        "forges": lambda: hostile_queue.ForgeFirst(1),
        "reorders": hostile_queue.Reorder,
        "replays": hostile_queue.Replay,
        "changes": lambda: hostile_queue.Flip(2),
        "swaps": hostile_queue.Swap,
        "truncates": lambda: hostile_queue.truncate,
        "reflects": hostile_queue.Reflect,
        "drops": lambda: hostile_queue.drop,
        "breaks off": lambda: hostile_queue.break_off,
    }
    slab_from_bytes = LARGE_BYTES

    def slabs(self) -> SlabDepot:
        return SlabDepot()

    def __init__(self, folder) -> None:
        self.relay = hostile_queue.Relay(str(folder / "relay"), str(folder / "front"))
        self.queue = SocketFrontQueue(Address.parse(str(folder / "front")), slabs=self.slabs())
        self.dispatcher = Dispatcher(
            queue=self.queue, codecs={"digits": sender()}, lanes=LANES, max_waiting=999
        )
        self.requests = Collector(self.dispatcher)

    async def start(self) -> None:
        await self.queue.start()
        await self.relay.start()

    def play(self, trick) -> None:
        self.relay.trick = hostile_queue.on_work(trick)

    async def worker(self) -> None:
        queue = SocketWorkerQueue(
            Address.parse(self.relay.path), lane=LANE, slab_from_bytes=self.slab_from_bytes
        )
        self.running = Worker(
            model=ToyModel(), lane=LANE, max_batch=64, queue=queue, codec=receiver()
        )
        self.thread = threading.Thread(target=self.running.run, daemon=True)
        self.thread.start()
        while not self.dispatcher.catalog()["digits"].ready:
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        self.running.stop()
        await self.relay.close()
        await self.queue.close()
        self.dispatcher.close()
        await asyncio.to_thread(self.thread.join, 10)


class SlabPlane(EmbeddedPlane):
    """Likewise, but what the relay sees is where in the slabs a message lies."""

    slab_from_bytes = 1

    def slabs(self) -> SlabDepot:
        return SlabDepot(from_bytes=1)

    async def worker(self) -> None:
        await super().worker()
        self.requests.submit("first", image(7), deadline_s=20)  # with it the slabs are offered
        await self.requests.all_done()
        while not all(peer._slabs and peer._slabs.in_use for peer in self.queue.peers.values()):
            await asyncio.sleep(0.005)
        assert is_answer(self.requests.outcomes.pop("first"), 7)
        self.requests.expected -= 1

    async def close(self) -> None:
        await super().close()
        assert self.queue.slabs.counts.carried


class RedisCarrier(RedisPlane):
    tricks: ClassVar = {
        "nothing": hostile_redis.Trick,
        "duplicates": hostile_redis.Duplicate,
        "forges": hostile_redis.ForgeFirst,
        "reorders": hostile_redis.Reorder,
        "replays": hostile_redis.Replay,
        "changes": lambda: hostile_redis.Flip(requests=False),
        "swaps": hostile_redis.Swap,
        "truncates": hostile_redis.Truncate,
        "reflects": hostile_redis.Reflect,
        "drops": hostile_redis.Drop,
        "breaks off": hostile_redis.BreakOff,
    }

    def play(self, trick) -> None:
        self.relay.play(trick)


@pytest.fixture(params=["embedded", "slab", "redis"])
async def carrier(request, tmp_path):
    if request.param == "redis":
        plane = RedisCarrier(request.getfixturevalue("redis"))
    elif request.param == "slab":
        plane = SlabPlane(tmp_path)
    else:
        plane = EmbeddedPlane(tmp_path)
    await plane.start()
    yield plane
    plane.play(plane.tricks["nothing"]())
    await plane.close()


@pytest.mark.parametrize("trick", EmbeddedPlane.tricks)
async def test_accepted_is_answers_and_typed_errors_none_twice_none_wrong(carrier, trick):
    await carrier.worker()
    carrier.play(carrier.tricks[trick]())
    for value in range(60):
        carrier.requests.submit(value, image(value), deadline_s=0.8)
        if value % 4 == 0:
            await asyncio.sleep(0.003)
    outcomes = await carrier.requests.all_done()
    assert len(outcomes) == 60
    for value, outcome in outcomes.items():
        assert outcome.error is not None or is_answer(outcome, value)
    assert carrier.requests.errors() <= {Timeout, JobFailed}
    harmless = {"nothing", "duplicates", "forges", "reflects"}
    if isinstance(carrier, SlabPlane):
        harmless -= {"forges", "reflects"}  # a place that cannot be ends the connection
    if trick in harmless:
        assert carrier.requests.errors() == set()
