"""The whole of a state in pieces of bounded size: for a standby, and for a backup.

All of it is ciphertext but names and numbers that the host sees anyway. Rows and root are those of
one moment. Audit lines never change once they are written, so they are read as they are wanted.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec

from wardian._internal import wire
from wardian.broker.state.contents import (
    Generation,
    SealedLine,
    SealedRow,
    read_rows,
    write_pieces,
    write_root,
)
from wardian.broker.state.database import (
    MAX_VALUE_BYTES,
    Database,
    journal_of,
    sqlite_as_seal_error,
)
from wardian.broker.state.sealer import ALTERED
from wardian.errors import ConfigError, FormatError, SealError

PIECE_BYTES: Final = 1024 * 1024
"""A piece ends with the value that brings it to this."""
MAX_PIECE_BYTES: Final = MAX_VALUE_BYTES + 2 * PIECE_BYTES
_PAGE: Final = 512
"""Audit lines that are read at once; each has about 500 bytes."""


class Piece(wire.Message, frozen=True, tag_field="format", tag="wardian state piece v1"):
    """A part of a state."""

    rows: tuple[SealedRow, ...] = ()
    lines: tuple[SealedLine, ...] = ()


class LastPiece(wire.Message, frozen=True, tag_field="format", tag="wardian state last piece v1"):
    """Its end, and what holds it together."""

    generation: Generation
    root: Annotated[bytes, msgspec.Meta(max_length=MAX_VALUE_BYTES)]
    """Sealed."""


_AnyPiece: TypeAlias = Piece | LastPiece


def take_snapshot(database: Database) -> tuple[bytes, Iterator[bytes]]:
    """Return the mark of the state as it is now, and its pieces, encoded.

    The mark is SHA-256 (32 bytes) of the sealed root. Nothing of it is believed yet. What is
    written while the pieces are taken has no part in them.

    Raises:
        SealError: there is no state; or, while they are taken, the file is damaged.
    """
    with sqlite_as_seal_error():
        if database.empty():
            raise SealError("there is no broker's state yet")
        with database.select("SELECT generation, sealed FROM root") as found:
            roots = found.fetchall()
        if len(roots) != 1 or not isinstance(roots[0][1], bytes):
            raise SealError(ALTERED)
        rows = read_rows(database)
        with database.select("SELECT coalesce(max(sequence), 0) FROM audit") as found:
            (newest,) = found.fetchone()
    mark = hashlib.sha256(roots[0][1]).digest()
    return mark, _pieces(database, roots[0], rows, newest=newest)


def _pieces(
    database: Database, root: tuple[int, bytes], rows: list[SealedRow], *, newest: int
) -> Iterator[bytes]:
    part: list[SealedRow] = []
    size = 0
    for row in rows:
        part.append(row)
        size += len(row.sealed)
        if size >= PIECE_BYTES:
            yield msgspec.msgpack.encode(Piece(rows=tuple(part)))
            part, size = [], 0
    yield msgspec.msgpack.encode(Piece(rows=tuple(part)))
    after = 0
    while after < newest:
        lines = _page(database, after=after, newest=newest)
        yield msgspec.msgpack.encode(Piece(lines=lines))
        after = lines[-1].sequence
    yield msgspec.msgpack.encode(LastPiece(generation=root[0], root=root[1]))


def _page(database: Database, *, after: int, newest: int) -> tuple[SealedLine, ...]:
    """Return the next audit lines; at least one, or the file was damaged meanwhile."""
    query = (
        "SELECT sequence, generation, sealed FROM audit WHERE sequence > ? AND sequence <= ? "
        "ORDER BY sequence LIMIT ?"
    )
    with sqlite_as_seal_error(), database.select(query, after, newest, _PAGE) as found:
        lines = tuple(SealedLine(*row) for row in found)
    if not lines:
        raise SealError(ALTERED)
    return lines


def decode_piece(raw: bytes) -> Piece | LastPiece:
    """Return the piece in `raw`; nothing in it is believed yet.

    Raises:
        FormatError: it is none.
    """
    try:
        piece: Piece | LastPiece = msgspec.msgpack.decode(raw, type=_AnyPiece)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise FormatError("broker state: not a piece of one") from err
    return piece


class Incoming:
    """A file that a snapshot is written to. It is whole, and verified by nobody, once `done`."""

    __slots__ = ("_database", "done")

    done: bool
    """Whether the last piece was taken, and all of them are on the disk."""

    def __init__(self, path: Path) -> None:
        """Begin the file at `path` anew.

        Raises:
            ConfigError: it cannot be opened there.
            SealError: it cannot be written, for example because the disk is full.
        """
        try:
            remove_state(path)
        except OSError as err:
            raise ConfigError(f"{path}: cannot be removed: {err.strerror}") from err
        self.done = False
        self._database = Database(path)
        try:
            with sqlite_as_seal_error():
                self._database.execute("BEGIN IMMEDIATE")
                self._database.make()
        except BaseException:
            self._database.close()
            raise

    def take(self, raw: bytes) -> None:
        """Write the next piece.

        Raises:
            FormatError: it is none.
            SealError: it cannot be written, or came after the last.
        """
        if self.done:
            raise SealError("a broker's state has one last piece")
        piece = decode_piece(raw)
        with sqlite_as_seal_error():
            if isinstance(piece, LastPiece):
                write_root(self._database, piece.generation, piece.root)
                self._database.execute("COMMIT")
                self.done = True
            else:
                write_pieces(self._database, rows=piece.rows, lines=piece.lines)

    def close(self) -> None:
        """Close the file. If it is not whole by now, nothing is in it."""
        self._database.close()


def remove_state(path: Path) -> None:
    """Remove the file at `path`, if there is one, and what SQLite left beside it."""
    for name in (journal_of(path), path):
        name.unlink(missing_ok=True)
