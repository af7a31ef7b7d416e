"""The active's end of becoming a standby, as a pure state machine: bytes in, bytes or an error out.

No socket, clock or thread.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.release.protocol import SESSION_LIFE_S
from wardian.broker.release.turns import State, Turns
from wardian.broker.standby.messages import (
    SESSION_BYTES,
    StandbyAnswer,
    StandbyChallenge,
    StandbyHello,
    StandbyProof,
    active_report_data,
    answer_info,
    answer_signed_bytes,
    encode_keys,
    standby_report_data,
    transcript_digest,
)
from wardian.crypto.hpke import hpke_seal
from wardian.crypto.secret import Secret
from wardian.errors import Timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Message 3, parsed; nothing in it is believed yet.

    Attributes:
        evidence: to be verified against `report_data`.
        report_data: the 64 bytes that the evidence must bind.
    """

    evidence: Evidence
    report_data: bytes


class ActiveSession:
    """The active's end: `begin`, `challenge`, `receive`, `answer`, in this order, once each."""

    __slots__ = (
        "_ca_certificate",
        "_ca_spki",
        "_challenge",
        "_hello",
        "_hpke_public",
        "_manifest",
        "_nonce",
        "_opened_at",
        "_proof",
        "_raw",
        "_turns",
        "presented",
        "session",
        "session_key",
    )

    presented: Evidence | None
    """The standby's evidence, as soon as it came; believed by nobody here."""
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
        self._raw, self._hello = raw, hello
        self._manifest, self._ca_certificate = manifest, ca_certificate
        self._ca_spki = verify_ca_certificate(ca_certificate)
        self._opened_at = opened_at
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._challenge = self._proof = self._hpke_public = b""
        self._turns = Turns()
        self.presented = None
        self.session = secrets.token_bytes(SESSION_BYTES)
        self.session_key = Secret.random()

    def report_data(self) -> bytes:
        """Return the 64 bytes for the active's evidence."""
        self._turns.leave(State.FRESH)
        self._turns.enter(State.ASKED)
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
        self._turns.leave(State.ASKED)
        self._challenge = wire.encode(
            StandbyChallenge(
                nonce=self._nonce,
                signed_manifest=self._manifest.signed,
                mesh_ca=self._ca_certificate,
                evidence=evidence,
            )
        )
        self._turns.enter(State.CHALLENGED)
        return self._challenge

    def receive(self, raw: bytes, *, now: float) -> Proof:
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
        message = wire.decode(raw, StandbyProof, what="standby proof")
        self.presented = message.evidence
        self._proof, self._hpke_public = raw, message.hpke_public
        self._turns.enter(State.PROVED)
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
            FormatError: the standby's HPKE key is no usable key.
            Timeout: the session is too old.
        """
        self._turns.leave(State.PROVED)
        self._refuse_late(now)
        transcript = transcript_digest(self._raw, self._challenge, self._proof)
        plaintext = encode_keys(
            master_key=master_key, session=self.session, session_key=self.session_key
        )
        ciphertext = hpke_seal(self._hpke_public, plaintext, info=answer_info(transcript))
        signature = sign(answer_signed_bytes(transcript, ciphertext))
        return wire.encode(StandbyAnswer(ciphertext=ciphertext, signature=signature))

    def _refuse_late(self, now: float) -> None:
        if not 0 <= now - self._opened_at <= SESSION_LIFE_S:
            raise Timeout(f"the session is over: it lives {SESSION_LIFE_S} s")
