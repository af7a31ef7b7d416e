"""Who means to stop a broker through its keepers: former machines, slow keepers, crowds of strangers."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from simulators.keepers import (
    ToyKeeper,
    as_it_is,
    hang_up,
    known,
    own_counter,
    peer_of,
    terms_around,
    terms_of,
)
from toy_mesh import MASTER_KEY, NOW, digest

from wardian._internal.counter import MonotonicCounter
from wardian.broker.counting.protocol import Advance, encode_value
from wardian.broker.keeping import keeper_peer, service
from wardian.broker.keeping import own_counter as own_module
from wardian.broker.keeping.keeper_link import KeeperLink
from wardian.broker.keeping.own_counter import OwnCounter, asker_key
from wardian.broker.limits import GRACE_S
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.store import Store
from wardian.crypto.signing import SigningKey
from wardian.errors import ConfigError, CounterUnavailable, StateRolledBack, WardianError

LINE = AuditEntry(event="start", outcome="granted")
BROKER = digest("broker")


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[ToyKeeper]]:
    made = [ToyKeeper(f"k{number}", tmp_path) for number in range(3)]
    yield made
    hang_up()
    for keeper in made:
        keeper.stop()


@pytest.fixture
def one(three: list[ToyKeeper]) -> ToyKeeper:
    return three[0]


def store_at(path: Path, counter: MonotonicCounter) -> Store:
    return Store(path, master_key=MASTER_KEY, counter=counter)


def commit(store: Store, value: bytes) -> None:
    store.commit({("trial", "key"): value}, audit=[LINE], now=NOW)


# Whose state is old does not stop whose state is the newest


def test_t5_a_former_machine_disturbs_nobody(three: list[ToyKeeper], tmp_path: Path) -> None:
    """It has the state's key, genuine code, and a state of before, or none; and starts for ever."""
    terms = terms_of(*three)
    active, former = (own_counter(terms, *three, asker=asker_key(MASTER_KEY)) for _ in range(2))
    with contextlib.closing(store_at(tmp_path / "new.db", active.counter(BROKER))) as store:
        commit(store, b"1")
        shutil.copy(tmp_path / "new.db", tmp_path / "former.db")
        commit(store, b"2")
        for name in ("former.db", "nothing.db"):
            with pytest.raises(StateRolledBack):
                store_at(tmp_path / name, former.counter(BROKER))
            commit(store, b"3")
    active.close()
    former.close()


def test_a_second_start_on_the_same_files_disturbs_nobody(
    three: list[ToyKeeper], tmp_path: Path
) -> None:
    terms = terms_of(*three)
    first, second = (own_counter(terms, *three, asker=asker_key(MASTER_KEY)) for _ in range(2))
    with contextlib.closing(store_at(tmp_path / "b.db", first.counter(BROKER))) as store:
        commit(store, b"1")
        with pytest.raises(ConfigError, match="open"):
            store_at(tmp_path / "b.db", second.counter(BROKER))
        commit(store, b"2")
    first.close()
    second.close()


# A slow keeper does not hold the broker up


class Slow:
    """Carries bytes; what the keeper says is delivered late, while `late` is set."""

    def __init__(self, port: int) -> None:
        self._port, self.late = port, threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = self._listening.getsockname()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        self._threads[0].start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                there, _ = self._listening.accept()
                here = socket.create_connection(("127.0.0.1", self._port))
                for source, target, delays in ((there, here, False), (here, there, True)):
                    pump = threading.Thread(target=self._pump, args=(source, target, delays))
                    pump.start()
                    self._threads.append(pump)

    def _pump(self, source: socket.socket, target: socket.socket, delays: bool) -> None:
        with contextlib.suppress(OSError):
            while raw := source.recv(2**16):
                if delays and self.late.is_set():
                    self._closed.wait(5)
                target.sendall(raw)
        for end in (source, target):
            end.close()

    def close(self) -> None:
        self._closed.set()
        self._listening.close()
        for thread in self._threads:
            thread.join(10)


