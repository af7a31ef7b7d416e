"""The active's end of a commit on its way to a standby: late, wrong, or from somebody else."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from test_broker_replica import ENTRY, Recording
from toy_mesh import MASTER_KEY, NOW, Counter, ToyBroker, ToyMesh

from wardian.broker.frames import HEADER
from wardian.broker.standby.channel import Direction, Receiver, Sender
from wardian.broker.standby.commits import COMMIT, CommitsLink
from wardian.broker.standby.standbys import Joining, Standbys
from wardian.broker.standby.watch import watch
from wardian.broker.state.audit import decode_line
from wardian.broker.state.contents import Commit, decode_commit
from wardian.broker.state.store import Store
from wardian.crypto.secret import Secret
from wardian.errors import (
    AuthenticationFailed,
    ConnectionLost,
    CounterUnavailable,
    PeerProtocolError,
    Timeout,
)

KEY = Secret(bytes(range(32)))
HERE = ("127.0.0.1", 1)


class Wire:
    """A socket whose other end is a function from what was sent to what comes back."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer, self.incoming, self.closed = answer, b"", False
        self.outgoing, self.at_once, self.record = b"", 10, 16384

    def send(self, raw: bytes) -> int:
        """Take some of it, as TLS takes a record."""
        part = bytes(raw[: self.record])
        self.outgoing += part
        (length,) = HEADER.unpack(self.outgoing[:4])
        assert length >= len(self.outgoing) - 4
        if length == len(self.outgoing) - 4:
            frame, self.outgoing = self.outgoing[4:], b""
            self.incoming += self.answer(frame)
        return len(part)

    def recv(self, size: int) -> bytes:
        part = self.incoming[: min(size, self.at_once)]
        self.incoming = self.incoming[len(part) :]
        return part

    def settimeout(self, seconds: float) -> None:
        assert 0 < seconds <= 1

    def close(self) -> None:
        self.closed = True


class Standby:
    """The other end: has a copy, says its mark."""

    def __init__(self) -> None:
        self.receiver = Receiver(KEY, Direction.COMMITS)
        self.sender = Sender(KEY, Direction.COMMITS_TAKEN)
        self.mark, self.commits = bytes(32), list[Commit]()

    def __call__(self, frame: bytes) -> bytes:
        content = self.receiver.content(frame)
        if content[:1] == COMMIT:
            self.commits.append(decode_commit(content[1:]))
            self.mark = hashlib.sha256(self.commits[-1].root).digest()
        return framed(self.sender.frame(self.mark))


def framed(raw: bytes) -> bytes:
    return HEADER.pack(len(raw)) + raw


def link(answer: Callable[[bytes], bytes], **changes: float) -> CommitsLink:
    return CommitsLink(Wire(answer), session_key=KEY, **changes)  # type: ignore[arg-type]


@pytest.fixture
def commit(tmp_path) -> Commit:
    shipped = Recording()
    store = Store(
        tmp_path / "x.db", master_key=MASTER_KEY, counter=Counter().seam, replicas=shipped
    )
    store.commit({("t", "a"): bytes(100)}, audit=[ENTRY], now=NOW)
    store.close()
    return shipped.commits[0]


def test_a_standby_says_what_it_has(commit: Commit) -> None:
    standby = Standby()
    to = link(standby)
    assert to.beat() == bytes(32)
    to.ship(commit)
    to.ship(commit)
    assert standby.commits == [commit, commit]
    to.close()
    assert to._socket.closed  # type: ignore[attr-defined]


def test_a_standby_that_has_something_else(commit: Commit) -> None:
    standby = Standby()

    def answer(frame: bytes) -> bytes:
        standby(frame)
        return framed(Sender(KEY, Direction.COMMITS_TAKEN).frame(bytes(32)))

    with pytest.raises(PeerProtocolError, match="another copy"):
        link(answer).ship(commit)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda _: framed(bytes(64)), AuthenticationFailed),
        (lambda frame: framed(frame + bytes(31)), AuthenticationFailed),
        (lambda _: framed(b"short"), PeerProtocolError),
        (lambda _: framed(bytes(5000)), PeerProtocolError),
        (lambda _: b"", ConnectionLost),
        (lambda _: framed(bytes(64))[:20], ConnectionLost),
    ],
    ids=["zeros", "turned back", "short", "long", "nothing", "cut"],
)
def test_answers_that_are_none(answer: Callable[[bytes], bytes], error: type[Exception]) -> None:
    with pytest.raises(error):
        link(answer).beat()


