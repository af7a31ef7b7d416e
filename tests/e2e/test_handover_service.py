"""New code takes a mesh over on loopback: attested, for good, as often as it takes."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from simulators.two_brokers import SecondBroker
from toy_mesh import MASTER_KEY, NOW, Counter, ToyMesh, digest, goods_of

from wardian._internal import wire
from wardian.broker.frames import FIRST_FRAME_BYTES, connect
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.owners.offers import Offers
from wardian.broker.owners.provisioning import OpenedProvision
from wardian.broker.recovery.client import give_share
from wardian.broker.service import BrokerService
from wardian.broker.standby.course import Heard
from wardian.broker.standby.door import Door
from wardian.broker.standby.handover import first_changes, handed_to, took_over
from wardian.broker.standby.identity import nobody
from wardian.broker.standby.messages import StandbyHello
from wardian.broker.standby.retired import RetiredPlace
from wardian.broker.standby.successor import take_over
from wardian.broker.state.audit import decode_line
from wardian.broker.state.new_life import begin_life
from wardian.broker.state.replica import Replica
from wardian.broker.state.store import Store
from wardian.errors import PolicyDenied, SealError, TransportError

NEW = digest("new broker")
Address = tuple[str, int]


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


class OldBroker:
    """The code of before; the manifest in force lists the new one beside it."""

    def __init__(self, directory: Path) -> None:
        self.path, self.counter, self.mesh = directory / "old.db", Counter(), ToyMesh()
        self.service = BrokerService(
            store=self.open(),
            attest=self.mesh.attest("broker"),
            agreed_toml=self.mesh.agreed_toml,
            clock=lambda: NOW,
        )
        self.address: Address = ("", 0)

    def open(self) -> Store:
        return Store(self.path, master_key=MASTER_KEY, counter=self.counter.seam)

    def provision(self, **changes: object) -> None:
        roles = self.mesh.manifest().roles
        both = RoleReference(measurements=(*roles["broker"].measurements, NEW.hex()))
        signed = self.mesh.signed(roles={**roles, "broker": both}, **changes)
        offers = Offers(self.service.authority)
        offer = OpenedProvision(
            owner=self.mesh.owners[0].public.hex(),
            signed_manifest=signed,
            goods=goods_of(tuple(self.mesh.keys.values())),
            recovery_public=None,
        )
        offers.accept(offer, offered=offers.verify_offer(signed))
        self.mesh.in_force(signed)

    async def restart(self) -> "tuple[Door, Store]":
        """Start it again, as the engine does: there is nothing left to decide."""
        store = self.open()
        assert handed_to(store) == NEW
        place = RetiredPlace(
            store,
            agreed=self.mesh.agreed,
            attest=self.mesh.attest("broker"),
            now=lambda: NOW,
            ticks=lambda: 0.0,
        )
        door = Door(place.answer, context=nobody(now=NOW))
        self.address = await door.start("127.0.0.1", 0)
        return door, store


class NewBroker(SecondBroker):
    """The code of after, in its own thread."""

    def __init__(self, mesh: ToyMesh, path: Path, *, measurement: bytes = NEW) -> None:
        super().__init__(mesh, path, attest=mesh.attest("broker", measurement=measurement))
        self.counter = Counter()

    async def take_over(self, peer: Address) -> None:
        await asyncio.wait_for(self.inside.start(take_over(peer, self.home)), 20)

    @contextlib.contextmanager
    def adopted(self) -> Iterator[Store]:
        assert self.key is not None
        with contextlib.closing(Replica(self.path, master_key=self.key)) as state:
            changes = first_changes(state, own=NEW, counted=self.counter.value)
        begin_life(
            self.path,
            master_key=self.key,
            counter=self.counter.seam,
            changes=changes,
            audit=[took_over(NEW)],
            now=NOW,
        )
        with contextlib.closing(self.open(self.counter)) as store:
            yield store


@pytest.fixture
async def old(tmp_path: Path) -> AsyncIterator[OldBroker]:
    old = OldBroker(tmp_path)
    async with old.service:
        old.address = await old.service.start("127.0.0.1", 0)
        old.provision()
        yield old


@pytest.fixture
def new(old: OldBroker, tmp_path: Path) -> Iterator[NewBroker]:
    new = NewBroker(old.mesh, tmp_path / "new.db")
    yield new
    new.close()


async def test_new_code_takes_the_mesh_over(old: OldBroker, new: NewBroker) -> None:
    ca, before = old.service.authority.ca.certificate, old.service.authority.store.audit_head
    await new.take_over(old.address)
    await asyncio.wait_for(old.service.in_doubt.wait(), 10)  # its role ends it now
    with pytest.raises(SealError):
        old.service.authority.store.commit(audit=[], now=NOW)
    with new.adopted() as store:
        assert store.get("ca", "certificate") == ca
        assert store.get("model-key", store.keys("model-key")[0]) is not None
        entries = [decode_line(raw).entry for raw in store.audit_lines(after=before.count)]
        assert [(entry.event, entry.kind, entry.rule) for entry in entries] == [
            ("release", "master", ""),
            ("standby", "", "handed-over"),
            ("standby", "", "took-over"),
        ]
        assert {entry.measurement for entry in entries} == {NEW.hex()}
        service = BrokerService(
            store=store,
            attest=old.mesh.attest("broker", measurement=NEW),
            agreed_toml=old.mesh.agreed_toml,
            clock=lambda: NOW,
        )
        assert service.authority.measurement == NEW
        await service.aclose()


async def test_the_same_code_follows_and_does_not_take_over(old: OldBroker, tmp_path: Path) -> None:
    same = NewBroker(old.mesh, tmp_path / "same.db", measurement=old.mesh.measurements["broker"])
    try:
        with pytest.raises(PolicyDenied) as caught:
            await same.take_over(old.address)
        assert caught.value.rule == "handover-same"
        assert same.key is None
        assert not old.service.authority.store.retired
    finally:
        same.close()


async def test_code_that_the_manifest_does_not_list(old: OldBroker, tmp_path: Path) -> None:
    other = NewBroker(old.mesh, tmp_path / "other.db", measurement=digest("third"))
    try:
        with pytest.raises(PolicyDenied):
            await other.take_over(old.address)
        assert not old.service.authority.store.retired
    finally:
        other.close()


async def test_a_handover_that_breaks_off_is_finished_after_a_restart(
    old: OldBroker, new: NewBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one has written it down; nothing came through. It is asked again, and gives again."""
    from wardian.broker.standby import desk

    async def breaks(*_: object) -> None:
        raise TransportError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(desk, "give_state", breaks)
        with pytest.raises((TransportError, SealError)):
            await new.take_over(old.address)
    assert not new.path.exists()
    await asyncio.wait_for(old.service.in_doubt.wait(), 10)
    await old.service.aclose()
    door, store = await old.restart()
    try:
        before = store.generation
        for _ in range(2):
            await new.take_over(old.address)
        assert store.generation == before  # it commits nothing more
        # Everybody else is sent on, and no other code is given anything.
        assert await asyncio.wait_for(new.seek(old.address), 10) is Heard.NOT_ACTIVE
        stream = await connect(old.address)
        await stream.send(b"anything")
        assert b"handed its mesh over" in await stream.receive(most=FIRST_FRAME_BYTES)
        await stream.close()
        same = NewBroker(
            old.mesh,
            new.path.with_name("same.db"),
            measurement=old.mesh.measurements["broker"],
        )
        try:
            with pytest.raises(PolicyDenied) as caught:
                await same.take_over(old.address)
            assert caught.value.rule == "handover-other"
        finally:
            same.close()
        with new.adopted() as taken:
            assert taken.audit_head.count == store.audit_head.count + 1
    finally:
        await door.aclose()
        store.close()


