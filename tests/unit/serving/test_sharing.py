"""Who gives way: pure, by hand and by property."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian.serving.http.peer import place_of
from wardian.serving.http.sharing import (
    ARRIVING,
    KEPT,
    RESTING,
    SERVED,
    STALLED,
    STRANGERS_COUNT,
    WAITING,
    Claim,
    Parties,
    Party,
    Place,
    claims_to_drop,
    connection_to_end,
)

A, B = Party("alice"), Party("bob")


def stranger(number: int) -> Party:
    return Party("", f"192.0.2.{number}")


def place(party: Party, standing: int = WAITING, since: float = 0) -> Place:
    return Place(party, standing, since, lambda: None)


def claim(size: int, standing: int = ARRIVING, since: float = 0) -> Claim:
    return Claim({}, size, standing, since, lambda: None)


def dropped(asker: Party, *claims: tuple[Party, Claim]) -> list[Claim]:
    return list(claims_to_drop(claims, asker))


def test_of_whoever_has_most_the_idlest_goes_first() -> None:
    served, waits, idle = place(A, SERVED), place(A, WAITING), place(A, RESTING, 9)
    mine = place(B, RESTING)
    assert connection_to_end([served, waits, idle, mine], stranger(1)) is None  # weighs 8
    many = [place(A, SERVED, 5) for _ in range(20)]
    assert connection_to_end([*many, served, waits, idle, mine], stranger(1)) is idle
    assert connection_to_end([*many, served, waits, mine], stranger(1)) is waits
    assert connection_to_end([*many, served, mine], stranger(1)) is served


def test_strangers_do_not_grow_beyond_their_part() -> None:
    tenants = [place(A, RESTING) for _ in range(2 * STRANGERS_COUNT)]
    one, two = place(stranger(1), since=1), place(stranger(2), since=2)
    assert connection_to_end([*tenants, one], stranger(3)) in (None, one)
    assert connection_to_end([*tenants, one, two], stranger(3)) is one
    again = place(stranger(2), SERVED)
    assert connection_to_end([*tenants, one, two, again], stranger(3)) is two


def test_without_tenants_an_address_gives_its_neighbours_only_what_rests() -> None:
    own, other = Parties().of({}, "192.0.2.1"), Parties().of({}, "192.0.2.2")
    busy, idle = [place(own, SERVED) for _ in range(3)], place(own, RESTING)
    assert connection_to_end(busy, own) is None
    assert connection_to_end([*busy, idle], own) is idle
    assert connection_to_end(busy, other) in busy
    assert connection_to_end(busy[:1], other) is None  # they are equal
    assert connection_to_end([idle], other) is idle


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), st.sampled_from("abcde"))
def test_nobody_is_cut_off_who_has_less(names: list[str], newcomer: str) -> None:
    held = Counter(names)
    gone = connection_to_end([place(Party(name), SERVED) for name in names], Party(newcomer))
    if gone is None:
        assert max(held.values()) <= held[newcomer] + 1
    else:
        assert held[gone.party.name] == max(held.values()) > held[newcomer] + 1


def test_memory_comes_from_whoever_holds_most() -> None:
    mine, small = (B, claim(10)), (Party("carol"), claim(10, STALLED))
    late, early, stalled = claim(20, since=2), claim(20, since=1), claim(20, STALLED, 3)
    theirs = [(A, each) for each in (late, early, stalled)]
    assert dropped(B, mine, small, *theirs) == [stalled, early, late]
    assert dropped(A, mine, small, *theirs) == [stalled]  # its own; not what it still sends
    assert dropped(B, mine, (A, claim(99, KEPT))) == []
    assert dropped(Party("new"), mine)[0] is mine[1]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 99), st.sampled_from([0, 1, 2]))),
    st.sampled_from("abcde"),
)
def test_no_claim_goes_of_who_holds_less(held: list[tuple[str, int, int]], asker: str) -> None:
    claims = [(Party(name), claim(size, standing)) for name, size, standing in held]
    left = Counter[str]()
    for party, each in claims:
        left[party.name] += each.size
    owner = {id(each): party.name for party, each in claims}
    for each in claims_to_drop(claims, Party(asker)):
        name = owner[id(each)]
        assert each.standing != KEPT
        assert left[name] > left[asker] or (name == asker and each.standing == STALLED)
        left[name] -= each.size


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2"),
        ("2001:db8::1", "2001:db8:0:0"),
        ("::1", "0:0:0:0"),
    ],
)
def test_of_an_address_what_one_caller_cannot_change(address: str, place: str) -> None:
    assert place_of(address) == place


def test_whose() -> None:
    parties = Parties(lambda headers, _: "alice" if headers else "")
    assert parties.of({b"a": b"b"}, "192.0.2.1") == A
    assert parties.of({}, "2001:db8::9") == Party("", "2001:db8:0:0")
