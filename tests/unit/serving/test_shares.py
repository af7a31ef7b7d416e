"""Turns by weight: exact over a round, even within it, the same every time."""

import pytest

from wardian.serving.shares import Shares


def taken(shares: Shares[str], turns: int) -> str:
    return "".join(shares.next() or "-" for _ in range(turns))


def test_the_example_of_the_source() -> None:
    assert taken(Shares([("a", 5), ("b", 1), ("c", 1)]), 14) == "aabacaa" * 2


@pytest.mark.parametrize("weights", [(90, 10), (1, 999), (3, 3, 3), (7, 0, 2, 11), (1,)])
def test_each_gets_its_weight_in_every_round_and_never_waits_for_long(weights) -> None:
    names = "abcd"[: len(weights)]
    shares = Shares(zip(names, weights, strict=True))
    whole = sum(weights)
    for _ in range(3):
        taken_so_far = dict.fromkeys(names, 0)
        for turn in range(1, whole + 1):
            taken_so_far[shares.next()] += 1
            for name, weight in zip(names, weights, strict=True):
                assert abs(taken_so_far[name] - turn * weight / whole) < len(weights)
        assert taken_so_far == dict(zip(names, weights, strict=True))


def test_nobody_takes_what_nobody_may() -> None:
    for none in (Shares([]), Shares([("a", 0)])):
        assert none.next() is None
        assert none.largest is None


def test_the_largest_and_of_equals_the_first() -> None:
    assert Shares([("a", 1), ("b", 2), ("c", 2)]).largest == "b"
