"""Both ends of one release, as pure state machines: bytes in, bytes out, or an error.

No socket, no clock, no thread: time and evidence come as arguments. A session is for one release.
Whatever goes wrong ends it, and no method can be called twice, so a nonce is used once and a
replayed message meets a session that is over. What is decided between messages 3 and 4 (is the
evidence acceptable, what may be released) is not the session's business: see `authority`.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from wardian._internal import wire
from wardian._internal.settings import Agreed
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_evidence
from wardian.broker.admission import Admission, verify_release
from wardian.broker.certificates import (
    CertificateRequest,
    build_csr,
    parse_csr,
    verify_ca_certificate,
)
from wardian.broker.manifest import VerifiedManifest, appraisal_policy, verify_manifest_for
from wardian.broker.protocol import (
    SESSION_LIFE_S,
    Attestation,
    Challenge,
    Release,
    Request,
    Response,
    broker_report_data,
    decode_release,
    encode_release,
    release_info,
    response_signed_bytes,
    transcript_digest,
    workload_report_data,
)
from wardian.broker.refusal import decode_or_raise
from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.tls_keys import TlsKey, verify_ecdsa
from wardian.errors import (
    AuthenticationFailed,
    LocalProtocolError,
    PeerProtocolError,
    Timeout,
)


class _State(enum.Enum):
    FRESH = enum.auto()
    ASKED = enum.auto()
    CHALLENGED = enum.auto()
    PROVED = enum.auto()
    DONE = enum.auto()


class _Turns:
    """Whose turn it is. Leaving a state and entering the next brackets every step.

    The state is `DONE` in between, so that a step that raises leaves a dead session behind.
    """

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = _State.FRESH

    def leave(self, state: _State) -> None:
        at, self._state = self._state, _State.DONE
        if at is not state:
            raise PeerProtocolError(
                "the message comes out of turn, or a second time: a session releases once"
            )

    def enter(self, state: _State) -> None:
        self._state = state


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
        "_nonce",
        "_opened_at",
        "_request_raw",
        "_turns",
        "manifest",
        "request",
    )

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
        self._turns = _Turns()
        self._request_raw = b""
        self._challenge = b""
        self._attestation = b""
        self._hpke_public = b""
        self._ca_certificate = b""

    def begin(
        self, raw: bytes, request: Request, *, manifest: VerifiedManifest, ca_certificate: bytes
    ) -> bytes:
        """Take message 1 and return the report data (64 bytes) for the broker's evidence.

        Args:
            raw: message 1 as it travelled.
            request: the same, decoded.
            manifest: the one in force.
            ca_certificate: the mesh CA's, DER.
        """
        self._turns.leave(_State.FRESH)
        self._request_raw, self.request = raw, request
        self.manifest, self._ca_certificate = manifest, ca_certificate
        self._turns.enter(_State.ASKED)
        return broker_report_data(
            workload_nonce=request.nonce,
            broker_nonce=self._nonce,
            ca_spki=verify_ca_certificate(ca_certificate),
            digest=manifest.digest,
            version=manifest.manifest.version,
        )

    def challenge(self, evidence: Evidence) -> bytes:
        """Return message 2 with the broker's own `evidence`."""
        self._turns.leave(_State.ASKED)
        self._challenge = wire.encode(
            Challenge(
                nonce=self._nonce,
                signed_manifest=self.manifest.signed,
                mesh_ca=self._ca_certificate,
                evidence=evidence,
            )
        )
        self._turns.enter(_State.CHALLENGED)
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
        self._turns.leave(_State.CHALLENGED)
        self._refuse_late(now)
        message = wire.decode(raw, Attestation, what="attestation")
        csr = parse_csr(message.csr)
        self._attestation, self._hpke_public = raw, message.hpke_public
        self._turns.enter(_State.PROVED)
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
        self._turns.leave(_State.PROVED)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What message 2 showed and its evidence bound."""

    raw: bytes
    message: Challenge
    manifest: VerifiedManifest
    ca_spki: bytes


class WorkloadSession:
    """The workload's end: `request`, `receive_challenge`, `attestation`, `receive_response`.

    Makes its own HPKE and TLS keys; neither leaves the process.
    """

    __slots__ = (
        "_agreed",
        "_attestation",
        "_hpke",
        "_models",
        "_names",
        "_nonce",
        "_request",
        "_role",
        "_shown",
        "_tls",
        "_turns",
    )

    def __init__(
        self,
        *,
        role: str,
        models: tuple[str, ...],
        agreed: Agreed,
        nonce: bytes,
        names: tuple[str, ...] = (),
    ) -> None:
        """Prepare to ask.

        Args:
            role: what this process is.
            models: whose secrets it wants, from `wardian.toml`.
            agreed: the measured `wardian.toml`, whose owners decide which broker is trusted.
            nonce: 32 fresh random bytes.
            names: DNS names and IP addresses for the certificate; front ends only.
        """
        self._role = role
        self._models = models
        self._agreed = agreed
        self._names = names
        self._nonce = nonce
        self._hpke = HpkePrivateKey.generate()
        self._tls = TlsKey.generate()
        self._turns = _Turns()
        self._request = b""
        self._attestation = b""
        self._shown: _Shown | None = None

    def request(self, *, tee: str) -> bytes:
        """Return message 1; `tee` is the kind of TEE, for the broker's log."""
        self._turns.leave(_State.FRESH)
        self._request = wire.encode(
            Request(role=self._role, tee=tee, models=self._models, nonce=self._nonce)
        )
        self._turns.enter(_State.ASKED)
        return self._request

    def receive_challenge(self, raw: bytes, *, now: int) -> bytes:
        """Take message 2 and return the report data (64 bytes) for this workload's evidence.

        The broker is trusted from here on: its evidence is fresh for our nonce, of a measurement
        that the owners in `wardian.toml` signed, and binds the CA key and exactly this manifest.

        Args:
            raw: message 2, untrusted.
            now: Unix seconds, for the validity of the collateral.

        Raises:
            PeerProtocolError: it is neither a challenge nor a refusal.
            PolicyDenied: the manifest, or the broker's evidence, is not acceptable.
            AttestationError: the broker's evidence is not genuine, not current, or binds another
                nonce, CA key or manifest than it shows.
            AuthenticationFailed: a signature in the manifest is wrong.
            FormatError: the manifest, the CA's certificate or the evidence does not parse.
        """
        self._turns.leave(_State.ASKED)
        message = decode_or_raise(raw, Challenge, what="challenge")
        manifest = verify_manifest_for(message.signed_manifest, agreed=self._agreed)
        ca_spki = verify_ca_certificate(message.mesh_ca)
        verify_evidence(
            message.evidence,
            policy=appraisal_policy(manifest.manifest, "broker"),
            report_data=broker_report_data(
                workload_nonce=self._nonce,
                broker_nonce=message.nonce,
                ca_spki=ca_spki,
                digest=manifest.digest,
                version=manifest.manifest.version,
            ),
            now=now,
        )
        self._shown = _Shown(raw=raw, message=message, manifest=manifest, ca_spki=ca_spki)
        self._turns.enter(_State.CHALLENGED)
        return workload_report_data(
            broker_nonce=message.nonce,
            hpke_public=self._hpke.public,
            tls_spki=self._tls.spki,
            digest=manifest.digest,
            role=self._role,
            models=self._models,
        )

    @property
    def ca_spki(self) -> bytes:
        """The mesh CA's key (DER) that the broker's evidence binds."""
        return self._verified().ca_spki

    @property
    def manifest_digest(self) -> bytes:
        """SHA-256 of the manifest that the broker's evidence binds."""
        return self._verified().manifest.digest

    def attestation(self, evidence: Evidence) -> bytes:
        """Return message 3 with this workload's `evidence`."""
        self._turns.leave(_State.CHALLENGED)
        self._attestation = wire.encode(
            Attestation(
                evidence=evidence,
                hpke_public=self._hpke.public,
                csr=build_csr(self._tls, names=self._names),
            )
        )
        self._turns.enter(_State.PROVED)
        return self._attestation

    def receive_response(self, raw: bytes, *, now: int) -> Admission:
        """Take message 4 and return what was released.

        Args:
            raw: message 4, untrusted.
            now: Unix seconds, for the validity of the certificate.

        Raises:
            PeerProtocolError: it is neither a response nor a refusal, or releases something else
                than was asked for.
            AuthenticationFailed: not signed by the CA key that the evidence binds, over this very
                session; or not sealed to this workload.
            PolicyDenied, EvidenceInvalid, TransportError: the broker refuses; the text says why.
        """
        self._turns.leave(_State.PROVED)
        shown = self._verified()
        message = decode_or_raise(raw, Response, what="response")
        transcript = transcript_digest(self._request, shown.raw, self._attestation)
        try:
            verify_ecdsa(
                shown.ca_spki,
                message.signature,
                response_signed_bytes(transcript, message.ciphertext),
            )
        except AuthenticationFailed as err:
            raise AuthenticationFailed(
                "the response is not signed by the broker that was attested, for this session"
            ) from err
        plaintext = self._hpke.open(message.ciphertext, info=release_info(transcript))
        return verify_release(
            decode_release(plaintext),
            role=self._role,
            models=self._models,
            manifest=shown.manifest,
            mesh_ca=shown.message.mesh_ca,
            tls_key=self._tls,
            now=now,
        )

    def _verified(self) -> _Shown:
        if self._shown is None:
            raise LocalProtocolError("no broker has been verified in this session")
        return self._shown
