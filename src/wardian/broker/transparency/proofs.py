"""Proofs as messages: that lines are in the log, and that the log goes on from heads seen before.

Anybody may ask. An asker names the heads that it has seen by their sizes, and verifies the answer
against what it knows of them: nothing in an answer is believed because the broker says it.
"""

from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.state.audit import AuditHead, AuditLine, Count, Sequence, decode_line
from wardian.broker.state.merkle import verify_consistency, verify_inclusion
from wardian.broker.transparency.cosigning import Path, WitnessedHead
from wardian.errors import AuthenticationFailed, PeerProtocolError

MAX_LINES: Final = 64
"""Lines that one request asks for."""
MAX_SEEN: Final = 32
"""Earlier heads that one request names."""

Der = Annotated[bytes, msgspec.Meta(min_length=1, max_length=16 * 1024)]
"""A certificate."""


class ProofRequest(
    wire.Message, frozen=True, tag_field="format", tag="wardian audit proof request v1"
):
    """Ask for proofs in the tree of `size` lines."""

    lines: Annotated[tuple[Sequence, ...], msgspec.Meta(max_length=MAX_LINES)] = ()
    """Numbers of lines whose inclusion is to be proved."""
    seen: Annotated[tuple[Count, ...], msgspec.Meta(max_length=MAX_SEEN)] = ()
    """Sizes of earlier heads, which the tree is to be proved to continue."""
    size: Count | None = None
    """Of the tree; None: the newest."""


class ProvedLine(wire.Message, frozen=True):
    """One line, and the proof that it is in a tree."""

    sequence: Sequence
    line: Annotated[bytes, msgspec.Meta(min_length=1, max_length=16 * 1024)]
    """Raw, as the log holds it."""
    inclusion: Path


class Proofs(wire.Message, frozen=True, tag_field="format", tag="wardian audit proofs v1"):
    """The answer. Untrusted until each part is verified."""

    witnessed: WitnessedHead
    """The newest head."""
    mesh_ca: Der
    """The mesh CA's certificate, DER: whose heads these say they are."""
    issuing_ca: Der
    """Of the CA that issued the broker's own certificate; see `sender`."""
    size: Count
    """Of the tree that the proofs are in."""
    lines: Annotated[tuple[ProvedLine, ...], msgspec.Meta(max_length=MAX_LINES)]
    """In the order in which they were asked for."""
    seen: Annotated[tuple[Path, ...], msgspec.Meta(max_length=MAX_SEEN)]
    """Likewise: consistency from each earlier size to `size`."""


def demand_answer(request: ProofRequest, proofs: Proofs) -> None:
    """Return if the answer is to this request, whatever it may be worth.

    Raises:
        PeerProtocolError: it is to another one.
    """
    newest = proofs.witnessed.head.audit.count
    asked = (request.lines, len(request.seen), newest if request.size is None else request.size)
    got = (tuple(each.sequence for each in proofs.lines), len(proofs.seen), proofs.size)
    if asked != got:
        raise PeerProtocolError("the broker answered with other proofs than it was asked for")


def verify_line(proved: ProvedLine, *, head: AuditHead) -> AuditLine:
    """Return the line, which is in the log that `head` stands for, at the place it names.

    Args:
        proved: untrusted.
        head: verified.

    Raises:
        FormatError: it does not parse.
        AuthenticationFailed: it is not in that log, or at another place.
    """
    verify_inclusion(
        proved.line,
        index=proved.sequence - 1,
        size=head.count,
        path=proved.inclusion,
        root=bytes.fromhex(head.root),
    )
    line = decode_line(proved.line)
    if line.sequence != proved.sequence:
        raise AuthenticationFailed("an audit line stands at another place than it names")
    return line


def verify_continuation(old: AuditHead, new: AuditHead, *, proof: Path) -> None:
    """Return if the log of `new` goes on from where `old` stands.

    Args:
        old: a head that was verified before.
        new: verified.
        proof: untrusted.

    Raises:
        AuthenticationFailed: it does not: it was altered, cut short or forked.
    """
    verify_consistency(
        first=old.count,
        first_root=bytes.fromhex(old.root),
        second=new.count,
        second_root=bytes.fromhex(new.root),
        proof=proof,
    )
    if old.count == new.count and old.digest != new.digest:
        raise AuthenticationFailed("two audit heads of one length name different last lines")
