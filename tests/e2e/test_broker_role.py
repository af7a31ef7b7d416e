"""The broker's role in this process, on loopback: what it opens, awaits, keeps and gives away."""

import asyncio
import contextlib
import logging
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from simulators.broker_enclave import BrokerEnclave, Machine
from simulators.two_brokers import free_port
from toy_mesh import NOW, ToyMesh, digest, goods_of

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian.attestation.collateral.source import NoCollateral
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.manifest import SignedManifest, parse_manifest
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.owners.client import Demands, provision
from wardian.broker.recovery.backup import back_up_files, package_path, write_backup
from wardian.broker.recovery.client import give_share
from wardian.broker.recovery.sessions import OwnerMeans
from wardian.broker.standby.course import Course, Heard
from wardian.broker.standby.follower import Home
from wardian.broker.standby.handover import handed_to
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store
from wardian.broker.status import read_status
from wardian.crypto.hpke import HpkePrivateKey
from wardian.errors import (
    ConfigError,
    CounterUnavailable,
    PolicyDenied,
    SealError,
    StateRolledBack,
    TransportError,
)
from wardian.roles import broker as role
from wardian.roles import broker_home, recovering, standing_by, start, succeeding
from wardian.roles.broker_counter import Counting
from wardian.roles.broker_home import BrokerHome
from wardian.roles.host import HostSettings
from wardian.roles.standing_by import StandingBy
from wardian.tee.launch.simulation import generate_platform

NEW = digest("new broker")
Address = tuple[str, int]


def counting_of(enclave: BrokerEnclave) -> Counting:
    return Counting(enclave, None, {}, collateral=NoCollateral())


