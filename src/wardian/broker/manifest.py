"""The mesh manifest: what the owners agreed on after measuring, and signed.

`wardian.toml` is measured, so it can hold no measurement. The manifest holds them: which code is
which role, which sealed file is which version of a model, and which measurements may have its key.
Owners named in `wardian.toml` sign its exact bytes; the owner of a model also signs that model's
line, so that no majority of the others can swap a model or widen who gets its key (TRUST T7, T14).

`SignedManifest` is what travels and is believed by nobody. `verify_manifest` turns it into a
`VerifiedManifest`, which nothing else can construct. This module runs wherever a client runs.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec

from wardian._internal import wire
from wardian._internal.settings import Agreed, Mesh
from wardian.attestation.claims import TcbStatus
from wardian.attestation.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.policy import (
    AdvisoriesWithin,
    AllOf,
    AnyPlatform,
    AppraisalPolicy,
    MeasurementIn,
    NotDebug,
    PlatformIn,
    TcbEvaluationAtLeast,
    TcbStatusIn,
)
from wardian.crypto.sealed_header import Pin
from wardian.crypto.signing import SigningKey, verify_signature
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError, PolicyDenied

MANIFEST_LABEL: Final = "wardian mesh manifest signature v1"
MODEL_LINE_LABEL: Final = "wardian model line signature v1"
MAX_MANIFEST_BYTES: Final = 1024 * 1024

# `\A...\Z`, because `$` also matches before a final newline: one form per value.
Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
"""A mesh's, role's or model's name."""
Hex16 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
"""16 bytes in lower-case hex."""
Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""32 bytes in lower-case hex: a digest, a measurement, an Ed25519 public key."""
Hex64 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]
"""64 bytes in lower-case hex: an Ed25519 signature."""
Measurements = Annotated[tuple[Hex32, ...], msgspec.Meta(min_length=1, max_length=64)]
"""MRENCLAVE values. Never empty: a list that names nobody is a mistake, not a wildcard."""
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
AcceptableTcb = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
]
"""Intel's words for a platform's state; `Revoked` cannot be written, let alone accepted."""


class RoleReference(wire.Message, frozen=True):
    """Reference values of one role: the measurements of code that may act as it."""

    measurements: Measurements


class TrustAnchor(wire.Message, frozen=True):
    """What vouches for the platforms of this mesh: all hardware, or all simulated (TRUST T11)."""

    simulation_root_sha256: Hex32 | None
    """SHA-256 of the one simulation root's DER; None means Intel's root and nothing else."""
    tcb_statuses: Annotated[tuple[AcceptableTcb, ...], msgspec.Meta(min_length=1, max_length=16)]
    advisories: Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)]
    """Advisories that the owners accept; any other that evidence carries is refused."""
    platforms: Annotated[tuple[Hex16, ...], msgspec.Meta(max_length=1024)] = ()
    """PPIDs of the machines whose keeper is known; nothing else is accepted where it is given.

    An attestation key that was taken out of some chip signs quotes that verify (TRUST T12), so on
    hardware the owners list the machines, or say the words in `any_platform`.
    """
    any_platform: Literal["risk accepted"] | None = None
    min_tcb_evaluation_number: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    """Collateral of a lower TCB evaluation data number is refused; 0 sets no bound.

    The host owns the clock, so "still valid" brings no revocation or TCB recovery in force against
    a host that stops it. This number is signed and only grows, whatever the clock says (TRUST T9).
    """


class ModelLine(wire.Message, frozen=True):
    """One version of one model: which sealed file it is and who may open it, by its owner's hand.

    `header_digest` and `last_tag` pin the sealed file (`crypto.Pin`): a file that
    another author sealed under the same name, or an older version of it, does not match.
    """

    name: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    serial: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    """Which of the owner's lines for this version it is. The broker accepts no lower one than it
    has had in force, so that a line with a measurement that was withdrawn stays withdrawn."""
    media_type: Text
    header_digest: Hex32
    last_tag: Hex16
    key_id: Hex16
    total_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    measurements: Measurements
    """Who may have the key. Measurements, never roles: others may redefine a role (TRUST T7)."""
    owner: Hex32
    signature: Hex64

    @property
    def pin(self) -> Pin:
        """What the sealed file must be, for `crypto.sealed_file`."""
        return Pin(
            header_digest=bytes.fromhex(self.header_digest), last_tag=bytes.fromhex(self.last_tag)
        )

    def signed_bytes(self, *, mesh: str) -> bytes:
        """Return what the owner signs: every field but the signature, for this mesh alone."""
        return wire.fields(
            MODEL_LINE_LABEL,
            mesh.encode(),
            self.name.encode(),
            self.version.to_bytes(8, "big"),
            self.serial.to_bytes(8, "big"),
            self.media_type.encode(),
            bytes.fromhex(self.header_digest),
            bytes.fromhex(self.last_tag),
            bytes.fromhex(self.key_id),
            self.total_bytes.to_bytes(8, "big"),
            *(bytes.fromhex(measurement) for measurement in self.measurements),
            bytes.fromhex(self.owner),
        )


class MeshManifest(wire.Message, frozen=True, tag_field="format", tag="wardian mesh manifest v1"):
    """Everything that the owners sign. `version` only grows."""

    mesh: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    trust: TrustAnchor
    roles: Annotated[dict[Name, RoleReference], msgspec.Meta(min_length=1, max_length=32)]
    models: Annotated[tuple[ModelLine, ...], msgspec.Meta(max_length=256)]

    def lines(self, model: str) -> tuple[ModelLine, ...]:
        """Return every version of `model`, oldest first; empty if there is none."""
        found = (line for line in self.models if line.name == model)
        return tuple(sorted(found, key=lambda line: line.version))


class OwnerSignature(wire.Message, frozen=True):
    """One owner's Ed25519 signature over `fields(MANIFEST_LABEL, manifest bytes)`."""

    owner: Hex32
    signature: Hex64


