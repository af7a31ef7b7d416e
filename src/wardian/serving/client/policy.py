"""Whom a client sends its data to: which front end, in which mesh.

Evidence about the front end alone says nothing about where the data goes next: the owners of a
mesh could sign a manifest with a worker that gives it away, and the front end would measure the
same. So a policy also says which mesh: it pins the manifest's digest, or it lists the measurements
it accepts for every role of the manifest (TRUST T2). A policy that does neither is refused, and
signatures of the mesh's owners never take the place of either.

What was accepted stays what is served: the connection's certificate has to be of the CA that issues
under that very manifest, and under another manifest there is another such CA (TRUST T21).
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from wardian._internal import settings
from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.appraisal.policy_file import Digest, PolicyFile, build_policy
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.broker.certificates import (
    FRONTEND,
    spki_of,
    verify_ca_certificate,
    verify_issuing_certificate,
    verify_peer_certificate,
)
from wardian.broker.mesh.manifest import MeshManifest, manifest_digest, parse_manifest
from wardian.broker.transparency.cosigning import HeadDemand, WitnessedHead
from wardian.broker.transparency.heads import verify_head
from wardian.errors import AuthenticationFailed, ConfigError, EvidenceInvalid, PolicyDenied
from wardian.serving.frontend_evidence import FrontendEvidence, frontend_report_data

MAX_EVIDENCE_AGE_S: Final = 300.0
"""By default, evidence about a key serves for further connections to that key for so long."""
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFrontend:
    """A front end that a policy accepted. Only `ClientPolicy.verify` makes one.

    Attributes:
        result: what its evidence says, and why it was accepted.
        manifest: of its mesh.
        manifest_digest: SHA-256 of the manifest's signed bytes, 32 bytes.
        mesh_ca: the mesh CA's certificate, DER: what other clients of this mesh may trust.
        witnessed: the head of the mesh's audit log, signed by that CA's key, and witnessed as the
            policy demands.
    """

    result: AttestationResult
    manifest: MeshManifest
    manifest_digest: bytes
    mesh_ca: bytes
    witnessed: WitnessedHead


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """What a front end and its mesh must be before any data is sent.

    Attributes:
        evidence: what the front end's own evidence must satisfy.
        manifest_digest: SHA-256 of the one manifest that is accepted, or None.
        roles: measurements (32 bytes each) accepted for each role, or None. It has to name every
            role of the manifest: the broker makes the keys under which data travels, the front
            end and the workers read it, and what a further role may do is for its reader to judge.
        max_evidence_age_s: a new connection to a key that was verified at most so long ago is used
            without asking for evidence again; 0 asks every time.
        heads: which witnesses have to have seen the mesh's audit log, and how lately; None: nobody
            has to, and a broker that runs twice is not noticed by this client (TRUST T22).
        mesh_ca: SHA-256 of the mesh CA's key (DER SubjectPublicKeyInfo, 32 bytes), or None: the one
            that evidence binds. With it, a front end that somebody rules from inside its enclave
            cannot put an authority of its own above keys that clients seal to (TRUST T13).
    """

    evidence: AppraisalPolicy
    manifest_digest: bytes | None = None
    roles: Mapping[str, frozenset[bytes]] | None = None
    max_evidence_age_s: float = MAX_EVIDENCE_AGE_S
    heads: HeadDemand | None = None
    mesh_ca: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that would accept any mesh."""
        if self.manifest_digest is None and not self.roles:
            raise ConfigError(
                "client policy: names no mesh; pin manifest_digest, or list the measurements of "
                "every role under [mesh.roles]"
            )
        digests = {each for each in (self.manifest_digest, self.mesh_ca) if each is not None}
        for accepted in (self.roles or {}).values():
            digests |= accepted
        if any(len(digest) != _DIGEST_BYTES for digest in digests):
            raise ConfigError(f"client policy: digests and measurements have {_DIGEST_BYTES} bytes")

    def verify(
        self, shown: FrontendEvidence, *, nonce: bytes, certificate: bytes, now: int
    ) -> VerifiedFrontend:
        """Return the front end at the other end of a connection, if this policy accepts it.

        Args:
            shown: what it sent, untrusted.
            nonce: the 32 bytes that were sent to it, fresh.
            certificate: of the connection's server, DER, from the handshake, which proved its key.
            now: Unix seconds.

        Raises:
            FormatError: something does not parse.
            AttestationError: the evidence is not genuine, not current, or not about this
                connection, nonce, manifest and mesh CA; or the connection's certificate is not,
                or not any more, of the CA that issues under this manifest; or the audit head is
                not that CA's, or contradicts what a witness signed.
            PolicyDenied: another front end or another mesh than this policy accepts, or an audit
                log that too few witnesses have seen.
        """
        ca_spki = verify_ca_certificate(shown.mesh_ca)
        if self.mesh_ca not in (None, hashlib.sha256(ca_spki).digest()):
            raise PolicyDenied(
                "the front end shows another mesh CA than this policy pins", rule="mesh-ca"
            )
        digest = manifest_digest(shown.manifest)
        # Read without believing it: the evidence vouches for its digest, and this policy either
        # pins that digest or judges every role below. Owners' signatures would add nothing.
        manifest = parse_manifest(shown.manifest)
        result = verify_evidence(
            shown.evidence,
            policy=self.evidence,
            report_data=frontend_report_data(
                nonce=nonce,
                tls_spki=spki_of(certificate),
                ca_spki=ca_spki,
                manifest_digest=digest,
                version=manifest.version,
            ),
            now=now,
        )
        self._verify_mesh(manifest, digest)
        frontend = manifest.roles.get(FRONTEND)
        if frontend is None or result.claims.measurement.hex() not in frontend.measurements:
            raise PolicyDenied(
                "the manifest that the front end shows does not name its own measurement",
                rule="frontend-in-manifest",
            )
        _verify_issued(certificate, shown, ca_spki=ca_spki, manifest_digest=digest, now=now)
        self._verify_log(shown.witnessed, ca_spki=ca_spki, mesh=manifest.mesh, now=now)
        return VerifiedFrontend(
            result=result,
            manifest=manifest,
            manifest_digest=digest,
            mesh_ca=shown.mesh_ca,
            witnessed=shown.witnessed,
        )

    def _verify_log(self, witnessed: WitnessedHead, *, ca_spki: bytes, mesh: str, now: int) -> None:
        """Return if the audit head is the mesh CA's, and enough witnesses saw the log."""
        try:
            verify_head(witnessed.head, ca_spki=ca_spki, mesh=mesh)
            if self.heads is not None:
                self.heads.verify(witnessed, ca_spki=ca_spki, mesh=mesh, now=now)
        except AuthenticationFailed as err:
            raise EvidenceInvalid(f"the front end shows an audit log that is wrong: {err}") from err

    def _verify_mesh(self, manifest: MeshManifest, digest: bytes) -> None:
        """Return if this policy accepts the mesh that `manifest` describes."""
        if self.manifest_digest is not None and not hmac.compare_digest(
            digest, self.manifest_digest
        ):
            raise PolicyDenied(
                f"the front end serves under manifest {digest.hex()[:16]}... (version "
                f"{manifest.version}), which this policy does not pin",
                rule="manifest-pinned",
            )
        if self.roles is None:
            return
        for role, reference in manifest.roles.items():
            accepted = self.roles.get(role, frozenset())
            if not accepted.issuperset(bytes.fromhex(each) for each in reference.measurements):
                raise PolicyDenied(
                    f"the mesh admits code as {role!r} that this policy does not list",
                    rule="role-measurements",
                )


