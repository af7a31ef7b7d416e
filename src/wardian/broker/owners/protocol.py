"""The messages of an owner's visit: three and a signed receipt.

    owner                                                       broker
       | 1 OwnerHello        nonce, who                           |
       |--------------------------------------------------------->|
       | 2 OwnerChallenge    nonce, HPKE key, CA, evidence        |
       |<---------------------------------------------------------|
       | 3 Provision         manifest, HPKE(goods), signature     |
       |   or Order          what to do at once, signature        |
       |   or Consent        policy over a table, HPKE(its key)   |
       |--------------------------------------------------------->|
       | 4 Receipt           what is in force now, CA signature   |
       |<---------------------------------------------------------|

The broker's evidence is fresh for the owner's nonce and binds the HPKE key, made for this session,
to which keys and secrets are sealed. The owner's signature covers the session, so it holds for this
broker and this moment. The receipt is signed: a host cannot say "done" in the broker's place.

Only data here: no socket, clock or state.
"""

import hashlib
from typing import Annotated, Final, Literal

import msgspec

from wardian._internal import wire
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.broker.jobs.signing import SignedPolicy
from wardian.broker.mesh.fields import Hex16, Hex32, Name, Owner, Serial
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.message_fields import Der, Key32, Nonce
from wardian.broker.state.audit import Count
from wardian.broker.transparency.heads import SignedHead

TRANSCRIPT_LABEL: Final = "wardian provision transcript v1"
PROVISION_LABEL: Final = "wardian provision v1"
PROVISION_INFO: Final = "wardian provision hpke v1"
ORDER_LABEL: Final = "wardian owner order v1"
CONSENT_LABEL: Final = "wardian owner consent v1"
CONSENT_INFO: Final = "wardian owner consent hpke v1"
RECEIPT_LABEL: Final = "wardian provision receipt v1"

# The broker shows itself to workloads and to owners under one `Purpose`; this part, which no
# nonce of 32 bytes equals, keeps the two uses of its evidence apart (TRUST T24).
_OWNER_USE: Final = b"provision"

Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
OrderKind = Literal["turn-epoch", "beacon", "beacon-ahead"]


class OwnerHello(wire.Message, frozen=True, tag_field="format", tag="wardian owner hello v1"):
    """1. Which owner speaks; proved in message 3."""

    owner: Owner
    nonce: Nonce


class OwnerChallenge(
    wire.Message, frozen=True, tag_field="format", tag="wardian owner challenge v1"
):
    """2. Who the broker is, fresh for this owner."""

    nonce: Nonce
    hpke_public: Key32
    """Made for this session; binds with the rest in `owner_report_data`."""
    mesh_ca: Der
    agreed_digest: Hex32
    """SHA-256 of the `wardian.toml` that is part of the broker's measurement."""
    manifest_version: int
    """Of the manifest in force, 0 if there is none. For information: it is not bound."""
    evidence: Evidence


class Provision(wire.Message, frozen=True, tag_field="format", tag="wardian provision v1"):
    """3. What the owner wants to be in force, and the keys and secrets that go with it."""

    signed_manifest: SignedManifest
    sealed_goods: bytes
    """HPKE of what the owner gives (`goods`); `info` is `provision_info(transcript)`."""
    recovery_public: Hex32 | None
    """The owner's X25519 key under which its own secrets are kept for recovery; None leaves the
    one that the broker has."""
    signature: Signature
    """By the owner over `provision_signed_bytes`."""


class Order(wire.Message, frozen=True, tag_field="format", tag="wardian owner order v1"):
    """3. Instead of a manifest: what any one owner may have done at once."""

    kind: OrderKind
    """`turn-epoch`: new queue keys for all models, so that whoever holds the old ones reads nothing
    more. `beacon`: what time it is. `beacon-ahead`: likewise, by an owner who insists on it
    although it is far ahead of what the broker takes for the time."""
    time: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None
    """Unix seconds by the owner's clock, of a beacon; else None."""
    signature: Signature
    """By the owner over `order_signed_bytes`."""


class Consent(wire.Message, frozen=True, tag_field="format", tag="wardian owner consent v1"):
    """3. Instead of a manifest: what this owner says of one of its tables, and the table's key."""

    signed_policy: SignedPolicy
    sealed_goods: bytes
    """HPKE of at most one key (`goods`): the one that opens the table which the policy's pin names.
    None leaves the one that the broker has. `info` is `consent_info(transcript)`."""
    signature: Signature
    """By the owner over `consent_signed_bytes`."""