class SignedManifest(
    wire.Message, frozen=True, tag_field="format", tag="wardian signed manifest v1"
):
    """A manifest as it travels: the exact bytes that were signed, and by whom."""

    manifest: bytes
    signatures: Annotated[tuple[OwnerSignature, ...], msgspec.Meta(max_length=64)]


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


def sign_manifest(manifest: MeshManifest, keys: Iterable[SigningKey]) -> SignedManifest:
    """Return `manifest` signed by every one of the owners' `keys`, in their order."""
    raw = wire.encode(manifest)
    message = wire.fields(MANIFEST_LABEL, raw)
    signatures = tuple(
        OwnerSignature(owner=key.public.hex(), signature=key.sign(message).hex()) for key in keys
    )
    return SignedManifest(manifest=raw, signatures=signatures)


def sign_model_line(
    *,
    mesh: str,
    owner: SigningKey,
    name: str,
    version: int,
    serial: int,
    media_type: str,
    pin: Pin,
    key_id: bytes,
    total_bytes: int,
    measurements: Iterable[bytes],
) -> ModelLine:
    """Return the line for one sealed model, signed by its owner.

    Args:
        mesh: the mesh for which this holds and no other.
        owner: the key of the model's owner, who is one of the mesh's owners.
        name: the model's name in `wardian.toml`.
        version: 1 or more.
        serial: 1 or more; higher than that of every other line which this owner ever signed for
            this version of the model.
        media_type: as sealed into the file's header.
        pin: what sealing the file returned.
        key_id: 16 bytes, `BrokerKey.key_id` of the key that opens the file.
        total_bytes: length of the model in the clear.
        measurements: 32 bytes each; the workers that may have the key.
    """
    unsigned = ModelLine(
        name=name,
        version=version,
        serial=serial,
        media_type=media_type,
        header_digest=pin.header_digest.hex(),
        last_tag=pin.last_tag.hex(),
        key_id=key_id.hex(),
        total_bytes=total_bytes,
        measurements=tuple(measurement.hex() for measurement in measurements),
        owner=owner.public.hex(),
        signature="00" * 64,
    )
    signature = owner.sign(unsigned.signed_bytes(mesh=mesh))
    return msgspec.structs.replace(unsigned, signature=signature.hex())


def manifest_digest(signed: SignedManifest) -> bytes:
    """Return SHA-256 (32 bytes) of the manifest's exact bytes, believed or not."""
    return hashlib.sha256(signed.manifest).digest()


def parse_manifest(signed: SignedManifest) -> MeshManifest:
    """Return what `signed` says, **without** believing any of it.

    For readers that trust by another way, such as a client that pins the digest.

    Raises:
        FormatError: not a manifest, more than 1 MiB, or not in its one canonical form.
    """
    if len(signed.manifest) > MAX_MANIFEST_BYTES:
        raise FormatError(f"mesh manifest: more than {MAX_MANIFEST_BYTES} bytes")
    manifest = wire.decode(signed.manifest, MeshManifest, what="mesh manifest")
    if wire.encode(manifest) != signed.manifest:
        # Two readings of one signed text (a key given twice, say) would be two manifests.
        raise FormatError("mesh manifest: not in canonical form; sign it with `sign_manifest`")
    return manifest


