"""The broker's memory on a disk that its host owns: encrypted, whole, and the newest.

One SQLite file. Every value is AES-256-GCM under a key derived from the sealed master key, with its
table, its key and its generation as associated data, so that no value moves to another place. The
root row, sealed likewise, lists the digest of every value and the head of the audit log: rows
cannot be dropped, added, mixed with older ones or taken back one by one.

The file as a whole can be put back by the host, and only a monotonic counter outside it can tell.
The counter holds the generation and a mark over the root row (`_internal.counter`). A commit writes
the file first, then advances the counter, and only then does the broker act. So after a crash the
file is either the counted one, or one generation ahead and never acted upon; the root says which
value of the counter it follows, and must find that value there. A host that kills the
broker between file and counter collects such files; each is worthless once the next start is
counted, and until then the mark tells those of one generation apart.

Not covered: two brokers of one measurement running at once on copies of the file, where the counter
is a file of the host. That takes counters on several platforms (TRUST T5, `broker.quorum`).
"""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardian._internal import wire
from wardian._internal.counter import (
    MAX_COUNT,
    MAX_GENERATION,
    CounterKeeper,
    MonotonicCounter,
    Standing,
    count,
    generation_of,
    name_life,
    stamp,
    standing,
)
from wardian.broker.audit import EMPTY, AuditEntry, AuditHead, follow_chain, link
from wardian.broker.manifest import Hex32
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    CounterLost,
    CounterUnavailable,
    FormatError,
    SealError,
    StateRolledBack,
)

LABEL: Final = "wardian broker store v1"
NONCE_BYTES: Final = 12
MAX_VALUE_BYTES: Final = 4 * 1024 * 1024

_SCHEMA: Final = (
    """CREATE TABLE root (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL,
        sealed BLOB NOT NULL)""",
    """CREATE TABLE rows (place TEXT NOT NULL, key TEXT NOT NULL, generation INTEGER NOT NULL,
        sealed BLOB NOT NULL, PRIMARY KEY (place, key)) WITHOUT ROWID""",
    """CREATE TABLE audit (sequence INTEGER PRIMARY KEY, generation INTEGER NOT NULL,
        sealed BLOB NOT NULL)""",
)

_REMOVED: Final = (
    "the broker's state was removed: nothing is in its place, and something was counted. "
    "Put the newest copy back"
)
_COUNTER_AT_ZERO: Final = (
    "there is a broker's state, but its counter stands at 0: the counter was lost or set back, or "
    "the state is of a broker of before. If the counter was moved, put it back; else move the "
    "state away and let the owners provision a new broker (docs/reference/sealed-state.md)"
)
_ALTERED: Final = "the broker's state was altered, or it was sealed by another enclave"


class _Root(wire.Message, frozen=True, tag_field="format", tag="wardian broker root v1"):
    """What the root row says: the whole of the state at one generation."""

    generation: Annotated[int, msgspec.Meta(ge=1)]
    follows: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
    """The counter's value that this generation was written on."""
    rows: dict[str, Hex32]
    """`place/key` to SHA-256 of the sealed value."""
    audit: AuditHead


Place = tuple[str, str]
"""Where a value stands: a table name of ours, and a key in it. Neither is secret."""


