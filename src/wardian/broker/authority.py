"""What is in force at the broker: the mesh CA, the manifest, the epoch; and what becomes of it.

Every release and every change follows one order: decide, write state and audit line, count, act
(`record`). A secret therefore never leaves before the line that says so is beyond taking back.

Methods are called from one thread. What takes long, making and verifying evidence, is not here.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian._internal.clock import UnixTime
from wardian._internal.log import event
from wardian._internal.settings import parse
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.attestation.evidence_digest import evidence_digest
from wardian.attestation.quotes.quote import parse_quote
from wardian.broker.ca import IssuingCa, MeshCa
from wardian.broker.certificates import (
    BROKER,
    NO_MANIFEST,
    CertificateRequest,
    MeshIdentity,
    build_csr,
    chain_pem,
    parse_csr,
)
from wardian.broker.joint.kept import find_key, find_models
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest_for
from wardian.broker.refusal import refusal_for
from wardian.broker.state import named_secrets
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.clock import FlooredClock
from wardian.broker.state.store import Place, Store
from wardian.broker.transparency.log import TransparencyLog
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import FormatError, SealError, TransportError

log = logging.getLogger(__name__)

_ISSUER: Final = "issuing-ca"
_OF_EPOCH: Final = ("queue-key", "request-key")
"""The store's tables of keys that an epoch has, by model."""


