"""A standby's copy of the state: whole, in order, of one session, and never merged."""

import contextlib
import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from toy_mesh import MASTER_KEY, NOW, Counter

from wardian.broker.state import replica as replicas
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.contents import (
    Commit,
    SealedLine,
    SealedRow,
    decode_commit,
    encode_commit,
)
from wardian.broker.state.database import Database, journal_of
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.replica import Replica, install, last_line
from wardian.broker.state.replicas import NO_REPLICAS, Replicas
from wardian.broker.state.snapshot import Incoming, LastPiece, Piece, take_snapshot
from wardian.broker.state.store import Store
from wardian.errors import ConfigError, FormatError, SealError, StateRolledBack

ENTRY = AuditEntry(event="start", outcome="granted")


class Recording(Replicas):
    """Keeps what was shipped; may refuse."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.refuses = False

    def ship(self, commit: Commit) -> None:
        if self.refuses:
            raise SealError("a standby that fails closed")
        self.commits.append(commit)


class Pair:
    """An active store, and where its standby's file lies."""

    def __init__(self, directory: Path) -> None:
        self.counter = Counter()
        self.shipped = Recording()
        self.here, self.there = directory / "active.db", directory / "standby.db"
        self.store = self.open_active()

    def open_active(self) -> Store:
        return Store(
            self.here, master_key=MASTER_KEY, counter=self.counter.seam, replicas=self.shipped
        )

    def put(self, **values: bytes | None) -> Commit:
        self.store.commit(
            {("t", key): value for key, value in values.items()}, audit=[ENTRY], now=NOW
        )
        return self.shipped.commits[-1]

    def pieces(self) -> list[bytes]:
        _, pieces = self.store.snapshot()
        return list(pieces)

    def receive(self, pieces: list[bytes] | None = None) -> Path:
        incoming = Incoming(self.there.with_suffix(".incoming"))
        with contextlib.closing(incoming):
            for piece in self.pieces() if pieces is None else pieces:
                incoming.take(piece)
        return self.there.with_suffix(".incoming")

    def follow(self, *, key: MasterKey = MASTER_KEY) -> Replica:
        replica, _ = self.install(key=key)
        return replica

    def install(self, *, key: MasterKey = MASTER_KEY) -> tuple[Replica, Path | None]:
        return install(
            self.receive(),
            self.there,
            master_key=key,
            accept=lambda _: None,
            keep_key=lambda _: None,
        )

    def take_over(self) -> Store:
        return Store(self.there, master_key=MASTER_KEY, counter=self.counter.seam)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.store.close()


# The way that it is meant


def test_a_copy_that_followed_is_the_newest_state(pair: Pair) -> None:
    pair.put(a=b"1", b=b"2")
    with contextlib.closing(pair.follow()) as copy:
        for commit in (pair.put(a=b"3"), pair.put(b=None), pair.put(c=b"4")):
            copy.apply(encode_commit(commit))
            assert copy.mark == hashlib.sha256(commit.root).digest()
        assert copy.root.audit == pair.store.audit_head
        assert (copy.get("t", "a"), copy.get("t", "b")) == (b"3", None)
    with contextlib.closing(pair.take_over()) as newest:
        assert {key: newest.get("t", key) for key in newest.keys("t")} == {"a": b"3", "c": b"4"}
        assert newest.audit_head == pair.store.audit_head
        newest.commit(audit=[ENTRY], now=NOW)
    with pytest.raises(SealError, match="another broker counted"):  # the old one is fenced
        pair.put(a=b"5")
    assert not pair.store.usable


def test_a_copy_of_an_empty_state(pair: Pair) -> None:
    pair.follow().close()
    with contextlib.closing(pair.take_over()) as newest:
        assert newest.generation == 1


