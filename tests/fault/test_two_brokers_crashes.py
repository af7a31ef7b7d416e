"""Two brokers under crashes: at every step of writing, shipping and counting, of either process.

Whatever was answered, and every audit line that came with it, is in the state that one of them
opens; and never do both go on.
"""

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

from toy_mesh import MASTER_KEY, NOW

from wardian._internal.counter import MonotonicCounter
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.contents import Commit, encode_commit
from wardian.broker.state.database import Database
from wardian.broker.state.replica import Replica, install
from wardian.broker.state.replicas import Replicas
from wardian.broker.state.snapshot import Incoming
from wardian.broker.state.store import Store
from wardian.errors import SealError

ENTRY = AuditEntry(event="start", outcome="granted")
MAX_STEPS = 80


class Killed(BaseException):
    """The process is gone."""


class World(Replicas):
    """Two machines, the wire between them, and one counter; a process can be killed at each step.

    `victim` says whose steps count: "active" or "standby".
    """

    def __init__(self, directory: Path, *, victim: str = "", kill_at: int = -1) -> None:
        self.here, self.there = directory / "active.db", directory / "standby.db"
        self.victim, self.kill_at = "", -1
        self.names: list[str] = []
        self.value = 0
        self.copy: Replica | None = None
        self.answered: list[str] = []
        self.store = self.open(self.here, self)
        self.answer("before")
        self.attach()
        self.victim, self.kill_at = victim, kill_at
        self.names.clear()

    def step(self, who: str, name: str) -> None:
        if who != self.victim:
            return
        if len(self.names) == self.kill_at:
            raise Killed
        self.names.append(name)

    # What stands between two steps

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Let every write of either file be a step before it, in it, and after it."""
        real = Database.transaction

        @contextlib.contextmanager
        def transaction(database: Database) -> Iterator[None]:
            who = "active" if database.path == self.here else "standby"
            self.step(who, "before the write")
            with real(database):
                yield
                self.step(who, "half written")
            self.step(who, "written")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Database, "transaction", transaction)
            yield

    def ship(self, commit: Commit) -> None:
        self.step("active", "before it is shipped")
        if self.copy is not None:
            try:
                self.step("standby", "received")
                self.copy.apply(encode_commit(commit))
                self.step("standby", "acknowledged")
            except Killed:
                if self.victim == "active":
                    raise
                self.lose()
        self.step("active", "shipped")

    def read(self) -> int:
        self.step("active", "counter read")
        return self.value

    def advance(self, to: int) -> None:
        self.step("active", "counter half advanced")
        if to <= self.value:
            raise SealError("a counter only goes up")
        self.value = to
        self.step("active", "counter advanced")

    # What people do

    def open(self, path: Path, replicas: Replicas | None = None) -> Store:
        counter = MonotonicCounter(read=self.read, advance=self.advance)
        more = {} if replicas is None else {"replicas": replicas}
        return Store(path, master_key=MASTER_KEY, counter=counter, **more)

    def answer(self, name: str) -> None:
        """Decide, and tell: what is in `answered` somebody was told."""
        self.store.commit({("use", name): b"1"}, audit=[ENTRY], now=NOW)
        self.answered.append(name)

    def attach(self) -> None:
        incoming = Incoming(self.there.with_suffix(".incoming"))
        for piece in self.store.snapshot()[1]:
            incoming.take(piece)
        incoming.close()
        self.copy, _ = install(
            self.there.with_suffix(".incoming"),
            self.there,
            master_key=MASTER_KEY,
            accept=lambda _: None,
            keep_key=lambda _: None,
        )

    def lose(self) -> None:
        if self.copy is not None:
            self.copy.close()
            self.copy = None

    def stop(self) -> None:
        """Everything ends; what is on the disks stays."""
        self.victim = ""
        self.lose()
        self.store.close()

    def newest(self, first: Path, second: Path) -> set[str]:
        """Return what is known to the one of two that opens, tried in this order, and goes on.

        The other one cannot go on from then on.
        """
        opened = []
        for path in (first, second):
            with contextlib.suppress(SealError):
                store = self.open(path)
                try:
                    known = set(store.keys("use"))
                    store.commit(audit=[ENTRY], now=NOW)
                    assert store.audit_head.count == 1 + len(known)  # a line each, and this one
                    opened.append(known)
                finally:
                    store.close()
        assert len(opened) == 1
        return opened[0]


def outcomes(
    tmp_path: Path, victim: str, *, standby_first: bool
) -> tuple[list[set[str]], list[str]]:
    """Kill `victim` at every step of an answer; return what the newest state knew each time."""
    found, names = [], []
    for kill_at in range(MAX_STEPS):
        directory = tmp_path / str(kill_at)
        directory.mkdir()
        world = World(directory, victim=victim, kill_at=kill_at)
        with world.watched():
            try:
                world.answer("during")
                if victim == "standby":
                    world.answer("after")
                killed = world.copy is None
            except Killed:
                killed = True
        names = world.names
        world.stop()
        order = [world.there, world.here] if standby_first else [world.here, world.there]
        known = world.newest(*order)
        assert set(world.answered) <= known
        found.append(known)
        if not killed:
            return found, names
    raise AssertionError("a commit that never ends")


@pytest.mark.parametrize("standby_first", [True, False], ids=["takeover", "restart"])
def test_the_active_is_killed_at_every_step(tmp_path: Path, standby_first: bool) -> None:
    found, names = outcomes(tmp_path, "active", standby_first=standby_first)
    assert {"before the write", "half written", "written", "before it is shipped", "shipped"} < set(
        names
    )
    assert sum(name.startswith("counter") for name in names) >= 4
    assert {"before"} in found  # killed early: nothing was said, and nothing is known
    assert {"before", "during"} in found


@pytest.mark.parametrize("standby_first", [True, False], ids=["takeover", "restart"])
def test_the_standby_is_killed_at_every_step(tmp_path: Path, standby_first: bool) -> None:
    """The active goes on alone; who takes over lacks nothing, or does not take over."""
    found, names = outcomes(tmp_path, "standby", standby_first=standby_first)
    assert {"received", "before the write", "half written", "written", "acknowledged"} <= set(names)
    assert all({"before", "during", "after"} == known for known in found)


def test_without_shipping_an_answer_would_be_lost_to_a_takeover(tmp_path: Path) -> None:
    """Else the tests above would prove nothing: the standby that lags is refused, not believed."""
    world = World(tmp_path)
    world.lose()
    world.answer("alone")
    world.stop()
    with pytest.raises(SealError, match="not the newest"):
        world.open(world.there)
    assert world.newest(world.there, world.here) == {"before", "alone"}


@pytest.mark.parametrize("crash", ["active", "standby"])
def test_a_power_cut_in_the_middle_of_a_write(tmp_path: Path, crash: str) -> None:
    """A hot journal is on the disk: SQLite takes the half commit back when the file is opened."""
    world = World(tmp_path)
    path = world.here if crash == "active" else world.there
    world.lose()
    world.store.close()
    journal = path.with_name(f"{path.name}-journal")
    half = sqlite3.connect(path, isolation_level=None)
    half.execute("PRAGMA cache_size = 1")
    half.execute("BEGIN IMMEDIATE")
    half.execute("DELETE FROM rows")
    for number in range(200):
        half.execute("INSERT INTO rows VALUES ('x', ?, 9, zeroblob(4000))", (f"k{number}",))
    content, hot = path.read_bytes(), journal.read_bytes()
    half.execute("ROLLBACK")
    half.close()
    path.write_bytes(content)
    journal.write_bytes(hot)
    assert world.newest(path, world.there if crash == "active" else world.here) == {"before"}
