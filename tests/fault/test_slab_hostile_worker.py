"""Slabs and a peer that lies: it costs itself its connection, and nobody else anything (T10)."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
import uvloop
from simulators.slab_peers import LARGE, Front, RawWorker, open_descriptors, pass_descriptors

from wardian.errors import PeerProtocolError
from wardian.serving.queue.blocks import GRAIN_BYTES
from wardian.serving.queue.frames import FrameKind, frame, numbered_frame
from wardian.serving.queue.slab import Place, parse_place
from wardian.serving.queue.slab_front import PeerSlabs
from wardian.serving.queue.slab_handover import fetch_slabs

SIZE = 256 * GRAIN_BYTES


@pytest.fixture
async def front(tmp_path):
    front = Front(str(tmp_path / "q"), size_bytes=SIZE, budget_bytes=8 * SIZE)
    before = open_descriptors()
    await front.queue.start()
    front.path = str(tmp_path / "q")
    yield front
    await front.close()
    assert front.queue.slabs.used_bytes() == 0
    assert front.queue.slabs._left_bytes == 8 * SIZE
    while open_descriptors() > before:
        await asyncio.sleep(0.001)


@pytest.fixture
async def worker(front):
    """Return a worker that has slabs, holds message 2 in one of them, and whose place it knows."""
    worker = await front.admitted(RawWorker(front.path))
    front.send()
    worker.offer, worker.requests, worker.answers = await worker.with_slabs()
    await front.answer(worker, 1)
    front.send()
    while (got := await worker.next())[0] != FrameKind.REQUEST_AT:
        pass
    worker.place = parse_place(got[2])
    assert worker.requests.read(worker.place) == LARGE
    yield worker
    await worker.close()
    worker.requests.close()
    worker.answers.close()


async def test_a_message_and_its_answer_travel_in_slabs(front, worker):
    assert front.queue.slabs.used_bytes() >= len(LARGE)
    worker.answers.write(GRAIN_BYTES, b"sealed")
    place = Place(worker.offer.generation, GRAIN_BYTES, 6)
    worker.say(FrameKind.ANSWER_AT, 2, place.build())
    await front.sink.until(lambda: len(front.sink.answers) == 2)
    assert front.sink.answers[-1] == (2, b"sealed")
    assert await worker.next() == (FrameKind.RELEASED, 2, b"")
    assert front.queue.slabs.used_bytes() == 0


@pytest.mark.parametrize(
    "body",
    [
        Place(1, 0, 0).build(),
        Place(1, 0, SIZE + 1).build(),
        Place(1, SIZE, 1).build(),
        Place(1, SIZE - GRAIN_BYTES, GRAIN_BYTES + 1).build(),
        Place(1, 2**32 - 1, 2**32 - 1).build(),
        Place(1, 1, 1).build(),
        Place(0, 0, 1).build(),
        Place(2, 0, 1).build(),
        b"",
        bytes(15),
        bytes(70_000),
    ],
    ids=repr,
)
async def test_an_answer_that_lies_nowhere_costs_the_connection_and_not_another_s(
    front, worker, body
):
    other = await front.admitted(RawWorker(front.path), count=2)
    worker.say(FrameKind.ANSWER_AT, 2, body)
    assert await worker.dropped()
    await front.sink.until(lambda: front.sink.losses)
    assert front.sink.losses == [[2]]
    front.send(b"small")
    message = (await other.next())[1]
    await front.answer(other, message)
    await other.close()


async def test_an_answer_that_another_wrote_over_is_refused_and_the_true_one_counts(front, worker):
    """What lies at that place is not what was sealed; the message goes on waiting."""
    worker.answers.write(0, b"forged by the host")
    worker.say(FrameKind.ANSWER_AT, 2, Place(worker.offer.generation, 0, 18).build())
    worker.answers.write(GRAIN_BYTES, b"true")
    worker.say(FrameKind.ANSWER_AT, 2, Place(worker.offer.generation, GRAIN_BYTES, 4).build())
    await front.sink.until(lambda: len(front.sink.answers) == 2)
    assert front.sink.answers[-1] == (2, b"true")


async def test_a_flood_of_places_reads_nothing_and_ends_the_connection(front, worker, monkeypatch):
    """Each is 29 bytes on the wire and as much as the slab in copies: only for what is held."""
    reads = []
    monkeypatch.setattr(PeerSlabs, "read", lambda _, body: reads.append(body))
    place = Place(worker.offer.generation, 0, SIZE).build()
    worker.out.write(numbered_frame(FrameKind.ANSWER_AT, 99, place) * 1000)
    assert await worker.dropped()
    assert reads == []


async def test_a_flood_of_forged_answers_is_read_as_often_as_there_are_strikes(front, worker):
    worker.answers.write(0, b"forged")
    place = Place(worker.offer.generation, 0, SIZE).build()
    worker.out.write(numbered_frame(FrameKind.ANSWER_AT, 2, place) * 1000)
    assert await worker.dropped()
    assert front.queue.slabs.counts.carried <= 16 + 1


async def test_the_challenge_is_not_answered_in_a_slab(front, worker):
    front.queue.rechallenge()
    worker.answers.write(0, b"one of us")
    for _ in range(16):
        worker.say(FrameKind.ANSWER_AT, 0, Place(worker.offer.generation, 0, 9).build())
    assert await worker.dropped()
    assert len(front.sink.admitted) == 1


async def test_who_dies_frees_all(front, worker):
    assert front.queue.slabs.used_bytes()
    await worker.close()
    await front.sink.until(lambda: front.sink.losses)
    assert front.queue.slabs.used_bytes() == 0
    assert front.queue.slabs._left_bytes == 8 * SIZE


async def test_slabs_are_taken_once_and_after_they_were_fetched(front, worker):
    worker.say(FrameKind.TAKEN, worker.offer.generation)
    assert await worker.dropped()


@pytest.mark.parametrize("generation", [1, 7])
async def test_slabs_that_were_not_fetched_are_not_taken(front, generation):
    worker = await front.admitted(RawWorker(front.path))
    front.send()
    await worker.offered()
    worker.say(FrameKind.TAKEN, generation)
    assert await worker.dropped()
    await worker.close()


@pytest.mark.parametrize("kind", [FrameKind.TAKEN, FrameKind.ANSWER_AT, FrameKind.RELEASED])
async def test_before_slabs_are_offered_nothing_is_said_of_them(front, kind):
    worker = await front.admitted(RawWorker(front.path))
    worker.say(kind, 1, Place(1, 0, 1).build())
    assert await worker.dropped()
    await worker.close()


async def test_who_takes_no_slabs_gets_its_messages_by_the_socket(front):
    worker = await front.admitted(RawWorker(front.path))
    front.send()
    await worker.offered()
    worker.say(FrameKind.TAKEN, 0)
    while (await worker.next())[:2] != (FrameKind.REQUEST, 1):
        pass
    front.send()
    assert await worker.next() == (FrameKind.REQUEST, 2, LARGE)
    assert front.queue.slabs.counts.by_socket == 2
    assert front.queue.slabs._left_bytes == 8 * SIZE
    await worker.close()


async def test_an_offer_is_fetched_once_and_by_its_token_alone(front):
    worker = await front.admitted(RawWorker(front.path))
    front.send()
    offer = await worker.offered()
    path = Path(front.path)
    with pytest.raises(PeerProtocolError):
        await asyncio.to_thread(fetch_slabs, path, offer._replace(token=bytes(32)))
    for slab in await asyncio.to_thread(fetch_slabs, path, offer):
        slab.close()
    with pytest.raises(PeerProtocolError):
        await asyncio.to_thread(fetch_slabs, path, offer)
    await worker.close()


async def test_an_offer_is_over_when_its_peer_is(front):
    worker = await front.admitted(RawWorker(front.path))
    front.send()
    offer = await worker.offered()
    await worker.close()
    await front.sink.until(lambda: front.sink.losses)
    with pytest.raises(PeerProtocolError):
        await asyncio.to_thread(fetch_slabs, Path(front.path), offer)


async def test_a_stranger_is_offered_nothing(front):
    """Slabs are for who was admitted; without a token there is nothing to fetch."""
    reader, writer = await asyncio.open_unix_connection(front.path)
    for token in (b"", bytes(32), bytes(60_000)):
        writer.write(frame(FrameKind.FETCH, token))
    assert await reader.read() == b""
    writer.close()
    assert not front.sink.admitted


async def test_the_slab_is_full_or_too_small_and_nothing_is_lost(front):
    worker = await front.admitted(RawWorker(front.path), credit=20)
    front.send()
    _, requests, answers = await worker.with_slabs()
    await front.answer(worker, 1)
    sizes = [400_000, 400_000, 400_000, 70_000, SIZE + 1]
    for size in sizes:
        front.send(bytes([size % 251]) * size)
    kinds = []
    while len(kinds) < len(sizes):
        kind, number, body = await worker.next()
        if kind not in (FrameKind.REQUEST, FrameKind.REQUEST_AT) or number < 2:
            continue
        kinds.append(kind)
        got = requests.read(parse_place(body)) if kind == FrameKind.REQUEST_AT else body
        assert got == bytes([sizes[number - 2] % 251]) * sizes[number - 2]
    by_slab, by_socket = FrameKind.REQUEST_AT, FrameKind.REQUEST
    assert kinds == [by_slab, by_slab, by_socket, by_slab, by_socket]
    assert front.queue.slabs.counts.by_socket == 3
    await worker.close()
    requests.close()
    answers.close()


async def test_beyond_the_budget_there_are_no_slabs_until_one_is_free(tmp_path):
    front = Front(str(tmp_path / "q"), size_bytes=SIZE, budget_bytes=2 * SIZE)
    await front.queue.start()
    first = await front.admitted(RawWorker(str(tmp_path / "q")), credit=1)
    front.send()
    await first.offered()
    second = await front.admitted(RawWorker(str(tmp_path / "q")), count=2)
    front.send()
    assert await second.next() == (FrameKind.REQUEST, 2, LARGE)
    await first.close()
    await front.sink.until(lambda: front.sink.losses)
    front.send()
    await second.offered()
    await second.close()
    await front.close()


async def test_over_tcp_nothing_is_offered_or_fetched(tmp_path):
    """Under Gramine shared memory is the host's, and Unix sockets do not leave the instance."""
    front = Front("tcp:127.0.0.1:0")
    await front.queue.start()
    worker = await front.admitted(RawWorker(str(front.queue.address)))
    front.send()
    assert await worker.next() == (FrameKind.REQUEST, 1, LARGE)
    assert front.queue.slabs.counts.by_socket == 1
    reader, writer = await asyncio.open_connection("127.0.0.1", front.queue.address.port)
    writer.write(frame(FrameKind.FETCH, bytes(32)))
    assert await reader.read() == b""
    writer.close()
    await worker.close()
    await front.close()


