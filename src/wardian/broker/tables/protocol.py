"""The four messages by which a job gets keys of tables: fields, what evidence binds, signatures.

    job                                                         broker
       | 1 JobRequest      plan, nonce                            |
       |--------------------------------------------------------->|
       | 2 JobChallenge    nonce, manifest, CA, broker's evidence |
       |<---------------------------------------------------------|
       | 3 JobAttestation  evidence, HPKE key                     |
       |--------------------------------------------------------->|
       | 4 JobResponse     HPKE(keys, terms, seed), CA signature  |
       |<---------------------------------------------------------|

They are those of a release (`release.protocol`), about a plan instead of models. The plan's digest
stands in the evidence of both ends, so a host that swaps the plan has two that do not fit (TRUST
T8); and every label is another, so nothing of a release passes for this, or the other way round
(T24).

Byte forms and reasons: `docs/reference/protocol.md`. Only data here: no socket, clock or state.
"""

from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.attestation.evidence import Purpose, bind
from wardian.broker.mesh.fields import Hex32
from wardian.broker.message_fields import Nonce
from wardian.broker.session.form import SealedResponse, SessionForm, Vouching
from wardian.broker.session.shown import MeshChallenge
from wardian.broker.state.audit import Count

MAX_ASKED_PLAN_BYTES: Final = 44 * 1024
"""Of a plan's canonical form: in base64 it fits into a first message, which comes from anybody."""
JOB_ID_BYTES: Final = 32
SALT_BYTES: Final = 16
"""The first half of a job's id, which the job chooses."""

# As with owners: no nonce of 32 bytes equals it, so that the broker's evidence for a job is none
# for a workload, or for an owner.
_JOB_USE: Final = b"job"


class JobRequest(wire.Message, frozen=True, tag_field="format", tag="wardian job request v1"):
    """1. What the job wants to do. Nothing of this is believed before message 3."""

    tee: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,32}\Z")]
    """The kind of TEE, for the log; what decides is the root of its evidence."""
    plan: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_ASKED_PLAN_BYTES)]
    """Its exact canonical bytes."""
    nonce: Nonce
    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    """Chosen before the job asks for the first time. Who did not hear the answer asks with the same
    one, and pays once. Bound in the evidence."""
    again: Hex32 | None = None
    """The id of a job that had these keys and is dead: the same noise, and no more is spent of any
    budget. Bound in the evidence."""
    seen: Count = 0
    """How many lines of the audit log it has seen."""


class JobChallenge(MeshChallenge, frozen=True, tag_field="format", tag="wardian job challenge v1"):
    """2. Who the broker is, fresh for this nonce and plan: see `broker_job_report_data`."""


class JobAttestation(Vouching, frozen=True, tag_field="format", tag="wardian job attestation v1"):
    """3. The job's evidence, which binds `job_report_data` and so its key."""


class JobResponse(SealedResponse, frozen=True, tag_field="format", tag="wardian job response v1"):
    """4. A `content.JobRelease`, sealed to the job's HPKE key, signed by the mesh CA key."""


JOB_SESSION: Final = SessionForm(
    challenge=JobChallenge,
    attestation=JobAttestation,
    response=JobResponse,
    transcript_label="wardian job transcript v1",
    info_label="wardian job hpke v1",
    signed_label="wardian job response v1",
    of="job ",
)


def broker_job_report_data(
    *,
    job_nonce: bytes,
    broker_nonce: bytes,
    ca_spki: bytes,
    digest: bytes,
    version: int,
    plan_digest: bytes,
) -> bytes:
    """Return the 64 bytes that the broker's evidence in message 2 binds.

    Args:
        job_nonce: from message 1, 32 bytes.
        broker_nonce: from message 2, 32 bytes.
        ca_spki: SubjectPublicKeyInfo (DER) of the mesh CA, whose key signs message 4.
        digest: SHA-256 of the manifest's signed bytes.
        version: the manifest's.
        plan_digest: `jobs.plan.plan_digest` of the plan that came, 32 bytes.
    """
    return bind(
        Purpose.BROKER,
        _JOB_USE,
        job_nonce,
        broker_nonce,
        ca_spki,
        digest,
        version.to_bytes(8, "big"),
        plan_digest,
    )


def job_report_data(
    *,
    broker_nonce: bytes,
    hpke_public: bytes,
    digest: bytes,
    plan_digest: bytes,
    salt: bytes,
    again: str | None,
) -> bytes:
    """Return the 64 bytes that the job's evidence in message 3 binds.

    Args:
        broker_nonce: from message 2: evidence of an earlier session does not fit.
        hpke_public: 32 bytes; what is released is sealed to it.
        digest: SHA-256 of the manifest that the job was shown and verified.
        plan_digest: of the plan that the job runs, 32 bytes.
        salt: of message 1, and so is
        again: nobody else has a job ask for what another one had.
    """
    return bind(
        Purpose.JOB,
        broker_nonce,
        hpke_public,
        digest,
        plan_digest,
        salt,
        bytes.fromhex(again or ""),
    )
