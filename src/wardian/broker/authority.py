"""What the broker decides and remembers, without a socket.

Every release and every change follows one order: decide, write state and audit line, count, act.
A secret therefore never leaves before the line that says so is beyond taking back.

Methods are called from one thread. What takes long, making and verifying evidence, is not here: the
service does it elsewhere and hands the results in.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from wardian._internal import wire
from wardian._internal.clock import UnixTime
from wardian._internal.log import event
from wardian._internal.settings import Agreed
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.attestation.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.quote_sgx import parse_sgx_quote
from wardian.attestation.result import AttestationResult
from wardian.broker.audit import AuditEntry
from wardian.broker.broker_session import WorkloadProof
from wardian.broker.ca import MeshCa
from wardian.broker.certificates import BROKER, MeshIdentity, build_csr, chain_pem, parse_csr
from wardian.broker.manifest import (
    MeshManifest,
    ModelLine,
    SignedManifest,
    VerifiedManifest,
    verify_manifest_for,
)
from wardian.broker.protocol import Release, ReleasedSecret, Request, queue_key_id
from wardian.broker.provisioning import (
    OpenedProvision,
    Receipt,
    line_mark,
    line_place,
    refuse_superseded,
)
from wardian.broker.refusal import refusal_for
from wardian.broker.release import Entitlement, entitlements
from wardian.broker.status import Status, StatusRequest
from wardian.broker.store import Place, Store
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import PolicyDenied, SealError, Timeout, TransportError

log = logging.getLogger(__name__)

NO_MANIFEST: Final = bytes(32)
"""What the broker's own certificate names before its first manifest; no peer accepts it."""
_AUDIT_PAGE: Final = 100


