"""How an owner gives a broker back what only owners can give: three messages and an answer.

    owner                                                       broker
       | 1 RecoveryHello      who, nonce                          |
       |--------------------------------------------------------->|
       | 2 RecoveryChallenge  nonce, HPKE key, package, evidence  |
       |<---------------------------------------------------------|
       | 3 RecoveryShare      HPKE(share, key, head), signature   |
       |--------------------------------------------------------->|
       | 4 RecoveryReceipt    how many came, how many it takes    |
       |<---------------------------------------------------------|

A broker that waits for its keys counts the shares. One that has them back takes from an owner who
comes later the key of that owner's own secrets alone.

The owner's signature covers the session, hence the package, so that a broker which takes a package
from its host knows that enough owners stand by it. Only data here.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.broker.mesh.fields import Hex32, Owner
from wardian.broker.message_fields import Key32, Nonce
from wardian.broker.recovery.package import RecoveryPackage
from wardian.broker.transparency.heads import SignedHead
from wardian.crypto.secret import Secret

TRANSCRIPT_LABEL: Final = "wardian recovery transcript v1"
SHARE_LABEL: Final = "wardian recovery share v1"
SHARE_INFO: Final = "wardian recovery share hpke v1"


class RecoveryHello(wire.Message, frozen=True, tag_field="format", tag="wardian recovery hello v1"):
    """1. Which owner speaks; proved in message 3."""

    owner: Owner
    nonce: Nonce


class RecoveryChallenge(
    wire.Message, frozen=True, tag_field="format", tag="wardian recovery challenge v1"
):
    """2. Who the broker is, fresh for this owner, and what it wants to bring back."""

    nonce: Nonce
    hpke_public: Key32
    """Made for this session."""
    package: RecoveryPackage
    """Of the backup that it waits to open; or of before, where it is open and some owners' secrets
    are not."""
    agreed_digest: Hex32
    """SHA-256 of the `wardian.toml` that is part of the broker's measurement."""
    waits: bool
    """Whether it has no key of its state yet."""
    evidence: Evidence
    """Binds `recovery_report_data`."""


class RecoveryShare(wire.Message, frozen=True, tag_field="format", tag="wardian recovery share v1"):
    """3. The owner's part, opened and sealed again to the broker that was attested."""

    sealed: bytes
    """HPKE of `Contribution`; `info` is `share_info(transcript)`."""
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    """By the owner over `share_signed_bytes`."""


class RecoveryReceipt(
    wire.Message, frozen=True, tag_field="format", tag="wardian recovery receipt v1"
):
    """4. Where it stands. Not signed: a broker without its state has nothing to sign with."""

    have: int
    """Owners whose share came."""
    threshold: int
    recovered: bool
    """Whether the state is open now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """The plaintext of message 3 while it is in memory."""

    value: Secret | None
    """The share, 32 bytes; None where the broker does not wait for it."""
    owner_key: Secret
    """32 bytes: the owner's key of its own secrets, as it was when the package was made."""
    head: SignedHead | None
    """The newest head of the audit log that the owner knows, if any. The mesh's broker signed it:
    an owner who objects to a backup shows why, and one who has no reason cannot."""


class _ContributionRecord(
    wire.Message, frozen=True, tag_field="format", tag="wardian recovery contribution v1"
):
    value: Key32 | None
    owner_key: Key32
    head: SignedHead | None

    @override
    def __repr__(self) -> str:
        return "_ContributionRecord()"  # never the keys


def recovery_report_data(
    *,
    owner_nonce: bytes,
    broker_nonce: bytes,
    hpke_public: bytes,
    package_digest: bytes,
    agreed_digest: bytes,
    waits: bool,
) -> bytes:
    """Return the 64 bytes that the broker's evidence for an owner binds."""
    state = b"waits" if waits else b"open"
    parts = owner_nonce, broker_nonce, hpke_public, package_digest, agreed_digest, state
    return bind(Purpose.RECOVERY, *parts)


def recovery_transcript(hello: bytes, challenge: bytes) -> bytes:
    """Return SHA-256 (32 bytes) over messages 1 and 2, as they travelled."""
    return hashlib.sha256(wire.fields(TRANSCRIPT_LABEL, hello, challenge)).digest()


def share_info(transcript: bytes) -> bytes:
    """Return the HPKE `info` of message 3: it opens in this session and no other."""
    return wire.fields(SHARE_INFO, transcript)


def share_signed_bytes(transcript: bytes, sealed: bytes) -> bytes:
    """Return what the owner signs: this session, and what it sealed in it."""
    return wire.fields(SHARE_LABEL, transcript, sealed)


def encode_contribution(contribution: Contribution) -> bytes:
    """Return the plaintext of message 3; the caller seals it at once."""
    value = contribution.value
    return wire.encode(
        _ContributionRecord(
            value=None if value is None else value.reveal(),
            owner_key=contribution.owner_key.reveal(),
            head=contribution.head,
        )
    )


def decode_contribution(plaintext: bytes) -> Contribution:
    """Return what is in the opened message 3; FormatError if it is none."""
    record = wire.decode(plaintext, _ContributionRecord, what="recovery share")
    return Contribution(
        value=None if record.value is None else Secret(record.value),
        owner_key=Secret(record.owner_key),
        head=record.head,
    )
