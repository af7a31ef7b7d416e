"""Requests that name no version, over the versions of a model; and a roll-back that loses none."""

import asyncio
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from simulators.data_plane import (
    KEY,
    Collector,
    MemoryQueue,
    Pipe,
    ToyModel,
    image,
    is_answer,
    sender,
)

from wardian._internal import clock
from wardian._internal.metrics import Metrics
from wardian.errors import RequestError
from wardian.inference.spec import FREE, Tensors, TensorSpec
from wardian.serving import catalog as catalog_module
from wardian.serving.api.routes import Api
from wardian.serving.dispatch import Dispatcher
from wardian.serving.http.messages import HttpRequest, HttpResponse
from wardian.serving.queue.lease import Lane

ONE, TWO, THREE = (Lane("digits", version) for version in (1, 2, 3))
LANES = frozenset({ONE, TWO, THREE})


class Plane:
    """A front end that divides as told, and workers of any version."""

    def __init__(self, traffic=None) -> None:
        self.queue = MemoryQueue()
        self.dispatcher = Dispatcher(
            queue=self.queue,
            codecs={"digits": sender(key=KEY)},
            lanes=LANES,
            max_waiting=5000,
            traffic=traffic and {"digits": traffic},
        )
        self.requests = Collector(self.dispatcher)

    async def worker(self, lane: Lane, model=None, credit: int = 2) -> Pipe:
        pipe = Pipe(self.queue.connect(lane, credit), model)
        await pipe.step()
        return pipe

    async def versions(self, count: int, *pipes: Pipe) -> list[int]:
        """Return which version answered each of `count` requests, sent one after the other."""
        tasks = [asyncio.ensure_future(pipe.serve()) for pipe in pipes]
        first = self.requests.expected
        for number in range(first, first + count):
            self.requests.submit(number, image(number % 7))
        outcomes = await self.requests.all_done()
        for task in tasks:
            task.cancel()
        assert all(is_answer(outcomes[n], n % 7) for n in range(first, first + count))
        return [outcomes[number].version for number in range(first, first + count)]


@pytest.fixture
async def make():
    planes: list[Plane] = []

    def made(traffic=None) -> Plane:
        planes.append(Plane(traffic))
        return planes[-1]

    yield made
    for plane in planes:
        plane.dispatcher.close()


async def test_without_weights_the_newest_that_has_a_worker_answers(make) -> None:
    plane = make()
    one, two = await plane.worker(ONE), await plane.worker(TWO)
    assert await plane.versions(5, one, two) == [2] * 5
    two.end.vanish()
    assert await plane.versions(5, one) == [1] * 5


async def test_weights_are_kept_exactly_and_evenly(make) -> None:
    plane = make({1: 9, 2: 1})
    pipes = await plane.worker(ONE), await plane.worker(TWO)
    answered = await plane.versions(100, *pipes)
    assert [answered[at : at + 10].count(2) for at in range(0, 100, 10)] == [1] * 10


async def test_a_version_that_is_named_answers_whatever_the_weights_are(make) -> None:
    plane = make({1: 100})
    one, two = await plane.worker(ONE), await plane.worker(TWO)
    plane.requests.submit("named", image(3), version=2)
    with one.serving(), two.serving():
        outcomes = await plane.requests.all_done()
    assert outcomes["named"].version == 2
    assert await plane.versions(3, one, two) == [1] * 3  # no weight: nothing comes unasked


async def test_the_share_of_a_version_without_a_worker_goes_to_the_others(make) -> None:
    plane = make({1: 1, 2: 1, 3: 2})
    one, two = await plane.worker(ONE), await plane.worker(TWO)
    assert sorted(await plane.versions(10, one, two)) == [1] * 5 + [2] * 5
    three = await plane.worker(THREE)
    assert (await plane.versions(8, one, two, three)).count(3) == 4


async def test_a_version_of_weight_0_takes_nothing_even_where_there_is_no_other(make) -> None:
    plane = make({1: 1, 2: 0})
    await plane.worker(TWO)
    with pytest.raises(RequestError, match="no worker serves") as refused:
        plane.requests.submit("never", image(1))
    assert refused.value.status == 503
    info = plane.dispatcher.catalog()["digits"]
    assert (info.ready, info.serves(None), info.serves(2)) == (False, False, True)
    assert info.inputs == ToyModel.inputs
    await plane.worker(ONE)
    assert plane.dispatcher.catalog()["digits"].ready


async def test_weights_for_versions_that_the_manifest_has_not_are_no_weights(make, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger=catalog_module.__name__):
        plane = make({8: 1, 9: 1})
    assert sum("traffic.unknown" in each.getMessage() for each in caplog.records) == 2
    one = await plane.worker(ONE)
    assert await plane.versions(3, one) == [1] * 3


