"""The job's end of its four messages: what it asks for, and what it lets pass as that."""

from typing_extensions import override

from wardian._internal.agreed import Agreed
from wardian.broker.jobs.plan import JobPlan, encode_plan, plan_digest
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.session.obtaining import ObtainingEnd
from wardian.broker.session.shown import ShownBroker
from wardian.broker.state.audit import AuditHead
from wardian.broker.tables.content import decode_job_release
from wardian.broker.tables.granted import GrantedTables, verify_granted
from wardian.broker.tables.protocol import (
    JOB_SESSION,
    MAX_ASKED_PLAN_BYTES,
    JobAttestation,
    JobRequest,
    broker_job_report_data,
    job_report_data,
)
from wardian.errors import ConfigError


class JobSession(ObtainingEnd[JobAttestation, GrantedTables]):
    """The job's end: `request`, `receive_challenge`, `attestation`, `receive_response`."""

    __slots__ = ("_again", "_digest", "_plan", "_salt")

    def __init__(
        self,
        plan: JobPlan,
        *,
        agreed: Agreed,
        nonce: bytes,
        salt: bytes,
        again: bytes | None = None,
        seen: AuditHead | None = None,
    ) -> None:
        """Prepare to ask for the tables of `plan`.

        Args:
            plan: that this process runs, and no other.
            agreed: the measured `wardian.toml`, whose owners decide which broker is trusted.
            nonce: 32 fresh random bytes.
            salt: 16 random bytes, of this job since it asked first.
            again: the id (32 bytes) of a job that had them and is dead; else None.
            seen: where the audit log ended when it was seen last; None at first.

        Raises:
            ConfigError: the plan is longer than a broker reads from somebody it does not know.
        """
        if len(encode_plan(plan)) > MAX_ASKED_PLAN_BYTES:
            raise ConfigError(
                f"the plan is longer than the {MAX_ASKED_PLAN_BYTES:,} bytes that a broker takes: "
                "name fewer columns or parties"
            )
        super().__init__(JOB_SESSION, agreed=agreed, nonce=nonce, seen=seen)
        self._plan, self._digest = plan, plan_digest(plan)
        self._salt, self._again = salt, again

    @override
    def _wanted(self, tee: str, seen: int) -> JobRequest:
        return JobRequest(
            tee=tee,
            plan=encode_plan(self._plan),
            nonce=self._nonce,
            salt=self._salt,
            again=self._again_hex,
            seen=seen,
        )

    @override
    def _broker_report_data(
        self, broker_nonce: bytes, ca_spki: bytes, manifest: VerifiedManifest
    ) -> bytes:
        return broker_job_report_data(
            job_nonce=self._nonce,
            broker_nonce=broker_nonce,
            ca_spki=ca_spki,
            digest=manifest.digest,
            version=manifest.manifest.version,
            plan_digest=self._digest,
        )

    @override
    def _own_report_data(self, broker_nonce: bytes, manifest: VerifiedManifest) -> bytes:
        return job_report_data(
            broker_nonce=broker_nonce,
            hpke_public=self._hpke.public,
            digest=manifest.digest,
            plan_digest=self._digest,
            salt=self._salt,
            again=self._again_hex,
        )

    @override
    def _verify(self, plaintext: bytes, shown: ShownBroker, *, now: int) -> GrantedTables:
        return verify_granted(
            decode_job_release(plaintext),
            plan=self._plan,
            digest=self._digest,
            salt=self._salt,
            again=self._again,
            shown=shown,
            now=now,
        )

    @property
    def _again_hex(self) -> str | None:
        return None if self._again is None else self._again.hex()