def test_a_link_that_is_late_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(error: OSError) -> Callable[[bytes], bytes]:
        def answer(_: bytes) -> bytes:
            raise error

        return answer

    with pytest.raises(Timeout):
        link(fails(TimeoutError())).beat()
    for error in (ssl.SSLError("closed"), ConnectionResetError()):
        with pytest.raises(ConnectionLost):
            link(fails(error)).beat()
    ticks = iter([0.0, 0.5, 0.6, 1.1])
    monkeypatch.setattr("wardian.broker.standby.commits.time.monotonic", lambda: next(ticks))
    with pytest.raises(Timeout, match="within 1 s"):  # it dribbles: each byte in time, all too late
        link(Standby()).beat()


def test_a_standby_that_takes_a_commit_record_by_record(
    commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in time, and all of them too late: the broker decides nothing meanwhile."""
    now = iter(tick * 0.4 for tick in range(1000))
    monkeypatch.setattr("wardian.broker.standby.commits.time.monotonic", lambda: next(now))
    slow, standby = Wire(Standby()), Standby()
    slow.record = 50
    with pytest.raises(Timeout, match="within 1 s"):
        CommitsLink(slow, session_key=KEY).ship(commit)  # type: ignore[arg-type]
    assert not standby.commits
    assert next(now) <= 2


def test_a_standby_that_is_slower_than_what_is_committed_is_not_attached(
    commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    standbys, standby = Standbys(HERE), Standby()
    now = iter(tick * 0.05 for tick in range(10_000))
    monkeypatch.setattr("wardian.broker.standby.standbys.time.monotonic", lambda: next(now))
    good = link(standby)  # each commit takes it half a second
    with pytest.raises(Timeout, match="slower"):
        standbys.attach(Joining(waiting=[commit] * 200), good, mark=bytes(32))
    assert not standbys.kept_up
    assert 2 < len(standby.commits) < 6


async def test_a_standby_is_kept_up_under_the_manifest_that_admitted_it(tmp_path: Path) -> None:
    """Its platform may be withdrawn by the next one; who is not seems lost, and comes again."""
    mesh, standbys, standby = ToyMesh(), Standbys(HERE), Standby()
    with contextlib.closing(ToyBroker(mesh, tmp_path / "broker.db")) as broker:
        authority = broker.authority
        here = link(standby)
        standbys.attach(Joining(), here, mark=bytes(32), under=authority.manifest_digest)
        watching = asyncio.ensure_future(watch(standbys, authority, beat_s=0))
        before = authority.store.audit_head.count
        for _ in range(20):
            await asyncio.sleep(0)
        assert (standbys.kept_up, authority.store.audit_head.count) == (True, before)
        broker.provision(mesh.signed(version=2))
        after = authority.store.audit_head.count
        for _ in range(20):
            await asyncio.sleep(0)
        assert not standbys.kept_up
        lines = [decode_line(raw).entry for raw in authority.store.audit_lines(after=after)]
        assert [(line.event, line.outcome, line.rule) for line in lines] == [
            ("standby", "refused", "manifest")
        ]
        assert not watching.done()
        watching.cancel()


async def test_a_standby_lost_together_with_the_counter_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One partition takes both away: the line is due when the counter is back."""
    mesh, standbys, standby = ToyMesh(), Standbys(HERE), Standby()
    with contextlib.closing(ToyBroker(mesh, tmp_path / "broker.db")) as broker:
        authority, away = broker.authority, CounterUnavailable("1 of 3 peers answer")
        standbys.attach(Joining(), link(standby), mark=bytes(32), under=authority.manifest_digest)
        watching = asyncio.ensure_future(watch(standbys, authority, beat_s=0))
        await asyncio.sleep(0)
        before = authority.store.audit_head.count

        def unavailable() -> int:
            raise away

        with monkeypatch.context() as patch:
            patch.setattr(broker.counter, "read", unavailable)
            authority.store._counter = broker.counter.seam
            standbys._links[0]._socket.answer = lambda _: b""  # type: ignore[attr-defined]
            for _ in range(20):
                await asyncio.sleep(0)
            assert not watching.done()
            assert authority.usable
            assert authority.store.audit_head.count == before
        authority.store._counter = broker.counter.seam
        for _ in range(20):
            await asyncio.sleep(0)
        lines = [decode_line(raw).entry for raw in authority.store.audit_lines(after=before)]
        assert [(line.event, line.rule) for line in lines] == [("standby", "lost")]
        watching.cancel()


async def test_a_line_that_may_have_counted_ends_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh, standbys, standby = ToyMesh(), Standbys(HERE), Standby()
    with contextlib.closing(ToyBroker(mesh, tmp_path / "broker.db")) as broker:
        authority = broker.authority
        standbys.attach(Joining(), link(standby), mark=bytes(32), under=authority.manifest_digest)

        def in_doubt(*_: object, **__: object) -> None:
            authority.store.abandon()
            raise CounterUnavailable("1 of 3 peers answer")

        monkeypatch.setattr(type(authority), "record", in_doubt)
        standbys._links[0]._socket.answer = lambda _: b""  # type: ignore[attr-defined]
        with pytest.raises(CounterUnavailable):
            await asyncio.wait_for(watch(standbys, authority, beat_s=0), 5)


def test_who_is_not_kept_up_any_more_is_told_once(commit: Commit) -> None:
    standbys, lost = Standbys(HERE), list[int]()
    standbys.on_lost = lambda: lost.append(1)
    good = Standby()
    standbys.attach(Joining(), link(good), mark=bytes(32))
    assert standbys.kept_up
    assert standbys.said == "a standby has every commit"
    standbys.ship(commit)
    standbys.beat()
    assert (good.commits, lost) == ([commit], [])
    standbys._links[0]._socket.answer = lambda _: b""  # type: ignore[attr-defined]
    standbys.ship(commit)
    standbys.ship(commit)
    standbys.beat()
    assert (standbys.kept_up, lost) == (False, [1])
    nobody = Standbys(HERE)
    assert "lost with this machine" in nobody.said
    nobody.on_lost()
    nobody.ship(commit)
    nobody.close()


def test_a_newer_link_takes_the_place_of_the_one_before(commit: Commit) -> None:
    standbys = Standbys(HERE)
    first, second = link(Standby()), link(Standby())
    standbys.attach(Joining(), first, mark=bytes(32))
    with standbys.joining_one() as joining:
        standbys.ship(commit)
    standbys.ship(commit)
    assert joining.waiting == [commit]
    standbys.attach(joining, second, mark=bytes(32))
    assert first._socket.closed  # type: ignore[attr-defined]
    assert not second._socket.closed  # type: ignore[attr-defined]
    standbys.close()
    assert second._socket.closed  # type: ignore[attr-defined]
    assert not standbys.kept_up


def test_a_standby_with_another_copy_is_not_attached(commit: Commit) -> None:
    standbys = Standbys(HERE)
    with pytest.raises(AuthenticationFailed, match="another copy"):
        standbys.attach(Joining(), link(Standby()), mark=b"x" * 32)
    with pytest.raises(Timeout, match="ask again"):
        standbys.attach(Joining(overtaken=True), link(Standby()), mark=bytes(32))
    assert not standbys.kept_up


def test_so_many_commits_wait(commit: Commit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardian.broker.standby.standbys.MOST_WAITING", 2)
    standbys = Standbys(HERE)
    with standbys.joining_one() as joining:
        for number in range(4):
            standbys.ship(commit)
            assert joining.overtaken == (number >= 2)
    assert len(joining.waiting) == 2
