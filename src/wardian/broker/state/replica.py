"""A standby's copy of the active broker's state: brought up commit by commit, never decided on.

It lies in a file of the same form as the active's own. Whether it is the newest only the counter
can tell, which a replica never asks: to take over, the file is opened as a `Store`.

Each commit has to follow the one before it, by the counter's value that its root names, and to make
of the copy exactly what the root lists. So a stream that was cut, replayed or taken from another
state ends here.
"""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from wardian._internal.files import sync_directory
from wardian.broker.state.audit import Chain
from wardian.broker.state.contents import (
    Commit,
    Root,
    SealedLine,
    SealedRow,
    decode_commit,
    open_root,
    read_root,
    verify_audit,
    verify_rows,
    write_commit,
)
from wardian.broker.state.database import Database, journal_of, sqlite_as_seal_error
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.merkle import Tree
from wardian.broker.state.sealer import ALTERED, Sealer, digest
from wardian.errors import AuthenticationFailed, ConfigError, FormatError, SealError

_NOT_NEXT = "this change does not follow the copy that it was sent to"


class Replica:
    """The copy. One process, one thread."""

    __slots__ = ("_chain", "_database", "_root", "_sealed_root", "_sealer")

    def __init__(self, path: Path, *, master_key: MasterKey) -> None:
        """Open the copy at `path`.

        Raises:
            ConfigError: it cannot be opened.
            SealError: it is not whole, or not under `master_key`.
        """
        self._sealer = Sealer(master_key)
        self._database = Database(path)
        try:
            with sqlite_as_seal_error():
                self._root, self._sealed_root = self._load()
                verify_rows(self._database, self._sealer, self._root)
                self._chain = verify_audit(self._database, self._sealer, self._root)
        except BaseException:
            self._database.close()
            raise

    @property
    def root(self) -> Root:
        """What the copy is."""
        return self._root

    @property
    def mark(self) -> bytes:
        """SHA-256 (32 bytes) of its sealed root: two copies with one mark are the same."""
        return hashlib.sha256(self._sealed_root).digest()

    @property
    def stamp(self) -> int:
        """The counter's value that vouches for it."""
        return self._sealer.stamp(self._sealed_root, generation=self._root.generation)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def reopen(self, path: Path) -> None:
        """Go on in the same file, which was closed and lies at `path` now.

        It is not verified again: who takes over verifies the whole of it (`Store`).
        """
        self._database = Database(path)

    def get(self, place: str, key: str) -> bytes | None:
        """Return the value at (`place`, `key`), which is no owner's own; None if there is none.

        Raises:
            SealError: the row was altered since the copy was verified.
        """
        with sqlite_as_seal_error():
            return _value(self._database, self._sealer, self._root, place, key)

    def audit_tree(self) -> Tree:
        """Return the Merkle tree over the audit log, which is read and verified for it.

        Single lines are not to be had: the host may put another one in the file after the log was
        verified, of a newer copy or of a fork, sealed as well as those.

        Raises:
            SealError: the log was altered since the copy was verified.
        """
        tree = Tree()
        with sqlite_as_seal_error():
            verify_audit(self._database, self._sealer, self._root, tree=tree)
        return tree

    def includes(self, line: SealedLine) -> bool:
        """Return whether `line` stands in the copy's audit log, as it was sealed.

        No two commits seal a line alike, even if they say the same; so the copy goes on from the
        state that ended with it.
        """
        query = "SELECT sequence, generation, sealed FROM audit WHERE sequence = ?"
        with sqlite_as_seal_error(), self._database.select(query, line.sequence) as found:
            return bool(found.fetchone() == tuple(line))

    def apply(self, raw: bytes) -> None:
        """Write the commit in `raw`; it is on the disk when this returns.

        Raises:
            FormatError: it is none.
            SealError: it does not follow the copy, is altered, or cannot be written.
        """
        commit = decode_commit(raw)
        root, chain = self._verify(commit)
        with sqlite_as_seal_error(), self._database.transaction():
            write_commit(self._database, commit)
        self._root, self._sealed_root, self._chain = root, commit.root, chain

    def _load(self) -> tuple[Root, bytes]:
        if self._database.empty():
            raise SealError("there is no broker's state")
        return read_root(self._database, self._sealer)

    def _verify(self, commit: Commit) -> tuple[Root, Chain]:
        """Return the root and the end of the log that `commit` leads to."""
        before, sealer = self._root, self._sealer
        root = open_root(commit.root, commit.generation, sealer)
        if root.generation != before.generation + 1 or root.follows != self.stamp:
            raise SealError(_NOT_NEXT)
        names = dict(before.rows)
        for place, key in commit.deleted:
            names.pop(f"{place}/{key}", None)
        for row in commit.rows:
            self._open_row(row, generation=root.generation)
            names[row.name] = digest(row.sealed)
        if names != root.rows:
            raise SealError(ALTERED)
        return root, self._follow(commit, root)

    def _open_row(self, row: SealedRow, *, generation: int) -> None:
        if row.generation != generation:
            raise SealError(ALTERED)
        self._sealer.open(row.sealed, "rows", row.name, row.generation)

    def _follow(self, commit: Commit, root: Root) -> Chain:
        """Return where the audit log ends with the lines of `commit`, which is the root's head."""
        chain = self._chain
        for line in commit.lines:
            if line.sequence != chain.peaks.size + 1 or line.generation != root.generation:
                raise SealError(ALTERED)
            raw = self._sealer.open(line.sealed, "audit", str(line.sequence), line.generation)
            try:
                _, chain = chain.extended(raw)
            except (AuthenticationFailed, FormatError) as err:
                raise SealError(f"the active broker's audit log: {err}") from err
        if chain.head != root.audit:
            raise SealError(ALTERED)
        return chain