async def test_a_successor_does_not_take_an_old_state_for_a_newer_one(
    old: OldBroker, new: NewBroker, tmp_path: Path
) -> None:
    """It was handed the mesh before; then its host shows it a broker on a state of before that."""
    before = tmp_path / "before.db"
    shutil.copy(old.path, before)
    counter = Counter(old.counter.value)
    old.provision(version=2)
    await new.take_over(old.address)
    await old.service.aclose()
    taken = new.path.read_bytes()
    service = BrokerService(
        store=Store(before, master_key=MASTER_KEY, counter=counter.seam),
        attest=old.mesh.attest("broker"),
        agreed_toml=old.mesh.agreed_toml,
        clock=lambda: NOW,
    )
    async with service:
        address = await service.start("127.0.0.1", 0)
        with pytest.raises(PolicyDenied) as caught:
            await new.take_over(address)
        assert caught.value.rule == "standby-manifest"
        assert not service.authority.store.retired
    assert new.path.read_bytes() == taken


async def test_a_retired_broker_is_rationed(old: OldBroker, new: NewBroker) -> None:
    await new.take_over(old.address)
    await old.service.aclose()
    door, store = await old.restart()
    try:
        hello = wire.encode(StandbyHello(wish="take over", tee="x", nonce=bytes(32)))
        answers = []
        for _ in range(20):
            stream = await connect(old.address)
            await stream.send(hello)
            answers.append(await stream.receive(most=FIRST_FRAME_BYTES))
            stream.abort()
        assert any(b'"busy"' in each for each in answers)
    finally:
        await door.aclose()
        store.close()


