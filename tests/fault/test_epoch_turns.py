"""Epochs turn while a front end and its workers are at it, over the real socket."""

import asyncio
import threading
import time

import pytest
from simulators import hostile_queue as hostile
from simulators.data_plane import (
    LANE,
    LANES,
    Collector,
    ToyModel,
    image,
    is_answer,
    sender,
)

from wardian.crypto.message_header import epoch_of
from wardian.crypto.secret import Secret
from wardian.serving.dispatch import Dispatcher
from wardian.serving.epochs import EpochCodec
from wardian.serving.queue import front_peer
from wardian.serving.queue.frames import Address, FrameKind
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.worker import SocketWorkerQueue
from wardian.serving.worker import Worker


def key(epoch: int) -> Secret:
    return Secret(bytes([epoch]) * 32)


class Mesh:
    """A broker's epochs as a number; a front end; workers in threads that ask for their keys."""

    def __init__(self, folder) -> None:
        self.path = str(folder / "front")
        self.relay = hostile.Relay(str(folder / "relay"), self.path)
        self.queue = SocketFrontQueue(Address.parse(self.path))
        self.epoch = 1
        self.dispatcher = Dispatcher(
            queue=self.queue,
            codecs={"digits": sender(key=key(1), epoch=1)},
            lanes=LANES,
            max_waiting=10_000,
        )
        self.requests = Collector(self.dispatcher)
        self.workers: list[tuple[Worker, threading.Thread]] = []

    async def start(self) -> None:
        await self.queue.start()
        await self.relay.start()

    async def worker(self, *, model=None, renews=True, asks_s=0.0, path="") -> Worker:
        """A worker; renewing takes it `asks_s`, and a stale one never does."""

        def ask() -> None:
            time.sleep(asks_s)
            if renews:
                take_up(self.epoch)

        codec = EpochCodec(model="digits", keep_s=60, ask=ask)

        def take_up(epoch: int) -> None:
            if codec.epoch < epoch:
                codec.take_up(key(epoch), epoch=epoch, certificate_digest=b"w" * 32)

        take_up(self.epoch)
        queue = SocketWorkerQueue(Address.parse(path or self.path), lane=LANE)
        worker = Worker(
            model=model or ToyModel(), lane=LANE, max_batch=64, queue=queue, codec=codec
        )
        before = self.queue.room(LANE)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        self.workers.append((worker, thread))
        while self.queue.room(LANE) == before:
            await asyncio.sleep(0.005)
        return worker

    def turn(self) -> None:
        """The broker turns the epoch, and this front end has heard of it."""
        self.epoch += 1
        codec = sender(key=key(self.epoch), epoch=self.epoch)
        self.dispatcher.use({"digits": codec}, lanes=LANES, moved=False)

    async def close(self) -> None:
        for worker, _ in self.workers:
            worker.stop()
        await self.relay.close()
        await self.queue.close()
        self.dispatcher.close()
        for _, thread in self.workers:
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()


@pytest.fixture
async def mesh(tmp_path):
    mesh = Mesh(tmp_path)
    await mesh.start()
    yield mesh
    await mesh.close()


async def load(mesh: Mesh, count: int) -> None:
    for value in range(count):
        mesh.requests.submit(value, image(value))
        await asyncio.sleep(0.001)


async def test_under_load_ten_turns_cost_no_request(mesh: Mesh) -> None:
    await mesh.worker(asks_s=0.02)
    await mesh.worker(asks_s=0.01)
    loading = asyncio.ensure_future(load(mesh, 1500))
    for _ in range(10):
        await asyncio.sleep(0.12)
        mesh.turn()
    await loading
    outcomes = await mesh.requests.all_done()
    assert len(outcomes) == 1500
    assert all(is_answer(outcomes[value], value) for value in range(1500))
    assert mesh.dispatcher.counters.failed == mesh.dispatcher.counters.redelivered == 0


async def test_t21_a_worker_that_was_withdrawn_gets_nothing_and_holds_up_nobody(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its connection, its keys and its clock; the other one serves on."""
    monkeypatch.setattr(front_peer, "GREETING_TIMEOUT_S", 0.3)
    seen: list[int] = []

    def watch(direction: str, frame: hostile.Frame) -> list[hostile.Frame]:
        kind, body = frame
        if direction == hostile.TO_WORKER and kind == FrameKind.REQUEST and any(body[:8]):
            seen.append(epoch_of(body[8:]))
        return [frame]

    mesh.relay.trick = watch
    await mesh.worker(renews=False, path=mesh.relay.path)
    await mesh.worker()
    mesh.turn()
    loading = asyncio.ensure_future(load(mesh, 300))
    await loading
    outcomes = await mesh.requests.all_done()
    assert all(is_answer(outcomes[value], value) for value in range(300))
    assert seen == []
    while len(mesh.queue.peers) > 1:  # and in the end it is let go of
        await asyncio.sleep(0.01)


async def test_a_worker_that_is_busy_is_not_dropped_for_answering_late(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_peer, "GREETING_TIMEOUT_S", 0.05)
    busy = threading.Event()

    def infer(batch) -> None:
        busy.set()
        time.sleep(0.4)

    await mesh.worker(model=ToyModel(infer))
    mesh.requests.submit("one", image(1))
    await asyncio.to_thread(busy.wait, 5)
    mesh.turn()
    mesh.requests.submit("two", image(2))
    outcomes = await mesh.requests.all_done()
    assert is_answer(outcomes["one"], 1)
    assert is_answer(outcomes["two"], 2)
    assert mesh.dispatcher.counters.redelivered == 0


async def test_a_worker_that_was_being_admitted_when_the_epoch_turned(mesh: Mesh) -> None:
    """Its challenge was under keys that are over: it connects again and is asked under the new."""
    held: list[hostile.Frame] = []

    def hold_the_answer(direction: str, frame: hostile.Frame) -> list[hostile.Frame]:
        if direction == hostile.TO_FRONT and frame[0] == FrameKind.ANSWER and not held:
            held.append(frame)
            return []
        return [frame]

    mesh.relay.trick = hold_the_answer
    starting = asyncio.ensure_future(mesh.worker(path=mesh.relay.path))
    while not held:
        await asyncio.sleep(0.005)
    mesh.turn()
    await starting
    mesh.requests.submit("one", image(1))
    outcomes = await mesh.requests.all_done()
    assert is_answer(outcomes["one"], 1)


async def test_the_host_drops_every_first_challenge_of_an_epoch(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is let go of and connects again: later, and nothing is lost."""
    monkeypatch.setattr(front_peer, "GREETING_TIMEOUT_S", 0.1)
    dropped: list[int] = []

    def drop(direction: str, frame: hostile.Frame) -> list[hostile.Frame]:
        kind, body = frame
        asks = direction == hostile.TO_WORKER and kind == FrameKind.REQUEST and not any(body[:8])
        if asks and (epoch := epoch_of(body[8:])) > 1 and epoch not in dropped:
            dropped.append(epoch)
            return []
        return [frame]

    mesh.relay.trick = drop
    await mesh.worker(path=mesh.relay.path)
    mesh.turn()
    mesh.requests.submit("one", image(1))
    outcomes = await mesh.requests.all_done()
    assert is_answer(outcomes["one"], 1)
    assert dropped == [2]