async def test_a_system_without_such_memory_uses_the_socket(front, monkeypatch):
    def refuse(*_: object) -> int:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    worker = await front.admitted(RawWorker(front.path))
    front.send()
    assert await worker.next() == (FrameKind.REQUEST, 1, LARGE)
    await worker.close()
    front.queue.slabs._left_bytes = 8 * SIZE  # what the fixture looks at


async def descriptors_sent_unasked(path: str) -> None:
    front = Front(path)
    await front.queue.start()
    worker = await front.admitted(RawWorker(path))
    before = open_descriptors()
    null = os.open("/dev/null", os.O_RDONLY)
    with socket.socket(fileno=os.dup(worker.out.get_extra_info("socket").fileno())) as sock:
        for _ in range(20):
            pass_descriptors(sock, numbered_frame(FrameKind.CREDIT, 4), [null] * 200)
    os.close(null)
    front.send(b"small")
    await front.answer(worker, (await worker.next())[1])
    assert open_descriptors() == before
    await worker.close()
    await front.close()


async def a_large_message_is_offered_and_carried(path: str) -> None:
    front = Front(path)
    await front.queue.start()
    worker = await front.admitted(RawWorker(path))
    front.send()
    _, requests, answers = await worker.with_slabs()
    await front.answer(worker, 1)
    front.send()
    while (got := await worker.next())[0] != FrameKind.REQUEST_AT:
        pass
    assert requests.read(parse_place(got[2])) == LARGE
    await worker.close()
    await front.close()
    requests.close()
    answers.close()


@pytest.mark.parametrize(
    "scenario", [descriptors_sent_unasked, a_large_message_is_offered_and_carried]
)
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_on_both_loops(tmp_path, run, scenario):
    """The kernel closes descriptors that a front end does not ask for."""
    run(scenario(str(tmp_path / "q")))