ASKED = json.dumps(
    {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
).encode()


async def test_each_dialect_names_the_version_that_answered(make) -> None:
    plane = make({1: 1, 2: 1})
    one, two = await plane.worker(ONE), await plane.worker(TWO)
    api = Api(
        dispatcher=plane.dispatcher,
        desk=SimpleNamespace(),  # type: ignore[arg-type]  nobody asks for evidence
        metrics=Metrics(),
        deadline_s=10,
        serves=lambda _: True,
    )
    answers: list[HttpResponse] = []
    for path, body in (
        ("/v2/models/digits/infer", ASKED),
        ("/v2/models/digits/infer", ASKED),
        ("/v2/models/digits/versions/1/infer", ASKED),
        ("/v1/models/digits:predict", b'{"instances": [[1, 2, 3, 4]]}'),
        ("/v1/models/digits:predict", b'{"instances": [[1, 2, 3, 4]]}'),
    ):
        request = HttpRequest(b"POST", path.encode(), {}, body, b"spki", 7, "192.0.2.1")
        api.handle(request, answers.append)
        with one.serving(), two.serving():
            for _ in range(20):
                await asyncio.sleep(0)
    assert [each.status for each in answers] == [200] * 5
    said = [json.loads(each.body[0])["model_version"] for each in answers[:3]]
    assert said == ["2", "1", "1"]
    assert [each.headers for each in answers[3:]] == [
        b"Wardian-Model-Version: 2\r\n",
        b"Wardian-Model-Version: 1\r\n",
    ]


class Wider(ToyModel):
    """Takes rows of 5: a client that names no version cannot know that."""

    inputs = (TensorSpec(name="image", dtype="FP32", shape=(FREE, 5)),)

    def infer(self, inputs: Tensors) -> Tensors:
        self.batches.append(len(inputs["image"]))
        return {"doubles": inputs["image"][:, :4] * 2, "sum": inputs["image"].sum(axis=1)}


async def test_a_version_of_other_tensors_gets_no_share(make, caplog) -> None:
    plane = make({1: 9, 2: 1})
    one, two = await plane.worker(ONE), await plane.worker(TWO, Wider())
    assert await plane.versions(20, one, two) == [1] * 20
    assert any("traffic.other-tensors" in each.getMessage() for each in caplog.records)
    info = plane.dispatcher.catalog()["digits"]
    assert info.inputs == ToyModel.inputs  # and not those of the newest
    assert info.ready_versions == (1, 2)


async def test_what_waits_unnamed_moves_when_the_last_worker_leaves(make) -> None:
    plane = make({1: 1, 2: 99})
    one, two = await plane.worker(ONE), await plane.worker(TWO, credit=1)
    for number in range(200):
        plane.requests.submit(number, image(number % 5))
        await asyncio.sleep(0)
    plane.requests.submit("named", image(2), version=2, deadline_s=0.05)
    two.end.vanish()  # killed with one message in its hands, and most requests behind it
    with one.serving():
        outcomes = await plane.requests.all_done()
    assert outcomes.pop("named").error is not None  # its client wants version 2 and no other
    assert all(is_answer(outcomes[number], number % 5) for number in range(200))
    assert {outcomes[number].version for number in range(200)} == {1}
    assert plane.dispatcher.open_requests == 0


async def test_what_waits_for_a_version_of_other_tensors_stays(make) -> None:
    plane = make()
    two = await plane.worker(TWO, credit=1)
    for _ in range(2):
        plane.requests.submit(object(), image(1))
        await asyncio.sleep(0)
    two.end.vanish()
    await plane.worker(ONE, Wider())
    plane.requests.submit("of version 1", {"image": np.ones((1, 5), np.float32)})
    again = await plane.worker(TWO)
    assert not plane.requests.outcomes
    with again.serving():
        while len(plane.requests.outcomes) < 2:
            await asyncio.sleep(0)
    assert [each.version for each in plane.requests.outcomes.values()] == [2, 2]


async def test_what_waits_while_nobody_serves_goes_to_whoever_comes_first(make) -> None:
    plane = make()
    two = await plane.worker(TWO)
    two.end.vanish()
    plane.requests.submit("early", image(4))  # within the grace for a restart of version 2
    one = await plane.worker(ONE)
    with one.serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["early"], 4)
    assert outcomes["early"].version == 1


