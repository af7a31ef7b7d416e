"""What may be under way over Redis: no more than workers take, each message once, none forgotten."""

import random

import pytest

from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_lanes import LaneBook, RedisWorker, Waiting
from wardian.serving.queue.redis_outbox import READ, Outbox
from wardian.serving.queue.redis_wire import ReplyReader

LANE = Lane("digits", 1)


def worker(number: int, credit: int = 2, *, admitted: bool = True) -> RedisWorker:
    return RedisWorker(b"%032x" % number, number, LANE, credit, admitted=admitted)


def book(*workers: RedisWorker) -> LaneBook:
    made = LaneBook()
    for each in workers:
        made.enter(each)
    return made


def offer(made: LaneBook, *messages: int, alone: bool = False) -> None:
    for message in messages:
        made.offer(Waiting(message, b"", alone), lane=LANE)


def sent(made: LaneBook, now: float = 0.0) -> list[int]:
    return [each.message for each, _ in made.due(LANE, now)]


def test_room_is_what_admitted_workers_take_together():
    made = book(worker(1, 1), worker(2, 5), worker(3, 9, admitted=False), worker(4, 0))
    assert made.room(LANE, 0) == 2
    offer(made, 1)
    assert sent(made) == [1]
    assert made.room(LANE, 0) == 1
    offer(made, *range(2, 9))
    assert sent(made) == [2, 3, 4, 5, 6]  # six credits
    assert made.room(LANE, 0) == 0
    made.settle(4)
    assert sent(made) == [7]
    assert made.room(Lane("other", 1), 0) == 0


def test_idle_is_fewer_messages_than_workers():
    first, second = worker(1), worker(2)
    made = book(first, second, worker(3, admitted=False))
    assert made.idle(LANE)
    assert not made.idle(Lane("other", 1))
    assert (made.crew(LANE), made.crew(Lane("other", 1))) == (2, 0)
    offer(made, 1, 2, 3)
    assert sent(made) == [1, 2, 3]
    assert not made.idle(LANE)
    made.settle(1)
    assert not made.idle(LANE)  # as far as anybody knows here
    made.settle(2)
    assert made.idle(LANE)
    second.proving = True
    assert not made.idle(LANE)


def test_who_is_proving_counts_for_nothing():
    first = worker(1)
    made = book(first)
    first.proving = True
    offer(made, 1)
    assert sent(made) == []
    first.proving = False
    assert sent(made) == [1]


def test_a_message_alone_goes_to_a_worker_of_its_own_and_holds_those_behind_it_back():
    first, second = worker(1), worker(2)
    made = book(first, second)
    offer(made, 1)
    offer(made, 2, 3, alone=True)
    offer(made, 4)
    assert sent(made) == [1, 2]
    assert made.room(LANE, 0) == 0
    assert {first.alone, second.alone} == {None, 2}
    made.settle(1)
    assert sent(made) == [3]
    made.settle(2)
    assert sent(made) == [4]


def test_a_pause_holds_everything_back_until_it_is_over():
    made = book(worker(1))
    made.pause(LANE, 5.0)
    offer(made, 1)
    assert sent(made, 4.9) == []
    assert made.room(LANE, 4.9) == 0
    assert sent(made, 5.0) == [1]


def test_stalled_is_who_gets_nothing_because_of_what_nobody_waits_for():
    first = worker(1)
    made = book(first)
    assert not made.stalled(first)
    offer(made, 1, 2)
    assert sent(made) == [1, 2]
    assert not made.stalled(first)
    made.sent[1].forgotten = True
    assert not made.stalled(first)
    made.sent[2].forgotten = True
    assert made.stalled(first)


def test_a_lane_that_is_empty_is_let_go_of():
    first = worker(1)
    made = book(first)
    assert made.lanes() == [LANE]
    offer(made, 1)
    assert sent(made) == [1]
    made.leave(first)
    assert made.lanes() == [LANE]  # one is still under way
    made.settle(1)
    assert made.lanes() == []
    assert made.settle(1) is None


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_each_message_is_in_one_place(seed):
    rng = random.Random(seed)
    workers = [worker(number, rng.randint(1, 3)) for number in range(3)]
    made = book(*workers)
    waiting: set[int] = set()
    under_way: set[int] = set()
    for message in range(1, 400):
        made.offer(Waiting(message, b"", rng.random() < 0.2), lane=LANE)
        waiting.add(message)
        for each in sent(made):
            assert each in waiting
            waiting.discard(each)
            under_way.add(each)
        assert under_way == set(made.sent)
        shared = sum(each.worker is None for each in made.sent.values())
        assert shared <= sum(each.credit for each in workers)
        assert len({each.worker.name for each in made.sent.values() if each.worker}) == sum(
            each.worker is not None for each in made.sent.values()
        )
        for each in rng.sample(sorted(under_way), rng.randint(0, len(under_way))):
            assert made.settle(each) is not None
            under_way.discard(each)
        if waiting and rng.random() < 0.1:
            dropped = rng.choice(sorted(waiting))
            assert made.take_back(dropped, lane=LANE)
            waiting.discard(dropped)
    for _ in range(400):
        for each in list(made.sent):
            made.settle(each)
        waiting.difference_update(sent(made))
    assert not waiting  # none is stuck


# What a worker has to say


def spoken(box: Outbox) -> list[list[bytes]]:
    return ReplyReader(max_bytes=2**20).feed(b"".join(box.commands()))


def test_answers_of_a_batch_are_one_entry_a_front_end_and_one_acknowledgement_a_stream():
    box = Outbox(replies=b"r:", max_entry_bytes=100)
    box.add(b"A", b"1", b"x")
    box.add(b"B", b"2", b"y")
    box.add(b"A", b"3", b"z")
    box.finish(b"q", b"1-1")
    box.finish(b"q", b"1-2")
    assert spoken(box) == [
        [b"XADD", b"r:A", b"NOMKSTREAM", b"*", b"1", b"x", b"3", b"z"],
        [b"XADD", b"r:B", b"NOMKSTREAM", b"*", b"2", b"y"],
        [b"XACK", b"q", b"w", b"1-1", b"1-2"],
        [b"XDEL", b"q", b"1-1", b"1-2"],
    ]
    assert not box
    assert len(box.sent) == 4


def test_what_was_not_acknowledged_is_said_again():
    box = Outbox(replies=b"r:", max_entry_bytes=100)
    box.add(b"A", b"1", b"x")
    box.finish(b"q", b"1-1")
    said = spoken(box)
    box.sent.append(READ)
    box.restore()
    assert not box.sent
    again = spoken(box)
    assert again[0] == said[0]
    assert again[1] == [b"XACK", b"q", b"w", b"1-1", b"1-1"]


def test_an_entry_is_not_larger_than_what_is_read():
    box = Outbox(replies=b"r:", max_entry_bytes=100)
    for number in range(5):
        box.add(b"A", b"%d" % number, bytes(40))
    assert [len(words) for words in spoken(box)] == [8, 8, 6]
