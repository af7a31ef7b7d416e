import asyncio

import numpy as np
import pytest
from simulators.data_plane import (
    LANE,
    LANES,
    Collector,
    MemoryQueue,
    Pipe,
    ToyModel,
    fails_on,
    image,
    is_answer,
    receiver,
    sender,
)

from wardian._internal import wire
from wardian.crypto.secret import Secret
from wardian.errors import (
    AuthenticationFailed,
    ConnectionLost,
    JobFailed,
    PeerProtocolError,
    QueueFull,
    RequestError,
    Timeout,
    WardianError,
)
from wardian.serving import departures, dispatch, open_requests, packing
from wardian.serving.catalog import Description
from wardian.serving.dispatch import Dispatcher, Outcome
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.seam import Delivered
from wardian.serving.tensors import Group, Kind, Pack, encode_body, encode_pack


class Plane:
    """A dispatcher over a memory queue, and workers that serve when told to."""

    def __init__(self, *, max_waiting: int = 1000, across: frozenset[str] = frozenset()) -> None:
        self.queue = MemoryQueue()
        self.dispatcher = Dispatcher(
            queue=self.queue,
            codecs={"digits": sender()},
            lanes=LANES,
            max_waiting=max_waiting,
            batch_across_tenants=across,
        )
        self.requests = Collector(self.dispatcher)

    async def worker(self, model=None, *, lane: Lane = LANE, credit: int = 2, **options) -> Pipe:
        pipe = Pipe(self.queue.connect(lane, credit), model, **options)
        await pipe.step()  # the challenge
        return pipe


@pytest.fixture
async def plane():
    plane = Plane()
    yield plane
    plane.dispatcher.close()


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(departures, "HELD_BACK_S", 600.0)


async def tick() -> None:
    await asyncio.sleep(0)


async def test_a_request_gets_its_answer(plane):
    pipe = await plane.worker()
    plane.requests.submit("one", image(3, rows=2))
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["one"], 3, rows=2)
    assert plane.dispatcher.open_requests == 0


async def test_one_tick_is_one_message(plane):
    pipe = await plane.worker()
    for number in range(10):
        plane.requests.submit(number, image(number))
    assert plane.queue.sent == []  # nothing happens within submit
    await tick()
    assert len(plane.queue.sent) == 1
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert all(is_answer(outcomes[number], number) for number in range(10))
    assert pipe.model.batches == [10]


async def test_requests_wait_for_room_and_packs_grow(plane):
    pipe = await plane.worker(credit=1)
    for number in range(100):
        plane.requests.submit(number, image(number))
        await tick()
    assert len(plane.queue.sent) == 1
    await pipe.step()
    assert len(plane.queue.sent) == 2
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert pipe.model.batches == [1, 64, 35]
    assert all(is_answer(outcomes[number], number) for number in range(100))


async def test_a_busy_worker_gets_more_once_that_is_as_much_as_it_has(plane, patient):
    pipe = await plane.worker(credit=3)
    for number in range(6):
        plane.requests.submit(number, image(number))
    await tick()
    assert len(plane.queue.sent) == 1  # it had nothing to do
    for number in range(6, 11):
        plane.requests.submit(number, image(number))
        await tick()
    assert len(plane.queue.sent) == 1
    plane.requests.submit(11, image(11))
    await tick()
    assert len(plane.queue.sent) == 2
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert pipe.model.batches == [6, 6]
    assert all(is_answer(outcomes[number], number) for number in range(12))


async def test_what_waits_for_more_is_sent_soon_all_the_same(plane):
    await plane.worker(credit=3)  # and never answers
    for number in range(6):
        plane.requests.submit(number, image(number))
    await tick()
    plane.requests.submit(6, image(6))
    while len(plane.queue.sent) < 2:
        await asyncio.sleep(0.001)
    plane.requests.submit(7, image(7))
    while len(plane.queue.sent) < 3:
        await asyncio.sleep(0.001)


