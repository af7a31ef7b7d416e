"""What a party is shown of the log with another message, and how it follows the log with that."""

from wardian._internal import wire
from wardian._internal.agreed import Mesh
from wardian.broker.state.audit import AuditHead
from wardian.broker.transparency.cosigning import HeadDemand, Path, WitnessedHead
from wardian.broker.transparency.heads import verify_head
from wardian.broker.transparency.proofs import verify_continuation


class ShownLog(wire.Message, frozen=True):
    """The newest head, and that the log goes on from the one that the party has seen."""

    witnessed: WitnessedHead
    continues: Path
    """From as many lines as the party said it had seen; empty where the log is not that long."""


def demand_of(mesh: Mesh) -> HeadDemand | None:
    """Return what the measured `wardian.toml` demands of a head, None if nothing."""
    if mesh.head_threshold == 0:
        return None
    return HeadDemand(
        witnesses=frozenset(mesh.witnesses),
        threshold=mesh.head_threshold,
        max_lines=mesh.head_max_lines,
        max_age_s=mesh.head_max_age_s,
    )


def follow_log(
    shown: ShownLog,
    *,
    ca_spki: bytes,
    mesh: str,
    seen: AuditHead | None,
    demand: HeadDemand | None,
    now: int,
) -> AuditHead:
    """Return where the log ends, which goes on from what was seen and is witnessed as demanded.

    Args:
        shown: untrusted.
        ca_spki: the mesh CA's key (DER), which evidence bound.
        mesh: its name.
        seen: the head that this party saw last and named when it asked; None if it saw none.
        demand: whose word is wanted; None: nobody's.
        now: Unix seconds.

    Raises:
        AuthenticationFailed: the head is not genuine, or the log was altered, cut short or forked.
        PolicyDenied: too few witnesses saw it, or too long ago (rule `head-witnessed`).
    """
    audit = verify_head(shown.witnessed.head, ca_spki=ca_spki, mesh=mesh)
    if seen is not None:
        verify_continuation(seen, audit, proof=shown.continues)
    if demand is not None:
        demand.verify(shown.witnessed, ca_spki=ca_spki, mesh=mesh, now=now)
    return audit
