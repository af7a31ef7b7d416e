"""Audit lines: who got which key, for which measured code, under which manifest.

Each line carries the digest of the line before it, so that changing, dropping or reordering any of
them changes the head, a single digest that an auditor can note down. Lines hold names and digests,
never a secret; what an asker chose itself stands in them only as names of bounded length.

Strangers cannot fill the disk: refusals for which nobody presented evidence are rationed, and those
beyond the ration are counted in one line (`Ration`).
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Annotated, Final, Literal

import msgspec

from wardian._internal import wire
from wardian.broker.manifest import Hex32
from wardian.errors import AuthenticationFailed

GENESIS: Final = bytes(32)
"""What the first line names as its predecessor."""

Event = Literal["start", "provision", "release", "refusal", "counter"]


class AuditEntry(wire.Message, frozen=True):
    """What happened, before it has its place in the chain."""

    event: Event
    outcome: Literal["granted", "refused"]
    role: str = ""
    measurement: str = ""
    """MRENCLAVE in hex where evidence was verified; empty where it was not."""
    model: str = ""
    version: int = 0
    kind: Literal["", "model", "queue", "certificate"] = ""
    key_id: str = ""
    epoch: int = 0
    manifest: str = ""
    """Hex digest of the manifest in force."""
    rule: str = ""
    """The rule that refused."""
    count: int = 0
    """With the rule `left-out`: how many refusals this line stands for."""
    counter: str = ""
    """The name of the workload's counter that was advanced; never its value."""


class AuditLine(wire.Message, frozen=True, tag_field="format", tag="wardian audit line v1"):
    """One link of the chain."""

    sequence: Annotated[int, msgspec.Meta(ge=1)]
    time: int
    """Unix seconds by the broker's clock, which its host owns."""
    previous: Hex32
    """SHA-256 of the line before, or zeros."""
    entry: AuditEntry


class AuditHead(wire.Message, frozen=True):
    """Where the chain ends: how many lines, and the digest of the last."""

    count: Annotated[int, msgspec.Meta(ge=0)]
    digest: Hex32


EMPTY: Final = AuditHead(count=0, digest=GENESIS.hex())


def link(entry: AuditEntry, *, head: AuditHead, now: int) -> tuple[bytes, AuditHead]:
    """Return `entry` as the line after `head`, and the new head.

    Args:
        entry: what happened.
        head: where the chain ends so far.
        now: Unix seconds.
    """
    line = AuditLine(sequence=head.count + 1, time=now, previous=head.digest, entry=entry)
    raw = wire.encode(line)
    return raw, AuditHead(count=line.sequence, digest=hashlib.sha256(raw).hexdigest())


def verify_chain(
    lines: Iterable[bytes], *, head: AuditHead, start: AuditHead = EMPTY
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
    start: AuditHead = EMPTY,
    each: Callable[[AuditLine], None] | None = None,
) -> None:
    """Return if the lines lead from `start` to exactly `head`; none of them is kept.

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
        line = wire.decode(raw, AuditLine, what="audit line")
        if line.sequence != at.count + 1 or line.previous != at.digest:
            raise AuthenticationFailed(
                f"audit line {at.count + 1} does not follow the one before it: the log was altered"
            )
        at = AuditHead(count=line.sequence, digest=hashlib.sha256(raw).hexdigest())
        if each is not None:
            each(line)
    if at != head:
        raise AuthenticationFailed(
            f"the audit log ends at line {at.count} in another state than it should: it was "
            "altered, or lines are missing"
        )
