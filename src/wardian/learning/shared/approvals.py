"""Approvals of an export: which parties signed what comes out of a job, before anybody is given it.

What is signed is `outputs.HeldOutputs.digest`: the plan, the recipients, and which sealed files.
An approval travels through anybody's hands: it fits one export of one job, and no other.
"""

from collections.abc import Collection, Iterable
from typing import Final

from wardian._internal import wire
from wardian.broker.jobs.merge import ApprovalTerms
from wardian.broker.mesh.fields import Hex32, Hex64, Owner
from wardian.crypto.signing import Signer, verify_signature
from wardian.errors import AuthenticationFailed, FormatError

LABEL: Final = "wardian job approval v1"
MAX_APPROVAL_BYTES: Final = 4096


class Approval(wire.Message, frozen=True, tag_field="format", tag="wardian job approval v1"):
    """One party's signature over one export."""

    approver: Owner
    """Its public key."""
    export: Hex32
    """The digest that it approves, for people: what counts is what was signed."""
    signature: Hex64


def approval_signed_bytes(export: bytes, *, mesh: str) -> bytes:
    """Return what a party signs of an export's digest (32 bytes), for `mesh` alone."""
    return wire.fields(LABEL, mesh.encode(), export)


def sign_approval(export: bytes, approver: Signer, *, mesh: str) -> Approval:
    """Return the approval of the export with this digest, 32 bytes, by `approver`."""
    return Approval(
        approver=approver.public.hex(),
        export=export.hex(),
        signature=approver.sign(approval_signed_bytes(export, mesh=mesh)).hex(),
    )


def verify_approvals(
    files: Iterable[bytes], terms: Collection[ApprovalTerms], *, export: bytes, mesh: str
) -> frozenset[str]:
    """Return the keys, in hex, of those among `terms` whose approval of `export` is in `files`.

    What is no approval, is of another export or of somebody who is not asked counts for nothing,
    and hinders nobody else's: the host brings the files.

    Args:
        files: as they came, untrusted.
        terms: of all owners.
        export: `HeldOutputs.digest`, 32 bytes.
        mesh: the name of the mesh.
    """
    asked = frozenset(key for each in terms for key in each.of)
    found = set()
    for raw in files:
        try:
            approval = wire.decode(raw[: MAX_APPROVAL_BYTES + 1], Approval, what="approval")
            if approval.approver not in asked:
                continue
            verify_signature(
                bytes.fromhex(approval.approver),
                bytes.fromhex(approval.signature),
                approval_signed_bytes(export, mesh=mesh),
            )
        except (FormatError, AuthenticationFailed):
            continue
        found.add(approval.approver)
    return frozenset(found)
