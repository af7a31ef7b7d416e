"""The four messages of a release: their fields, what evidence binds, what is signed.

    workload                                                    broker
       | 1 Request      role, models, nonce                       |
       |--------------------------------------------------------->|
       | 2 Challenge    nonce, manifest, CA, broker's evidence    |
       |<---------------------------------------------------------|
       | 3 Attestation  evidence, HPKE key, certificate request   |
       |--------------------------------------------------------->|
       | 4 Response     HPKE(certificate, secrets), CA signature  |
       |<---------------------------------------------------------|

Each message is one frame of JSON. What sessions of this form have in common is in `session`.

Byte forms and reasons: `docs/reference/protocol.md`. Only data here: no socket, clock or state.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian.attestation.evidence import Purpose, bind
from wardian.broker.infrastructure.grant import QueueGrant
from wardian.broker.mesh.fields import Hex16, Name
from wardian.broker.mesh.lines import MAX_SECRET_BYTES
from wardian.broker.message_fields import Der, Key32, Nonce
from wardian.broker.release.request_keys import RequestKey
from wardian.broker.session.form import SealedResponse, SessionForm, Vouching
from wardian.broker.session.shown import MeshChallenge
from wardian.broker.state.audit import Count
from wardian.broker.transparency.following import ShownLog
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret

KEY_ID_BYTES: Final = 16

Models = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=256)]


class Request(wire.Message, frozen=True, tag_field="format", tag="wardian release request v1"):
    """1. Who the workload says it is. Nothing of this is believed before message 3."""

    role: Name
    tee: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,32}\Z")]
    """The kind of TEE, for the log; what decides is the root of its evidence."""
    models: Models
    nonce: Nonce
    renewal: bool = False
    """Whether a workload that holds its secrets already wants to go on: it gets a certificate and
    the queue keys and nothing else, so this counts as no use. Bound in its evidence."""
    seen: Count = 0
    """How many lines of the audit log it has seen: those of its last admission."""
    queue_access: bool = False
    """Whether its queue is a Redis, which takes a certificate and a password of its own."""


class Challenge(MeshChallenge, frozen=True, tag_field="format", tag="wardian release challenge v1"):
    """2. Who the broker is, fresh for this nonce; its evidence binds `broker_report_data`."""


class Attestation(Vouching, frozen=True, tag_field="format", tag="wardian release attestation v1"):
    """3. The workload's evidence, which binds `workload_report_data` and so its two keys."""

    csr: Der
    """PKCS #10 request, DER, for the TLS key whose SubjectPublicKeyInfo the evidence binds."""


class Response(SealedResponse, frozen=True, tag_field="format", tag="wardian release response v1"):
    """4. A `Release`, sealed to the workload's HPKE key, signed by the mesh CA key."""


RELEASE_SESSION: Final = SessionForm(
    challenge=Challenge,
    attestation=Attestation,
    response=Response,
    transcript_label="wardian release transcript v1",
    info_label="wardian release hpke v1",
    signed_label="wardian release response v1",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedSecret:
    """One secret that a workload may have.

    `kind` is "model" (a `BrokerKey` for the sealed file of `version`), "queue" (32 bytes for
    `crypto.message`, of `epoch`), "request" (an X25519 private key of 32 bytes for
    `crypto.sealed_request`, of `epoch`) or "secret" (1 byte to 64 KiB, by `name`). Of `version` and
    `epoch` those that do not apply are None; `model` and `name` are empty where they do not.
    """

    kind: Literal["model", "queue", "request", "secret"]
    model: str
    version: int | None
    epoch: int | None
    key_id: str
    key: Secret
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The plaintext of message 4 while it is in memory."""

    certificate_chain: tuple[bytes, ...]
    """DER: the workload's own certificate, the issuing CA's, the mesh CA's."""
    manifest_version: int
    secrets: tuple[ReleasedSecret, ...]
    log: ShownLog
    """The audit log after it, with the release's own lines; it goes on from `Challenge.log`."""
    request_keys: tuple[RequestKey, ...] = ()
    """For a front end: what it tells clients who seal to the workers of its models. Public."""
    queue: QueueGrant | None = None
    """Access to Redis, for who asked for it; at a renewal with a fresh certificate."""


class _SecretRecord(wire.Message, frozen=True):
    """A `ReleasedSecret` of 32 bytes as it stands inside the HPKE ciphertext, and nowhere else."""

    kind: Literal["model", "queue", "request"]
    model: Name
    version: Annotated[int, msgspec.Meta(ge=1)] | None
    epoch: Annotated[int, msgspec.Meta(ge=1)] | None
    key_id: Hex16
    key: Key32

    @override
    def __repr__(self) -> str:
        return f"_SecretRecord({self.kind} {self.model} {self.key_id})"  # never the key


class _NamedRecord(wire.Message, frozen=True):
    """Likewise a `ReleasedSecret` that has a name."""

    name: Name
    key_id: Hex16
    value: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_SECRET_BYTES)]

    @override
    def __repr__(self) -> str:
        return f"_NamedRecord({self.name} {self.key_id})"  # never the value


