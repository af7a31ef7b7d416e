"""A state whose counter cannot vouch for it begins another life of a counter, because others do.

Who may say so, and has, is the caller's to know: the owners in a recovery, or the broker that
handed the state over. From then on the counter decides again, and no copy of before opens.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wardian._internal.counter import MonotonicCounter, count, generation_of, name_life
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.contents import (
    Place,
    read_root,
    verify_audit,
    verify_rows,
    write_commit,
)
from wardian.broker.state.database import Database, sqlite_as_seal_error
from wardian.broker.state.drafts import Basis, draft
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.sealer import ALTERED, Sealer
from wardian.errors import SealError


def begin_life(
    path: Path,
    *,
    master_key: MasterKey,
    counter: MonotonicCounter,
    changes: Mapping[Place, bytes | None],
    audit: Sequence[AuditEntry],
    now: int,
) -> None:
    """Write one commit to the state at `path` that follows what `counter` shows, and count it.

    Afterwards it opens as a `Store`. After a crash it does, or the same has to be done again.

    Args:
        path: the file; whole, newest or not.
        master_key: of the state.
        counter: of the life that begins. One that shows 0 gets a name first; one that knows more
            than the state proves goes on from there.
        changes: as in `Store.commit`.
        audit: why; at least one line.
        now: Unix seconds.

    Raises:
        SealError: the state is not whole, or somebody else counted meanwhile.
        ConfigError: it cannot be opened.
    """
    sealer, database = Sealer(master_key), Database(path)
    try:
        with sqlite_as_seal_error():
            if database.empty():
                raise SealError(ALTERED)
            root, _ = read_root(database, sealer)
            verify_rows(database, sealer, root)
            chain = verify_audit(database, sealer, root)
            value = counter.read()
            if value == 0:
                life = name_life()
                count(counter, at=0, to=life)
                value = life
            basis = Basis(
                sealer=sealer,
                root=root,
                chain=chain,
                follows=value,
                generation=generation_of(value) + 1,
            )
            commit = draft(basis, changes, audit, now=now).commit
            with database.transaction():
                write_commit(database, commit)
            stamped = sealer.stamp(commit.root, generation=commit.generation)
            count(counter, at=value, to=stamped)
    finally:
        database.close()