def verify_manifest(signed: SignedManifest, *, mesh: Mesh) -> VerifiedManifest:
    """Return the manifest that enough owners of `mesh` signed.

    Says nothing about whether the names in it are those of `wardian.toml`: whoever holds that
    file calls `verify_manifest_for`.

    Args:
        signed: untrusted.
        mesh: `[mesh]` of the measured `wardian.toml`: name, owners, threshold.

    Raises:
        FormatError: the bytes are not a canonical manifest.
        AuthenticationFailed: a signature is wrong.
        PolicyDenied: another mesh, a stranger's signature, the same owner twice, too few owners, a
            measurement in two roles, or a model line that its owner did not sign.
    """
    manifest = parse_manifest(signed)
    if manifest.mesh != mesh.name:
        raise PolicyDenied(
            "the manifest was signed for another mesh than the one in wardian.toml",
            rule="manifest-mesh",
        )
    owners = frozenset(owner.lower() for owner in mesh.owners)
    signers = _verify_owners(signed, owners=owners, threshold=mesh.threshold)
    _verify_trust(manifest)
    _verify_roles(manifest)
    _verify_models(manifest, owners=owners)
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
            media type or larger than it allows. See `verify_manifest` for the others.
    """
    verified = verify_manifest(signed, mesh=agreed.mesh)
    for line in verified.manifest.models:
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
    return verified


def appraisal_policy(manifest: MeshManifest, role: str) -> AppraisalPolicy:
    """Return what evidence of `role` must satisfy: exact measurements, under the mesh's one root.

    Raises:
        PolicyDenied: the manifest has no reference values for `role`.
    """
    reference = manifest.roles.get(role)
    if reference is None:
        raise PolicyDenied(f"the mesh manifest has no role {role!r}"[:200], rule="role-known")
    trust = manifest.trust
    root = trust.simulation_root_sha256
    platforms = frozenset(bytes.fromhex(ppid) for ppid in trust.platforms)
    # With neither field `PlatformIn` of nothing refuses; a simulation has no chip to steal from.
    anywhere = not platforms and (root is not None or trust.any_platform is not None)
    return AppraisalPolicy(
        roots=frozenset({bytes.fromhex(root) if root is not None else INTEL_ROOT_SHA256}),
        rule=AllOf(
            NotDebug(),
            MeasurementIn(frozenset(bytes.fromhex(value) for value in reference.measurements)),
            TcbStatusIn(frozenset(TcbStatus(status) for status in trust.tcb_statuses)),
            AdvisoriesWithin(frozenset(trust.advisories)),
            AnyPlatform() if anywhere else PlatformIn(platforms),
            TcbEvaluationAtLeast(trust.min_tcb_evaluation_number),
        ),
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
    message = wire.fields(MANIFEST_LABEL, signed.manifest)
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


def _verify_roles(manifest: MeshManifest) -> None:
    """Refuse a measurement that stands twice: a workload could choose which role it is."""
    seen = Counter(value for role in manifest.roles.values() for value in role.measurements)
    if any(count > 1 for count in seen.values()):
        raise PolicyDenied(
            "the manifest gives one measurement twice; each role is code of its own",
            rule="role-distinct",
        )


def _verify_models(manifest: MeshManifest, *, owners: frozenset[str]) -> None:
    """Refuse a version that stands twice and a line that its owner, one of `owners`, did not sign.

    A swapped digest, a line from another mesh and a widened list of measurements all end here.
    """
    if len({(line.name, line.version) for line in manifest.models}) != len(manifest.models):
        raise PolicyDenied("the manifest names one version of a model twice", rule="model-once")
    for line in manifest.models:
        if line.owner not in owners:
            raise PolicyDenied(
                f"model {line.name} belongs to someone who is not an owner in wardian.toml",
                rule="model-owner",
            )
        _verify_by(
            line.owner,
            line.signature,
            line.signed_bytes(mesh=manifest.mesh),
            what=f"the line of model {line.name} version {line.version}",
        )


def _verify_by(owner: str, signature: str, message: bytes, *, what: str) -> None:
    """Return if `owner` signed `message`; otherwise say which thing `owner` did not sign."""
    try:
        verify_signature(bytes.fromhex(owner), bytes.fromhex(signature), message)
    except AuthenticationFailed as err:
        raise AuthenticationFailed(
            f"{what} is not what its owner signed: the signature is wrong"
        ) from err
