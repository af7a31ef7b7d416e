"""What an auditor, an owner or a client remembers of a log: heads, and how far it read the lines.

A party that keeps nothing is shown whatever suits whoever shows it. One that keeps the newest head
notices every later head that does not go on from it; one that also keeps the tree's peaks reads
each line of the log once, computes the next root itself and needs no proof for it.
"""

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.state.audit import START, AuditHead, Chain
from wardian.broker.state.merkle import Peaks
from wardian.broker.transparency.cosigning import Hash
from wardian.broker.transparency.heads import SignedHead
from wardian.broker.transparency.proofs import MAX_SEEN, Proofs, verify_continuation
from wardian.errors import AuthenticationFailed, ConfigError, FormatError

MAX_UNPROVED: Final = 1024


class AuditMemory(wire.Message, frozen=True, tag_field="format", tag="wardian audit memory v1"):
    """The file that a party keeps for one log. It is the party's own, hence trusted."""

    read: SignedHead | None
    """The newest head whose lines were all read and verified."""
    peaks: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=64)]
    """Of the tree over those lines."""
    seen: Annotated[tuple[SignedHead, ...], msgspec.Meta(max_length=MAX_UNPROVED)] = ()
    """Heads that were shown elsewhere, and are still to be proved part of this log."""

    @property
    def known(self) -> tuple[SignedHead, ...]:
        """Every head that is remembered."""
        return self.seen if self.read is None else (self.read, *self.seen)

    @property
    def log(self) -> str | None:
        """Which log it is, by the CA whose key signs its heads; None if nothing is known yet."""
        return self.known[0].log if self.known else None

    @property
    def chain(self) -> Chain:
        """Where reading goes on.

        Raises:
            FormatError: the peaks are not those of the head: the file was damaged.
        """
        if self.read is None:
            return START
        audit = self.read.audit
        chain = Chain(bytes.fromhex(audit.digest), Peaks(audit.count, self.peaks))
        if len(self.peaks) != audit.count.bit_count() or chain.head != audit:
            raise FormatError("audit memory: its peaks are not those of its head")
        return chain

    def advanced(self, head: SignedHead, chain: Chain) -> "AuditMemory":
        """Return what is remembered once all lines up to `head`, a verified one, were read."""
        return AuditMemory(read=head, peaks=chain.peaks.hashes)


NOTHING: Final = AuditMemory(read=None, peaks=())


def noted(memory: AuditMemory, head: SignedHead) -> AuditMemory:
    """Return the memory with one more head, which was verified under the CA's key.

    Args:
        memory: what is remembered.
        head: shown by a front end, or in an owner's receipt.

    Raises:
        AuthenticationFailed: it is of another log, or contradicts one that is remembered.
        ConfigError: too many heads wait to be proved.
    """
    refuse_other_log(memory, head)
    for known in memory.known:
        refuse_contradiction(known.audit, head.audit)
        if known.audit.count == head.audit.count:
            return memory
    if len(memory.seen) >= MAX_UNPROVED:
        raise ConfigError(
            f"{MAX_UNPROVED} heads wait to be proved: run `wardian audit verify --head` with a "
            "broker first"
        )
    return msgspec.structs.replace(memory, seen=(*memory.seen, head))


def refuse_other_log(memory: AuditMemory, head: SignedHead) -> None:
    """Return if `head` is of the log that is remembered, or none is.

    Raises:
        AuthenticationFailed: it is of another mesh CA.
    """
    if memory.log not in {None, head.log}:
        raise AuthenticationFailed("this is the log of another mesh CA than the one remembered")


def refuse_contradiction(one: AuditHead, other: AuditHead) -> None:
    """Return unless the two heads are of one length and of different logs.

    Raises:
        AuthenticationFailed: they are: the broker that signed both is convicted.
    """
    if one.count == other.count and one != other:
        raise AuthenticationFailed(
            f"two heads of one CA say different things about the first {one.count} lines: the "
            "audit log forked. Keep both: together they convict the broker"
        )


def unproved_sizes(memory: AuditMemory) -> tuple[tuple[int, ...], ...]:
    """Return the sizes of heads that wait to be proved, in requests of as many as one may name."""
    sizes = sorted({head.audit.count for head in memory.seen})
    return tuple(tuple(sizes[at : at + MAX_SEEN]) for at in range(0, len(sizes), MAX_SEEN))


def refuse_unproved(
    seen: Iterable[SignedHead], *, sizes: tuple[int, ...], proofs: Proofs, head: AuditHead
) -> None:
    """Return if the log of `head` goes on from each of the `seen` heads that the proofs are about.

    Args:
        seen: of one memory, each verified when it was noted.
        sizes: as asked for.
        proofs: the answer, untrusted.
        head: verified; the one that the proofs were asked for.

    Raises:
        AuthenticationFailed: it does not go on from one of them.
    """
    by_size = dict(zip(sizes, proofs.seen, strict=True))
    for each in seen:
        if each.audit.count in by_size:
            verify_continuation(each.audit, head, proof=by_size[each.audit.count])
