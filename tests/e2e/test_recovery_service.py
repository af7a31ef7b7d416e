"""Backups from a running broker, and owners who bring one back, on loopback."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from recovery_world import RecoveryWorld
from simulators.two_brokers import SecondBroker
from toy_mesh import NOW, Counter

from wardian._internal import wire
from wardian.broker.frames import FIRST_FRAME_BYTES, FRAME_BYTES, FrameStream, connect
from wardian.broker.recovery.backup import BackupRequest, restore_files, write_backup
from wardian.broker.recovery.backup_client import fetch_backup
from wardian.broker.recovery.client import give_share
from wardian.broker.recovery.gathering import Gathering
from wardian.broker.recovery.place import RecoveryMeans, RecoveryPlace
from wardian.broker.recovery.protocol import RecoveryReceipt, RecoveryShare
from wardian.broker.recovery.sessions import OwnerVisit
from wardian.broker.refusal import decode_or_raise
from wardian.broker.release.client import obtain
from wardian.broker.service import BrokerService
from wardian.broker.standby.door import Door
from wardian.broker.standby.identity import nobody
from wardian.broker.state.audit import AuditHead, decode_line
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store
from wardian.errors import (
    PeerProtocolError,
    PolicyDenied,
    SealError,
    TransportError,
)

Address = tuple[str, int]


class Waiting:
    """A broker that waits for its owners, with the backup in place."""

    def __init__(self, world: RecoveryWorld) -> None:
        self.world, self.counter = world, Counter()
        self.key: MasterKey | None = None
        self.gathering = world.gathering()
        self.ticks = 0.0
        self.place = RecoveryPlace(
            self.gathering,
            RecoveryMeans(
                attest=world.mesh.attest("broker"),
                agreed_digest=world.broker.authority.agreed_digest,
                recover=self.recover,
                ticks=lambda: self.ticks,
            ),
        )
        self.door = Door(self.place.answer, context=nobody(now=NOW))
        self.address: Address = ("", 0)

    def recover(self, gathering: Gathering) -> None:
        self.key = self.world.recover(gathering, self.counter)

    async def give(self, owner: int, /, **changes: object) -> RecoveryReceipt:
        means = self.world.means(owner, **changes)
        receipt, _ = await give_share(self.address, means=means, now=lambda: NOW)
        return receipt

    def service(self) -> BrokerService:
        assert self.key is not None
        return service_of(
            self.world,
            Store(self.world.backup, master_key=self.key, counter=self.counter.seam),
        )


def service_of(world: RecoveryWorld, store: Store) -> BrokerService:
    return BrokerService(
        store=store,
        attest=world.mesh.attest("broker"),
        agreed_toml=world.mesh.agreed_toml,
        clock=lambda: NOW,
    )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RecoveryWorld]:
    world = RecoveryWorld(tmp_path)
    yield world
    world.close()


@pytest.fixture
async def waiting(world: RecoveryWorld) -> AsyncIterator[Waiting]:
    waiting = Waiting(world)
    waiting.address = await waiting.door.start("127.0.0.1", 0)
    yield waiting
    await waiting.door.aclose()


async def test_two_of_three_owners_and_the_third_comes_later(
    world: RecoveryWorld, waiting: Waiting
) -> None:
    first = await waiting.give(0)
    assert (first.have, first.threshold, first.recovered) == (1, 2, False)
    assert not waiting.place.recovered.is_set()
    second = await waiting.give(1)
    assert (second.have, second.recovered) == (2, True)
    await asyncio.wait_for(waiting.place.recovered.wait(), 5)
    async with waiting.service() as service:
        address = await service.start("127.0.0.1", 0)
        ask = {
            "role": "worker",
            "agreed": world.mesh.agreed,
            "attest": world.mesh.attest("worker"),
            "tee": "simulated",
            "now": lambda: NOW,
        }
        admission = await obtain(address, models=("digits",), **ask)
        assert admission.model_key("digits", 1) == world.mesh.keys["digits"].key
        assert admission.mesh_ca == world.broker.authority.ca.certificate
        with pytest.raises(PolicyDenied) as caught:
            await obtain(address, models=("faces",), **ask)
        assert caught.value.rule == "key-given"
        unlocked, _ = await give_share(address, means=world.means(2), now=lambda: NOW)
        assert unlocked.recovered
        admission = await obtain(address, models=("faces",), **ask)
        assert admission.model_key("faces", 1) == world.mesh.keys["faces"].key
        store = service.authority.store
        entries = [decode_line(raw).entry for raw in store.audit_lines(limit=1000)]
        assert [(entry.owner, entry.rule) for entry in entries if entry.event == "recovery"][
            -3:
        ] == [
            *((owner, "recovered") for owner in sorted(world.public(n) for n in (0, 1))),
            (world.public(2), "unlocked"),
        ]
        with pytest.raises(PolicyDenied) as caught:
            await give_share(address, means=world.means(2), now=lambda: NOW)
        assert caught.value.rule == "recovery-nothing"


async def test_the_last_share_does_not_open_a_backup_that_is_too_old(
    world: RecoveryWorld, waiting: Waiting
) -> None:
    """And another owner, who knows of nothing newer, may come in place of the one who does."""
    await waiting.give(0)
    newer = AuditHead(count=10**6, digest="ab" * 32, root="ab" * 32)
    with pytest.raises(TransportError, match="broker"):
        await waiting.give(1, head=world.sign(newer))
    assert not waiting.place.recovered.is_set()
    assert list(waiting.gathering.came) == [world.public(0)]
    assert (await waiting.give(2)).recovered


async def test_refusals_at_a_broker_that_waits(world: RecoveryWorld, waiting: Waiting) -> None:
    await waiting.give(0)
    with pytest.raises(PolicyDenied) as caught:
        await waiting.give(0)
    assert caught.value.rule == "recovery-owner-once"
    from wardian.crypto.signing import SigningKey

    with pytest.raises(PolicyDenied) as caught:
        await waiting.give(1, owner=SigningKey.generate())
    assert caught.value.rule == "recovery-owner"
    for first in (b"x", wire.encode(BackupRequest())):
        stream = await connect(waiting.address)
        await stream.send(first)
        assert b'"recovering"' in await stream.receive(most=FIRST_FRAME_BYTES)
        await stream.close()
    for _ in range(200):  # somebody at another address takes what it can: the owner still comes
        waiting.place._quotes.take("10.0.0.1", waiting.ticks)
    with pytest.raises(PolicyDenied):
        await waiting.give(0)
    for number in range(200):
        waiting.place._quotes.take(f"10.0.1.{number}", waiting.ticks)
    with pytest.raises(TransportError, match="more evidence"):
        await waiting.give(1)
    waiting.ticks += 10
    assert (await waiting.give(1)).recovered
    with pytest.raises(TransportError, match="waits for its owners"):
        await waiting.give(2)


async def test_an_owner_who_hangs_up_is_counted_or_not_and_blocks_nobody(
    world: RecoveryWorld, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waiting.give(0)
    real = FrameStream.send

    async def cut(self: FrameStream, content: bytes, **more: object) -> None:
        if b"recovery receipt" in content:
            raise TransportError("gone")
        await real(self, content, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(FrameStream, "send", cut)
    with pytest.raises(TransportError):
        await waiting.give(1)
    await asyncio.wait_for(waiting.place.recovered.wait(), 5)
    assert waiting.key is not None


# At an open broker


async def test_who_has_nothing_to_unlock(world: RecoveryWorld) -> None:
    world.close()
    async with service_of(world, world_store(world)) as service:
        address = await service.start("127.0.0.1", 0)
        with pytest.raises(PolicyDenied) as caught:
            await give_share(address, means=world.means(0), now=lambda: NOW)
        assert caught.value.rule == "recovery-nothing"
        from wardian.crypto.signing import SigningKey

        with pytest.raises(PolicyDenied) as caught:
            means = world.means(0, owner=SigningKey.generate())
            await give_share(address, means=means, now=lambda: NOW)
        assert caught.value.rule == "owner-known"


def world_store(world: RecoveryWorld) -> Store:
    from toy_mesh import MASTER_KEY

    return Store(world.broker.path, master_key=MASTER_KEY, counter=world.broker.counter.seam)


async def visited(address: Address, world: RecoveryWorld) -> FrameStream:
    """Return a stream to a broker that waits for the third owner's share."""
    stream = await connect(address)
    await stream.send(OwnerVisit(world.means(2)).hello())
    await stream.receive(most=FRAME_BYTES)
    return stream