class Authority:
    """What is in force. Who changes it commits first (`record`) and adopts then."""

    __slots__ = (
        "_agreed",
        "_manifest",
        "agreed_digest",
        "ca",
        "clock",
        "issuer",
        "measurement",
        "simulated",
        "store",
        "transparency",
    )

    agreed_digest: bytes
    """SHA-256 of the measured `wardian.toml`."""
    ca: MeshCa
    """The mesh CA."""
    clock: FlooredClock
    """The time that decisions go by: the host's, above a floor that only rises (TRUST T9)."""
    issuer: IssuingCa
    """The CA that issues under the manifest in force, or under `NO_MANIFEST`."""
    measurement: bytes
    """This broker's own, 32 bytes."""
    simulated: bool
    """Whether this broker's own evidence chains to another root than Intel's."""
    store: Store
    """The memory of it all."""
    transparency: TransparencyLog
    """The audit log as strangers see it."""

    def __init__(
        self,
        *,
        store: Store,
        attest: Callable[[bytes], Evidence],
        agreed_toml: bytes,
        clock: UnixTime,
    ) -> None:
        """Take up the state in `store`, or begin with a new mesh CA.

        Args:
            store: opened, hence whole and the newest.
            attest: makes this process's evidence; asked once, for its own measurement.
            agreed_toml: the measured `wardian.toml`, exact bytes.
            clock: Unix seconds; the host's, which `FlooredClock` puts on a floor.

        Raises:
            SealError, PolicyDenied, AuthenticationFailed, FormatError: the stored manifest or CA
                is not what this `wardian.toml` and this code accept.
        """
        own = parse_quote(attest(bind(Purpose.BROKER, b"self")).quote)
        self.measurement = own.report.measurement
        self.simulated = own.root_sha256 != INTEL_ROOT_SHA256
        self.store = store
        self.agreed_digest = hashlib.sha256(agreed_toml).digest()
        self._agreed = parse(agreed_toml, Agreed, name="wardian.toml")
        self.clock = FlooredClock(clock, store=store)
        self._manifest: VerifiedManifest | None = None
        self.ca = self._open_ca()
        self.transparency = TransparencyLog(
            store=store,
            ca=self.ca,
            mesh=self.mesh,
            witnesses=self._agreed.mesh.witnesses,
            threshold=self._agreed.mesh.head_threshold,
            manifest=lambda: self.manifest_digest,
            issuing_ca=lambda: self.issuer.certificate,
            clock=self.clock,
        )
        raw = store.get("manifest", "current")
        if raw is not None:
            self._manifest = self.verify(wire.decode(raw, SignedManifest, what="stored manifest"))
        started = [self.entry(event="start", outcome="granted", role=BROKER)]
        if self._has_issuer():
            self.issuer = self._open_issuer()
            self.record(started, self._new_issuer_if_due() | self._lacking_request_keys())
        else:
            self.record(started, self.new_issuer(self._named))
        self.issuer = self._open_issuer()

    @property
    def mesh(self) -> str:
        """The mesh's name."""
        return self._agreed.mesh.name

    @property
    def owners(self) -> frozenset[str]:
        """The public keys of the mesh's owners, in hex."""
        return frozenset(self._agreed.mesh.owners)

    @property
    def quorum(self) -> int:
        """How many owners it takes now to change the mesh, and to move its time."""
        least = self._agreed.mesh.threshold
        if self._manifest is None:
            return least
        return max(least, self._manifest.manifest.change_threshold)

    @property
    def in_force(self) -> VerifiedManifest | None:
        """The manifest in force, if there is one; see `manifest`."""
        return self._manifest

    @property
    def usable(self) -> bool:
        """Whether this process may use the state; see `Store.usable`."""
        return self.store.usable

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

    @property
    def manifest_digest(self) -> bytes:
        """SHA-256 of the manifest in force, empty if there is none."""
        return b"" if self._manifest is None else self._manifest.digest

    @property
    def lease_s(self) -> int:
        """How long a certificate is valid, seconds; see `[mesh] lease_s`."""
        return self._agreed.mesh.lease_s

    @property
    def epoch_s(self) -> int:
        """After how many seconds an epoch is turned; see `[mesh] epoch_s`."""
        return self._agreed.mesh.epoch_s

    @property
    def epoch(self) -> int:
        """The epoch of the queue keys, 0 before the first manifest."""
        return int.from_bytes(self.store.get("epoch", "current") or b"", "big")

    @property
    def epoch_began(self) -> int:
        """When the epoch began, Unix seconds by the clock of then; 0 before the first manifest."""
        return int.from_bytes(self.store.get("epoch", "began") or b"", "big")

    def verify(self, signed: SignedManifest) -> VerifiedManifest:
        """Return `signed` if enough owners signed it and `wardian.toml` allows what it says."""
        return verify_manifest_for(signed, agreed=self._agreed)

    def adopt(self, manifest: VerifiedManifest) -> None:
        """Let `manifest`, recorded with its `new_issuer`, be the one in force."""
        self._manifest = manifest
        self.issuer = self._open_issuer()

    def new_issuer(self, manifest_digest: bytes) -> dict[Place, bytes | None]:
        """Return the changes that give a manifest an issuing CA of its own.

        They belong into the commit that puts it in force: the issuing CA that was before is gone
        then, and who knows only that one notices (TRUST T21).

        Args:
            manifest_digest: SHA-256 of the manifest, 32 bytes.
        """
        made = self.ca.create_issuing(manifest_digest=manifest_digest, now=self.clock())
        return {
            (_ISSUER, "key"): made.key.to_secret().reveal(),
            (_ISSUER, "certificate"): made.certificate,
        }

    def new_epoch(self, models: Iterable[str]) -> dict[Place, bytes | None]:
        """Return the changes that begin an epoch: new keys for each of `models`, and no old ones.

        A model has a queue key, and an X25519 private key for requests that clients seal. Whoever
        holds keys of an older epoch, a worker whose platform was withdrawn for example, opens
        nothing that is sealed from then on, whatever its clock says (TRUST T21).
        """
        changes: dict[Place, bytes | None] = {
            (place, key): None for place in _OF_EPOCH for key in self.store.keys(place)
        }
        changes |= {
            (place, model): Secret.random().reveal() for model in set(models) for place in _OF_EPOCH
        }
        changes["epoch", "current"] = (self.epoch + 1).to_bytes(8, "big")
        changes["epoch", "began"] = self.clock().to_bytes(8, "big")
        return changes

    def turn_epoch(self, *, rule: str, **more: object) -> None:
        """Begin an epoch under the manifest in force, at once.

        An issuing CA that is half over is replaced with it.

        Args:
            rule: why, for the audit line: `age`, `owner-order`.
            more: further fields of the audit line.

        Raises:
            TransportError: there is no manifest yet.
            SealError: it cannot be made durable; the old epoch stands, or nobody knows.
        """
        models = {line.name for line in self.manifest.manifest.models}
        changes = self.new_epoch(models)
        changes |= self._new_issuer_if_due()
        entry = self.entry(
            event="epoch", outcome="granted", rule=rule, epoch=self.epoch + 1, **more
        )
        self.record([entry], changes)
        self.issuer = self._open_issuer()

    def issue(self, request: CertificateRequest, *, identity: MeshIdentity) -> tuple[bytes, ...]:
        """Return a certificate for one lease, the issuing CA's and the mesh CA's, DER."""
        return self.issuer.issue(request, identity=identity, now=self.clock(), life_s=self.lease_s)

    def own_identity(self, names: Iterable[str] = ()) -> tuple[TlsKey, bytes]:
        """Return a fresh key and its certificate chain (PEM) for a TLS server of the broker.

        Args:
            names: DNS names and IP addresses by which strangers know it; with them the certificate
                is for strangers alone.
        """
        key = TlsKey.generate()
        identity = MeshIdentity(
            role=BROKER,
            measurement=self.measurement,
            manifest_digest=self._named,
        )
        own, issuer, _ = self.issue(parse_csr(build_csr(key, names=names)), identity=identity)
        return key, chain_pem((own, issuer))

    def missing(self) -> tuple[str, ...]:
        """Return the models and secrets that have not been given, as people read them."""
        if self._manifest is None:
            return ()
        given, kept = set(self.store.keys("model-key")), set(self.store.keys(named_secrets.PLACE))
        made = {each.file.key_id for each in find_models(self.store) if find_key(self.store, each)}
        manifest = self._manifest.manifest
        models = (
            f"{line.name} version {line.version}"
            for line in manifest.models
            if f"{line.owner}/{line.key_id}" not in given and line.key_id not in made
        )
        return (*models, *(line.said for line in manifest.secrets if line.kept not in kept))

    def entry(self, **fields: object) -> AuditEntry:
        """Return an audit entry that names the manifest in force, unless `fields` names one."""
        return msgspec.convert({"manifest": self.manifest_digest.hex(), **fields}, AuditEntry)

    def record(
        self,
        entries: Sequence[AuditEntry],
        changes: Mapping[Place, bytes | None] | None = None,
        *,
        level: int = logging.INFO,
        **more: str | int | bool,
    ) -> None:
        """Commit `changes` with their audit lines, then log the lines; act only after this.

        Args:
            entries: what happened; at least one.
            changes: as in `Store.commit`.
            level: of the log lines.
            more: what the log lines say besides; never a secret.

        Raises:
            SealError: it cannot be made durable: nothing changed, or the store is in doubt.
        """
        changes = {**self.clock.unkept(), **(changes or {})}  # these may raise the floor further
        self.store.commit(changes, audit=entries, now=self.clock())
        for entry in entries:
            fields = {key: value for key, value in msgspec.structs.asdict(entry).items() if value}
            event(log, f"broker.{fields.pop('event')}", level=level, **fields, **more)

    def refuse(
        self,
        error: Exception,
        *,
        role: str,
        models: tuple[str, ...] = (),
        evidence: Evidence | None = None,
        owner: str = "",
        plan: str = "",
    ) -> None:
        """Write the audit line of a refused release, or of an owner's refused change.

        Args:
            error: why; what is no `WardianError` is a bug, and the line says so.
            role: as asked for, not believed; "owner" for an owner.
            models: as asked for; the line names the first.
            evidence: what was presented, if anything was.
            owner: the public key of an owner, in hex, as its visitor says.
            plan: the digest of a job's plan, in hex, as asked for.
        """
        entry = self.entry(
            event="refusal",
            outcome="refused",
            role=role,
            evidence=_digest_of(evidence),
            owner=owner,
            model=models[0] if models else "",
            rule=refusal_for(error).rule,
            plan=plan,
        )
        self.record([entry], level=logging.WARNING, error=type(error).__name__)

    def refuse_unwritten(self, count: int) -> None:
        """Write the one audit line that stands for `count` refusals without a line of their own."""
        entry = self.entry(event="refusal", outcome="refused", rule="left-out", count=count)
        self.record([entry], level=logging.WARNING)

    @property
    def _named(self) -> bytes:
        """The digest that the certificates of now name."""
        return self.manifest_digest or NO_MANIFEST

    def _has_issuer(self) -> bool:
        return bool(self.store.keys(_ISSUER))

    def _new_issuer_if_due(self) -> dict[Place, bytes | None]:
        """Return the changes that replace an issuing CA that is half over, else none."""
        return self.new_issuer(self._named) if self.issuer.due(self.clock()) else {}

    def _lacking_request_keys(self) -> dict[Place, bytes | None]:
        """Return the changes that complete an epoch of a version of ours that had no such keys."""
        lacking = set(self.store.keys("queue-key")) - set(self.store.keys("request-key"))
        return {("request-key", model): Secret.random().reveal() for model in lacking}

    def _open_issuer(self) -> IssuingCa:
        """Return the stored issuing CA of the manifest in force.

        Raises:
            SealError: there is none.
            PolicyDenied: it is of another manifest: that was not recorded together with it.
        """
        key, certificate = self.store.get(_ISSUER, "key"), self.store.get(_ISSUER, "certificate")
        if key is None or certificate is None:
            raise SealError("the broker's state has no issuing CA")
        return self.ca.open_issuing(
            key=TlsKey.from_secret(Secret(key)),
            certificate=certificate,
            manifest_digest=self._named,
        )

    def _open_ca(self) -> MeshCa:
        """Return the stored CA, or make the mesh's one and only."""
        key, certificate = self.store.get("ca", "key"), self.store.get("ca", "certificate")
        if key is not None and certificate is not None:
            return MeshCa(key=TlsKey.from_secret(Secret(key)), certificate=certificate)
        ca = MeshCa.create(mesh=self.mesh, simulated=self.simulated, now=self.clock())
        self.record(
            [self.entry(event="start", outcome="granted", role=BROKER, kind="certificate")],
            {("ca", "key"): ca.to_secret().reveal(), ("ca", "certificate"): ca.certificate},
        )
        return ca


def _digest_of(evidence: Evidence | None) -> str:
    """Return the digest of evidence that was refused, in hex; empty where it does not parse."""
    try:
        return "" if evidence is None else evidence_digest(evidence).hex()
    except FormatError:
        return ""