class PolicyInForce(wire.Message, frozen=True):
    """What the broker holds about a table after a consent."""

    table: Name
    serial: Serial
    policy_digest: Hex32
    """SHA-256 of the policy's exact bytes."""
    revoked: bool
    key_id: Hex16 | None
    """Of the table's key; None where there is none."""
    uses: Count
    """Releases of its key so far, under whichever policy."""
    epsilon: Annotated[str, msgspec.Meta(max_length=2048)]
    """What these spent, exactly: a whole number, or a fraction as `1/2`."""
    delta: Annotated[str, msgspec.Meta(max_length=2048)]


class Receipt(wire.Message, frozen=True, tag_field="format", tag="wardian provision receipt v1"):
    """4. What is in force now."""

    manifest_digest: Hex32
    manifest_version: int
    epoch: int
    """Of the queue keys; a new manifest begins a new one."""
    missing: tuple[str, ...]
    """`NAME version N` of models and `secret NAME` of secrets that their owners have not given."""
    time: int
    """Unix seconds, by the broker's clock."""
    head: SignedHead
    """The head of the audit log, in which this visit stands: of itself, without the exchange, it
    convicts a broker whose log does not go on from it."""
    signature: bytes
    """ECDSA P-256 SHA-256, DER, by the mesh CA key over `receipt_signed_bytes`."""
    policy: PolicyInForce | None = None
    """After a consent, of its table; else None."""


def owner_report_data(
    *,
    owner_nonce: bytes,
    broker_nonce: bytes,
    ca_spki: bytes,
    hpke_public: bytes,
    agreed_digest: bytes,
) -> bytes:
    """Return the 64 bytes that the broker's evidence for an owner binds."""
    return bind(
        Purpose.BROKER, _OWNER_USE, owner_nonce, broker_nonce, ca_spki, hpke_public, agreed_digest
    )


def provision_transcript(hello: bytes, challenge: bytes) -> bytes:
    """Return SHA-256 (32 bytes) over messages 1 and 2, as they travelled."""
    return hashlib.sha256(wire.fields(TRANSCRIPT_LABEL, hello, challenge)).digest()


def provision_info(transcript: bytes) -> bytes:
    """Return the HPKE `info` of the owner's goods: they open in this session and no other."""
    return wire.fields(PROVISION_INFO, transcript)


def provision_signed_bytes(
    transcript: bytes,
    *,
    signed_manifest: SignedManifest,
    sealed_goods: bytes,
    recovery_public: str | None,
) -> bytes:
    """Return what the owner signs: this session, this manifest, these goods, this recovery key."""
    manifest = hashlib.sha256(wire.encode(signed_manifest)).digest()
    recovery = bytes.fromhex(recovery_public or "")
    return wire.fields(PROVISION_LABEL, transcript, manifest, sealed_goods, recovery)


def order_signed_bytes(transcript: bytes, *, kind: OrderKind, time: int | None) -> bytes:
    """Return what the owner signs: this session, this order."""
    moment = b"" if time is None else time.to_bytes(8, "big")
    return wire.fields(ORDER_LABEL, transcript, kind.encode(), moment)


def consent_info(transcript: bytes) -> bytes:
    """Return the HPKE `info` of a table's key: it opens in this session, as nothing else."""
    return wire.fields(CONSENT_INFO, transcript)


def consent_signed_bytes(
    transcript: bytes, *, signed_policy: SignedPolicy, sealed_goods: bytes
) -> bytes:
    """Return what the owner signs: this session, this signed policy, this key."""
    policy = hashlib.sha256(wire.encode(signed_policy)).digest()
    return wire.fields(CONSENT_LABEL, transcript, policy, sealed_goods)


def receipt_signed_bytes(transcript: bytes, message: bytes, receipt: Receipt) -> bytes:
    """Return what the mesh CA key signs: the whole exchange and every field but the signature.

    Args:
        transcript: of messages 1 and 2.
        message: message 3 as it travelled.
        receipt: whatever its signature.
    """
    unsigned = msgspec.structs.replace(receipt, signature=b"")
    return wire.fields(RECEIPT_LABEL, transcript, message, wire.encode(unsigned))