class World:
    """A mesh of one owner with a recovery key, a machine, and a place for files."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.mesh, self.machine = directory, ToyMesh(), Machine()
        self.recovery_key = HpkePrivateKey.generate()
        self.signed: SignedManifest = self.mesh.signed()

    def enclave(self, **more: Any) -> BrokerEnclave:
        return BrokerEnclave(self.mesh, self.machine, **more)

    def home(self, enclave: BrokerEnclave, name: str = "first") -> BrokerHome:
        path = self.directory / name / "broker.db"
        path.parent.mkdir(exist_ok=True)
        return BrokerHome(enclave, path, counting=counting_of(enclave))

    def host(self, name: str = "first", **changes: Any) -> HostSettings:
        store = self.home(self.enclave(), name).path
        fields = {"listen": (("127.0.0.1", 0),), "store": str(store), **changes}
        return HostSettings(**fields)

    @asynccontextmanager
    async def running(
        self, host: HostSettings, enclave: BrokerEnclave
    ) -> AsyncIterator["asyncio.Task[None]"]:
        agreed: Agreed = self.mesh.agreed
        task = asyncio.create_task(role._serve(enclave, host, agreed))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def provision(self, address: Address) -> None:
        policy = appraisal_policy(parse_manifest(self.signed), "broker")
        await provision(
            address,
            owner=self.mesh.owners[0],
            demands=Demands(agreed_toml=self.mesh.agreed_toml, policy=policy),
            manifest=self.signed,
            goods=goods_of(tuple(self.mesh.keys.values())),
            recovery_public=self.recovery_key.public,
            now=lambda: NOW,
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for module in (role, recovering, standing_by, succeeding):
        if hasattr(module, "unix_time"):
            monkeypatch.setattr(module, "unix_time", lambda: NOW)
    monkeypatch.setattr("wardian.roles.broker_home.unix_time", lambda: NOW)
    monkeypatch.setattr(recovering, "LOOK_S", 0.05)
    monkeypatch.setattr(succeeding, "PAUSE_S", 0.05)
    return World(tmp_path)


async def listening(enclave: BrokerEnclave) -> Address:
    said = await enclave.said("broker.listening")
    return said["address"], said["port"]


async def eventually(true: Any) -> None:
    async with asyncio.timeout(15):
        while not true():
            await asyncio.sleep(0.02)


# One broker


async def test_a_broker_serves_and_keeps_its_owners_part(world: World) -> None:
    enclave, package = world.enclave(), package_path(world.home(world.enclave()).path)
    async with world.running(world.host(), enclave):
        address = await listening(enclave)
        await world.provision(address)
        await eventually(package.exists)
        before = package.read_bytes()
        package.unlink()
        await eventually(package.exists)
        assert package.read_bytes() == before
    async with world.running(world.host(), again := world.enclave()):
        status = await read_status(await listening(again))
        assert status.manifest_version == 1


async def test_a_broker_whose_state_is_in_doubt_ends(world: World) -> None:
    enclave = world.enclave()
    async with world.running(world.host(), enclave) as task:
        await world.provision(await listening(enclave))
        world.machine.counters[enclave.measurement, "store"] += 1 << 32
        with pytest.raises(TransportError):
            await read_status(await listening(enclave))
        with pytest.raises(SealError, match="releases nothing more"):
            await asyncio.wait_for(task, 10)


async def test_a_state_that_another_counted_meanwhile_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_: object) -> None:
        raise SealError("another counted")

    monkeypatch.setattr(role, "BrokerService", fails)
    async with world.running(world.host(), world.enclave()) as task:
        with pytest.raises(SealError, match="another counted"):
            await task
    world.home(world.enclave()).open().close()  # not held any more


@pytest.mark.parametrize("changes", [{"listen": ()}, {"store": None}])
async def test_settings_that_are_missing(world: World, changes: dict[str, Any]) -> None:
    async with world.running(world.host(**changes), world.enclave()) as task:
        with pytest.raises(ConfigError, match="needs an address"):
            await task


async def test_a_signal_ends_it(world: World) -> None:
    enclave, ended = world.enclave(), list[str]()

    async def serve() -> None:
        try:
            await role._serve(enclave, world.host(), world.mesh.agreed)
        finally:
            ended.append("closed")

    task = asyncio.create_task(start.until_signalled(serve()))
    await listening(enclave)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(task, 10)
    assert ended == ["closed"]
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


def test_the_process_says_what_became_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    enclave = world.enclave()
    monkeypatch.setattr(
        BrokerEnclave, "host_settings", lambda _: wire.encode(world.host(listen=()))
    )
    assert role.main(enclave) == 2
    monkeypatch.setattr(
        BrokerEnclave, "host_settings", lambda _: wire.encode(world.host(self_test=True))
    )
    assert role.main(enclave) == 0


def test_it_tries_its_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert role._try_store(world.host()) == "2 generations"
    assert not list((world.directory / "first").iterdir())
    with pytest.raises(ConfigError, match="needs a place"):
        role._try_store(world.host(store=None))
    monkeypatch.setattr(Store, "get", lambda *_: b"something else")
    with pytest.raises(SealError, match="does not give back"):
        role._try_store(world.host())


# Two brokers


async def test_one_of_two_is_active(world: World) -> None:
    ports = [free_port() for _ in range(2)]
    first, second = (
        world.host(
            f"b{number}",
            listen=(("127.0.0.1", ports[number]),),
            peer=("127.0.0.1", ports[1 - number]),
            standby=bool(number),
            takeover_s=0.3,
        )
        for number in range(2)
    )
    enclaves = world.enclave(), world.enclave()
    async with world.running(first, enclaves[0]):
        assert await listening(enclaves[0]) == ("127.0.0.1", ports[0])
        async with world.running(second, enclaves[1]):
            await enclaves[1].said("broker.standing-by")
    async with world.running(second, third := world.enclave()):
        await third.said("broker.not-newest")  # it has no state, and something was counted


class Heards:
    """What comes of asking, one after the other."""

    def __init__(self, *heard: Heard) -> None:
        self.heard = list(heard)

    async def __call__(self, *_: object) -> Heard:
        return self.heard.pop(0)


async def test_what_comes_of_asking_and_of_opening(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each refusal is said; what may pass is tried again, and the pauses grow while they should."""
    enclave, pauses = world.enclave(), list[float]()
    heards = Heards(
        Heard.BROKE_OFF,
        Heard.REFUSES,
        Heard.SILENT,
        Heard.SILENT,
        Heard.SILENT,
        Heard.SILENT,  # the state is old: it is not opened again
        Heard.COPIED,
        Heard.SILENT,
    )
    home = world.home(enclave)
    errors = [CounterUnavailable("away"), SealError("disk is full"), StateRolledBack("old")]

    def open_state():
        if errors:
            raise errors.pop(0)
        return home.open()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(standing_by, "seek", heards)
    monkeypatch.setattr(standing_by.asyncio, "sleep", sleep)
    course = Course(patience_s=0.0, first=True, now=0.0)
    standing = StandingBy(
        enclave,
        follower(world, home),
        peer=("127.0.0.1", 1),
        course=course,
        open_state=open_state,
    )
    store = await standing.until_active(("127.0.0.1", 0))
    store.close()
    assert pauses == [0.4, 0.8, 0.2, 0.2, 0.2, 0.2, 0.4]
    kinds = [fields["kind"] for name, fields in enclave.announced if name == "broker.not-newest"]
    assert kinds == ["CounterUnavailable", "SealError", "StateRolledBack"]


