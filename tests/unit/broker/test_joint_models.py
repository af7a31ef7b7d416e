"""A model that a job made is served on the word of every owner of a table in it, or not at all."""

from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
import toy_jobs
from toy_exports import (
    FILE,
    MODEL,
    MODEL_KEY,
    OTHER_WORKER,
    PIN,
    WORKER,
    ExportBroker,
    plan,
    rule,
    serving_hospitals,
    statement,
)
from toy_mesh import MASTER_KEY, NOW, digest
from toy_tables import A, Ask, B

from wardian._internal import wire
from wardian.broker.exports import served
from wardian.broker.jobs.plan import MOST_INPUTS
from wardian.broker.jobs.signing import MAX_POLICY_BYTES
from wardian.broker.joint import kept
from wardian.broker.joint.kept import (
    PARTS,
    RECORDS,
    find_key,
    find_model,
    find_models,
    keep_model,
    narrow_models,
)
from wardian.broker.joint.record import JointModel, TableTerms, ended, narrowed
from wardian.broker.mesh.lines import ReleaseTerms
from wardian.broker.mesh.manifest import MAX_MANIFEST_BYTES
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.contents import MAX_COMMIT_BYTES
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.sealer import unlock_owned
from wardian.broker.state.store import Store
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_header import Pin
from wardian.crypto.secret import Secret
from wardian.errors import PolicyDenied

KEY = MODEL_KEY.key.reveal()
AGAIN_KEY = Secret(b"key of another one".ljust(32))
AGAIN = msgspec.structs.replace(FILE, version=2, key_id=BrokerKey(AGAIN_KEY).key_id.hex())
OWNERS = [toy_jobs.KEYS[each].public.hex() for each in (A, B)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ExportBroker]:
    """A broker that was told of the model."""
    with closing(ExportBroker(serving_hospitals(), tmp_path / "broker.db")) as broker:
        broker.tell(statement(broker.granted()))
        yield broker


def refused(broker: ExportBroker, **how: Any) -> str:
    with pytest.raises(PolicyDenied) as caught:
        broker.served(**how)
    return str(caught.value.rule)


def line(broker: ExportBroker, owner: str = A, **changes: Any) -> Any:
    return broker.mesh.joint_line(owner, **changes)


def roles(broker: ExportBroker, *workers: bytes) -> dict[str, Any]:
    named = RoleReference(measurements=tuple(each.hex() for each in workers))
    return {"roles": dict(broker.mesh.manifest().roles) | {"worker": named}}


def renew(broker: ExportBroker, measurement: bytes = WORKER) -> None:
    """Have a worker that was given the model renew its certificate."""
    renewal = broker.mesh.workload(
        "worker", (MODEL,), renewal=True, seen=broker.authority.transparency.head().audit
    )
    broker.admit(renewal, broker.mesh.attest("worker", measurement=measurement))


def not_renewed(broker: ExportBroker, measurement: bytes = WORKER) -> str:
    with pytest.raises(PolicyDenied) as caught:
        renew(broker, measurement)
    return str(caught.value.rule)


def gone(broker: ExportBroker) -> bool:
    """Whether no key is left, nor a model that is not ended."""
    left = [each for each in find_models(broker.store) if not each.ended]
    return not left and broker.store.keys(PARTS) == ()


# Straight to serving


def test_nobody_has_it_before_a_line_names_it(broker: ExportBroker) -> None:
    assert refused(broker) == "model-known"


@pytest.mark.parametrize("owner", [A, B])
def test_the_workers_that_all_name_are_given_it(broker: ExportBroker, owner: str) -> None:
    broker.serve(line(broker, owner))
    assert broker.authority.missing() == ()
    assert broker.served() == KEY
    broker.restart()
    assert broker.served() == KEY
    uses = [
        each.use
        for each in broker.entries()
        if (each.event, each.kind, each.model) == ("release", "model", MODEL)
    ]
    assert uses == [1, 2]


def test_code_of_the_line_that_an_owner_did_not_name_is_refused(broker: ExportBroker) -> None:
    """A majority writes a line with a trojan; the record of the job has what all agreed to."""
    trojan = digest("trojan")
    broker.serve(line(broker, measurements=[WORKER, trojan]), **roles(broker, WORKER, trojan))
    assert refused(broker, measurement=trojan) == "joint-code"
    assert broker.served() == KEY


