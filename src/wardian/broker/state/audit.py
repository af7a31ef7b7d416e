"""Audit lines: who got which key, for which measured code, under which manifest.

Each line carries the digest of the line before it, and a Merkle tree stands over all of them
(`merkle`): changing, dropping or reordering any of them changes the head, which an auditor can note
down. Lines hold names and digests, never a secret; what an asker chose itself stands in them only
as names of bounded length.

Strangers cannot fill the disk: refusals for which nobody presented evidence are rationed, and those
beyond the ration are counted in one line (`Ration`).
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from wardian._internal import wire
from wardian.broker.mesh.fields import Hex32
from wardian.broker.state.merkle import EMPTY_ROOT, NO_PEAKS, Peaks
from wardian.errors import AuthenticationFailed

GENESIS: Final = bytes(32)
"""What the first line names as its predecessor."""
MAX_COUNT: Final = 2**53
"""Lines: as many as every JSON reader counts without error."""

Event = Literal[
    "start",
    "provision",
    "order",
    "epoch",
    "release",
    "export",
    "refusal",
    "counter",
    "standby",
    "recovery",
]
Sequence = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
"""A line's number: 1 is the first."""
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
"""How many lines there are."""


class AuditEntry(wire.Message, frozen=True):
    """What happened, before it has its place in the chain."""

    event: Event
    outcome: Literal["granted", "refused"]
    role: str = ""
    measurement: str = ""
    """Of the asker's code, in hex, where evidence was verified; empty where it was not."""
    evidence: str = ""
    """Hex of `attestation.evidence_digest`: which evidence was judged; empty where none was."""
    owner: str = ""
    """The public key, in hex, of the owner who brought this about."""
    model: str = ""
    version: int = 0
    kind: Literal[
        "",
        "model",
        "queue",
        "request",
        "secret",
        "certificate",
        "master",
        "access",
        "policy",
        "table",
    ] = ""
    secret: str = ""
    """The name of the secret, or table, that was given, made or released; never a value."""
    key_id: str = ""
    use: int = 0
    """Which release of its model's version, or of its secret, this was: 1 is the first."""
    certificate: str = ""
    """Hex SHA-256 of the certificate (DER) that was issued with the release."""
    epoch: int = 0
    manifest: str = ""
    """Hex digest of the manifest in force."""
    rule: str = ""
    """The rule that refused."""
    count: int = 0
    """With the rule `left-out`: how many refusals this line stands for."""
    counter: str = ""
    """The name of the workload's counter that was advanced; never its value."""
    plan: str = ""
    """Hex digest of the plan of the job that asked for tables."""
    job: str = ""
    """Hex id of the job that got a table's key: of one debit."""
    spent: str = ""
    """What the release of a table spent of its budget: epsilon and delta, as the plan has them."""
    export: str = ""
    """Hex digest of all that came out of a job; `report` is that of the job's report."""
    report: str = ""
    approvers: str = ""
    """Public keys, in hex, of those whose approvals the job verified, with blanks in between."""


class AuditLine(wire.Message, frozen=True, tag_field="format", tag="wardian audit line v1"):
    """One link of the chain, and one leaf of the tree."""

    sequence: Sequence
    time: int
    """Unix seconds by the broker's clock, which its host owns."""
    previous: Hex32
    """SHA-256 of the line before, or zeros."""
    entry: AuditEntry


class AuditHead(wire.Message, frozen=True):
    """Where the log ends: how many lines, the digest of the last, the root over all."""

    count: Count
    digest: Hex32
    root: Hex32
    """Of the Merkle tree whose leaves are the raw lines (RFC 6962, 2.1)."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a log ends, with what it takes to go on from there.

    Attributes:
        digest: SHA-256 of the last line, or `GENESIS`.
        peaks: the Merkle tree over all lines, reduced.
    """

    digest: bytes = GENESIS
    peaks: Peaks = NO_PEAKS

    @property
    def head(self) -> AuditHead:
        """The head that this is."""
        peaks = self.peaks
        return AuditHead(count=peaks.size, digest=self.digest.hex(), root=peaks.root.hex())

    def appended(self, raw: bytes) -> "Chain":
        """Return the log with `raw` behind its last line, unread."""
        return Chain(hashlib.sha256(raw).digest(), self.peaks.appended(raw))

    def extended(self, raw: bytes) -> tuple[AuditLine, "Chain"]:
        """Return the line in `raw`, which follows the last one, and the log that it makes.

        Raises:
            FormatError: it does not parse.
            AuthenticationFailed: it is not the next line of this log.
        """
        line, at = decode_line(raw), self.peaks.size
        if line.sequence != at + 1 or line.previous != self.digest.hex():
            raise AuthenticationFailed(
                f"audit line {at + 1} does not follow the one before it: the log was altered"
            )
        return line, self.appended(raw)


