"""A worker takes as many messages at a time as it does in a few milliseconds."""

import random

import pytest

from wardian.serving.pace import AHEAD_S, FIRST_AFTER, LEAST, MOST, Pace


def note(pace: Pace, messages: int, seconds: float, *, waited: float = 0.0) -> bool:
    return pace.note(messages, taken_s=seconds + waited, worked_s=seconds)


def paced(each_s: float, messages: int = 20 * FIRST_AFTER) -> Pace:
    pace = Pace()
    for _ in range(messages):
        note(pace, 1, each_s)
    return pace


@pytest.mark.parametrize(
    ("each_s", "credit"),
    [(0.0, MOST), (1e-6, MOST), (40e-6, 64), (100e-6, 32), (0.5e-3, 4), (1e-3, 2), (0.08, 2)],
)
def test_credit_is_a_power_of_two_within_the_time(each_s, credit):
    assert paced(each_s).credit == credit


def test_nothing_is_believed_at_first():
    pace = Pace()
    assert not any(note(pace, 1, 1e-6) for _ in range(FIRST_AFTER - 1))
    assert pace.credit == LEAST
    assert note(pace, 1, 1e-6)
    assert pace.credit == MOST


def test_one_slow_message_at_first_counts_more_than_quick_ones():
    pace = Pace()
    note(pace, 1, 0.08)
    assert not any(note(pace, 1, 1e-6) for _ in range(FIRST_AFTER))
    assert pace.credit == LEAST


def test_it_follows_a_worker_that_becomes_slow_and_quick_again():
    pace = paced(40e-6)
    assert pace.credit == 64
    for _ in range(200):
        note(pace, 1, 0.08)
    assert pace.credit == LEAST
    for _ in range(1000):
        note(pace, 1, 40e-6)
    assert pace.credit == 64


def test_one_that_is_far_slower_changes_little():
    pace = paced(100e-6)
    assert not note(pace, 1, 10.0)
    assert pace.credit == 32


def test_messages_that_are_served_together_count_each():
    pace = Pace()
    for _ in range(100):
        note(pace, 32, 32 * 100e-6)
    assert pace.credit == 32


def test_a_time_at_the_border_does_not_go_to_and_fro():
    chance = random.Random(1)
    pace = Pace()
    changes = sum(note(pace, 1, AHEAD_S / 16 * chance.uniform(0.9, 1.1)) for _ in range(5000))
    assert changes == 1
    assert pace.credit in (8, 16)


def test_a_processor_that_others_use_too_changes_little():
    """Half of the messages wait 5 ms for their turn to run."""
    pace = Pace()
    for number in range(2000):
        note(pace, 1, 100e-6, waited=5e-3 * (number % 2))
    assert pace.credit >= 16


def test_a_model_that_waits_for_another_device_is_slow():
    pace = Pace()
    for _ in range(2000):
        note(pace, 1, 10e-6, waited=0.02)
    assert pace.credit == LEAST