def test_code_that_all_owners_named_and_the_line_does_not_is_refused(broker: ExportBroker) -> None:
    broker.serve(line(broker), **roles(broker, WORKER, OTHER_WORKER))
    assert refused(broker, measurement=OTHER_WORKER) == "owner-policy"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"pin": Pin(header_digest=PIN.header_digest, last_tag=b"x" * 16)},
        {"total_bytes": 999},
    ],
)
def test_a_line_about_another_file_is_refused(
    broker: ExportBroker, changes: dict[str, Any]
) -> None:
    broker.serve(line(broker, **changes))
    assert refused(broker) == "joint-line"


def test_a_line_of_an_owner_of_the_mesh_who_has_no_table_in_it(tmp_path: Path) -> None:
    mesh = serving_hospitals()
    mesh.owners.append(toy_jobs.KEYS["hospital-c"])
    with closing(ExportBroker(mesh, tmp_path / "b.db")) as broker:
        broker.tell(statement(broker.granted()))
        broker.serve(line(broker, "hospital-c"))
        assert refused(broker) == "joint-line"


def test_a_name_of_another_model_over_its_key(broker: ExportBroker) -> None:
    digits = broker.mesh.joint_line(name="digits", serial=2)
    broker.provision(broker.mesh.signed(version=2, models=(digits,)))
    with pytest.raises(PolicyDenied) as caught:
        broker.admit(broker.mesh.workload("worker"), broker.mesh.attest("worker"))
    assert caught.value.rule == "joint-line"


def test_a_worker_of_another_model_is_not_given_it(broker: ExportBroker) -> None:
    broker.serve(line(broker))
    admission = broker.admit(broker.mesh.workload("worker"), broker.mesh.attest("worker"))
    assert KEY not in {each.key.reveal() for each in admission.secrets}


# Every owner's terms, at every release


def test_when_the_time_of_one_owner_is_over_nobody_is_given_it(broker: ExportBroker) -> None:
    broker.serve(line(broker))
    renew(broker)
    broker.host_time = NOW + 100
    assert broker.served() == KEY
    broker.host_time = NOW + 101
    assert refused(broker) == "line-expired"
    assert not_renewed(broker) == "line-expired"


def test_an_owner_s_own_beacon_ends_it(broker: ExportBroker) -> None:
    broker.serve(line(broker))
    broker.order("beacon", time=NOW + 101, owner=1)
    assert refused(broker) == "line-expired"


def test_beacons_of_every_owner_have_to_come(tmp_path: Path) -> None:
    with closing(ExportBroker(serving_hospitals(), tmp_path / "b.db")) as broker:
        broker.consent(B, serial=2, max_beacon_age_s=50)
        broker.order("beacon", time=NOW, owner=1)
        broker.tell(statement(broker.granted()))
        broker.serve(line(broker, A))
        assert broker.served() == KEY
        broker.host_time = NOW + 60
        broker.order("beacon", time=NOW + 60, owner=0)
        assert refused(broker) == "beacon-old"
        broker.order("beacon", time=NOW + 60, owner=1)
        assert broker.served() == KEY


def test_the_terms_of_the_line_hold_as_well(broker: ExportBroker) -> None:
    broker.serve(line(broker, terms=ReleaseTerms(max_uses=1)))
    assert broker.served() == KEY
    assert refused(broker) == "uses-exhausted"


# What owners take back


@pytest.mark.parametrize("owner", [A, B])
def test_a_withdrawn_table_ends_the_model_and_erases_its_key(
    broker: ExportBroker, owner: str
) -> None:
    broker.serve(line(broker))
    broker.consent(owner, serial=2, revoked=True, keys=())
    assert gone(broker)
    assert refused(broker) == "key-given"
    (taken,) = [each for each in broker.entries() if each.rule == "ended"]
    assert (taken.event, taken.kind, taken.model) == ("provision", "model", MODEL)
    assert taken.owner == toy_jobs.KEYS[owner].public.hex()
    broker.consent(owner, serial=3)  # the table comes back, what was made of it does not
    assert refused(broker) == "key-given"


