"""The broker's end of a job's four messages. What it decides is in `releases`."""

from typing_extensions import override

from wardian.broker.session.answering import Proof
from wardian.broker.session.releasing import ReleasingEnd
from wardian.broker.tables.asked import AskedPlan
from wardian.broker.tables.content import JobRelease, encode_job_release
from wardian.broker.tables.protocol import (
    JOB_SESSION,
    JobAttestation,
    JobRequest,
    broker_job_report_data,
    job_report_data,
)


class BrokerJobSession(ReleasingEnd[JobRequest, JobAttestation, Proof, JobRelease]):
    """The broker's end: `begin`, `challenge`, `receive`, `respond`, in this order, once each."""

    __slots__ = ("asked",)

    asked: AskedPlan
    """The plan of message 1."""

    def __init__(self, asked: AskedPlan, *, nonce: bytes, opened_at: float) -> None:
        """Open a session about the plan `asked`, of `read_asked`; see `AnsweringEnd`."""
        super().__init__(JOB_SESSION, nonce=nonce, opened_at=opened_at)
        self.asked = asked

    @override
    def _own_report_data(self, ca_spki: bytes) -> bytes:
        return broker_job_report_data(
            job_nonce=self.request.nonce,
            broker_nonce=self._nonce,
            ca_spki=ca_spki,
            digest=self.manifest.digest,
            version=self.manifest.manifest.version,
            plan_digest=self.asked.digest,
        )

    @override
    def _proof(self, message: JobAttestation) -> Proof:
        return Proof(
            evidence=message.evidence,
            report_data=job_report_data(
                broker_nonce=self._nonce,
                hpke_public=message.hpke_public,
                digest=self.manifest.digest,
                plan_digest=self.asked.digest,
                salt=self.request.salt,
                again=self.request.again,
            ),
        )

    @override
    def _encode(self, release: JobRelease) -> bytes:
        return encode_job_release(release)
