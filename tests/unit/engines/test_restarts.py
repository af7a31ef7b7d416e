"""When a process is started again, and when that cannot help."""

import pytest

from wardian.engines.restarts import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    REFUSED,
    SETTINGS,
    STEADY_AFTER_S,
    Restarts,
)


def test_the_delay_grows_to_a_limit_and_begins_anew_after_a_steady_run() -> None:
    restarts = Restarts()
    delays = [restarts.delay_s(1, ran_s=0.0) for _ in range(9)]
    assert delays[:3] == [FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]
    assert delays[-1] == LONGEST_DELAY_S
    assert restarts.delay_s(-9, ran_s=STEADY_AFTER_S + 1) == FIRST_DELAY_S


@pytest.mark.parametrize("status", [SETTINGS, REFUSED])
def test_what_was_never_right_is_not_tried_again(status: int) -> None:
    restarts = Restarts()
    assert restarts.delay_s(1, ran_s=STEADY_AFTER_S / 2) is not None
    assert restarts.delay_s(status, ran_s=0.5) is None


def test_a_typo_under_way_does_not_end_what_served() -> None:
    restarts = Restarts()
    assert restarts.delay_s(-9, ran_s=STEADY_AFTER_S + 1) == FIRST_DELAY_S  # it crashed
    delays = [restarts.delay_s(SETTINGS, ran_s=0.5) for _ in range(20)]
    assert None not in delays
    assert delays[-1] == LONGEST_DELAY_S
    assert restarts.delay_s(1, ran_s=STEADY_AFTER_S + 1) == FIRST_DELAY_S  # somebody mended it


def test_a_refusal_ends_even_what_served() -> None:
    assert Restarts().delay_s(REFUSED, ran_s=STEADY_AFTER_S + 1) is None
