"""The desks of owners and of the manifest log, with streams in memory in the place of sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from toy_desks import ADDRESS, Desks, Stream, connection, open_desks
from toy_mesh import NOW, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.broker.owners import manifest_log
from wardian.broker.owners.goods import Goods, _SecretRecord
from wardian.broker.owners.manifest_log import ManifestLog, ManifestLogRequest, read_log
from wardian.broker.owners.protocol import OwnerHello
from wardian.cli.mesh.files import said_time
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.errors import (
    AuthenticationFailed,
    PeerProtocolError,
    PolicyDenied,
    TransportError,
)


@pytest.fixture
def bare(mesh: ToyMesh, tmp_path: Path) -> Iterator[ToyBroker]:
    with closing(ToyBroker(mesh, tmp_path / "bare.db", provisioned=False)) as broker:
        yield broker


@pytest.fixture
async def desks(bare: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desks]:
    desks = open_desks(bare, monkeypatch)
    yield desks
    desks.office.close()


async def denied(visit: Awaitable[Any]) -> str:
    with pytest.raises(PolicyDenied) as caught:
        await visit
    return caught.value.rule


async def test_a_visit_from_hello_to_receipt(desks: Desks) -> None:
    done = await desks.give(recovery_public=b"r" * 32)
    assert (done.receipt.manifest_version, done.receipt.missing) == (1, ())
    assert done.mesh_ca == desks.broker.authority.ca.certificate
    assert desks.places[0].firm
    assert desks.broker.authority.clock.floor > 0  # the broker's own collateral dates it
    public = desks.broker.mesh.owners[0].public.hex()
    assert desks.broker.store.get("recovery-public", public) == b"r" * 32


async def test_an_order_from_hello_to_receipt(desks: Desks) -> None:
    with pytest.raises(TransportError, match="no mesh manifest yet"):
        await desks.order()
    assert [each.event for each in desks.entries()] == ["start", "start"]  # nothing was decided
    await desks.give()
    assert (await desks.order()).receipt.epoch == 2
    assert (await desks.order("beacon", time=NOW + 5)).receipt.time == NOW + 5


async def test_a_stranger_costs_no_quote_and_no_audit_line(desks: Desks) -> None:
    before = desks.broker.store.audit_head
    for visit in (
        desks.give(owner=SigningKey.generate()),
        desks.order(owner=SigningKey.generate()),
    ):
        assert await denied(visit) == "owner-known"
    assert desks.broker.store.audit_head == before
    assert not desks.places[0].firm


async def test_a_refused_change_has_its_audit_line(desks: Desks) -> None:
    await desks.give()
    assert await denied(desks.give(desks.broker.mesh.signed(models=()))) == "manifest-version"
    assert await denied(desks.order("beacon", time=2**40)) == "beacon-ahead"
    refusals = [(e.role, e.rule) for e in desks.entries() if e.outcome == "refused"]
    assert refusals == [("owner", "manifest-version"), ("owner", "beacon-ahead")]


async def test_t11_a_manifest_that_does_not_accept_this_broker(desks: Desks) -> None:
    mesh = desks.broker.mesh
    roles = dict(mesh.manifest().roles)
    roles["broker"] = type(roles["broker"])(measurements=(digest("another broker").hex(),))
    assert await denied(desks.give(mesh.signed(roles=roles))) == "MeasurementIn"
    assert desks.broker.authority.manifest_version == 0


async def test_an_owner_who_leaves_is_not_audited(desks: Desks) -> None:
    before = desks.broker.store.audit_head
    near = await desks.connect(ADDRESS)
    hello = OwnerHello(owner=desks.broker.mesh.owners[0].public.hex(), nonce=bytes(32))
    await near.send(wire.encode(hello))
    await near.receive(most=2**22)
    await near.close()
    while desks._tasks:
        await asyncio.sleep(0)
    assert desks.broker.store.audit_head == before
    await desks.give()  # its place among the visitors is free again


async def test_so_many_owners_and_no_more(bare: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    desks = open_desks(bare, monkeypatch, owners=1)
    near = await desks.connect(ADDRESS)
    hello = OwnerHello(owner=bare.mesh.owners[0].public.hex(), nonce=bytes(32))
    await near.send(wire.encode(hello))
    await near.receive(most=2**22)
    with pytest.raises(TransportError, match="come back later"):
        await desks.give()
    await near.close()
    desks.office.close()


async def test_an_owners_visit_costs_a_quote(
    bare: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    desks = open_desks(bare, monkeypatch, quote_burst=1, quotes_per_s=0)
    await desks.give()
    with pytest.raises(TransportError, match="more evidence than it can make"):
        await desks.order()
    desks.office.close()


# The log


async def test_the_log_from_request_to_chain(desks: Desks) -> None:
    assert await read_log(ADDRESS, mesh=desks.broker.mesh.agreed.mesh) == ()
    await desks.give()
    desks.broker.mesh.in_force(desks.broker.mesh.signed())
    await desks.give(desks.broker.mesh.signed(version=2))
    entries = await read_log(ADDRESS, mesh=desks.broker.mesh.agreed.mesh)
    assert [each.manifest.manifest.version for each in entries] == [1, 2]
    assert [each.accepted for each in entries] == [NOW, NOW]
    assert entries[-1].manifest.digest == desks.broker.authority.manifest_digest


async def test_a_log_of_many_pages(desks: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_log, "PAGE_BYTES", 10)
    for version in (1, 2, 3):
        desks.broker.provision(desks.broker.mesh.signed(version=version))
    entries = await read_log(ADDRESS, mesh=desks.broker.mesh.agreed.mesh)
    assert len(entries) == 3


async def test_a_log_for_other_owners_is_not_believed(desks: Desks) -> None:
    desks.broker.provision(desks.broker.mesh.signed())
    with pytest.raises(PolicyDenied):
        await read_log(ADDRESS, mesh=ToyMesh().agreed.mesh)


async def test_so_many_pages_a_second(bare: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    desks = open_desks(bare, monkeypatch, status_burst=1, statuses_per_s=0)
    mesh = bare.mesh.agreed.mesh
    await read_log(ADDRESS, mesh=mesh)
    with pytest.raises(TransportError, match="more manifests than it can tell"):
        await read_log(ADDRESS, mesh=mesh)
    desks.office.close()


async def test_a_broker_that_was_overtaken_tells_no_log(desks: Desks) -> None:
    """Another one counts on a copy of its state: what it tells may not be the newest."""
    desks.broker.counter.value += 1
    with pytest.raises(TransportError, match="its log says why"):
        await read_log(ADDRESS, mesh=desks.broker.mesh.agreed.mesh)


@pytest.mark.parametrize("page", ["empty and more", "the same again", "garbage"])
async def test_a_host_that_tells_a_log_without_end(
    desks: Desks, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    desks.broker.provision(desks.broker.mesh.signed())
    whole = manifest_log.tell_log(desks.broker.store, ManifestLogRequest())
    answer = {
        "empty and more": wire.encode(ManifestLog(editions=(), more=True)),
        "the same again": wire.encode(ManifestLog(editions=whole.editions, more=True)),
        "garbage": b"garbage",
    }[page]

    async def lie(_: object) -> Stream:
        near, _ = connection()
        near.incoming.put_nowait(answer)
        return near

    monkeypatch.setattr(manifest_log, "connect", lie)
    reading = read_log(ADDRESS, mesh=desks.broker.mesh.agreed.mesh)
    if page == "empty and more":
        assert await reading == ()
    else:
        with pytest.raises((PolicyDenied, PeerProtocolError, AuthenticationFailed)):
            await reading


@pytest.mark.parametrize("accepted", [-1, 2**62, 10**40])
async def test_a_host_that_tells_a_time_that_there_is_not(
    desks: Desks, monkeypatch: pytest.MonkeyPatch, accepted: int
) -> None:
    """Nobody signs it: it broke the program of whoever asked."""
    desks.broker.provision(desks.broker.mesh.signed())
    whole = wire.encode(manifest_log.tell_log(desks.broker.store, ManifestLogRequest()))

    async def lie(_: object) -> Stream:
        near, _ = connection()
        near.incoming.put_nowait(whole.replace(str(NOW).encode(), str(accepted).encode(), 1))
        return near

    monkeypatch.setattr(manifest_log, "connect", lie)
    with pytest.raises(PeerProtocolError):
        await read_log(ADDRESS, mesh=desks.broker.mesh.agreed.mesh)


@pytest.mark.parametrize("at", [-(2**70), -1, 2**41, 2**62, 10**40])
def test_a_time_that_there_is_not_is_shown_all_the_same(at: int) -> None:
    assert said_time(at).endswith("Z")


async def test_a_clock_beyond_all_time_breaks_no_log(desks: Desks) -> None:
    """The host's clock stood wrong when a manifest came into force; the log is told for good."""
    mesh = desks.broker.mesh
    desks.broker.provision(mesh.signed())
    edition = manifest_log.edition_change(mesh.signed(), version=2, now=2**60)
    (raw,) = edition.values()
    assert raw is not None
    assert wire.decode(raw, manifest_log.Edition, what="x").accepted == manifest_log.LAST_TIME


def test_what_owners_give_does_not_print() -> None:
    record = _SecretRecord(name="license", value=b"VALUE")
    goods = Goods(secrets={"license": Secret(b"VALUE")})
    assert "VALUE" not in f"{record!r} {record!s} {goods!r}"
