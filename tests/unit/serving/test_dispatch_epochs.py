"""Epochs turn and manifests change while requests go on: who is sealed for whom, and what ends."""

import asyncio

import pytest
from simulators.data_plane import (
    LANE,
    LANES,
    Collector,
    MemoryQueue,
    Pipe,
    image,
    is_answer,
    receiver,
    sender,
)

from wardian.crypto.message_header import epoch_of
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, ConnectionLost, LocalProtocolError, RequestError
from wardian.serving.dispatch import Dispatcher
from wardian.serving.epochs import EpochCodec
from wardian.serving.queue.lease import Lane


class Held:
    """A front end's codec that tells whether its keys were erased."""

    def __init__(self, epoch: int) -> None:
        self.codec = sender(key=key(epoch), epoch=epoch)
        self.erased = False

    def seal_request(self, plaintext, *, header):
        return self.codec.seal_request(plaintext, header=header)

    def erase(self) -> None:
        self.erased = True
        self.codec.erase()


def key(epoch: int) -> Secret:
    return Secret(bytes([epoch]) * 32)


class Plane:
    """A front end over a memory queue, and the broker's epochs as numbers."""

    def __init__(self) -> None:
        self.queue = MemoryQueue()
        self.codecs = {1: Held(1)}
        self.dispatcher = Dispatcher(
            queue=self.queue, codecs={"digits": self.codecs[1]}, lanes=LANES, max_waiting=1000
        )
        self.requests = Collector(self.dispatcher)
        self.in_force = 1

    def turn(self, *, moved: bool = False, lanes: frozenset[Lane] = LANES) -> None:
        """Another epoch is in force, and this front end has its keys."""
        self.in_force += 1
        codec = self.codecs[self.in_force] = Held(self.in_force)
        self.dispatcher.use({"digits": codec}, lanes=lanes, moved=moved)

    async def worker(self, *, lane: Lane = LANE, credit: int = 2, renews: bool = True) -> Pipe:
        """A worker that gets the keys of later epochs when it asks, if it `renews`."""
        codec = EpochCodec(model="digits", keep_s=60, ask=lambda: renews and take_up())

        def take_up() -> None:
            if codec.epoch != self.in_force:
                codec.take_up(key(self.in_force), epoch=self.in_force, certificate_digest=b"w" * 32)

        take_up()
        pipe = Pipe(self.queue.connect(lane, credit), codec=codec)
        await pipe.step()
        return pipe

    def sealed_under(self) -> list[int]:
        return [epoch_of(each.sealed) for each in self.queue.sent]


@pytest.fixture
async def plane():
    plane = Plane()
    yield plane
    plane.dispatcher.close()


async def tick() -> None:
    await asyncio.sleep(0)


async def test_an_epoch_turns_and_nothing_is_lost(plane):
    """Of three requests one travels, one waits for room, and one comes later."""
    pipe = await plane.worker(credit=1)
    plane.requests.submit("travels", image(1))
    await tick()
    plane.requests.submit("waits", image(2))
    await tick()
    plane.turn()
    plane.requests.submit("later", image(3))
    await tick()
    assert plane.sealed_under() == [1]
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert [is_answer(outcomes[name], value) for name, value in
            (("travels", 1), ("waits", 2), ("later", 3))] == [True] * 3  # fmt: skip
    assert plane.sealed_under() == [1, 2]


async def test_t21_after_the_turn_nothing_is_sealed_under_the_keys_of_before(plane):
    """Not even for a worker that cannot open anything else: it has to prove itself first."""
    stale = await plane.worker(renews=False)
    plane.turn()
    plane.requests.submit("one", image(1))
    await tick()
    assert plane.queue.room(LANE) == 0
    await stale.step()  # the challenge of the new epoch does not open
    await tick()
    assert plane.queue.sent == []
    assert plane.dispatcher.open_requests == 1
    with (await plane.worker()).serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["one"], 1)
    assert plane.sealed_under() == [2]


async def test_keys_are_erased_with_the_last_answer_that_needs_them(plane):
    pipe = await plane.worker(credit=2)
    for name in ("one", "two"):
        plane.requests.submit(name, image(1))
        await tick()
    plane.turn()
    assert not plane.codecs[1].erased
    await pipe.step()
    assert len(await plane.requests.all_done()) == 2
    assert plane.codecs[1].erased
    assert not plane.codecs[2].erased


async def test_keys_that_no_answer_needs_are_erased_at_once(plane):
    plane.turn()
    assert plane.codecs[1].erased
    plane.turn()
    assert [plane.codecs[epoch].erased for epoch in (1, 2, 3)] == [True, True, False]


async def test_keys_are_erased_at_the_deadline_of_an_answer_that_never_comes(plane):
    await plane.worker()
    plane.requests.submit("one", image(1), deadline_s=0.02)
    await tick()
    plane.turn()
    assert not plane.codecs[1].erased
    await plane.requests.all_done()
    await tick()
    assert plane.codecs[1].erased


async def test_keys_are_erased_when_the_worker_that_held_their_messages_is_gone(plane):
    """What it held is sealed anew, under the keys in force."""
    pipe = await plane.worker()
    plane.requests.submit("one", image(1))
    await tick()
    plane.turn()
    pipe.end.vanish()
    assert plane.codecs[1].erased
    with (await plane.worker()).serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["one"], 1)
    assert plane.sealed_under() == [1, 2]


