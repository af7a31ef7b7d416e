"""What owners' visits cost: strangers keep no owner out, and no owner floods a mesh."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from toy_desks import ADDRESS, Desks, Stream, open_desks
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.broker.limits import Place
from wardian.broker.owners.protocol import OwnerHello, Provision
from wardian.broker.owners.visits import Visit, Visits
from wardian.crypto.signing import SigningKey
from wardian.errors import PolicyDenied, QueueFull, TransportError


@pytest.fixture
def two(tmp_path: Path) -> Iterator[ToyBroker]:
    mesh = ToyMesh(owners=[SigningKey.generate(), SigningKey.generate()])
    with closing(ToyBroker(mesh, tmp_path / "two.db")) as broker:
        yield broker


@pytest.fixture
async def desks(two: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desks]:
    desks = open_desks(two, monkeypatch, owners=3, lines_per_s=0, line_burst=2)
    yield desks
    desks.office.close()


async def hold(desks: Desks, peer: str) -> Stream:
    """Say hello as an owner, whose name is no secret, and nothing more."""
    desks.peer = peer
    near = await desks.connect(ADDRESS)
    await near.send(
        wire.encode(OwnerHello(owner=desks.broker.mesh.owners[0].public.hex(), nonce=bytes(32)))
    )
    await near.receive(most=2**22)
    return near


async def settled(desks: Desks) -> None:
    while desks._tasks:
        await asyncio.sleep(0)


# Strangers


async def test_t21_a_stranger_who_holds_all_visits_keeps_no_owner_out(desks: Desks) -> None:
    """Three idle connections of anybody, and no owner could withdraw anything."""
    held = [await hold(desks, "stranger") for _ in range(3)]
    desks.peer = "owner"
    assert (await desks.order()).receipt.epoch == 2
    assert held[0].incoming.get_nowait() is None  # the oldest gave way
    assert held[1].incoming.empty()
    assert held[2].incoming.empty()
    await hold(desks, "stranger")
    desks.peer = "stranger"
    with pytest.raises(TransportError, match="as many owners as may"):
        await desks.order()  # those of one address do not drive each other out
    for each in held[1:]:
        await each.close()


async def test_who_gave_way_leaves_no_audit_line(desks: Desks) -> None:
    before = desks.broker.store.audit_head.count
    held = [await hold(desks, "stranger") for _ in range(3)]
    desks.peer = "owner"
    await desks.order()
    for each in held[1:]:
        await each.close()
    await settled(desks)
    assert desks.broker.store.audit_head.count == before + 1  # the order's own


def served(*peers: str, firm: str = "") -> tuple[Visits, list[Visit], list[str]]:
    visits, left = Visits(len(peers)), list[str]()
    each = [
        Visit(place=Place(peer=peer, firm=peer in firm), leave=lambda peer=peer: left.append(peer))
        for peer in peers
    ]
    for visit in each:
        visits.enter(visit)
    return visits, each, left


def newcomer(peer: str) -> Visit:
    return Visit(place=Place(peer=peer), leave=lambda: None)


def test_the_crowd_gives_way_and_not_the_one_beside_it() -> None:
    visits, _, left = served("a", "b", "b", "c")
    visits.enter(newcomer("d"))
    assert left == ["b"]
    visits.enter(newcomer("e"))
    assert left == ["b", "a"]  # all hold one: the oldest


def test_who_proved_to_be_an_owner_stays() -> None:
    visits, _, left = served("a", "b", firm="ab")
    with pytest.raises(QueueFull):
        visits.enter(newcomer("c"))
    assert left == []


@pytest.mark.parametrize("peers", ["aa", "ab"])
def test_one_s_own_visits_do_not_give_way_to_oneself(peers: str) -> None:
    visits, _, left = served(*peers)
    with pytest.raises(QueueFull):
        visits.enter(newcomer("a"))
    assert left == []


def test_a_visit_that_is_over_makes_room_and_may_have_given_way_before() -> None:
    visits, (first, second), left = served("a", "b")
    visits.end(first)
    visits.end(first)
    visits.enter(newcomer("b"))
    assert left == []
    visits.enter(newcomer("c"))
    assert left == ["b"]
    visits.end(second)


async def test_a_stranger_fills_the_audit_log_with_an_owners_name(desks: Desks) -> None:
    """It costs him a hello and a message without a signature; it cost the broker a line for good."""
    before = desks.broker.store.audit_head.count
    for _ in range(9):
        near = await hold(desks, "stranger")
        signed = desks.broker.mesh.signed()
        message = Provision(
            signed_manifest=signed, sealed_goods=b"x", recovery_public=None, signature=bytes(64)
        )
        await near.send(wire.encode(message))
        assert b"signature is wrong" in await near.receive(most=2**22)
    await settled(desks)
    lines = desks.entries()[before:]
    assert [(e.role, e.owner, e.rule) for e in lines] == [("owner", "", "AuthenticationFailed")] * 2
    assert desks.office.lines.close() == 7


# Owners


async def flood(desks: Desks, **how: Any) -> int:
    """Return how many orders in a row are carried out before one is put off."""
    done, refusal = 0, ""
    while not refusal:
        try:
            await desks.order(**how)
            done += 1
        except TransportError as err:
            refusal = str(err)
    assert "comes more often than it may" in refusal
    return done


async def test_an_owner_turns_epochs_without_end(
    two: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queue keys of all models of all owners, each turn a commit and a line that stays."""
    desks = open_desks(two, monkeypatch, visit_burst=3, visits_per_s=0)
    lines = two.store.audit_head.count
    assert await flood(desks) == 3
    assert await flood(desks) == 0
    assert two.store.audit_head.count == lines + 3  # who is put off leaves no line
    other = two.mesh.owners[1]
    assert await flood(desks, owner=other) == 3  # and takes nothing from another owner
    desks.office.close()


async def test_a_signed_refusal_has_its_line_and_its_owner(desks: Desks) -> None:
    with pytest.raises(PolicyDenied):
        await desks.order("beacon", time=NOW + 10**9)
    last = desks.entries()[-1]
    assert (last.owner, last.rule) == (desks.broker.mesh.owners[0].public.hex(), "beacon-ahead")
