"""What parties have in common is found, in an order of nobody's choosing, and nothing else is."""

import ast
import random
from pathlib import Path

import numpy as np
import pytest
from psi_world import RUN, PsiWorld, raw_bytes

import wardian.learning.psi.coordinator
import wardian.learning.psi.intersection
from wardian.crypto.signing import SigningKey
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
)
from wardian.learning.arrays import ArrayRecord
from wardian.learning.psi.coordinator import PsiCoordinator
from wardian.learning.psi.intersection import intersect
from wardian.learning.psi.party import PsiParty
from wardian.learning.psi.tags import encoded
from wardian.learning.psi.terms import PsiTerms
from wardian.learning.records import ConfigRecord, RecordDict


def people(*numbers: int) -> list[str]:
    return [f"person {number}" for number in numbers]


def common(sets: dict[str, list[str]], positions: dict[str, np.ndarray]) -> list[str]:
    """The records that the positions name; all parties' have to be the same, in one order."""
    found = {tuple(sets[name][at] for at in places) for name, places in positions.items()}
    assert len(found) == 1
    return list(found.pop())


@pytest.mark.parametrize("count", [2, 3, 10])
def test_every_party_learns_which_of_its_records_all_have(count):
    chance = random.Random(count)
    sets = {f"p{n}": people(*chance.sample(range(120), 100)) for n in range(count)}
    expected = set.intersection(*map(set, sets.values()))
    world = PsiWorld(sets)
    found = common(sets, world.intersect())
    assert set(found) == expected
    assert len(found) == len(expected) == world.coordinator.size > 0


def test_nothing_in_common_and_nothing_at_all():
    sets = {"a": people(1, 2), "b": people(3), "c": []}
    positions = PsiWorld(sets).intersect()
    assert [each.tolist() for each in positions.values()] == [[], [], []]


def test_texts_and_bytes_are_the_same_and_nothing_is_folded():
    sets = {"a": ["é", "x", "Y"], "b": ["é".encode(), "e\u0301".encode(), b"x ", b"y"]}
    positions = PsiWorld(sets).intersect()
    assert (positions["a"].tolist(), positions["b"].tolist()) == ([0], [0])


def test_the_order_is_another_one_each_time_and_the_same_for_all():
    sets = {"a": people(*range(50)), "b": people(*reversed(range(50)))}
    orders = []
    for _ in range(2):
        world = PsiWorld(sets)
        orders.append(common(sets, world.intersect()))
        again = world.parties["a"].positions(world.coordinator.positions("a"))
        assert [sets["a"][at] for at in again] == orders[-1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1] != sorted(orders[1])


# What the coordinator does not see


def test_the_coordinator_sees_neither_an_identifier_nor_the_key():
    sets = {"a": people(*range(40)), "b": people(*range(20, 60))}
    world = PsiWorld(sets)
    world.intersect()
    said = b"".join(raw_bytes(each) for each in world.seen)
    assert len(said) > 80 * 16
    assert b"person" not in said
    member = world.parties["b"]._member
    key = member.key(world.coordinator._shares, world.coordinator._deal).reveal()
    assert key not in said
    assert member._private.to_secret().reveal() not in said
    assert world.parties["a"]._member._secret.reveal() not in said


def test_the_coordinators_code_cannot_tag():
    """It imports nothing that makes a key or a tag."""
    names = set()
    for module in (wardian.learning.psi.coordinator, wardian.learning.psi.intersection):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.ImportFrom):
                names |= {node.module, *(each.name for each in node.names)}
            elif isinstance(node, ast.Import):
                names |= {each.name for each in node.names}
    assert not names & {"hashlib", "hmac", "tags", "Secret", "GroupKeyMember"}
    assert "wardian.learning.psi.tags" not in names


