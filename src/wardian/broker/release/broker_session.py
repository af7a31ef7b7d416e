"""The broker's end of one release, as a pure state machine: bytes in, bytes out, or an error.

No socket, no clock, no thread: time and evidence come as arguments. What is decided between
messages 3 and 4 (is the evidence acceptable, what may be released) is not the session's business:
see `authority`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import (
    CertificateRequest,
    parse_csr,
    verify_ca_certificate,
)
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.release.protocol import (
    SESSION_LIFE_S,
    Attestation,
    Challenge,
    Release,
    Request,
    Response,
    broker_report_data,
    encode_release,
    release_info,
    response_signed_bytes,
    transcript_digest,
    workload_report_data,
)
from wardian.broker.release.turns import State, Turns
from wardian.broker.transparency.following import ShownLog
from wardian.crypto.hpke import hpke_seal
from wardian.errors import (
    Timeout,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadProof:
    """Message 3, parsed; nothing in it is believed yet.

    Attributes:
        evidence: to be verified against `report_data`.
        report_data: the 64 bytes that the evidence must bind, computed here from this session's
            nonce and from what the workload sent.
        certificate_request: its signature verified, its key not yet bound to any evidence.
    """

    evidence: Evidence
    report_data: bytes
    certificate_request: CertificateRequest


class BrokerSession:
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
        "logged",
        "manifest",
        "presented",
        "request",
    )

    logged: int
    """How many lines of the audit log the workload was shown; set by `challenge`."""
    presented: Evidence | None
    """The workload's evidence, as soon as it came; believed by nobody here."""

    manifest: VerifiedManifest
    """The manifest that the workload is shown; set by `begin`."""
    request: Request
    """Message 1; set by `begin`."""

    def __init__(self, *, nonce: bytes, opened_at: float) -> None:
        """Open a session.

        Args:
            nonce: 32 fresh random bytes, for this session alone.
            opened_at: seconds of a clock that never goes back.
        """
        self._nonce = nonce
        self._opened_at = opened_at
        self._turns = Turns()
        self._request_raw = b""
        self._challenge = b""
        self._attestation = b""
        self._hpke_public = b""
        self._ca_certificate = b""
        self._issuing_certificate = b""
        self.presented = None

    def begin(
        self,
        raw: bytes,
        request: Request,
        *,
        manifest: VerifiedManifest,
        ca_certificate: bytes,
        issuing_certificate: bytes,
    ) -> bytes:
        """Take message 1 and return the report data (64 bytes) for the broker's evidence.

        Args:
            raw: message 1 as it travelled.
            request: the same, decoded.
            manifest: the one in force.
            ca_certificate: the mesh CA's, DER.
            issuing_certificate: of the CA that issues under that manifest, DER.
        """
        self._turns.leave(State.FRESH)
        self._request_raw, self.request = raw, request
        self.manifest, self._ca_certificate = manifest, ca_certificate
        self._issuing_certificate = issuing_certificate
        self._turns.enter(State.ASKED)
        return broker_report_data(
            workload_nonce=request.nonce,
            broker_nonce=self._nonce,
            ca_spki=verify_ca_certificate(ca_certificate),
            digest=manifest.digest,
            version=manifest.manifest.version,
        )

    def challenge(self, evidence: Evidence, *, log: ShownLog) -> bytes:
        """Return message 2.

        Args:
            evidence: the broker's own.
            log: the audit log as it is now, shown to who has seen `Request.seen` lines of it.
        """
        self._turns.leave(State.ASKED)
        self._challenge = wire.encode(
            Challenge(
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

    def receive(self, raw: bytes, *, now: float) -> WorkloadProof:
        """Take message 3 and return what has to be verified.

        Args:
            raw: message 3, untrusted.
            now: seconds of the clock of `opened_at`.

        Raises:
            FormatError: it does not parse.
            AuthenticationFailed: the certificate request is not signed by its own key.
            Timeout: the session is too old.
            PeerProtocolError: out of turn, or a second time.
        """
        self._turns.leave(State.CHALLENGED)
        self._refuse_late(now)
        message = wire.decode(raw, Attestation, what="attestation")
        self.presented = message.evidence
        csr = parse_csr(message.csr)
        self._attestation, self._hpke_public = raw, message.hpke_public
        self._turns.enter(State.PROVED)
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

    def respond(self, release: Release, *, sign: Callable[[bytes], bytes], now: float) -> bytes:
        """Return message 4: `release` sealed to the workload's key, signed by the mesh CA key.

        Args:
            release: what was decided after the evidence was verified.
            sign: signs with the key whose SPKI the broker's evidence binds.
            now: seconds of the clock of `opened_at`.

        Raises:
            FormatError: the workload's HPKE key is no usable key.
            Timeout: the session is too old.
        """
        self._turns.leave(State.PROVED)
        self._refuse_late(now)
        transcript = transcript_digest(self._request_raw, self._challenge, self._attestation)
        ciphertext = hpke_seal(
            self._hpke_public, encode_release(release), info=release_info(transcript)
        )
        signature = sign(response_signed_bytes(transcript, ciphertext))
        return wire.encode(Response(ciphertext=ciphertext, signature=signature))

    def _refuse_late(self, now: float) -> None:
        if not 0 <= now - self._opened_at <= SESSION_LIFE_S:
            raise Timeout(f"the session is over: it lives {SESSION_LIFE_S} s")
