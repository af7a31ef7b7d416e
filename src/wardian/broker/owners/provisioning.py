"""The broker's end of an owner's visit, as a pure state machine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

import msgspec

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.jobs.signing import SignedPolicy
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.owners.goods import Goods, decode_goods
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
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.signing import verify_signature
from wardian.errors import AuthenticationFailed, PeerProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedProvision:
    """Message 3 with its signature verified and its goods opened.

    Attributes:
        owner: who signed this session, public key in hex.
        signed_manifest: as it came; nothing in it is believed yet.
        goods: keys and secrets.
        recovery_public: the owner's X25519 key in hex, if it came with one.
    """

    owner: str
    signed_manifest: SignedManifest
    goods: Goods
    recovery_public: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedOrder:
    """Message 3 where it is an order, with its signature verified.

    Attributes:
        owner: who signed this session, public key in hex.
        kind: what is to be done.
        time: Unix seconds by the owner's clock, of a beacon; else None.
    """

    owner: str
    kind: OrderKind
    time: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedConsent:
    """Message 3 where it is a consent, with its signature verified and its key opened.

    Attributes:
        owner: who signed this session, public key in hex.
        signed_policy: as it came; nothing in it is believed yet.
        goods: the table's key, if it came with one.
    """

    owner: str
    signed_policy: SignedPolicy
    goods: Goods


Opened: TypeAlias = OpenedProvision | OpenedOrder | OpenedConsent


class BrokerProvisioning:
    """The broker's end of one exchange: `challenge`, `receive`, `receipt`, in this order, once."""

    __slots__ = ("_challenge", "_hello", "_hello_raw", "_hpke", "_message", "_nonce", "_step")

    def __init__(self, raw: bytes, hello: OwnerHello, *, nonce: bytes) -> None:
        """Begin with message 1, `raw` as it travelled and `hello` decoded; `nonce` is fresh."""
        self._hello_raw, self._hello = raw, hello
        self._nonce = nonce
        self._hpke = HpkePrivateKey.generate()
        self._challenge = b""
        self._message = b""
        self._step = 0

    def report_data(self, *, ca_spki: bytes, agreed_digest: bytes) -> bytes:
        """Return the 64 bytes for the broker's evidence."""
        return owner_report_data(
            owner_nonce=self._hello.nonce,
            broker_nonce=self._nonce,
            ca_spki=ca_spki,
            hpke_public=self._hpke.public,
            agreed_digest=agreed_digest,
        )

    def challenge(
        self, evidence: Evidence, *, mesh_ca: bytes, agreed_digest: bytes, manifest_version: int
    ) -> bytes:
        """Return message 2."""
        self._turn(0)
        self._challenge = wire.encode(
            OwnerChallenge(
                nonce=self._nonce,
                hpke_public=self._hpke.public,
                mesh_ca=mesh_ca,
                agreed_digest=agreed_digest.hex(),
                manifest_version=manifest_version,
                evidence=evidence,
            )
        )
        return self._challenge

    def receive(self, raw: bytes) -> Opened:
        """Return message 3, signed by the owner who said hello and opened.

        Whether that owner is one of the mesh's is for the caller to know beforehand.

        Raises:
            FormatError: it does not parse, or `decode_goods` refuses the goods.
            AuthenticationFailed: not signed by that owner for this session, or not sealed to it.
            PeerProtocolError: a second time.
        """
        self._turn(1)
        kinds = cast("type[Provision | Order | Consent]", Provision | Order | Consent)
        message = wire.decode(raw, kinds, what="provision, order or consent")
        transcript = provision_transcript(self._hello_raw, self._challenge)
        opened: Opened
        match message:
            case Order():
                opened = self._order(message, transcript)
            case Consent():
                opened = self._consent(message, transcript)
            case _:
                opened = self._provision(message, transcript)
        self._message = raw
        return opened

    def receipt(self, receipt: Receipt, *, sign: Callable[[bytes], bytes]) -> bytes:
        """Return message 4, signed with the mesh CA key."""
        self._turn(2)
        transcript = provision_transcript(self._hello_raw, self._challenge)
        signature = sign(receipt_signed_bytes(transcript, self._message, receipt))
        return wire.encode(msgspec.structs.replace(receipt, signature=signature))

    def _provision(self, message: Provision, transcript: bytes) -> OpenedProvision:
        signed = provision_signed_bytes(
            transcript,
            signed_manifest=message.signed_manifest,
            sealed_goods=message.sealed_goods,
            recovery_public=message.recovery_public,
        )
        self._verify(message.signature, signed)
        plaintext = self._hpke.open(message.sealed_goods, info=provision_info(transcript))
        return OpenedProvision(
            owner=self._hello.owner,
            signed_manifest=message.signed_manifest,
            goods=decode_goods(plaintext),
            recovery_public=message.recovery_public,
        )

    def _order(self, message: Order, transcript: bytes) -> OpenedOrder:
        signed = order_signed_bytes(transcript, kind=message.kind, time=message.time)
        self._verify(message.signature, signed)
        return OpenedOrder(owner=self._hello.owner, kind=message.kind, time=message.time)

    def _consent(self, message: Consent, transcript: bytes) -> OpenedConsent:
        signed = consent_signed_bytes(
            transcript, signed_policy=message.signed_policy, sealed_goods=message.sealed_goods
        )
        self._verify(message.signature, signed)
        plaintext = self._hpke.open(message.sealed_goods, info=consent_info(transcript))
        return OpenedConsent(
            owner=self._hello.owner,
            signed_policy=message.signed_policy,
            goods=decode_goods(plaintext),
        )

    def _verify(self, signature: bytes, signed: bytes) -> None:
        try:
            verify_signature(bytes.fromhex(self._hello.owner), signature, signed)
        except AuthenticationFailed as err:
            raise AuthenticationFailed(
                "the owner's signature is wrong: not by this owner, or not for this session"
            ) from err

    def _turn(self, step: int) -> None:
        if self._step != step:
            raise PeerProtocolError("the message comes out of turn, or a second time")
        self._step += 1