def _verify_issued(
    certificate: bytes, shown: FrontendEvidence, *, ca_spki: bytes, manifest_digest: bytes, now: int
) -> None:
    """Return if the CA that issues under this manifest issued `certificate` to a front end."""
    try:
        issuer_spki = verify_issuing_certificate(
            shown.issuing_ca, ca_spki=ca_spki, manifest_digest=manifest_digest, now=now
        )
        verify_peer_certificate(
            certificate,
            issuer_spki=issuer_spki,
            role=FRONTEND,
            manifest_digest=manifest_digest,
            now=now,
        )
    except AuthenticationFailed as err:
        raise EvidenceInvalid(
            f"the connection is not one of the mesh and manifest that the front end shows: {err}"
        ) from err


class _MeshTable(settings.Settings, frozen=True, kw_only=True):
    manifest_digest: Digest | None = None
    roles: dict[str, frozenset[Digest]] | None = None
    ca: Digest | None = None


class _HeadsTable(settings.Settings, frozen=True, kw_only=True):
    witnesses: frozenset[settings.PublicKey]
    threshold: int = 1
    max_lines: int = 10_000
    max_age_s: int = 86_400


class _PolicyTables(settings.Settings, frozen=True, kw_only=True):
    evidence: PolicyFile
    mesh: _MeshTable
    heads: _HeadsTable | None = None
    max_evidence_age_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = MAX_EVIDENCE_AGE_S


def load_client_policy(path: Path | str) -> ClientPolicy:
    """Return the policy in the TOML file `path`; `docs/reference/http-api.md` describes it.

    Raises:
        ConfigError: not readable, not TOML, an unknown key, or it would accept any enclave, any
            machine or any mesh.
    """
    name = str(path)
    file = settings.load(Path(path), _PolicyTables)
    digest, roles = file.mesh.manifest_digest, file.mesh.roles
    try:
        return ClientPolicy(
            evidence=build_policy(file.evidence, name=f"{name} [evidence]"),
            manifest_digest=None if digest is None else bytes.fromhex(digest),
            roles=None
            if roles is None
            else {
                role: frozenset(bytes.fromhex(each) for each in measurements)
                for role, measurements in roles.items()
            },
            max_evidence_age_s=file.max_evidence_age_s,
            mesh_ca=None if file.mesh.ca is None else bytes.fromhex(file.mesh.ca),
            heads=None if file.heads is None else HeadDemand(**msgspec.structs.asdict(file.heads)),
        )
    except ConfigError as err:
        raise ConfigError(f"{name}: {err}" if name not in str(err) else str(err)) from err