def follower(world: World, home: BrokerHome) -> Home:
    return Home(
        path=home.path,
        agreed=world.mesh.agreed,
        attest=world.enclave().evidence,
        tee="simulated",
        now=lambda: NOW,
        load_key=home.load_key,
        keep_key=home.keep_key,
    )


# A broker that is recovered


@asynccontextmanager
async def lost(world: World) -> AsyncIterator[Path]:
    """Yield a backup of a broker whose machine is gone."""
    enclave, home = world.enclave(), world.home(world.enclave())
    async with world.running(world.host(), enclave):
        await world.provision(await listening(enclave))
        await eventually(package_path(home.path).exists)
        ca = (await read_status(await listening(enclave))).mesh_ca
    file = world.directory / "x.backup"
    write_backup(file, back_up_files(home.path))
    shutil.rmtree(home.path.parent)
    world.machine = Machine(secret=b"y" * 32)
    world.ca = ca  # type: ignore[attr-defined]
    yield file


def means(world: World) -> OwnerMeans:
    from wardian.broker.certificates import verify_ca_certificate

    return OwnerMeans(
        owner=world.mesh.owners[0],
        recovery_key=world.recovery_key,
        ca_spki=verify_ca_certificate(world.ca),  # type: ignore[attr-defined]
        agreed_toml=world.mesh.agreed_toml,
        mesh=world.mesh.name,
        policy=lambda _: appraisal_policy(parse_manifest(world.signed), "broker"),
        head=None,
    )


async def test_a_backup_is_put_in_place_and_its_owner_comes(world: World) -> None:
    async with lost(world) as file:
        enclave = world.enclave()
        host = world.host(backup=str(file), recover=True)
        async with world.running(host, enclave):
            waiting = await enclave.said("broker.awaits-owners")
            assert waiting["threshold"] == 1
            where = waiting["address"], waiting["port"]
            receipt, _ = await give_share(where, means=means(world), now=lambda: NOW)
            assert receipt.recovered
            status = await read_status(await listening(enclave))
            assert status.mesh_ca == world.ca  # type: ignore[attr-defined]
        async with world.running(host, again := world.enclave()):
            await listening(again)  # nobody is asked twice, and nothing is put in place again


async def test_there_is_nothing_to_recover(world: World) -> None:
    async with world.running(world.host(recover=True), world.enclave()) as task:
        with pytest.raises(ConfigError, match="nothing to recover"):
            await task


async def test_a_counter_that_is_away_is_no_reason_to_ask_the_owners(world: World) -> None:
    enclave = world.enclave()
    home = world.home(enclave)
    home.open().close()
    enclave.counter_away = True
    with pytest.raises(CounterUnavailable):
        recovering.opens(home)
    with pytest.raises(CounterUnavailable):
        home.is_own()


async def test_a_key_of_another_machine_does_not_open(world: World) -> None:
    home = world.home(world.enclave())
    assert not recovering.opens(home)
    assert not home.is_own()
    home.open().close()
    assert recovering.opens(home)
    assert home.is_own()
    elsewhere = BrokerEnclave(
        world.mesh, Machine(generate_platform(clock=lambda: NOW), secret=b"z" * 32)
    )
    other = BrokerHome(elsewhere, home.path, counting=counting_of(elsewhere))
    assert not recovering.opens(other)
    with pytest.raises(SealError):
        other.is_own()


async def test_a_full_disk_costs_the_package_s_file_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def full(*_: object) -> None:
        tried.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recovering, "replace_file", full)
    enclave = world.enclave()
    async with world.running(world.host(), enclave) as task:
        await world.provision(await listening(enclave))
        await eventually(lambda: len(tried) > 2)
        assert not task.done()


async def test_a_broker_that_cannot_use_its_state_deals_nothing(world: World) -> None:
    class Unusable:
        usable = False

    task = asyncio.create_task(
        recovering.keep_recoverable(Unusable(), world.home(world.enclave()))  # type: ignore[arg-type]
    )
    await asyncio.sleep(0.2)
    assert not task.done()
    task.cancel()


@pytest.mark.parametrize("usable", [True, False])
async def test_a_package_that_is_due_while_the_counter_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch, *, usable: bool
) -> None:
    """It waits, unless the state is in doubt: then this process has to end."""
    tried = []

    class Authority:
        def __init__(self) -> None:
            self.usable = True

    authority = Authority()

    def due(_: object) -> None:
        tried.append(1)
        authority.usable = usable
        raise CounterUnavailable("1 of 3 peers answer")

    monkeypatch.setattr(recovering, "refresh", due)
    monkeypatch.setattr(recovering, "LOOK_S", 0.01)
    task = asyncio.create_task(
        recovering.keep_recoverable(authority, world.home(world.enclave()))  # type: ignore[arg-type]
    )
    if usable:
        await eventually(lambda: len(tried) > 2)
        assert not task.done()
        task.cancel()
    else:
        with pytest.raises(CounterUnavailable):
            await asyncio.wait_for(task, 5)