def install(
    incoming: Path,
    path: Path,
    *,
    master_key: MasterKey,
    accept: Callable[[Replica], None],
    keep_key: Callable[[MasterKey], None],
) -> tuple[Replica, Path | None]:
    """Return the copy at `path` that was received as `incoming`, once it is known to be whole.

    What lay at `path` before is removed if the copy goes on from it. Else it is moved aside, for
    people to look at: what this broker counted alone is never merged, and never lost.

    Args:
        incoming: whole, verified by nobody.
        path: where the state lies.
        master_key: of the received state.
        accept: raises where the copy, found to be whole, is not one to put in place.
        keep_key: seals the key to this enclave, before the copy is put in place.

    Returns:
        The copy, and where the earlier state lies that it does not go on from.

    Raises:
        SealError: the received file is not whole, or not under `master_key`. Nothing changed.
        ConfigError: it cannot be put in place.
    """
    replica = Replica(incoming, master_key=master_key)
    try:
        accept(replica)
        aside = _aside(replica, path, master_key=master_key)
    finally:
        replica.close()
    keep_key(master_key)
    try:
        if aside is not None:
            aside = _unused(aside)
            path.replace(aside)
        journal_of(path).unlink(missing_ok=True)
        incoming.replace(path)
        sync_directory(path.parent)
    except OSError as err:
        raise ConfigError(f"{path}: the copy cannot be put in place: {err.strerror}") from err
    replica.reopen(path)
    return replica, aside


def last_line(path: Path, *, master_key: MasterKey) -> SealedLine | None:
    """Return the last audit line of the state at `path`, newest or not; None if there is none.

    A state without a line is none: nothing was ever decided in it.

    Raises:
        SealError: what lies there is not under `master_key`, or damaged.
        ConfigError: it cannot be opened.
    """
    with _kept(path, Sealer(master_key)) as kept:
        if kept is None:
            return None
        database, root = kept
        query = "SELECT sequence, generation, sealed FROM audit WHERE sequence = ?"
        with database.select(query, root.audit.count) as found:
            row = found.fetchone()
    if row is None and root.audit.count:
        raise SealError(ALTERED)
    return None if row is None else SealedLine(*row)


def kept_value(path: Path, place: str, key: str, *, master_key: MasterKey) -> bytes | None:
    """Return a value, which is no owner's own, in the state at `path`, newest or not.

    Returns:
        The value; None if there is none, or no state.

    Raises:
        SealError: what lies there is not under `master_key`, or damaged.
        ConfigError: it cannot be opened.
    """
    sealer = Sealer(master_key)
    with _kept(path, sealer) as kept:
        return None if kept is None else _value(kept[0], sealer, kept[1], place, key)


@contextlib.contextmanager
def _kept(path: Path, sealer: Sealer) -> Iterator[tuple[Database, Root] | None]:
    """Yield the opened file at `path` and its root, of which no row is verified; None if no state.

    Raises:
        SealError: what lies there is not of `sealer`, or damaged.
        ConfigError: it cannot be opened.
    """
    if not path.exists():
        yield None
        return
    database = Database(path)  # and SQLite takes back what a crash left half done
    try:
        with sqlite_as_seal_error():
            yield None if database.empty() else (database, read_root(database, sealer)[0])
    finally:
        database.close()


def _value(database: Database, sealer: Sealer, root: Root, place: str, key: str) -> bytes | None:
    """Return the value that `root` lists at (`place`, `key`), None if it lists none.

    Raises:
        SealError: the row is not the one that it lists.
    """
    expected = root.rows.get(f"{place}/{key}")
    if expected is None:
        return None
    query = "SELECT generation, sealed FROM rows WHERE place = ? AND key = ?"
    with database.select(query, place, key) as found:
        row = found.fetchone()
    if row is None or digest(row[1]) != expected:
        raise SealError(ALTERED)
    return sealer.open(row[1], "rows", f"{place}/{key}", row[0])


def _aside(replica: Replica, path: Path, *, master_key: MasterKey) -> Path | None:
    """Return where what lies at `path` has to go, if the copy does not go on from it."""
    try:
        before = last_line(path, master_key=master_key)
    except SealError:
        return path.with_name(f"{path.name}.unreadable")
    if before is None or replica.includes(before):
        return None
    return path.with_name(f"{path.name}.forked-{before.generation}")


def _unused(aside: Path) -> Path:
    """Return `aside`, with a number if something of before lies there."""
    if not aside.exists():
        return aside
    names = (aside.with_name(f"{aside.name}.{number}") for number in itertools.count(2))
    return next(name for name in names if not name.exists())