async def test_two_epochs_in_a_row(plane):
    pipe = await plane.worker(credit=1)
    plane.requests.submit("one", image(1))
    await tick()
    plane.turn()
    plane.turn()
    plane.requests.submit("two", image(2))
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["two"], 2)
    assert plane.sealed_under() == [1, 3]


async def test_what_is_known_to_be_over_is_not_used_until_the_new_keys_come(plane):
    pipe = await plane.worker()
    plane.dispatcher.hold()
    plane.requests.submit("one", image(1))
    await tick()
    assert plane.queue.sent == []
    plane.turn()
    with pipe.serving():
        await plane.requests.all_done()
    assert plane.sealed_under() == [2]


async def test_a_false_alarm(plane):
    pipe = await plane.worker()
    plane.dispatcher.hold()
    plane.requests.submit("one", image(1))
    await tick()
    plane.dispatcher.go_on()
    with pipe.serving():
        await plane.requests.all_done()
    assert plane.sealed_under() == [1]


# Another manifest


async def test_t2_what_waits_when_the_manifest_changes_is_not_sealed_for_the_new_one(plane):
    pipe = await plane.worker(credit=1)
    plane.requests.submit("travels", image(1))
    await tick()
    plane.requests.submit("waits", image(2))
    await tick()
    plane.turn(moved=True)
    assert plane.requests.outcomes["waits"].error.status == 421
    plane.requests.submit("later", image(3))
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["travels"], 1)
    assert is_answer(outcomes["later"], 3)
    assert plane.sealed_under() == [1, 2]


async def test_t2_what_comes_back_from_a_lost_worker_is_not_sealed_for_another_manifest(plane):
    pipe = await plane.worker()
    plane.requests.submit("one", image(1))
    await tick()
    plane.turn(moved=True)
    pipe.end.vanish()
    outcomes = await plane.requests.all_done()
    assert outcomes["one"].error.status == 421
    assert plane.sealed_under() == [1]


async def test_versions_that_left_the_manifest_are_not_admitted(plane):
    second = Lane("digits", 2)
    old, new = await plane.worker(), await plane.worker(lane=second)
    plane.turn(moved=True, lanes=frozenset({second}))
    assert not old.end.present
    with pytest.raises(RequestError, match="no version 1") as caught:
        plane.requests.submit("old", image(1), version=1)
    assert caught.value.status == 404
    with pytest.raises(RequestError, match="not served here"):
        await plane.worker()
    plane.dispatcher.room_opened(LANE)  # its workers may still say so
    plane.requests.submit("new", image(2))
    with new.serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["new"], 2)
    assert plane.dispatcher.catalog()["digits"].versions == (2,)


async def test_models_come_and_go_with_the_manifest(plane):
    await plane.worker()
    plane.dispatcher.use({}, lanes=frozenset(), moved=True)
    assert plane.dispatcher.catalog() == {}
    with pytest.raises(RequestError, match="no model named 'digits'"):
        plane.requests.submit("one", image(1))
    plane.in_force = 3
    plane.dispatcher.use({"digits": Held(3)}, lanes=frozenset({LANE}), moved=True)
    with (await plane.worker()).serving():
        plane.requests.submit("two", image(2))
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["two"], 2)


# The end


def gone() -> RequestError:
    return RequestError("not a part of the mesh any more", status=503)


async def test_a_front_end_that_leaves_answers_what_travels_and_seals_nothing(plane):
    pipe = await plane.worker(credit=1)
    plane.requests.submit("travels", image(1))
    await tick()
    plane.requests.submit("waits", image(2))
    plane.dispatcher.refuse(gone)
    with pytest.raises(RequestError) as caught:
        plane.requests.submit("comes", image(3))
    assert caught.value.status == 503
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["travels"], 1)
    assert outcomes["waits"].error.status == 503
    assert len(plane.queue.sent) == 1


async def test_what_comes_back_from_a_lost_worker_ends_when_the_front_end_leaves(plane):
    pipe = await plane.worker()
    plane.requests.submit("one", image(1))
    await tick()
    plane.dispatcher.refuse(gone)
    pipe.end.vanish()
    outcomes = await plane.requests.all_done()
    assert outcomes["one"].error.status == 503
    assert len(plane.queue.sent) == 1


async def test_erasing_ends_everything(plane):
    await plane.worker()
    plane.requests.submit("one", image(1))
    await tick()
    plane.turn()
    plane.requests.submit("two", image(1))
    plane.dispatcher.erase()
    assert plane.requests.errors() == {ConnectionLost}
    assert all(codec.erased for codec in plane.codecs.values())
    with pytest.raises(LocalProtocolError):
        plane.codecs[2].seal_request(b"x", header=None)


async def test_an_answer_under_erased_keys_does_not_open(plane):
    codec = Held(1)
    from wardian.crypto.message_header import RequestHeader

    header = RequestHeader(version=1, deadline_ms=1, request_ids=(1,))
    sealed, pending = codec.seal_request(b"x", header=header)
    answer = receiver(key=key(1)).open_request(sealed).answer(b"y")
    codec.erase()
    with pytest.raises(AuthenticationFailed, match="erased"):
        pending.open(answer)
