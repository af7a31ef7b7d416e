import pytest

from wardian.errors import LeaseLost, LocalProtocolError
from wardian.serving.queue.lease import Delivery, Lane, LeaseTable

LANE = Lane("digits", 1)


@pytest.fixture
def table():
    return LeaseTable()


def test_a_message_waits_for_a_worker(table):
    assert table.offer(10, lane=LANE) == []
    assert table.join(1, lane=LANE, credit=1) == [Delivery(1, 10)]


def test_a_worker_gets_no_more_than_its_credit(table):
    table.join(1, lane=LANE, credit=2)
    delivered = [table.offer(message, lane=LANE) for message in (10, 11, 12)]
    assert delivered == [[Delivery(1, 10)], [Delivery(1, 11)], []]
    assert table.answered(1, 11) == [Delivery(1, 12)]


def test_idle_is_a_worker_that_takes_messages_and_holds_none(table):
    assert not table.idle(LANE)
    table.join(1, lane=LANE, credit=2)
    assert table.idle(LANE)
    assert not table.idle(Lane("digits", 2))
    table.offer(10, lane=LANE)
    assert not table.idle(LANE)
    assert table.room(LANE) == 1
    table.join(2, lane=LANE, credit=1)
    assert table.idle(LANE)
    table.set_credit(2, 0)
    assert not table.idle(LANE)
    table.answered(1, 10)
    assert table.idle(LANE)


def test_another_version_is_another_lane(table):
    table.join(1, lane=Lane("digits", 2), credit=1)
    assert table.offer(10, lane=LANE) == []


def test_work_goes_to_the_worker_that_holds_least(table):
    table.join(1, lane=LANE, credit=4)
    table.join(2, lane=LANE, credit=4)
    given = [table.offer(message, lane=LANE)[0].worker for message in range(10, 14)]
    assert sorted(given) == [1, 1, 2, 2]
    assert given[0] != given[1]


def test_a_suspect_is_alone_before_and_after(table):
    table.join(1, lane=LANE, credit=3)
    table.offer(10, lane=LANE)
    assert table.offer(11, lane=LANE, alone=True) == []
    assert table.offer(12, lane=LANE) == []  # nor may others keep it waiting for ever
    assert table.room(LANE) == 0
    assert table.answered(1, 10) == [Delivery(1, 11)]
    assert table.answered(1, 11) == [Delivery(1, 12)]


def test_what_a_lost_worker_held_is_reported_once(table):
    table.join(1, lane=LANE, credit=2)
    table.offer(10, lane=LANE)
    table.offer(11, lane=LANE)
    assert table.leave(1) == [10, 11]
    assert table.leave(1) == []
    assert not table.holds(1, 10)


def test_a_forgotten_message_makes_way(table):
    table.join(1, lane=LANE, credit=2)
    table.offer(10, lane=LANE)
    table.offer(11, lane=LANE, alone=True)
    table.offer(12, lane=LANE)
    assert table.forget(11, lane=LANE) == [Delivery(1, 12)]


def test_a_worker_without_credit_gets_nothing(table):
    table.join(1, lane=LANE, credit=1)
    assert table.set_credit(1, 0) == []
    assert table.offer(10, lane=LANE) == []
    assert table.set_credit(1, 1) == [Delivery(1, 10)]


def test_an_answer_from_who_does_not_hold_it_is_refused(table):
    table.join(1, lane=LANE, credit=1)
    table.join(2, lane=LANE, credit=1)
    table.offer(10, lane=LANE)
    with pytest.raises(LeaseLost):
        table.answered(2, 10)
    with pytest.raises(LeaseLost):
        table.answered(3, 10)


def test_a_worker_joins_once(table):
    table.join(1, lane=LANE, credit=1)
    with pytest.raises(LocalProtocolError):
        table.join(1, lane=LANE, credit=1)
