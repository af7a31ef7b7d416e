"""The workload's end of one release: what it asks for, and what it lets pass as that."""

from typing_extensions import override

from wardian._internal.agreed import Agreed
from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import build_csr
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.release.admission import Admission, verify_release
from wardian.broker.release.protocol import (
    RELEASE_SESSION,
    Attestation,
    Request,
    broker_report_data,
    decode_release,
    workload_report_data,
)
from wardian.broker.session.obtaining import ObtainingEnd
from wardian.broker.session.shown import ShownBroker
from wardian.broker.state.audit import AuditHead
from wardian.crypto.tls_keys import TlsKey


class WorkloadSession(ObtainingEnd[Attestation, Admission]):
    """The workload's end: `request`, `receive_challenge`, `attestation`, `receive_response`.

    Makes its own HPKE and TLS keys; neither leaves the process.
    """

    __slots__ = ("_models", "_names", "_queue_access", "_renewal", "_role", "_tls")

    def __init__(
        self,
        *,
        role: str,
        models: tuple[str, ...],
        agreed: Agreed,
        nonce: bytes,
        names: tuple[str, ...] = (),
        renewal: bool = False,
        seen: AuditHead | None = None,
        queue_access: bool = False,
    ) -> None:
        """Prepare to ask.

        Args:
            role: what this process is.
            models: whose secrets it wants, from `wardian.toml`.
            agreed: the measured `wardian.toml`, whose owners decide which broker is trusted.
            nonce: 32 fresh random bytes.
            names: DNS names and IP addresses for the certificate; front ends only.
            renewal: this process has its secrets and asks for a certificate and queue keys alone.
            seen: where the audit log ended at its last admission; None at the first.
            queue_access: whether it asks for access to Redis, too.
        """
        super().__init__(RELEASE_SESSION, agreed=agreed, nonce=nonce, seen=seen)
        self._role, self._models, self._names = role, models, names
        self._renewal, self._queue_access = renewal, queue_access
        self._tls = TlsKey.generate()

    @override
    def _wanted(self, tee: str, seen: int) -> Request:
        return Request(
            role=self._role,
            tee=tee,
            models=self._models,
            nonce=self._nonce,
            renewal=self._renewal,
            seen=seen,
            queue_access=self._queue_access,
        )

    @override
    def _broker_report_data(
        self, broker_nonce: bytes, ca_spki: bytes, manifest: VerifiedManifest
    ) -> bytes:
        return broker_report_data(
            workload_nonce=self._nonce,
            broker_nonce=broker_nonce,
            ca_spki=ca_spki,
            digest=manifest.digest,
            version=manifest.manifest.version,
        )

    @override
    def _own_report_data(self, broker_nonce: bytes, manifest: VerifiedManifest) -> bytes:
        return workload_report_data(
            broker_nonce=broker_nonce,
            hpke_public=self._hpke.public,
            tls_spki=self._tls.spki,
            digest=manifest.digest,
            role=self._role,
            models=self._models,
            renewal=self._renewal,
        )

    @override
    def _vouching(self, evidence: Evidence) -> Attestation:
        csr = build_csr(self._tls, names=self._names)
        return Attestation(evidence=evidence, hpke_public=self._hpke.public, csr=csr)

    @override
    def _verify(self, plaintext: bytes, shown: ShownBroker, *, now: int) -> Admission:
        return verify_release(
            decode_release(plaintext),
            role=self._role,
            models=self._models,
            manifest=shown.manifest,
            mesh_ca=shown.mesh_ca,
            issuing_ca=shown.issuing_ca,
            tls_key=self._tls,
            renewal=self._renewal,
            queue_access=self._queue_access,
            logged=shown.audit,
            now=now,
        )