class Store:
    """The opened state. One process, one thread; every change is one atomic `commit`."""

    __slots__ = ("_aead", "_counter", "_database", "_mark_key", "_root", "_usable", "_value")

    def __init__(self, path: Path, *, master_key: Secret, counter: MonotonicCounter) -> None:
        """Open the state in `path`, or begin one where there is none and never was.

        Args:
            path: the SQLite file; made with mode 0600.
            master_key: 32 bytes that only this enclave can unseal.
            counter: tells the newest state from an older copy.

        Raises:
            ConfigError: the file cannot be opened, or another broker has it open.
            SealError: it was altered, is incomplete, or is of another enclave.
            StateRolledBack: it is not the newest.
            CounterLost: it is newer than the counter can have counted, or of another life of it.
        """
        self._aead = AESGCM(hkdf(master_key, salt=b"", info=LABEL.encode()).reveal())
        self._mark_key = hkdf(master_key, salt=b"", info=f"{LABEL} mark".encode()).reveal()
        self._counter = counter
        self._value = counter.read()
        self._usable = True
        self._database = _connect(path)
        try:
            with _sqlite_as_seal_error():
                self._root = self._load()
        except BaseException:
            self._database.close()
            raise

    @property
    def usable(self) -> bool:
        """Whether this process may use the state; once False, only opening it anew helps."""
        return self._usable

    @property
    def kept_by(self) -> CounterKeeper:
        """Who keeps the counter; `kept_by.said` is what a status says of it."""
        return self._counter.kept_by

    @property
    def generation(self) -> int:
        """The number of commits so far."""
        return self._root.generation

    @property
    def audit_head(self) -> AuditHead:
        """Where the audit log ends."""
        return self._root.audit

    def close(self) -> None:
        """Close the file. Nothing is lost: every commit is on disk."""
        self._database.close()

    def get(self, place: str, key: str) -> bytes | None:
        """Return the value at (`place`, `key`), or None if there is none.

        Raises:
            SealError: the row was altered since the state was opened.
        """
        expected = self._root.rows.get(f"{place}/{key}")
        if expected is None:
            return None
        query = "SELECT generation, sealed FROM rows WHERE place = ? AND key = ?"
        with _sqlite_as_seal_error(), self._select(query, place, key) as found:
            row = found.fetchone()
        if row is None or _digest(row[1]) != expected:
            raise SealError(_ALTERED)
        return self._open(row[1], "rows", f"{place}/{key}", row[0])

    def keys(self, place: str) -> tuple[str, ...]:
        """Return the keys at `place`, sorted."""
        prefix = f"{place}/"
        found = (name for name in self._root.rows if name.startswith(prefix))
        return tuple(sorted(name.removeprefix(prefix) for name in found))

    def audit_lines(self, *, after: int = 0, limit: int = 100) -> tuple[bytes, ...]:
        """Return up to `limit` raw audit lines whose sequence is greater than `after`."""
        query = (
            "SELECT sequence, generation, sealed FROM audit WHERE sequence > ? "
            "ORDER BY sequence LIMIT ?"
        )
        with _sqlite_as_seal_error(), self._select(query, after, limit) as found:
            rows = found.fetchall()
        return tuple(self._open(sealed, "audit", str(seq), gen) for seq, gen, sealed in rows)

    def commit(
        self,
        changes: Mapping[Place, bytes | None] | None = None,
        *,
        audit: Sequence[AuditEntry],
        now: int,
    ) -> None:
        """Make `changes` and append `audit`, all or nothing; on return they are counted.

        Act on a change only after this returned.

        Args:
            changes: new values by place; None deletes.
            audit: what happened; every commit says why it was made.
            now: Unix seconds, for the audit lines.

        Raises:
            SealError: the state cannot be written, or another broker counted meanwhile.
        """
        self._refuse_unusable()
        generation = self._root.generation + 1
        if generation > MAX_GENERATION:
            raise SealError("the broker's state has used up its generations")
        rows, sealed_rows = dict(self._root.rows), []
        for (place, key), value in (changes or {}).items():
            name = f"{place}/{key}"
            if value is None:
                rows.pop(name, None)
                continue
            sealed = self._seal(value, "rows", name, generation)
            rows[name] = _digest(sealed)
            sealed_rows.append((place, key, generation, sealed))
        deleted = [place for place, value in (changes or {}).items() if value is None]
        head, lines = self._root.audit, []
        for entry in audit:
            raw, head = link(entry, head=head, now=now)
            sealed = self._seal(raw, "audit", str(head.count), generation)
            lines.append((head.count, generation, sealed))
        root = _Root(generation=generation, follows=self._value, rows=rows, audit=head)
        sealed_root = self._seal(wire.encode(root), "root", "", generation)
        with _sqlite_as_seal_error(), self._transaction() as database:
            database.executemany("DELETE FROM rows WHERE place = ? AND key = ?", deleted)
            database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", sealed_rows)
            database.executemany("INSERT INTO audit VALUES (?, ?, ?)", lines)
            database.execute(
                "INSERT OR REPLACE INTO root VALUES (1, ?, ?)", (generation, sealed_root)
            )
        self._count(root, sealed_root)

    def confirm(self) -> None:
        """Return if this state is still the newest one, as the counter says now.

        A commit finds that out by itself. Ask before anything is told without one: a second broker
        may have been started on a copy of this state, and its host let this one answer.

        Raises:
            CounterUnavailable: nobody can say now (retryable).
            SealError: another broker counted; this process does not use the state any more.
        """
        self._refuse_unusable()
        self._usable = False
        try:
            stands = self._counter.read()
        except CounterUnavailable:
            self._usable = True  # nothing was learned
            raise
        if stands != self._value:
            raise SealError("another broker counted in this one's place: two run on one state")
        self._usable = True

    def _load(self) -> _Root:
        """Return the verified root of the state on disk, or that of a new, empty one."""
        with self._select("SELECT sql FROM sqlite_master WHERE sql NOT NULL") as tables:
            found = {sql for (sql,) in tables}
        if found and found != set(_SCHEMA):  # a host's trigger or view would run in our queries
            raise SealError(_ALTERED)
        if not found:
            return self._begin()
        if self._value == 0:  # it leaves 0 before the first file is written
            raise CounterLost(_COUNTER_AT_ZERO)
        with self._select("SELECT one, generation, sealed FROM root") as roots:
            rows = roots.fetchall()
        if len(rows) != 1 or rows[0][0] != 1:  # the host can switch the table's CHECK off
            raise SealError(_ALTERED)
        _, generation, sealed = rows[0]
        root = self._decode_root(self._open(sealed, "root", "", generation), generation)
        stamped = stamp(sealed, generation=generation, key=self._mark_key)
        stands = standing(
            stamped, follows=root.follows, counted=self._value, what="the broker's state"
        )
        self._verify_rows(root)
        self._verify_audit(root)
        if stands is Standing.AHEAD:  # counted when it is known to be whole: there is no way back
            self._advance(stamped)
        return root

    def _begin(self) -> _Root:
        """Write the first generation; only where nothing was ever counted."""
        if generation_of(self._value):
            raise StateRolledBack(_REMOVED)
        if self._value == 0:
            self._advance(name_life())
        root = _Root(generation=1, follows=self._value, rows={}, audit=EMPTY)
        sealed = self._seal(wire.encode(root), "root", "", 1)
        with self._transaction() as database:
            for statement in _SCHEMA:
                database.execute(statement)
            database.execute("INSERT INTO root VALUES (1, 1, ?)", (sealed,))
        self._advance(stamp(sealed, generation=1, key=self._mark_key))
        return root

    def _decode_root(self, raw: bytes, generation: int) -> _Root:
        root = wire.decode(raw, _Root, what="broker state")
        if root.generation != generation:
            raise SealError(_ALTERED)
        return root

    def _verify_rows(self, root: _Root) -> None:
        """Refuse rows that the root does not list, and a list with rows missing."""
        with self._select("SELECT place, key, generation, sealed FROM rows") as found:
            rows = found.fetchall()
        if {f"{place}/{key}": _digest(sealed) for place, key, _, sealed in rows} != root.rows:
            raise SealError(_ALTERED)
        for place, key, generation, sealed in rows:
            self._open(sealed, "rows", f"{place}/{key}", generation)

    def _verify_audit(self, root: _Root) -> None:
        """Refuse an audit log that does not lead to the root's head, line by line."""
        query = "SELECT sequence, generation, sealed FROM audit ORDER BY sequence"
        with self._select(query) as rows:
            lines = (self._open(sealed, "audit", str(seq), gen) for seq, gen, sealed in rows)
            try:
                follow_chain(lines, head=root.audit)
            except (AuthenticationFailed, FormatError) as err:
                raise SealError(f"the broker's audit log: {err}") from err

    def _select(
        self, query: str, *values: object
    ) -> contextlib.AbstractContextManager[sqlite3.Cursor]:
        """Return the rows of `query`, to be read inside a `with`.

        A query that is left open keeps the file locked, even after the connection was closed: until
        its cursor is collected, which an exception that names its frame puts off.
        """
        return contextlib.closing(self._database.execute(query, values))

    def _count(self, root: _Root, sealed_root: bytes) -> None:
        """Advance the counter to the state that is now on disk.

        From here to the end the file is ahead of the counter. If counting fails nobody knows which
        of the two holds, so this process stops using the state; the next start finds out.
        """
        self._usable = False
        self._advance(stamp(sealed_root, generation=root.generation, key=self._mark_key))
        self._root = root
        self._usable = True

    def _advance(self, to: int) -> None:
        count(self._counter, at=self._value, to=to)
        self._value = to

    def _refuse_unusable(self) -> None:
        if not self._usable:
            raise SealError(
                "the broker's state is in doubt, or not the newest any more: restart it"
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Bracket what is written at once. If it raises, nothing was."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # SQLite itself rolls back when the disk is full
                self._usable = False
                self._database.execute("ROLLBACK")
                self._usable = True
            raise

    def _seal(self, value: bytes, table: str, name: str, generation: int) -> bytes:
        """Return nonce (12 bytes), ciphertext, tag (16 bytes).

        Nonces are random: the bound of 2**32 seals under one key (NIST SP 800-38D, 8.3) is years
        away at the rate at which a broker releases.
        """
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, value, _associated(table, name, generation))

    def _open(self, sealed: object, table: str, name: str, generation: object) -> bytes:
        if not isinstance(sealed, bytes) or not isinstance(generation, int):
            raise SealError(_ALTERED)  # SQLite stores what it is given, whatever the column says
        try:
            return self._aead.decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _associated(table, name, generation)
            )
        except (InvalidTag, ValueError, OverflowError) as err:
            raise SealError(_ALTERED) from err


