"""Workloads count at brokers on loopback, and keep sealed state with what they count."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
from simulators.sealed_world import FakeEnclave
from test_broker_service import Broker, Middle, service_of, silent_server
from toy_mesh import MASTER_KEY, NOW, Counter, ToyMesh, digest

from wardian._internal import wire
from wardian._internal.counter import CounterKeeper, MonotonicCounter
from wardian.broker.counting.client import RemoteCounters
from wardian.broker.counting.protocol import CounterChallenge, CounterHello
from wardian.broker.counting.quorum import QuorumCounter, QuorumPeer
from wardian.broker.frames import FRAME_BYTES, connect, server_context
from wardian.broker.limits import ServiceLimits
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.trust import TrustAnchor
from wardian.broker.refusal import Refusal
from wardian.broker.release.admission import Admission
from wardian.broker.service import BrokerService
from wardian.broker.state.audit import AuditEntry, verify_chain
from wardian.broker.state.store import Store
from wardian.broker.status import read_status
from wardian.crypto.tls_keys import load_identity
from wardian.errors import (
    AuthenticationFailed,
    CounterUnavailable,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    SealError,
    StateRolledBack,
    TransportError,
)
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform
from wardian.tee.sealed_state import SealedPlace, SealedState

T = TypeVar("T")
Address = tuple[str, int]


async def waits(work: Callable[[], T]) -> T:
    """Do `work`, which waits for a broker of this very loop, in a thread."""
    return await asyncio.to_thread(work)


@pytest.fixture
def mesh() -> ToyMesh:
    return ToyMesh()


@pytest.fixture
async def broker(mesh: ToyMesh, tmp_path: Path) -> AsyncIterator[Broker]:
    async with service_of(mesh, tmp_path / "broker.db") as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        await broker.give()
        yield broker


def counters(broker: Broker, admission: Admission, **more: Any) -> RemoteCounters:
    arguments = {"admission": admission, "now": lambda: NOW} | more
    return RemoteCounters(arguments.pop("address", broker.address), **arguments)


def place(counter: MonotonicCounter, path: Path) -> SealedPlace:
    return SealedPlace(
        path=path,
        enclave=FakeEnclave(),  # type: ignore[arg-type]
        label="test state",
        counter=counter,
    )


# One broker


async def test_a_workload_keeps_its_state_fresh(broker: Broker, tmp_path: Path) -> None:
    own = counters(broker, await broker.ask())
    box = place(own.counter("box"), tmp_path / "box")

    def live() -> None:
        state = SealedState.open(box)
        assert state.kept_by is CounterKeeper.BROKER
        state.write(b"one")
        old = box.path.read_bytes()
        state.write(b"two")
        again = SealedState.open(replace(box, counter=own.counter("box")))
        assert again.read() == b"two"
        box.path.write_bytes(old)
        with pytest.raises(StateRolledBack):
            SealedState.open(box)
        box.path.unlink()
        with pytest.raises(StateRolledBack):
            SealedState.open(box)

    await waits(live)
    status = await read_status(broker.address)
    lines = [line.entry for line in verify_chain(status.lines, head=status.audit)]
    steps = [entry for entry in lines if entry.event == "counter"]
    assert [entry.counter for entry in steps] == ["box"] * 3  # born, one, two
    assert {entry.measurement for entry in steps} == {digest("worker").hex()}


async def test_two_processes_of_one_measurement(broker: Broker) -> None:
    """Both read 0; only one gets further. Which one is told so, and the other, too."""
    one = counters(broker, await broker.ask()).counter("box")
    other = counters(broker, await broker.ask()).counter("box")
    assert await waits(one.read) == await waits(other.read) == 0
    await waits(lambda: one.advance(7))
    with pytest.raises(SealError, match="was not advanced.*counter-moved"):
        await waits(lambda: other.advance(9))
    assert await waits(other.read) == 7
    await waits(lambda: other.advance(9))
    assert await waits(one.read) == 9


async def test_a_counter_that_was_not_read_before_is_read_first(broker: Broker) -> None:
    own = counters(broker, await broker.ask())
    await waits(lambda: own.counter("box").advance(7))
    await waits(lambda: own.counter("box").advance(8))
    assert await waits(own.counter("box").read) == 8
    for to in (8, 7, -1, 2**127, 2**128):
        with pytest.raises(SealError, match="only goes up"):
            await waits(lambda to=to: own.counter("box").advance(to))


async def test_another_measurement_has_counters_of_its_own(broker: Broker) -> None:
    worker = counters(broker, await broker.ask()).counter("box")
    frontend = counters(broker, await broker.ask("frontend")).counter("box")
    await waits(lambda: worker.advance(7))
    assert await waits(frontend.read) == 0
    await waits(lambda: frontend.advance(100))
    assert await waits(worker.read) == 7


async def test_a_certificate_of_another_process_without_its_key(broker: Broker) -> None:
    """A thief has the certificate, which is no secret."""
    worker, thief = await broker.ask(), await broker.ask("frontend")
    stolen = replace(thief, certificate_chain_pem=worker.certificate_chain_pem)
    with pytest.raises(PolicyDenied, match="not signed with the certificate's key"):
        await waits(counters(broker, stolen).counter("box").read)
    status = await read_status(broker.address)
    last = verify_chain(status.lines, head=status.audit)[-1].entry
    assert (last.event, last.role, last.rule) == ("refusal", "workload", "AuthenticationFailed")


async def test_after_a_new_manifest_a_workload_has_to_be_admitted_anew(broker: Broker) -> None:
    old = counters(broker, await broker.ask()).counter("box")
    await waits(lambda: old.advance(7))
    await broker.give(broker.mesh.signed(version=2))
    with pytest.raises(AuthenticationFailed, match="issuing CA of this manifest"):
        await waits(old.read)
    assert await waits(counters(broker, await broker.ask()).counter("box").read) == 7


async def test_the_brokers_counters_survive_it(mesh: ToyMesh, tmp_path: Path) -> None:
    counter = Counter()
    async with service_of(mesh, tmp_path / "b.db", counter) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        await broker.give()
        own = counters(broker, await broker.ask()).counter("box")
        await waits(lambda: own.advance(7))
    with pytest.raises(CounterUnavailable, match="no broker answers"):
        await waits(own.read)
    async with service_of(mesh, tmp_path / "b.db", counter) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        again = counters(broker, await broker.ask())
        assert await waits(again.counter("box").read) == 7


async def test_a_counter_blocks_and_says_so(broker: Broker) -> None:
    own = counters(broker, await broker.ask()).counter("box")
    with pytest.raises(LocalProtocolError, match="thread of its own"):
        own.read()


# A host in the middle, and strangers


async def test_a_host_that_plays_the_broker(broker: Broker) -> None:
    """It has a certificate of its own, or a worker's; nothing is asked of it."""
    seen: list[bytes] = []

    def listen(number: int, raw: bytes) -> bytes:
        seen.append(raw)
        return raw

    admission = await broker.ask()
    async with Middle(broker.address, listen) as address:
        own = counters(broker, admission, address=address).counter("box")
        with pytest.raises(AuthenticationFailed):
            await waits(own.read)
    assert seen == []


