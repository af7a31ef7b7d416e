"""Both ends of an owner's visit to a broker that is to be recovered, pure: bytes in, bytes out."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from wardian._internal import wire
from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.evidence import Evidence
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.recovery.package import RecoveryPackage, open_part, verify_package
from wardian.broker.recovery.protocol import (
    Contribution,
    RecoveryChallenge,
    RecoveryHello,
    RecoveryShare,
    decode_contribution,
    encode_contribution,
    recovery_report_data,
    recovery_transcript,
    share_info,
    share_signed_bytes,
)
from wardian.broker.refusal import decode_or_raise
from wardian.broker.transparency.heads import SignedHead
from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.signing import Signer, verify_signature
from wardian.errors import AuthenticationFailed, LocalProtocolError, PeerProtocolError, PolicyDenied


class BrokerVisit:
    """The broker's end: `report_data`, `challenge`, `receive`, in this order, once each."""

    __slots__ = ("_agreed_digest", "_challenge", "_hpke", "_nonce", "_package", "_raw", "_waits",
                 "owner")  # fmt: skip

    owner: str
    """Who says to speak; believed when `receive` returned."""

    def __init__(
        self,
        raw: bytes,
        hello: RecoveryHello,
        *,
        package: RecoveryPackage,
        agreed_digest: bytes,
        waits: bool,
    ) -> None:
        """Begin with message 1.

        Args:
            raw: message 1 as it travelled.
            hello: the same, decoded.
            package: whose part is wanted.
            agreed_digest: SHA-256 of the measured `wardian.toml`.
            waits: whether this broker has no key of its state yet.
        """
        self.owner = hello.owner
        self._raw, self._package, self._waits = raw, package, waits
        self._agreed_digest, self._nonce = agreed_digest, secrets.token_bytes(NONCE_BYTES)
        self._hpke = HpkePrivateKey.generate()
        self._challenge = b""

    def report_data(self) -> bytes:
        """Return the 64 bytes for the broker's evidence."""
        hello = wire.decode(self._raw, RecoveryHello, what="recovery hello")
        return recovery_report_data(
            owner_nonce=hello.nonce,
            broker_nonce=self._nonce,
            hpke_public=self._hpke.public,
            package_digest=self._package.digest,
            agreed_digest=self._agreed_digest,
            waits=self._waits,
        )

    def challenge(self, evidence: Evidence) -> bytes:
        """Return message 2."""
        self._challenge = wire.encode(
            RecoveryChallenge(
                nonce=self._nonce,
                hpke_public=self._hpke.public,
                package=self._package,
                agreed_digest=self._agreed_digest.hex(),
                waits=self._waits,
                evidence=evidence,
            )
        )
        return self._challenge

    def receive(self, raw: bytes) -> Contribution:
        """Return what message 3 brings, signed by the owner who said hello.

        Whether that owner is one of the mesh's is for the caller to know beforehand.

        Raises:
            FormatError: it does not parse.
            AuthenticationFailed: not signed by that owner for this session, or not sealed to it.
            PeerProtocolError: out of turn, or a second time.
        """
        if not self._challenge:
            raise PeerProtocolError("the message comes out of turn, or a second time")
        transcript, self._challenge = recovery_transcript(self._raw, self._challenge), b""
        message = wire.decode(raw, RecoveryShare, what="recovery share")
        signed = share_signed_bytes(transcript, message.sealed)
        try:
            verify_signature(bytes.fromhex(self.owner), message.signature, signed)
        except AuthenticationFailed as err:
            raise AuthenticationFailed(
                "the owner's signature is wrong: not by this owner, or not for this session"
            ) from err
        return decode_contribution(self._hpke.open(message.sealed, info=share_info(transcript)))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerMeans:
    """What an owner brings to the visit, and what it demands of the broker.

    Attributes:
        owner: signs.
        recovery_key: opens the owner's part of the package.
        ca_spki: SubjectPublicKeyInfo (DER) of the mesh CA's key, known since the owner gave the
            broker a manifest. Without it a host could have a mesh of its own brought to life.
        agreed_toml: the owner's own copy of `wardian.toml`, exact bytes.
        mesh: its name there.
        policy: given the package that was verified, returns what the broker's evidence must
            satisfy; or refuses.
        head: the newest head of the audit log that the owner knows, if any.
    """

    owner: Signer
    recovery_key: HpkePrivateKey
    ca_spki: bytes
    agreed_toml: bytes
    mesh: str
    policy: Callable[[RecoveryPackage], AppraisalPolicy]
    head: SignedHead | None


class OwnerVisit:
    """The owner's end: `hello`, then `share`, once."""

    __slots__ = ("_given", "_hello", "_means", "_nonce")

    def __init__(self, means: OwnerMeans) -> None:
        """Speak with `means`."""
        self._means, self._nonce = means, secrets.token_bytes(NONCE_BYTES)
        public = means.owner.public.hex()
        self._hello = wire.encode(RecoveryHello(owner=public, nonce=self._nonce))
        self._given = False

    def hello(self) -> bytes:
        """Return message 1."""
        return self._hello

    def share(self, raw: bytes, *, now: int) -> tuple[bytes, AttestationResult]:
        """Take message 2, verify package and broker; return message 3, and what the broker is.

        Args:
            raw: message 2, untrusted.
            now: Unix seconds.

        Raises:
            PeerProtocolError: neither a challenge nor a refusal.
            PolicyDenied: another mesh's package (rule `recovery-mesh`), another `wardian.toml`
                (`agreed-digest`), no part for this owner (`recovery-owner`), or a broker that the
                policy refuses; or the broker refuses.
            AuthenticationFailed: the package is not the mesh's, or the recovery key is another.
            AttestationError, FormatError: the evidence is not genuine or binds something else.
        """
        if self._given:
            raise LocalProtocolError("an owner's visit gives one share")
        means, public = self._means, self._means.owner.public.hex()
        message = decode_or_raise(raw, RecoveryChallenge, what="recovery challenge")
        verify_package(message.package, mesh=means.mesh, ca_spki=means.ca_spki)
        broker = self._verify_broker(message, now=now)
        part = open_part(message.package, owner=public, key=means.recovery_key)
        contribution = Contribution(
            value=part.share.value if message.waits else None,
            owner_key=part.owner_key,
            head=means.head,
        )
        transcript = recovery_transcript(self._hello, raw)
        sealed = hpke_seal(
            message.hpke_public, encode_contribution(contribution), info=share_info(transcript)
        )
        signature = means.owner.sign(share_signed_bytes(transcript, sealed))
        self._given = True
        return wire.encode(RecoveryShare(sealed=sealed, signature=signature)), broker

    def _verify_broker(self, message: RecoveryChallenge, *, now: int) -> AttestationResult:
        digest = hashlib.sha256(self._means.agreed_toml).digest()
        if message.agreed_digest != digest.hex():
            raise PolicyDenied(
                "the broker runs with another wardian.toml than this one", rule="agreed-digest"
            )
        return verify_evidence(
            message.evidence,
            policy=self._means.policy(message.package),
            report_data=recovery_report_data(
                owner_nonce=self._nonce,
                broker_nonce=message.nonce,
                hpke_public=message.hpke_public,
                package_digest=message.package.digest,
                agreed_digest=digest,
                waits=message.waits,
            ),
            now=now,
        )
