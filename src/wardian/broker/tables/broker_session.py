"""The broker's end of a job's four messages, pure: bytes in, bytes out, or an error.

No socket, no clock, no thread. What is decided between messages 3 and 4 is not the session's
business: see `releases`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.release.protocol import SESSION_LIFE_S
from wardian.broker.release.turns import State, Turns
from wardian.broker.tables.asked import AskedPlan
from wardian.broker.tables.content import JobRelease, encode_job_release
from wardian.broker.tables.protocol import (
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
from wardian.broker.transparency.following import ShownLog
from wardian.crypto.hpke import hpke_seal
from wardian.errors import Timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProof:
    """Message 3, parsed; nothing in it is believed yet.

    Attributes:
        evidence: to be verified against `report_data`.
        report_data: the 64 bytes that the evidence must bind, computed here from this session's
            nonce, the plan that came in message 1, and the key that came in message 3.
    """

    evidence: Evidence
    report_data: bytes


class BrokerJobSession:
    """The broker's end: `begin`, `challenge`, `receive`, `respond`, in this order, once each."""

    __slots__ = (
        "_attestation",
        "_ca_certificate",
        "_challenge",
        "_hpke_public",
        "_issuing_certificate",
        "_nonce",
        "_opened_at",
        "_request_raw",
        "_turns",
        "asked",
        "logged",
        "manifest",
        "presented",
        "request",
    )

    asked: AskedPlan
    """The plan of message 1; set by `begin`, as are `manifest`, which the job is shown, and
    `request`."""
    logged: int
    """How many lines of the audit log the job was shown; set by `challenge`."""
    manifest: VerifiedManifest
    presented: Evidence | None
    """The job's evidence, as soon as it came; believed by nobody here."""
    request: JobRequest

    def __init__(self, *, nonce: bytes, opened_at: float) -> None:
        """Open a session.

        Args:
            nonce: 32 fresh random bytes, for this session alone.
            opened_at: seconds of a clock that never goes back.
        """
        self._nonce, self._opened_at = nonce, opened_at
        self._turns = Turns()
        self._request_raw = self._challenge = self._attestation = b""
        self._hpke_public = b""
        self._ca_certificate = self._issuing_certificate = b""
        self.presented = None

    def begin(
        self,
        raw: bytes,
        request: JobRequest,
        *,
        asked: AskedPlan,
        manifest: VerifiedManifest,
        ca_certificate: bytes,
        issuing_certificate: bytes,
    ) -> bytes:
        """Take message 1 and return the report data (64 bytes) for the broker's evidence.

        Args:
            raw: message 1 as it travelled.
            request: the same, decoded.
            asked: the plan in it, of `read_asked`.
            manifest: the one in force.
            ca_certificate: the mesh CA's, DER.
            issuing_certificate: of the CA that issues under that manifest, DER.
        """
        self._turns.leave(State.FRESH)
        self._request_raw, self.request, self.asked = raw, request, asked
        self.manifest, self._ca_certificate = manifest, ca_certificate
        self._issuing_certificate = issuing_certificate
        self._turns.enter(State.ASKED)
        return broker_job_report_data(
            job_nonce=request.nonce,
            broker_nonce=self._nonce,
            ca_spki=verify_ca_certificate(ca_certificate),
            digest=manifest.digest,
            version=manifest.manifest.version,
            plan_digest=asked.digest,
        )

    def challenge(self, evidence: Evidence, *, log: ShownLog) -> bytes:
        """Return message 2.

        Args:
            evidence: the broker's own.
            log: the audit log as it is now, shown to who has seen `JobRequest.seen` lines of it.
        """
        self._turns.leave(State.ASKED)
        self._challenge = wire.encode(
            JobChallenge(
                nonce=self._nonce,
                signed_manifest=self.manifest.signed,
                mesh_ca=self._ca_certificate,
                issuing_ca=self._issuing_certificate,
                evidence=evidence,
                log=log,
            )
        )
        self.logged = log.witnessed.head.audit.count
        self._turns.enter(State.CHALLENGED)
        return self._challenge

    def receive(self, raw: bytes, *, now: float) -> JobProof:
        """Take message 3 and return what has to be verified.

        Args:
            raw: message 3, untrusted.
            now: seconds of the clock of `opened_at`.

        Raises:
            FormatError: it does not parse.
            Timeout: the session is too old.
            PeerProtocolError: out of turn, or a second time.
        """
        self._turns.leave(State.CHALLENGED)
        self._refuse_late(now)
        message = wire.decode(raw, JobAttestation, what="job attestation")
        self.presented = message.evidence
        self._attestation, self._hpke_public = raw, message.hpke_public
        self._turns.enter(State.PROVED)
        return JobProof(
            evidence=message.evidence,
            report_data=job_report_data(
                broker_nonce=self._nonce,
                hpke_public=message.hpke_public,
                digest=self.manifest.digest,
                plan_digest=self.asked.digest,
                again=self.request.again,
            ),
        )

    def respond(self, release: JobRelease, *, sign: Callable[[bytes], bytes], now: float) -> bytes:
        """Return message 4: `release` sealed to the job's key, signed by the mesh CA key.

        Args:
            release: what was decided after the evidence was verified.
            sign: signs with the key whose SPKI the broker's evidence binds.
            now: seconds of the clock of `opened_at`.

        Raises:
            FormatError: the job's HPKE key is no usable key.
            Timeout: the session is too old.
        """
        self._turns.leave(State.PROVED)
        self._refuse_late(now)
        transcript = job_transcript(self._request_raw, self._challenge, self._attestation)
        ciphertext = hpke_seal(
            self._hpke_public, encode_job_release(release), info=job_info(transcript)
        )
        signature = sign(job_signed_bytes(transcript, ciphertext))
        return wire.encode(JobResponse(ciphertext=ciphertext, signature=signature))

    def _refuse_late(self, now: float) -> None:
        if not 0 <= now - self._opened_at <= SESSION_LIFE_S:
            raise Timeout(f"the session is over: it lives {SESSION_LIFE_S} s")