def test_code_that_all_owners_name_and_the_plan_does_not_is_refused(broker: ExportBroker) -> None:
    """Approvers signed for a plan; the rules would allow more."""
    both = {"measurements": [WORKER, OTHER_WORKER]}
    broker.serve(line(broker, **both), **roles(broker, WORKER, OTHER_WORKER))
    assert refused(broker, measurement=OTHER_WORKER) == "joint-code"
    assert broker.served() == KEY


def test_a_newer_policy_takes_back_code_for_good(tmp_path: Path) -> None:
    workers = [WORKER.hex(), OTHER_WORKER.hex()]
    both = plan(outputs={"model": [A], "metrics": [B], "serving": workers})
    with closing(ExportBroker(serving_hospitals(), tmp_path / "both.db")) as broker:
        broker.tell(statement(Ask(broker, both).whole()), plan=both)
        takes_back_code(broker)


def takes_back_code(broker: ExportBroker) -> None:
    broker.serve(
        line(broker, measurements=[WORKER, OTHER_WORKER]), **roles(broker, WORKER, OTHER_WORKER)
    )
    renew(broker)
    broker.consent(B, serial=2, allow=[rule(B, output={"serving": [OTHER_WORKER.hex()]})])
    assert refused(broker) == not_renewed(broker) == "joint-code"
    assert broker.served(measurement=OTHER_WORKER) == KEY
    assert [each.rule for each in broker.entries() if each.kind == "model" and each.owner][-1:] == [
        "narrowed"
    ]
    broker.consent(B, serial=3)
    assert refused(broker) == "joint-code"
    broker.consent(B, serial=4, allow=[rule(B, output={"serving": [WORKER.hex()]})])
    assert gone(broker)


def test_a_worker_that_has_what_was_taken_back_is_not_renewed(broker: ExportBroker) -> None:
    """The record was erased, so its line looked like an owner's own: it was renewed for ever."""
    broker.serve(line(broker), line(broker, version=2, key_id=bytes(16)))
    assert broker.served() == KEY
    renew(broker)
    broker.consent(B, serial=2, revoked=True, keys=())
    assert not_renewed(broker) == "key-given"  # whatever a line of another version says
    broker.restart()
    assert not_renewed(broker) == "key-given"


def test_t7_a_line_that_goes_and_comes_again_does_not_shake_off_owners(
    broker: ExportBroker,
) -> None:
    """Between two renewals a majority drops it and names it again, so that it looks like its own."""
    broker.serve(line(broker), line(broker, version=2, key_id=bytes(16)))
    renew(broker)
    broker.provision(broker.mesh.signed(version=3))
    broker.serve(line(broker, serial=2), line(broker, version=2, key_id=bytes(16)), version=4)
    broker.consent(B, serial=2, revoked=True, keys=())
    assert not_renewed(broker) == "key-given"


def test_t7_telling_again_does_not_shake_off_owners_either(broker: ExportBroker) -> None:
    """A job that is started once more tells what it told: the record was kept anew, unnamed, and
    erased by the withdrawal, so that the line that came again looked like its owner's own."""
    told = statement(broker.granted(), served=AGAIN)
    broker.tell(told, key=AGAIN_KEY)
    again = line(broker, version=2, key_id=bytes.fromhex(AGAIN.key_id))
    broker.serve(again)
    renew(broker)
    broker.provision(broker.mesh.signed(version=3))
    lines = broker.store.audit_head.count
    broker.tell(told, key=AGAIN_KEY)  # answered as before
    assert broker.store.audit_head.count == lines
    broker.tell(msgspec.structs.replace(told, report="0" * 64), key=AGAIN_KEY)
    told_of = [each for each in broker.entries() if (each.event, each.kind) == ("export", "model")]
    assert [each.rule for each in told_of] == ["", "", "ended"]
    record = find_model(broker.store, AGAIN.key_id)
    assert record is not None
    assert record.ended
    assert find_key(broker.store, record) is None
    broker.consent(B, serial=2, revoked=True, keys=())
    renamed = line(broker, version=2, key_id=bytes.fromhex(AGAIN.key_id), serial=2)
    broker.serve(renamed, version=4)
    assert not_renewed(broker) == "key-given"


