"""How a state is opened: whole, and the newest by its counter; or begun where none ever was."""

from dataclasses import dataclass, field
from typing import Final

from wardian._internal import wire
from wardian._internal.counter import (
    MonotonicCounter,
    Standing,
    count,
    generation_of,
    name_life,
    standing,
)
from wardian.broker.state.audit import EMPTY, START, Chain
from wardian.broker.state.contents import Root, read_root, verify_audit, verify_rows, write_root
from wardian.broker.state.database import Database
from wardian.broker.state.merkle import Tree
from wardian.broker.state.sealer import Sealer
from wardian.errors import CounterLost, StateRolledBack

_REMOVED: Final = (
    "the broker's state was removed: nothing is in its place, and something was counted. "
    "Put the newest copy back"
)
_COUNTER_AT_ZERO: Final = (
    "there is a broker's state, but its counter stands at 0: the counter was lost or set back, or "
    "the state is of a broker of before. If the counter was moved, put it back; else let the "
    "owners recover the state, or move it away and let them provision a new broker "
    "(docs/reference/broker-state.md)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A state that is whole and the newest.

    Attributes:
        root: what it is.
        counted: what its counter shows.
        chain: where its audit log ends.
        tree: over its audit log.
        locked: names of rows that lie under a key of their owner that is not there.
    """

    root: Root
    counted: int
    chain: Chain = START
    tree: Tree = field(default_factory=Tree)
    locked: frozenset[str] = frozenset()


def refuse_older(database: Database, sealer: Sealer, counter: MonotonicCounter) -> None:
    """Return unless the state is known to be old before the counter is taken over for it.

    Taking it over ends whoever counts now. A state that cannot be the newest is no reason for that.

    Raises:
        StateRolledBack: it is older.
        SealError: it is not whole.
        CounterUnavailable, CounterLost: nobody can say.
    """
    if counter.look is None:
        return
    found = 0 if database.empty() else read_root(database, sealer)[0].generation
    newest = generation_of(counter.look())
    if found < newest:
        raise StateRolledBack(
            f"the broker's state is not the newest: generation {found} was found, generation "
            f"{newest} was counted. Put the newest one back"
        )


def open_newest(
    database: Database, sealer: Sealer, counter: MonotonicCounter, *, counted: int
) -> Opened:
    """Return the state in `database`; one that was written and not counted is counted now.

    Args:
        database: the file.
        sealer: of the state.
        counter: of the state.
        counted: what it showed before the file was opened.

    Raises:
        SealError: the state was altered, is incomplete, or is of another enclave.
        StateRolledBack: it is not the newest.
        CounterLost: it is newer than the counter can have counted, or of another life of it.
    """
    if database.empty():
        return _begin(database, sealer, counter, counted=counted)
    if counted == 0:  # it leaves 0 before the first file is written
        raise CounterLost(_COUNTER_AT_ZERO)
    root, sealed = read_root(database, sealer)
    stamped = sealer.stamp(sealed, generation=root.generation)
    stands = standing(stamped, follows=root.follows, counted=counted, what="the broker's state")
    tree = Tree()
    locked = verify_rows(database, sealer, root)
    chain = verify_audit(database, sealer, root, tree=tree)
    if stands is Standing.AHEAD:  # counted when it is known to be whole: there is no way back
        count(counter, at=counted, to=stamped)
    return Opened(root=root, counted=stamped, chain=chain, tree=tree, locked=locked)


def _begin(
    database: Database, sealer: Sealer, counter: MonotonicCounter, *, counted: int
) -> Opened:
    """Write the first generation; only where nothing was ever counted."""
    if generation_of(counted):
        raise StateRolledBack(_REMOVED)
    life = counted or name_life()
    if counted == 0:
        count(counter, at=0, to=life)
    root = Root(generation=1, follows=life, rows={}, audit=EMPTY)
    sealed = sealer.seal(wire.encode(root), "root", "", 1)
    with database.transaction():
        database.make()
        write_root(database, 1, sealed)
    stamped = sealer.stamp(sealed, generation=1)
    count(counter, at=life, to=stamped)
    return Opened(root=root, counted=stamped)