async def test_a_start_waits_for_the_counter(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(broker_home, "AWAIT_S", 0.01)
    enclave = world.enclave()
    enclave.counter_away = True
    home = world.home(enclave)
    opening = asyncio.create_task(broker_home.when_counted(home.open))
    await eventually(lambda: caplog.text.count("broker.counter-awaited") > 2)
    assert not opening.done()
    enclave.counter_away = False
    (await opening).close()
    assert [record.levelname for record in caplog.records if "awaited" in record.msg][:2] == [
        "WARNING",
        "DEBUG",
    ]


# New code


def admit_new(world: World) -> None:
    roles = world.mesh.manifest().roles
    both = RoleReference(measurements=(*roles["broker"].measurements, NEW.hex()))
    world.signed = world.mesh.signed(roles={**roles, "broker": both})


async def test_new_code_takes_over_and_the_old_one_has_nothing_left_to_do(world: World) -> None:
    admit_new(world)
    old, new = world.enclave(), world.enclave(measurement=NEW)
    async with world.running(world.host("old"), old) as task:
        address = await listening(old)
        await world.provision(address)
        async with world.running(world.host("new", take_over=address), new):
            there = await listening(new)
            assert (await read_status(there)).measurement == NEW.hex()
            with pytest.raises(SealError):
                await asyncio.wait_for(task, 10)
    async with world.running(world.host("old"), restarted := world.enclave()):
        said = await restarted.said("broker.handed-over")
        with pytest.raises(TransportError, match="handed its mesh over"):
            await read_status((said["address"], said["port"]))
    async with world.running(
        world.host("new", take_over=("127.0.0.1", 1)), again := world.enclave(measurement=NEW)
    ):
        await listening(again)  # it is its own now: the old one is not asked


async def test_what_was_received_before_a_crash_is_taken_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit_new(world)
    old = world.enclave()
    async with world.running(world.host("old"), old):
        address = await listening(old)
        await world.provision(address)

        def killed(*_: object) -> None:
            raise SealError("killed before its first commit")

        with monkeypatch.context() as patch:
            patch.setattr(BrokerHome, "adopt", killed)
            async with world.running(
                world.host("new", take_over=address), world.enclave(measurement=NEW)
            ) as task:
                with pytest.raises(SealError, match="killed before"):
                    await asyncio.wait_for(task, 15)
    new = world.enclave(measurement=NEW)
    assert not world.home(new, "new").is_own()
    async with world.running(world.host("new", take_over=("127.0.0.1", 1)), new):
        await listening(new)


async def test_it_asks_until_the_old_one_answers_and_ends_where_that_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[Exception] = [
        TransportError("away"),
        SealError("cut"),
        PolicyDenied("not listed", rule="MeasurementIn"),
    ]

    async def take(*_: object) -> None:
        raise outcomes.pop(0)

    monkeypatch.setattr(succeeding, "take_over", take)
    async with world.running(world.host(take_over=("127.0.0.1", 1)), world.enclave()) as task:
        with pytest.raises(PolicyDenied):
            await asyncio.wait_for(task, 10)
    assert outcomes == []


async def test_a_key_without_a_state_begins_no_mesh_of_its_own(world: World) -> None:
    """Killed between the two, while it took the state over: the next start asks again."""
    enclave = world.enclave()
    home = world.home(enclave)
    home.keep_key(MasterKey.random())
    for _ in range(2):
        assert not home.is_own()
        assert not recovering.opens(home)
        with pytest.raises(SealError, match="no broker's state here"):
            home.adopt()
        home.path.touch()
    assert world.machine.counters == {}


# Files


def test_a_key_is_sealed_and_comes_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    home = world.home(world.enclave())
    assert home.load_key() is None
    home.open().close()
    key = home.load_key()
    assert key is not None
    assert key.mesh.reveal() not in home.key_path.read_bytes()
    enclave = world.enclave()
    missing = BrokerHome(
        enclave, world.directory / "missing" / "broker.db", counting=counting_of(enclave)
    )
    with pytest.raises(ConfigError, match="keeps its state there"):
        missing.keep_key(key)
    with pytest.raises(SealError, match="no broker's state here"):
        missing.adopt()
    with contextlib.closing(home.open()) as store:
        assert handed_to(store) is None