async def test_what_waits_goes_to_a_worker_that_has_nothing_to_do_however_little_it_is(
    plane, patient
):
    pipe = await plane.worker()
    for number in range(6):
        plane.requests.submit(number, image(number))
    await tick()
    plane.requests.submit(6, image(6))
    await tick()
    assert len(plane.queue.sent) == 1
    await pipe.step()  # it answers
    assert len(plane.queue.sent) == 2
    plane.requests.submit(7, image(7))  # as large as the one under way
    await tick()
    plane.requests.submit(8, image(8))
    await tick()
    assert len(plane.queue.sent) == 3
    other = await plane.worker()  # comes and has nothing to do
    assert len(plane.queue.sent) == 4
    with pipe.serving(), other.serving():
        outcomes = await plane.requests.all_done()
    assert all(is_answer(outcomes[number], number) for number in range(9))


async def test_what_waits_behind_a_message_that_nobody_waits_for_is_not_held_back(plane, patient):
    await plane.worker()
    for number in range(4):
        plane.requests.submit(number, image(number), deadline_s=0.02)
    await tick()
    plane.requests.submit("later", image(5), deadline_s=5)
    await tick()
    assert len(plane.queue.sent) == 1
    while len(plane.requests.outcomes) < 4:
        await asyncio.sleep(0.005)
    await tick()
    assert len(plane.queue.sent) == 2  # the worker has credit, and may be alive


async def test_strangers_messages_wait_for_each_other_like_requests_of_one_message(plane, patient):
    pipe = await plane.worker(credit=32)
    for number in range(6):
        plane.requests.submit(number, image(number), tenant=str(number))
    await tick()
    assert len(plane.queue.sent) == 6
    for number in range(6, 11):
        plane.requests.submit(number, image(number), tenant=str(number))
        await tick()
    assert len(plane.queue.sent) == 6
    plane.requests.submit(11, image(11), tenant="11")
    await tick()
    assert len(plane.queue.sent) == 12
    with pipe.serving():
        await plane.requests.all_done()


async def test_of_several_busy_workers_each_counts(plane, patient):
    pipes = [await plane.worker() for _ in range(3)]
    for number in range(6):
        plane.requests.submit(number, image(number))
    await tick()
    assert len(plane.queue.sent) == 3  # two requests each
    plane.requests.submit(6, image(6))
    await tick()
    assert len(plane.queue.sent) == 3
    plane.requests.submit(7, image(7))
    await tick()
    assert len(plane.queue.sent) > 3
    with pipes[0].serving(), pipes[1].serving(), pipes[2].serving():
        await plane.requests.all_done()


async def test_strangers_messages_travel_side_by_side_where_a_worker_takes_many(plane):
    pipe = await plane.worker(credit=32)
    for number in range(20):
        plane.requests.submit(number, image(number), tenant=str(number))
    await tick()
    assert len(plane.queue.sent) == 20
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert pipe.model.batches == [1] * 20
    assert all(is_answer(outcomes[number], number) for number in range(20))


async def test_of_large_messages_a_worker_holds_two_whatever_its_credit(plane, monkeypatch):
    monkeypatch.setattr(departures, "LARGE_BYTES", 1000)
    pipe = await plane.worker(credit=32)
    for number in range(20):
        plane.requests.submit(number, image(number, rows=100), tenant=str(number))
    await tick()
    assert len(plane.queue.sent) == 2
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert all(is_answer(outcomes[number], number, rows=100) for number in range(20))
    assert all(lane.aloft_bytes == 0 for lane in plane.dispatcher._lanes.values())


async def test_a_pack_is_no_larger_than_a_batch(plane):
    pipe = await plane.worker(max_batch=4)
    for number in range(10):
        plane.requests.submit(number, image(number))
    with pipe.serving():
        await plane.requests.all_done()
    assert max(pipe.model.batches) <= 4


async def test_idle_workers_share_what_waits(plane):
    pipes = [await plane.worker(), await plane.worker()]
    for number in range(10):
        plane.requests.submit(number, image(number))
    await tick()
    for pipe in pipes:
        await pipe.step()
    assert [pipe.model.batches for pipe in pipes] == [[5], [5]]
    assert len(await plane.requests.all_done()) == 10


async def test_a_pack_stays_within_its_bytes(plane, monkeypatch):
    monkeypatch.setattr(packing, "PACK_BYTES", 40)
    pipe = await plane.worker()
    plane.requests.submit("large", image(1, rows=50))
    for number in range(3):
        plane.requests.submit(number, image(number))
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["large"], 1, rows=50)
    assert plane.dispatcher.counters.packs == 3


