"""The broker's SQLite file: held alone, running no code out of it, every error one of ours."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wardian.broker.state.sealer import ALTERED
from wardian.errors import ConfigError, SealError

MAX_VALUE_BYTES: Final = 4 * 1024 * 1024

SCHEMA: Final = (
    """CREATE TABLE root (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL,
        sealed BLOB NOT NULL)""",
    """CREATE TABLE rows (place TEXT NOT NULL, key TEXT NOT NULL, generation INTEGER NOT NULL,
        sealed BLOB NOT NULL, PRIMARY KEY (place, key)) WITHOUT ROWID""",
    """CREATE TABLE audit (sequence INTEGER PRIMARY KEY, generation INTEGER NOT NULL,
        sealed BLOB NOT NULL)""",
)


class Database:
    """One open file. One process, one thread."""

    __slots__ = ("_connection", "in_doubt", "path")

    in_doubt: bool
    """Whether a change could neither be made nor taken back."""

    def __init__(self, path: Path) -> None:
        """Open or make the file at `path`, mode 0600, for this process alone.

        Raises:
            ConfigError: it cannot be opened, or another process has it open.
            SealError: it is no database.
        """
        self.path = path
        self.in_doubt = False
        self._connection = _connect(path)

    def close(self) -> None:
        """Close the file. Nothing is lost: every change is on disk."""
        self._connection.close()

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        """Carry out `statement`."""
        return self._connection.execute(statement, values)

    def executemany(self, statement: str, rows: object) -> None:
        """Carry out `statement` for each of `rows`."""
        self._connection.executemany(statement, rows)  # type: ignore[arg-type]

    def select(
        self, query: str, *values: object
    ) -> contextlib.AbstractContextManager[sqlite3.Cursor]:
        """Return the rows of `query`, to be read inside a `with`.

        A query that is left open keeps the file locked, even after the connection was closed: until
        its cursor is collected, which an exception that names its frame puts off.
        """
        return contextlib.closing(self._connection.execute(query, values))

    def empty(self) -> bool:
        """Return whether nothing was ever written to the file.

        Raises:
            SealError: it holds anything else than our tables: a trigger or a view that the host
                put there would run in our queries.
        """
        with self.select("SELECT sql FROM sqlite_master WHERE sql NOT NULL") as tables:
            found = {sql for (sql,) in tables}
        if found and found != set(SCHEMA):
            raise SealError(ALTERED)
        return not found

    def make(self) -> None:
        """Make the tables, inside a transaction of the caller's."""
        for statement in SCHEMA:
            self._connection.execute(statement)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Bracket what is written at once. If it raises, nothing was, unless `in_doubt` is set."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full
                self.in_doubt = True
                self._connection.execute("ROLLBACK")
                self.in_doubt = False
            raise


@contextlib.contextmanager
def sqlite_as_seal_error() -> Iterator[None]:
    """Turn what SQLite says about a damaged or full file into our own error."""
    try:
        yield
    except (sqlite3.Error, UnicodeError) as err:  # a message may quote bytes that are no text
        raise SealError(f"the broker's state cannot be used: {err}") from err


def journal_of(path: Path) -> Path:
    """Return where SQLite keeps what it takes back after a crash, beside the file at `path`."""
    return path.with_name(f"{path.name}-journal")


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
        raise SealError(ALTERED) from err
    return database
