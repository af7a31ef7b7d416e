"""Which of two brokers is active: every step of the way, and what can never happen."""

import contextlib
import itertools
import random
from pathlib import Path

import pytest
from test_broker_replica import ENTRY
from toy_mesh import MASTER_KEY, NOW, Counter

from wardian.broker.standby.course import Course, Heard, Step
from wardian.broker.state.contents import Commit, encode_commit
from wardian.broker.state.replica import Replica, install
from wardian.broker.state.replicas import Replicas
from wardian.broker.state.snapshot import Incoming
from wardian.broker.state.store import Store
from wardian.errors import CounterLost, CounterUnavailable, SealError, StateRolledBack

PATIENCE = 5.0


def course(*, first: bool = False) -> Course:
    return Course(patience_s=PATIENCE, first=first, now=100.0)


# The table of transitions


@pytest.mark.parametrize("heard", [Heard.SILENT, Heard.NOT_ACTIVE])
def test_without_an_active_peer_it_opens_when_its_patience_is_over(heard: Heard) -> None:
    at = course()
    assert at.heard(heard, now=104.9) is Step.SEEK
    assert at.heard(heard, now=105.0) is Step.OPEN


def test_the_first_one_need_not_wait() -> None:
    assert course(first=True).heard(Heard.SILENT, now=100.0) is Step.OPEN
    assert course(first=True).heard(Heard.NOT_ACTIVE, now=100.0) is Step.OPEN


@pytest.mark.parametrize("heard", [Heard.REFUSES, Heard.BROKE_OFF, Heard.COPIED, Heard.FOLLOWED])
def test_an_active_peer_is_waited_for_anew(heard: Heard) -> None:
    at = course(first=True)
    assert at.heard(heard, now=200.0) is Step.SEEK
    assert at.heard(Heard.SILENT, now=204.9) is Step.SEEK
    assert at.heard(Heard.SILENT, now=205.0) is Step.OPEN


@pytest.mark.parametrize("error", [StateRolledBack("old"), CounterLost("lost")])
def test_a_state_that_is_old_or_lost_is_not_tried_again(error: SealError) -> None:
    """To ask the counter is to take it over: for nothing, and from whoever is active."""
    at = course(first=True)
    at.heard(Heard.SILENT, now=100.0)
    assert at.refused(error, now=100.0) is Step.SEEK
    assert at.stale
    for heard in (Heard.SILENT, Heard.NOT_ACTIVE, Heard.REFUSES, Heard.BROKE_OFF):
        assert at.heard(heard, now=1e6) is Step.SEEK


@pytest.mark.parametrize("heard", [Heard.COPIED, Heard.FOLLOWED])
def test_until_there_is_a_fresh_copy(heard: Heard) -> None:
    at = course()
    at.refused(StateRolledBack("old"), now=100.0)
    at.heard(heard, now=200.0)
    assert not at.stale
    assert at.heard(Heard.SILENT, now=205.0) is Step.OPEN


def test_a_counter_that_cannot_be_reached_is_asked_again() -> None:
    at = course(first=True)
    for begun in (100.0, 105.0, 110.0):  # nobody lost the counter by it: no need to wait longer
        assert at.refused(CounterUnavailable("away"), now=begun) is Step.SEEK
        assert not at.stale
        assert at.heard(Heard.SILENT, now=begun + 4.0) is Step.SEEK
        assert at.heard(Heard.SILENT, now=begun + 5.0) is Step.OPEN
    at.refused(StateRolledBack("old"), now=115.0)
    at.refused(CounterUnavailable("away"), now=115.0)
    assert at.stale


def test_a_full_disk_is_no_old_state() -> None:
    """It is tried again, each time later: the counter is taken from whoever is active each time."""
    at, now = course(first=True), 100.0
    for pause in (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 320.0, 320.0):
        assert at.refused(SealError("database or disk is full"), now=now) is Step.SEEK
        assert not at.stale
        assert at.heard(Heard.SILENT, now=now + pause - 0.1) is Step.SEEK
        now += pause
        assert at.heard(Heard.NOT_ACTIVE, now=now) is Step.OPEN


def test_an_active_that_was_heard_shortens_no_pause() -> None:
    at = course(first=True)
    for now in (100.0, 105.0, 115.0):
        at.refused(SealError("disk I/O error"), now=now)
    assert at.heard(Heard.BROKE_OFF, now=116.0) is Step.SEEK
    assert at.heard(Heard.SILENT, now=134.9) is Step.SEEK
    assert at.heard(Heard.SILENT, now=135.0) is Step.OPEN


def test_a_fresh_copy_is_tried_with_the_patience_of_the_beginning() -> None:
    at = course(first=True)
    for now in (100.0, 105.0, 115.0):
        at.refused(SealError("altered"), now=now)
    at.heard(Heard.FOLLOWED, now=116.0)
    assert at.heard(Heard.SILENT, now=121.0) is Step.OPEN
    at.refused(SealError("altered"), now=121.0)
    assert at.heard(Heard.SILENT, now=126.0) is Step.OPEN


# Two brokers, one counter, a hostile network, and crashes: a model that plays them


class Killed(BaseException):
    """The process is gone."""


