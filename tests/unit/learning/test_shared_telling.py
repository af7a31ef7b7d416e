"""What a job tells of what came out of it, and that a line of the manifest needs nothing besides."""

import dataclasses
import hashlib

import pytest
from shared_world import JOB_ID, MEASUREMENT, A, B, Owner, agreed, csv_text, plan_of
from toy_jobs import KEYS, WORKER

from wardian.broker.exports.statement import decode_statement, encode_statement
from wardian.broker.joint.masked import mask_key
from wardian.broker.session.shown import KnownBroker
from wardian.broker.state.audit import AuditHead
from wardian.broker.tables.content import TableKey
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError
from wardian.learning.shared.keeping import Held, JobKeeper
from wardian.learning.shared.outputs import seal_outputs
from wardian.learning.shared.report import as_json, report_of
from wardian.learning.shared.running import Finished
from wardian.learning.shared.telling import describe_served, export_statement

KEY = Secret(b"key of the model".ljust(32))
MASKED = mask_key(KEY, job_id=JOB_ID, tables={"a/t": Secret(b"key of the table".ljust(32))})
BROKER = KnownBroker(
    ca_spki=b"spki", audit=AuditHead(count=3, digest="0" * 64, root="1" * 64), version=2
)


@pytest.fixture
def owners(tmp_path) -> list[Owner]:
    ids = [f"id{at}" for at in range(100)]
    return [
        Owner(A, tmp_path, csv_text({"id": ids, "age": range(100), "y": [0, 1] * 50})),
        Owner(B, tmp_path, csv_text({"id": ids, "cost": range(100)})),
    ]


def finished(owners: list[Owner], **outputs: object) -> Finished:
    """Return a job that made `a model` of both tables."""
    columns, trained = [["age"], ["cost"]], "logistic-regression"
    plan = plan_of(owners, columns, trained, outputs={"model": [A], **outputs})
    terms = agreed(plan_of(owners, columns, trained), owners)[1]
    terms = dataclasses.replace(terms, serving=frozenset((WORKER,)))
    held = seal_outputs(plan, terms, {"model": b"a model"}, serving=KEY)
    keys = [
        TableKey(
            owner=KEYS[each.name].public.hex(),
            table=each.table,
            serial=7,
            rule="study",
            pin=each.pin,
            key_id=BrokerKey(each.key).key_id.hex(),
            key=each.key,
        )
        for each in owners
    ]
    report = report_of(plan, keys, terms, held, rows=100, job_id=JOB_ID, measurement=MEASUREMENT)
    return Finished(held=held, report=report)


def test_a_job_tells_what_its_report_and_its_files_say(owners) -> None:
    job = finished(owners, serving=[WORKER])
    approvers = [KEYS[each].public.hex() for each in (B, A, B)]
    told = export_statement(job, approvers, serving=MASKED)
    assert (told.job, told.export) == (JOB_ID.hex(), job.held.digest.hex())
    assert told.report == hashlib.sha256(as_json(job.report)).hexdigest()
    assert told.approvers == tuple(sorted(approvers[:2]))
    assert {(each.owner, each.table, each.serial, each.rule) for each in told.tables} == {
        (KEYS[each.name].public.hex(), each.table, 7, "study") for each in owners
    }
    assert told.served is not None
    assert (told.served.name, told.served.version) == ("study-1.model", 1)
    assert (told.served.media_type, told.served.total_bytes) == ("application/onnx", 7)
    assert told.served.key_id == BrokerKey(KEY).key_id.hex()
    assert told.served.pin == str(job.held.outputs[1].pin)
    assert decode_statement(encode_statement(told)) == told


def test_a_model_that_is_served_and_its_key_go_together(owners) -> None:
    quiet = finished(owners)
    assert export_statement(quiet, (), serving=None).served is None
    for job, key in ((quiet, MASKED), (finished(owners, serving=[WORKER]), None)):
        with pytest.raises(LocalProtocolError, match="go together"):
            export_statement(job, (), serving=key)


def test_the_file_of_somebody_else_is_not_the_model_that_is_served(owners) -> None:
    held = finished(owners, serving=[WORKER]).held
    (party, content), (served, _) = held.contents()
    for entry in (party, served):
        with pytest.raises(LocalProtocolError, match="not the file"):
            describe_served(entry, content, key_id=MASKED.key_id)


class Plainly:
    """Seals nothing: what is kept is read again by who kept it."""

    def seal(self, plaintext: bytes, *, label: str) -> bytes:
        return label.encode() + plaintext

    def unseal(self, sealed: bytes, *, label: str) -> bytes:
        return sealed.removeprefix(label.encode())


def test_a_job_that_was_killed_tells_the_same_again(owners, tmp_path) -> None:
    """Before it heard: with another digest of the same report it would tell of another export."""
    job = finished(owners, serving=[WORKER])
    plan = plan_of(
        owners,
        [["age"], ["cost"]],
        "logistic-regression",
        outputs={"model": [A], "serving": [WORKER]},
    )
    JobKeeper(tmp_path, plan=plan, sealing=Plainly()).keep(
        Held(finished=job, serving=MASKED, broker=BROKER)
    )
    found = JobKeeper(tmp_path, plan=plan, sealing=Plainly()).load()
    assert found is not None
    again, key = found.finished, found.serving
    assert (key, found.broker) == (MASKED, BROKER)
    assert KEY.reveal() not in (tmp_path / "held.sealed").read_bytes()
    told = export_statement(job, (), serving=MASKED)
    assert encode_statement(export_statement(again, (), serving=key)) == encode_statement(told)
