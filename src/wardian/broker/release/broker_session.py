"""The broker's end of one release. What it decides is in `releases`."""

from dataclasses import dataclass

from typing_extensions import override

from wardian.broker.certificates import CertificateRequest, parse_csr
from wardian.broker.release.protocol import (
    RELEASE_SESSION,
    Attestation,
    Release,
    Request,
    broker_report_data,
    encode_release,
    workload_report_data,
)
from wardian.broker.session.answering import Proof
from wardian.broker.session.releasing import ReleasingEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadProof(Proof):
    """Message 3, parsed; nothing in it is believed yet.

    Attributes:
        certificate_request: its signature verified, its key not yet bound to any evidence.
    """

    certificate_request: CertificateRequest


class BrokerSession(ReleasingEnd[Request, Attestation, WorkloadProof, Release]):
    """The broker's end: `begin`, `challenge`, `receive`, `respond`, in this order, once each."""

    __slots__ = ()

    def __init__(self, *, nonce: bytes, opened_at: float) -> None:
        """Open a session with 32 fresh random bytes `nonce`; see `AnsweringEnd`."""
        super().__init__(RELEASE_SESSION, nonce=nonce, opened_at=opened_at)

    @override
    def _own_report_data(self, ca_spki: bytes) -> bytes:
        return broker_report_data(
            workload_nonce=self.request.nonce,
            broker_nonce=self._nonce,
            ca_spki=ca_spki,
            digest=self.manifest.digest,
            version=self.manifest.manifest.version,
        )

    @override
    def _proof(self, message: Attestation) -> WorkloadProof:
        csr = parse_csr(message.csr)
        return WorkloadProof(
            evidence=message.evidence,
            certificate_request=csr,
            report_data=workload_report_data(
                broker_nonce=self._nonce,
                hpke_public=message.hpke_public,
                tls_spki=csr.spki,
                digest=self.manifest.digest,
                role=self.request.role,
                models=self.request.models,
                renewal=self.request.renewal,
            ),
        )

    @override
    def _encode(self, release: Release) -> bytes:
        return encode_release(release)
