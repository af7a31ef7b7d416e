"""Messages of all sizes, both ways, through slabs that are too small for them, and lost workers."""

import asyncio
import random
import threading

import pytest
from simulators.data_plane import LANE, RecordingSink

from wardian.serving.queue.blocks import GRAIN_BYTES
from wardian.serving.queue.frames import Address
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.seam import Delivered
from wardian.serving.queue.slab_front import SlabDepot
from wardian.serving.queue.worker import SocketWorkerQueue

SIZE = 256 * GRAIN_BYTES


class Echo:
    """A worker in a thread that sends back what it gets, in reverse."""

    def __init__(self, path: str, *, credit: int = 8) -> None:
        self.queue = SocketWorkerQueue(
            Address.parse(path), lane=LANE, credit=credit, slab_from_bytes=5000
        )
        self.cut = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while (messages := self.queue.take()) is not None:
            if self.cut.is_set():
                self.cut.clear()
                self.queue._disconnect()
                continue
            self.queue.answer(
                [
                    Delivered(number, sealed[::-1] if number else b"one of us")
                    for number, sealed in messages
                ]
            )


@pytest.fixture
async def plane(tmp_path):
    sink = RecordingSink()
    queue = SocketFrontQueue(
        Address.parse(str(tmp_path / "q")),
        slabs=SlabDepot(size_bytes=SIZE, budget_bytes=4 * SIZE, from_bytes=5000),
    )
    queue.attach(sink)
    await queue.start()
    workers = [Echo(str(tmp_path / "q")) for _ in range(2)]
    await sink.until(lambda: len(sink.admitted) == 2)
    yield queue, sink, workers
    for worker in workers:
        worker.queue.stop()
    await queue.close()
    for worker in workers:
        await asyncio.to_thread(worker.thread.join, 10)
        assert not worker.thread.is_alive()
        worker.queue.close()
    while queue.peers:
        await asyncio.sleep(0.001)
    assert queue.slabs.used_bytes() == 0
    assert queue.slabs._left_bytes == 4 * SIZE


def messages(count: int) -> dict[int, bytes]:
    """Return messages that say which they are at every place, of sizes around each boundary."""
    draw = random.Random(3)
    sizes = [1, 4999, 5000, GRAIN_BYTES, GRAIN_BYTES + 1, 65_535, 65_536, SIZE, SIZE + 1]
    sizes += [int(2 ** draw.uniform(8, 19.5)) for _ in range(count - len(sizes))]
    draw.shuffle(sizes)
    return {
        number: (b"%07d|" % number * (size // 8 + 1))[:size] for number, size in enumerate(sizes, 1)
    }


async def until_ended(sink: RecordingSink, count: int) -> None:
    """Return once `count` messages were answered or lost."""
    await sink.until(lambda: len(sink.answers) + sum(map(len, sink.losses)) >= count)


async def test_what_goes_in_comes_out_whatever_its_size(plane):
    queue, sink, _ = plane
    sent = messages(400)
    for number, sealed in sent.items():
        queue.send(number, sealed, lane=LANE, alone=False)
        if number % 20 == 0:
            await until_ended(sink, number - 40)
    await until_ended(sink, len(sent))
    assert {number: answer[::-1] for number, answer in sink.answers} == sent
    assert sink.losses == []
    assert queue.slabs.counts.carried > 100  # ... and some found it full:
    assert queue.slabs.counts.by_socket > 10
    assert queue.slabs.used_bytes() == 0


async def test_a_worker_that_comes_back_gets_new_slabs(plane):
    queue, sink, workers = plane
    sent = messages(300)
    for number, sealed in sent.items():
        queue.send(number, sealed, lane=LANE, alone=False)
        if number % 50 == 0:
            workers[number // 50 % 2].cut.set()
            await until_ended(sink, number - 40)
    await until_ended(sink, len(sent))
    assert sink.losses
    assert all(sent[number] == answer[::-1] for number, answer in sink.answers)
    before = queue.slabs.counts.carried
    for number in range(1000, 1040):
        queue.send(number, b"x" * 9000, lane=LANE, alone=False)
        await until_ended(sink, len(sent) + number - 999)
    assert queue.slabs.counts.carried > before
