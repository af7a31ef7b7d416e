"""The owner's side: verify the broker, then give it a manifest and keys.

Runs on the owner's own machine, which needs no TEE. On a laptop `wardian up` plays this part.
"""

import hashlib
import secrets
from dataclasses import dataclass

from wardian._internal import wire
from wardian._internal.clock import UnixTime
from wardian.attestation.policy import AppraisalPolicy
from wardian.attestation.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.manifest import SignedManifest, manifest_digest
from wardian.broker.protocol import NONCE_BYTES
from wardian.broker.provisioning import (
    OwnerChallenge,
    OwnerHello,
    Provision,
    Receipt,
    encode_keys,
    owner_report_data,
    provision_info,
    provision_signed_bytes,
    provision_transcript,
    receipt_signed_bytes,
)
from wardian.broker.refusal import decode_or_raise
from wardian.crypto.hpke import hpke_seal
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.signing import SigningKey
from wardian.crypto.tls_keys import verify_ecdsa
from wardian.errors import LocalProtocolError, PeerProtocolError, PolicyDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """What is in force at the broker that was verified.

    Attributes:
        broker: what its evidence said; for the screen.
        mesh_ca: the mesh CA's certificate, DER, whose key that evidence binds. This is the file
            that clients may trust, because an owner took it from an attested broker.
        receipt: signed by the CA's key; `missing` lists models whose keys are still to come.
    """

    broker: AttestationResult
    mesh_ca: bytes
    receipt: Receipt


class OwnerSession:
    """The owner's end of one exchange, pure: `hello`, `provision`, `receipt`, once each."""

    __slots__ = ("_broker", "_ca", "_ca_spki", "_hello", "_nonce", "_owner", "_provision", "_raw")

    def __init__(self, *, owner: SigningKey, nonce: bytes) -> None:
        """Speak as `owner`, with a fresh nonce of 32 bytes."""
        self._owner = owner
        self._nonce = nonce
        self._hello = wire.encode(OwnerHello(owner=owner.public.hex(), nonce=nonce))
        self._raw = b""
        self._provision = b""
        self._ca = b""
        self._ca_spki = b""
        self._broker: AttestationResult | None = None

    def hello(self) -> bytes:
        """Return message 1."""
        return self._hello

    def provision(
        self,
        raw: bytes,
        *,
        agreed_toml: bytes,
        policy: AppraisalPolicy,
        manifest: SignedManifest,
        keys: tuple[BrokerKey, ...],
        now: int,
    ) -> bytes:
        """Take message 2, verify the broker, and return message 3.

        Args:
            raw: message 2, untrusted.
            agreed_toml: the owner's own copy of `wardian.toml`.
            policy: what the broker's evidence must satisfy.
            manifest: to be put in force.
            keys: of this owner's models in it; sealed to the key that the evidence binds.
            now: Unix seconds.

        Raises:
            PeerProtocolError: not a challenge.
            PolicyDenied: the broker runs with another `wardian.toml`, or the policy refuses its
                evidence; or it refuses.
            AttestationError, FormatError: the evidence is not genuine or binds something else.
        """
        if self._broker is not None:
            raise LocalProtocolError("an owner's session provisions once")
        message = decode_or_raise(raw, OwnerChallenge, what="owner challenge")
        ca_spki = verify_ca_certificate(message.mesh_ca)
        digest = hashlib.sha256(agreed_toml).digest()
        if message.agreed_digest != digest.hex():
            raise PolicyDenied(
                "the broker runs with another wardian.toml than this one", rule="agreed-digest"
            )
        self._broker = verify_evidence(
            message.evidence,
            policy=policy,
            report_data=owner_report_data(
                owner_nonce=self._nonce,
                broker_nonce=message.nonce,
                ca_spki=ca_spki,
                hpke_public=message.hpke_public,
                agreed_digest=digest,
            ),
            now=now,
        )
        self._raw, self._ca, self._ca_spki = raw, message.mesh_ca, ca_spki
        transcript = provision_transcript(self._hello, raw)
        sealed = hpke_seal(message.hpke_public, encode_keys(keys), info=provision_info(transcript))
        signature = self._owner.sign(
            provision_signed_bytes(transcript, signed_manifest=manifest, sealed_keys=sealed)
        )
        self._provision = wire.encode(
            Provision(signed_manifest=manifest, sealed_keys=sealed, signature=signature)
        )
        return self._provision

    def receipt(self, raw: bytes, *, manifest: SignedManifest) -> Provisioned:
        """Take message 4 and return what the verified broker says is in force.

        Raises:
            PeerProtocolError: not a receipt, or for another manifest than was given.
            AuthenticationFailed: not signed by the CA key that the evidence binds, for this
                exchange.
            PolicyDenied, TransportError: the broker refuses; the text says why.
        """
        if self._broker is None:
            raise LocalProtocolError("no broker has been verified in this session")
        receipt = decode_or_raise(raw, Receipt, what="receipt")
        transcript = provision_transcript(self._hello, self._raw)
        verify_ecdsa(
            self._ca_spki,
            receipt.signature,
            receipt_signed_bytes(transcript, self._provision, receipt),
        )
        if receipt.manifest_digest != manifest_digest(manifest).hex():
            raise PeerProtocolError("the broker has another manifest in force than it was given")
        return Provisioned(broker=self._broker, mesh_ca=self._ca, receipt=receipt)


async def provision(
    address: tuple[str, int],
    *,
    owner: SigningKey,
    agreed_toml: bytes,
    policy: AppraisalPolicy,
    manifest: SignedManifest,
    keys: tuple[BrokerKey, ...],
    now: UnixTime,
) -> Provisioned:
    """Put `manifest` and `keys` in force at the broker, once its evidence satisfies `policy`.

    Args:
        address: host and port of the broker.
        owner: one of the owners in `wardian.toml`.
        agreed_toml: `wardian.toml`, exact bytes.
        policy: usually `appraisal_policy(manifest, "broker")` of a manifest that the owner made
            from measurements of its own.
        manifest: signed by enough owners.
        keys: of this owner's models.
        now: the clock, Unix seconds.

    Raises:
        TransportError: nobody answers, or the broker is busy; `retryable` says whether to retry.
        AttestationError, PolicyDenied, AuthenticationFailed, FormatError: the broker is not
            acceptable, or it refuses; nothing was given to it unless it was verified.
    """
    session = OwnerSession(owner=owner, nonce=secrets.token_bytes(NONCE_BYTES))
    stream = await connect(address)
    try:
        await stream.send(session.hello())
        message = session.provision(
            await stream.receive(most=FRAME_BYTES),
            agreed_toml=agreed_toml,
            policy=policy,
            manifest=manifest,
            keys=keys,
            now=now(),
        )
        await stream.send(message)
        return session.receipt(await stream.receive(most=FRAME_BYTES), manifest=manifest)
    finally:
        await stream.close()