START: Final = Chain()
EMPTY: Final = AuditHead(count=0, digest=GENESIS.hex(), root=EMPTY_ROOT.hex())


def decode_line(raw: bytes) -> AuditLine:
    """Return the line in `raw`; FormatError if it is none."""
    return wire.decode(raw, AuditLine, what="audit line")


def link(entry: AuditEntry, *, chain: Chain, now: int) -> tuple[bytes, Chain]:
    """Return `entry` as the line after the last one of `chain`, and the log that it makes.

    Args:
        entry: what happened.
        chain: where the log ends so far.
        now: Unix seconds.
    """
    line = AuditLine(
        sequence=chain.peaks.size + 1, time=now, previous=chain.digest.hex(), entry=entry
    )
    raw = wire.encode(line)
    return raw, chain.appended(raw)


def verify_chain(
    lines: Iterable[bytes], *, head: AuditHead, start: Chain = START
) -> tuple[AuditLine, ...]:
    """Return the lines that lead from `start` to exactly `head`.

    Args:
        lines: the raw lines in order, untrusted.
        head: where they must end; trusted.
        start: where they begin; the beginning of the log unless said otherwise.

    Raises:
        FormatError: a line does not parse.
        AuthenticationFailed: a line was changed, dropped, added or moved.
    """
    read: list[AuditLine] = []
    follow_chain(lines, head=head, start=start, each=read.append)
    return tuple(read)


def follow_chain(
    lines: Iterable[bytes],
    *,
    head: AuditHead,
    start: Chain = START,
    each: Callable[[AuditLine], None] | None = None,
) -> Chain:
    """Return where the lines lead from `start`, which is exactly `head`; none of them is kept.

    Args:
        lines: the raw lines in order, untrusted; one at a time is taken.
        head: where they must end; trusted.
        start: where they begin; the beginning of the log unless said otherwise.
        each: called with every line in order. Believe none of them until this returned.

    Raises:
        FormatError: a line does not parse.
        AuthenticationFailed: a line was changed, dropped, added or moved.
    """
    at = start
    for raw in lines:
        line, at = at.extended(raw)
        if each is not None:
            each(line)
    if at.head != head:
        raise AuthenticationFailed(
            f"the audit log ends at line {at.peaks.size} in another state than it should: it was "
            "altered, or lines are missing"
        )
    return at


def verify_tail(lines: Iterable[bytes], *, head: AuditHead) -> tuple[AuditLine, ...]:
    """Return the lines, each of which follows the one before it, and the last of which is `head`'s.

    Enough to show the newest lines of a long log; that they belong to the tree, their inclusion
    proofs say.

    Args:
        lines: raw, in order, untrusted; none only where the log is empty.
        head: where they must end; trusted.

    Raises:
        FormatError: a line does not parse.
        AuthenticationFailed: a line was changed, dropped, added or moved.
    """
    read: list[AuditLine] = []
    digest = GENESIS.hex()
    for raw in lines:
        line = decode_line(raw)
        if read and (line.sequence != read[-1].sequence + 1 or line.previous != digest):
            raise AuthenticationFailed(
                f"audit line {line.sequence} does not follow the one before it: the log was altered"
            )
        read.append(line)
        digest = hashlib.sha256(raw).hexdigest()
    if (read[-1].sequence if read else 0, digest) != (head.count, head.digest):
        raise AuthenticationFailed("the newest audit lines do not end where the log does")
    return tuple(read)
