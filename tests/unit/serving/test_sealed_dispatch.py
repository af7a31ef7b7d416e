"""The front end and requests that it cannot read: they travel as others do, and alone."""

import asyncio

import numpy as np
import pytest
from simulators.data_plane import (
    LANE,
    LANES,
    Collector,
    MemoryQueue,
    Pipe,
    image,
    is_answer,
    sender,
)
from test_sealed_worker import Opener, asked

from wardian.crypto.sealed_request import SentRequest
from wardian.errors import JobFailed, QueueFull, RequestError, RequestKeyOver, Timeout
from wardian.serving import dispatch
from wardian.serving.dispatch import Dispatcher, Outcome
from wardian.serving.queue.lease import Lane
from wardian.serving.sealed_content import decode_ended
from wardian.serving.sealed_pack import as_tensors, body_of
from wardian.serving.tensors import Kind, kind_of


class Plane:
    """A front end over a memory queue."""

    def __init__(self, **options) -> None:
        self.queue, self.plain = MemoryQueue(), []
        codec, plane = sender(), self

        class Seen:
            """Keeps what is sealed for the queue."""

            erase = codec.erase

            def seal_request(self, plaintext, *, header):
                plane.plain.append(bytes(plaintext))
                return codec.seal_request(plaintext, header=header)

        self.dispatcher = Dispatcher(
            queue=self.queue,
            codecs={"digits": Seen()},
            lanes=LANES,
            max_waiting=options.pop("max_waiting", 100),
            **options,
        )
        self.requests = Collector(self.dispatcher)

    async def worker(self, lane: Lane = LANE, credit: int = 8, **options) -> Pipe:
        pipe = Pipe(self.queue.connect(lane, credit), sealed=Opener(), **options)
        await pipe.step()
        self.plain.clear()
        return pipe

    def submit(self, name: object, body: bytes, **options) -> None:
        self.requests.submit(name, as_tensors(body), sealed=True, **options)

    def kinds(self) -> list[Kind]:
        return [kind_of(plaintext) for plaintext in self.plain]


@pytest.fixture
async def plane():
    plane = Plane()
    yield plane
    plane.dispatcher.close()


def answered(outcome: Outcome, request: SentRequest, value: float) -> bool:
    assert outcome.outputs is not None, outcome.error
    found = decode_ended(request.open_answer(body_of(outcome.outputs)))
    return bool(np.array_equal(found["sum"], [4 * value]))


async def test_each_travels_by_itself_and_others_as_before(plane: Plane) -> None:
    pipe = await plane.worker()
    sealed = {value: asked(image(value)) for value in (1, 2)}
    for value in (5, 6):
        plane.requests.submit(value, image(value))
    for value, request in sealed.items():
        plane.submit(value, request.body)
    plane.requests.submit(7, image(7))
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert sorted(plane.kinds()) == [Kind.INFER, Kind.INFER, Kind.SEALED, Kind.SEALED]
    assert all(answered(outcomes[value], request, value) for value, request in sealed.items())
    assert all(is_answer(outcomes[value], value) for value in (5, 6, 7))
    assert sorted(pipe.model.batches) == [1, 1, 1, 2]


async def test_where_strangers_share_batches_sealed_ones_share_no_message() -> None:
    plane = Plane(batch_across_tenants=frozenset({"digits"}))
    pipe = await plane.worker(batch_across_tenants=True)
    for value in (1, 2, 3):
        plane.submit(value, asked(image(value)).body, tenant=str(value))
        plane.requests.submit(-value, image(value), tenant=str(value))
    with pipe.serving():
        await plane.requests.all_done()
    assert plane.kinds().count(Kind.SEALED) == 3
    assert max(pipe.model.batches) > 1
    assert not plane.requests.errors()
    plane.dispatcher.close()


async def test_a_lost_worker_s_is_sent_again_and_the_second_time_given_up(plane: Plane) -> None:
    request = asked(image(1))
    first = await plane.worker(credit=1)
    plane.submit("one", request.body)
    await asyncio.sleep(0)
    first.end.vanish()
    second = await plane.worker(credit=1)
    with second.serving():
        outcomes = await plane.requests.all_done()
    assert answered(outcomes["one"], request, 1)
    plane.submit("two", request.body)
    for pipe in (second, await plane.worker(credit=1)):
        await asyncio.sleep(0)
        pipe.end.vanish()
        await asyncio.sleep(0)
    assert isinstance((await plane.requests.all_done())["two"].error, JobFailed)


async def test_it_waits_for_any_version_unless_the_client_named_one(plane: Plane) -> None:
    """The worker of the version that it waits for is gone; another one's can open it as well."""
    one = await plane.worker(credit=1)
    two = await plane.worker(Lane("digits", 2), credit=1)
    requests = [asked(image(value)) for value in (1, 2)]
    for name, version in ((0, None), (1, 1)):
        plane.submit(name, requests[name].body, version=version)
    one.end.vanish()
    with two.serving():
        while 0 not in plane.requests.outcomes:
            await asyncio.sleep(0.001)
    assert answered(plane.requests.outcomes[0], requests[0], 1)
    assert 1 not in plane.requests.outcomes


async def test_its_deadline_is_the_front_end_s(plane: Plane) -> None:
    await plane.worker()
    plane.submit("one", asked(image(1)).body, deadline_s=0.02)
    assert isinstance((await plane.requests.all_done())["one"].error, Timeout)


async def test_one_that_does_not_open_ends_as_a_typed_error(plane: Plane) -> None:
    pipe = await plane.worker()
    plane.submit("one", bytes(100))
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert isinstance(outcomes["one"].error, RequestKeyOver)


async def test_limits_hold_for_what_nobody_can_measure(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.worker()
    monkeypatch.setattr(dispatch, "MAX_REQUEST_BYTES", 1000)
    with pytest.raises(RequestError) as large:
        plane.submit("large", bytes(1001))
    assert large.value.status == 413
    with pytest.raises(RequestError) as unknown:
        plane.submit("unknown", bytes(10), model="nobody")
    assert unknown.value.status == 404
    full = Plane(max_waiting=0)
    await full.worker()
    with pytest.raises(QueueFull):
        full.submit("full", bytes(10))
    full.dispatcher.close()


async def test_an_answer_of_another_kind_is_no_answer(plane: Plane) -> None:
    """Of a worker of ours that is wrong: the request ends, and the front end goes on."""
    pipe = await plane.worker()
    plane.submit("one", asked(image(1)).body)
    original = type(pipe.worker)._read

    def unsealed(sealed: bytes):
        opened, _, pack = original(pipe.worker, sealed)
        return opened, Kind.INFER, pack

    pipe.worker._read = unsealed  # type: ignore[method-assign]
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert isinstance(outcomes["one"].error, JobFailed)
