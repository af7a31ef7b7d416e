"""Who asks the broker for something verifies it first: what message 2 showed, once believed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_evidence
from wardian.broker.certificates import verify_ca_certificate, verify_issuing_certificate
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest_for
from wardian.broker.message_fields import Der, Nonce
from wardian.broker.state.audit import AuditHead
from wardian.broker.transparency.following import ShownLog, demand_of, follow_log
from wardian.errors import PolicyDenied, Timeout


class MeshChallenge(wire.Message, frozen=True):
    """2. Who the broker is, fresh for this nonce, and under which manifest."""

    nonce: Nonce
    signed_manifest: SignedManifest
    mesh_ca: Der
    """The mesh CA's self-signed certificate, DER."""
    issuing_ca: Der
    """Of the CA that issues under this manifest, DER: signed by the mesh CA, whose key evidence
    binds, over the manifest's digest, which evidence binds too."""
    log: ShownLog
    """The audit log before the release, which goes on from what message 1 says was seen of it."""
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownBroker:
    """A broker that the owners trust.

    Attributes:
        manifest: what it showed and its evidence bound.
        mesh_ca: the mesh CA's certificate, DER; the evidence bound its key.
        issuing_ca: that of the CA that issues under this manifest, DER.
        ca_spki: the mesh CA's key (DER).
        issuer_spki: the issuing CA's (DER).
        audit: where its log ended.
    """

    manifest: VerifiedManifest
    mesh_ca: bytes
    issuing_ca: bytes
    ca_spki: bytes
    issuer_spki: bytes
    audit: AuditHead


class KnownBroker(wire.Message, frozen=True):
    """What whoever comes again has to find again: the mesh CA, its log, and no older manifest.

    Evidence alone says that some owners signed for the code. Enough of them to sign a manifest
    could name a broker of their own, which no other owner has ever given anything.
    """

    ca_spki: bytes
    """Of the mesh CA, DER."""
    audit: AuditHead
    """Where its log ended."""
    version: Annotated[int, msgspec.Meta(ge=1)]
    """Of the manifest that was in force."""

    def refuse_other(self, shown: ShownBroker) -> None:
        """Return if `shown`, whose log was followed from `audit`, is this broker, or its successor.

        Raises:
            PolicyDenied: the rules `mesh-ca` or `in-force-older`.
        """
        if shown.ca_spki != self.ca_spki:
            raise PolicyDenied("the broker is of another mesh CA than before", rule="mesh-ca")
        if shown.manifest.manifest.version < self.version:
            raise PolicyDenied(
                "the broker has an older manifest in force than this process knows",
                rule="in-force-older",
            )


def verify_broker(
    message: MeshChallenge,
    *,
    report_data: Callable[[bytes, VerifiedManifest], bytes],
    agreed: Agreed,
    seen: AuditHead | None,
    now: int,
) -> ShownBroker:
    """Return the broker of message 2: its evidence is fresh, and of what the owners signed for.

    Args:
        message: message 2, untrusted.
        report_data: what the evidence must bind, given the mesh CA's key (DER) and the manifest.
        agreed: the measured `wardian.toml`.
        seen: where the audit log ended when it was seen last; None at first.
        now: Unix seconds, for the validity of the collateral.

    Raises:
        PolicyDenied, AttestationError, AuthenticationFailed, Timeout, FormatError: as in
            `ObtainingEnd.receive_challenge`.
    """
    manifest = verify_manifest_for(message.signed_manifest, agreed=agreed)
    ca_spki = verify_ca_certificate(message.mesh_ca)
    verify_evidence(
        message.evidence,
        policy=appraisal_policy(manifest.manifest, "broker"),
        report_data=report_data(ca_spki, manifest),
        now=now,
    )
    issuer_spki = verify_issuing_certificate(
        message.issuing_ca, ca_spki=ca_spki, manifest_digest=manifest.digest, now=now
    )
    return ShownBroker(
        manifest=manifest,
        mesh_ca=message.mesh_ca,
        issuing_ca=message.issuing_ca,
        ca_spki=ca_spki,
        issuer_spki=issuer_spki,
        audit=_follow(message.log, ca_spki=ca_spki, agreed=agreed, seen=seen, now=now),
    )


def _follow(
    log: ShownLog, *, ca_spki: bytes, agreed: Agreed, seen: AuditHead | None, now: int
) -> AuditHead:
    """Return where the log ends, before who asks shows any evidence of its own.

    What the witnesses have not seen yet they may see soon: that is a reason to ask again.
    """
    mesh = agreed.mesh
    try:
        return follow_log(
            log, ca_spki=ca_spki, mesh=mesh.name, seen=seen, demand=demand_of(mesh), now=now
        )
    except PolicyDenied as err:
        raise Timeout(f"the broker's audit log is not witnessed: {err}") from err