@pytest.mark.slow
def test_one_slow_keeper_of_three_costs_a_moment(
    three: list[ToyKeeper], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asserted is what was waited for, not how long it took."""
    slow = Slow(three[2].port)
    addresses = {keeper.name: ("127.0.0.1", keeper.port) for keeper in three}
    addresses[three[2].name] = slow.address
    own = OwnCounter(
        terms_of(*three),
        addresses,
        asker=asker_key(MASTER_KEY),
        complete=as_it_is,
        now=lambda: NOW,
    )
    waited: list[int] = []
    wait = own_module.wait

    def watched(pending: set, **more: object) -> object:
        done = wait(pending, **more)
        if "timeout" in more:
            waited.append(len([each for each in pending if not each.done()]))
        return done

    monkeypatch.setattr(own_module, "wait", watched)
    with contextlib.closing(store_at(tmp_path / "b.db", own.counter(BROKER))) as store:
        commit(store, b"1")
        waited.clear()
        slow.late.set()
        commit(store, b"2")
        assert 1 in waited  # the slow one was left behind in some step
        assert store.get("trial", "key") == b"2"
        slow.late.clear()
    slow.close()
    own.close()


# Connections that are gone, and those that only hold places


def test_keepers_that_hung_up_are_dialled_again_at_once(
    three: list[ToyKeeper], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "IDLE_S", 0.2)
    own = own_counter(terms_of(*three), *three, asker=asker_key(MASTER_KEY))
    with contextlib.closing(store_at(tmp_path / "b.db", own.counter(BROKER))) as store:
        commit(store, b"1")
        time.sleep(0.8)
        commit(store, b"2")
    own.close()


class From(KeeperLink):
    """A link from a source address of its choice."""

    __slots__ = ("_source",)

    def __init__(self, keeper: ToyKeeper, source: str = "127.0.0.1") -> None:
        self._source = source
        super().__init__(("127.0.0.1", keeper.port))

    def _dial(self) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(self._address, timeout=5, source_address=(self._source, 0))
        return context.wrap_socket(plain)


def counts(keeper: ToyKeeper, asker: SigningKey) -> int:
    return peer_of(known(terms_around(keeper), keeper), asker=asker).counter("c").read()


@pytest.fixture
def broker(one: ToyKeeper, monkeypatch: pytest.MonkeyPatch) -> SigningKey:
    """An asker that counts at `one`, and has no connection now."""
    monkeypatch.setattr(keeper_peer, "AWAY_S", 0.0)
    asker = SigningKey.generate()
    peer_of(known(terms_around(one), one), asker=asker).counter("c").advance(1)
    hang_up()
    return asker


def strangers_who_count(one: ToyKeeper, _: SigningKey) -> list[KeeperLink]:
    """Fifteen askers count once, and hold 64 silent connections from four addresses."""
    held: list[KeeperLink] = []
    askers = [SigningKey.generate() for _ in range(15)]
    for number in range(64):
        link = From(one, f"127.0.0.{2 + number % 4}")
        link.introduce(askers[number % 15])
        first = number < len(askers)
        step = Advance(at=encode_value(0), to=encode_value(1)) if first else None
        link.take("x", step)
        held.append(link)
    return held


def half_open(one: ToyKeeper, broker: SigningKey) -> list[KeeperLink]:
    """The broker's own connections, each of which a carrier dropped without a word."""
    held: list[KeeperLink] = []
    for _ in range(16):
        link = From(one)
        link.introduce(broker)
        held.append(link)
    return held


@pytest.mark.parametrize("attack", [strangers_who_count, half_open])
def test_t24_places_that_are_held_in_silence(
    one: ToyKeeper,
    broker: SigningKey,
    attack: Callable[[ToyKeeper, SigningKey], list[KeeperLink]],
) -> None:
    held = attack(one, broker)
    time.sleep(2 * GRACE_S)
    assert counts(one, broker) == 1
    for link in held:
        link.close()


def test_t24_strangers_who_never_stop_reading_give_way_too(
    one: ToyKeeper, broker: SigningKey
) -> None:
    held, stop = [From(one) for _ in range(16)], threading.Event()
    for link in held:
        link.introduce(SigningKey.generate())

    def read() -> None:
        while not stop.is_set():
            for link in held:
                with contextlib.suppress(WardianError):
                    link.take("x", None)
            stop.wait(0.1)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(2 * GRACE_S)
    try:
        assert counts(one, broker) == 1
    finally:
        stop.set()
        reader.join()
    for link in held:
        link.close()


async def test_t24_a_known_asker_s_quote_waits_for_one_stranger_s_at_most(
    one: ToyKeeper, broker: SigningKey
) -> None:
    began: list[float] = []
    made, released = one.attest, threading.Event()

    def quote(report_data: bytes) -> object:
        began.append(time.monotonic())
        released.wait(20)
        time.sleep(0.05)
        return made(report_data)

    one.service._attest = quote

    def stranger() -> None:
        with contextlib.suppress(WardianError, OSError):
            link = From(one, "127.0.0.9")
            with contextlib.closing(link):
                link.introduce(SigningKey.generate())

    def asked() -> int:
        assert counts(one, broker) == 1
        return len(began)

    crowd = [asyncio.create_task(asyncio.to_thread(stranger)) for _ in range(8)]
    while not began:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)  # the others have come as far as they get
    asking = asyncio.create_task(asyncio.to_thread(asked))
    await asyncio.sleep(0.5)
    released.set()
    assert await asking < len(crowd)
    await asyncio.gather(*crowd)


async def test_a_lost_majority_is_no_majority_whoever_asks(
    three: list[ToyKeeper], tmp_path: Path
) -> None:
    own = own_counter(terms_of(*three), *three, asker=asker_key(MASTER_KEY))
    counter = own.counter(BROKER)
    assert counter.look is not None
    with contextlib.closing(store_at(tmp_path / "b.db", counter)) as store:
        commit(store, b"1")
        for keeper in three[:2]:
            await asyncio.to_thread(keeper.stop)
        for ask in (counter.look, counter.read):
            with pytest.raises(CounterUnavailable, match="1 of 3"):
                await asyncio.to_thread(ask)
        assert store.usable
    own.close()
