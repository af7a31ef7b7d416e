"""One question to a cohort: whether anybody is waited for, whatever came in which order."""

import random

import pytest

from wardian.learning.rounds import Round

PARTIES = ("a", "b", "c", "d")


@pytest.mark.parametrize("quorum", range(1, 5))
@pytest.mark.parametrize("seed", range(50))
def test_it_is_over_when_nobody_matters_any_more(quorum: int, seed: int) -> None:
    drawn = random.Random(seed)
    asked = Round(PARTIES, quorum=quorum, until=10.0)
    for _ in range(12):
        standings = [asked.standing(party) for party in PARTIES]
        waited, answered = standings.count("asked"), standings.count("answered")
        assert asked.hopeful == (waited > 0 and waited + answered >= quorum)
        assert asked.over(0.0) == (not asked.hopeful)
        assert asked.over(10.0)
        party = drawn.choice((*PARTIES, "stranger"))
        if drawn.random() < 0.5:
            asked.answer(party)
        else:
            asked.refuse(party, "it cannot")
    outcome = asked.close()
    assert not asked.hopeful
    assert outcome.stands == (len(outcome.answered) >= quorum)
    assert set(outcome.answered) | set(outcome.dropped) == set(PARTIES)


def test_what_comes_again_or_too_late_changes_nothing() -> None:
    asked = Round(PARTIES, quorum=2, until=10.0)
    assert asked.answer("a")
    assert asked.answer("a")
    asked.refuse("a", "after all")
    assert asked.standing("a") == "answered"
    assert asked.hopeful
    outcome = asked.close()
    assert not asked.answer("b")
    assert outcome.answered == ("a",)
    assert not outcome.stands
