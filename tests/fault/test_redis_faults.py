"""Redis, workers and the network fail: every request ends once, in an answer or a typed error."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simulators import hostile_redis as hostile
from simulators.data_plane import LANE, ToyModel, image, is_answer
from simulators.redis_plane import RedisPlane, RedisWorker
from simulators.redis_server import RedisServer

from wardian.errors import JobFailed, Timeout
from wardian.serving.queue import redis_front, redis_presence, redis_workers
from wardian.serving.queue.redis_access import GROUP
from wardian.serving.queue.redis_link import BlockingLink
from wardian.serving.queue.redis_wire import command

DEADLINE_S = 8.0
SLACK_S = 2.0  # the machine is shared; that nothing hangs is what is tested


@pytest.fixture
def settings():
    return ()


@pytest.fixture
def server(need_program, tmp_path, settings):
    server = RedisServer(need_program("redis-server"), tmp_path / "redis", settings=settings)
    yield server.start()
    server.close()


@pytest.fixture
async def plane(server):
    plane = await RedisPlane(server).start()
    yield plane
    plane.relay.play(hostile.Trick())
    await plane.close()


class Load:
    """A request every few milliseconds, until it is stopped; then: did each end once, rightly?"""

    def __init__(self, plane: RedisPlane) -> None:
        self.plane = plane
        self.count = 0
        self.began: dict[int, float] = {}
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.plane.requests.submit(self.count, image(self.count), deadline_s=DEADLINE_S)
            self.count += 1
            await asyncio.sleep(0.005)

    async def stop(self) -> int:
        """Return how many were answered, once all have ended."""
        self.task.cancel()
        loop = asyncio.get_running_loop()
        until = loop.time() + DEADLINE_S + SLACK_S
        outcomes = await asyncio.wait_for(self.plane.requests.all_done(), until - loop.time())
        for value in range(self.count):
            assert outcomes[value].error is not None or is_answer(outcomes[value], value)
        assert self.plane.requests.errors() <= {Timeout, JobFailed}
        return sum(outcome.error is None for outcome in outcomes.values())


async def recovered(plane: RedisPlane) -> float:
    """Return how long it takes until a request is answered again, seconds."""
    began = time.monotonic()
    assert await plane.answer(int(began) % 1000)
    seconds = time.monotonic() - began
    print(f"answers again after {seconds:.2f} s")
    return seconds


async def test_redis_is_killed_and_comes_back_with_nothing(plane, server):
    await plane.worker()
    load = Load(plane)
    await asyncio.sleep(0.5)
    server.kill()
    await asyncio.sleep(0.5)
    server.start()
    await recovered(plane)
    await asyncio.sleep(0.3)
    answered = await load.stop()
    assert answered == load.count + 1  # sealed anew and answered, every one


@pytest.mark.parametrize("settings", [("appendonly yes", "appendfsync always")])
async def test_redis_is_killed_and_comes_back_with_its_data(plane, server):
    await plane.worker()
    load = Load(plane)
    await asyncio.sleep(0.5)
    server.kill()
    server.start()
    await recovered(plane)
    await asyncio.sleep(0.3)
    answered = await load.stop()
    assert answered == load.count + 1


async def test_redis_is_away_for_longer_than_anyone_waits(plane, server):
    await plane.worker()
    server.kill()
    for value in range(5):
        plane.requests.submit(value, image(value), deadline_s=0.5)
    outcomes = await plane.requests.all_done()
    assert all(type(outcome.error) is Timeout for outcome in outcomes.values())
    assert plane.queue.room(LANE) == 0
    server.start()
    await recovered(plane)


@pytest.mark.slow
async def test_redis_freezes(plane, server):
    """SIGSTOP: no connection breaks; the silence itself must be noticed."""
    await plane.worker()
    load = Load(plane)
    await asyncio.sleep(0.3)
    server.kill(signal.SIGSTOP)
    await asyncio.sleep(4)
    server.kill(signal.SIGCONT)
    await recovered(plane)
    await load.stop()


async def test_connections_are_killed_over_and_over(plane):
    await plane.worker()
    load = Load(plane)
    for kind in (b"frontend", b"worker") * 3:
        await asyncio.sleep(0.2)
        plane.relay.inject([b"CLIENT", b"KILL", b"USER", kind])
    await recovered(plane)
    answered = await load.stop()
    assert answered == load.count + 1


@pytest.mark.slow
async def test_the_network_is_cut_for_seconds(plane):
    await plane.worker()
    load = Load(plane)
    await asyncio.sleep(0.3)
    plane.relay.cut = True
    await asyncio.sleep(5)
    plane.relay.cut = False
    await recovered(plane)
    await load.stop()


async def test_redis_is_full(plane, caplog):
    """Back-pressure, and not silence: what does not fit waits at the front end."""
    await plane.worker()
    plane.relay.inject([b"CONFIG", b"SET", b"maxmemory", b"1mb"])  # less than it uses already
    while not any(record.getMessage() == "queue.redis_full" for record in caplog.records):
        name = f"into the full one {plane.requests.expected}"
        plane.requests.submit(name, image(1), deadline_s=1)
        await asyncio.sleep(0.02)
    await plane.requests.all_done()
    assert plane.requests.errors() <= {Timeout}
    plane.relay.inject([b"CONFIG", b"SET", b"maxmemory", b"200mb"])
    await recovered(plane)


async def test_the_lane_s_stream_is_deleted(plane):
    await plane.worker()
    load = Load(plane)
    for _ in range(3):
        await asyncio.sleep(0.2)
        plane.relay.inject([b"DEL", b"{wardian:test}:q:digits:1"])
    await asyncio.sleep(0.3)
    await recovered(plane)
    await load.stop()


async def test_everything_is_flushed(plane):
    await plane.worker()
    load = Load(plane)
    await asyncio.sleep(0.3)
    plane.relay.inject([b"FLUSHALL"])
    await asyncio.sleep(0.3)
    await recovered(plane)
    await load.stop()


WORKER = """
import sys
sys.path[:0] = {paths!r}
from simulators.data_plane import LANE, ToyModel, receiver
from simulators.redis_server import MESH, NAME, PASSWORDS
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_access import RedisAccess
from wardian.serving.queue.redis_worker import RedisWorkerQueue
from wardian.serving.worker import Worker
import time
def slow(batch):
    if (batch == 13).any():
        time.sleep(600)
