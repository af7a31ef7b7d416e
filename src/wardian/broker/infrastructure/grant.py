"""What a role gets with its admission so that it reaches the queue's Redis."""

from dataclasses import dataclass

from wardian.broker.infrastructure.certificates import (
    verify_infrastructure_ca,
    verify_infrastructure_certificate,
)
from wardian.crypto.secret import Secret
from wardian.errors import PeerProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueGrant:
    """Access to Redis for one process.

    Attributes:
        infrastructure_ca: DER; the only authority that a server of Redis is verified against.
        certificate: DER, for the key of the process's own mesh certificate, for one lease.
        username: of the role, in Redis.
        password: 64 digits of hex in ASCII, one for each role of a mesh.
    """

    infrastructure_ca: bytes
    certificate: bytes
    username: str
    password: Secret


def verify_grant(
    grant: QueueGrant, *, role: str, spki: bytes, mesh_keys: frozenset[bytes], now: int
) -> None:
    """Return if `grant` is for this process, of an authority that is none of the mesh's.

    Args:
        grant: from a broker that is known; this catches one that is wrong.
        role: what this process is.
        spki: of its TLS key, DER.
        mesh_keys: of the mesh CA and of the issuing CA, DER.
        now: Unix seconds.

    Raises:
        PeerProtocolError: for another key or user, or of the mesh's own authority (TRUST T3).
        FormatError, AuthenticationFailed, EvidenceStale, PolicyDenied: a certificate is not what
            it should be; see `verify_infrastructure_certificate`.
    """
    if verify_infrastructure_ca(grant.infrastructure_ca) in mesh_keys:
        raise PeerProtocolError("an authority of the mesh signs for infrastructure, too")
    key = verify_infrastructure_certificate(
        grant.certificate, ca=grant.infrastructure_ca, holder=role, now=now
    )
    if key != spki or grant.username != role:
        raise PeerProtocolError("the access to Redis that was released is not for this process")
