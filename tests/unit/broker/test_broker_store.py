"""The broker's state on a hostile disk: altered, mixed, dropped, taken back, or full."""

import dataclasses
import hashlib
import shutil
import sqlite3
import tracemalloc
from pathlib import Path

import pytest
from toy_mesh import MASTER_KEY, NOW, Counter

from wardian._internal.counter import MAX_GENERATION, stamp
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.database import Database
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store
from wardian.errors import (
    ConfigError,
    CounterLost,
    CounterUnavailable,
    SealError,
    StateRolledBack,
)

ENTRY = AuditEntry(event="start", outcome="granted")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def counter() -> Counter:
    return Counter()


def opened(path: Path, counter: Counter, key: MasterKey = MASTER_KEY) -> Store:
    return Store(path, master_key=key, counter=counter.seam)


def put(store: Store, **values: bytes | None) -> None:
    store.commit({("t", key): value for key, value in values.items()}, audit=[ENTRY], now=NOW)


def written(path: Path, counter: Counter, **values: bytes) -> None:
    store = opened(path, counter)
    put(store, **values)
    store.close()


def edit(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            database.execute(statement)
    database.close()


def test_values_come_back_after_a_restart(path: Path, counter: Counter) -> None:
    written(path, counter, a=b"1", b=b"2")
    store = opened(path, counter)
    assert (store.get("t", "a"), store.get("t", "b"), store.get("t", "c")) == (b"1", b"2", None)
    assert store.keys("t") == ("a", "b")
    assert (store.generation, store.audit_head.count) == (2, 1)
    assert store.kept_by.said == "development: a file counter, the host can set it back"
    put(store, a=None, b=b"3")
    assert (store.get("t", "a"), store.get("t", "b")) == (None, b"3")
    assert len(store.audit_lines()) == 2
    assert store.audit_lines(after=1, limit=1) == store.audit_lines()[1:]
    store.close()


def test_the_file_is_private_and_shows_no_value(path: Path, counter: Counter) -> None:
    written(path, counter, a=b"a very secret value")
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"very secret" not in path.read_bytes()


def test_two_brokers_do_not_open_one_file(path: Path, counter: Counter) -> None:
    store = opened(path, counter)
    with pytest.raises(ConfigError, match="another broker has this state open"):
        opened(path, counter)
    store.close()


def test_a_place_that_cannot_be_written(tmp_path: Path, counter: Counter) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        opened(tmp_path / "missing" / "state.db", counter)


def test_another_enclaves_state(path: Path, counter: Counter) -> None:
    written(path, counter, a=b"1")
    with pytest.raises(SealError, match="sealed by another enclave"):
        opened(path, counter, MasterKey.random())


# Rows


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM rows WHERE key = 'a'",
        "INSERT INTO rows SELECT place, 'c', generation, sealed FROM rows WHERE key = 'a'",
        "UPDATE rows SET key = key || '2'",
        "UPDATE rows SET sealed = (SELECT sealed FROM rows WHERE key = 'b') WHERE key = 'a'",
        "UPDATE rows SET generation = generation + 1 WHERE key = 'a'",
        "UPDATE rows SET generation = -1",
        "UPDATE rows SET generation = 'x'",
        "UPDATE rows SET sealed = 'text'",
        "UPDATE rows SET sealed = x''",
        "UPDATE root SET generation = generation + 1",
        "UPDATE root SET sealed = x'00'",
        "UPDATE root SET sealed = (SELECT sealed FROM rows WHERE key = 'a')",
        "DELETE FROM root",
        "DELETE FROM audit",
        "UPDATE audit SET sequence = sequence + 7",
        "UPDATE audit SET sealed = x'00'",
        "CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END",
        "CREATE VIEW v AS SELECT 1",
        "UPDATE root SET one = 2",
        "INSERT INTO root SELECT 2, generation, sealed FROM root",
        "INSERT INTO root SELECT -1, generation, sealed FROM root",
        "UPDATE rows SET place = CAST(x'ff' AS TEXT)",
        "DROP TABLE audit",
    ],
)
def test_a_file_that_its_host_edited(path: Path, counter: Counter, statement: str) -> None:
    written(path, counter, a=b"1", b=b"2")
    edit(path, statement)
    with pytest.raises(SealError):
        opened(path, counter)


