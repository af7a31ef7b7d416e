"""What message 4 gives a job, and its bytes: keys stand in the clear inside HPKE, nowhere else."""

from dataclasses import dataclass
from typing import Annotated

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian.broker.jobs.merge import ModelRelease, OutputTerms
from wardian.broker.jobs.plan import MOST_INPUTS
from wardian.broker.jobs.policy import PinText
from wardian.broker.mesh.fields import Hex16, Hex32, Name, Owner, Serial
from wardian.broker.mesh.lines import ReleaseTerms
from wardian.broker.message_fields import Key32
from wardian.broker.tables.terms import TermsRecord, terms_of, terms_record
from wardian.broker.transparency.following import ShownLog
from wardian.crypto.sealed_header import Pin
from wardian.crypto.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class TableKey:
    """One table that a job may open.

    Attributes:
        owner: public key in hex; `table` is the table's name.
        serial: of the policy that allowed it; `rule` is the name of the rule of it that did.
        pin: which sealed file it is: an older one, or one that somebody else sealed, is refused.
        key_id: 32 hex digits, `BrokerKey.key_id` of `key`.
        key: 32 bytes, that opens the file.
    """

    owner: str
    table: str
    serial: int
    rule: str
    pin: Pin
    key_id: str
    key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRelease:
    """The plaintext of message 4 while it is in memory.

    Attributes:
        job_id: 32 bytes, of the debit; whoever asks again names it.
        noise_seed: 32 bytes, the same for who asks again.
        tables: by owner and table, those of the plan.
        terms: what has to hold for whatever comes out.
        model: who may be given the model to serve it; None where none goes there.
        manifest_version: in force.
        log: the audit log after it, with the release's own lines.
    """

    job_id: bytes
    noise_seed: Secret
    tables: tuple[TableKey, ...]
    terms: OutputTerms
    model: ModelRelease | None
    manifest_version: int
    log: ShownLog


class _TableRecord(wire.Message, frozen=True):
    owner: Owner
    table: Name
    serial: Serial
    rule: Name
    pin: PinText
    key_id: Hex16
    key: Key32

    @override
    def __repr__(self) -> str:
        return f"_TableRecord({self.table} {self.key_id})"  # never the key


class _OwnerTerms(wire.Message, frozen=True):
    owner: Owner
    terms: ReleaseTerms


class _ModelRecord(wire.Message, frozen=True):
    measurements: Annotated[tuple[Hex32, ...], msgspec.Meta(min_length=1, max_length=64)]
    terms: Annotated[tuple[_OwnerTerms, ...], msgspec.Meta(max_length=MOST_INPUTS)]


class _JobRecord(wire.Message, frozen=True, tag_field="format", tag="wardian job release v1"):
    job_id: Key32
    noise_seed: Key32
    tables: Annotated[tuple[_TableRecord, ...], msgspec.Meta(min_length=1, max_length=MOST_INPUTS)]
    terms: TermsRecord
    model: _ModelRecord | None
    manifest_version: Annotated[int, msgspec.Meta(ge=1)]
    log: ShownLog

    @override
    def __repr__(self) -> str:
        return f"_JobRecord({self.job_id.hex()})"  # never the seed


def encode_job_release(release: JobRelease) -> bytes:
    """Return the plaintext of message 4; the caller seals it at once."""
    return wire.encode(
        _JobRecord(
            job_id=release.job_id,
            noise_seed=release.noise_seed.reveal(),
            tables=tuple(
                _TableRecord(
                    owner=each.owner,
                    table=each.table,
                    serial=each.serial,
                    rule=each.rule,
                    pin=str(each.pin),
                    key_id=each.key_id,
                    key=each.key.reveal(),
                )
                for each in release.tables
            ),
            terms=terms_record(release.terms),
            model=_model_record(release.model),
            manifest_version=release.manifest_version,
            log=release.log,
        )
    )


def decode_job_release(plaintext: bytes) -> JobRelease:
    """Return the release in the opened message 4; FormatError if it is none."""
    record = wire.decode(plaintext, _JobRecord, what="job release")
    tables = tuple(
        TableKey(
            owner=each.owner,
            table=each.table,
            serial=each.serial,
            rule=each.rule,
            pin=Pin.parse(each.pin),
            key_id=each.key_id,
            key=Secret(each.key),
        )
        for each in record.tables
    )
    return JobRelease(
        job_id=record.job_id,
        noise_seed=Secret(record.noise_seed),
        tables=tables,
        terms=terms_of(record.terms),
        model=_model(record.model),
        manifest_version=record.manifest_version,
        log=record.log,
    )


def _model_record(model: ModelRelease | None) -> _ModelRecord | None:
    if model is None:
        return None
    return _ModelRecord(
        measurements=tuple(sorted(model.measurements)),
        terms=tuple(_OwnerTerms(owner=owner, terms=terms) for owner, terms in model.terms),
    )


def _model(record: _ModelRecord | None) -> ModelRelease | None:
    if record is None:
        return None
    return ModelRelease(
        measurements=frozenset(record.measurements),
        terms=tuple((each.owner, each.terms) for each in record.terms),
    )
