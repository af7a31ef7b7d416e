"""The standby's end of becoming one, as a pure state machine: bytes in, bytes out, or an error.

No socket, clock or thread. The active is verified before the standby's own evidence is made: its
evidence against the manifest, the manifest against the owners in the measured `wardian.toml`, and
against the newest one that was known here before.
"""

from dataclasses import dataclass
from typing import Final

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_evidence
from wardian.broker.certificates import BROKER, verify_ca_certificate
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest_for
from wardian.broker.refusal import decode_or_raise
from wardian.broker.release.turns import State, Turns
from wardian.broker.standby.messages import (
    Keys,
    StandbyAnswer,
    StandbyChallenge,
    StandbyHello,
    StandbyProof,
    Wish,
    active_report_data,
    answer_info,
    answer_signed_bytes,
    decode_keys,
    standby_report_data,
    transcript_digest,
)
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.tls_keys import verify_ecdsa
from wardian.errors import AuthenticationFailed, LocalProtocolError, PolicyDenied

MANIFEST_RULE: Final = "standby-manifest"
"""What refuses an active under a manifest of before the one that is known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownManifest:
    """The manifest in the state that lies here: the mesh was at least as far once.

    Attributes:
        version: of the manifest.
        digest: SHA-256, 32 bytes.
    """

    version: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What message 2 showed and its evidence bound."""

    raw: bytes
    ca_spki: bytes


class StandbySession:
    """The standby's end: `hello`, `receive_challenge`, `proof`, `receive_answer`, once each."""

    __slots__ = ("_agreed", "_hello", "_hpke", "_nonce", "_proof", "_shown", "_turns", "_wish")

    def __init__(self, *, wish: Wish, agreed: Agreed, nonce: bytes) -> None:
        """Prepare to ask.

        Args:
            wish: what is wanted.
            agreed: the measured `wardian.toml`, whose owners decide which broker is trusted.
            nonce: 32 fresh random bytes.
        """
        self._wish, self._agreed, self._nonce = wish, agreed, nonce
        self._hpke = HpkePrivateKey.generate()
        self._hello = self._proof = b""
        self._shown: _Shown | None = None
        self._turns = Turns()

    def hello(self, *, tee: str) -> bytes:
        """Return message 1; `tee` is the kind of TEE, for the active's log."""
        self._turns.leave(State.FRESH)
        self._hello = wire.encode(StandbyHello(wish=self._wish, tee=tee, nonce=self._nonce))
        self._turns.enter(State.ASKED)
        return self._hello

    def receive_challenge(self, raw: bytes, *, now: int, known: KnownManifest | None) -> bytes:
        """Take message 2 and return the report data (64 bytes) for the standby's evidence.

        The active is trusted from here on: its evidence is fresh for our nonce, of a measurement
        that the owners in `wardian.toml` signed, and binds the CA key and exactly this manifest,
        which is not older than the one that is known here.

        Args:
            raw: message 2, untrusted.
            now: Unix seconds, for the validity of the collateral.
            known: the manifest in the state that lies here; None on a fresh machine, where any
                manifest that the owners ever signed is believed. What refuses an old state there
                is its counter, and the heads that owners remember.

        Raises:
            PeerProtocolError: it is neither a challenge nor a refusal.
            PolicyDenied: the manifest, or the active's evidence, is not acceptable; or the active
                is attested, under a manifest of before (rule `standby-manifest`).
            AttestationError: the active's evidence is not genuine, not current, or binds another
                nonce, CA key or manifest than it shows.
            AuthenticationFailed: a signature in the manifest is wrong.
            FormatError: the manifest, the CA's certificate or the evidence does not parse.
        """
        self._turns.leave(State.ASKED)
        message = decode_or_raise(raw, StandbyChallenge, what="standby challenge")
        manifest = verify_manifest_for(message.signed_manifest, agreed=self._agreed)
        ca_spki = verify_ca_certificate(message.mesh_ca)
        verify_evidence(
            message.evidence,
            policy=appraisal_policy(manifest.manifest, BROKER),
            report_data=active_report_data(
                wish=self._wish,
                standby_nonce=self._nonce,
                active_nonce=message.nonce,
                ca_spki=ca_spki,
                digest=manifest.digest,
                version=manifest.manifest.version,
            ),
            now=now,
        )
        _refuse_older(manifest, known)  # last: whoever carries the bytes does not bring it about
        self._shown = _Shown(raw=raw, ca_spki=ca_spki)
        self._turns.enter(State.CHALLENGED)
        return standby_report_data(
            wish=self._wish,
            active_nonce=message.nonce,
            hpke_public=self._hpke.public,
            ca_spki=ca_spki,
            digest=manifest.digest,
        )

    @property
    def ca_spki(self) -> bytes:
        """The mesh CA's key (DER) that the active's evidence binds."""
        return self._verified().ca_spki

    def proof(self, evidence: Evidence) -> bytes:
        """Return message 3 with this standby's `evidence`."""
        self._turns.leave(State.CHALLENGED)
        self._proof = wire.encode(StandbyProof(evidence=evidence, hpke_public=self._hpke.public))
        self._turns.enter(State.PROVED)
        return self._proof

    def receive_answer(self, raw: bytes) -> Keys:
        """Take message 4 and return the keys.

        Args:
            raw: message 4, untrusted.

        Raises:
            PeerProtocolError: it is neither an answer nor a refusal.
            AuthenticationFailed: not signed by the CA key that the evidence binds, over this very
                session; or not sealed to this standby.
            PolicyDenied, EvidenceInvalid, TransportError: the active refuses; the text says why.
        """
        self._turns.leave(State.PROVED)
        shown = self._verified()
        message = decode_or_raise(raw, StandbyAnswer, what="standby answer")
        transcript = transcript_digest(self._hello, shown.raw, self._proof)
        try:
            verify_ecdsa(
                shown.ca_spki,
                message.signature,
                answer_signed_bytes(transcript, message.ciphertext),
            )
        except AuthenticationFailed as err:
            raise AuthenticationFailed(
                "the answer is not signed by the broker that was attested, for this session"
            ) from err
        return decode_keys(self._hpke.open(message.ciphertext, info=answer_info(transcript)))

    def _verified(self) -> _Shown:
        if self._shown is None:
            raise LocalProtocolError("no active broker has been verified in this session")
        return self._shown


def _refuse_older(manifest: VerifiedManifest, known: KnownManifest | None) -> None:
    """Return if `manifest` is `known`, or of a higher version.

    Raises:
        PolicyDenied: it is not (rule `standby-manifest`): the owners may have withdrawn since what
            it lists, this very broker for example.
    """
    version = manifest.manifest.version
    if known is None or version > known.version:
        return
    if version < known.version:
        raise PolicyDenied(
            f"the other broker is under manifest version {version}, and the state here under "
            f"{known.version}: it is not the newest",
            rule=MANIFEST_RULE,
        )
    if manifest.digest != known.digest:
        raise PolicyDenied(
            f"the other broker is under another manifest of version {version} than the state here",
            rule=MANIFEST_RULE,
        )
