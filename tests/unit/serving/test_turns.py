"""Whose turn it is: shares, weights, and that nobody waits behind somebody else's many."""

from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian.serving.turns import QUANTUM, REQUEST_COST, Turns

NUMBERS = count()


@dataclass(eq=False)
class Waiting:
    payer: str
    tenant: str = ""
    weight: int = 1
    size_bytes: int = 256
    suspect: bool = False
    done: object = print
    number: int = 0

    def __post_init__(self) -> None:
        self.tenant = self.tenant or self.payer
        self.number = next(NUMBERS)


def take(turns: Turns[Waiting], most: int = 64, most_bytes: int = 2**20) -> list[Waiting]:
    return turns.take(most, most_bytes=most_bytes)


def filled(*requests: Waiting) -> Turns[Waiting]:
    turns: Turns[Waiting] = Turns()
    for each in requests:
        turns.append(each)
    return turns


def payers(turns: Turns[Waiting], packs: int, **limits: int) -> list[str]:
    return [take(turns, **limits)[0].payer for _ in range(packs)]


@pytest.mark.parametrize("most", [1, 8, 64])
def test_one_request_waits_for_one_pack_of_a_thousand(most: int) -> None:
    turns = filled(*(Waiting("flood") for _ in range(1000)))
    take(turns, most)
    turns.append(Waiting("quiet"))
    before = []
    while (pack := take(turns, most))[0].payer != "quiet":
        before.append(pack)
    assert sum(map(len, before)) <= max(most, -(-QUANTUM // (REQUEST_COST + 256)))


def test_it_waits_for_one_pack_of_each_that_floods() -> None:
    turns = filled(*(Waiting(f"flood {n % 5}") for n in range(5000)))
    take(turns)
    turns.append(Waiting("quiet"))
    assert payers(turns, 6).index("quiet") <= 5


def test_a_pack_is_of_one_payer_and_in_order() -> None:
    requests = [Waiting("ab"[n % 2]) for n in range(10)]
    turns = filled(*requests)
    assert take(turns) == requests[0::2]
    assert take(turns) == requests[1::2]
    assert take(turns) == []
    assert len(turns) == 0


def test_large_requests_pass_turns_for_small_ones() -> None:
    """Each gets the same bytes, whatever its requests are."""
    turns = filled(
        *(Waiting("large", size_bytes=100_000) for _ in range(100)),
        *(Waiting("small", size_bytes=1000) for _ in range(10_000)),
    )
    served = {"large": 0, "small": 0}
    for _ in range(1000):
        for each in take(turns, 4):
            served[each.payer] += each.size_bytes + REQUEST_COST
    assert 0.8 < served["large"] / served["small"] < 1.25


@pytest.mark.parametrize("most", [1, 32])
def test_weights_are_shares(most: int) -> None:
    turns = filled(
        *(Waiting("three", weight=3) for _ in range(5000)), *(Waiting("one") for _ in range(5000))
    )
    served = {"three": 0, "one": 0}
    while sum(served.values()) < 4000:
        for each in take(turns, most):
            served[each.payer] += 1
    assert 2.7 < served["three"] / served["one"] < 3.3


def test_leaving_and_coming_back_pays_nothing_off() -> None:
    """One large request at a time, each when the line is empty: no more than a share."""
    turns = filled(*(Waiting("small") for _ in range(3000)))
    served = {"large": 0, "small": 0}
    turns.append(Waiting("large", size_bytes=400_000))
    while served["small"] < 2500 * (256 + REQUEST_COST):
        for each in take(turns):
            served[each.payer] += each.size_bytes + REQUEST_COST
            if each.payer == "large":
                turns.append(Waiting("large", size_bytes=400_000))
    assert served["large"] < 1.4 * served["small"]


def test_where_tenants_may_share_a_pack_each_goes_on_in_its_turn() -> None:
    flood = [Waiting("flood", tenant="all", size_bytes=2000) for _ in range(100)]
    quiet = [Waiting("quiet", tenant="all"), Waiting("other", tenant="all")]
    turns = filled(*flood, *quiet)
    pack = take(turns, 16)
    assert len(pack) == 16
    assert set(quiet) <= set(pack)


def test_what_was_lost_with_its_worker_comes_first_and_alone() -> None:
    turns = filled(*(Waiting("a") for _ in range(4)))
    lost = take(turns, 2)
    for each in reversed(lost):
        each.suspect = True
        turns.appendleft(each)
    assert [take(turns), take(turns)] == [[lost[0]], [lost[1]]]
    assert len(take(turns)) == 2


def test_what_goes_back_unsuspected_keeps_its_place_among_its_own() -> None:
    first, second = Waiting("a"), Waiting("a")
    turns = filled(second)
    turns.appendleft(first)
    turns.appendleft(other := Waiting("b"))
    assert take(turns) == [first, second]
    assert take(turns) == [other]


def test_the_ended_are_passed_over_and_let_go() -> None:
    requests = [Waiting("ab"[n % 2]) for n in range(8)]
    turns = filled(*requests)
    for each in requests[:4]:
        each.done = None
        turns.note_ended()
    assert (len(turns), turns.ended) == (8, 4)
    requests[4].done = None
    turns.note_ended()
    assert (len(turns), turns.ended) == (3, 0)
    assert [each.number for each in take(turns)] == [requests[6].number]
    assert take(turns) == [requests[5], requests[7]]


def test_only_ended_ones_leave_nothing() -> None:
    turns = filled(one := Waiting("a"), Waiting("b"), Waiting("b"))
    one.done = None
    turns.note_ended()
    assert [each.payer for each in take(turns)] == ["b", "b"]
    assert (len(turns), turns.ended, take(turns)) == (0, 0, [])


def test_taking_some_out() -> None:
    requests = [Waiting("ab"[n % 2]) for n in range(6)]
    turns = filled(*requests)
    taken = turns.take_out(lambda each: each.payer == "a")
    assert taken == requests[0::2]
    assert take(turns) == requests[1::2]
    assert len(turns) == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "take", "end", "lose", "out"]),
        st.integers(0, 4),
        st.integers(1, 300_000),
        st.integers(1, 7),
    ),
    max_size=120,
)