access = RedisAccess(
    addresses=(Address(host="127.0.0.1", port={port}),), server_name=NAME, username="worker",
    password=Secret(PASSWORDS["worker"].encode()), ca_der=open({ca!r}, "rb").read(),
    certificate_chain_pem=open({chain!r}, "rb").read(),
    key=TlsKey.from_secret(Secret(open({key!r}, "rb").read())), mesh=MESH,
)
Worker(model=ToyModel(slow), lane=LANE, max_batch=64,
       queue=RedisWorkerQueue(access, lane=LANE), codec=receiver()).run()
"""


@pytest.fixture
def worker_process(server, plane, tmp_path):
    """A function that starts a worker as a process of its own."""
    started: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        access = server.access("worker")
        names = {name: str(tmp_path / name) for name in ("ca", "chain", "key")}
        Path(names["ca"]).write_bytes(access.ca_der)
        Path(names["chain"]).write_bytes(access.certificate_chain_pem)
        Path(names["key"]).write_bytes(access.key.to_secret().reveal())
        paths = [str(Path(__file__).parents[1]), str(Path(redis_front.__file__).parents[3])]
        code = WORKER.format(paths=paths, port=plane.relay.port, **names)
        started.append(subprocess.Popen([sys.executable, "-c", code]))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.slow
async def test_a_worker_is_killed_or_frozen_while_another_serves(plane, worker_process, number):
    doomed = worker_process()
    await plane.ready()
    load = Load(plane)
    await asyncio.sleep(0.5)
    os.kill(doomed.pid, number)
    await plane.worker()
    began = time.monotonic()
    while len(plane.running) + 1 > len(plane.queue._work.workers):
        await asyncio.sleep(0.01)  # the other one is known beside it
    while len(plane.queue._work.workers) > 1:
        await asyncio.sleep(0.05)
    print(f"gone {time.monotonic() - began:.2f} s after {number.name}")
    await recovered(plane)
    if number is signal.SIGSTOP:
        os.kill(doomed.pid, signal.SIGCONT)  # it answers in vain, and is admitted anew
        while len(plane.queue._work.workers) < 2:
            await asyncio.sleep(0.05)
    answered = await load.stop()
    assert answered == load.count + 1


@pytest.mark.slow
async def test_a_worker_that_is_stuck_is_let_go_of(plane, worker_process, monkeypatch):
    """Its heart beats and its engine does not come back."""
    monkeypatch.setattr(redis_front, "FORGOTTEN_GRACE_S", 0.2)
    worker_process()
    await plane.ready()
    plane.requests.submit("stuck", image(13), deadline_s=0.5)
    await plane.requests.all_done()
    assert type(plane.requests.outcomes["stuck"].error) is Timeout
    while plane.dispatcher.catalog()["digits"].ready:
        await asyncio.sleep(0.05)
    await plane.worker()
    assert await plane.answer(2)


@pytest.mark.slow
async def test_a_poisonous_request_takes_two_workers_and_no_more(plane):
    """It is known for what it is, although the stream is shared: its second death is its own."""
    deaths: list[RedisWorker] = []

    def die(batch) -> None:
        if (batch == 13).any():
            deaths.append(plane.running[-1])
            deaths[-1].queue._heartbeat.stop()
            deaths[-1].queue._link.close()
            deaths[-1].worker.stop()

    await plane.worker(ToyModel(die))
    plane.requests.submit("poison", image(13), deadline_s=60)
    for count in (1, 2):
        while len(deaths) < count or plane.queue._work.workers:
            await asyncio.sleep(0.02)
        if count == 1:
            await plane.worker(ToyModel(die))
    await plane.requests.all_done()
    assert type(plane.requests.outcomes["poison"].error) is JobFailed
    await plane.worker()
    assert await plane.answer(3)


async def look_into(server: RedisServer) -> BlockingLink:
    """Return a connection of one who may do everything."""
    access = server.access("prober")
    return await asyncio.to_thread(
        lambda: BlockingLink.open(
            access, access.tls(), first=command(b"PING"), max_reply_bytes=2**20
        )
    )


async def test_what_dead_front_ends_sent_to_dead_workers_does_not_stay(plane, server, monkeypatch):
    monkeypatch.setattr(redis_presence, "DEAD_FRONT_END_MS", 100)
    monkeypatch.setattr(redis_front, "_TIDY_S", 0.1)
    lane = b"{wardian:test}:q:digits:1"
    await plane.worker()
    assert await plane.answer(1)
    with contextlib.closing(await look_into(server)) as eye:
        # In one transaction: the dead worker takes it before the living one can.
        read = command(b"XREADGROUP", b"GROUP", b"w", b"dead", b"COUNT", 9, b"STREAMS", lane, b">")
        added = command(b"XADD", lane, b"*", b"ab" * 16 + b":5", b"sealed")
        eye.write(command(b"MULTI") + added + read + command(b"EXEC"))
        taken = b""
        while b"sealed" not in taken:  # nested deeper than what the queue reads
            taken += await asyncio.to_thread(eye._socket.recv, 65536)
        while True:
            eye.write(command(b"XLEN", lane))
            if not eye.read():
                break
            await asyncio.sleep(0.05)
    assert await plane.answer(2)


@pytest.mark.parametrize("most", [3, 1000])
async def test_answers_that_were_read_do_not_stay(plane, server, monkeypatch, most):
    """They are deleted some at a time, and the last of them when nothing comes any more."""
    monkeypatch.setattr(redis_front, "_MOST_DONE", most)
    await plane.worker()
    for number in range(10):
        assert await plane.answer(number)
    with contextlib.closing(await look_into(server)) as eye:
        left = 1
        while left:
            await asyncio.sleep(0.02)
            eye.write(command(b"XLEN", plane.queue._replies_key))
            left = eye.read()
    assert not plane.queue._done


async def test_redis_forgets_a_worker_that_left_long_ago(plane, server, monkeypatch):
    """A group keeps every name that ever read from it; one that holds something stays."""
    monkeypatch.setattr(redis_workers, "GONE_FOR_GOOD_S", 0.0)
    first = await plane.worker()
    assert await plane.answer(1)
    work = plane.queue._work
    stream = server.access().keys.lane(LANE)
    with contextlib.closing(await look_into(server)) as eye:

        def ask(*words: bytes):
            eye.write(command(*words))
            return eye.read()

        def names() -> set[bytes]:
            found = ask(b"XINFO", b"CONSUMERS", stream, GROUP)
            return {dict(zip(each[::2], each[1::2], strict=True))[b"name"] for each in found}

        (gone,) = names()
        first.worker.stop()
        await asyncio.to_thread(first.thread.join, 10)
        await asyncio.to_thread(first.queue.close)
        while work.workers or gone in work._present:
            await asyncio.sleep(0.02)
        ask(b"XADD", stream, b"*", b"ab" * 16 + b":5", b"sealed")
        ask(b"XREADGROUP", b"GROUP", GROUP, b"holder", b"STREAMS", stream, b">")
        assert names() == {gone, b"holder"}
        await work.forget_gone(work.commands)
        await redis_presence.forget_consumer(work.commands, stream, b"holder")
        assert names() == {b"holder"}
