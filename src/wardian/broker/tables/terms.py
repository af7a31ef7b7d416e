"""The output policy of a job as bytes: what message 4 and a job's own state say of it."""

from collections.abc import Iterable
from typing import Annotated

import msgspec

from wardian._internal import wire
from wardian.broker.jobs.merge import ApprovalTerms, OutputTerms
from wardian.broker.jobs.parties import MOST_PARTIES, Recipient
from wardian.broker.jobs.plan import MOST_INPUTS
from wardian.broker.jobs.policy import Delta, Epsilon, Rows
from wardian.broker.mesh.fields import Hex32, Owner


class _RecipientRecord(wire.Message, frozen=True):
    key: Owner
    seal_to: Hex32


class _ApprovalRecord(wire.Message, frozen=True):
    needed: Annotated[int, msgspec.Meta(ge=1, le=MOST_PARTIES)]
    of: Annotated[tuple[Owner, ...], msgspec.Meta(min_length=1, max_length=MOST_PARTIES)]


_Recipients = Annotated[tuple[_RecipientRecord, ...], msgspec.Meta(max_length=MOST_PARTIES)]
_Codes = Annotated[tuple[Hex32, ...], msgspec.Meta(max_length=64)]


class TermsRecord(wire.Message, frozen=True):
    """What holds for whatever comes out, as it stands in messages and in what a job keeps."""

    model: _Recipients
    metrics: _Recipients
    aggregates: _Recipients
    serving: _Codes
    smallest_join: Rows
    smallest_cohort: Rows
    epsilon: Epsilon | None
    delta: Delta | None
    approvals: Annotated[tuple[_ApprovalRecord, ...], msgspec.Meta(max_length=MOST_INPUTS)]


def terms_record(terms: OutputTerms) -> TermsRecord:
    """Return `terms` in their one order."""
    approvals = [
        _ApprovalRecord(needed=each.needed, of=tuple(sorted(each.of))) for each in terms.approvals
    ]
    return TermsRecord(
        model=_recipient_records(terms.model),
        metrics=_recipient_records(terms.metrics),
        aggregates=_recipient_records(terms.aggregates),
        serving=tuple(sorted(terms.serving)),
        smallest_join=terms.smallest_join,
        smallest_cohort=terms.smallest_cohort,
        epsilon=terms.epsilon,
        delta=terms.delta,
        approvals=tuple(sorted(approvals, key=lambda each: (each.of, each.needed))),
    )


def terms_of(record: TermsRecord) -> OutputTerms:
    """Return the terms in `record`."""
    return OutputTerms(
        model=_recipients(record.model),
        metrics=_recipients(record.metrics),
        aggregates=_recipients(record.aggregates),
        serving=frozenset(record.serving),
        smallest_join=record.smallest_join,
        smallest_cohort=record.smallest_cohort,
        epsilon=record.epsilon,
        delta=record.delta,
        approvals=frozenset(
            ApprovalTerms(needed=each.needed, of=frozenset(each.of)) for each in record.approvals
        ),
    )


def _recipient_records(recipients: Iterable[Recipient]) -> tuple[_RecipientRecord, ...]:
    return tuple(
        _RecipientRecord(key=each.key, seal_to=each.seal_to) for each in sorted(recipients)
    )


def _recipients(records: Iterable[_RecipientRecord]) -> frozenset[Recipient]:
    return frozenset(Recipient(key=each.key, seal_to=each.seal_to) for each in records)