@given(STEPS, st.booleans())
def test_each_is_taken_once_and_the_numbers_fit(
    steps: list[tuple[str, int, int, int]],
    mixed: bool,
) -> None:
    turns: Turns[Waiting] = Turns()
    waiting: dict[int, Waiting] = {}
    last: list[Waiting] = []
    for what, payer, size, number in steps:
        if what == "add":
            made = Waiting(
                str(payer), tenant="all" if mixed else "", size_bytes=size, weight=1 + payer
            )
            turns.append(made)
            waiting[made.number] = made
        elif what == "end" and (live := [each for each in waiting.values() if each.done]):
            ended = live[number % len(live)]
            ended.done = None
            del waiting[ended.number]
            turns.note_ended()
        elif what == "lose":
            for each in last:
                each.suspect = True
                turns.appendleft(each)
                waiting[each.number] = each
            last = []
        elif what == "out":
            for each in turns.take_out(lambda each: each.payer == str(payer)):  # noqa: B023
                del waiting[each.number]
        elif what == "take":
            last = turns.take(number, most_bytes=size)
            assert len(last) <= number
            assert len({each.tenant for each in last}) <= 1
            assert bool(last) is bool(waiting)
            for each in last:
                del waiting[each.number]
        assert len(turns) - turns.ended == len(waiting)
        assert {each.number for each in turns if each.done is not None} == set(waiting)
    while pack := turns.take(8, most_bytes=2**20):
        for each in pack:
            del waiting[each.number]
    assert waiting == {}
    assert (len(turns), turns.ended) == (0, 0)
