"""Two brokers on loopback: every commit is on both disks before anybody is told of it."""

import asyncio
import contextlib
import dataclasses
import errno
import shutil
import sqlite3
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from simulators.two_brokers import SecondBroker, free_port
from toy_mesh import MASTER_KEY, NOW, OTHER_PLATFORM, Counter, ToyMesh, digest, goods_of

from wardian._internal import wire
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.limits import SharedBucket
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.owners.offers import Offers
from wardian.broker.owners.provisioning import OpenedProvision
from wardian.broker.recovery.backup import key_path
from wardian.broker.refusal import Refusal
from wardian.broker.release.client import obtain
from wardian.broker.service import BrokerService
from wardian.broker.standby import desk as desks
from wardian.broker.standby import follower as followers
from wardian.broker.standby import place as places
from wardian.broker.standby.commits import CommitsLink
from wardian.broker.standby.course import Heard
from wardian.broker.standby.follower import known_manifest
from wardian.broker.standby.messages import CommitsHello, StandbyHello
from wardian.broker.standby.standby_session import KnownManifest
from wardian.broker.standby.standbys import Standbys
from wardian.broker.standby.watch import watch
from wardian.broker.state.audit import verify_chain
from wardian.broker.state.replica import Replica
from wardian.broker.state.store import Store
from wardian.errors import ConfigError, SealError, StateRolledBack, TransportError

Address = tuple[str, int]


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


class Active:
    """The broker that decides, in this thread."""

    def __init__(self, mesh: ToyMesh, path: Path, peer: Address, counter: Counter) -> None:
        self.mesh = mesh
        self.standbys = Standbys(peer)
        self.store = Store(
            path, master_key=MASTER_KEY, counter=counter.seam, replicas=self.standbys
        )
        self.service = BrokerService(
            store=self.store,
            attest=mesh.attest("broker"),
            agreed_toml=mesh.agreed_toml,
            clock=lambda: NOW,
        )
        self.address: Address = ("", 0)

    def provision(self, **changes: object) -> None:
        """Put a manifest in force as the owner would, past the messages."""
        signed, offers = self.mesh.signed(**changes), Offers(self.service.authority)
        offer = OpenedProvision(
            owner=self.mesh.owners[0].public.hex(),
            signed_manifest=signed,
            goods=goods_of(tuple(self.mesh.keys.values())),
            recovery_public=None,
        )
        offers.accept(offer, offered=offers.verify_offer(signed))
        self.mesh.in_force(signed)

    def record(self, name: str = "x") -> None:
        authority = self.service.authority
        entry = authority.entry(event="epoch", outcome="granted", rule="test")
        authority.record([entry], {("t", name): b"1"})


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def mesh() -> ToyMesh:
    return ToyMesh()


@pytest.fixture
def second(mesh: ToyMesh, tmp_path: Path) -> Iterator[SecondBroker]:
    (tmp_path / "second").mkdir()
    second = SecondBroker(mesh, tmp_path / "second" / "broker.db")
    yield second
    second.close()


@pytest.fixture
async def active(
    mesh: ToyMesh, second: SecondBroker, counter: Counter, tmp_path: Path
) -> AsyncIterator[Active]:
    active = Active(mesh, tmp_path / "broker.db", second.address, counter)
    async with active.service:
        active.address = await active.service.start("127.0.0.1", 0)
        active.provision()
        yield active
        active.standbys.close()


async def follow(active: Active, second: SecondBroker) -> "asyncio.Future[Heard]":
    seeking = second.seek(active.address)
    await eventually(lambda: active.standbys.kept_up or seeking.done())
    assert not seeking.done(), seeking.result()
    return seeking


