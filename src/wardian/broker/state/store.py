"""The broker's memory on a disk that its host owns: encrypted, whole, and the newest.

One SQLite file. Every value is AES-256-GCM under a key derived from the sealed master key, with its
table, its key and its generation as associated data, so that no value moves to another place
(`sealer`); what it all has to be, the root row says (`contents`).

The file as a whole can be put back by the host, and only a monotonic counter outside it can tell.
The counter holds the generation and a mark over the root row (`_internal.counter`). A commit writes
the file first, then has every standby write it (`replicas`), then advances the counter, and only
then does the broker act. So after a crash the file is either the counted one, or one generation
ahead and never acted upon; the root says which value of the counter it follows, and must find that
value there. A host that kills the broker between file and counter collects such files; each is
worthless once the next start is counted, and until then the mark tells those of one generation
apart.

Not covered: two brokers of one measurement running at once on copies of the file, where the counter
is a file of the host. That takes counters on several platforms (TRUST T5, `broker.quorum`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from wardian._internal.counter import (
    CounterKeeper,
    MonotonicCounter,
    count_on,
)
from wardian.broker.state.audit import AuditEntry, AuditHead
from wardian.broker.state.contents import (
    Place,
    write_commit,
)
from wardian.broker.state.database import MAX_VALUE_BYTES, Database, sqlite_as_seal_error
from wardian.broker.state.drafts import Basis, Draft, draft
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.merkle import Tree
from wardian.broker.state.opening import open_newest, refuse_older
from wardian.broker.state.replicas import NO_REPLICAS, Replicas
from wardian.broker.state.sealer import ALTERED, Sealer, digest
from wardian.broker.state.snapshot import take_snapshot
from wardian.errors import (
    CounterUnavailable,
    SealError,
)

__all__ = ["MAX_VALUE_BYTES", "Place", "Store"]


class Store:
    """The opened state. One process, one thread; every change is one atomic `commit`."""

    __slots__ = (
        "_chain",
        "_counter",
        "_database",
        "_locked",
        "_retired",
        "_root",
        "_sealer",
        "_usable",
        "_value",
        "audit_tree",
        "master_key",
        "replicas",
    )

    audit_tree: Tree
    """The Merkle tree over the audit log, for proofs."""
    master_key: MasterKey
    """What opens the state."""
    replicas: Replicas
    """Where else every commit lies before it is acted upon."""

    def __init__(
        self,
        path: Path,
        *,
        master_key: MasterKey,
        counter: MonotonicCounter,
        replicas: Replicas = NO_REPLICAS,
    ) -> None:
        """Open the state in `path`, or begin one where there is none and never was.

        Args:
            path: the SQLite file; made with mode 0600.
            master_key: that only this enclave can unseal.
            counter: tells the newest state from an older copy.
            replicas: where else every commit has to lie before it is acted upon.

        Raises:
            ConfigError: the file cannot be opened, or another broker has it open.
            SealError: it was altered, is incomplete, or is of another enclave.
            StateRolledBack: it is not the newest.
            CounterLost: it is newer than the counter can have counted, or of another life of it.
        """
        self.master_key, self.replicas = master_key, replicas
        self._sealer, self._counter = Sealer(master_key), counter
        self._usable, self._retired = True, False
        self._database = Database(path)  # first: who has it open is not disturbed
        try:
            with sqlite_as_seal_error():
                refuse_older(self._database, self._sealer, counter)
                counted = counter.read()
                opened = open_newest(self._database, self._sealer, counter, counted=counted)
        except BaseException:
            self._database.close()
            raise
        self._root, self._value, self._locked = opened.root, opened.counted, opened.locked
        self._chain, self.audit_tree = opened.chain, opened.tree

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self._database.path

    @property
    def usable(self) -> bool:
        """Whether this process may use the state; once False, only opening it anew helps."""
        return self._usable and not self._database.in_doubt

    @property
    def retired(self) -> bool:
        """Whether this process decides nothing with the state any more, by its own last commit."""
        return self._retired

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

    def retire(self) -> None:
        """Let nothing be committed or confirmed any more; the state can still be read."""
        self._retired = True

    def abandon(self) -> None:
        """Use the state no more; only opening it anew helps."""
        self._usable = False

    def close(self) -> None:
        """Close the file. Nothing is lost: every commit is on disk."""
        self._database.close()

    def get(self, place: str, key: str) -> bytes | None:
        """Return the value at (`place`, `key`), or None if there is none that this broker can open.

        Raises:
            SealError: the row was altered since the state was opened.
        """
        raw = None if f"{place}/{key}" in self._locked else self._read(place, key)
        return None if raw is None else self._sealer.unlock(raw, place, key)

    def row_digest(self, place: str, key: str) -> str | None:
        """Return what names the content of a row as it lies there; None where `get` returns None.

        Each writing makes another one, of the same value, too.
        """
        name = f"{place}/{key}"
        return None if name in self._locked else self._root.rows.get(name)

    def has(self, place: str, key: str) -> bool:
        """Return whether there is such a row, also one that this broker cannot open."""
        return f"{place}/{key}" in self._root.rows

    def keys(self, place: str) -> tuple[str, ...]:
        """Return the keys at `place` whose values this broker can open, sorted."""
        prefix = f"{place}/"
        found = (name for name in self._root.rows if name.startswith(prefix))
        return tuple(
            sorted(name.removeprefix(prefix) for name in found if name not in self._locked)
        )

    def locked(self, owner: str) -> dict[Place, bytes]:
        """Return what `owner` gave and only a key of its own opens, as it is locked, by place.

        So it is after a recovery, or a handover, in which that owner had no part.
        """
        names = (name.partition("/") for name in sorted(self._locked))
        places = ((place, key) for place, _, key in names if key.startswith(f"{owner}/"))
        return {at: raw for at in places if (raw := self._read(*at)) is not None}

    def audit_lines(self, *, after: int = 0, limit: int = 100) -> tuple[bytes, ...]:
        """Return up to `limit` raw audit lines whose sequence is greater than `after`."""
        query = (
            "SELECT sequence, generation, sealed FROM audit WHERE sequence > ? "
            "ORDER BY sequence LIMIT ?"
        )
        with sqlite_as_seal_error(), self._database.select(query, after, limit) as found:
            rows = found.fetchall()
        return tuple(self._sealer.open(sealed, "audit", str(seq), gen) for seq, gen, sealed in rows)

    def snapshot(self) -> tuple[bytes, Iterator[bytes]]:
        """Return the mark of the state as it is now, and its pieces; see `take_snapshot`.

        Raises:
            SealError: it is in doubt which one is the newest.
        """
        self._refuse_unusable()
        return take_snapshot(self._database)

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
            audit: what happened; every commit says why it was made, but for what a witness of the
                log signed, which would never end.
            now: Unix seconds, for the audit lines.

        Raises:
            SealError: the state cannot be written, or another broker counted meanwhile.
        """
        self.confirm()  # without its keepers the state can be read: nothing is begun that may count
        basis = Basis(
            sealer=self._sealer,
            root=self._root,
            chain=self._chain,
            follows=self._value,
            generation=self._root.generation + 1,
        )
        drafted = draft(basis, changes or {}, audit, now=now)
        with sqlite_as_seal_error(), self._database.transaction():
            write_commit(self._database, drafted.commit)
        self._settle(drafted)
        self._locked -= {f"{place}/{key}" for place, key in changes or {}}

    def confirm(self) -> None:
        """Return if this state is still the newest one, as the counter says now.

        A commit finds that out by itself. Ask before anything is told without one: a second broker
        may have been started on a copy of this state, and its host let this one answer.

        Raises:
            CounterUnavailable: nobody can say now (retryable).
            SealError: another broker counted; this process does not use the state any more.
        """
        self._refuse_unusable()
        self._refuse_retired()
        self._usable = False
        try:
            stands = self._counter.read()
        except CounterUnavailable:
            self._usable = True  # nothing was learned
            raise
        if stands != self._value:
            raise SealError("another broker counted in this one's place: two run on one state")
        self._usable = True

    def _read(self, place: str, key: str) -> bytes | None:
        """Return what is sealed at a place, still under its owner's key where it is one's own."""
        expected = self._root.rows.get(f"{place}/{key}")
        if expected is None:
            return None
        query = "SELECT generation, sealed FROM rows WHERE place = ? AND key = ?"
        with sqlite_as_seal_error(), self._database.select(query, place, key) as found:
            row = found.fetchone()
        if row is None or digest(row[1]) != expected:
            raise SealError(ALTERED)
        return self._sealer.open(row[1], "rows", f"{place}/{key}", row[0])

    def _settle(self, drafted: Draft) -> None:
        """Have every standby write what is now on disk, then advance the counter to it.

        From here to the end the file is ahead of the counter. If this fails nobody knows which of
        the two holds, so this process stops using the state; the next start finds out.
        """
        self._usable = False
        commit = drafted.commit
        self.replicas.ship(commit)
        stamped = self._sealer.stamp(commit.root, generation=commit.generation)
        count_on(self._counter, to=stamped)
        self._value = stamped
        self._root, self._chain = drafted.root, drafted.chain
        for line in drafted.lines:
            self.audit_tree.append(line)
        self._usable = True

    def _refuse_retired(self) -> None:
        if self._retired:
            raise SealError("the broker's state was handed over: this broker decides nothing more")

    def _refuse_unusable(self) -> None:
        if not self.usable:
            raise SealError(
                "the broker's state is in doubt, or not the newest any more: restart it"
            )
