"""Two files that outlive the broker's answer: a proof of some lines, and a whole log.

Both can be verified without a network, against a mesh CA key that somebody vouches for.
"""

from typing import Annotated

import msgspec

from wardian._internal import wire
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.state.audit import AuditLine
from wardian.broker.transparency.cosigning import WitnessedHead
from wardian.broker.transparency.heads import SignedHead, verify_head
from wardian.broker.transparency.proofs import MAX_LINES, Der, ProvedLine, verify_line
from wardian.errors import AuthenticationFailed


class AuditProof(wire.Message, frozen=True, tag_field="format", tag="wardian audit proof v1"):
    """That lines are in a log: what `wardian audit prove` writes."""

    mesh_ca: Der
    head: SignedHead
    """The head that the lines are proved against."""
    lines: Annotated[tuple[ProvedLine, ...], msgspec.Meta(min_length=1, max_length=MAX_LINES)]


class LogExport(wire.Message, frozen=True, tag_field="format", tag="wardian audit export v1"):
    """The first line of an exported log; the raw audit lines follow, one to a line."""

    mesh_ca: Der
    witnessed: WitnessedHead
    """What the lines lead to."""


def verify_record(head: SignedHead, *, mesh_ca: bytes, ca_spki: bytes | None) -> bytes:
    """Return the key (DER) under which the head of a file is signed.

    Args:
        head: in the file, untrusted.
        mesh_ca: the certificate in the file, DER, untrusted.
        ca_spki: the key that somebody vouches for; None: nobody does, and the file's own is taken.

    Raises:
        FormatError: the certificate does not parse.
        AuthenticationFailed: the head is not signed with that key.
    """
    spki = verify_ca_certificate(mesh_ca)
    if ca_spki not in {None, spki}:
        raise AuthenticationFailed("the file is of another mesh CA than the one given")
    verify_head(head, ca_spki=spki)
    return spki


def verify_proof(proof: AuditProof, *, ca_spki: bytes | None) -> tuple[AuditLine, ...]:
    """Return the lines in `proof`, which are in the log of its head.

    Args:
        proof: untrusted.
        ca_spki: the mesh CA's key that somebody vouches for; None: nobody does.

    Raises:
        FormatError: a line or the certificate does not parse.
        AuthenticationFailed: a line is not in that log, or the head is not signed by that CA.
    """
    verify_record(proof.head, mesh_ca=proof.mesh_ca, ca_spki=ca_spki)
    return tuple(verify_line(each, head=proof.head.audit) for each in proof.lines)
