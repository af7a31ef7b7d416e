"""Slabs and a front end, or a host in its place, that lies: the worker lives on (T10)."""

import asyncio
import fcntl
import os
import random
import sys
import threading

import pytest
from simulators.data_plane import (
    LANE,
    LANES,
    Collector,
    ToyModel,
    image,
    is_answer,
    receiver,
    sender,
)
from simulators.slab_peers import LARGE, RawFront, memory, open_descriptors

from wardian.errors import JobFailed, Timeout
from wardian.serving.dispatch import Dispatcher
from wardian.serving.queue import slab_handover
from wardian.serving.queue import worker as worker_queue
from wardian.serving.queue.blocks import GRAIN_BYTES
from wardian.serving.queue.frames import Address, FrameKind, message_head, numbered_frame
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.slab import Place, create, parse_place
from wardian.serving.queue.slab_front import SlabDepot
from wardian.serving.queue.slab_handover import Offer
from wardian.serving.queue.worker import SocketWorkerQueue
from wardian.serving.worker import Worker

SIZE = 64 * GRAIN_BYTES
OFFER = Offer(5, b"t" * 32, SIZE, SIZE)
GOOD = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@pytest.fixture
def front(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_queue, "_MIN_PAUSE_S", 0.001)
    before = open_descriptors()
    front = RawFront(str(tmp_path / "q"))
    yield front
    front.close()
    assert open_descriptors() == before


@pytest.fixture
def slabs(front):
    """Give the worker slabs; return those of requests and answers, as the front end has them."""
    requests, first = create(SIZE, writes=True)
    answers, second = create(SIZE, writes=False)
    assert front.offer(OFFER, [first, second]) == OFFER.generation
    os.close(first)
    os.close(second)
    yield requests, answers
    requests.close()
    answers.close()


def request(front, message: int, sealed: bytes) -> None:
    front.connection.sendall(message_head(FrameKind.REQUEST, message, sealed) + sealed)


def still_serves(front, message: int = 77) -> bool:
    """Return whether the worker answers what comes by the socket, by the socket."""
    request(front, message, b"by the socket")
    return front.next() == (FrameKind.ANSWER, message, b"answer")


def test_requests_and_answers_travel_in_slabs(front, slabs):
    requests, answers = slabs
    requests.write(GRAIN_BYTES, LARGE[:9000])
    front.say(FrameKind.REQUEST_AT, 3, Place(5, GRAIN_BYTES, 9000).build())
    kind, message, body = front.next()
    assert (kind, message) == (FrameKind.ANSWER_AT, 3)
    assert answers.read(parse_place(body)) == b"answer"
    assert front.queue._slabs._blocks.used_bytes == GRAIN_BYTES
    front.say(FrameKind.RELEASED, 3)
    front.say(FrameKind.RELEASED, 3)
    front.say(FrameKind.RELEASED, 2**64 - 1)
    request(front, 4, b"small")
    front.next()
    assert front.queue._slabs._blocks.used_bytes == GRAIN_BYTES
    assert [message for message, _ in front.taken] == [3, 4]
    assert front.taken[0].sealed == LARGE[:9000]