def test_every_byte_of_a_sealed_value_is_authenticated(path: Path, counter: Counter) -> None:
    written(path, counter, a=b"1")
    for table in ("rows", "root", "audit"):
        with sqlite3.connect(path) as database:
            (good,) = database.execute(f"SELECT sealed FROM {table}").fetchone()
            for position in range(0, len(good), 5):
                bad = bytearray(good)
                bad[position] ^= 1
                database.execute(f"UPDATE {table} SET sealed = ?", (bytes(bad),))
                database.commit()
                with pytest.raises(SealError):
                    opened(path, counter)
            database.execute(f"UPDATE {table} SET sealed = ?", (good,))
        database.close()
    opened(path, counter).close()


def test_one_row_is_taken_back(path: Path, counter: Counter) -> None:
    store = opened(path, counter)
    put(store, a=b"old", b=b"2")
    store.close()
    with sqlite3.connect(path) as database:
        (old,) = database.execute("SELECT sealed FROM rows WHERE key = 'a'").fetchone()
    database.close()
    store = opened(path, counter)
    put(store, a=b"new")
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE rows SET sealed = ?, generation = 2 WHERE key = 'a'", (old,))
    database.close()
    with pytest.raises(SealError, match="altered"):
        opened(path, counter)


def test_a_row_that_changes_under_an_open_store(path: Path, counter: Counter) -> None:
    store = opened(path, counter)
    put(store, a=b"1", b=b"2")
    store._database.execute("UPDATE rows SET sealed = (SELECT sealed FROM rows WHERE key = 'b')")
    with pytest.raises(SealError):
        store.get("t", "a")
    store._database.execute("DELETE FROM rows")
    with pytest.raises(SealError):
        store.get("t", "a")
    store.close()


def test_a_file_that_is_no_database(path: Path, counter: Counter) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(SealError):
        opened(path, counter)