async def test_inputs_larger_than_the_queue_carries_are_refused(plane, monkeypatch):
    monkeypatch.setattr(dispatch, "MAX_REQUEST_BYTES", 31)
    await plane.worker()
    plane.requests.submit("small", image(1))
    with pytest.raises(RequestError, match="31 bytes") as refusal:
        plane.requests.submit("large", image(1, rows=2))
    assert refusal.value.status == 413


async def test_tenants_share_no_message(plane):
    pipe = await plane.worker(credit=10)
    for number in range(4):
        plane.requests.submit(number, image(number), tenant="ab"[number % 2])
    await tick()
    assert len(plane.queue.sent) == 2
    with pipe.serving():
        await plane.requests.all_done()
    assert pipe.model.batches == [2, 2]


async def test_tenants_share_a_batch_where_the_owner_allows_it():
    plane = Plane(across=frozenset({"digits"}))
    pipe = await plane.worker(credit=10, batch_across_tenants=True)
    for number in range(4):
        plane.requests.submit(number, image(number), tenant="ab"[number % 2])
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert len(plane.queue.sent) == 1
    assert pipe.model.batches == [4]
    assert all(is_answer(outcomes[number], number) for number in range(4))


async def test_what_one_model_allows_another_does_not():
    plane = Plane(across=frozenset({"faces"}))
    await plane.worker(credit=10)
    for number in range(2):
        plane.requests.submit(number, image(number), tenant=str(number))
    await tick()
    assert len(plane.queue.sent) == 2
    plane.dispatcher.close()


async def test_outputs_that_were_not_asked_for_stay_behind(plane):
    pipe = await plane.worker()
    plane.requests.submit("one", image(1), outputs=("sum",))
    plane.requests.submit("two", image(2), outputs=("doubles", "sum"))
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert list(outcomes["one"].outputs) == ["sum"]
    assert list(outcomes["two"].outputs) == ["doubles", "sum"]
    with pytest.raises(RequestError, match="doubles, sum"):
        plane.requests.submit("three", image(1), outputs=("product",))


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "'image' FP32"),
        ({"picture": np.zeros((1, 4), np.float32)}, "input image is missing"),
        (image(1) | {"more": np.zeros(1)}, "not the model's"),
        ({"image": np.zeros((1, 5), np.float32)}, r"got FP32 \[1, 5\]"),
        ({"image": np.zeros((1, 4), np.float64)}, "got FP64"),
        ({"image": np.zeros((1, 4), ">f4")}, "got >f4"),
        ({"image": np.zeros(4, np.float32)}, r"got FP32 \[4\]"),
        ({"image": np.zeros((), np.float32)}, "expected"),
        ({"image": np.zeros((0, 4), np.float32)}, "at least one row"),
    ],
)
async def test_inputs_that_do_not_fit_are_refused_at_once(plane, inputs, says):
    await plane.worker()
    with pytest.raises(RequestError, match=says) as refusal:
        plane.requests.submit("bad", inputs)
    assert refusal.value.status == 400
    assert plane.dispatcher.open_requests == 0


async def test_models_and_versions_that_are_not_there(plane):
    with pytest.raises(RequestError, match="there is: digits") as refusal:
        plane.requests.submit("one", image(1), model="faces")
    assert refusal.value.status == 404
    with pytest.raises(RequestError, match="yet") as refusal:
        plane.requests.submit("one", image(1))
    assert refusal.value.status == 503
    await plane.worker()
    with pytest.raises(RequestError, match="it has: 1") as refusal:
        plane.requests.submit("one", image(1), version=9)
    assert refusal.value.status == 404


async def test_the_newest_version_that_has_a_worker_serves(plane):
    old = await plane.worker()
    new = await plane.worker(lane=Lane("digits", 2))
    info = plane.dispatcher.catalog()["digits"]
    assert (info.versions, info.ready, info.inputs) == ((1, 2), True, ToyModel.inputs)
    plane.requests.submit("any", image(1))
    plane.requests.submit("old", image(2), version=1)
    with old.serving(), new.serving():
        await plane.requests.all_done()
    assert (old.model.batches, new.model.batches) == ([1], [1])
    new.end.vanish()
    plane.requests.submit("fallback", image(3))
    with old.serving():
        await plane.requests.all_done()
    assert old.model.batches == [1, 1]


