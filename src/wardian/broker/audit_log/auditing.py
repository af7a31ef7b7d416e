"""Reading a broker's whole log and judging it: what an auditor does, and anybody else may."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from wardian._internal import wire
from wardian._internal.clock import UnixTime
from wardian.broker.audit_log.asking import Asked
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.state.audit import START, AuditLine, verify_tail
from wardian.broker.state.merkle import FORKED
from wardian.broker.status import Status
from wardian.broker.transparency.cosigning import HeadDemand, Vouched, WitnessedHead
from wardian.broker.transparency.heads import SignedHead
from wardian.broker.transparency.memory import (
    AuditMemory,
    refuse_contradiction,
    refuse_other_log,
    refuse_unproved,
    unproved_sizes,
)
from wardian.broker.transparency.proofs import ProofRequest
from wardian.broker.transparency.records import LogExport, verify_record
from wardian.errors import AuthenticationFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What came of reading a log.

    Attributes:
        witnessed: its newest head, verified, and what witnesses signed, verified where demanded.
        mesh_ca: the certificate, DER, of the CA that signed the head.
        memory: what is to be remembered for the next time.
        read: how many lines were read now.
        vouched: how far witnesses vouch for it; None where nobody demanded that.
    """

    witnessed: WitnessedHead
    mesh_ca: bytes
    memory: AuditMemory
    read: int
    vouched: Vouched | None


async def audit(
    asked: Asked,
    *,
    memory: AuditMemory,
    demand: HeadDemand | None = None,
    each: Callable[[bytes, AuditLine], None] = lambda _raw, _line: None,
    shown: Callable[[LogExport], None] = lambda _: None,
) -> Audited:
    """Return the log of the broker that is asked, read on from what is remembered, and judged.

    Every line follows the one before it, the tree over all lines has the root of the head that the
    broker signed, and every head that was seen before is a beginning of it.

    Args:
        asked: whose log. Another CA than the one remembered is refused.
        memory: of the last time, or `NOTHING`.
        demand: which witnesses have to have seen it; None: nobody.
        each: called with every line that was read, in order. Believe none before this returned.
        shown: called first, with the head that the broker signed and what witnesses did. Where
            this then raises AuthenticationFailed, it is what the broker has to answer for.

    Raises:
        TransportError: nobody answers there, or not as that broker does.
        FormatError: the memory was damaged, or a line or certificate does not parse.
        AuthenticationFailed: the head is not signed by that CA, or the log was altered, cut short
            or forked.
        PolicyDenied: too few witnesses saw it, or too long ago.
    """
    start = memory.chain
    status = await asked.status(start.peaks.size)
    head = status.witnessed.head
    refuse_other_log(memory, head)
    shown(LogExport(mesh_ca=status.mesh_ca, witnessed=status.witnessed))
    if head.audit.count < start.peaks.size:
        raise AuthenticationFailed(FORKED)
    chain = start
    async for raw in asked.lines(status, start=start.peaks.size):
        line, chain = chain.extended(raw)
        each(raw, line)
    if chain.head != head.audit:
        raise AuthenticationFailed(FORKED)
    await _prove(asked, memory, head)
    vouched = None
    if demand is not None:
        spki = verify_ca_certificate(status.mesh_ca)
        vouched = demand.verify(status.witnessed, ca_spki=spki, now=asked.now())
    return Audited(
        witnessed=status.witnessed,
        mesh_ca=status.mesh_ca,
        memory=memory.advanced(head, chain),
        read=chain.peaks.size - start.peaks.size,
        vouched=vouched,
    )


async def _prove(asked: Asked, memory: AuditMemory, head: SignedHead) -> None:
    """Return if every head that was only seen is a beginning of the log of `head`."""
    for sizes in unproved_sizes(memory):
        if sizes[-1] > head.audit.count:
            raise AuthenticationFailed(FORKED)
        proofs = await asked.proofs(ProofRequest(seen=sizes, size=head.audit.count))
        refuse_unproved(memory.seen, sizes=sizes, proofs=proofs, head=head.audit)


async def read_newest(
    asked: Asked, *, last: int | None = None, after: int | None = None
) -> tuple[Status, tuple[AuditLine, ...]]:
    """Return a status, and the lines that lead to its head.

    Args:
        asked: whose.
        last: how many lines; None: all.
        after: instead, those behind this one.

    Raises:
        TransportError: nobody answers there, or not as that broker does.
        FormatError, AuthenticationFailed: the head is not signed by that CA, or the lines do not
            follow each other up to it.
    """
    status = await asked.status(2**53 if after is None else after)
    start = after if after is not None else max(0, status.audit.count - (last or 2**53))
    if after is None and start < status.audit.count:
        first = await asked.status(start)
        status = msgspec.structs.replace(status, lines=first.lines)
    raws = [raw async for raw in asked.lines(status, start=start)]
    if after is not None and not raws:
        return status, ()
    return status, verify_tail(raws, head=status.audit)


async def find_lines(
    asked: Asked, wanted: Callable[[AuditLine], bool], *, most: int
) -> tuple[SignedHead, tuple[int, ...]]:
    """Return the newest head, and which lines up to there are `wanted`.

    The whole log is read and verified, so that nobody takes out what is looked for.

    Returns:
        The head, and the numbers of the newest such lines, up to `most`, oldest first.

    Raises:
        TransportError: nobody answers there, or not as that broker does.
        FormatError, AuthenticationFailed: the head is not signed by that CA, or the lines are not
            the log that it stands for.
    """
    found: list[int] = []
    status, chain = await asked.status(0), START
    async for raw in asked.lines(status, start=0):
        line, chain = chain.extended(raw)
        if wanted(line):
            found = [*found, line.sequence][-most:]
    if chain.head != status.audit:
        raise AuthenticationFailed(FORKED)
    return status.witnessed.head, tuple(found)


def audit_export(
    lines: Iterable[bytes],
    *,
    memory: AuditMemory,
    ca_spki: bytes | None,
    now: UnixTime,
    demand: HeadDemand | None = None,
    each: Callable[[bytes, AuditLine], None] = lambda _raw, _line: None,
) -> Audited:
    """Return the log in an exported file, read whole and judged as `audit` does.

    Args:
        lines: of the file, without their ends: a `LogExport`, then the raw audit lines.
        memory: of the last time, or `NOTHING`.
        ca_spki: the mesh CA's key (DER) that somebody vouches for; None: nobody does.
        now: Unix seconds.
        demand: which witnesses have to have seen it; None: nobody.
        each: called with every audit line, in order. Believe none before this returned.

    Raises:
        FormatError: something does not parse.
        AuthenticationFailed, PolicyDenied: as `audit`.
    """
    rest = iter(lines)
    said = wire.decode(next(rest, b""), LogExport, what="exported log")
    head = said.witnessed.head
    spki = verify_record(head, mesh_ca=said.mesh_ca, ca_spki=ca_spki)
    refuse_other_log(memory, head)
    known = {each.audit.count: each.audit for each in memory.known}
    chain = START
    for raw in rest:
        line, chain = chain.extended(raw)
        each(raw, line)
        if chain.peaks.size in known:
            refuse_contradiction(known.pop(chain.peaks.size), chain.head)
    if chain.head != head.audit or any(known):
        raise AuthenticationFailed(FORKED)
    vouched = None if demand is None else demand.verify(said.witnessed, ca_spki=spki, now=now())
    return Audited(
        witnessed=said.witnessed,
        mesh_ca=said.mesh_ca,
        memory=memory.advanced(head, chain),
        read=chain.peaks.size,
        vouched=vouched,
    )