async def test_a_state_that_was_not_handed_over_is_not_retired(old: OldBroker) -> None:
    with pytest.raises(SealError, match="was not handed over"):
        RetiredPlace(
            old.service.authority.store,
            agreed=old.mesh.agreed,
            attest=old.mesh.attest("broker"),
            now=lambda: NOW,
            ticks=lambda: 0.0,
        )


async def test_nobody_is_left_behind_with_a_refusal_in_a_retired_state(
    old: OldBroker, new: NewBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong after the last commit is not audited: there is no commit any more."""
    from wardian.broker.standby.active_session import ActiveSession

    def breaks(*_: object, **__: object) -> bytes:
        raise PolicyDenied("a bug", rule="test")

    monkeypatch.setattr(ActiveSession, "answer", breaks)
    with pytest.raises(PolicyDenied):
        await new.take_over(old.address)
    await asyncio.wait_for(old.service.in_doubt.wait(), 10)
    with contextlib.closing(
        Store(old.path.with_name("x"), master_key=MASTER_KEY, counter=Counter().seam)
    ):
        pass


# Two owners, one of whom signed for the new code


async def test_an_owner_who_did_not_sign_for_the_new_code_keeps_its_secrets(
    tmp_path: Path,
) -> None:
    """They are locked there until that owner comes (TRUST T7)."""
    from recovery_world import RecoveryWorld

    world = RecoveryWorld(tmp_path, owners=3, threshold=2)
    world.broker.close()
    mesh = world.mesh
    service = BrokerService(
        store=Store(world.broker.path, master_key=MASTER_KEY, counter=world.broker.counter.seam),
        attest=mesh.attest("broker"),
        agreed_toml=mesh.agreed_toml,
        clock=lambda: NOW,
    )
    roles = mesh.manifest().roles
    both = RoleReference(measurements=(*roles["broker"].measurements, NEW.hex()))
    models = (mesh.line("digits"), mesh.line("faces", owner=mesh.owners[2]))
    signed = mesh.signed(version=2, roles={**roles, "broker": both}, models=models)
    new = NewBroker(mesh, tmp_path / "new.db")
    try:
        async with service:
            address = await service.start("127.0.0.1", 0)
            offers = Offers(service.authority)
            offer = OpenedProvision(
                owner=world.public(0),
                signed_manifest=signed,
                goods=goods_of(()),
                recovery_public=None,
            )
            offers.accept(offer, offered=offers.verify_offer(signed))
            await new.take_over(address)
        with new.adopted() as store:
            faces = f"{world.public(2)}/{mesh.keys['faces'].key_id.hex()}"
            assert store.get("model-key", faces) is None
            assert store.keys("model-key") == (
                f"{world.public(0)}/{mesh.keys['digits'].key_id.hex()}",
            )
            successor = BrokerService(
                store=store,
                attest=mesh.attest("broker", measurement=NEW),
                agreed_toml=mesh.agreed_toml,
                clock=lambda: NOW,
            )
            async with successor:
                there = await successor.start("127.0.0.1", 0)
                from wardian.broker.mesh.appraisal import appraisal_policy
                from wardian.broker.mesh.manifest import parse_manifest

                policy = appraisal_policy(parse_manifest(signed), "broker")
                means = world.means(2, policy=lambda _: policy)
                receipt, _ = await give_share(there, means=means, now=lambda: NOW)
                assert receipt.recovered
                assert store.get("model-key", faces) == mesh.keys["faces"].key.reveal()
    finally:
        new.close()