@pytest.mark.parametrize(
    "change",
    [
        "name = CAST(x'ff' AS TEXT), sql = 'CREATE TABLE'",
        "name = CAST(x'ff' AS TEXT), tbl_name = CAST(x'ff' AS TEXT)",
        "sql = CAST(x'435245415445205441424c45ff20' AS TEXT)",
        "rootpage = 999, name = CAST(x'ff' AS TEXT)",
        "sql = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_name_in_the_schema_that_is_no_text(path: Path, counter: Counter, change: str) -> None:
    """SQLite quotes it in a message that Python cannot decode."""
    written(path, counter, a=b"1")
    edit(
        path,
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_master SET {change} WHERE name = 'rows'",
    )
    with pytest.raises(SealError, match="altered"):
        opened(path, counter)


def test_a_schema_that_is_no_text(path: Path, counter: Counter) -> None:
    """Whatever stands in a damaged file ends in our error: SQLite's own quote bytes of it."""
    written(path, counter, a=b"1")
    good, value = path.read_bytes(), counter.value
    schema = good.index(b"CREATE TABLE root")
    for at in (*range(100), *range(schema - 60, schema + 170)):
        path.write_bytes(good[:at] + b"\xff" + good[at + 1 :])
        counter.value = value
        for journal in path.parent.glob("*-*"):
            journal.unlink()
        try:
            opened(path, counter).close()
        except (SealError, ConfigError):
            continue


def test_a_truncated_file(path: Path, counter: Counter) -> None:
    written(path, counter, a=b"1" * 5000)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(SealError):
        opened(path, counter)


def test_a_long_audit_log_is_verified_line_by_line(path: Path, counter: Counter) -> None:
    """It grows for good: a start must not hold it in memory."""
    store = opened(path, counter)
    for _ in range(20):
        store.commit(audit=[ENTRY] * 200, now=NOW)
    store.close()
    tracemalloc.start()
    try:
        opened(path, counter).close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000, "a line takes more than 500 bytes in memory; there are 4000"


# The whole file, put back


def test_an_older_copy_of_the_file_is_refused(path: Path, counter: Counter) -> None:
    written(path, counter, a=b"old")
    shutil.copy(path, path.with_suffix(".old"))
    written(path, counter, a=b"new")
    shutil.copy(path.with_suffix(".old"), path)
    with pytest.raises(StateRolledBack, match="not the newest"):
        opened(path, counter)


def test_a_removed_file_is_missed(path: Path, counter: Counter) -> None:
    written(path, counter, a=b"1")
    path.unlink()
    with pytest.raises(StateRolledBack, match="removed"):
        opened(path, counter)


def test_an_empty_database_in_place_of_the_state(path: Path, counter: Counter) -> None:
    written(path, counter, a=b"1")
    edit(path, "DROP TABLE root", "DROP TABLE rows", "DROP TABLE audit")
    with pytest.raises(SealError):
        opened(path, counter)


@pytest.mark.parametrize("value", [0, 1 << 32])
def test_a_counter_that_was_set_back(path: Path, counter: Counter, value: int) -> None:
    """The file proves that more was counted: that is not a file that was put back."""
    written(path, counter, a=b"1")
    written(path, counter, a=b"2")
    counter.value = value
    says = "generation 1" if value else "stands at 0.*owners recover the state"
    with pytest.raises(CounterLost, match=says):
        opened(path, counter)


def test_a_counter_that_was_set_back_by_one(path: Path, counter: Counter) -> None:
    """A file may be one ahead only of the very value that it was written on."""
    written(path, counter, a=b"1")
    counter.value -= (1 << 32) + 1
    with pytest.raises(CounterLost, match="lost or set back"):
        opened(path, counter)


@pytest.mark.parametrize("commits", range(4))
def test_a_file_of_an_earlier_life_returns(path: Path, counter: Counter, commits: int) -> None:
    """The counter was lost and a new broker began: same code, same platform, same master key."""
    copies = []
    for number in range(6):
        written(path, counter, ca=b"first life", uses=b"%d" % number)
        copies.append(path.read_bytes())
    path.unlink()
    counter.value = 0
    opened(path, counter).close()
    for _ in range(commits):
        written(path, counter, ca=b"second life")
    newest = path.read_bytes()
    for copy in copies:
        path.write_bytes(copy)
        with pytest.raises((CounterLost, StateRolledBack)):
            opened(path, counter)
    path.write_bytes(newest)
    opened(path, counter).close()


def test_a_first_file_of_an_earlier_life_returns(path: Path, counter: Counter) -> None:
    """The new broker was killed before its first file was counted, or even written."""
    opened(path, counter).close()
    first = path.read_bytes()
    path.unlink()
    counter.value = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "transaction", None)
        with pytest.raises(TypeError):
            opened(path, counter)
    assert 0 < counter.value < 1 << 32
    path.write_bytes(first)
    with pytest.raises(CounterLost):
        opened(path, counter)
    path.unlink()
    opened(path, counter).close()


def test_a_crash_between_file_and_counter_loses_nothing(path: Path, counter: Counter) -> None:
    store = opened(path, counter)
    counter.fails = True
    with pytest.raises(OSError, match="killed"):
        put(store, a=b"1")
    with pytest.raises(SealError, match="restart it"):
        put(store, a=b"2")
    assert not store.usable
    store.close()
    counter.fails = False
    store = opened(path, counter)
    assert store.get("t", "a") == b"1"
    put(store, a=b"3")
    store.close()


def test_a_damaged_file_that_is_ahead_is_not_counted(path: Path, counter: Counter) -> None:
    """Counting it would make the last whole file worthless."""
    written(path, counter, a=b"1", b=b"2")
    shutil.copy(path, path.with_suffix(".whole"))
    store = opened(path, counter)
    counter.fails = True
    with pytest.raises(OSError, match="killed"):
        put(store, a=b"3")
    store.close()
    counter.fails = False
    edit(path, "DELETE FROM rows WHERE key = 'b'")
    with pytest.raises(SealError, match="altered"):
        opened(path, counter)
    shutil.copy(path.with_suffix(".whole"), path)
    opened(path, counter).close()


def test_marks_cannot_be_told_from_the_file(path: Path, counter: Counter) -> None:
    """A host that could compute them would look for two files of one generation with one mark."""
    store = opened(path, counter)
    (sealed,) = store._database.execute("SELECT sealed FROM root").fetchone()
    assert hashlib.sha256(sealed).digest()[:4] != (counter.value & 0xFFFFFFFF).to_bytes(4, "big")
    assert stamp(sealed, generation=1, key=store._sealer._mark_key) == counter.value
    store.close()


@pytest.mark.parametrize("steps", [0, 1])
def test_a_crash_at_the_very_first_commit(
    path: Path, counter: Counter, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Before the life has its name; or with its first file written, and not counted."""
    advance = Counter.advance

    def killed(self: Counter, to: int) -> None:
        self.fails = (self.value != 0) == bool(steps)
        advance(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Counter, "advance", killed)
        with pytest.raises(OSError, match="killed"):
            opened(path, counter)
    assert bool(counter.value) == bool(steps)
    counter.fails = False
    store = opened(path, counter)
    assert store.generation == 1
    put(store, a=b"1")
    store.close()
    opened(path, counter).close()


def test_two_futures_of_one_generation_are_told_apart(path: Path, counter: Counter) -> None:
    """The host kills the broker before it counts, keeps that file, and shows it later."""
    written(path, counter, a=b"0")
    before = path.with_suffix(".before")
    spare = path.with_suffix(".spare")
    shutil.copy(path, before)
    store = opened(path, counter)
    counter.fails = True
    with pytest.raises(OSError, match="killed"):
        put(store, a=b"spare")
    store.close()
    counter.fails = False
    shutil.copy(path, spare)
    shutil.copy(before, path)
    written(path, counter, a=b"taken")
    shutil.copy(spare, path)
    with pytest.raises(StateRolledBack, match="not the newest"):
        opened(path, counter)


def test_another_broker_counts_in_between(path: Path, counter: Counter) -> None:
    store = opened(path, counter)
    counter.value += 1 << 32
    with pytest.raises(SealError, match="another broker counted"):
        put(store, a=b"1")
    store.close()


def test_a_broker_that_was_overtaken_confirms_nothing(path: Path, counter: Counter) -> None:
    store = opened(path, counter)
    put(store, a=b"1")
    store.confirm()
    counter.value += 1 << 32
    for _ in range(2):
        with pytest.raises(SealError):
            store.confirm()
        counter.value = store._value  # whatever its host does then
    assert not store.usable
    with pytest.raises(SealError, match="restart it"):
        put(store, a=b"2")
    store.close()


def test_a_counter_that_cannot_be_reached_confirms_nothing(path: Path, counter: Counter) -> None:
    """That is no reason to give the state up."""
    store = opened(path, counter)
    good, fails = store._counter, [CounterUnavailable("away"), SealError("taken over")]

    def read() -> int:
        raise fails[0]

    store._counter = dataclasses.replace(good, read=read)
    with pytest.raises(CounterUnavailable):
        store.confirm()
    assert store.usable
    store._counter = good
    store.confirm()
    put(store, a=b"1")
    del fails[0]
    store._counter = dataclasses.replace(good, read=read)
    with pytest.raises(SealError, match="taken over"):
        store.confirm()
    assert not store.usable
    store.close()


def test_a_counter_that_does_not_count(path: Path, counter: Counter) -> None:
    store = opened(path, counter)
    counter.advance = lambda to: None  # type: ignore[method-assign]
    store._counter = counter.seam
    with pytest.raises(SealError, match="did not take"):
        put(store, a=b"1")
    store.close()


def test_the_generations_are_finite(path: Path, counter: Counter) -> None:
    import msgspec

    store = opened(path, counter)
    store._root = msgspec.structs.replace(store._root, generation=MAX_GENERATION)
    with pytest.raises(SealError, match="used up"):
        put(store, a=b"1")
    store.close()


def test_a_full_disk_changes_nothing(path: Path, counter: Counter) -> None:
    store = opened(path, counter)
    put(store, a=b"1")
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SealError, match="full"):
        put(store, b=b"2" * 100_000)
    assert store.get("t", "b") is None
    store._database.execute("PRAGMA max_page_count = 100000")
    put(store, b=b"2")
    store.close()
    opened(path, counter).close()


def test_a_value_that_is_too_large_changes_nothing(path: Path, counter: Counter) -> None:
    store = opened(path, counter)
    with pytest.raises(SealError, match="too big"):
        put(store, a=b"1", b=bytes(5 * 1024 * 1024))
    assert store.usable
    assert store.keys("t") == ()
    put(store, a=b"2")
    store.close()
    opened(path, counter).close()


def test_a_root_of_another_generation(path: Path, counter: Counter) -> None:
    """What only the holder of the key could write is still checked."""
    from wardian._internal import wire
    from wardian.broker.state.audit import EMPTY
    from wardian.broker.state.contents import Root

    store = opened(path, counter)
    raw = wire.encode(Root(generation=9, follows=1, rows={}, audit=EMPTY))
    sealed = store._sealer.seal(raw, "root", "", 1)
    store._database.execute("UPDATE root SET sealed = ?", sealed)
    store.close()
    with pytest.raises(SealError, match="altered"):
        opened(path, counter)