async def test_within_the_grace_requests_wait_for_whoever_left_last(make, monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    plane = make({1: 1, 2: 1})
    one, two = await plane.worker(ONE), await plane.worker(TWO)
    two.end.vanish()
    now[0] += catalog_module.ABSENCE_GRACE_S
    one.end.vanish()
    now[0] += 1
    for number in range(4):  # none of them is refused because version 2 is gone for good
        plane.requests.submit(number, image(number))
    again = await plane.worker(TWO)
    with again.serving():
        outcomes = await plane.requests.all_done()
    assert [outcomes[number].version for number in range(4)] == [2] * 4


async def keep_asking(plane: Plane, stop: asyncio.Event) -> int:
    number = 0
    while not stop.is_set():
        for _ in range(20):
            plane.requests.submit(number, image(number % 9))
            number += 1
        await asyncio.sleep(0)
    return number


async def until(plane: Plane, count: int) -> None:
    while len(plane.requests.outcomes) < count:
        await asyncio.sleep(0)


@pytest.mark.parametrize("weights", [None, {1: 1, 2: 99}])
async def test_a_roll_back_under_load_loses_nothing(make, weights) -> None:
    """All goes to version 2 (or nearly all); its workers stop one by one; all goes to version 1."""
    plane = make(weights)
    pipes = [await plane.worker(lane) for lane in (ONE, TWO, TWO)]
    tasks = [asyncio.ensure_future(pipe.serve()) for pipe in pipes]
    stop = asyncio.Event()
    asking = asyncio.ensure_future(keep_asking(plane, stop))
    await until(plane, 400)
    before = set(plane.requests.outcomes)
    pipes[1].end.stop()  # SIGTERM: it answers what it holds
    await until(plane, 800)
    pipes[2].end.vanish()  # SIGKILL: what it held comes back
    tasks[2].cancel()
    gone = len(plane.requests.outcomes)
    await until(plane, gone + 2000)
    stop.set()
    asked = await asking
    outcomes = await plane.requests.all_done()
    for task in tasks:
        task.cancel()
    assert len(outcomes) == asked
    assert all(is_answer(outcomes[number], number % 9) for number in range(asked))
    assert sum(outcomes[number].version == 2 for number in before) >= 0.9 * len(before)
    late = sorted(outcomes)[-200:]
    assert {outcomes[number].version for number in late} == {1}
    counts = plane.dispatcher.counters
    assert (counts.failed, counts.timed_out) == (0, 0)
    assert sum(counts.of(lane).outcomes["answered"] for lane in (ONE, TWO)) == asked


async def test_a_front_end_with_other_weights_takes_over_from_one_that_drains(make) -> None:
    """How the operator changes weights: a front end with the new ones first, then the old stops."""
    old, new = make({2: 100}), make({1: 100})
    tasks = []
    for plane in (old, new):
        pipes = [await plane.worker(lane) for lane in (ONE, TWO)]
        tasks += [asyncio.ensure_future(pipe.serve()) for pipe in pipes]
    stops = asyncio.Event(), asyncio.Event()
    asking = [
        asyncio.ensure_future(keep_asking(*each)) for each in zip((old, new), stops, strict=True)
    ]
    await until(old, 300)
    stops[0].set()  # its balancer sends it no more; what it accepted is answered
    asked = await asking[0]
    outcomes = await old.requests.all_done()
    assert len(outcomes) == asked
    assert {outcome.version for outcome in outcomes.values()} == {2}
    await until(new, 300)
    stops[1].set()
    assert await asking[1] == len(await new.requests.all_done())
    assert {outcome.version for outcome in new.requests.outcomes.values()} == {1}
    for task in tasks:
        task.cancel()


async def test_weights_change_under_load_and_nothing_is_lost(make) -> None:
    plane = make({1: 1})
    pipes = await plane.worker(ONE), await plane.worker(TWO)
    tasks = [asyncio.ensure_future(pipe.serve()) for pipe in pipes]
    expected: list[int] = []
    for taker in (1, 2, 1, 2):
        plane.dispatcher.divide({"digits": {taker: 1}})
        for _ in range(200):  # those of before still wait, or are with a worker
            plane.requests.submit(len(expected), image(len(expected) % 7))
            expected.append(taker)
        await asyncio.sleep(0)
    outcomes = await plane.requests.all_done()
    for task in tasks:
        task.cancel()
    assert all(is_answer(outcomes[n], n % 7) for n in range(len(expected)))
    assert [outcomes[n].version for n in range(len(expected))] == expected


async def test_no_weights_any_more_is_the_newest_again(make, caplog) -> None:
    plane = make({1: 1})
    pipes = await plane.worker(ONE), await plane.worker(TWO)
    assert await plane.versions(3, *pipes) == [1] * 3
    plane.dispatcher.divide({})
    assert await plane.versions(3, *pipes) == [2] * 3
    plane.dispatcher.divide({"digits": {9: 1}})
    assert await plane.versions(3, *pipes) == [2] * 3
    assert sum("traffic.unknown" in each.getMessage() for each in caplog.records) == 1


async def test_what_would_answer_is_told_without_a_turn_taken(make) -> None:
    """A record is made an input of the model before it is sent: that may not shift the weights."""
    plane = make({1: 1, 2: 1})
    with pytest.raises(RequestError) as caught:
        plane.dispatcher.description("digits", None)
    assert caught.value.status == 503
    pipes = await plane.worker(ONE), await plane.worker(TWO)
    found = await plane.versions(4, *pipes)
    for _ in range(3):
        assert plane.dispatcher.description("digits", None).version in {1, 2}
    assert await plane.versions(4, *pipes) == found
    assert plane.dispatcher.description("digits", 1).version == 1
    with pytest.raises(RequestError) as caught:
        plane.dispatcher.description("digits", 3)
    assert caught.value.status == 404
