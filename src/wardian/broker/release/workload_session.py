"""The workload's end of one release, as a pure state machine: bytes in, bytes out, or an error.

No socket, no clock, no thread. The broker is verified before this process's own evidence is made:
its evidence against the manifest, the manifest against the owners in the measured `wardian.toml`.
"""

from dataclasses import dataclass

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import build_csr
from wardian.broker.refusal import decode_or_raise
from wardian.broker.release.admission import Admission, verify_release
from wardian.broker.release.protocol import (
    Attestation,
    Challenge,
    Request,
    Response,
    broker_report_data,
    decode_release,
    release_info,
    response_signed_bytes,
    transcript_digest,
    workload_report_data,
)
from wardian.broker.release.shown import ShownBroker, verify_broker
from wardian.broker.release.turns import State, Turns
from wardian.broker.state.audit import AuditHead
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.tls_keys import TlsKey, verify_ecdsa
from wardian.errors import (
    AdmissionRefused,
    AuthenticationFailed,
    LocalProtocolError,
    PolicyDenied,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What message 2 showed and its evidence bound."""

    raw: bytes
    message: Challenge
    broker: ShownBroker


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
        "_queue_access",
        "_renewal",
        "_request",
        "_role",
        "_seen",
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
        self._role = role
        self._models = models
        self._agreed = agreed
        self._names = names
        self._renewal, self._seen = renewal, seen
        self._queue_access = queue_access
        self._nonce = nonce
        self._hpke = HpkePrivateKey.generate()
        self._tls = TlsKey.generate()
        self._turns = Turns()
        self._request = b""
        self._attestation = b""
        self._shown: _Shown | None = None

    def request(self, *, tee: str) -> bytes:
        """Return message 1; `tee` is the kind of TEE, for the broker's log."""
        self._turns.leave(State.FRESH)
        self._request = wire.encode(
            Request(
                role=self._role,
                tee=tee,
                models=self._models,
                nonce=self._nonce,
                renewal=self._renewal,
                seen=0 if self._seen is None else self._seen.count,
                queue_access=self._queue_access,
            )
        )
        self._turns.enter(State.ASKED)
        return self._request

    def receive_challenge(self, raw: bytes, *, now: int) -> bytes:
        """Take message 2 and return the report data (64 bytes) for this workload's evidence.

        The broker is trusted from here on: its evidence is fresh for our nonce, of a measurement
        that the owners in `wardian.toml` signed, and binds the CA key and exactly this manifest.
        Its audit log goes on from the one seen before and is witnessed as `wardian.toml` demands.

        Args:
            raw: message 2, untrusted.
            now: Unix seconds, for the validity of the collateral.

        Raises:
            PeerProtocolError: it is neither a challenge nor a refusal.
            PolicyDenied: the manifest, or the broker's evidence, is not acceptable.
            AttestationError: the broker's evidence is not genuine, not current, or binds another
                nonce, CA key or manifest than it shows.
            AuthenticationFailed: a signature in the manifest is wrong, or the audit log forked.
            Timeout: too few witnesses have seen the log lately: ask again when they have.
            EvidenceStale: the issuing CA's certificate is over.
            FormatError: the manifest, a CA's certificate or the evidence does not parse.
        """
        self._turns.leave(State.ASKED)
        message = decode_or_raise(raw, Challenge, what="challenge")
        broker = verify_broker(
            signed_manifest=message.signed_manifest,
            mesh_ca=message.mesh_ca,
            issuing_ca=message.issuing_ca,
            log=message.log,
            evidence=message.evidence,
            report_data=lambda ca_spki, manifest: broker_report_data(
                workload_nonce=self._nonce,
                broker_nonce=message.nonce,
                ca_spki=ca_spki,
                digest=manifest.digest,
                version=manifest.manifest.version,
            ),
            agreed=self._agreed,
            seen=self._seen,
            now=now,
        )
        self._shown = _Shown(raw=raw, message=message, broker=broker)
        self._turns.enter(State.CHALLENGED)
        return workload_report_data(
            broker_nonce=message.nonce,
            hpke_public=self._hpke.public,
            tls_spki=self._tls.spki,
            digest=broker.manifest.digest,
            role=self._role,
            models=self._models,
            renewal=self._renewal,
        )

    @property
    def ca_spki(self) -> bytes:
        """The mesh CA's key (DER) that the broker's evidence binds."""
        return self._verified().broker.ca_spki

    @property
    def issuer_spki(self) -> bytes:
        """The key (DER) of the CA that issues under the manifest that was shown."""
        return self._verified().broker.issuer_spki

    @property
    def manifest_digest(self) -> bytes:
        """SHA-256 of the manifest that the broker's evidence binds."""
        return self._verified().broker.manifest.digest

    def attestation(self, evidence: Evidence) -> bytes:
        """Return message 3 with this workload's `evidence`."""
        self._turns.leave(State.CHALLENGED)
        self._attestation = wire.encode(
            Attestation(
                evidence=evidence,
                hpke_public=self._hpke.public,
                csr=build_csr(self._tls, names=self._names),
            )
        )
        self._turns.enter(State.PROVED)
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
            AdmissionRefused: the broker, which was verified before it was shown any evidence, does
                not admit this workload; the text says why.
            EvidenceInvalid, TransportError: it refuses for now; the text says why.
        """
        self._turns.leave(State.PROVED)
        shown = self._verified()
        try:
            message = decode_or_raise(raw, Response, what="response")
        except PolicyDenied as err:
            raise AdmissionRefused(str(err), rule=err.rule) from err
        transcript = transcript_digest(self._request, shown.raw, self._attestation)
        try:
            verify_ecdsa(
                shown.broker.ca_spki,
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
            manifest=shown.broker.manifest,
            mesh_ca=shown.message.mesh_ca,
            issuing_ca=shown.message.issuing_ca,
            tls_key=self._tls,
            renewal=self._renewal,
            queue_access=self._queue_access,
            logged=shown.broker.audit,
            now=now,
        )

    def _verified(self) -> _Shown:
        if self._shown is None:
            raise LocalProtocolError("no broker has been verified in this session")
        return self._shown