def test_a_dictionary_of_guesses_finds_nothing_without_the_key():
    """Not by trying tags of another run either: the key is another one each time."""
    sets = {"a": people(*range(30)), "b": people(*range(30))}
    world, other = PsiWorld(sets), PsiWorld(sets)
    world.intersect()
    guesses = other.parties["a"].tags(other.agree())["tags"]["tags"]
    seen = world.seen[-1]["tags"]["tags"]
    assert not {tuple(each) for each in guesses.tolist()} & {tuple(each) for each in seen.tolist()}


def test_nothing_prints_an_identifier():
    world = PsiWorld({"a": people(1), "b": people(1)})
    assert "person" not in repr(world.parties) + repr(world.parties["a"].tags(world.agree()))


# Consent


def test_more_than_the_cap_is_refused_by_the_party_and_by_the_coordinator():
    with pytest.raises(PolicyDenied) as caught:
        PsiWorld({"a": people(*range(5)), "b": people(1)}, cap=4)
    assert caught.value.rule == "psi-size"
    world = PsiWorld({"a": people(*range(5)), "b": people(1)})
    deal = world.agree()
    world.terms.caps["a"] = 4
    with pytest.raises(PolicyDenied) as caught:
        world.coordinator.take_tags("a", world.parties["a"].tags(deal))
    assert caught.value.rule == "psi-size"
    world.terms.caps["a"] = 5  # nothing was harmed
    for name, party in world.parties.items():
        world.coordinator.take_tags(name, party.tags(deal))
    assert world.coordinator.size == 1


def test_runs_are_counted():
    PsiWorld({"a": people(1), "b": people(1)}, runs=3, before=2)
    with pytest.raises(PolicyDenied) as caught:
        PsiWorld({"a": people(1), "b": people(1)}, runs=3, before=3)
    assert caught.value.rule == "psi-runs"
    world = PsiWorld({"a": people(1), "b": people(1)}, runs=3)
    with pytest.raises(PolicyDenied) as caught:
        world.party("a", people(1), before=3)
    assert caught.value.rule == "psi-runs"


@pytest.mark.parametrize(
    "change",
    [
        {"keys": {"a": b"1" * 32}, "caps": {"a": 1}},
        {"keys": {"a": b"1" * 32, "b": b"1" * 32}},
        {"caps": {"a": 1}},
        {"caps": {"a": 1, "b": 0}},
        {"caps": {"a": 1, "b": 10**9}},
        {"runs": 0},
    ],
)
def test_terms_say_all(change):
    whole = {"keys": {"a": b"1" * 32, "b": b"2" * 32}, "caps": {"a": 1, "b": 1}, "runs": 1}
    PsiTerms(**whole)
    with pytest.raises(ConfigError):
        PsiTerms(**{**whole, **change})


def test_strangers_take_no_part():
    world = PsiWorld({"a": people(1), "b": people(1)})
    deal = world.agree()
    with pytest.raises(PolicyDenied):
        world.coordinator.take_share("mallory", world.parties["a"].share())
    with pytest.raises(PolicyDenied) as caught:
        world.coordinator.take_tags("mallory", world.parties["a"].tags(deal))
    assert caught.value.rule == "psi-party"
    with pytest.raises(PolicyDenied):
        world.coordinator.positions("mallory")
    with pytest.raises(AuthenticationFailed):
        PsiParty(
            world.terms,
            run=RUN,
            name="a",
            signer=SigningKey.generate(),
            identifiers=["x"],
            runs_before=0,
        )


# Bad input


@pytest.mark.parametrize(
    ("identifiers", "reason"),
    [
        (["x", "y", "x"], "place 2"),
        (["x", ""], "1 to 1024"),
        (["x" * 1025], "1 to 1024"),
        (["\ud800"], "texts or bytes"),
        ([["x"]], "texts or bytes"),
    ],
)
def test_identifiers_that_are_refused(identifiers, reason):
    with pytest.raises(FormatError, match=reason) as caught:
        encoded(identifiers)
    assert "x" not in str(caught.value).replace("texts", "")


