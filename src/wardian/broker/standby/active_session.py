"""The active's end of becoming a standby, as a pure state machine: bytes in, bytes out."""

import secrets
from collections.abc import Callable

from typing_extensions import override

from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.session.answering import AnsweringEnd, Proof
from wardian.broker.standby.messages import (
    SESSION_BYTES,
    STANDBY_SESSION,
    StandbyChallenge,
    StandbyHello,
    StandbyProof,
    active_report_data,
    encode_keys,
    standby_report_data,
)
from wardian.crypto.secret import Secret


class ActiveSession(AnsweringEnd[StandbyChallenge, StandbyProof, Proof]):
    """The active's end: `report_data`, `challenge`, `receive`, `answer`, once each."""

    __slots__ = (
        "_ca_certificate",
        "_ca_spki",
        "_hello",
        "_manifest",
        "_raw",
        "session",
        "session_key",
    )

    session: bytes
    """16 bytes that name the session to both ends, and to nobody else."""
    session_key: Secret
    """32 bytes; see `channel`."""

    def __init__(
        self,
        raw: bytes,
        hello: StandbyHello,
        *,
        manifest: VerifiedManifest,
        ca_certificate: bytes,
        opened_at: float,
    ) -> None:
        """Begin with message 1.

        Args:
            raw: message 1 as it travelled.
            hello: the same, decoded.
            manifest: the one in force.
            ca_certificate: the mesh CA's, DER.
            opened_at: seconds of a clock that never goes back.
        """
        super().__init__(
            STANDBY_SESSION, nonce=secrets.token_bytes(NONCE_BYTES), opened_at=opened_at
        )
        self._raw, self._hello = raw, hello
        self._manifest, self._ca_certificate = manifest, ca_certificate
        self._ca_spki = verify_ca_certificate(ca_certificate)
        self.session = secrets.token_bytes(SESSION_BYTES)
        self.session_key = Secret.random()

    def report_data(self) -> bytes:
        """Return the 64 bytes for the active's evidence."""
        self._begin(self._raw)
        return active_report_data(
            wish=self._hello.wish,
            standby_nonce=self._hello.nonce,
            active_nonce=self._nonce,
            ca_spki=self._ca_spki,
            digest=self._manifest.digest,
            version=self._manifest.manifest.version,
        )

    def challenge(self, evidence: Evidence) -> bytes:
        """Return message 2 with the active's own `evidence`."""
        return self._show(
            lambda: StandbyChallenge(
                nonce=self._nonce,
                signed_manifest=self._manifest.signed,
                mesh_ca=self._ca_certificate,
                evidence=evidence,
            )
        )

    @override
    def _proof(self, message: StandbyProof) -> Proof:
        return Proof(
            evidence=message.evidence,
            report_data=standby_report_data(
                wish=self._hello.wish,
                active_nonce=self._nonce,
                hpke_public=message.hpke_public,
                ca_spki=self._ca_spki,
                digest=self._manifest.digest,
            ),
        )

    def answer(self, master_key: Secret, *, sign: Callable[[bytes], bytes], now: float) -> bytes:
        """Return message 4: the keys sealed to the standby, signed by the mesh CA key.

        Args:
            master_key: what this standby may have of it, after its evidence was verified.
            sign: signs with the key whose SPKI the active's evidence binds.
            now: seconds of the clock of `opened_at`.

        Raises:
            FormatError, Timeout, PeerProtocolError: as in `AnsweringEnd._seal`.
        """
        return self._seal(
            lambda: encode_keys(
                master_key=master_key, session=self.session, session_key=self.session_key
            ),
            sign=sign,
            now=now,
        )