async def test_too_many_open_requests_are_refused():
    plane = Plane(max_waiting=2)
    pipe = await plane.worker()
    plane.requests.submit("one", image(1))
    plane.requests.submit("two", image(2))
    with pytest.raises(QueueFull) as refusal:
        plane.requests.submit("three", image(3))
    assert refusal.value.retry_after_s > 0
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert set(outcomes) == {"one", "two"}
    plane.requests.submit("four", image(4))
    plane.dispatcher.close()
    assert plane.requests.errors() == {ConnectionLost}


async def test_a_deadline_that_passes_is_a_timeout_and_the_late_answer_is_dropped(plane):
    pipe = await plane.worker(credit=1)
    plane.requests.submit("sent", image(1), deadline_s=0.01)
    await tick()
    plane.requests.submit("unsent", image(2), deadline_s=0.01)
    outcomes = await plane.requests.all_done()
    assert plane.requests.errors() == {Timeout}
    assert plane.dispatcher.counters.timed_out == 2
    await pipe.step()  # answers what nobody waits for
    plane.requests.submit("next", image(3))
    with pipe.serving():
        await plane.requests.all_done()
    assert is_answer(outcomes["next"], 3)
    assert len(plane.queue.sent) == 2  # "unsent" never travelled


async def test_deadlines_end_requests_in_their_own_order(plane):
    await plane.worker(credit=1)
    order = []
    for name, deadline_s in (("late", 0.06), ("soon", 0.01), ("middle", 0.03)):
        plane.dispatcher.submit(
            model="digits", version=None, inputs=image(1), outputs=None, deadline_s=deadline_s,
            done=lambda outcome, name=name: order.append((name, type(outcome.error))),
        )  # fmt: skip
    while len(order) < 3:
        await asyncio.sleep(0.01)
    assert order == [("soon", Timeout), ("middle", Timeout), ("late", Timeout)]


async def test_deadlines_of_many_that_wait_are_not_gone_through_again_and_again(plane):
    """Red team: 4000 requests with deadlines of their own cost a second of the front end's time."""
    looked_at = 0

    class Watched(dict):
        def values(self):
            nonlocal looked_at
            looked_at += len(self)
            return super().values()

    await plane.worker(credit=1)
    plane.requests.submit("busy", image(0))
    await tick()
    plane.dispatcher._requests._open = Watched(plane.dispatcher._requests._open)
    (lane,) = plane.dispatcher._lanes.values()
    for number in range(500):
        plane.requests.submit(number, image(1), deadline_s=0.01 + number * 1e-4)
    while len(plane.requests.outcomes) < 500:
        assert lane.waiting.ended <= len(lane.waiting) / 2
        await asyncio.sleep(0.001)
    assert plane.requests.errors() == {Timeout}
    assert looked_at == 0
    assert len(lane.waiting) == lane.waiting.ended == 0


async def test_deadlines_of_answered_requests_are_not_kept(plane, monkeypatch):
    monkeypatch.setattr(open_requests, "_STALE_DEADLINES", 10)
    pipe = await plane.worker()
    with pipe.serving():
        for number in range(100):
            plane.requests.submit(number, image(number))
            await plane.requests.all_done()
    assert len(plane.dispatcher._requests._deadlines) <= 12


async def test_those_that_wait_are_counted_rightly_beside_those_that_ended(plane):
    pipe = await plane.worker(credit=1)
    plane.requests.submit("busy", image(0))
    await tick()
    for number in range(9):
        deadline_s = 0.01 if number % 3 == 0 else 60
        plane.requests.submit(number, image(number), deadline_s=deadline_s)
    while len(plane.requests.outcomes) < 3:
        await asyncio.sleep(0.005)
    (lane,) = plane.dispatcher._lanes.values()
    assert (len(lane.waiting), lane.waiting.ended) == (9, 3)
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert all(is_answer(outcomes[n], n) for n in range(9) if n % 3)
    assert pipe.model.batches == [1, 6]
    assert (len(lane.waiting), lane.waiting.ended) == (0, 0)


