"""From what shall change to the commit that brings it about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wardian._internal import wire
from wardian._internal.counter import MAX_GENERATION
from wardian.broker.state.audit import AuditEntry, Chain, link
from wardian.broker.state.contents import (
    MAX_COMMIT_BYTES,
    Commit,
    Place,
    Root,
    SealedLine,
    SealedRow,
)
from wardian.broker.state.sealer import Sealer, digest
from wardian.errors import SealError


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A change that is not written yet.

    Attributes:
        root: what the state becomes.
        commit: what has to be written for it.
        lines: the audit lines in it, raw.
        chain: where the audit log ends with them.
    """

    root: Root
    commit: Commit
    lines: tuple[bytes, ...]
    chain: Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a change is made on.

    Attributes:
        sealer: of this state.
        root: the state so far.
        chain: where its audit log ends.
        follows: the counter's value that the change is written on.
        generation: of the state that it becomes.
    """

    sealer: Sealer
    root: Root
    chain: Chain
    follows: int
    generation: int


def draft(
    basis: Basis, changes: Mapping[Place, bytes | None], audit: Sequence[AuditEntry], *, now: int
) -> Draft:
    """Return the change of `basis` by `changes` and `audit`.

    Args:
        basis: what there is.
        changes: new values by place; None deletes.
        audit: what happened.
        now: Unix seconds, for the audit lines.

    Raises:
        SealError: the generations are used up, it is more than one commit may hold, or the list of
            rows would become longer than the next start reads.
    """
    sealer, generation = basis.sealer, basis.generation
    if generation > MAX_GENERATION:
        raise SealError("the broker's state has used up its generations")
    names, rows = dict(basis.root.rows), []
    for (place, key), value in changes.items():
        name = f"{place}/{key}"
        if value is None:
            names.pop(name, None)
            continue
        sealed = sealer.seal(sealer.lock(value, place, key), "rows", name, generation)
        names[name] = digest(sealed)
        rows.append(SealedRow(place, key, generation, sealed))
    chain, raws, lines = basis.chain, [], []
    for sequence, entry in enumerate(audit, start=chain.peaks.size + 1):
        raw, chain = link(entry, chain=chain, now=now)
        raws.append(raw)
        sealed = sealer.seal(raw, "audit", str(sequence), generation)
        lines.append(SealedLine(sequence, generation, sealed))
    root = Root(generation=generation, follows=basis.follows, rows=names, audit=chain.head)
    raw_root = wire.encode(root)
    if len(raw_root) > wire.MAX_MESSAGE_BYTES:  # it could be written, and never be opened again
        raise SealError("the broker's state has no room for more rows")
    sealed_root = sealer.seal(raw_root, "root", "", generation)
    sizes = [*map(len, (sealed_root, *raws)), *(len(row.sealed) for row in rows)]
    if sum(sizes) > MAX_COMMIT_BYTES:
        raise SealError("this is more than one change of the broker's state may hold")
    commit = Commit(
        generation=generation,
        deleted=tuple(place for place, value in changes.items() if value is None),
        rows=tuple(rows),
        lines=tuple(lines),
        root=sealed_root,
    )
    return Draft(root=root, commit=commit, lines=tuple(raws), chain=chain)
