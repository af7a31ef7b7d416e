"""What a state's file holds, and how the whole of it is verified.

The root row, sealed like every value, lists the digest of every row and the head of the audit log:
rows cannot be dropped, added, mixed with older ones or taken back one by one.

A `Commit` is one change of the file, exactly as it is written: ciphertext but for names and numbers
that the host sees anyway. It is what a standby copies.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Final, NamedTuple

import msgspec

from wardian._internal import wire
from wardian._internal.counter import MAX_COUNT, MAX_GENERATION
from wardian.broker.mesh.fields import Hex32
from wardian.broker.state.audit import AuditHead, Chain, follow_chain
from wardian.broker.state.database import Database
from wardian.broker.state.merkle import Tree
from wardian.broker.state.sealer import ALTERED, Sealer, digest
from wardian.errors import AuthenticationFailed, FormatError, SealError

MAX_COMMIT_BYTES: Final = 8 * 1024 * 1024
"""Of sealed values in one commit."""
MAX_ENCODED_BYTES: Final = 16 * 1024 * 1024
"""Of one commit with the names in it, encoded: a standby takes no more at once."""

Place = tuple[str, str]
"""Where a value stands: a table name of ours, and a key in it. Neither is secret."""
Generation = Annotated[int, msgspec.Meta(ge=1, le=MAX_GENERATION)]


class Root(wire.Message, frozen=True, tag_field="format", tag="wardian broker root v1"):
    """What the root row says: the whole of the state at one generation."""

    generation: Annotated[int, msgspec.Meta(ge=1)]
    follows: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
    """The counter's value that this generation was written on."""
    rows: dict[str, Hex32]
    """`place/key` to SHA-256 of the sealed value."""
    audit: AuditHead


class SealedRow(NamedTuple):
    """One row as it lies in the file."""

    place: str
    key: str
    generation: Generation
    sealed: bytes

    @property
    def name(self) -> str:
        """How the root names it."""
        return f"{self.place}/{self.key}"


class SealedLine(NamedTuple):
    """One audit line as it lies in the file."""

    sequence: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    generation: Generation
    sealed: bytes


class Commit(wire.Message, frozen=True, tag_field="format", tag="wardian broker commit v1"):
    """One change of the file, all or nothing."""

    generation: Generation
    deleted: tuple[Place, ...]
    rows: tuple[SealedRow, ...]
    lines: tuple[SealedLine, ...]
    root: bytes
    """Sealed."""


def encode_commit(commit: Commit) -> bytes:
    """Return `commit` as it travels."""
    return msgspec.msgpack.encode(commit)


def decode_commit(raw: bytes) -> Commit:
    """Return the commit in `raw`; nothing in it is believed yet.

    Raises:
        FormatError: it is none.
    """
    try:
        return msgspec.msgpack.decode(raw, type=Commit)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise FormatError("broker commit: not in the form of one") from err


def write_commit(database: Database, commit: Commit) -> None:
    """Write `commit`, inside a transaction of the caller's."""
    database.executemany("DELETE FROM rows WHERE place = ? AND key = ?", commit.deleted)
    write_pieces(database, rows=commit.rows, lines=commit.lines)
    write_root(database, commit.generation, commit.root)


def write_pieces(
    database: Database, *, rows: Iterable[SealedRow], lines: Iterable[SealedLine]
) -> None:
    """Write rows and audit lines, inside a transaction of the caller's."""
    database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", rows)
    database.executemany("INSERT INTO audit VALUES (?, ?, ?)", lines)


def write_root(database: Database, generation: int, sealed: bytes) -> None:
    """Write the root, inside a transaction of the caller's."""
    database.execute("INSERT OR REPLACE INTO root VALUES (1, ?, ?)", generation, sealed)


def read_root(database: Database, sealer: Sealer) -> tuple[Root, bytes]:
    """Return the root of the state, opened and sealed, **whether it is the newest or not**.

    Raises:
        SealError: there is not exactly one, or it is not this state's.
    """
    with database.select("SELECT one, generation, sealed FROM root") as roots:
        rows = roots.fetchall()
    if len(rows) != 1 or rows[0][0] != 1:  # the host can switch the table's CHECK off
        raise SealError(ALTERED)
    _, generation, sealed = rows[0]
    return open_root(sealed, generation, sealer), sealed


def open_root(sealed: object, generation: object, sealer: Sealer) -> Root:
    """Return the root that was sealed for `generation`.

    Raises:
        SealError: it was not.
    """
    root = wire.decode(sealer.open(sealed, "root", "", generation), Root, what="broker state")
    if root.generation != generation:
        raise SealError(ALTERED)
    return root


def read_rows(database: Database) -> list[SealedRow]:
    """Return every row, believed by nobody yet."""
    with database.select("SELECT place, key, generation, sealed FROM rows") as found:
        return [SealedRow(*row) for row in found]


def verify_rows(database: Database, sealer: Sealer, root: Root) -> frozenset[str]:
    """Refuse rows that the root does not list, and a list with rows missing.

    Returns:
        The names of those that lie under a key of their owner that `sealer` does not have.

    Raises:
        SealError: the rows are not those of the root.
    """
    rows = read_rows(database)
    if {row.name: digest(row.sealed) for row in rows} != root.rows:
        raise SealError(ALTERED)
    locked = set()
    for row in rows:
        value = sealer.open(row.sealed, "rows", row.name, row.generation)
        if sealer.locked(value, row.place, row.key):
            locked.add(row.name)
    return frozenset(locked)


def verify_audit(
    database: Database, sealer: Sealer, root: Root, *, tree: Tree | None = None
) -> Chain:
    """Refuse an audit log that does not lead to the root's head, line by line.

    Args:
        database: opened.
        sealer: of this state.
        root: verified.
        tree: gets every line; believe it once this returned.

    Returns:
        Where the log ends.

    Raises:
        SealError: it does not lead there.
    """

    def opened(rows: Iterable[tuple[object, object, object]]) -> Iterator[bytes]:
        for sequence, generation, sealed in rows:
            raw = sealer.open(sealed, "audit", str(sequence), generation)
            if tree is not None:
                tree.append(raw)
            yield raw

    query = "SELECT sequence, generation, sealed FROM audit ORDER BY sequence"
    with database.select(query) as rows:
        try:
            return follow_chain(opened(rows), head=root.audit)
        except (AuthenticationFailed, FormatError) as err:
            raise SealError(f"the broker's audit log: {err}") from err