def test_what_was_let_go_is_remembered_until_no_certificate_of_then_counts(
    broker: ExportBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "MOST_PARTS", 2)  # one for each of two owners
    monkeypatch.setattr(served, "MOST_ENDED", 0)
    granted = broker.granted()
    broker.serve(line(broker))
    broker.provision(broker.mesh.signed(version=3))
    told = statement(granted, served=AGAIN)
    with pytest.raises(PolicyDenied, match="forgotten in time") as caught:
        broker.tell(told, key=AGAIN_KEY)
    assert caught.value.rule == "memory-full"
    monkeypatch.setattr(served, "MAX_INSISTED_AHEAD_S", 1000)  # toy collateral is not as fresh
    least = broker.authority.lease_s + 1000
    for late, forgotten in ((least, False), (least + 1, True)):
        broker.host_time = NOW + late
        for owner in (0, 1):
            broker.order("beacon", time=broker.host_time, owner=owner)
        with nullcontext() if forgotten else pytest.raises(PolicyDenied):
            broker.tell(told, key=AGAIN_KEY)
    assert broker.store.keys(RECORDS) == (AGAIN.key_id,)


def test_one_that_ended_takes_no_room_of_those_that_are_served(broker: ExportBroker) -> None:
    broker.serve(line(broker))
    before = find_model(broker.store, FILE.key_id)
    broker.provision(broker.mesh.signed(version=3))
    ended = find_model(broker.store, FILE.key_id)
    assert before is not None
    assert ended is not None
    assert (ended.ended_at, ended.owners) == (broker.authority.clock(), before.owners)
    other = msgspec.structs.replace(before, file=AGAIN)
    how: dict[str, Any] = {"most": 1, "floor": 0, "forget": NOW, "named": ()}
    assert keep_model(broker.store, other, AGAIN_KEY, most_ended=1, **how)
    how["forget"] = NOW + 1
    changes = keep_model(broker.store, other, AGAIN_KEY, most_ended=0, **how)
    assert changes[RECORDS, FILE.key_id] is None
    how["named"] = {FILE.key_id}  # while a line names it nothing is forgotten
    with pytest.raises(PolicyDenied, match="forgotten in time"):
        keep_model(broker.store, other, AGAIN_KEY, most_ended=0, **how)


def test_a_host_s_clock_erases_nothing(broker: ExportBroker) -> None:
    """It was put forward for one export of another job, and back: keys were gone for ever."""
    model = find_model(broker.store, FILE.key_id)
    assert model is not None
    key = Secret(b"y" * 32)
    other = msgspec.structs.replace(
        model, file=msgspec.structs.replace(FILE, key_id=BrokerKey(key).key_id.hex())
    )
    for floor, ends in ((NOW + 100, False), (NOW + 101, True)):
        changes = keep_model(
            broker.store,
            other,
            key,
            most=9,
            most_ended=9,
            floor=floor,
            forget=0,
            named={FILE.key_id},
        )
        assert ((PARTS, f"{OWNERS[0]}/{FILE.key_id}") in changes) is ends
    left = changes[RECORDS, FILE.key_id]
    assert left is not None
    assert wire.decode(left, JointModel, what="x").ended


