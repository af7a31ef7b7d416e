"""How a broker becomes the standby of another: four messages, then the state.

    standby                                                     active
       | 1 StandbyHello      what it wants, nonce               |
       |------------------------------------------------------->|
       | 2 StandbyChallenge  nonce, manifest, CA, evidence      |
       |<-------------------------------------------------------|
       | 3 StandbyProof      evidence, HPKE key                 |
       |------------------------------------------------------->|
       | 4 StandbyAnswer     HPKE(keys), CA signature           |
       |<-------------------------------------------------------|
       |   the state in pieces, each under the session's key    |
       |<-------------------------------------------------------|
       |   that it is in place, likewise                        |
       |------------------------------------------------------->|

Then the active dials the standby (`CommitsHello`, unauthenticated: it only names the session) and
sends every commit before it is counted; the standby answers when it is on its disk. Each frame of
the state and of the commits is under a key of the session, in its direction and its order
(`channel`).

In place of message 2 or 4 there may be a `refusal.Refusal`. Only data here.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.message_fields import Der, Key32, Nonce
from wardian.broker.session.form import SealedResponse, SessionForm, Vouching
from wardian.broker.state.master_key import MasterKey
from wardian.crypto.secret import Secret

SESSION_BYTES: Final = 16

Wish: TypeAlias = Literal["follow", "take over"]
"""To copy an active broker; or to be the broker in its place, which then never decides again."""
SessionId = Annotated[bytes, msgspec.Meta(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]

TAKEN: Final = b"taken"
"""What the standby says once the state is in place."""
STANDBY_RULE: Final = "standby"
"""The rule of a refusal by a broker that is not the active one: another address may be."""


class StandbyHello(wire.Message, frozen=True, tag_field="format", tag="wardian standby hello v1"):
    """1. What is wanted. Nothing of this is believed before message 3."""

    wish: Wish
    tee: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,32}\Z")]
    """The kind of TEE, for the log."""
    nonce: Nonce


class StandbyChallenge(
    wire.Message, frozen=True, tag_field="format", tag="wardian standby challenge v1"
):
    """2. Who the active broker is, fresh for this nonce, and under which manifest."""

    nonce: Nonce
    signed_manifest: SignedManifest
    mesh_ca: Der
    """The mesh CA's self-signed certificate, DER."""
    evidence: Evidence
    """Binds `active_report_data`."""


class StandbyProof(Vouching, frozen=True, tag_field="format", tag="wardian standby proof v1"):
    """3. The standby's evidence, which binds `standby_report_data` and so its key."""


class StandbyAnswer(
    SealedResponse, frozen=True, tag_field="format", tag="wardian standby answer v1"
):
    """4. The keys of the state, sealed to the standby, signed by the mesh CA key."""


STANDBY_SESSION: Final = SessionForm(
    challenge=StandbyChallenge,
    attestation=StandbyProof,
    response=StandbyAnswer,
    transcript_label="wardian standby transcript v1",
    info_label="wardian standby hpke v1",
    signed_label="wardian standby answer v1",
    of="standby ",
    names=("challenge", "proof", "answer"),
)


class CommitsHello(wire.Message, frozen=True, tag_field="format", tag="wardian commits hello v1"):
    """The active's first frame at the standby: which session's commits these are."""

    session: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The plaintext of message 4 while it is in memory."""

    master_key: MasterKey
    session: bytes
    """16 bytes that name the session."""
    session_key: Secret
    """32 bytes; see `channel`."""


class _KeysRecord(wire.Message, frozen=True, tag_field="format", tag="wardian standby keys v1"):
    """`Keys` as they stand inside the HPKE ciphertext, and nowhere else."""

    master_key: bytes
    session: SessionId
    session_key: Key32

    @override
    def __repr__(self) -> str:
        return f"_KeysRecord({self.session.hex()})"  # never the keys


def active_report_data(
    *,
    wish: Wish,
    standby_nonce: bytes,
    active_nonce: bytes,
    ca_spki: bytes,
    digest: bytes,
    version: int,
) -> bytes:
    """Return the 64 bytes that the active's evidence in message 2 binds.

    Args:
        wish: from message 1.
        standby_nonce: from message 1, so that the evidence is fresh.
        active_nonce: from message 2, so that it belongs to this session alone.
        ca_spki: SubjectPublicKeyInfo (DER) of the mesh CA, whose key signs message 4.
        digest: SHA-256 of the manifest in force.
        version: the manifest's.
    """
    parts = standby_nonce, active_nonce, ca_spki, digest, version.to_bytes(8, "big")
    return bind(Purpose.STANDBY, b"active", wish.encode(), *parts)


def standby_report_data(
    *, wish: Wish, active_nonce: bytes, hpke_public: bytes, ca_spki: bytes, digest: bytes
) -> bytes:
    """Return the 64 bytes that the standby's evidence in message 3 binds.

    Args:
        wish: from message 1.
        active_nonce: from message 2: evidence of an earlier session does not fit.
        hpke_public: 32 bytes; the keys are sealed to it.
        ca_spki: as shown: the keys are for the standby of this mesh CA's broker.
        digest: SHA-256 of the manifest that the standby was shown and verified.
    """
    parts = active_nonce, hpke_public, ca_spki, digest
    return bind(Purpose.STANDBY, b"standby", wish.encode(), *parts)


def encode_keys(*, master_key: Secret, session: bytes, session_key: Secret) -> bytes:
    """Return the plaintext of message 4; the caller seals it at once.

    Args:
        master_key: of `MasterKey.to_secret` or `share_with`: what this standby may have.
        session: 16 bytes.
        session_key: 32 bytes.
    """
    return wire.encode(
        _KeysRecord(
            master_key=master_key.reveal(), session=session, session_key=session_key.reveal()
        )
    )


def decode_keys(plaintext: bytes) -> Keys:
    """Return the keys in the opened message 4; FormatError if they are none."""
    record = wire.decode(plaintext, _KeysRecord, what="standby keys")
    return Keys(
        master_key=MasterKey.from_secret(Secret(record.master_key)),
        session=record.session,
        session_key=Secret(record.session_key),
    )