async def test_a_standby_is_kept_up_and_takes_over(
    active: Active, second: SecondBroker, counter: Counter
) -> None:
    seeking = await follow(active, second)
    assert second.kept == [second.key]
    admission = await obtain(
        active.address,
        role="worker",
        models=("digits",),
        agreed=active.mesh.agreed,
        attest=active.mesh.attest("worker"),
        tee="simulated",
        now=lambda: NOW,
    )
    active.record()
    lines = active.store.audit_lines(limit=1000)
    await active.service.aclose()  # the process is gone
    active.standbys.close()
    assert await asyncio.wait_for(seeking, 10) is Heard.FOLLOWED
    with contextlib.closing(second.open(counter)) as newest:
        assert newest.audit_lines(limit=1000) == lines
        assert newest.get("t", "x") == b"1"
        read = verify_chain(lines, head=newest.audit_head)
        given = [line.entry for line in read if line.entry.kind == "master"]
        assert [(entry.role, entry.measurement) for entry in given] == [
            ("broker", active.mesh.measurements["broker"].hex())
        ]
        assert [line.entry.rule for line in read if line.entry.event == "standby"] == ["kept-up"]
        assert newest.get("model-key", newest.keys("model-key")[0]) is not None
    assert admission.model_key("digits", 1) == active.mesh.keys["digits"].key