async def test_a_failing_request_leaves_its_pack_mates_alone(plane):
    pipe = await plane.worker(ToyModel(fails_on(13)))
    for value in (1, 13, 2):
        plane.requests.submit(value, image(value))
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes[1], 1)
    assert is_answer(outcomes[2], 2)
    assert isinstance(outcomes[13].error, JobFailed)


async def test_an_outcome_that_its_taker_chokes_on_harms_no_other(plane):
    pipe = await plane.worker()

    def choke(_: Outcome) -> None:
        raise RuntimeError

    plane.dispatcher.submit(
        model="digits", version=None, inputs=image(1), outputs=None, deadline_s=9, done=choke
    )
    plane.requests.submit("mate", image(2))
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert is_answer(outcomes["mate"], 2)


async def test_requests_outlive_their_worker(plane):
    first = await plane.worker()
    for number in range(5):
        plane.requests.submit(number, image(number))
    await tick()
    first.end.vanish()
    assert not plane.dispatcher.catalog()["digits"].ready
    plane.requests.submit("meanwhile", image(9))  # accepted: a restart is under way
    second = await plane.worker()
    with second.serving():
        outcomes = await plane.requests.all_done()
    assert all(is_answer(outcomes[number], number) for number in range(5))
    assert is_answer(outcomes["meanwhile"], 9)
    # Those that may have been the cause came one at a time, before the others.
    assert second.model.batches == [1, 1, 1, 1, 1, 1]


async def test_a_model_whose_workers_stay_away_is_refused(plane, monkeypatch):
    pipe = await plane.worker()
    pipe.end.vanish()
    monkeypatch.setattr("wardian.serving.catalog.ABSENCE_GRACE_S", -1.0)
    with pytest.raises(RequestError, match="at the moment") as refusal:
        plane.requests.submit("one", image(1))
    assert refusal.value.status == 503


async def test_a_poisonous_request_is_given_up_and_its_neighbours_are_answered(plane):
    deaths = []

    class Mortal(ToyModel):
        def infer(self, inputs):
            if (inputs["image"] == 13).any():
                raise SystemExit
            return super().infer(inputs)

    pipe = await plane.worker(Mortal())
    for value in (1, 13, 2, 3):
        plane.requests.submit(value, image(value))
    await tick()
    plane.requests.submit(4, image(4))  # on its way to the same worker when it dies
    while len(plane.requests.outcomes) < 5:
        try:
            await pipe.step()
        except SystemExit:
            deaths.append(pipe)
            pipe.end.vanish()
            pipe = await plane.worker(Mortal())
    outcomes = plane.requests.outcomes
    assert isinstance(outcomes[13].error, JobFailed)
    assert all(is_answer(outcomes[value], value) for value in (1, 2, 3, 4))
    assert len(deaths) == 3  # once in the pack, twice alone: the bound that TRUST T18 asks for


async def test_a_lone_poisonous_request_takes_two_workers(plane):
    plane_worker = await plane.worker()
    plane.requests.submit("poison", image(13))
    await tick()
    plane_worker.end.vanish()
    second = await plane.worker()
    await tick()
    second.end.vanish()
    outcomes = await plane.requests.all_done()
    assert isinstance(outcomes["poison"].error, JobFailed)


async def test_an_answer_for_another_message_opens_nothing(plane):
    pipe = await plane.worker()
    plane.requests.submit(1, image(1))
    await tick()
    plane.requests.submit(2, image(2))
    await tick()
    first, second = plane.queue.sent
    answers = {}
    for delivered in await pipe.end.take():
        pipe.worker.serve([delivered])
        ((message, sealed),) = pipe.answers
        answers[message] = sealed
        pipe.answers = []
    for message, sealed in (
        (first.message, answers[second.message]),
        (second.message, answers[first.message]),
        (first.message, first.sealed),
        (first.message, b""),
        (first.message, b"garbage" * 99),
    ):
        with pytest.raises(WardianError):
            plane.dispatcher.answered(message, sealed)
    assert plane.requests.outcomes == {}
    for message, sealed in answers.items():
        plane.dispatcher.answered(message, sealed)
        plane.dispatcher.answered(message, sealed)  # again: nobody waits any more
    assert is_answer(plane.requests.outcomes[1], 1)
    assert is_answer(plane.requests.outcomes[2], 2)


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        encode_body(Kind.DESCRIBE, b""),
        encode_pack(Pack(groups=[Group(ids=[99], rows=[1])])),
        encode_pack(
            Pack(groups=[Group(ids=[1], rows=[1], parts={"sum": [np.zeros(1, np.float32)]})])
        ),
    ],
)
async def test_a_worker_that_answers_nonsense_fails_the_request(plane, plaintext):
    pipe = await plane.worker()
    plane.requests.submit(1, image(1))
    await tick()
    ((message, sealed),) = await pipe.end.take()
    answer = receiver().open_request(sealed).answer(plaintext)
    plane.dispatcher.answered(message, answer)
    assert isinstance(plane.requests.outcomes[1].error, JobFailed)


