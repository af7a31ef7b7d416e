"""How long a process may serve that no broker renewed (TRUST T9, T21)."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian._internal.clock import monotonic
from wardian.broker import lease as leases
from wardian.broker.epochs import EpochAge
from wardian.broker.lease import (
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    RETRIES_LEFT,
    Lease,
    Moment,
    Renewals,
    Standing,
)

NOW = 1_790_000_000
LIFE_S = 3600


def at(seconds: float, *, wall: float | None = None) -> Moment:
    """So many seconds after the beginning, by ticks and by the wall clock unless it says else."""
    return Moment(ticks=500 + seconds, now=NOW + int(seconds if wall is None else wall))


def lease(*, chance: float = 0.0, life_s: float = LIFE_S) -> Lease:
    return Lease.begin(at(0), life_s=life_s, ends_at=NOW + int(life_s), chance=chance)


@pytest.mark.parametrize(
    ("seconds", "standing"),
    [
        (0, Standing.FRESH),
        (1799, Standing.FRESH),
        (1800, Standing.RENEW),
        (3599, Standing.RENEW),
        (3600, Standing.ENDED),
        (10**9, Standing.ENDED),
    ],
)
def test_renewed_at_half_and_ended_at_its_end(seconds: float, standing: Standing) -> None:
    assert lease().standing(at(seconds)) is standing


@pytest.mark.parametrize("wall", [0, -(10**6), 1700])
def test_t9_a_wall_clock_that_stands_still_or_goes_back_makes_it_no_longer(wall: float) -> None:
    assert lease().standing(at(3599.9, wall=wall)) is Standing.RENEW
    assert lease().standing(at(3600, wall=wall)) is Standing.ENDED


def test_a_machine_that_slept_finds_it_ended() -> None:
    """Its ticks stood still; the wall clock was put right from outside."""
    assert lease().standing(at(10, wall=3599)) is Standing.RENEW
    assert lease().standing(at(10, wall=3600)) is Standing.ENDED


def test_ticks_that_go_back_measure_nothing() -> None:
    assert lease().standing(at(-0.1)) is Standing.ENDED


def test_a_clock_that_is_ahead_does_not_make_a_process_ask_without_end() -> None:
    """Of the hour ten minutes are left: half of that is when to renew."""
    short = Lease.begin(at(0), life_s=LIFE_S, ends_at=NOW + 600, chance=0)
    assert short.standing(at(299)) is Standing.FRESH
    assert short.standing(at(300)) is Standing.RENEW
    assert short.standing(at(600)) is Standing.ENDED
    assert Lease.begin(at(0), life_s=9, ends_at=NOW - 5, chance=0).standing(at(0)) is Standing.ENDED


def test_chance_spreads_renewals_to_before_half() -> None:
    assert lease(chance=1).standing(at(1439)) is Standing.FRESH
    assert lease(chance=1).standing(at(1440)) is Standing.RENEW


@given(
    st.floats(60, 86_400),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 10**6), st.integers(-(10**6), 10**6)), max_size=20),
)
def test_whatever_the_wall_clock_says_no_lease_outlives_its_ticks(
    life_s: float, chance: float, clocks: list[tuple[float, int]]
) -> None:
    held = lease(life_s=life_s, chance=chance)
    for seconds, wall in clocks:
        found = held.standing(at(seconds, wall=wall))
        if seconds >= life_s:
            assert found is Standing.ENDED
        assert held.left_s(at(seconds, wall=wall)) <= max(0, life_s - seconds) + 1e-6


# When to ask


def test_nothing_to_do_until_half() -> None:
    renewals = Renewals(lease())
    assert not renewals.due(at(0))
    assert renewals.wait_s(at(0)) == 1800
    assert renewals.due(at(1800))
    assert renewals.wait_s(at(1800)) == 0


def test_failures_wait_longer_and_never_past_the_end() -> None:
    renewals, seconds, waits = Renewals(lease()), 1800.0, []
    while True:
        renewals.failed(at(seconds), chance=0)
        assert not renewals.due(at(seconds))
        wait = renewals.wait_s(at(seconds))
        waits.append(wait)
        seconds += wait
        if renewals.lease.standing(at(seconds)) is Standing.ENDED:
            break
        assert renewals.due(at(seconds))
    assert waits[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert max(waits) == LONGEST_RETRY_S
    assert sum(waits) == pytest.approx(1800)
    assert len([wait for wait in waits[-10:] if wait < LONGEST_RETRY_S / 2]) >= RETRIES_LEFT - 2
    assert not renewals.due(at(seconds))


def test_the_shortest_lease_is_tried_several_times() -> None:
    renewals, seconds, tries = Renewals(lease(life_s=60)), 30.0, 0
    while renewals.due(at(seconds)):
        tries += 1
        renewals.failed(at(seconds), chance=0)
        seconds += renewals.wait_s(at(seconds))
    assert tries >= 10


def test_a_renewal_begins_anew() -> None:
    renewals = Renewals(lease())
    renewals.failed(at(1800), chance=0)
    renewals.failed(at(1801), chance=1)
    assert renewals.wait_s(at(1801)) == pytest.approx(1.8)
    fresh = Lease.begin(at(1803), life_s=LIFE_S, ends_at=NOW + 1803 + LIFE_S, chance=0)
    renewals.renewed(fresh)
    assert renewals.lease is fresh
    assert renewals.wait_s(at(1803)) == 1800
    renewals.failed(at(1804), chance=0)
    assert renewals._retry_at == at(1804).ticks + FIRST_RETRY_S


def test_the_clock_that_also_runs_while_a_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert leases.elapsed() > 0
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert leases.elapsed() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=5)
        monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert leases._elapsed() is monotonic


# Epochs


def test_an_epoch_is_over_by_either_clock() -> None:
    age = EpochAge(life_s=100)
    assert not age.over(0, began=0, ticks=10**6, now=NOW)  # before the first manifest
    assert not age.over(1, began=NOW, ticks=50, now=NOW)
    assert not age.over(1, began=NOW, ticks=149, now=NOW + 99)
    assert age.over(1, began=NOW, ticks=150, now=NOW)  # the wall clock stands still
    assert age.over(1, began=NOW, ticks=51, now=NOW + 100)  # the process was started anew
    assert not age.over(2, began=NOW + 100, ticks=200, now=NOW + 100)
    assert age.over(2, began=NOW + 100, ticks=300, now=NOW + 100)