def _associated(table: str, name: str, generation: int) -> bytes:
    return wire.fields(LABEL, table.encode(), name.encode(), generation.to_bytes(8, "big"))


def _digest(sealed: object) -> str:
    if not isinstance(sealed, bytes):
        raise SealError(_ALTERED)
    return hashlib.sha256(sealed).hexdigest()


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection that holds the file alone and runs no code out of it."""
    try:
        with contextlib.closing(os.fdopen(os.open(path, os.O_CREAT | os.O_RDWR, 0o600), "rb")):
            pass
        database = sqlite3.connect(path, isolation_level=None, timeout=1)
    except (OSError, sqlite3.Error) as err:
        raise ConfigError(f"{path}: the broker's state cannot be opened: {err}") from err
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES + 4096)
    try:
        for pragma in (
            "trusted_schema = OFF",  # functions in a schema that the host wrote stay unused
            "cell_size_check = ON",
            "mmap_size = 0",
            "locking_mode = EXCLUSIVE",
            "journal_mode = DELETE",
            "synchronous = FULL",
        ):
            database.execute(f"PRAGMA {pragma}")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")
    except sqlite3.OperationalError as err:
        database.close()
        raise ConfigError(
            f"{path}: another broker has this state open, or it cannot be written: {err}"
        ) from err
    except (sqlite3.DatabaseError, UnicodeError) as err:
        database.close()
        raise SealError(_ALTERED) from err
    return database


@contextlib.contextmanager
def _sqlite_as_seal_error() -> Iterator[None]:
    """Turn what SQLite says about a damaged or full file into our own error."""
    try:
        yield
    except (sqlite3.Error, UnicodeError) as err:  # a message may quote bytes that are no text
        raise SealError(f"the broker's state cannot be used: {err}") from err