class Link(Replicas):
    """Ships to the other node while that follows and can be reached; killed at times."""

    def __init__(self, world: "TwoBrokers") -> None:
        self.world = world
        self.to: Node | None = None

    def ship(self, commit: Commit) -> None:
        self.world.maybe_kill()
        if self.to is not None and self.world.cut:
            self.to.lose(self.world.now)
        if self.to is not None and self.to.copy is not None:
            self.to.copy.apply(encode_commit(commit))
        self.world.maybe_kill()


class Node:
    """One of two brokers: its file, its course, its copy or its state."""

    def __init__(self, world: "TwoBrokers", path: Path, *, first: bool) -> None:
        self.world, self.path, self.first = world, path, first
        self.link = Link(world)
        self.store: Store | None = None
        self.copy: Replica | None = None
        self.follows: Node | None = None
        self.course = Course(patience_s=PATIENCE, first=first, now=0.0)

    def open(self) -> None:
        self.store = Store(
            self.path,
            master_key=MASTER_KEY,
            counter=self.world.counter.seam,
            replicas=self.link,
        )
        self.store.commit(audit=[ENTRY], now=NOW)  # "start"

    def lose(self, now: float) -> None:
        """Lose the active that is followed."""
        if self.copy is not None and self.follows is not None:
            self.copy.close()
            self.follows.link.to = None
            self.copy = self.follows = None
            self.course.heard(Heard.FOLLOWED, now=now)

    def crash(self, now: float) -> None:
        if self.link.to is not None:
            self.link.to.lose(now)
        self.lose(now)
        if self.store is not None:
            self.store.close()
            self.store = None
        self.course = Course(patience_s=PATIENCE, first=self.first, now=now)


class TwoBrokers:
    """What was answered, over all: `acknowledged` must be in whatever state is the newest."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.counter = Counter()
        self.now = 0.0
        self.nodes = [
            Node(self, directory / "a.db", first=True),
            Node(self, directory / "b.db", first=seed % 2 == 0),
        ]
        self.acknowledged: list[str] = []
        self.numbers = itertools.count()
        self.cut = False

    def maybe_kill(self) -> None:
        if self.random.random() < 0.04:
            raise Killed

    def step(self) -> None:
        self.now += self.random.choice((0.1, 1.0, 6.0))
        node, peer = self.random.sample(self.nodes, 2)
        what = self.random.random()
        if what < 0.05:
            node.crash(self.now)
        elif what < 0.12:
            self.cut = not self.cut
        else:
            self.counter.fails = self.random.random() < 0.04  # killed before it counts
            try:
                self.act(node, peer)
            except (SealError, OSError, Killed) as err:
                opening = node.store is None
                node.crash(self.now)
                if opening and isinstance(err, SealError):
                    node.course.refused(err, now=self.now)
            finally:
                self.counter.fails = False

    def act(self, node: Node, peer: Node) -> None:
        if node.store is not None:
            name = f"use-{next(self.numbers)}"
            node.store.commit({("use", name): b"1"}, audit=[ENTRY], now=NOW)
            self.acknowledged.append(name)
        elif node.copy is not None:
            if self.cut:
                node.lose(self.now)
        elif peer.store is not None and not self.cut:
            self.follow(node, peer)
        else:
            heard = Heard.SILENT if self.cut else Heard.NOT_ACTIVE
            if node.course.heard(heard, now=self.now) is Step.OPEN:
                node.open()

    def follow(self, node: Node, peer: Node) -> None:
        assert peer.store is not None
        try:
            peer.store.commit(audit=[ENTRY], now=NOW)  # the release of the key: is it the newest?
        except (SealError, OSError, Killed):
            peer.crash(self.now)
            return
        incoming = Incoming(node.path.with_suffix(".incoming"))
        for piece in peer.store.snapshot()[1]:
            incoming.take(piece)
        incoming.close()
        node.copy, _ = install(
            node.path.with_suffix(".incoming"),
            node.path,
            master_key=MASTER_KEY,
            accept=lambda _: None,
            keep_key=lambda _: None,
        )
        node.course.heard(Heard.COPIED, now=self.now)
        peer.link.to, node.follows = node, peer

    def confirmed(self) -> list[Store]:
        found = []
        for node in self.nodes:
            with contextlib.suppress(SealError):
                if node.store is not None and node.store.usable:
                    node.store.confirm()
                    found.append(node.store)
        return found


@pytest.mark.parametrize("seed", range(12))
def test_two_brokers_never_both_decide_and_nothing_that_was_answered_is_lost(
    tmp_path: Path, seed: int
) -> None:
    world, decided, takeovers, before = TwoBrokers(tmp_path, seed), 0, 0, None
    for _ in range(150):
        world.step()
        confirmed = world.confirmed()
        assert len(confirmed) <= 1
        for store in confirmed:
            decided += 1
            takeovers += before not in (None, store.path)
            before = store.path
            assert set(world.acknowledged) <= set(store.keys("use"))
    for node in world.nodes:
        node.crash(world.now)
    assert decided > 20
    assert len(world.acknowledged) > 10
    TAKEOVERS.append(takeovers)


TAKEOVERS: list[int] = []


def test_the_model_takes_over() -> None:
    """Else the test above would prove nothing."""
    assert not TAKEOVERS or sum(TAKEOVERS) > len(TAKEOVERS)
