"""The job's end of its four messages, as a pure state machine: bytes in, bytes out, or an error.

No socket, no clock, no thread. The broker is verified before this process's own evidence is made,
as a workload does (`release.shown`).
"""

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian.attestation.evidence import Evidence
from wardian.broker.jobs.plan import JobPlan, encode_plan, plan_digest
from wardian.broker.refusal import decode_or_raise
from wardian.broker.release.shown import ShownBroker, verify_broker
from wardian.broker.release.turns import State, Turns
from wardian.broker.state.audit import AuditHead
from wardian.broker.tables.content import decode_job_release
from wardian.broker.tables.granted import GrantedTables, verify_granted
from wardian.broker.tables.protocol import (
    MAX_ASKED_PLAN_BYTES,
    JobAttestation,
    JobChallenge,
    JobRequest,
    JobResponse,
    broker_job_report_data,
    job_info,
    job_report_data,
    job_signed_bytes,
    job_transcript,
)
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.tls_keys import verify_ecdsa
from wardian.errors import (
    AdmissionRefused,
    AuthenticationFailed,
    ConfigError,
    LocalProtocolError,
    PolicyDenied,
)


class JobSession:
    """The job's end: `request`, `receive_challenge`, `attestation`, `receive_response`.

    Makes its own HPKE key, which never leaves the process.
    """

    __slots__ = (
        "_again",
        "_agreed",
        "_attestation",
        "_challenge",
        "_digest",
        "_hpke",
        "_nonce",
        "_plan",
        "_request",
        "_seen",
        "_shown",
        "_turns",
    )

    def __init__(
        self,
        plan: JobPlan,
        *,
        agreed: Agreed,
        nonce: bytes,
        again: bytes | None = None,
        seen: AuditHead | None = None,
    ) -> None:
        """Prepare to ask for the tables of `plan`.

        Args:
            plan: that this process runs, and no other.
            agreed: the measured `wardian.toml`, whose owners decide which broker is trusted.
            nonce: 32 fresh random bytes.
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
        self._plan, self._digest = plan, plan_digest(plan)
        self._agreed, self._nonce, self._seen = agreed, nonce, seen
        self._again = None if again is None else again.hex()
        self._hpke = HpkePrivateKey.generate()
        self._turns = Turns()
        self._request = self._challenge = self._attestation = b""
        self._shown: ShownBroker | None = None

    def request(self, *, tee: str) -> bytes:
        """Return message 1; `tee` is the kind of TEE, for the broker's log."""
        self._turns.leave(State.FRESH)
        self._request = wire.encode(
            JobRequest(
                tee=tee,
                plan=encode_plan(self._plan),
                nonce=self._nonce,
                again=self._again,
                seen=0 if self._seen is None else self._seen.count,
            )
        )
        self._turns.enter(State.ASKED)
        return self._request

    def receive_challenge(self, raw: bytes, *, now: int) -> bytes:
        """Take message 2 and return the report data (64 bytes) for this job's evidence.

        The broker is trusted from here on: its evidence is fresh for our nonce, of a measurement
        that the owners in `wardian.toml` signed, and binds the CA key, the manifest and this plan.

        Args:
            raw: message 2, untrusted.
            now: Unix seconds, for the validity of the collateral.

        Raises:
            PeerProtocolError, PolicyDenied, AttestationError, AuthenticationFailed, Timeout,
            FormatError: as in `WorkloadSession.receive_challenge`.
        """
        self._turns.leave(State.ASKED)
        message = decode_or_raise(raw, JobChallenge, what="job challenge")
        self._shown = verify_broker(
            signed_manifest=message.signed_manifest,
            mesh_ca=message.mesh_ca,
            issuing_ca=message.issuing_ca,
            log=message.log,
            evidence=message.evidence,
            report_data=lambda ca_spki, manifest: broker_job_report_data(
                job_nonce=self._nonce,
                broker_nonce=message.nonce,
                ca_spki=ca_spki,
                digest=manifest.digest,
                version=manifest.manifest.version,
                plan_digest=self._digest,
            ),
            agreed=self._agreed,
            seen=self._seen,
            now=now,
        )
        self._challenge = raw
        self._turns.enter(State.CHALLENGED)
        return job_report_data(
            broker_nonce=message.nonce,
            hpke_public=self._hpke.public,
            digest=self._shown.manifest.digest,
            plan_digest=self._digest,
            again=self._again,
        )

    @property
    def shown(self) -> ShownBroker:
        """The broker of this session.

        Raises:
            LocalProtocolError: none has been verified.
        """
        if self._shown is None:
            raise LocalProtocolError("no broker has been verified in this session")
        return self._shown

    def attestation(self, evidence: Evidence) -> bytes:
        """Return message 3 with this job's `evidence`."""
        self._turns.leave(State.CHALLENGED)
        self._attestation = wire.encode(
            JobAttestation(evidence=evidence, hpke_public=self._hpke.public)
        )
        self._turns.enter(State.PROVED)
        return self._attestation

    def receive_response(self, raw: bytes, *, now: int) -> GrantedTables:
        """Take message 4 and return what was released.

        Args:
            raw: message 4, untrusted.
            now: Unix seconds.

        Raises:
            PeerProtocolError: it is neither a response nor a refusal, or releases something else
                than was asked for.
            AuthenticationFailed: not signed by the CA key that the evidence binds, over this very
                session; or not sealed to this job.
            AdmissionRefused: the broker, which was verified, refuses; the text says which owner and
                which rule.
            EvidenceInvalid, TransportError: it refuses for now; the text says why.
        """
        self._turns.leave(State.PROVED)
        shown = self.shown
        try:
            message = decode_or_raise(raw, JobResponse, what="job response")
        except PolicyDenied as err:
            raise AdmissionRefused(str(err), rule=err.rule) from err
        transcript = job_transcript(self._request, self._challenge, self._attestation)
        try:
            verify_ecdsa(
                shown.ca_spki,
                message.signature,
                job_signed_bytes(transcript, message.ciphertext),
            )
        except AuthenticationFailed as err:
            raise AuthenticationFailed(
                "the response is not signed by the broker that was attested, for this session"
            ) from err
        plaintext = self._hpke.open(message.ciphertext, info=job_info(transcript))
        return verify_granted(
            decode_job_release(plaintext),
            plan=self._plan,
            digest=self._digest,
            again=None if self._again is None else bytes.fromhex(self._again),
            shown=shown,
            now=now,
        )
