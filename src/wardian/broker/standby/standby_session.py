"""The standby's end of becoming one, as a pure state machine: bytes in, bytes out, or an error.

No socket, clock or thread. The active is verified before the standby's own evidence is made: its
evidence against the manifest, the manifest against the owners in the measured `wardian.toml`, and
against the newest one that was known here before.
"""

from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from wardian._internal.agreed import Agreed
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_evidence
from wardian.broker.certificates import BROKER, verify_ca_certificate
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest_for
from wardian.broker.session.asking import AskingEnd
from wardian.broker.standby.messages import (
    STANDBY_SESSION,
    Keys,
    StandbyChallenge,
    StandbyHello,
    StandbyProof,
    Wish,
    active_report_data,
    decode_keys,
    standby_report_data,
)
from wardian.errors import LocalProtocolError, PolicyDenied

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


class StandbySession(AskingEnd[StandbyChallenge, StandbyProof]):
    """The standby's end: `hello`, `receive_challenge`, `proof`, `receive_answer`, once each."""

    __slots__ = ("_agreed", "_ca_spki", "_wish")

    def __init__(self, *, wish: Wish, agreed: Agreed, nonce: bytes) -> None:
        """Prepare to ask.

        Args:
            wish: what is wanted.
            agreed: the measured `wardian.toml`, whose owners decide which broker is trusted.
            nonce: 32 fresh random bytes.
        """
        super().__init__(STANDBY_SESSION, nonce=nonce)
        self._wish, self._agreed = wish, agreed
        self._ca_spki: bytes | None = None

    def hello(self, *, tee: str) -> bytes:
        """Return message 1; `tee` is the kind of TEE, for the active's log."""
        return self._ask(StandbyHello(wish=self._wish, tee=tee, nonce=self._nonce))

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
        with self._verifying(raw) as message:
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
            _refuse_older(manifest, known)  # last: who carries the bytes does not bring it about
            self._ca_spki = ca_spki
        return standby_report_data(
            wish=self._wish,
            active_nonce=message.nonce,
            hpke_public=self._hpke.public,
            ca_spki=ca_spki,
            digest=manifest.digest,
        )

    @property
    @override
    def ca_spki(self) -> bytes:
        if self._ca_spki is None:
            raise LocalProtocolError("no active broker has been verified in this session")
        return self._ca_spki

    def proof(self, evidence: Evidence) -> bytes:
        """Return message 3 with this standby's `evidence`."""
        return self.attestation(evidence)

    def receive_answer(self, raw: bytes) -> Keys:
        """Take message 4 and return the keys.

        Args:
            raw: message 4, untrusted.

        Raises:
            FormatError: what is sealed in it are no keys; else as in `AskingEnd._open`.
        """
        return decode_keys(self._open(raw))


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