def tags_of(array: np.ndarray) -> RecordDict:
    return RecordDict({"tags": ArrayRecord({"tags": array})})


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"tags": ConfigRecord({"tags": b"1"})}),
        tags_of(np.zeros((3, 3), np.int64)),
        tags_of(np.zeros(4, np.int64)),
        tags_of(np.zeros((2, 2), np.float64)),
        tags_of(np.array([[1, 2], [3, 4], [1, 2]])),
    ],
)
def test_tags_that_are_refused_harm_nobody(content):
    world = PsiWorld({"a": people(1, 2), "b": people(2, 3)})
    deal = world.agree()
    with pytest.raises(FormatError):
        world.coordinator.take_tags("a", content)
    for name, party in world.parties.items():
        world.coordinator.take_tags(name, party.tags(deal))
    assert world.coordinator.size == 1


def test_a_second_answer_changes_nothing():
    world = PsiWorld({"a": people(1, 2), "b": people(2, 3)})
    deal = world.agree()
    for name, party in world.parties.items():
        world.coordinator.take_tags(name, party.tags(deal))
    world.coordinator.take_tags("a", tags_of(np.array([[1, 2]])))
    assert world.coordinator.size == 1
    world.coordinator.take_share("a", world.parties["a"].share())
    assert world.parties["b"].tags(world.coordinator.deal()) is not None


@pytest.mark.parametrize("wrong", [[-1], [2], [0, 0]])
def test_positions_that_are_refused(wrong):
    world = PsiWorld({"a": people(1, 2), "b": people(2, 3)})
    content = RecordDict({"positions": ArrayRecord({"positions": np.array(wrong)})})
    with pytest.raises(FormatError):
        world.parties["a"].positions(content)


def test_a_deal_by_another_hand_is_refused():
    world = PsiWorld({"a": people(1), "b": people(1)})
    other = PsiWorld({"a": people(1), "b": people(1)})
    world.agree()
    with pytest.raises(AuthenticationFailed):
        world.coordinator.take_deal(
            RecordDict({"deal": ConfigRecord({"deal": other.agree()["deal"]["deal"]})})
        )
    with pytest.raises(AuthenticationFailed):
        world.parties["b"].tags(other.coordinator.deal())
    with pytest.raises(FormatError):
        world.parties["b"].tags(RecordDict({"deal": ConfigRecord({"deal": b"x"})}))
    with pytest.raises(FormatError):
        world.coordinator.take_deal(RecordDict({"deal": ConfigRecord({"deal": "x"})}))
    with pytest.raises(FormatError):
        world.coordinator.take_share("a", RecordDict())
    with pytest.raises(FormatError):
        shares = RecordDict({"shares": ConfigRecord({"a": 1, "b": b"x"})})
        world.parties["a"].deal(shares)


def test_steps_out_of_order_are_a_bug_of_ours():
    world = PsiWorld({"a": people(1), "b": people(1)})
    coordinator: PsiCoordinator = world.coordinator
    for call in (coordinator.shares, coordinator.deal, lambda: coordinator.positions("a")):
        with pytest.raises(LocalProtocolError):
            call()


# Tags of somebody's choosing


def brute(sets: list[np.ndarray]) -> set[tuple[int, int]]:
    return set.intersection(*({tuple(each) for each in one.tolist()} for one in sets))


def test_halves_that_are_the_same_are_no_tags_that_are():
    """A party that picks its tags so that their halves collide deceives nobody."""
    chance = np.random.default_rng(1)
    for _ in range(200):
        sets = []
        for _ in range(int(chance.integers(2, 5))):
            whole = chance.integers(-2, 3, (int(chance.integers(0, 20)), 2))
            sets.append(np.unique(whole, axis=0)[chance.permutation(len(np.unique(whole, axis=0)))])
        places = intersect(sets)
        found = [{tuple(each) for each in one[places[:, n]].tolist()} for n, one in enumerate(sets)]
        assert all(each == brute(sets) for each in found)
        assert len(places) == len(brute(sets))
        for row in places:
            assert len({tuple(one[at].tolist()) for one, at in zip(sets, row, strict=True)}) == 1
