"""From a mesh manifest to the policies that evidence has to satisfy."""

from collections.abc import Iterable

from wardian.attestation.appraisal.policy import (
    AdvisoriesWithin,
    AllOf,
    AnyPlatform,
    AppraisalPolicy,
    CollateralNoOlderThan,
    MeasurementIn,
    NotConfigured,
    NotDebug,
    OutOfDateWithin,
    PlatformIn,
    Rule,
    TcbEvaluationAtLeast,
    TcbStatusIn,
)
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.claims import TcbStatus
from wardian.broker.mesh.manifest import MeshManifest
from wardian.broker.mesh.trust import TrustAnchor
from wardian.errors import PolicyDenied


def appraisal_policy(manifest: MeshManifest, role: str) -> AppraisalPolicy:
    """Return what evidence of `role` must satisfy: exact measurements, under the mesh's one root.

    Raises:
        PolicyDenied: the manifest has no reference values for `role`.
    """
    reference = manifest.roles.get(role)
    if reference is None:
        raise PolicyDenied(f"the mesh manifest has no role {role!r}"[:200], rule="role-known")
    return _policy(manifest.trust, reference.measurements)


def interop_policy(manifest: MeshManifest) -> AppraisalPolicy:
    """Return what evidence must satisfy that comes over another protocol than our own.

    The platform is held to what those of the mesh's roles are. Accepted are the measurements of the
    roles, and of whom owners list who give a secret this way; who of them gets which one, its line
    says. A manifest that names nobody accepts nobody.
    """
    named = {value for reference in manifest.roles.values() for value in reference.measurements}
    named.update(value for line in manifest.secrets if line.interop for value in line.measurements)
    return _policy(manifest.trust, named)


def _policy(trust: TrustAnchor, measurements: Iterable[str]) -> AppraisalPolicy:
    """Return the policy of exactly these measurements, in hex, on the platforms of `trust`."""
    root = trust.simulation_root_sha256
    platforms = frozenset(bytes.fromhex(ppid) for ppid in trust.platforms)
    # With neither field `PlatformIn` of nothing refuses; a simulation has no chip to steal from.
    anywhere = not platforms and (root is not None or trust.any_platform is not None)
    clocked: list[Rule] = []
    if trust.out_of_date_grace_s is not None:
        clocked.append(OutOfDateWithin(trust.out_of_date_grace_s))
    if trust.max_collateral_age_s is not None:
        clocked.append(CollateralNoOlderThan(trust.max_collateral_age_s))
    return AppraisalPolicy(
        roots=frozenset({bytes.fromhex(root) if root is not None else INTEL_ROOT_SHA256}),
        rule=AllOf(
            NotDebug(),
            MeasurementIn(frozenset(bytes.fromhex(value) for value in measurements)),
            NotConfigured(),
            TcbStatusIn(frozenset(TcbStatus(status) for status in trust.tcb_statuses)),
            AdvisoriesWithin(frozenset(trust.advisories)),
            AnyPlatform() if anywhere else PlatformIn(platforms),
            TcbEvaluationAtLeast(trust.min_tcb_evaluation_number),
            *clocked,
        ),
    )
