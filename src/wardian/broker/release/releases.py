"""What an attested workload is given, and the audit lines and counts that come first."""

import hashlib

from wardian.attestation.evidence_digest import evidence_digest
from wardian.attestation.results.result import AttestationResult
from wardian.broker.authority import Authority
from wardian.broker.certificates import MeshIdentity
from wardian.broker.infrastructure.grant import QueueGrant
from wardian.broker.infrastructure.keeping import Infrastructure
from wardian.broker.mesh.lines import ModelLine
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.release.broker_session import WorkloadProof
from wardian.broker.release.epoch_keys import EpochKeys
from wardian.broker.release.grants import Grant, Grants, Vault, Withheld
from wardian.broker.release.policy import entitlements, interop_line
from wardian.broker.release.protocol import Release, Request
from wardian.broker.release.request_keys import OPENERS, RequestKey, state_request_key
from wardian.broker.state.audit import AuditEntry
from wardian.crypto.secret import Secret
from wardian.errors import Timeout


class Releases:
    """Grants secrets out of what an `Authority` holds. One thread: decide, count, then give."""

    __slots__ = ("_authority", "_epoch_keys", "_infrastructure", "_vault")

    def __init__(self, authority: Authority) -> None:
        """Release what `authority` holds."""
        self._authority = authority
        self._vault = Vault(authority.store, authority.clock)
        self._epoch_keys = EpochKeys(authority.store)
        self._infrastructure = Infrastructure(authority)

    def release(
        self,
        proof: WorkloadProof,
        *,
        request: Request,
        shown: VerifiedManifest,
        logged: int,
        result: AttestationResult,
    ) -> Release:
        """Return what the attested workload may have, after uses and audit lines are counted.

        One commit holds all of it. A broker that dies before it lets nothing leave; one that dies
        after it has spent uses of which nobody had the benefit. No use is ever had twice.

        Args:
            proof: message 3.
            request: message 1.
            shown: the manifest of message 2.
            logged: how many lines of the audit log message 2 showed.
            result: of `proof.evidence`, appraised for `request.role` under `shown`.

        Raises:
            PolicyDenied: the release policy or the terms of a model's owner refuse, or a key has
                not been given yet.
            Timeout: the manifest changed since message 2; ask again.
            SealError: it cannot be made durable; nothing is released.
        """
        authority = self._authority
        if shown.digest != authority.manifest.digest:
            raise Timeout("the mesh manifest changed meanwhile: ask again")
        entitled = entitlements(
            shown.manifest, role=request.role, models=request.models, result=result
        )
        choose = self._vault.renewed if request.renewal else self._vault.grants
        measurement = result.claims.measurement
        grants = choose(entitled, epoch=authority.epoch, measurement=measurement.hex())
        identity = MeshIdentity(
            role=request.role, measurement=measurement, manifest_digest=shown.digest
        )
        chain = authority.issue(proof.certificate_request, identity=identity)
        about = {
            "role": request.role,
            "measurement": measurement.hex(),
            "evidence": evidence_digest(proof.evidence).hex(),
            "certificate": hashlib.sha256(chain[0]).hexdigest(),
        }
        queue = self._queue_grant(proof, request)
        more = () if queue is None else (self._given(queue, about),)
        self._record(grants, about, *more, tee=request.tee, simulated=result.claims.simulated)
        return Release(
            certificate_chain=chain,
            manifest_version=shown.manifest.version,
            secrets=tuple(grant.secret for grant in grants.granted),
            log=authority.transparency.show(logged),
            request_keys=self._request_keys(grants, role=request.role),
            queue=queue,
        )

    def release_interop(self, name: str, *, result: AttestationResult, evidence: bytes) -> Secret:
        """Return a named secret for an attester that asked over another protocol.

        The uses that it makes count with all others of the same secret.

        Args:
            name: of the secret.
            result: of evidence that binds the other protocol's session, which the caller verified.
            evidence: its digest, 32 bytes, for the audit line.

        Raises:
            PolicyDenied: the rule `interop-secret`, or what `Vault.grant` raises.
            TransportError: no manifest is in force.
            SealError: it cannot be made durable; nothing is released.
        """
        line = interop_line(self._authority.manifest.manifest, name=name, result=result)
        measurement = result.claims.measurement.hex()
        grant = self._vault.grant(line, measurement=measurement)
        grants = Grants(granted=(grant,), withheld=())
        about = {"measurement": measurement, "evidence": evidence.hex()}
        self._record(grants, about, tee="kbs", simulated=result.claims.simulated)
        return grants.granted[0].secret.key

    def _request_keys(self, grants: Grants, *, role: str) -> tuple[RequestKey, ...]:
        """Return what a role that opens no sealed request tells clients of those who do."""
        authority = self._authority
        if role in OPENERS:
            return ()
        return tuple(
            state_request_key(
                RequestKey(
                    mesh=authority.mesh,
                    model=each.secret.model,
                    manifest=authority.manifest_digest.hex(),
                    manifest_version=authority.manifest_version,
                    epoch=authority.epoch,
                    not_after=authority.epoch_began + authority.epoch_s + authority.lease_s,
                    public=self._epoch_keys.request_public(each.secret.model),
                    signature=b"",
                ),
                sign=authority.ca.sign,
            )
            for each in grants.granted
            if each.secret.kind == "queue"
        )

    def _queue_grant(self, proof: WorkloadProof, request: Request) -> QueueGrant | None:
        """Return access to Redis for who asked for it; see `Infrastructure.grant`."""
        if not request.queue_access:
            return None
        return self._infrastructure.grant(proof.certificate_request, role=request.role)

    def _record(
        self,
        grants: Grants,
        about: dict[str, str],
        *more: AuditEntry,
        tee: str,
        simulated: bool,
    ) -> None:
        """Count the uses and write who gets what, and what was withheld, in one commit."""
        entries = [self._granted(grant, about) for grant in grants.granted]
        entries += [self._withheld(each, about) for each in grants.withheld]
        entries += more
        self._authority.record(entries, grants.counted(), tee=tee, simulated=simulated)

    def _given(self, queue: QueueGrant, about: dict[str, str]) -> AuditEntry:
        certificate = hashlib.sha256(queue.certificate).hexdigest()
        return self._authority.entry(
            event="release",
            outcome="granted",
            kind="access",
            **(about | {"certificate": certificate}),
        )

    def _granted(self, grant: Grant, about: dict[str, str]) -> AuditEntry:
        secret = grant.secret
        return self._authority.entry(
            event="release",
            outcome="granted",
            model=secret.model,
            version=secret.version or 0,
            kind=secret.kind,
            secret=secret.name,
            key_id=secret.key_id,
            use=grant.use,
            epoch=secret.epoch or 0,
            **about,
        )

    def _withheld(self, each: Withheld, about: dict[str, str]) -> AuditEntry:
        line = each.line
        named: dict[str, object] = {"kind": "secret", "secret": line.name}
        if isinstance(line, ModelLine):
            named = {"kind": "model", "model": line.name, "version": line.version}
        return self._authority.entry(
            event="release", outcome="refused", rule=each.error.rule, **named, **about
        )
