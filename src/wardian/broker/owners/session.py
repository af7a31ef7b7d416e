"""The owner's end of a visit, pure: it verifies the broker before it gives it anything.

Runs on the owner's own machine, which needs no TEE. On a laptop `wardian up` plays this part.
"""

import hashlib
from dataclasses import dataclass

from wardian._internal import wire
from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.frames import FRAME_BYTES
from wardian.broker.jobs.signing import SignedPolicy
from wardian.broker.mesh.manifest import SignedManifest, manifest_digest
from wardian.broker.owners.goods import Goods, encode_goods
from wardian.broker.owners.protocol import (
    Consent,
    Order,
    OrderKind,
    OwnerChallenge,
    OwnerHello,
    Provision,
    Receipt,
    consent_info,
    consent_signed_bytes,
    order_signed_bytes,
    owner_report_data,
    provision_info,
    provision_signed_bytes,
    provision_transcript,
    receipt_signed_bytes,
)
from wardian.broker.refusal import decode_or_raise
from wardian.broker.transparency.heads import verify_head
from wardian.crypto.hpke import hpke_seal
from wardian.crypto.signing import Signer
from wardian.crypto.tls_keys import verify_ecdsa
from wardian.errors import ConfigError, LocalProtocolError, PeerProtocolError, PolicyDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What an owner demands of the broker that it speaks to.

    Attributes:
        agreed_toml: the owner's own copy of `wardian.toml`, exact bytes.
        policy: what the broker's evidence must satisfy; usually `appraisal_policy(manifest,
            "broker")` of a manifest that the owner made from measurements of its own.
        mesh_ca_spki: the mesh CA's key (DER), where the owner knows it from an earlier visit. A
            host can begin another broker of the same code on an empty state: evidence does not tell
            the two apart, and each would count the owner's uses for itself (TRUST T5). None at a
            first visit.
    """

    agreed_toml: bytes
    policy: AppraisalPolicy
    mesh_ca_spki: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """What is in force at the broker that was verified.

    Attributes:
        broker: what its evidence said; for the screen.
        mesh_ca: the mesh CA's certificate, DER, whose key that evidence binds. This is the file
            that clients may trust, because an owner took it from an attested broker.
        receipt: signed by the CA's key; `missing` lists what is still to come.
    """

    broker: AttestationResult
    mesh_ca: bytes
    receipt: Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    """The broker of this session."""

    result: AttestationResult
    mesh_ca: bytes
    ca_spki: bytes
    hpke_public: bytes
    transcript: bytes


class OwnerSession:
    """The owner's end of one exchange, pure and once.

    `hello`; then one of `provision`, `order` and `consent`; then `receipt`.
    """

    __slots__ = ("_broker", "_hello", "_message", "_nonce", "_owner")

    def __init__(self, *, owner: Signer, nonce: bytes) -> None:
        """Speak as `owner`, with a fresh nonce of 32 bytes."""
        self._owner = owner
        self._nonce = nonce
        self._hello = wire.encode(OwnerHello(owner=owner.public.hex(), nonce=nonce))
        self._message = b""
        self._broker: _Verified | None = None

    def hello(self) -> bytes:
        """Return message 1."""
        return self._hello

    def provision(
        self,
        raw: bytes,
        *,
        demands: Demands,
        manifest: SignedManifest,
        goods: Goods,
        recovery_public: bytes | None = None,
        now: int,
    ) -> bytes:
        """Take message 2, verify the broker, and return message 3.

        Args:
            raw: message 2, untrusted.
            demands: what the broker must be.
            manifest: to be put in force.
            goods: of this owner's lines in it; sealed to the key that the evidence binds.
            recovery_public: this owner's X25519 key for recovery, 32 bytes, if it is to be set.
            now: Unix seconds.

        Raises:
            PeerProtocolError: not a challenge.
            PolicyDenied: the broker runs with another `wardian.toml`, is of another mesh CA than
                the owner knows, or the policy refuses its evidence; or it refuses.
            AttestationError, FormatError: the evidence is not genuine or binds something else.
            ConfigError: more than fits into one visit.
        """
        broker = self._verify(raw, demands=demands, now=now)
        sealed = hpke_seal(
            broker.hpke_public, encode_goods(goods), info=provision_info(broker.transcript)
        )
        recovery = None if recovery_public is None else recovery_public.hex()
        signed = provision_signed_bytes(
            broker.transcript,
            signed_manifest=manifest,
            sealed_goods=sealed,
            recovery_public=recovery,
        )
        return self._say(
            Provision(
                signed_manifest=manifest,
                sealed_goods=sealed,
                recovery_public=recovery,
                signature=self._owner.sign(signed),
            )
        )

    def order(
        self, raw: bytes, *, demands: Demands, kind: OrderKind, time: int | None, now: int
    ) -> bytes:
        """Take message 2, verify the broker, and return message 3.

        Args:
            raw: message 2, untrusted.
            demands: what the broker must be.
            kind: what is to be done.
            time: of a beacon, Unix seconds; else None.
            now: Unix seconds.

        Raises:
            PeerProtocolError, PolicyDenied, AttestationError, FormatError: as in `provision`.
        """
        broker = self._verify(raw, demands=demands, now=now)
        signed = order_signed_bytes(broker.transcript, kind=kind, time=time)
        return self._say(Order(kind=kind, time=time, signature=self._owner.sign(signed)))

    def consent(
        self, raw: bytes, *, demands: Demands, policy: SignedPolicy, key: Goods, now: int
    ) -> bytes:
        """Take message 2, verify the broker, and return message 3.

        Args:
            raw: message 2, untrusted.
            demands: what the broker must be.
            policy: signed by this owner, about one of its tables.
            key: the table's, or nothing where the broker has it.
            now: Unix seconds.

        Raises:
            PeerProtocolError, PolicyDenied, AttestationError, FormatError: as in `provision`.
        """
        broker = self._verify(raw, demands=demands, now=now)
        sealed = hpke_seal(
            broker.hpke_public, encode_goods(key), info=consent_info(broker.transcript)
        )
        signed = consent_signed_bytes(broker.transcript, signed_policy=policy, sealed_goods=sealed)
        return self._say(
            Consent(signed_policy=policy, sealed_goods=sealed, signature=self._owner.sign(signed))
        )

    def receipt(
        self,
        raw: bytes,
        *,
        manifest: SignedManifest | None = None,
        policy: SignedPolicy | None = None,
    ) -> Provisioned:
        """Take message 4 and return what the verified broker says is in force.

        Args:
            raw: message 4, untrusted.
            manifest: what was to be put in force; None where there was none.
            policy: likewise, of a consent.

        Raises:
            PeerProtocolError: not a receipt, or for another manifest or policy than was given.
            AuthenticationFailed: it, or its audit head, is not signed by the CA key that the
                evidence binds, for this exchange.
            PolicyDenied, TransportError: the broker refuses; the text says why.
        """
        if self._broker is None:
            raise LocalProtocolError("no broker has been verified in this session")
        receipt = decode_or_raise(raw, Receipt, what="receipt")
        verify_ecdsa(
            self._broker.ca_spki,
            receipt.signature,
            receipt_signed_bytes(self._broker.transcript, self._message, receipt),
        )
        verify_head(receipt.head, ca_spki=self._broker.ca_spki)
        if manifest is not None and receipt.manifest_digest != manifest_digest(manifest).hex():
            raise PeerProtocolError("the broker has another manifest in force than it was given")
        held = "" if receipt.policy is None else receipt.policy.policy_digest
        if held != ("" if policy is None else hashlib.sha256(policy.policy).hexdigest()):
            raise PeerProtocolError("the broker has another policy in force than it was given")
        return Provisioned(
            broker=self._broker.result, mesh_ca=self._broker.mesh_ca, receipt=receipt
        )

    def _verify(self, raw: bytes, *, demands: Demands, now: int) -> _Verified:
        """Return the broker of message 2, which is what `demands` says."""
        if self._broker is not None:
            raise LocalProtocolError("an owner's session brings one thing")
        message = decode_or_raise(raw, OwnerChallenge, what="owner challenge")
        ca_spki = verify_ca_certificate(message.mesh_ca)
        if demands.mesh_ca_spki not in {None, ca_spki}:
            raise PolicyDenied(
                "the broker is of another mesh CA than the one that is known: another state, begun "
                "anew, whatever code it runs",
                rule="mesh-ca",
            )
        digest = hashlib.sha256(demands.agreed_toml).digest()
        if message.agreed_digest != digest.hex():
            raise PolicyDenied(
                "the broker runs with another wardian.toml than this one", rule="agreed-digest"
            )
        result = verify_evidence(
            message.evidence,
            policy=demands.policy,
            report_data=owner_report_data(
                owner_nonce=self._nonce,
                broker_nonce=message.nonce,
                ca_spki=ca_spki,
                hpke_public=message.hpke_public,
                agreed_digest=digest,
            ),
            now=now,
        )
        self._broker = _Verified(
            result=result,
            mesh_ca=message.mesh_ca,
            ca_spki=ca_spki,
            hpke_public=message.hpke_public,
            transcript=provision_transcript(self._hello, raw),
        )
        return self._broker

    def _say(self, message: Provision | Order | Consent) -> bytes:
        self._message = wire.encode(message)
        if len(self._message) > FRAME_BYTES:
            raise ConfigError(
                f"{len(self._message):,} bytes are more than an owner brings at once "
                f"({FRAME_BYTES:,}): give some of the secrets in another visit"
            )
        return self._message
