"""What has to hold of what a job tells before it gives anything out; and who is refused."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import toy_jobs
from toy_exports import (
    APPROVER,
    FILE,
    MODEL,
    MODEL_KEY,
    OTHER_WORKER,
    WORKER,
    ExportBroker,
    plan,
    rule,
    serving_hospitals,
    statement,
)
from toy_jobs import allow
from toy_mesh import NOW, digest
from toy_tables import CODE, JOB, TABLE_KEYS, A, Ask, B

from wardian.attestation.appraisal.policy import AllOf, AppraisalPolicy
from wardian.broker.exports import served as served_module
from wardian.broker.exports.statement import (
    ExportedTable,
    ExportStatement,
    decode_statement,
    encode_statement,
    statement_digest,
)
from wardian.broker.jobs.plan import plan_digest
from wardian.broker.jobs.policy import DataPolicy
from wardian.broker.joint.kept import PARTS, RECORDS, end_models, find_key, find_model
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.state.audit import AuditEntry
from wardian.broker.tables.asked import refuse_unlisted
from wardian.broker.tables.granted import GrantedTables
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, FormatError, PolicyDenied, SealError, Timeout


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ExportBroker]:
    with closing(ExportBroker(serving_hospitals(), tmp_path / "broker.db")) as broker:
        yield broker


@pytest.fixture
def granted(broker: ExportBroker) -> GrantedTables:
    return broker.granted()


def exports(broker: ExportBroker, kind: str = "table") -> list[Any]:
    return [each for each in broker.entries() if (each.event, each.kind) == ("export", kind)]


def refused(broker: ExportBroker, told: ExportStatement, **how: Any) -> str:
    """Return the rule that refuses, once nothing was written or kept by it."""
    before = (broker.store.audit_head, broker.store.keys(RECORDS), broker.store.keys(PARTS))
    with pytest.raises(PolicyDenied) as caught:
        broker.tell(told, **how)
    assert before == (broker.store.audit_head, broker.store.keys(RECORDS), broker.store.keys(PARTS))
    return str(caught.value.rule)


def table(told: ExportStatement, **changes: Any) -> ExportStatement:
    """Return `told` with another first table."""
    first = msgspec.structs.replace(told.tables[0], **changes)
    return msgspec.structs.replace(told, tables=(first, *told.tables[1:]))


# The good case first: everything below differs from it in one thing.


def test_every_owner_of_a_table_has_a_line_before_anything_leaves(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    lines = broker.store.audit_head.count
    recorded = broker.tell(statement(granted))
    assert recorded.log.witnessed.head.audit.count == lines + 3
    assert {each.owner for each in exports(broker)} == {
        toy_jobs.KEYS[each].public.hex() for each in (A, B)
    }
    for line in exports(broker):
        assert (line.outcome, line.role, line.version) == ("granted", "job", 1)
        assert line.secret in {"records", "claims"}
        assert line.measurement == JOB.hex()
        assert line.plan == plan_digest(plan()).hex()
        assert line.job == granted.job_id.hex()
        assert line.export == digest("all that comes out").hex()
        assert line.report == digest("report").hex()
        assert len(line.evidence) == 64
    assert [line.approvers for line in exports(broker)] == [APPROVER, ""]
    (model,) = exports(broker, "model")
    assert (model.model, model.version, model.key_id) == (MODEL, 1, FILE.key_id)


def test_a_plan_that_serves_nothing_leaves_no_key(broker: ExportBroker) -> None:
    other = plan(outputs={"model": [A]})
    granted = Ask(broker, other).whole()
    broker.tell(statement(granted, served=None), key=None, plan=other)
    assert len(exports(broker)) == 2
    assert exports(broker, "model") == []
    assert broker.store.keys(RECORDS) == broker.store.keys(PARTS) == ()


def test_the_key_of_the_model_is_in_no_line_and_no_repr(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    broker.tell(statement(granted))
    key = MODEL_KEY.key.reveal()
    model = find_model(broker.store, FILE.key_id)
    assert model is not None
    for raw in (*broker.store.audit_lines(limit=1000), repr(model).encode()):
        assert key not in raw
        assert key.hex().encode() not in raw
    assert find_key(broker.store, model) == MODEL_KEY.key


# Told twice, told again


def test_the_same_told_twice_is_answered_the_same_way(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    """The job was killed before it heard, or the host cut the line."""
    told = statement(granted)
    first = broker.tell(told).first
    line = broker.entries()[first - 1]
    assert (line.event, line.job) == ("export", told.job)
    broker.restart()
    recorded = broker.tell(told)
    assert recorded.first == first
    assert recorded.log.witnessed.head.audit.count == broker.store.audit_head.count
    assert len(exports(broker)) == 2
    assert broker.store.keys(RECORDS) == (FILE.key_id,)
    model = find_model(broker.store, FILE.key_id)
    assert model is not None
    assert find_key(broker.store, model) == MODEL_KEY.key


def test_a_job_that_is_started_in_a_loop_tells_the_same_and_the_log_stays_as_it_is(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    told = statement(granted)
    broker.tell(told)
    before = (broker.store.audit_head, broker.store.generation)
    for _ in range(5):
        broker.tell(told)
    assert before == (broker.store.audit_head, broker.store.generation)


def test_what_was_told_already_is_judged_all_the_same(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    told = statement(granted)
    broker.tell(told)
    broker.consent(A, serial=2, revoked=True, keys=())
    assert refused(broker, told) == "export-policy"


def test_a_broker_in_whose_place_another_counts_answers_nothing_that_was_told_already(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    told = statement(granted)
    broker.tell(told)
    broker.counter.value += 1
    with pytest.raises(SealError):
        broker.tell(told)


def test_what_was_told_of_a_table_since_is_what_it_remembers(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    """One telling for each table, whatever is told: what was before has lines once more."""
    told, other = statement(granted), statement(granted, report=digest("x").hex())
    first = [broker.tell(each).first for each in (told, other, told, told)]
    assert first == sorted(first)
    assert len(set(first)) == 3
    assert len(exports(broker)) == 6


def test_a_model_that_is_kept_once_more_has_its_lines(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    told = statement(granted)
    first = broker.tell(told).first
    model = find_model(broker.store, FILE.key_id)
    assert model is not None
    entry = broker.authority.entry(event="provision", outcome="granted")
    broker.authority.record([entry], end_models([model], named=(), now=NOW))
    assert broker.tell(told).first > first
    assert len(exports(broker, "model")) == 2
    assert find_key(broker.store, model) == MODEL_KEY.key


def test_a_broker_that_is_killed_before_it_counts_is_told_again(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    told = statement(granted)
    broker.counter.fails = True
    with pytest.raises((SealError, OSError)):
        broker.tell(told)
    broker.counter.fails = False
    broker.restart()
    broker.tell(told)
    assert broker.store.keys(RECORDS) == (FILE.key_id,)


def test_a_job_that_runs_again_tells_of_other_pins_and_the_log_shows_it(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    again = Ask(broker, plan(), again=granted.job_id).whole()
    assert again.job_id == granted.job_id
    broker.tell(statement(granted))
    other = Secret(b"k" * 32)
    broker.tell(
        statement(
            again,
            export=digest("other pins").hex(),
            served=msgspec.structs.replace(FILE, key_id=kept_id(other)),
        ),
        key=other,
    )
    assert len({each.export for each in exports(broker)}) == 2
    assert len({each.job for each in exports(broker)}) == 1
    assert broker.store.keys(RECORDS) == tuple(sorted((FILE.key_id, kept_id(other))))


def kept_id(key: Secret) -> str:
    return BrokerKey(key).key_id.hex()


def test_one_key_for_two_models_or_tellings_is_refused(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    told = statement(granted)
    broker.tell(told)
    other = msgspec.structs.replace(told, export=digest("other pins").hex())
    assert refused(broker, other) == "export-key"
    larger = msgspec.structs.replace(FILE, total_bytes=1001)
    assert refused(broker, msgspec.structs.replace(told, served=larger)) == "export-key"


# The id: of a debit, for this plan, this code, these policies


def test_an_id_that_nobody_paid_for(broker: ExportBroker, granted: GrantedTables) -> None:
    flipped = bytes([granted.job_id[0] ^ 1]) + granted.job_id[1:]
    for job_id in (bytes(32), flipped):
        assert refused(broker, statement(granted, job=job_id.hex())) == "export-unpaid"


def test_a_broker_that_never_made_an_id_refuses_all(tmp_path: Path) -> None:
    with closing(ExportBroker(serving_hospitals(), tmp_path / "one.db")) as one:
        granted = one.granted()
    with closing(ExportBroker(serving_hospitals(), tmp_path / "two.db")) as two:
        assert refused(two, statement(granted)) == "export-unpaid"


def test_an_id_of_another_plan(broker: ExportBroker, granted: GrantedTables) -> None:
    other = plan(train={"algorithm": toy_jobs.TRAINED, "parameters": {"l2": 0.7}})
    assert refused(broker, statement(granted), plan=other) == "export-unpaid"


def test_an_id_of_other_code(tmp_path: Path) -> None:
    """Two jobs' codes are listed by all; one tells what the other had."""
    mesh = serving_hospitals()
    two = digest("job 2")
    with closing(ExportBroker(mesh, tmp_path / "b.db")) as broker:
        roles = dict(mesh.manifest().roles)
        roles["job"] = RoleReference(measurements=(JOB.hex(), two.hex()))
        broker.provision(mesh.signed(version=2, roles=roles))
        for owner in (A, B):
            broker.consent(owner, serial=2, code={**CODE, "measurements": [JOB.hex(), two.hex()]})
        granted = broker.granted()
        broker.tell(statement(granted))
        assert refused(broker, statement(granted), measurement=two) == "export-unpaid"


