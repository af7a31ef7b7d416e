"""The four messages by which a job tells what it gives out: fields, and what evidence binds.

    job                                                           broker
       | 1 ExportRequest      plan, digest of the statement, nonce   |
       |------------------------------------------------------------>|
       | 2 ExportChallenge    key, manifest, CA, broker's evidence   |
       |<------------------------------------------------------------|
       | 3 ExportAttestation  evidence, statement, HPKE(model's key) |
       |------------------------------------------------------------>|
       | 4 ExportResponse     HPKE(that it is written), CA signature |
       |<------------------------------------------------------------|

They are those of a job and its tables (`tables.protocol`), with labels of their own (T24). The
nonce of message 2 is a key, X25519, which the broker makes for the session: it is as fresh as any
nonce, evidence of both ends binds it, and the key of a model is sealed to it, masked.

Byte forms and reasons: `docs/reference/protocol.md`. Only data here: no socket, clock or state.
"""

import hashlib
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.attestation.evidence import Purpose, bind
from wardian.broker.exports.statement import MAX_STATEMENT_BYTES
from wardian.broker.joint.masked import MODEL_KEY_BYTES
from wardian.broker.mesh.fields import Hex32
from wardian.broker.message_fields import Nonce
from wardian.broker.session.form import SealedResponse, SessionForm, Vouching
from wardian.broker.session.shown import MeshChallenge
from wardian.broker.state.audit import Count, Sequence
from wardian.broker.tables.protocol import MAX_ASKED_PLAN_BYTES
from wardian.broker.transparency.following import ShownLog
from wardian.crypto.hpke import OVERHEAD_BYTES

KEY_INFO: Final = "wardian export key hpke v1"

# As with jobs and owners: no nonce of 32 bytes equals it, so that the broker's evidence for an
# export is none for anything else.
_EXPORT_USE: Final = b"export"


class ExportRequest(wire.Message, frozen=True, tag_field="format", tag="wardian export request v1"):
    """1. Of which plan something is to leave. Nothing of this is believed before message 3."""

    tee: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,32}\Z")]
    """The kind of TEE, for the log; what decides is the root of its evidence."""
    plan: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_ASKED_PLAN_BYTES)]
    """Its exact canonical bytes."""
    statement: Hex32
    """`statement_digest` of what message 3 brings."""
    nonce: Nonce
    seen: Count = 0
    """How many lines of the audit log the job has seen."""


class ExportChallenge(
    MeshChallenge, frozen=True, tag_field="format", tag="wardian export challenge v1"
):
    """2. Who the broker is, fresh for this nonce, plan and statement.

    `nonce` is an X25519 public key of this session; see `broker_export_report_data`.
    """


class ExportAttestation(
    Vouching, frozen=True, tag_field="format", tag="wardian export attestation v1"
):
    """3. The job's evidence, which binds `export_report_data`, and what it tells."""

    statement: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_STATEMENT_BYTES)]
    sealed_key: Annotated[bytes, msgspec.Meta(max_length=MODEL_KEY_BYTES + OVERHEAD_BYTES)] = b""
    """HPKE of `MaskedKey.masked` of the model that is served, to the nonce of message 2; `info` is
    `key_info`. Nothing where none is."""


class ExportResponse(
    SealedResponse, frozen=True, tag_field="format", tag="wardian export response v1"
):
    """4. A `Recorded`, sealed to the job's HPKE key, signed by the mesh CA key."""


class Recorded(wire.Message, frozen=True, tag_field="format", tag="wardian export recorded v1"):
    """That an export is written down, and may leave."""

    manifest_version: Annotated[int, msgspec.Meta(ge=1)]
    first: Sequence
    """The number of the first of the export's own lines: older ones, if it was told before."""
    log: ShownLog
    """The audit log after it, with those lines."""


EXPORT_SESSION: Final = SessionForm(
    challenge=ExportChallenge,
    attestation=ExportAttestation,
    response=ExportResponse,
    transcript_label="wardian export transcript v1",
    info_label="wardian export hpke v1",
    signed_label="wardian export response v1",
    of="export ",
)


def broker_export_report_data(
    *,
    job_nonce: bytes,
    broker_nonce: bytes,
    ca_spki: bytes,
    digest: bytes,
    version: int,
    plan_digest: bytes,
    statement: bytes,
) -> bytes:
    """Return the 64 bytes that the broker's evidence in message 2 binds.

    Args:
        job_nonce: from message 1, 32 bytes.
        broker_nonce: from message 2, 32 bytes: the key that a model's key is sealed to.
        ca_spki: SubjectPublicKeyInfo (DER) of the mesh CA, whose key signs message 4.
        digest: SHA-256 of the manifest's signed bytes.
        version: the manifest's.
        plan_digest: of the plan that came, 32 bytes.
        statement: the digest in message 1, 32 bytes.
    """
    return bind(
        Purpose.BROKER,
        _EXPORT_USE,
        job_nonce,
        broker_nonce,
        ca_spki,
        digest,
        version.to_bytes(8, "big"),
        plan_digest,
        statement,
    )


def export_report_data(
    *,
    broker_nonce: bytes,
    hpke_public: bytes,
    digest: bytes,
    plan_digest: bytes,
    statement: bytes,
    sealed_key: bytes,
) -> bytes:
    """Return the 64 bytes that the job's evidence in message 3 binds.

    Args:
        broker_nonce: from message 2: evidence of an earlier session does not fit.
        hpke_public: 32 bytes; the answer is sealed to it.
        digest: SHA-256 of the manifest that the job was shown and verified.
        plan_digest: of the plan that the job ran, 32 bytes.
        statement: `statement_digest` of what the job tells, 32 bytes.
        sealed_key: of message 3: HPKE base mode names no sender, so the evidence does.
    """
    return bind(
        Purpose.EXPORT,
        broker_nonce,
        hpke_public,
        digest,
        plan_digest,
        statement,
        hashlib.sha256(sealed_key).digest(),
    )


def key_info(
    *, job_nonce: bytes, broker_nonce: bytes, digest: bytes, plan_digest: bytes, statement: bytes
) -> bytes:
    """Return the HPKE `info` of a model's key: it opens in this session and no other.

    Args: as in `export_report_data`; `job_nonce` is that of message 1.
    """
    return wire.fields(KEY_INFO, job_nonce, broker_nonce, digest, plan_digest, statement)