DESCRIPTION = Description(
    model="digits", version=1, engine="toy 1", max_batch=64, batchable=True,
    inputs=ToyModel.inputs, outputs=ToyModel.outputs,
)  # fmt: skip


def describe(question: bytes) -> bytes:
    """Return the answer of a genuine worker of version 1 to a challenge."""
    body = encode_body(Kind.DESCRIBE, wire.encode(DESCRIPTION))
    return receiver().open_request(question).answer(body)


@pytest.mark.parametrize("codec", [receiver(key=Secret(b"x" * 32)), receiver(epoch=2)])
async def test_who_does_not_hold_the_queue_key_is_not_admitted(plane, codec):
    end = plane.queue.connect()
    await Pipe(end, codec=codec).step()
    assert not end.admitted
    for guess in (b"", b"garbage" * 30, wire.encode(DESCRIPTION)):
        again = plane.queue.connect()
        with pytest.raises(WardianError):
            plane.dispatcher.admit(again.number, guess)
    assert not plane.dispatcher.catalog()["digits"].ready


async def test_a_worker_of_a_model_that_is_not_served_is_not_admitted(plane):
    with pytest.raises(RequestError):
        plane.queue.connect(Lane("faces", 1))


async def test_a_worker_must_describe_the_version_that_it_claimed(plane):
    end = plane.queue.connect(Lane("digits", 2))
    ((_, question),) = await end.take()
    with pytest.raises(PeerProtocolError):
        plane.dispatcher.admit(end.number, describe(question))


async def test_a_description_cannot_be_shown_again(plane):
    end = plane.queue.connect()
    ((_, question),) = await end.take()
    answer = describe(question)
    plane.dispatcher.admit(end.number, answer)
    replaying = plane.queue.connect()
    with pytest.raises(AuthenticationFailed):
        plane.dispatcher.admit(replaying.number, answer)


async def test_two_workers_must_describe_a_version_alike(plane):
    class Other(ToyModel):
        outputs = ToyModel.outputs[:1]

    await plane.worker()
    end = plane.queue.connect()
    pipe = Pipe(end, Other())
    ((_, question),) = await end.take()
    pipe.worker.serve([Delivered(0, question)])
    with pytest.raises(PeerProtocolError):
        plane.dispatcher.admit(end.number, pipe.answers[0].sealed)


async def test_a_challenge_that_nobody_answered_is_let_go(plane):
    end = plane.queue.connect()
    end.vanish()
    plane.dispatcher.gone(end.number)
    assert plane.dispatcher._catalog._challenges == {}


async def test_what_a_worker_found_too_late_is_a_timeout(plane):
    pipe = await plane.worker()
    pipe.worker._wall_clock = lambda: 2.0**40
    plane.requests.submit(1, image(1))
    with pipe.serving():
        outcomes = await plane.requests.all_done()
    assert isinstance(outcomes[1].error, Timeout)


async def test_a_request_that_ended_is_not_redelivered(plane):
    pipe = await plane.worker()
    plane.requests.submit("short", image(1), deadline_s=0.01)
    plane.requests.submit("long", image(2))
    while "short" not in plane.requests.outcomes:
        await asyncio.sleep(0.005)
    pipe.end.vanish()
    second = await plane.worker()
    with second.serving():
        outcomes = await plane.requests.all_done()
    assert isinstance(outcomes["short"].error, Timeout)
    assert is_answer(outcomes["long"], 2)
    assert second.model.batches == [1]