async def test_a_worker_that_plays_the_broker(broker: Broker) -> None:
    """It has a certificate of this very CA and manifest, and its key; but not the role."""
    admission = await broker.ask("frontend")
    context = server_context()
    load_identity(context, admission.certificate_chain_pem, admission.tls_key)
    heard = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
    async with server:
        address = server.sockets[0].getsockname()[:2]
        own = counters(broker, await broker.ask(), address=address).counter("box")
        with pytest.raises(PolicyDenied) as caught:
            await waits(own.read)
    assert caught.value.rule == "peer-role"
    assert heard == [b""]


async def test_a_broker_that_is_silent(broker: Broker) -> None:
    admission = await broker.ask()
    async with silent_server() as address:
        own = counters(broker, admission, address=address, timeout_s=0.2).counter("box")
        with pytest.raises(CounterUnavailable, match=r"no answer within 0\.2 s") as caught:
            await waits(own.read)
    assert caught.value.retryable


async def test_an_answer_that_is_lost(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker counted; whoever asks again finds out, and goes on from there."""
    own = counters(broker, await broker.ask()).counter("box")
    await waits(lambda: own.advance(7))
    kept = broker.service._desks[CounterHello]._kept
    advance = type(kept).advance

    def count_and_hang_up(*args: Any, **named: Any) -> None:
        advance(*args, **named)
        raise OSError("the cable is cut")

    with monkeypatch.context() as patch:
        patch.setattr(type(kept), "advance", count_and_hang_up)
        with pytest.raises(CounterUnavailable):
            await waits(lambda: own.advance(9))
    assert await waits(own.read) == 9
    await waits(lambda: own.advance(10))


async def test_who_counts_too_often_is_told_to_wait(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.broker.counting.counters.ADVANCE_BURST", 1)
    monkeypatch.setattr("wardian.broker.counting.counters.ADVANCES_PER_S", 0.001)
    own = counters(broker, await broker.ask()).counter("box")
    await waits(lambda: own.advance(7))
    before = (await read_status(broker.address)).audit.count
    with pytest.raises(CounterUnavailable, match="more often than it may"):
        await waits(lambda: own.advance(8))
    assert await waits(own.read) == 7
    assert (await read_status(broker.address)).audit.count == before


async def test_the_broker_says_something_else(broker: Broker) -> None:
    own = counters(broker, await broker.ask()).counter("box")
    with pytest.MonkeyPatch.context() as patch:
        other = lambda value: CounterChallenge(nonce=value * 2)  # noqa: E731
        patch.setattr("wardian.broker.counting.counters.CounterAnswer", other)
        with pytest.raises(PeerProtocolError):
            await waits(own.read)


async def test_an_overtaken_broker_answers_nothing(mesh: ToyMesh, tmp_path: Path) -> None:
    """Its host runs a second one on a copy, and sends the workload with old state to the first."""
    counter = Counter()
    async with service_of(mesh, tmp_path / "b.db", counter) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        await broker.give()
        own = counters(broker, await broker.ask())
        box = place(own.counter("box"), tmp_path / "box")

        def live() -> None:
            SealedState.open(box).write(b"one")
            assert SealedState.open(box).read() == b"one"

        await waits(live)
        shutil.copy(tmp_path / "b.db", tmp_path / "copy.db")
        copy = Store(tmp_path / "copy.db", master_key=MASTER_KEY, counter=counter.seam)
        with closing(copy):
            copy.commit(audit=[AuditEntry(event="start", outcome="granted")], now=NOW)
        with pytest.raises(CounterUnavailable, match="cannot answer at the moment"):
            await waits(lambda: SealedState.open(box))
        await asyncio.wait_for(service.in_doubt.wait(), 5)
        with pytest.raises(TransportError):
            await read_status(broker.address)


async def test_a_status_of_an_overtaken_broker(mesh: ToyMesh, tmp_path: Path) -> None:
    counter = Counter()
    async with service_of(mesh, tmp_path / "b.db", counter) as service:
        address = await service.start("127.0.0.1", 0)
        assert (await read_status(address)).audit.count
        counter.value += 1 << 32
        with pytest.raises(TransportError):
            await read_status(address)
        await asyncio.wait_for(service.in_doubt.wait(), 5)


async def test_one_certificate_does_not_hold_all_places_of_its_address(broker: Broker) -> None:
    """Its holder is answered, then never lets the broker close: it gives way like anybody."""
    admission = await broker.ask()
    own = counters(broker, admission)

    class Hog:
        """A connection that says nothing more once it was answered, not even farewell."""

        async def read_once(self) -> None:
            self.stream = await connect(broker.address)
            await own._speak(self.stream, "box", None)
            self.stream._transport.pause_reading()  # type: ignore[attr-defined]

    hogs = [Hog() for _ in range(ServiceLimits().connections_per_peer)]
    try:
        await asyncio.gather(*(hog.read_once() for hog in hogs))
        held = broker.service._doorway._places._held
        assert held
        assert not any(place.firm for place in held)
        await broker.ask("frontend")
    finally:
        for hog in hogs:
            hog.stream.abort()


async def test_strangers_do_not_fill_the_log(mesh: ToyMesh, tmp_path: Path) -> None:
    limits = ServiceLimits(line_burst=2, lines_per_s=0.0001)
    async with service_of(mesh, tmp_path / "b.db", limits=limits) as service:
        broker = Broker(mesh, service, await service.start("127.0.0.1", 0))
        await broker.give()
        before = (await read_status(broker.address)).audit.count
        for _ in range(5):
            stream = await connect(broker.address)
            await stream.send(wire.encode(CounterHello(certificate=b"junk", nonce=bytes(32))))
            refusal = wire.decode(await stream.receive(most=FRAME_BYTES), Refusal, what="refusal")
            assert refusal.rule == "FormatError"
            await stream.close()
        assert (await read_status(broker.address)).audit.count == before + 2


# Three brokers


class Site:
    """One broker on a platform of its own, which may be stopped, restarted and put back."""

    def __init__(self, directory: Path, number: int) -> None:
        self.platform: SimulatedPlatform = generate_platform(clock=lambda: NOW)
        self.mesh, self.path, self.number = ToyMesh(), directory / f"{number}.db", number
        self.counter = Counter()
        self.service: Any = None

    async def start(self, port: int = 0) -> None:
        self.service = BrokerService(
            store=Store(self.path, master_key=MASTER_KEY, counter=self.counter.seam),
            attest=self.mesh.attest("broker", platform=self.platform),
            agreed_toml=self.mesh.agreed_toml,
            clock=lambda: NOW,
        )
        self.address = await self.service.start("127.0.0.1", port)
        self.broker = Broker(self.mesh, self.service, self.address)

    async def stop(self) -> None:
        await self.service.aclose()

    async def admit(self) -> QuorumPeer:
        """Let a workload be admitted here; return the counter that this site keeps for it."""
        trust = TrustAnchor(
            simulation_root_sha256=self.platform.root_sha256.hex(),
            tcb_statuses=("UpToDate",),
            advisories=(),
        )
        if not (await read_status(self.address)).manifest_version:
            await self.broker.give(
                self.mesh.signed(trust=trust),
                policy=appraisal_policy(self.mesh.manifest(trust=trust), "broker"),
            )
        attest = self.mesh.attest("worker", platform=self.platform)
        self.admission = await self.broker.ask(attest=attest)
        return self.peer()

    def peer(self) -> QuorumPeer:
        own = RemoteCounters(self.address, admission=self.admission, now=lambda: NOW, timeout_s=5.0)
        return QuorumPeer(
            name=f"site {self.number}", platform=self.platform.ppid, counter=own.counter("box")
        )

    def save(self) -> tuple[bytes, int]:
        return self.path.read_bytes(), self.counter.value

    async def put_back(self, saved: tuple[bytes, int]) -> None:
        """Restore an older copy with its counter, as the host of a site can in simulation."""
        port = self.address[1]
        await self.stop()
        self.path.write_bytes(saved[0])
        self.counter.value = saved[1]
        await self.start(port)


@asynccontextmanager
async def sites(directory: Path) -> AsyncIterator[list[Site]]:
    found = [Site(directory, number) for number in range(3)]
    for site in found:
        await site.start()
    try:
        yield found
    finally:
        for site in found:
            await site.stop()


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[list[Site]]:
    async with sites(tmp_path) as found:
        for site in found:
            await site.admit()
        yield found


def quorum(three: list[Site]) -> QuorumCounter:
    return QuorumCounter([site.peer() for site in three], put_back=0)


async def test_state_over_three_brokers(three: list[Site], tmp_path: Path) -> None:
    box = place(quorum(three).seam, tmp_path / "box")

    def begin() -> bytes:
        state = SealedState.open(box)
        assert state.kept_by is CounterKeeper.MAJORITY
        state.write(b"one")
        old = box.path.read_bytes()
        state.write(b"two")
        return old

    old = await waits(begin)
    port = three[0].address[1]
    await three[0].stop()

    def one_is_away() -> None:
        state = SealedState.open(replace(box, counter=quorum(three).seam))
        assert state.read() == b"two"
        state.write(b"three")

    await waits(one_is_away)
    await three[0].start(port)
    await three[1].stop()

    def another_is_away() -> None:
        newest = box.path.read_bytes()
        box.path.write_bytes(old)
        with pytest.raises(StateRolledBack):
            SealedState.open(replace(box, counter=quorum(three).seam))
        box.path.write_bytes(newest)
        assert SealedState.open(replace(box, counter=quorum(three).seam)).read() == b"three"

    await waits(another_is_away)
    await three[2].stop()

    def without_a_majority() -> None:
        with pytest.raises(CounterUnavailable, match="1 of 3 peers"):
            SealedState.open(replace(box, counter=quorum(three).seam))

    await waits(without_a_majority)


async def test_t5_a_brokers_own_state_over_three_others(three: list[Site], tmp_path: Path) -> None:
    """Its host puts it back, or starts a clone of it: neither gets to act."""
    path, copy = tmp_path / "own.db", tmp_path / "copy.db"
    entry = AuditEntry(event="start", outcome="granted")

    def opened(where: Path) -> Store:
        return Store(where, master_key=MASTER_KEY, counter=quorum(three).seam)

    def live() -> None:
        with closing(opened(path)) as store:
            assert store.kept_by is CounterKeeper.MAJORITY
            store.commit({("uses", "left"): b"1"}, audit=[entry], now=NOW)
            shutil.copy(path, copy)
            store.commit({("uses", "left"): b"0"}, audit=[entry], now=NOW)
        with pytest.raises(StateRolledBack):
            opened(copy)
        shutil.copy(path, copy)
        with closing(opened(path)) as store, closing(opened(copy)) as clone:
            with pytest.raises(SealError, match="another process took this counter over"):
                store.commit({("uses", "left"): b"9"}, audit=[entry], now=NOW)
            assert clone.get("uses", "left") == b"0"
            clone.commit({("uses", "left"): b"8"}, audit=[entry], now=NOW)

    await waits(live)


async def test_one_broker_put_back_changes_nothing(three: list[Site], tmp_path: Path) -> None:
    saved = three[1].save()
    box = place(quorum(three).seam, tmp_path / "box")
    state = await waits(lambda: SealedState.open(box))
    await waits(lambda: state.write(b"one"))
    old = box.path.read_bytes()
    await waits(lambda: state.write(b"two"))
    await three[1].put_back(saved)

    def look_again() -> None:
        assert SealedState.open(replace(box, counter=quorum(three).seam)).read() == b"two"
        box.path.write_bytes(old)
        with pytest.raises(StateRolledBack):
            SealedState.open(replace(box, counter=quorum(three).seam))

    await waits(look_again)


async def test_a_broker_put_back_under_a_running_workload_is_left_out(three: list[Site]) -> None:
    counter = quorum(three)
    await waits(lambda: counter.advance(5))
    saved = three[1].save()
    await waits(lambda: counter.advance(6))
    await three[1].put_back(saved)
    assert await waits(counter.read) == 6
    assert counter.gone_back == ("site 1",)
    await waits(lambda: counter.advance(7))
    assert await waits(quorum(three).read) == 7


async def test_of_two_clones_one_counts(three: list[Site]) -> None:
    first = quorum(three)
    await waits(lambda: first.advance(5))
    second = quorum(three)
    assert await waits(second.read) == 5
    with pytest.raises(SealError, match="another process took this counter over"):
        await waits(lambda: first.advance(6))
    await waits(lambda: second.advance(6))