def test_a_snapshot_is_of_one_moment_and_in_bounded_pieces(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.broker.state.snapshot.PIECE_BYTES", 100)
    monkeypatch.setattr("wardian.broker.state.snapshot._PAGE", 2)
    for number in range(7):
        pair.put(**{f"k{number}": bytes(60)})
    mark, pieces = pair.store.snapshot()
    first = next(pieces)
    pair.put(k0=None, later=b"x")
    received = [first, *pieces]
    assert len(received) > 7
    copy = Replica(pair.receive(received), master_key=MASTER_KEY)
    with contextlib.closing(copy):
        assert copy.mark == mark
        assert copy.root.audit.count == 7
        assert copy.get("t", "k0") == bytes(60)
        assert copy.get("t", "later") is None


# Shipping is a part of committing


def test_a_commit_is_on_its_disk_before_it_is_shipped_and_shipped_before_it_counts(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def ship(commit: Commit) -> None:
        with sqlite3.connect(f"file:{pair.here}?mode=ro&nolock=1", uri=True) as database:
            seen.append(database.execute("SELECT generation FROM root").fetchone()[0])
        database.close()
        seen.append(pair.counter.value >> 32)

    monkeypatch.setattr(pair.shipped, "ship", ship)
    pair.store.commit(audit=[ENTRY], now=NOW)
    assert seen == [2, 1]
    assert pair.counter.value >> 32 == 2


def test_replicas_that_fail_closed_stop_the_broker(pair: Pair) -> None:
    value = pair.counter.value
    pair.shipped.refuses = True
    with pytest.raises(SealError, match="fails closed"):
        pair.put(a=b"1")
    assert (pair.store.usable, pair.counter.value) == (False, value)
    with pytest.raises(SealError, match="restart it"):
        pair.store.snapshot()


def test_no_replicas_is_an_implementation(tmp_path: Path) -> None:
    with contextlib.closing(
        Store(tmp_path / "x.db", master_key=MASTER_KEY, counter=Counter().seam)
    ) as store:
        assert store.replicas is NO_REPLICAS
        assert store.replicas.said == ""
        assert store.path == tmp_path / "x.db"
        store.commit(audit=[ENTRY], now=NOW)


# Attacks on the stream


def test_a_standby_that_lagged_does_not_take_over(pair: Pair) -> None:
    pair.follow().close()
    pair.put(a=b"1")
    with pytest.raises(StateRolledBack):
        pair.take_over()


def test_a_commit_that_was_shipped_and_not_counted_is_taken_over(pair: Pair) -> None:
    with contextlib.closing(pair.follow()) as copy:
        pair.counter.fails = True
        with pytest.raises(OSError, match="killed"):
            pair.put(a=b"1")
        copy.apply(encode_commit(pair.shipped.commits[-1]))
    pair.counter.fails = False
    with contextlib.closing(pair.take_over()) as newest:
        assert newest.get("t", "a") == b"1"


def test_commits_out_of_order_or_again_are_refused(pair: Pair) -> None:
    with contextlib.closing(pair.follow()) as copy:
        first, second = pair.put(a=b"1"), pair.put(a=b"2")
        for commit in (second, first, first, second):
            with contextlib.suppress(SealError):
                copy.apply(encode_commit(commit))
        assert copy.root.generation == 3
        with pytest.raises(SealError, match="does not follow"):
            copy.apply(encode_commit(first))


def test_a_commit_of_another_future_is_refused(pair: Pair, tmp_path: Path) -> None:
    """Same generation, same key, another counter's value before: a stream of a branch."""
    pair.put(a=b"1")
    shutil.copy(pair.here, tmp_path / "branch.db")
    branch_counter = Counter(pair.counter.value)
    with contextlib.closing(pair.follow()) as copy:
        pair.put(a=b"2")
        copy.apply(encode_commit(pair.shipped.commits[-1]))
        shipped = Recording()
        branch = Store(
            tmp_path / "branch.db",
            master_key=MASTER_KEY,
            counter=branch_counter.seam,
            replicas=shipped,
        )
        with contextlib.closing(branch):
            branch.commit(audit=[ENTRY], now=NOW)
            branch.commit(audit=[ENTRY], now=NOW)
        with pytest.raises(SealError, match="does not follow"):
            copy.apply(encode_commit(shipped.commits[-1]))


@pytest.mark.parametrize(
    "change",
    [
        {"rows": ()},
        {"lines": ()},
        {"deleted": (("t", "a"),), "rows": ()},
        {"root": b"x" * 100},
        {"generation": 4},
    ],
    ids=str,
)
def test_a_commit_that_was_altered_changes_nothing(pair: Pair, change: dict[str, object]) -> None:
    pair.put(a=b"1")
    with contextlib.closing(pair.follow()) as copy:
        commit, mark = pair.put(b=b"2"), copy.mark
        with pytest.raises(SealError):
            copy.apply(encode_commit(msgspec.structs.replace(commit, **change)))
        assert copy.mark == mark
        copy.apply(encode_commit(commit))


def test_rows_and_lines_of_another_commit_do_not_fit(pair: Pair) -> None:
    pair.put(a=b"1")
    with contextlib.closing(pair.follow()) as copy:
        commit = pair.put(b=b"2")
        (row,), (line,) = commit.rows, commit.lines
        for bad_row in (
            row._replace(generation=2),
            row._replace(key="c"),
            row._replace(sealed=b"x"),
        ):
            with pytest.raises(SealError):
                copy.apply(encode_commit(msgspec.structs.replace(commit, rows=(bad_row,))))
        for bad_lines in (
            (line._replace(sequence=3),),
            (line._replace(generation=2),),
            (line._replace(sealed=line.sealed[:-1] + bytes([line.sealed[-1] ^ 1])),),
            (line, line),
        ):
            with pytest.raises(SealError):
                copy.apply(encode_commit(msgspec.structs.replace(commit, lines=bad_lines)))


def test_a_log_that_does_not_go_on_is_refused_even_under_the_right_key(pair: Pair) -> None:
    """What only the holder of the key could write is still verified."""
    pair.put(a=b"1")
    with contextlib.closing(pair.follow()) as copy:
        commit = pair.put(b=b"2")
        raw = copy._sealer.open(commit.lines[0].sealed, "audit", "2", 3)
        bad = copy._sealer.seal(raw.replace(b'"sequence":2', b'"sequence":7'), "audit", "2", 3)
        lines = (SealedLine(2, 3, bad),)
        with pytest.raises(SealError, match="audit log"):
            copy.apply(encode_commit(msgspec.structs.replace(commit, lines=lines)))


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x00", msgspec.msgpack.encode({"generation": 1})])
def test_bytes_that_are_no_commit(raw: bytes) -> None:
    with pytest.raises(FormatError, match="not in the form"):
        decode_commit(raw)


def test_a_commit_has_a_most(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardian.broker.state.drafts.MAX_COMMIT_BYTES", 1000)
    with pytest.raises(SealError, match="more than one change"):
        pair.put(a=bytes(1001))
    assert pair.store.usable


def test_the_list_of_rows_stays_readable(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardian._internal.wire.MAX_MESSAGE_BYTES", 1000)
    with pytest.raises(SealError, match="no room for more rows"):
        pair.put(**{f"k{number}": b"" for number in range(20)})
    assert pair.store.usable
    pair.put(a=b"1")


def test_a_disk_that_is_full_leaves_the_copy_as_it_was(pair: Pair) -> None:
    with contextlib.closing(pair.follow()) as copy:
        mark = copy.mark
        copy._database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(SealError, match="full"):
            copy.apply(encode_commit(pair.put(a=bytes(50_000))))
        assert copy.mark == mark


# Attacks on the snapshot


def test_a_snapshot_of_another_mesh_does_not_open(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Pair(tmp_path / "other")
    with contextlib.closing(other.store):
        other.put(a=b"1")
        with pytest.raises(SealError):
            pair.follow(key=MasterKey.random())
    assert not pair.there.exists()


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_a_piece_that_is_missing(pair: Pair, dropped: int) -> None:
    pair.put(a=b"1")
    pieces = pair.pieces()
    assert len(pieces) == 3
    del pieces[dropped]
    with pytest.raises(SealError):
        Replica(pair.receive(pieces), master_key=MASTER_KEY)


def test_a_snapshot_that_was_cut_leaves_nothing_and_one_that_ended_takes_no_more(
    pair: Pair,
) -> None:
    pair.put(a=b"1")
    pieces = pair.pieces()
    path = pair.receive(pieces[:-1])
    with contextlib.closing(Database(path)) as database:
        assert database.empty()
    with pytest.raises(SealError, match="one last piece"):
        pair.receive([*pieces, pieces[0]])
    with pytest.raises(FormatError, match="not a piece"):
        pair.receive([b"\xc1"])


def test_pieces_twice_are_refused(pair: Pair) -> None:
    pair.put(a=b"1")
    pieces = pair.pieces()
    with pytest.raises(SealError, match="UNIQUE"):
        pair.receive([pieces[1], pieces[1]])
    oversized = Piece(rows=(SealedRow("t", "a", 1, bytes(5 * 1024 * 1024)),))
    with pytest.raises(SealError, match="too big"):
        pair.receive([msgspec.msgpack.encode(oversized)])


def test_a_file_that_is_damaged_while_it_is_read(pair: Pair) -> None:
    pair.put(a=b"1")
    _, pieces = pair.store.snapshot()
    next(pieces)
    pair.store._database.execute("DELETE FROM audit")
    with pytest.raises(SealError, match="altered"):
        list(pieces)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM root", "UPDATE root SET sealed = 'x'", "CREATE VIEW v AS SELECT 1"]
)
def test_a_stopped_file_that_its_host_edited(pair: Pair, statement: str) -> None:
    pair.store.close()
    with sqlite3.connect(pair.here) as edited:
        edited.execute(statement)
    edited.close()
    with contextlib.closing(Database(pair.here)) as database, pytest.raises(SealError):
        take_snapshot(database)


def test_no_state_has_no_snapshot(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    with contextlib.closing(database), pytest.raises(SealError, match="no broker's state yet"):
        take_snapshot(database)
    with pytest.raises(SealError, match="no broker's state"):
        Replica(tmp_path / "x.db", master_key=MASTER_KEY)


def test_a_row_of_before_that_is_put_back_after_the_copy_was_verified(pair: Pair) -> None:
    """It was sealed for this very place: who decides by what it says would decide by the past."""
    before = pair.put(a=b"handed over to A").rows[0]
    pair.put(a=b"handed over to B")
    with contextlib.closing(pair.follow()) as replica:
        assert replica.get("t", "a") == b"handed over to B"
        replica._database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", [before])
        with pytest.raises(SealError, match="altered"):
            replica.get("t", "a")
        replica._database.execute("DELETE FROM rows WHERE key = 'a'")
        with pytest.raises(SealError, match="altered"):
            replica.get("t", "a")
        assert replica.get("t", "b") is None


def test_a_copy_has_a_place_to_be_received_in_or_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Database) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Database, "make", full)
    with pytest.raises(SealError, match="full"):
        Incoming(tmp_path / "x.incoming")
    (tmp_path / "y.incoming").mkdir()
    with pytest.raises(ConfigError, match="cannot be removed"):
        Incoming(tmp_path / "y.incoming")


# What was there before


def test_nothing_that_was_moved_aside_gives_way_to_the_next(pair: Pair) -> None:
    kept = []
    for _ in range(3):
        pair.there.write_bytes(b"no database, whatever it is " * 100)
        replica, aside = pair.install()
        replica.close()
        kept.append(aside.name if aside else "")
    name = "standby.db.unreadable"
    assert kept == [name, f"{name}.2", f"{name}.3"]


def test_an_older_copy_gives_way_and_a_fork_is_moved_aside(pair: Pair) -> None:
    pair.put(a=b"1")
    pair.follow().close()
    pair.put(a=b"2")
    replica, aside = pair.install()
    replica.close()
    assert aside is None
    with contextlib.closing(pair.take_over()) as fork:  # it counts by itself ...
        fork.commit({("t", "a"): b"forked"}, audit=[ENTRY], now=NOW)
        forked = fork.generation
    pair.store.close()
    pair.counter.value = pair.store._value
    pair.store = pair.open_active()  # ... and so does, on a counter put back, the other
    pair.put(a=b"3")
    kept = []
    replica, aside = install(
        pair.receive(),
        pair.there,
        master_key=MASTER_KEY,
        accept=lambda _: None,
        keep_key=kept.append,
    )
    replica.close()
    assert kept == [MASTER_KEY]
    assert aside == pair.there.with_name(f"standby.db.forked-{forked}")
    line = last_line(aside, master_key=MASTER_KEY)
    assert line is not None
    assert line.generation == forked
    with sqlite3.connect(aside) as edited:
        edited.execute("DELETE FROM audit")
    edited.close()
    with pytest.raises(SealError, match="altered"):
        last_line(aside, master_key=MASTER_KEY)


def test_what_is_unreadable_is_moved_aside_and_what_is_empty_is_not(pair: Pair) -> None:
    Store(pair.there, master_key=MasterKey.random(), counter=Counter().seam).close()
    replica, aside = pair.install()
    replica.close()
    assert aside == pair.there.with_name("standby.db.unreadable")
    assert aside.exists()
    pair.there.unlink()
    Store(pair.there, master_key=MASTER_KEY, counter=Counter().seam).close()
    replica, aside = pair.install()
    replica.close()
    assert aside is None
    assert last_line(pair.there.with_name("missing"), master_key=MASTER_KEY) is None
    empty = pair.there.with_name("empty.db")
    Database(empty).close()
    assert last_line(empty, master_key=MASTER_KEY) is None


def test_a_copy_that_is_not_accepted_changes_nothing(pair: Pair) -> None:
    pair.put(a=b"1")
    pair.follow().close()
    before = pair.there.read_bytes()
    pair.put(a=b"2")

    def refuse(copy: Replica) -> None:
        assert copy.get("t", "a") == b"2"
        raise SealError("another CA")

    with pytest.raises(SealError, match="another CA"):
        install(
            pair.receive(),
            pair.there,
            master_key=MASTER_KEY,
            accept=refuse,
            keep_key=lambda _: pytest.fail("kept"),
        )
    assert pair.there.read_bytes() == before


def test_a_copy_that_cannot_be_put_in_place(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Path) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(replicas, "sync_directory", fails)
    with pytest.raises(ConfigError, match="cannot be put in place"):
        pair.follow()


def test_a_journal_of_the_file_before_does_not_meet_the_copy(pair: Pair) -> None:
    """SQLite would roll the new file back with it."""
    pair.put(a=b"1")
    pair.follow().close()
    journal_of(pair.there).write_bytes(b"left by a crash")
    pair.put(a=b"2")
    pair.follow().close()
    assert not journal_of(pair.there).exists()
    pair.take_over().close()


def test_a_last_piece_is_bounded() -> None:
    raw = msgspec.msgpack.encode(LastPiece(generation=1, root=bytes(4 * 1024 * 1024 + 1)))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(raw, type=LastPiece)