def test_a_front_end_that_releases_nothing_gets_its_answers_by_the_socket(front, slabs):
    kinds = []
    for message in range(1, SIZE // GRAIN_BYTES + 3):
        request(front, message, b"r")
        kinds.append(front.next()[0])
    assert kinds[:-2] == [FrameKind.ANSWER_AT] * (SIZE // GRAIN_BYTES)
    assert kinds[-2:] == [FrameKind.ANSWER] * 2


def other_things(tmp_path):
    """Yield what may be passed in the place of two slabs."""
    read, write = os.pipe()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, SIZE)
    good = memory(SIZE)
    yield "none", []
    yield "one", [good]
    yield "three", [good, good, good]
    yield "unsealed", [memory(SIZE, 0), good]
    yield "can shrink", [good, memory(SIZE, GOOD & ~fcntl.F_SEAL_SHRINK)]
    yield "can grow", [memory(SIZE, GOOD & ~fcntl.F_SEAL_GROW), good]
    yield "seals can be added", [good, memory(SIZE, GOOD & ~fcntl.F_SEAL_SEAL)]
    yield "too small", [memory(SIZE - GRAIN_BYTES), good]
    yield "too large", [good, memory(2 * SIZE)]
    yield "empty", [memory(0), memory(0)]
    yield "answers that cannot be written", [good, memory(SIZE, GOOD | fcntl.F_SEAL_WRITE)]
    yield "a file", [file, good]
    yield "a pipe", [read, write]


def test_what_is_passed_as_slabs_and_is_none_is_not_taken(front, tmp_path, monkeypatch):
    """A memory that is made shorter later would kill the worker: it looks at seals and size."""
    monkeypatch.setattr(slab_handover, "FETCH_TIMEOUT_S", 0.2)
    passed = set()
    for name, descriptors in other_things(tmp_path):
        assert front.offer(OFFER, descriptors) == 0, name
        passed |= set(descriptors)
        assert still_serves(front), name
    assert front.offer(OFFER, None) == 0
    assert front.offer(OFFER, [*descriptors[:1], *descriptors[:1]], said=b"another thing") == 0
    assert still_serves(front)
    assert front.queue._slabs is None
    for descriptor in passed:
        os.close(descriptor)


def test_a_front_end_that_never_passes_anything_costs_a_moment(front, monkeypatch):
    monkeypatch.setattr(slab_handover, "FETCH_TIMEOUT_S", 0.05)
    front.connection.sendall(OFFER.build())
    fetching, _ = front.listener.accept()
    assert front.next()[:2] == (FrameKind.TAKEN, 0)
    fetching.close()
    assert still_serves(front)


def test_a_listener_that_is_gone_costs_nothing(front):
    front.listener.close()
    front.connection.sendall(OFFER.build())
    assert front.next()[:2] == (FrameKind.TAKEN, 0)
    assert still_serves(front)


@pytest.mark.parametrize(
    "offer",
    [
        OFFER._replace(generation=0),
        OFFER._replace(requests_bytes=0),
        OFFER._replace(answers_bytes=2**62),
        OFFER._replace(answers_bytes=SIZE - 1),
    ],
)
def test_an_offer_that_cannot_be_costs_the_connection(front, offer):
    front.connection.sendall(offer.build())
    assert front.comes_again()
    assert still_serves(front)


def test_slabs_are_offered_once(front, slabs):
    front.connection.sendall(OFFER._replace(generation=6).build())
    assert front.comes_again()
    assert front.queue._slabs is None


@pytest.mark.parametrize(
    "body",
    [
        Place(5, 0, 0).build(),
        Place(5, 0, SIZE + 1).build(),
        Place(5, SIZE, 1).build(),
        Place(5, SIZE - GRAIN_BYTES, GRAIN_BYTES + 1).build(),
        Place(5, 2**32 - GRAIN_BYTES, 2**32 - 1).build(),
        Place(5, 7, 1).build(),
        Place(4, 0, 1).build(),
        Place(6, 0, 1).build(),
        b"",
        bytes(17),
    ],
    ids=repr,
)
def test_a_message_that_lies_nowhere_costs_the_connection(front, slabs, body):
    front.say(FrameKind.REQUEST_AT, 3, body)
    assert front.comes_again()
    assert front.taken == []
    assert still_serves(front)


@pytest.mark.parametrize("kind", [FrameKind.REQUEST_AT, FrameKind.RELEASED])
def test_without_slabs_nothing_is_said_of_them(front, kind):
    front.say(kind, 3, Place(5, 0, 1).build())
    assert front.comes_again()


def test_places_that_overlap_do_not_fill_the_worker_s_memory(front, slabs):
    """29 bytes each on the wire, and each as large as the slab: a thousandfold without a bound."""
    pile = b"".join(
        numbered_frame(FrameKind.REQUEST_AT, n, Place(5, 0, SIZE).build()) for n in range(1, 1000)
    )
    front.connection.sendall(pile)
    assert front.comes_again()
    assert front.taken == []


def test_over_tcp_no_worker_takes_slabs():
    queue = SocketWorkerQueue(Address.parse("tcp:127.0.0.1:1"), lane=LANE)
    assert not queue._hello.slabs
    assert SocketWorkerQueue(Address.parse("somewhere"), lane=LANE)._hello.slabs


# The whole way, sealed, while somebody writes into the slabs all the time


class Vandal:
    """Flips bits of whatever lies in the slabs of a front end, from another thread."""

    def __init__(self, queue: SocketFrontQueue) -> None:
        self.queue = queue
        self.random = random.Random(5)
        self.flips = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.over.is_set():
            for peer in list(self.queue.peers.values()):
                if peer._slabs is not None and peer._slabs.in_use:
                    self.flip(peer._slabs._requests._map)

    def flip(self, mapped) -> None:
        at = self.random.randrange(512)
        try:
            mapped[at] ^= 1 << self.random.randrange(8)
        except ValueError:  # closed meanwhile
            return
        self.flips += 1


async def test_what_is_altered_in_a_slab_while_it_is_read_yields_no_wrong_answer(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(worker_queue, "REFUSED_GRACE_S", 0.05)
    path = Address.parse(str(tmp_path / "q"))
    queue = SocketFrontQueue(path, slabs=SlabDepot(from_bytes=1))
    dispatcher = Dispatcher(queue=queue, codecs={"digits": sender()}, lanes=LANES, max_waiting=999)
    requests = Collector(dispatcher)
    await queue.start()
    serving = Worker(
        model=ToyModel(),
        lane=LANE,
        max_batch=64,
        queue=SocketWorkerQueue(path, lane=LANE, slab_from_bytes=1),
        codec=receiver(),
    )
    thread = threading.Thread(target=serving.run, daemon=True)
    thread.start()
    vandal = Vandal(queue)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        vandal.thread.start()
        outcomes = {}
        value = 0
        while value < 150 or (value < 100_000 and "message.refused" not in caplog.text):
            value += 1
            while "digits" not in dispatcher.catalog() or not dispatcher.catalog()["digits"].ready:
                await asyncio.sleep(0.002)
            requests.submit(value, image(value), deadline_s=1.0)
            if value % 5 == 0:
                outcomes = await requests.all_done()
        outcomes = await requests.all_done()
    finally:
        sys.setswitchinterval(before)
        vandal.over.set()
        vandal.thread.join()
    assert queue.slabs.counts.carried
    assert vandal.flips
    assert "message.refused" in caplog.text
    for value, outcome in outcomes.items():
        assert outcome.error is not None or is_answer(outcome, value)
    assert requests.errors() <= {Timeout, JobFailed}
    serving.stop()
    await queue.close()
    dispatcher.close()
    await asyncio.to_thread(thread.join, 10)