class Authority:
    """The broker's mind: manifest in force, mesh CA, keys, audit log."""

    __slots__ = ("_agreed", "_ca", "_clock", "_manifest", "_measurement", "_store", "simulated")

    simulated: bool
    """Whether this broker's own evidence chains to another root than Intel's."""

    def __init__(
        self,
        *,
        store: Store,
        attest: Callable[[bytes], Evidence],
        agreed: Agreed,
        clock: UnixTime,
    ) -> None:
        """Take up the state in `store`, or begin with a new mesh CA.

        Args:
            store: opened, hence whole and the newest.
            attest: makes this process's evidence; asked once, for its own measurement.
            agreed: the measured `wardian.toml`.
            clock: Unix seconds; the host's, so no decision about keys rests on it alone.

        Raises:
            SealError, PolicyDenied, AuthenticationFailed, FormatError: the stored manifest or CA
                is not what this `wardian.toml` and this code accept.
        """
        own = parse_sgx_quote(attest(bind(Purpose.BROKER, b"self")).quote)
        self._measurement = own.mr_enclave
        self.simulated = own.root_sha256 != INTEL_ROOT_SHA256
        self._store = store
        self._agreed = agreed
        self._clock = clock
        self._manifest: VerifiedManifest | None = None
        self._ca = self._open_ca()
        raw = store.get("manifest", "current")
        if raw is not None:
            self._manifest = self._verify(_decode_manifest(raw))
        self._store.commit(
            audit=[self._entry(event="start", outcome="granted", role=BROKER)], now=clock()
        )

    @property
    def ca(self) -> MeshCa:
        """The mesh CA."""
        return self._ca

    @property
    def manifest(self) -> VerifiedManifest:
        """The manifest in force.

        Raises:
            TransportError: none has been provided yet (retryable).
        """
        if self._manifest is None:
            raise TransportError("the broker has no mesh manifest yet: the owners provide it")
        return self._manifest

    @property
    def manifest_version(self) -> int:
        """Version of the manifest in force, 0 if there is none."""
        return 0 if self._manifest is None else self._manifest.manifest.version

    def own_identity(self) -> tuple[TlsKey, bytes]:
        """Return a fresh key and its certificate chain (PEM) for the broker's TLS server."""
        key = TlsKey.generate()
        digest = NO_MANIFEST if self._manifest is None else self._manifest.digest
        identity = MeshIdentity(role=BROKER, measurement=self._measurement, manifest_digest=digest)
        chain = self._ca.issue(parse_csr(build_csr(key)), identity=identity, now=self._clock())
        return key, chain_pem(chain)

    def release(
        self,
        proof: WorkloadProof,
        *,
        request: Request,
        shown: VerifiedManifest,
        result: AttestationResult,
    ) -> Release:
        """Return what the attested workload may have, after the audit lines are counted.

        Args:
            proof: message 3.
            request: message 1.
            shown: the manifest of message 2.
            result: of `proof.evidence`, appraised for `request.role` under `shown`.

        Raises:
            PolicyDenied: the release policy refuses, or a key has not been given yet.
            Timeout: the manifest changed since message 2; ask again.
            SealError: the audit lines cannot be made durable; nothing is released.
        """
        if shown.digest != self.manifest.digest:
            raise Timeout("the mesh manifest changed meanwhile: ask again")
        granted = entitlements(
            shown.manifest, role=request.role, models=request.models, result=result
        )
        secrets = tuple(self._secret(entitlement) for entitlement in granted)
        measurement = result.claims.mr_enclave
        identity = MeshIdentity(
            role=request.role, measurement=measurement, manifest_digest=shown.digest
        )
        chain = self._ca.issue(proof.certificate_request, identity=identity, now=self._clock())
        entries = [
            self._entry(
                event="release",
                outcome="granted",
                role=request.role,
                measurement=measurement.hex(),
                model=secret.model,
                version=secret.version or 0,
                kind=secret.kind,
                key_id=secret.key_id,
                epoch=secret.epoch or 0,
            )
            for secret in secrets
        ]
        self._store.commit(audit=entries, now=self._clock())
        for entry in entries:
            _log(entry, tee=request.tee, simulated=result.claims.simulated)
        return Release(
            certificate_chain=chain,
            manifest_version=shown.manifest.version,
            secrets=secrets,
        )

    def refuse(self, error: Exception, *, role: str, models: tuple[str, ...] = ()) -> None:
        """Write the audit line of a refused release, or of an owner's refused change.

        Args:
            error: why; what is no `WardianError` is a bug, and the line says so.
            role: as asked for, not believed; "owner" for an owner.
            models: as asked for; the line names the first.
        """
        entry = self._entry(
            event="refusal",
            outcome="refused",
            role=role,
            model=models[0] if models else "",
            rule=refusal_for(error).rule,
        )
        _log(entry, level=logging.WARNING, error=type(error).__name__)
        self._store.commit(audit=[entry], now=self._clock())

    def refuse_unwritten(self, count: int) -> None:
        """Write the one audit line that stands for `count` refusals without a line of their own."""
        entry = self._entry(event="refusal", outcome="refused", rule="left-out", count=count)
        _log(entry, level=logging.WARNING)
        self._store.commit(audit=[entry], now=self._clock())

    def verify_offer(self, signed: SignedManifest) -> VerifiedManifest:
        """Return the offered manifest if it may follow the one in force.

        The same manifest may come again, by another owner who adds keys.

        Raises:
            PolicyDenied, AuthenticationFailed, FormatError: see `verify_manifest_for`;
                additionally the rule `manifest-version` for one that is older, or another of the
                same version, and `line-serial` for one with a model line that was replaced.
        """
        offered = self._verify(signed)
        self._refuse_older(offered)
        return offered

    def provision(self, provision: OpenedProvision, *, offered: VerifiedManifest) -> Receipt:
        """Put `offered` in force with the owner's keys; return the receipt, not yet signed.

        A manifest that was not in force before begins an epoch: each model gets a new queue key
        and the old ones are deleted, as are keys of sealed files that no line names any more.

        Args:
            provision: message 3, its signature verified.
            offered: of `verify_offer`, under which this broker's own evidence was appraised.

        Raises:
            PolicyDenied: a key that none of this owner's model lines names (rule `key-named`), or
                a newer manifest came into force since `verify_offer`.
            SealError: the change cannot be made durable; nothing changed.
        """
        self._refuse_older(offered)
        owner, manifest = provision.owner, offered.manifest
        named = {line.key_id for line in manifest.models if line.owner == owner}
        if not named.issuperset(provision.keys):
            raise PolicyDenied(
                "a key was given that no model line of this owner names", rule="key-named"
            )
        changes: dict[Place, bytes | None] = {}
        if self._manifest is None or offered.digest != self._manifest.digest:
            changes |= self._new_epoch(offered)
        for key_id, key in provision.keys.items():
            changes["model-key", f"{owner}/{key_id}"] = key.reveal()
        entries = [
            self._entry(
                event="provision",
                outcome="granted",
                kind="model",
                key_id=key_id,
                manifest=offered.digest.hex(),
            )
            for key_id in sorted(provision.keys)
        ] or [self._entry(event="provision", outcome="granted", manifest=offered.digest.hex())]
        self._store.commit(changes, audit=entries, now=self._clock())
        self._manifest = offered
        for entry in entries:
            _log(entry, owner=owner, manifest_version=manifest.version)
        head = self._store.audit_head
        return Receipt(
            manifest_digest=offered.digest.hex(),
            manifest_version=manifest.version,
            epoch=self._epoch(),
            missing=self._missing(manifest),
            audit_count=head.count,
            audit_digest=head.digest,
            signature=b"",
        )

    def status(self, request: StatusRequest) -> Status:
        """Return what anybody may know: names, digests and the audit log, no secret."""
        head = self._store.audit_head
        manifest = self._manifest
        after = max(0, head.count - _AUDIT_PAGE) if request.after is None else request.after
        return Status(
            measurement=self._measurement.hex(),
            simulated=self.simulated,
            mesh=self._agreed.mesh.name,
            manifest_version=self.manifest_version,
            manifest_digest="" if manifest is None else manifest.digest.hex(),
            epoch=self._epoch(),
            missing=() if manifest is None else self._missing(manifest.manifest),
            counter=self._store.kept_by.said,
            audit=head,
            lines=self._store.audit_lines(after=after, limit=_AUDIT_PAGE),
        )

    def _refuse_older(self, offered: VerifiedManifest) -> None:
        known = self._manifest
        if known is not None and offered.digest == known.digest:
            return
        if known is not None and offered.manifest.version <= known.manifest.version:
            raise PolicyDenied(
                f"manifest version {offered.manifest.version} does not come after version "
                f"{known.manifest.version}, which is in force: versions only grow",
                rule="manifest-version",
            )
        refuse_superseded(offered.manifest, mark_of=lambda key: self._store.get("line", key))

    def _verify(self, signed: SignedManifest) -> VerifiedManifest:
        return verify_manifest_for(signed, agreed=self._agreed)

    def _open_ca(self) -> MeshCa:
        """Return the stored CA, or make the mesh's one and only."""
        key, certificate = self._store.get("ca", "key"), self._store.get("ca", "certificate")
        if key is not None and certificate is not None:
            return MeshCa(key=TlsKey.from_secret(Secret(key)), certificate=certificate)
        ca = MeshCa.create(mesh=self._agreed.mesh.name, simulated=self.simulated, now=self._clock())
        self._store.commit(
            {("ca", "key"): ca.to_secret().reveal(), ("ca", "certificate"): ca.certificate},
            audit=[self._entry(event="start", outcome="granted", role=BROKER, kind="certificate")],
            now=self._clock(),
        )
        return ca

    def _new_epoch(self, offered: VerifiedManifest) -> dict[Place, bytes | None]:
        """Return the changes that replace manifest and queue keys and drop unnamed model keys.

        The marks of lines are kept for good, also when no line of that version is left.
        """
        kept = {f"{line.owner}/{line.key_id}" for line in offered.manifest.models}
        changes: dict[Place, bytes | None] = {
            ("model-key", key): None for key in self._store.keys("model-key") if key not in kept
        }
        changes |= {("queue-key", key): None for key in self._store.keys("queue-key")}
        for model in {line.name for line in offered.manifest.models}:
            changes["queue-key", model] = Secret.random().reveal()
        for line in offered.manifest.models:
            changes["line", line_place(line)] = line_mark(line, mesh=offered.manifest.mesh)
        changes["epoch", "current"] = (self._epoch() + 1).to_bytes(8, "big")
        changes["manifest", "current"] = wire.encode(offered.signed)
        return changes

    def _epoch(self) -> int:
        """Return the epoch of the queue keys, 0 before the first manifest."""
        return int.from_bytes(self._store.get("epoch", "current") or b"", "big")

    def _secret(self, entitlement: Entitlement) -> ReleasedSecret:
        """Return the secret that was granted."""
        if entitlement.line is not None:
            return self._model_secret(entitlement.line)
        key = self._store.get("queue-key", entitlement.model)
        if key is None:
            raise SealError("the broker's state has no queue key for a model of the manifest")
        secret = Secret(key)
        return ReleasedSecret(
            kind="queue",
            model=entitlement.model,
            version=None,
            epoch=self._epoch(),
            key_id=queue_key_id(secret).hex(),
            key=secret,
        )

    def _model_secret(self, line: ModelLine) -> ReleasedSecret:
        """Return the key of a sealed model, as the owner who signed the line gave it.

        Keys are kept by owner and id: a line that another owner signs over the same id finds
        nothing, whatever measurements it lists (TRUST T7).
        """
        key = self._store.get("model-key", f"{line.owner}/{line.key_id}")
        if key is None:
            raise PolicyDenied(
                f"the owner of model {line.name} version {line.version} has not given its key",
                rule="key-given",
            )
        return ReleasedSecret(
            kind="model",
            model=line.name,
            version=line.version,
            epoch=None,
            key_id=line.key_id,
            key=Secret(key),
        )

    def _missing(self, manifest: MeshManifest) -> tuple[str, ...]:
        """Return the models whose keys have not been given, as people read them."""
        given = set(self._store.keys("model-key"))
        return tuple(
            f"{line.name} version {line.version}"
            for line in manifest.models
            if f"{line.owner}/{line.key_id}" not in given
        )

    def _entry(self, **fields: object) -> AuditEntry:
        """Return an audit entry that names the manifest in force, unless `fields` names one."""
        digest = "" if self._manifest is None else self._manifest.digest.hex()
        return msgspec.convert({"manifest": digest, **fields}, AuditEntry)


def _decode_manifest(raw: bytes) -> SignedManifest:
    return wire.decode(raw, SignedManifest, what="stored manifest")


def _log(entry: AuditEntry, *, level: int = logging.INFO, **more: str | int | bool) -> None:
    """Log what the audit line says: names and digests, never a secret."""
    fields = {key: value for key, value in msgspec.structs.asdict(entry).items() if value}
    name = fields.pop("event")
    event(log, f"broker.{name}", level=level, **fields, **more)
