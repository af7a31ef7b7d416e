"""The store's Merkle tree: it is the one of the lines on disk, whatever happened in between."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from toy_mesh import MASTER_KEY, NOW, Counter

from wardian._internal import wire
from wardian.broker.state.audit import EMPTY, AuditEntry
from wardian.broker.state.merkle import EMPTY_ROOT, Tree
from wardian.broker.state.store import Store
from wardian.errors import SealError

ENTRY = AuditEntry(event="start", outcome="granted")


def open_store(path: Path, counter: Counter) -> Store:
    return Store(path, master_key=MASTER_KEY, counter=counter.seam)


def tree_of(store: Store) -> Tree:
    return Tree(store.audit_lines(limit=1000))


def test_a_new_store_has_the_empty_tree(tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "s.db", Counter())) as store:
        assert store.audit_head == EMPTY
        assert store.audit_tree.root() == EMPTY_ROOT


def test_the_tree_grows_with_the_log_and_comes_back(tmp_path: Path) -> None:
    path, counter = tmp_path / "s.db", Counter()
    with closing(open_store(path, counter)) as store:
        for number in range(40):
            store.commit({}, audit=[ENTRY] * (number % 3), now=NOW)
            assert store.audit_head.root == store.audit_tree.root().hex()
            assert store.audit_head.count == store.audit_tree.size
        assert store.audit_tree.root() == tree_of(store).root()
        proofs = [store.audit_tree.consistency(size, 39) for size in range(40)]
    with closing(open_store(path, counter)) as store:
        assert store.audit_head.root == store.audit_tree.root().hex()
        assert [store.audit_tree.consistency(size, 39) for size in range(40)] == proofs


def test_what_was_not_committed_is_not_in_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, counter = tmp_path / "s.db", Counter()
    with closing(open_store(path, counter)) as store:
        store.commit({}, audit=[ENTRY], now=NOW)
        root = store.audit_tree.root()
        with monkeypatch.context() as patch:
            patch.setattr(
                "wardian.broker.state.store.write_commit",
                lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk full")),
            )
            with pytest.raises(SealError):
                store.commit({}, audit=[ENTRY] * 3, now=NOW)
        assert store.audit_tree.root() == root == bytes.fromhex(store.audit_head.root)
        store.commit({}, audit=[ENTRY], now=NOW)
        assert store.audit_tree.root() == tree_of(store).root()


def test_a_broker_killed_before_it_counted(tmp_path: Path) -> None:
    path, counter = tmp_path / "s.db", Counter()
    with closing(open_store(path, counter)) as store:
        counter.fails = True
        with pytest.raises(OSError, match="killed"):
            store.commit({}, audit=[ENTRY] * 2, now=NOW)
    counter.fails = False
    with closing(open_store(path, counter)) as store:  # the file is ahead, and is taken up
        assert store.audit_head.count == store.audit_tree.size == 2
        assert store.audit_tree.root() == tree_of(store).root()


def test_the_sealed_root_pins_the_tree(tmp_path: Path) -> None:
    path, counter = tmp_path / "s.db", Counter()
    with closing(open_store(path, counter)) as store:
        store.commit({}, audit=[ENTRY] * 3, now=NOW)
        root = store._root
        forged = msgspec.structs.replace(
            root, audit=msgspec.structs.replace(root.audit, root="00" * 32)
        )
        sealed = store._sealer.seal(wire.encode(forged), "root", "", root.generation)
        counter.value = store._sealer.stamp(sealed, generation=root.generation)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE root SET sealed = ?", (sealed,))
    with pytest.raises(SealError, match="another state than it should"):
        open_store(path, counter)