def test_an_owner_s_next_word_about_all_of_its_models_fits_into_a_commit(
    broker: ExportBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded by number alone, they were more than a commit holds: the old terms stayed."""
    model = find_model(broker.store, FILE.key_id)
    assert model is not None
    keys = [Secret(bytes([number]) * 32) for number in range(2)]
    more = [
        msgspec.structs.replace(
            model, file=msgspec.structs.replace(FILE, key_id=BrokerKey(key).key_id.hex())
        )
        for key in keys
    ]
    monkeypatch.setattr(kept, "MOST_BYTES", 2 * len(wire.encode(model)))
    room = {"most": 9, "most_ended": 9, "floor": 0, "forget": 0, "named": ()}
    changes = keep_model(broker.store, more[0], keys[0], **room)
    broker.store.commit(changes, audit=[AuditEntry(event="export", outcome="granted")], now=NOW)
    with pytest.raises(PolicyDenied) as caught:
        keep_model(broker.store, more[1], keys[1], **room)
    assert caught.value.rule == "memory-full"


def test_the_longest_word_about_all_models_of_an_owner_fits_beside_the_longest_list() -> None:
    """The list of rows, records that all get longer terms, a line for each, and the policy."""

    def told(name: str, number: int, terms: ReleaseTerms) -> JointModel:
        return JointModel(
            file=msgspec.structs.replace(FILE, name=name),
            measurements=("0" * 64,),
            tables=(TableTerms(place=f"{OWNERS[0]}/t", terms=terms),) * number,
            job="0" * 64,
            export="0" * 64,
        )

    shortest = told("m", MOST_INPUTS, ReleaseTerms(not_after=1))
    longest = told("m", MOST_INPUTS, ReleaseTerms(not_after=2**53, max_beacon_age_s=2**31 - 1))
    grown = kept.MOST_BYTES * len(wire.encode(longest)) / len(wire.encode(shortest))
    entry = AuditEntry(
        event="provision",
        outcome="granted",
        kind="model",
        model="n" * 64,
        version=2**31 - 1,
        owner=OWNERS[0],
        secret="t" * 64,
        key_id="0" * 32,
        manifest="0" * 64,
        job="0" * 64,
        rule="narrowed",
    )
    lines = kept.MOST_PARTS * (len(wire.encode(entry)) + 256)
    policy = 2 * MAX_POLICY_BYTES
    assert wire.MAX_MESSAGE_BYTES + grown + lines + policy < MAX_COMMIT_BYTES


def test_all_that_a_manifest_lets_go_fits_into_its_commit() -> None:
    """Beside the longest list of rows, and the longest manifest, which lies there twice."""
    tables = tuple(
        TableTerms(place=f"{OWNERS[number % 2]}/{'t' * 60}{number}", terms=ReleaseTerms())
        for number in range(MOST_INPUTS)
    )
    model = JointModel(
        file=msgspec.structs.replace(FILE, name="n" * 64, media_type="t" * 64),
        measurements=tuple(f"{number:064x}" for number in range(64)),
        tables=tables,
        job="0" * 64,
        export="0" * 64,
    )
    left = kept.MOST_PARTS // 2 * len(wire.encode(ended(model, NOW)))
    manifests = 2 * MAX_MANIFEST_BYTES * 4 / 3 + 2**17
    assert wire.MAX_MESSAGE_BYTES + left + manifests < MAX_COMMIT_BYTES


def test_a_newer_policy_that_is_refused_takes_back_as_well(broker: ExportBroker) -> None:
    broker.serve(line(broker))
    pin = f"wardian-pin-v1:{'2' * 64}:{'3' * 32}"
    mine = [rule(B, output={"serving": []})]
    with pytest.raises(PolicyDenied):
        broker.consent(B, serial=2, pin=pin, keys=(), allow=mine)
    assert gone(broker)


def test_a_newer_policy_that_takes_nothing_back_leaves_the_model(broker: ExportBroker) -> None:
    """The table of next month is sealed anew: what was made of this month's is served on."""
    broker.serve(line(broker))
    before = find_model(broker.store, FILE.key_id)
    pin = f"wardian-pin-v1:{'2' * 64}:{'3' * 32}"
    broker.consent(A, serial=2, pin=pin)
    broker.consent(A, serial=2, pin=pin, keys=())
    assert find_model(broker.store, FILE.key_id) == before
    assert broker.served() == KEY


def test_a_newer_policy_shortens_and_never_lengthens(broker: ExportBroker) -> None:
    def terms(owner: str) -> ReleaseTerms:
        model = find_model(broker.store, FILE.key_id)
        assert model is not None
        key = toy_jobs.KEYS[owner].public.hex()
        return next(each.terms for each in model.tables if each.owner == key)

    broker.consent(A, serial=2, allow=[rule(A, expires=NOW + 50)], max_beacon_age_s=40)
    assert terms(A) == ReleaseTerms(not_after=NOW + 50, max_beacon_age_s=40)
    assert terms(B) == ReleaseTerms(not_after=NOW + 100)
    broker.consent(A, serial=3, allow=[rule(A, expires=NOW + 500)], max_beacon_age_s=400)
    assert terms(A) == ReleaseTerms(not_after=NOW + 50, max_beacon_age_s=40)


def test_telling_again_does_not_bring_back_what_was_taken(broker: ExportBroker) -> None:
    granted = broker.granted()
    broker.consent(A, serial=2, revoked=True, keys=())
    with pytest.raises(PolicyDenied) as caught:
        broker.tell(statement(granted))
    assert caught.value.rule == "export-policy"
    assert gone(broker)


def test_a_policy_over_another_table_is_nothing_to_it(broker: ExportBroker) -> None:
    model = find_model(broker.store, FILE.key_id)
    assert model is not None
    other = toy_jobs.policy(A, table="other", revoked=True)
    assert narrowed(model, other) is model


# Keys that are let go


def test_a_line_that_goes_takes_the_key_with_it(broker: ExportBroker) -> None:
    broker.provision(broker.mesh.signed(version=2))
    assert not gone(broker)  # no line has named it yet
    broker.serve(line(broker), version=3)
    broker.provision(broker.mesh.signed(version=4))
    assert gone(broker)
    broker.serve(line(broker, serial=2), version=5)
    assert refused(broker) == "key-given"
    assert f"{MODEL} version 1" in broker.authority.missing()


# T7: the key takes every owner


def test_t7_the_key_lies_in_a_part_for_each_owner(broker: ExportBroker) -> None:
    parts = {owner: broker.store.get(PARTS, f"{owner}/{FILE.key_id}") for owner in OWNERS}
    assert len({*parts.values()} - {None, KEY}) == 2
    a, b = (part or b"" for part in parts.values())
    assert bytes(x ^ y for x, y in zip(a, b, strict=True)) == KEY


def test_t7_a_quorum_without_one_owner_has_no_key(broker: ExportBroker) -> None:
    """Other code takes the state over, with the keys of the one owner who signed for it."""
    broker.serve(line(broker))
    alone = MasterKey.from_secret(MASTER_KEY.share_with(frozenset({OWNERS[0]})))
    broker.close()
    with closing(Store(broker.path, master_key=alone, counter=broker.counter.seam)) as store:
        model = find_model(store, FILE.key_id)
        assert model is not None
        assert find_key(store, model) is None
        locked = store.locked(OWNERS[1])
        assert [place for place, _ in locked] == ["job-part", PARTS, "table-key"]
        theirs = MASTER_KEY.owner_key(OWNERS[1])
        opened: dict[tuple[str, str], bytes | None] = {
            at: unlock_owned(raw, *at, owner_key=theirs) for at, raw in locked.items()
        }
        entry = AuditEntry(event="recovery", outcome="granted", rule="unlocked")
        store.commit(opened, audit=[entry], now=NOW)  # as the desk does once the owner came
        assert find_key(store, model) == MODEL_KEY.key


def test_t7_what_is_withdrawn_while_an_owner_is_away_is_erased_all_the_same(
    broker: ExportBroker,
) -> None:
    alone = MasterKey.from_secret(MASTER_KEY.share_with(frozenset({OWNERS[0]})))
    broker.close()
    with closing(Store(broker.path, master_key=alone, counter=broker.counter.seam)) as store:
        revoked = toy_jobs.policy(A, revoked=True)
        changes, taken = narrow_models(store, revoked, named=(), now=NOW)
        assert [each.rule for each in taken] == ["ended"]
        entry = AuditEntry(event="provision", outcome="granted", rule="revoked")
        store.commit(changes, audit=[entry], now=NOW)
        assert [place for place, _ in store.locked(OWNERS[1])] == ["job-part", "table-key"]


def test_a_job_over_tables_of_one_owner_has_its_key_whole(broker: ExportBroker) -> None:
    model = find_model(broker.store, FILE.key_id)
    assert model is not None
    key = Secret(b"x" * 32)
    mine = JointModel(
        file=msgspec.structs.replace(FILE, key_id=BrokerKey(key).key_id.hex()),
        measurements=model.measurements,
        tables=model.tables[:1],
        job=model.job,
        export=model.export,
    )
    changes = keep_model(
        broker.store, mine, key, most=2, most_ended=2, floor=NOW, forget=0, named=()
    )
    assert [value for (place, _), value in changes.items() if place == PARTS] == [key.reveal()]
