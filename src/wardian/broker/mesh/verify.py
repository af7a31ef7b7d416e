"""From a signed manifest to one that is believed: `verify_manifest` alone makes it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from wardian._internal.agreed import Agreed, Mesh
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.broker.mesh.lines import Line
from wardian.broker.mesh.manifest import (
    MeshManifest,
    SignedManifest,
    manifest_digest,
    manifest_signed_bytes,
    parse_manifest,
)
from wardian.broker.mesh.trust import UNPROTECTED_ROLES
from wardian.crypto.signing import verify_signature
from wardian.errors import AuthenticationFailed, LocalProtocolError, PolicyDenied

MOST_SECRETS_OF_ONE: Final = 32
"""Named secrets that list one measurement: with 64 KiB each they fit into one release."""

_VERIFIED: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedManifest:
    """A manifest whose signatures `verify_manifest` found good; nothing else constructs one."""

    manifest: MeshManifest
    digest: bytes
    """SHA-256 (32 bytes) of the signed bytes: what evidence and certificates bind."""
    signers: tuple[str, ...]
    signed: SignedManifest
    proof: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.proof is not _VERIFIED:
            raise LocalProtocolError("only verify_manifest makes a VerifiedManifest")


def verify_manifest(signed: SignedManifest, *, mesh: Mesh) -> VerifiedManifest:
    """Return the manifest that enough owners of `mesh` signed.

    Says nothing about whether the names in it are those of `wardian.toml` (whoever holds that file
    calls `verify_manifest_for`), nor whether it may follow another (`mesh.chain`).

    Args:
        signed: untrusted.
        mesh: `[mesh]` of the measured `wardian.toml`: name, owners, threshold.

    Raises:
        FormatError: the bytes are not a canonical manifest.
        AuthenticationFailed: a signature is wrong.
        PolicyDenied: another mesh, a stranger's signature, the same owner twice, too few owners, a
            threshold for changes that is too low or can never be met, a measurement in two roles,
            an unprotected role in a mesh of several owners, or a line that its owner did not sign.
    """
    manifest = parse_manifest(signed)
    _verify_mesh(manifest, mesh=mesh)
    signers = _verify_owners(signed, owners=_owners(mesh), threshold=mesh.threshold)
    verify_content(manifest, mesh=mesh)
    return VerifiedManifest(
        manifest=manifest,
        digest=manifest_digest(signed),
        signers=signers,
        signed=signed,
        proof=_VERIFIED,
    )


def verify_manifest_for(signed: SignedManifest, *, agreed: Agreed) -> VerifiedManifest:
    """Return the manifest, signed by the owners and naming only what `wardian.toml` names.

    Raises:
        PolicyDenied: also for a model that `wardian.toml` does not have, or that is of another
            media type or larger than it allows, and for an unprotected role whose dialect it does
            not have. See `verify_manifest` for the others.
    """
    verified = verify_manifest(signed, mesh=agreed.mesh)
    verify_names(verified.manifest, agreed=agreed)
    return verified


def verify_content(manifest: MeshManifest, *, mesh: Mesh) -> None:
    """Return if `manifest` contradicts neither itself nor `mesh`, and owners signed their lines.

    This is what `verify_manifest` demands besides the signatures of the manifest itself, so it can
    be asked of one that nobody has signed yet.

    Raises:
        AuthenticationFailed: a line is not what its owner signed.
        PolicyDenied: see `verify_manifest`.
    """
    _verify_mesh(manifest, mesh=mesh)
    owners = _owners(mesh)
    if not mesh.threshold <= manifest.change_threshold <= len(owners):
        raise PolicyDenied(
            f"the manifest lets {manifest.change_threshold} owners change it: fewer than "
            "wardian.toml demands, or more than there are",
            rule="manifest-change-threshold",
        )
    _verify_trust(manifest)
    _verify_roles(manifest, owners=owners)
    _verify_lines(manifest, owners=owners)


def verify_names(manifest: MeshManifest, *, agreed: Agreed) -> None:
    """Return if every model in `manifest` is one of `wardian.toml`, on its terms.

    So is the dialect of every unprotected role.

    Raises:
        PolicyDenied: the rule `dialect-agreed`, `model-agreed` or `model-terms`.
    """
    if UNPROTECTED_ROLES & manifest.roles.keys() and not agreed.dialects.unprotected:
        raise PolicyDenied(
            "the manifest lists a role zoo, and wardian.toml has no [dialects.zoo_redis], and no "
            "`keystore` in [dialects.zoo]",
            rule="dialect-agreed",
        )
    for line in manifest.models:
        terms = agreed.models.get(line.name)
        if terms is None:
            raise PolicyDenied(
                f"the manifest names model {line.name}, which wardian.toml does not",
                rule="model-agreed",
            )
        if line.media_type != terms.media_type or line.total_bytes > terms.max_model_bytes:
            raise PolicyDenied(
                f"model {line.name} version {line.version} is of another media type, or larger, "
                "than wardian.toml allows",
                rule="model-terms",
            )


def verify_line(line: Line, *, mesh: str) -> None:
    """Return if the owner whom `line` names signed it, for `mesh`.

    Raises:
        AuthenticationFailed: it did not.
    """
    _verify_by(
        line.owner, line.signature, line.signed_bytes(mesh=mesh), what=f"the line of {line.said}"
    )


def _owners(mesh: Mesh) -> frozenset[str]:
    return frozenset(owner.lower() for owner in mesh.owners)


def _verify_mesh(manifest: MeshManifest, *, mesh: Mesh) -> None:
    if manifest.mesh != mesh.name:
        raise PolicyDenied(
            "the manifest was signed for another mesh than the one in wardian.toml",
            rule="manifest-mesh",
        )


def _verify_owners(
    signed: SignedManifest, *, owners: frozenset[str], threshold: int
) -> tuple[str, ...]:
    """Return the owners who signed: all known, each once, at least `threshold`."""
    signers = tuple(each.owner for each in signed.signatures)
    if not signers:
        raise PolicyDenied("the manifest is not signed", rule="manifest-signed")
    if not owners.issuperset(signers):
        raise PolicyDenied(
            "the manifest is signed by someone who is not an owner in wardian.toml",
            rule="manifest-owner",
        )
    if len(set(signers)) != len(signers):
        raise PolicyDenied("the manifest is signed by one owner twice", rule="manifest-owner-once")
    message = manifest_signed_bytes(signed.manifest)
    for each in signed.signatures:
        _verify_by(each.owner, each.signature, message, what="the mesh manifest")
    if len(signers) < threshold:
        raise PolicyDenied(
            f"{len(signers)} of the mesh's owners signed the manifest, fewer than wardian.toml "
            "demands",
            rule="manifest-threshold",
        )
    return signers


def _verify_trust(manifest: MeshManifest) -> None:
    """Refuse a trust anchor that says one thing and means another (TRUST T11, T12)."""
    trust = manifest.trust
    if trust.simulation_root_sha256 == INTEL_ROOT_SHA256.hex():
        raise PolicyDenied(
            "the manifest calls Intel's root a simulation; for hardware the field is null",
            rule="trust-anchor",
        )
    if trust.platforms and trust.any_platform is not None:
        raise PolicyDenied(
            "the manifest lists platforms and accepts any platform; it can do one of the two",
            rule="trust-platforms",
        )
    if trust.simulation_root_sha256 is None and not (trust.platforms or trust.any_platform):
        raise PolicyDenied(
            "a manifest for hardware lists its platforms, or says any_platform = 'risk accepted'",
            rule="trust-platforms",
        )
    if trust.out_of_date_grace_s and not any("OutOfDate" in each for each in trust.tcb_statuses):
        raise PolicyDenied(
            "the manifest limits how long platforms stay out of date, and accepts none that are",
            rule="trust-grace",
        )


def _verify_roles(manifest: MeshManifest, *, owners: frozenset[str]) -> None:
    """Refuse a measurement that stands twice: a workload could choose which role it is.

    Likewise an unprotected role beside another owner's secrets, or where there may be some (T17).
    """
    unprotected = sorted(UNPROTECTED_ROLES & manifest.roles.keys())
    if unprotected and len(owners) > 1:
        raise PolicyDenied(
            f"the manifest lists the role {unprotected[0]}, whose clients send nothing sealed: a "
            "mesh with it has one owner",
            rule="role-unprotected",
        )
    seen = Counter(value for role in manifest.roles.values() for value in role.measurements)
    if any(count > 1 for count in seen.values()):
        raise PolicyDenied(
            "the manifest gives one measurement twice; each role is code of its own",
            rule="role-distinct",
        )


def _verify_lines(manifest: MeshManifest, *, owners: frozenset[str]) -> None:
    """Refuse what stands twice, and a line that its owner, one of `owners`, did not sign.

    A swapped digest, a line from another mesh and a widened list of measurements all end here.
    """
    if len({(line.name, line.version) for line in manifest.models}) != len(manifest.models):
        raise PolicyDenied("the manifest names one version of a model twice", rule="model-once")
    if len({line.name for line in manifest.secrets}) != len(manifest.secrets):
        raise PolicyDenied("the manifest names one secret twice", rule="secret-once")
    listed = Counter(value for line in manifest.secrets for value in frozenset(line.measurements))
    if max(listed.values(), default=0) > MOST_SECRETS_OF_ONE:
        raise PolicyDenied(
            f"the manifest gives more than {MOST_SECRETS_OF_ONE} secrets to one measurement",
            rule="secrets-count",
        )
    for line in manifest.owned_lines:
        if line.owner not in owners:
            raise PolicyDenied(
                f"{line.said} belongs to someone who is not an owner in wardian.toml",
                rule="line-owner",
            )
        verify_line(line, mesh=manifest.mesh)


def _verify_by(owner: str, signature: str, message: bytes, *, what: str) -> None:
    """Return if `owner` signed `message`; otherwise say which thing `owner` did not sign."""
    try:
        verify_signature(bytes.fromhex(owner), bytes.fromhex(signature), message)
    except AuthenticationFailed as err:
        raise AuthenticationFailed(
            f"{what} is not what its owner signed: the signature is wrong"
        ) from err