# Code: the manifest's, and every owner's


def test_code_that_the_manifest_lists_for_something_else(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    with pytest.raises(PolicyDenied) as caught:
        broker.tell(statement(granted), measurement=broker.mesh.measurements["worker"])
    assert caught.value.rule == "MeasurementIn"


def test_the_manifest_lets_the_code_go_meanwhile(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    mesh = broker.mesh
    roles = dict(mesh.manifest().roles)
    roles["job"] = RoleReference(measurements=(digest("job 2").hex(),))
    broker.provision(mesh.signed(version=2, roles=roles))
    with pytest.raises(PolicyDenied) as caught:
        broker.tell(statement(granted))
    assert caught.value.rule == "MeasurementIn"
    with pytest.raises(PolicyDenied) as caught:
        refuse_unlisted(broker.authority.manifest.manifest, JOB.hex())
    assert caught.value.rule == "role-measurement"


def test_the_manifest_changes_between_messages(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    before = broker.authority.manifest
    broker.provision(broker.mesh.signed(version=2))
    with pytest.raises(Timeout, match="ask again"):
        broker.tell(statement(granted), shown=before)


def test_an_owner_gives_to_other_platforms_by_now(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy is the same, and what is known of the platform is not."""
    nothing = AppraisalPolicy(roots=frozenset(), rule=AllOf())
    monkeypatch.setattr(DataPolicy, "appraisal", nothing)
    with pytest.raises(PolicyDenied, match="does not give it to this code any more") as caught:
        broker.tell(statement(granted))
    assert caught.value.rule == "job-code"


# Policies that changed since


@pytest.mark.parametrize("changes", [{}, {"uses": 100}, {"revoked": True, "keys": ()}])
def test_a_policy_that_changed_or_was_withdrawn_meanwhile(
    broker: ExportBroker, granted: GrantedTables, changes: dict[str, Any]
) -> None:
    told = statement(granted)
    broker.consent(B, serial=2, **changes)
    assert refused(broker, told) == "export-policy"
    claims = next(each for each in told.tables if each.table == "claims")
    renamed = tuple(
        msgspec.structs.replace(each, serial=2) if each is claims else each for each in told.tables
    )
    honest = msgspec.structs.replace(told, tables=renamed)
    wanted = "export-policy" if changes.get("revoked") else "export-unpaid"
    assert refused(broker, honest) == wanted


def test_a_newer_policy_that_was_refused_ends_those_before(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    pin = f"wardian-pin-v1:{'2' * 64}:{'3' * 32}"
    with pytest.raises(PolicyDenied):
        broker.consent(B, serial=2, pin=pin, keys=())
    assert refused(broker, statement(granted)) == "export-policy"


def test_an_owner_whose_beacons_stopped_may_have_withdrawn(broker: ExportBroker) -> None:
    """T21: the host holds its visit up, and the job has everything ready."""
    broker.consent(B, serial=2, max_beacon_age_s=50)
    broker.order("beacon", time=broker.host_time, owner=1)
    told = statement(broker.granted())
    broker.host_time += 51
    assert refused(broker, told) == "beacon-old"
    broker.order("beacon", time=broker.host_time, owner=1)
    broker.tell(told)


def test_a_statement_of_another_serial(broker: ExportBroker, granted: GrantedTables) -> None:
    assert refused(broker, table(statement(granted), serial=2)) == "export-policy"


def test_a_statement_about_other_tables(broker: ExportBroker, granted: GrantedTables) -> None:
    told = statement(granted)
    strange = ExportedTable(owner="f" * 64, table="other", serial=1, rule="study")
    for tables in (told.tables[:1], (*told.tables, strange)):
        ordered = tuple(sorted(tables, key=lambda each: each.place))
        wrong = msgspec.structs.replace(told, tables=ordered)
        assert refused(broker, wrong) == "export-tables"


def test_a_rule_that_did_not_allow_the_plan(broker: ExportBroker) -> None:
    """A rule without approvals, for another purpose, is named in the place of the one that was."""
    lenient = {**allow(A, purposes=["billing"]), "name": "billing"}
    broker.consent(A, serial=2, allow=[rule(A), lenient])
    told = statement(broker.granted())
    place = next(n for n, each in enumerate(told.tables) if each.table == "records")
    for name in ("billing", "nothing"):
        tables = list(told.tables)
        tables[place] = msgspec.structs.replace(tables[place], rule=name)
        wrong = msgspec.structs.replace(told, tables=tuple(tables))
        assert refused(broker, wrong) == "export-rule"
    broker.tell(told)


def test_a_rule_whose_time_is_over_since_the_table_was_had(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    """Training may take longer; that no worker is given the model any more is said elsewhere."""
    broker.host_time += 101
    for owner in (A, B):
        broker.order("beacon", time=broker.host_time, owner=(A, B).index(owner))
    broker.tell(statement(granted))


# Approvals, a second time


def test_too_few_or_other_approvers(broker: ExportBroker, granted: GrantedTables) -> None:
    for approvers in ((), (toy_jobs.KEYS[A].public.hex(),)):
        assert refused(broker, statement(granted, approvers=approvers)) == "export-approvals"


# The model


def test_a_model_of_another_name_or_none_or_one_too_many(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    digits = msgspec.structs.replace(FILE, name="digits")
    assert refused(broker, statement(granted, served=digits)) == "export-model"
    assert refused(broker, statement(granted, served=None), key=None) == "export-model"
    other = plan(outputs={"model": [A]})
    theirs = Ask(broker, other).whole()
    assert refused(broker, statement(theirs), plan=other) == "export-model"
    keyed = statement(theirs, served=None)
    assert refused(broker, keyed, plan=other) == "export-key"


def test_a_key_that_is_not_its_id_s(broker: ExportBroker, granted: GrantedTables) -> None:
    told = statement(granted)
    for key in (None, Secret(b"x" * 32)):
        assert refused(broker, told, key=key) == "export-key"


def test_a_model_of_a_table_whose_key_is_not_there(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    owner = toy_jobs.KEYS[B].public.hex()
    place = "table-key", f"{owner}/{TABLE_KEYS[B].key_id.hex()}"
    line = AuditEntry(event="provision", outcome="granted")
    broker.store.commit({place: None}, audit=[line], now=NOW)
    assert refused(broker, statement(granted)) == "export-key"
    broker.store.commit({place: TABLE_KEYS[B].key.reveal()}, audit=[line], now=NOW)
    broker.tell(statement(granted))


def test_code_that_one_owner_names_and_the_other_does_not_never_serves(
    broker: ExportBroker,
) -> None:
    broker.consent(B, serial=2, allow=[rule(B, output={"serving": [WORKER.hex()]})])
    broker.tell(statement(broker.granted()))
    model = find_model(broker.store, FILE.key_id)
    assert model is not None
    assert model.measurements == (WORKER.hex(),)
    assert OTHER_WORKER.hex() not in model.measurements


def test_the_broker_keeps_a_bounded_number_of_keys(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_module, "MOST_PARTS", 3)  # one for each of two owners
    broker.tell(statement(granted))
    broker.tell(statement(granted))
    other = Secret(b"k" * 32)
    told = statement(granted, served=msgspec.structs.replace(FILE, key_id=kept_id(other)))
    assert refused(broker, told, key=other) == "memory-full"
    broker.host_time += 101  # the first one's time is over: it makes room
    for number in (0, 1):
        broker.order("beacon", time=broker.host_time, owner=number)
    broker.tell(told, key=other)
    assert broker.store.keys(RECORDS) == (kept_id(other),)


# Forms


def test_a_statement_has_one_form(granted: GrantedTables) -> None:
    told = statement(granted)
    raw = encode_statement(told)
    assert decode_statement(raw) == told
    assert len(statement_digest(raw)) == 32
    assert statement_digest(raw) != statement_digest(raw + b" ")
    values = msgspec.to_builtins(told)
    for changes in (
        {"tables": values["tables"][::-1]},
        {"tables": [values["tables"][0]] * 2},
        {"tables": []},
        {"approvers": [APPROVER, APPROVER]},
        {"job": "00"},
        {"served": {**values["served"], "total_bytes": 0}},
        {"more": 1},
    ):
        with pytest.raises(FormatError, match="export statement"):
            decode_statement(msgspec.json.encode(values | changes))


def test_a_job_whose_model_would_have_too_long_a_name() -> None:
    plan(name="j" * 58)
    with pytest.raises(ConfigError, match="too long"):
        plan(name="j" * 59)
    toy_jobs.job(name="j" * 64)