class _QueueRecord(wire.Message, frozen=True):
    """Likewise a `QueueGrant`."""

    infrastructure_ca: Der
    certificate: Der
    username: Name
    password: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]

    @override
    def __repr__(self) -> str:
        return f"_QueueRecord({self.username})"  # never the password


class _ReleaseRecord(wire.Message, frozen=True, tag_field="format", tag="wardian release v1"):
    certificate_chain: Annotated[tuple[Der, ...], msgspec.Meta(min_length=3, max_length=3)]
    manifest_version: Annotated[int, msgspec.Meta(ge=1)]
    secrets: Annotated[tuple[_SecretRecord, ...], msgspec.Meta(max_length=4096)]
    named: Annotated[tuple[_NamedRecord, ...], msgspec.Meta(max_length=64)]
    log: ShownLog
    request_keys: Annotated[tuple[RequestKey, ...], msgspec.Meta(max_length=256)] = ()
    queue: _QueueRecord | None = None


def broker_report_data(
    *, workload_nonce: bytes, broker_nonce: bytes, ca_spki: bytes, digest: bytes, version: int
) -> bytes:
    """Return the 64 bytes that the broker's evidence in message 2 binds (TRUST T1, T2).

    Args:
        workload_nonce: from message 1, so that the evidence is fresh for this workload.
        broker_nonce: from message 2, so that the evidence belongs to this session alone.
        ca_spki: SubjectPublicKeyInfo (DER) of the mesh CA, whose key signs message 4.
        digest: SHA-256 of the manifest's signed bytes.
        version: the manifest's.
    """
    return bind(
        Purpose.BROKER, workload_nonce, broker_nonce, ca_spki, digest, version.to_bytes(8, "big")
    )


def workload_report_data(
    *,
    broker_nonce: bytes,
    hpke_public: bytes,
    tls_spki: bytes,
    digest: bytes,
    role: str,
    models: tuple[str, ...],
    renewal: bool = False,
) -> bytes:
    """Return the 64 bytes that the workload's evidence in message 3 binds.

    Args:
        broker_nonce: from message 2: evidence of an earlier session does not fit.
        hpke_public: 32 bytes; what is released is sealed to it.
        tls_spki: SubjectPublicKeyInfo (DER) of the key that gets the certificate.
        digest: SHA-256 of the manifest that the workload was shown and verified.
        role: as asked for in message 1.
        models: as asked for in message 1, in that order.
        renewal: as asked for in message 1: nobody else spends an owner's uses, or withholds keys.
    """
    return bind(
        Purpose.RELEASE,
        broker_nonce,
        hpke_public,
        tls_spki,
        digest,
        role.encode(),
        b"renewal" if renewal else b"admission",
        *(model.encode() for model in models),
    )


def queue_key_id(key: Secret) -> bytes:
    """Return the 16 public bytes by which a queue key is named in logs and audit lines."""
    return hkdf(key, salt=b"", info=b"wardian queue key id v1", length=KEY_ID_BYTES).reveal()


def encode_release(release: Release) -> bytes:
    """Return the plaintext of message 4; the caller seals it at once."""
    return wire.encode(
        _ReleaseRecord(
            certificate_chain=release.certificate_chain,
            manifest_version=release.manifest_version,
            secrets=tuple(
                _SecretRecord(
                    kind=secret.kind,
                    model=secret.model,
                    version=secret.version,
                    epoch=secret.epoch,
                    key_id=secret.key_id,
                    key=secret.key.reveal(),
                )
                for secret in release.secrets
                if secret.kind != "secret"
            ),
            named=tuple(
                _NamedRecord(name=each.name, key_id=each.key_id, value=each.key.reveal())
                for each in release.secrets
                if each.kind == "secret"
            ),
            log=release.log,
            request_keys=release.request_keys,
            queue=_queue_record(release.queue),
        )
    )


def decode_release(plaintext: bytes) -> Release:
    """Return the release in the opened message 4; FormatError if it is none."""
    record = wire.decode(plaintext, _ReleaseRecord, what="release")
    keys = tuple(
        ReleasedSecret(
            kind=secret.kind,
            model=secret.model,
            version=secret.version,
            epoch=secret.epoch,
            key_id=secret.key_id,
            key=Secret(secret.key),
        )
        for secret in record.secrets
    )
    named = tuple(
        ReleasedSecret(
            kind="secret",
            model="",
            version=None,
            epoch=None,
            key_id=each.key_id,
            key=Secret(each.value),
            name=each.name,
        )
        for each in record.named
    )
    return Release(
        certificate_chain=record.certificate_chain,
        manifest_version=record.manifest_version,
        secrets=keys + named,
        log=record.log,
        request_keys=record.request_keys,
        queue=_queue_grant(record.queue),
    )


def _queue_record(grant: QueueGrant | None) -> _QueueRecord | None:
    if grant is None:
        return None
    return _QueueRecord(
        infrastructure_ca=grant.infrastructure_ca,
        certificate=grant.certificate,
        username=grant.username,
        password=grant.password.reveal().decode("ascii"),
    )


def _queue_grant(record: _QueueRecord | None) -> QueueGrant | None:
    if record is None:
        return None
    return QueueGrant(
        infrastructure_ca=record.infrastructure_ca,
        certificate=record.certificate,
        username=record.username,
        password=Secret(record.password.encode("ascii")),
    )
