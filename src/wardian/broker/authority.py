"""What is in force at the broker: the mesh CA, the manifest, the epoch; and what becomes of it.

Every release and every change follows one order: decide, write state and audit line, count, act
(`record`). A secret therefore never leaves before the line that says so is beyond taking back.

Methods are called from one thread. What takes long, making and verifying evidence, is not here.
"""

from collections.abc import Callable, Iterable

from wardian._internal import wire
from wardian._internal.clock import UnixTime
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.attestation.quotes.quote import parse_quote
from wardian.broker.agreement import Agreement
from wardian.broker.ca import IssuingCa, MeshCa
from wardian.broker.certificates import (
    BROKER,
    CertificateRequest,
    MeshIdentity,
    build_csr,
    chain_pem,
    parse_csr,
)
from wardian.broker.jobs.verified import VerifiedPolicies
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.mesh_keys import (
    Changes,
    begin_epoch,
    find_ca,
    has_issuer,
    keep_ca,
    keep_issuer,
    lacking_request_keys,
    number_in,
    open_issuer,
)
from wardian.broker.state.clock import FlooredClock
from wardian.broker.state.store import Store
from wardian.broker.transparency.log import TransparencyLog
from wardian.crypto.tls_keys import TlsKey


class Authority(Agreement):
    """What is in force. Who changes it commits first (`record`) and adopts then."""

    __slots__ = ("ca", "issuer", "measurement", "policies", "simulated", "transparency")

    ca: MeshCa
    """The mesh CA."""
    issuer: IssuingCa
    """The CA that issues under the manifest in force, or under `NO_MANIFEST`."""
    measurement: bytes
    """This broker's own, 32 bytes."""
    policies: VerifiedPolicies
    """Policies over tables that were verified already."""
    simulated: bool
    """Whether this broker's own evidence chains to another root than Intel's."""
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
        self.store, self.policies = store, VerifiedPolicies()
        super().__init__(agreed_toml)
        self.clock = FlooredClock(clock, store=store)
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
        if has_issuer(self.store):
            self.issuer = self._open_issuer()
            self.record(started, self._new_issuer_if_due() | lacking_request_keys(self.store))
        else:
            self.record(started, self.new_issuer(self._named))
        self.issuer = self._open_issuer()

    @property
    def usable(self) -> bool:
        """Whether this process may use the state; see `Store.usable`."""
        return self.store.usable

    @property
    def epoch(self) -> int:
        """The epoch of the queue keys, 0 before the first manifest."""
        return number_in(self.store, "current")

    @property
    def epoch_began(self) -> int:
        """When the epoch began, Unix seconds by the clock of then; 0 before the first manifest."""
        return number_in(self.store, "began")

    def adopt(self, manifest: VerifiedManifest) -> None:
        """Let `manifest`, recorded with its `new_issuer`, be the one in force."""
        self._manifest = manifest
        self.issuer = self._open_issuer()

    def new_issuer(self, manifest_digest: bytes) -> Changes:
        """Return the changes that give a manifest an issuing CA of its own.

        They belong into the commit that puts it in force: the issuing CA that was before is gone
        then, and who knows only that one notices (TRUST T21).

        Args:
            manifest_digest: SHA-256 of the manifest, 32 bytes.
        """
        made = self.ca.create_issuing(manifest_digest=manifest_digest, now=self.clock())
        return keep_issuer(made)

    def new_epoch(self, models: Iterable[str]) -> Changes:
        """Return the changes that begin an epoch: new keys for each of `models`, and no old ones.

        See `mesh_keys.begin_epoch`.
        """
        return begin_epoch(self.store, models, epoch=self.epoch + 1, now=self.clock())

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

    def _new_issuer_if_due(self) -> Changes:
        """Return the changes that replace an issuing CA that is half over, else none."""
        return self.new_issuer(self._named) if self.issuer.due(self.clock()) else {}

    def _open_issuer(self) -> IssuingCa:
        """Return the kept issuing CA of the manifest in force; see `mesh_keys.open_issuer`."""
        return open_issuer(self.store, self.ca, manifest_digest=self._named)

    def _open_ca(self) -> MeshCa:
        """Return the kept CA, or make the mesh's one and only."""
        ca = find_ca(self.store)
        if ca is None:
            ca = MeshCa.create(mesh=self.mesh, simulated=self.simulated, now=self.clock())
            entry = self.entry(event="start", outcome="granted", role=BROKER, kind="certificate")
            self.record([entry], keep_ca(ca))
        return ca