async def test_a_key_that_opens_nothing_unlocks_nothing(
    world: RecoveryWorld, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waiting.give(0)
    await waiting.give(1)
    async with waiting.service() as service:
        address = await service.start("127.0.0.1", 0)

        def fails(*_: object, **__: object) -> bytes:
            raise SealError("another key")

        with monkeypatch.context() as patch:
            patch.setattr("wardian.broker.recovery.desk.unlock_owned", fails)
            with pytest.raises(PolicyDenied, match="none of the owner"):
                await give_share(address, means=world.means(2), now=lambda: NOW)
        raw = service.authority.store.audit_lines(limit=1000)[-1]
        assert (decode_line(raw).entry.event, decode_line(raw).entry.owner) == (
            "refusal",
            world.public(2),
        )
        gone = await visited(address, world)
        gone.abort()
        stranger = await visited(address, world)
        await stranger.send(wire.encode(RecoveryShare(sealed=b"x" * 32, signature=b"y" * 64)))
        with pytest.raises(PolicyDenied, match="not by this owner"):
            answer = await stranger.receive(most=FIRST_FRAME_BYTES)
            decode_or_raise(answer, RecoveryReceipt, what="receipt")
        stranger.abort()
        raw = service.authority.store.audit_lines(limit=1000)[-1]
        refused = decode_line(raw).entry
        assert (refused.event, refused.role, refused.owner) == ("refusal", "owner", "")
        assert (await give_share(address, means=world.means(2), now=lambda: NOW))[0].recovered


# Backups


async def frames_of(address: Address) -> list[bytes]:
    return [frame async for frame in fetch_backup(address)]


async def test_a_running_broker_is_backed_up(world: RecoveryWorld, tmp_path: Path) -> None:
    world.close()
    world.broker.path.with_suffix(".master").write_bytes(b"sealed key")
    async with service_of(world, world_store(world)) as service:
        address = await service.start("127.0.0.1", 0)
        frames = await frames_of(address)
        generation = service.authority.store.generation
    write_backup(tmp_path / "x.backup", frames)
    (tmp_path / "new").mkdir()
    header = restore_files(tmp_path / "x.backup", tmp_path / "new" / "broker.db")
    assert (header.sealed_key, header.package) == (b"sealed key", world.package)
    from toy_mesh import MASTER_KEY

    with contextlib.closing(
        Store(
            tmp_path / "new" / "broker.db",
            master_key=MASTER_KEY,
            counter=world.broker.counter.seam,
        )
    ) as store:
        assert store.generation == generation


async def test_backups_are_rationed_and_only_the_newest_state_is_given(
    world: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.close()
    monkeypatch.setattr("wardian.broker.recovery.backup_desk.BACKUP_BURST", 2)
    async with service_of(world, world_store(world)) as service:
        address = await service.start("127.0.0.1", 0)
        await frames_of(address)
        world.broker.counter.value += 1 << 32  # another broker counted
        with pytest.raises(TransportError, match="its log says why"):
            await frames_of(address)
        with pytest.raises(TransportError, match="more backups"):
            await frames_of(address)


async def test_what_sends_something_else_is_no_broker(world: RecoveryWorld) -> None:
    async def answer(stream: FrameStream, raw: bytes) -> None:
        assert isinstance(wire.decode(raw, BackupRequest, what="request"), BackupRequest)
        for frame in answers.pop():
            await stream.send(frame)

    from wardian.broker.recovery.backup import BackupHeader

    header = wire.encode(BackupHeader(sealed_key=b"", package=None))
    answers = [[b"{}"], [header, b"\xc1"]]
    door = Door(answer, context=nobody(now=NOW))
    try:
        address = await door.start("127.0.0.1", 0)
        while answers:
            with pytest.raises(PeerProtocolError):
                await frames_of(address)
    finally:
        await door.aclose()


async def test_a_standby_gives_no_backup(world: RecoveryWorld, tmp_path: Path) -> None:
    second = SecondBroker(world.mesh, tmp_path / "second.db")
    try:
        with pytest.raises(TransportError, match="stands by"):
            await frames_of(second.address)
    finally:
        second.close()