async def test_what_is_committed_while_the_state_travels_follows_it(
    active: Active, second: SecondBroker, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dial_late(address: Address, **session: object) -> CommitsLink:
        committed.wait(10)
        return commits_dial(address, **session)  # type: ignore[arg-type]

    committed, commits_dial = threading.Event(), desks.dial
    monkeypatch.setattr(desks, "dial", dial_late)
    seeking = second.seek(active.address)
    await eventually(lambda: second.place.following is not None)
    for number in range(3):
        active.record(f"meanwhile-{number}")
    committed.set()
    await eventually(lambda: active.standbys.kept_up)
    active.record("after")
    generation = active.store.generation
    active.standbys.close()
    assert await asyncio.wait_for(seeking, 10) is Heard.FOLLOWED
    with contextlib.closing(second.open(counter)) as newest:
        assert newest.generation == generation
        assert len(newest.keys("t")) == 4


async def test_more_than_waits_for_a_standby_makes_it_begin_anew(
    active: Active, second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.broker.standby.standbys.MOST_WAITING", 2)
    monkeypatch.setattr(followers, "CALLED_BACK_S", 1.0)
    let, real = threading.Event(), desks.dial
    monkeypatch.setattr(
        desks, "dial", lambda address, **session: (let.wait(10), real(address, **session))[1]
    )
    seeking = second.seek(active.address)
    await eventually(lambda: second.place.following is not None)
    for number in range(4):
        active.record(str(number))
    let.set()
    assert await asyncio.wait_for(seeking, 10) in (Heard.COPIED, Heard.FOLLOWED)
    assert not active.standbys.kept_up
    await follow(active, second)


async def test_a_standby_that_does_not_answer_is_given_up_and_noted(
    active: Active, second: SecondBroker, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeking = await follow(active, second)
    watching = asyncio.create_task(watch(active.standbys, active.service.authority, beat_s=0.05))
    try:
        await asyncio.sleep(0.3)  # it beats, and the standby answers
        assert active.standbys.kept_up
        monkeypatch.setattr(active.standbys._links[0], "_answer_s", 0.2)
        hang, hung = threading.Event(), threading.Event()

        def apply(*_: object) -> None:
            hung.set()
            hang.wait(10)
            raise SealError("its disk is slow")

        monkeypatch.setattr(Replica, "apply", apply)
        active.record("only here")
        assert hung.is_set()
        assert not active.standbys.kept_up
        hang.set()
        assert await asyncio.wait_for(seeking, 10) is Heard.FOLLOWED
        await eventually(lambda: b'"lost"' in active.store.audit_lines(limit=1000)[-1])
        with pytest.raises(StateRolledBack):  # what it lacks was answered
            second.open(counter)
    finally:
        watching.cancel()


async def test_a_watch_ends_where_the_line_cannot_be_written(
    active: Active, second: SecondBroker, counter: Counter
) -> None:
    watching = asyncio.create_task(watch(active.standbys, active.service.authority, beat_s=10))
    await asyncio.sleep(0)
    counter.value += 1 << 32  # another broker counted
    active.standbys.on_lost()
    with pytest.raises(SealError):
        await asyncio.wait_for(watching, 10)


async def test_a_standby_that_comes_back_replaces_itself(
    active: Active, second: SecondBroker
) -> None:
    """It was restarted, and the active one has not noticed yet."""
    await follow(active, second)
    first = active.standbys._links[0]
    second.close()
    restarted = SecondBroker(active.mesh, second.path, port=second.port)
    try:
        restarted.key = second.key
        again = restarted.seek(active.address)
        await eventually(
            lambda: first not in active.standbys._links and len(active.standbys._links) == 1
        )
        active.record()
        assert active.standbys.kept_up
        assert not again.done()
    finally:
        restarted.close()


# Other code, which the owners admitted beside the active one's


async def test_other_code_does_not_stand_by(mesh: ToyMesh, active: Active, tmp_path: Path) -> None:
    """It could never take over, for the counter is not its own, and gets no key for it."""
    new = digest("new broker")
    roles = mesh.manifest().roles
    both = RoleReference(measurements=(*roles["broker"].measurements, new.hex()))
    active.provision(version=2, roles={**roles, "broker": both})
    second = SecondBroker(mesh, tmp_path / "new.db", attest=mesh.attest("broker", measurement=new))
    active.standbys.peer = second.address
    try:
        assert await heard(active, second) is Heard.REFUSES
        assert second.key is None
        assert b'"standby-other"' in active.store.audit_lines(limit=1000)[-1]
        assert not active.standbys.kept_up
    finally:
        second.close()


async def test_a_standby_that_says_something_else_than_that_it_took_the_state(
    active: Active, second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "TAKEN", b"so what")
    monkeypatch.setattr(followers, "CALLED_BACK_S", 0.3)
    assert await heard(active, second) is Heard.COPIED
    assert not active.standbys.kept_up


def fork(active: Active, second: SecondBroker, counter: Counter) -> int:
    """Let the standby write what was never shipped or counted; return that generation."""
    with contextlib.closing(second.open(Counter(counter.value))) as store:
        entry = active.service.authority.entry(event="start", outcome="granted")
        store.commit({("t", "never acted upon"): b"1"}, audit=[entry], now=NOW)
        return store.generation


async def test_a_copy_that_does_not_go_on_from_the_state_here_moves_it_aside(
    active: Active, second: SecondBroker, counter: Counter, tmp_path: Path
) -> None:
    """It was active once, wrote a commit, and was killed before that was shipped or counted."""
    seeking = await follow(active, second)
    active.standbys.close()
    assert await asyncio.wait_for(seeking, 10) is Heard.FOLLOWED
    generation = fork(active, second, counter)
    key_path(second.path).write_bytes(b"sealed, with all that this broker knew of owners' keys")
    await follow(active, second)
    assert second.path.with_name(f"broker.db.forked-{generation}").exists()
    kept = second.path.with_name(f"broker.db.forked-{generation}.master")
    assert kept.read_bytes() == b"sealed, with all that this broker knew of owners' keys"


async def test_a_standby_that_cannot_be_attached_is_hung_up_on(
    active: Active, second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has another copy than it was sent: it hears that it is lost at once, and begins anew."""
    links: list[CommitsLink] = []
    real, mark = desks.dial, CommitsLink.beat

    def dial(address: Address, **session: object) -> CommitsLink:
        links.append(real(address, **session))  # type: ignore[arg-type]
        return links[-1]

    monkeypatch.setattr(desks, "dial", dial)
    monkeypatch.setattr(CommitsLink, "beat", lambda self: mark(self)[::-1])
    assert await heard(active, second) is Heard.FOLLOWED  # it was called, and hung up on
    (link,) = links
    assert link._socket.fileno() == -1
    assert not active.standbys.kept_up
    monkeypatch.undo()
    await follow(active, second)


async def test_a_state_without_a_key_beside_it_is_moved_aside_alone(
    active: Active, second: SecondBroker, counter: Counter
) -> None:
    seeking = await follow(active, second)
    active.standbys.close()
    assert await asyncio.wait_for(seeking, 10) is Heard.FOLLOWED
    generation = fork(active, second, counter)
    assert not key_path(second.path).exists()
    await follow(active, second)
    aside = second.path.with_name(f"broker.db.forked-{generation}")
    assert aside.exists()
    assert not aside.with_name(f"{aside.name}.master").exists()


async def test_a_key_that_cannot_be_kept_aside_is_told(
    active: Active, second: SecondBroker, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the state that was moved aside is lost: nobody goes on as if nothing was."""
    seeking = await follow(active, second)
    active.standbys.close()
    assert await asyncio.wait_for(seeking, 10) is Heard.FOLLOWED
    fork(active, second, counter)
    key_path(second.path).write_bytes(b"sealed")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(followers, "replace_file", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        followers._keep_aside(second.path, b"sealed")
    assert await heard(active, second) is Heard.BROKE_OFF


# Who is refused


async def heard(active: Active, second: SecondBroker) -> Heard:
    return await asyncio.wait_for(second.seek(active.address), 15)


@pytest.mark.parametrize(
    "measured", [digest("other code"), digest("worker")], ids=["unlisted", "another role"]
)
async def test_code_that_the_owners_did_not_admit_gets_no_key(
    mesh: ToyMesh, active: Active, tmp_path: Path, measured: bytes
) -> None:
    attest = mesh.attest("broker", measurement=measured)
    second = SecondBroker(mesh, tmp_path / "other.db", attest=attest)
    try:
        assert await heard(active, second) is Heard.REFUSES
    finally:
        second.close()
    assert (second.key, second.path.exists()) == (None, False)
    lines = verify_chain(active.store.audit_lines(limit=1000), head=active.store.audit_head)
    assert (lines[-1].entry.event, lines[-1].entry.role) == ("refusal", "broker")


async def test_an_active_of_other_code_is_not_followed(
    mesh: ToyMesh, second: SecondBroker, counter: Counter, tmp_path: Path
) -> None:
    """It has every file and an old manifest, and runs what the owners never admitted."""
    fake = Active(mesh, tmp_path / "fake.db", second.address, counter)
    fake.service._office._attest = mesh.attest("broker", platform=OTHER_PLATFORM)
    async with fake.service:
        fake.address = await fake.service.start("127.0.0.1", 0)
        fake.provision()
        assert await heard(fake, second) is Heard.NOT_ACTIVE
    assert second.key is None


async def test_a_broker_on_an_old_state_is_not_followed(
    mesh: ToyMesh,
    second: SecondBroker,
    counter: Counter,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its host put back state and counter, with a manifest that lists what was withdrawn since.

    It is attested code with the owners' signatures; what lies here is newer, and stays here.
    """
    old, old_counter = tmp_path / "old.db", Counter()
    active = Active(mesh, tmp_path / "broker.db", second.address, counter)
    async with active.service:
        active.address = await active.service.start("127.0.0.1", 0)
        active.provision()
        shutil.copy(active.store.path, old)
        old_counter.value = counter.value
        active.provision(version=2)
        seeking = await follow(active, second)
    active.standbys.close()
    assert await asyncio.wait_for(seeking, 10) is Heard.FOLLOWED
    kept, before = list(second.kept), second.path.read_bytes()
    rolled_back = Active(mesh, old, second.address, old_counter)
    async with rolled_back.service:
        rolled_back.address = await rolled_back.service.start("127.0.0.1", 0)
        assert rolled_back.service.authority.manifest_version == 1
        caplog.clear()
        assert await heard(rolled_back, second) is Heard.NOT_ACTIVE
        told = [record.fields for record in caplog.records if record.msg == "standby.no-broker"]
        assert told == [{"error": "PolicyDenied", "rule": "standby-manifest"}]
        assert (second.kept, second.path.read_bytes()) == (kept, before)
        # What lies here does not open: there is nothing to tell an old manifest by.
        key, second.key = second.key, None
        assert await asyncio.wait_for(second.seek(rolled_back.address), 15) is not Heard.NOT_ACTIVE
    rolled_back.standbys.close()
    second.key = key


async def test_a_standby_s_own_state_that_cannot_be_read_says_nothing_of_a_manifest(
    mesh: ToyMesh, active: Active, second: SecondBroker
) -> None:
    assert known_manifest(second.home) is None  # neither key nor state
    second.key = MASTER_KEY
    assert known_manifest(second.home) is None  # no state
    second.path.write_bytes(b"what a crash left")
    assert known_manifest(second.home) is None
    second.path.unlink()
    with contextlib.closing(Store(second.path, master_key=MASTER_KEY, counter=Counter().seam)):
        pass
    assert known_manifest(second.home) is None  # nothing was ever decided in it
    second.path.unlink()
    await follow(active, second)
    copy = second.path.with_name("copy.db")
    shutil.copy(second.path, copy)
    home = dataclasses.replace(second.home, path=copy)
    manifest = active.service.authority.manifest
    assert known_manifest(home) == KnownManifest(version=1, digest=manifest.digest)
    with contextlib.closing(sqlite3.connect(copy)) as altered, altered:
        altered.execute("UPDATE rows SET sealed = x'00' WHERE place = 'manifest'")
    assert known_manifest(home) is None

    def broken() -> None:
        raise SealError("sealed by another enclave")

    assert known_manifest(dataclasses.replace(home, load_key=broken)) is None


async def test_a_broker_of_another_mesh_does_not_replace_the_state(
    mesh: ToyMesh, active: Active, second: SecondBroker, tmp_path: Path
) -> None:
    """The same owners and code, another life: the host leads the standby astray."""
    from wardian.broker.state.master_key import MasterKey

    own = MasterKey.random()
    with contextlib.closing(Store(second.path, master_key=own, counter=Counter().seam)) as store:
        store.commit(
            {("t", "mine"): b"1"},
            audit=[active.service.authority.entry(event="start", outcome="granted")],
            now=NOW,
        )
    before, second.key = second.path.read_bytes(), own
    assert await heard(active, second) is Heard.REFUSES
    assert (second.path.read_bytes(), second.key) == (before, own)
    second.path.write_bytes(b"what a crash left")  # unreadable is not nobody's
    assert await heard(active, second) is Heard.REFUSES
    second.path.unlink()
    second.key = own
    assert not (await follow(active, second)).done()  # nothing was decided here: it may go


async def test_a_state_of_another_ca_than_the_broker_that_was_attested(
    active: Active, second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "verify_ca_certificate", lambda _: b"another")
    assert await heard(active, second) is Heard.BROKE_OFF
    assert not second.path.exists()


async def test_a_state_that_is_altered_on_the_way(
    active: Active, second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wardian.broker.standby.channel import Sender

    real = Sender.frame

    def altered(self: Sender, content: bytes) -> bytes:
        return real(self, content)[:-1] + b"x"

    monkeypatch.setattr(Sender, "frame", altered)
    assert await heard(active, second) is Heard.BROKE_OFF
    assert not second.path.exists()


async def test_a_broker_without_a_peer_has_no_standby(
    mesh: ToyMesh, second: SecondBroker, tmp_path: Path
) -> None:
    service = BrokerService(
        store=Store(tmp_path / "alone.db", master_key=MASTER_KEY, counter=Counter().seam),
        attest=mesh.attest("broker"),
        agreed_toml=mesh.agreed_toml,
        clock=lambda: NOW,
    )
    async with service:
        address = await service.start("127.0.0.1", 0)
        assert await asyncio.wait_for(second.seek(address), 10) is Heard.NOT_ACTIVE


async def test_an_active_without_a_manifest_has_no_standby_yet(
    mesh: ToyMesh, second: SecondBroker, counter: Counter, tmp_path: Path
) -> None:
    active = Active(mesh, tmp_path / "fresh.db", second.address, counter)
    async with active.service:
        active.address = await active.service.start("127.0.0.1", 0)
        assert await heard(active, second) is Heard.NOT_ACTIVE


async def test_the_manifest_changes_while_the_standby_proves_itself(
    mesh: ToyMesh, active: Active, second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    office, real = active.service._office, active.service._office.verify

    async def verify_late(*args: object, **more: object):
        result = await real(*args, **more)  # type: ignore[arg-type]
        other = RoleReference(measurements=(digest("new broker").hex(),))
        active.provision(version=2, roles={**mesh.manifest().roles, "broker": other})
        return result

    monkeypatch.setattr(type(office), "verify", lambda _, *args, **more: verify_late(*args, **more))
    assert await heard(active, second) is Heard.BROKE_OFF
    assert second.key is None


async def test_the_manifest_changes_while_the_standby_is_called(
    mesh: ToyMesh,
    active: Active,
    second: SecondBroker,
    counter: Counter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was admitted by the manifest of before, which may be why there is another: not kept up."""
    links: list[CommitsLink] = []
    changed, real = threading.Event(), desks.dial

    def dial_late(address: Address, **session: object) -> CommitsLink:
        changed.wait(10)
        links.append(real(address, **session))  # type: ignore[arg-type]
        return links[-1]

    monkeypatch.setattr(desks, "dial", dial_late)
    monkeypatch.setattr(followers, "CALLED_BACK_S", 1.0)
    seeking = second.seek(active.address)
    await eventually(lambda: second.place.following is not None)
    active.provision(version=2)
    changed.set()
    assert await asyncio.wait_for(seeking, 10) is Heard.COPIED
    (link,) = links
    assert link._socket.fileno() == -1
    assert not active.standbys.kept_up
    with pytest.raises(StateRolledBack):  # what it has is of before
        second.open(counter)
    await follow(active, second)  # and it shows again what it is


async def test_asking_is_rationed_like_any_quote(active: Active, second: SecondBroker) -> None:
    active.service._office._quotes = SharedBucket(
        per_s=0, burst=0, peer_per_s=0, peer_burst=0, now=0.0
    )
    assert await heard(active, second) is Heard.REFUSES


# The standby's door


async def ask_at(address: Address, raw: bytes) -> Refusal:
    stream = await connect(address)
    try:
        await stream.send(raw)
        return wire.decode(await stream.receive(most=FRAME_BYTES), Refusal, what="refusal")
    finally:
        await stream.close()


async def test_a_standby_serves_nobody_and_says_so(mesh: ToyMesh, second: SecondBroker) -> None:
    with pytest.raises(TransportError, match="stands by") as caught:
        await obtain(
            second.address,
            role="worker",
            models=("digits",),
            agreed=mesh.agreed,
            attest=mesh.attest("worker"),
            tee="simulated",
            now=lambda: NOW,
        )
    assert caught.value.retryable
    for raw in (b"garbage", wire.encode(CommitsHello(session=bytes(16)))):
        assert (await ask_at(second.address, raw)).rule == "standby"


async def test_two_standbys_do_not_follow_each_other(mesh: ToyMesh, second: SecondBroker) -> None:
    assert await asyncio.wait_for(second.seek(second.address), 10) is Heard.NOT_ACTIVE


async def test_nobody_there(second: SecondBroker) -> None:
    nobody = ("127.0.0.1", free_port())
    assert await asyncio.wait_for(second.seek(nobody), 10) is Heard.SILENT


async def test_who_answers_and_says_nothing(
    second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wardian.broker.standby.door import Door
    from wardian.broker.standby.identity import nobody

    async def silent(stream, raw: bytes) -> None:
        assert wire.decode(raw, StandbyHello, what="hello").wish == "follow"

    door = Door(silent, context=nobody(now=NOW))
    try:
        address = await door.start("127.0.0.1", 0)
        assert await asyncio.wait_for(second.seek(address), 10) is Heard.SILENT
    finally:
        await door.aclose()


async def test_whoever_has_not_the_session_key_ships_no_commit(
    active: Active, second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows the session's name, which only the two know, and still is nobody."""
    from wardian.broker.standby.commits import dial
    from wardian.crypto.secret import Secret

    sessions, real = [], desks.dial

    def dial_with_a_stranger(address: Address, **session: object) -> CommitsLink:
        sessions.append(session["session"])
        stranger = dial(address, session=sessions[-1], session_key=Secret.random())
        with pytest.raises(TransportError):
            stranger.beat()
        stranger.close()
        return real(address, **session)  # type: ignore[arg-type]

    monkeypatch.setattr(desks, "dial", dial_with_a_stranger)
    await follow(active, second)
    active.record()
    taken = await ask_at(second.address, wire.encode(CommitsHello(session=sessions[-1])))
    assert taken.rule == "standby"  # the session is spoken in: nobody else gets in


async def test_an_active_that_sends_something_else_or_falls_silent_is_lost(
    active: Active, second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeking = await follow(active, second)
    with pytest.raises(TransportError):
        active.standbys._links[0]._exchange(b"\x07")
    assert await asyncio.wait_for(seeking, 10) is Heard.FOLLOWED
    monkeypatch.setattr(places, "SILENCE_S", 0.3)
    seeking = await follow(active, second)
    assert await asyncio.wait_for(seeking, 10) is Heard.FOLLOWED


async def test_a_standby_that_is_never_called(
    active: Active, second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    active.standbys.peer = ("127.0.0.1", free_port())
    monkeypatch.setattr(followers, "CALLED_BACK_S", 0.3)
    assert await heard(active, second) is Heard.COPIED
    assert not active.standbys.kept_up


async def test_a_standby_with_another_copy_than_it_was_sent(
    active: Active, second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CommitsLink, "beat", lambda _: bytes(32))
    monkeypatch.setattr(followers, "CALLED_BACK_S", 0.5)
    await heard(active, second)
    assert not active.standbys.kept_up


async def test_a_door_that_cannot_open(mesh: ToyMesh, second: SecondBroker) -> None:
    from wardian.broker.standby.door import Door
    from wardian.broker.standby.identity import nobody

    door = Door(second.place.answer, context=nobody(now=NOW))
    with pytest.raises(ConfigError, match="cannot listen"):
        await door.start("127.0.0.1", second.port)
    await door.aclose()


async def test_a_door_has_so_many_places(
    second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.broker.standby.door.MOST", 1)
    held = await connect(second.address)
    await eventually(lambda: len(second.door._visits) == 1)
    with pytest.raises(TransportError):
        await ask_at(second.address, b"x")
    await held.close()
    await eventually(lambda: not second.door._visits)
    assert (await ask_at(second.address, b"x")).rule == "standby"


async def test_one_address_does_not_hold_every_place_at_a_door(
    second: SecondBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a stranger keeps the active broker from its standby, and owners from a recovery."""
    monkeypatch.setattr("wardian.broker.standby.door.MOST_OF_ONE", 2)
    held = [await connect(second.address) for _ in range(2)]
    await eventually(lambda: len(second.door._visits) == 2)
    with pytest.raises(TransportError):
        await ask_at(second.address, b"x")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, elsewhere = await asyncio.open_connection(
        *second.address, ssl=context, local_addr=("127.0.0.2", 0)
    )
    await eventually(lambda: len(second.door._visits) == 3)
    elsewhere.close()
    for each in held:
        await each.close()
    await eventually(lambda: not second.door._visits)
    assert (await ask_at(second.address, b"x")).rule == "standby"
