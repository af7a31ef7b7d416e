"""A job gets the tables that every owner gives it, on the evidence of its plan; and who does not."""

import dataclasses
import secrets
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
import toy_jobs
from toy_jobs import allow, job
from toy_mesh import NOW, OTHER_PLATFORM, digest
from toy_tables import (
    CODE,
    JOB,
    PLACES,
    TABLE_KEYS,
    A,
    Ask,
    B,
    TableBroker,
    hospitals,
    signed_policy,
)

from wardian._internal import wire
from wardian.attestation.evidence import Purpose, bind
from wardian.broker.ca import MeshCa
from wardian.broker.jobs.plan import encode_plan, plan_digest
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.release.protocol import broker_report_data, workload_report_data
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store
from wardian.broker.tables import content
from wardian.broker.tables.content import decode_job_release, encode_job_release
from wardian.broker.tables.debits import find_root
from wardian.broker.tables.kept import KEYS, POLICIES
from wardian.broker.tables.protocol import (
    JOB_SESSION,
    MAX_ASKED_PLAN_BYTES,
    JobAttestation,
    JobChallenge,
    JobRequest,
    JobResponse,
    broker_job_report_data,
    job_report_data,
)
from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.secret import Secret
from wardian.errors import (
    AdmissionRefused,
    AuthenticationFailed,
    ConfigError,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    SealError,
    Timeout,
)

ENTRY = AuditEntry(event="recovery", outcome="granted", rule="unlocked")


def tamper(raw: bytes, kind: type, **changes: object) -> bytes:
    return wire.encode(msgspec.structs.replace(wire.decode(raw, kind, what="x"), **changes))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TableBroker]:
    with closing(TableBroker(hospitals(), tmp_path / "broker.db")) as broker:
        yield broker


def refused(broker: TableBroker, *args: Any, **how: Any) -> str:
    """Return the rule that refuses an ask, once nothing was debited by it."""
    before = [broker.record(each) for each in (A, B)]
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker, *args).whole(**how)
    assert [broker.record(each) for each in (A, B)] == before
    return str(caught.value.rule)


# The good case first: everything below differs from it in one thing.


def test_a_job_gets_the_keys_of_its_tables_and_the_terms(broker: TableBroker) -> None:
    granted = Ask(broker).whole()
    assert {each.table: each.key for each in granted.tables} == {
        "records": TABLE_KEYS[A].key,
        "claims": TABLE_KEYS[B].key,
    }
    mine = granted.table(toy_jobs.KEYS[A].public.hex(), "records")
    assert str(mine.pin) == f"wardian-pin-v1:{'0' * 64}:{'1' * 32}"
    assert (granted.terms.smallest_join, granted.terms.epsilon, granted.model) == (1000, 1.0, None)
    assert {each.seal_to for each in granted.terms.model} == {toy_jobs.SEALED_TO[A]}
    assert granted.plan_digest == plan_digest(job())
    assert (len(granted.job_id), len(granted.noise_seed)) == (32, 32)
    with pytest.raises(LocalProtocolError, match="no key of table"):
        granted.table(toy_jobs.KEYS[A].public.hex(), "claims")
    granted.wipe()


def test_every_table_is_debited_and_has_its_line(broker: TableBroker) -> None:
    granted = Ask(broker).whole()
    for owner, table in ((A, "records"), (B, "claims")):
        record = broker.record(owner)
        assert (record.uses, record.spent.epsilon) == (1, Fraction(1, 2))
        (line,) = [
            each
            for each in broker.entries()
            if (each.event, each.kind, each.secret) == ("release", "table", table)
        ]
        assert line.owner == toy_jobs.KEYS[owner].public.hex()
        assert (line.outcome, line.role, line.use, line.version) == ("granted", "job", 1, 1)
        assert line.measurement == JOB.hex()
        assert line.key_id == TABLE_KEYS[owner].key_id.hex()
        assert line.plan == plan_digest(job()).hex()
        assert line.job == granted.job_id.hex()
        assert line.spent == "epsilon 0.5, delta 1e-07"
        assert len(line.evidence) == 64


def test_no_secret_is_in_messages_lines_or_reprs(broker: TableBroker) -> None:
    ask = Ask(broker)
    granted = ask.whole()
    seen = [ask.m1, ask.m2, ask.m3, ask.m4, *broker.store.audit_lines(limit=1000)]
    seen += [repr(granted).encode()]
    for secret in (granted.noise_seed, *(each.key for each in granted.tables)):
        assert not any(
            secret.reveal() in raw or secret.reveal().hex().encode() in raw for raw in seen
        )
    for record in (
        content._TableRecord(
            owner="0" * 64, table="t", serial=1, rule="r", pin="x", key_id="0" * 32, key=b"k" * 32
        ),
        content._JobRecord(
            job_id=b"j" * 32,
            noise_seed=b"k" * 32,
            tables=(),
            terms=None,  # type: ignore[arg-type]
            model=None,
            manifest_version=1,
            log=None,  # type: ignore[arg-type]
        ),
    ):
        assert "kkkk" not in repr(record)


# T8: the plan


def test_t8_the_host_swaps_the_plan_on_its_way_to_the_broker(broker: TableBroker) -> None:
    """The broker's evidence then binds another digest than that of the job's own plan."""
    ask = Ask(broker)
    other = encode_plan(job(outputs={"model": ["hospital-a"]}))
    ask.challenge(tamper(ask.m1, JobRequest, plan=other))
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        ask.attest()


def test_t8_the_host_swaps_the_plan_inside_the_job(broker: TableBroker) -> None:
    """The job runs a plan that owners would refuse; its evidence does not bind the allowed one."""
    ask = Ask(broker)
    ask.challenge()
    ask.attest()
    message = wire.decode(ask.m3, JobAttestation, what="x")
    other = plan_digest(job(outputs={"model": ["hospital-a", "hospital-b"]}))
    report_data = job_report_data(
        broker_nonce=ask.session._nonce,
        hpke_public=message.hpke_public,
        digest=ask.session.manifest.digest,
        plan_digest=other,
        salt=ask.job._salt,
        again=None,
    )
    forged = tamper(ask.m3, JobAttestation, evidence=broker.mesh.attest("job")(report_data))
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        ask.respond(forged)


def test_t8_everything_that_message_3_vouches_for_is_bound() -> None:
    good = {
        "broker_nonce": b"n" * 32,
        "hpke_public": b"h" * 32,
        "digest": b"d" * 32,
        "plan_digest": b"p" * 32,
        "salt": b"s" * 16,
        "again": None,
    }
    others = dict.fromkeys(good, b"x" * 32) | {"again": "00" * 32}
    bound = {job_report_data(**good)}  # type: ignore[arg-type]
    bound |= {job_report_data(**(good | {name: others[name]})) for name in good}  # type: ignore[arg-type]
    assert len(bound) == 7


def test_t8_everything_that_message_2_vouches_for_is_bound() -> None:
    good: dict[str, Any] = {
        "job_nonce": b"n" * 32,
        "broker_nonce": b"b" * 32,
        "ca_spki": b"ca",
        "digest": b"d" * 32,
        "version": 1,
        "plan_digest": b"p" * 32,
    }
    others = dict.fromkeys(good, b"x" * 32) | {"version": 2}
    bound = {broker_job_report_data(**good)}
    bound |= {broker_job_report_data(**(good | {name: others[name]})) for name in good}
    assert len(bound) == 7


# T8: averaging the noise away


def test_t8_another_run_of_a_plan_costs_a_use_and_its_epsilon_and_has_other_noise(
    broker: TableBroker,
) -> None:
    one, two = Ask(broker).whole(), Ask(broker).whole()
    assert one.job_id != two.job_id
    assert one.noise_seed != two.noise_seed
    assert (broker.record().uses, broker.record().spent.epsilon) == (2, 1)


def test_t8_a_killed_job_that_asks_again_has_the_same_noise_and_spends_a_use(
    broker: TableBroker,
) -> None:
    one = Ask(broker).whole()
    two = Ask(broker, again=one.job_id).whole()
    assert (two.job_id, two.noise_seed) == (one.job_id, one.noise_seed)
    assert (broker.record().uses, broker.record().spent.epsilon) == (2, Fraction(1, 2))
    assert [each.spent for each in broker.entries() if each.kind == "table" and each.use == 2] == [
        "",
        "",
    ]


def test_t8_a_job_that_did_not_hear_the_answer_asks_with_its_salt_and_pays_once(
    broker: TableBroker,
) -> None:
    """A host that drops message 4 spent every owner's budget, once for each try."""
    salt = secrets.token_bytes(16)
    one = Ask(broker, salt=salt).whole()
    for uses in (2, 3):
        two = Ask(broker, salt=salt).whole()
        assert (two.job_id, two.noise_seed) == (one.job_id, one.noise_seed)
        assert (broker.record().uses, broker.record().spent.epsilon) == (uses, Fraction(1, 2))
    broker.restart()
    assert Ask(broker, salt=salt).whole().job_id == one.job_id
    assert broker.record().spent.epsilon == Fraction(1, 2)


def test_t8_a_salt_is_of_one_plan_one_code_and_policies_and_of_the_last_job(
    broker: TableBroker,
) -> None:
    salt = secrets.token_bytes(16)
    one = Ask(broker, salt=salt).whole()
    other = Ask(broker, job(name="another"), salt=salt).whole()
    assert other.job_id[:16] == one.job_id[:16]
    assert other.job_id != one.job_id
    assert other.noise_seed != one.noise_seed
    assert broker.record().spent.epsilon == 1
    late = Ask(broker, salt=salt).whole()  # it is not the last any more: it pays, and is the same
    assert (late.job_id, late.noise_seed) == (one.job_id, one.noise_seed)
    assert broker.record().spent.epsilon == Fraction(3, 2)


def test_t8_a_salt_that_the_host_changes_on_the_way(broker: TableBroker) -> None:
    ask = Ask(broker)
    ask.challenge(tamper(ask.m1, JobRequest, salt=bytes(16)))
    ask.attest()
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        ask.respond()
    assert broker.record().uses == 0


def test_t7_a_quorum_without_one_owner_computes_no_noise(broker: TableBroker) -> None:
    """Whoever knows all other rows takes known noise off a result, and has that owner's row."""
    one, owners = Ask(broker).whole(), [toy_jobs.KEYS[each].public.hex() for each in (A, B)]
    root, made = find_root(broker.store, owners)
    assert made == {}
    assert find_root(broker.store, reversed(owners))[0] == root
    assert find_root(broker.store, owners[:1])[0] != root
    key = broker.store.master_key
    broker.close()
    for others in (frozenset({owners[0]}), frozenset[str]()):
        alone = MasterKey.from_secret(key.share_with(others))
        with closing(Store(broker.path, master_key=alone, counter=broker.counter.seam)) as store:
            theirs, made = find_root(store, owners)
            assert ("job-part", f"{owners[1]}/current") in made
            assert theirs != root
    broker.start()
    assert Ask(broker, again=one.job_id).whole().noise_seed == one.noise_seed
    broker.store.commit(made, audit=[ENTRY], now=NOW)  # as a broker that made a part anew
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker, again=one.job_id).whole()
    assert caught.value.rule == "job-again"


def test_t8_the_same_noise_holds_over_a_restart_of_the_broker(broker: TableBroker) -> None:
    one = Ask(broker).whole()
    broker.restart()
    assert Ask(broker, again=one.job_id).whole().noise_seed == one.noise_seed


def test_t8_asking_again_is_possible_when_the_budget_is_spent_but_not_the_uses(
    broker: TableBroker,
) -> None:
    broker.consent(
        A,
        serial=2,
        uses=2,
        budget={"epsilon": 0.5, "delta": 1e-5},
        allow=[allow(output={"epsilon": 0.5})],
    )
    one = Ask(broker).whole()
    assert refused(broker) == "budget-exhausted"
    Ask(broker, again=one.job_id).whole()
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker, again=one.job_id).whole()
    assert caught.value.rule == "uses-exhausted"


def test_t8_an_id_of_another_plan_or_policy_or_nobodys_is_refused(broker: TableBroker) -> None:
    """Another computation with the same noise would show what the noise hides."""
    one = Ask(broker).whole()
    other = job(train={"algorithm": toy_jobs.TRAINED, "parameters": {"l2": 0.7}})
    flipped = bytes([one.job_id[0] ^ 1]) + one.job_id[1:]
    for plan, job_id in ((other, one.job_id), (job(), bytes(32)), (job(), flipped)):
        with pytest.raises(PolicyDenied) as caught:
            Ask(broker, plan, again=job_id).whole()
        assert caught.value.rule == "job-again"
    broker.consent(A, serial=2)
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker, again=one.job_id).whole()
    assert caught.value.rule == "job-again"


def test_t8_an_id_of_other_code_is_refused(tmp_path: Path) -> None:
    mesh = hospitals()
    code = {**CODE, "measurements": [JOB.hex(), digest("job 2").hex()]}
    with closing(TableBroker(mesh, tmp_path / "b.db", given=False)) as broker:
        roles = dict(mesh.manifest().roles)
        roles["job"] = RoleReference(measurements=(JOB.hex(), digest("job 2").hex()))
        broker.provision(mesh.signed(version=2, roles=roles))
        broker.consent(A, code=code)
        broker.consent(B, code=code)
        one = Ask(broker).whole()
        Ask(broker).whole(measurement=digest("job 2"))
        with pytest.raises(PolicyDenied) as caught:
            Ask(broker, again=one.job_id).whole(measurement=digest("job 2"))
        assert caught.value.rule == "job-again"


def test_a_run_without_noise_that_asks_again(broker: TableBroker) -> None:
    rule = allow(output={"epsilon": None, "delta": None, "without_noise": "risk accepted"})
    rules = {A: rule, B: {**rule, "columns": ["patient", "cost"]}}
    for owner in (A, B):
        broker.consent(owner, serial=2, budget=None, allow=[rules[owner]])
    plan = job(privacy=None)
    one = Ask(broker, plan).whole()
    assert Ask(broker, plan, again=one.job_id).whole().noise_seed == one.noise_seed
    assert {each.spent for each in broker.entries()} == {""}


# T24: evidence of one use for another


def test_t24_a_workloads_evidence_is_none_of_a_job(broker: TableBroker) -> None:
    """Even with the measurement of a job: the label is another."""
    ask = Ask(broker)
    ask.challenge()
    ask.attest()
    public = wire.decode(ask.m3, JobAttestation, what="x").hpke_public
    nonce, manifest = ask.session._nonce, ask.session.manifest.digest
    for report_data in (
        workload_report_data(
            broker_nonce=nonce,
            hpke_public=public,
            tls_spki=b"spki",
            digest=manifest,
            role="job",
            models=("digits",),
        ),
        bind(Purpose.RELEASE, nonce, public, manifest, ask.session.asked.digest, b""),
    ):
        again = Ask(broker)
        again.challenge()
        again.attest()
        forged = tamper(ask.m3, JobAttestation, evidence=broker.mesh.attest("job")(report_data))
        with pytest.raises(EvidenceInvalid, match="made for something else"):
            again.respond(forged)


def test_t24_a_jobs_evidence_is_none_of_a_workload(broker: TableBroker) -> None:
    mesh = broker.mesh
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        broker.admit(
            mesh.workload("worker"),
            lambda _: mesh.attest("worker")(
                job_report_data(
                    broker_nonce=b"n" * 32,
                    hpke_public=b"h" * 32,
                    digest=b"d" * 32,
                    plan_digest=b"p" * 32,
                    salt=bytes(16),
                    again=None,
                )
            ),
        )


def test_t24_the_brokers_evidence_for_a_workload_is_none_for_a_job(broker: TableBroker) -> None:
    ask = Ask(broker)
    ask.challenge()
    message = wire.decode(ask.m2, JobChallenge, what="x")
    report_data = broker_report_data(
        workload_nonce=ask.job._nonce,
        broker_nonce=message.nonce,
        ca_spki=broker.authority.ca.spki,
        digest=broker.authority.manifest.digest,
        version=1,
    )
    ask.m2 = tamper(ask.m2, JobChallenge, evidence=broker.attest(report_data))
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        ask.attest()


def test_evidence_of_another_session_or_key_is_refused(broker: TableBroker) -> None:
    old, new = Ask(broker), Ask(broker)
    for ask in (old, new):
        ask.challenge()
        ask.attest()
    with pytest.raises(EvidenceInvalid):
        new.respond(old.m3)
    third = Ask(broker)
    third.challenge()
    third.attest()
    mine = tamper(third.m3, JobAttestation, hpke_public=HpkePrivateKey.generate().public)
    with pytest.raises(EvidenceInvalid):
        third.respond(mine)
    with pytest.raises(PeerProtocolError, match="out of turn"):
        third.respond()
    old.respond()
    with pytest.raises(PeerProtocolError):
        old.respond()


# The measurement: the manifest, and every owner


def test_t7_code_that_no_manifest_lists_gets_nothing(broker: TableBroker) -> None:
    assert refused(broker, measurement=digest("trojan")) == "MeasurementIn"
    assert refused(broker, platform=OTHER_PLATFORM) == "Root"


def test_t7_owners_list_code_that_the_manifest_does_not(broker: TableBroker) -> None:
    code = {**CODE, "measurements": [digest("trojan").hex()]}
    broker.consent(A, serial=2, code=code)
    broker.consent(B, serial=2, code=code)
    assert refused(broker, measurement=digest("trojan")) == "MeasurementIn"


def test_t7_a_majority_lists_code_that_one_owner_does_not(broker: TableBroker) -> None:
    mesh = broker.mesh
    roles = dict(mesh.manifest().roles)
    roles["job"] = RoleReference(measurements=(JOB.hex(), digest("trojan").hex()))
    broker.provision(mesh.signed(version=2, roles=roles))
    broker.consent(A, serial=2, code={**CODE, "measurements": [digest("trojan").hex()]})
    with pytest.raises(PolicyDenied, match="hospital-b refuses for table claims") as caught:
        Ask(broker).whole(measurement=digest("trojan"))
    assert caught.value.rule == "job-code"


def test_t11_an_owner_who_wants_hardware_gives_nothing_to_a_simulation(broker: TableBroker) -> None:
    hardware = {"measurements": [JOB.hex()], "any_platform": "risk accepted"}
    broker.consent(B, serial=2, code=hardware)
    assert refused(broker) == "job-code"


def test_the_release_policy_stands_without_the_appraisal(broker: TableBroker) -> None:
    from wardian.broker.tables.asked import refuse_unlisted

    manifest = broker.authority.manifest.manifest
    with pytest.raises(PolicyDenied) as caught:
        refuse_unlisted(manifest, broker.mesh.measurements["worker"].hex())
    assert caught.value.rule == "role-measurement"


def test_a_mesh_without_the_role_job(tmp_path: Path) -> None:
    mesh = hospitals()
    del mesh.measurements["job"]
    with (
        closing(TableBroker(mesh, tmp_path / "b.db")) as broker,
        pytest.raises(PolicyDenied) as caught,
    ):
        Ask(broker).challenge()
    assert caught.value.rule == "role-known"


# Tables and owners


def test_a_table_of_somebody_who_is_no_owner_of_the_mesh(broker: TableBroker) -> None:
    plan = job(owners=("hospital-a", "hospital-c"))
    with pytest.raises(PolicyDenied, match="hospital-c, whose table visits") as caught:
        Ask(broker, plan).challenge()
    assert caught.value.rule == "table-owner"


def test_a_plan_for_another_mesh(broker: TableBroker) -> None:
    with pytest.raises(PolicyDenied) as caught:
        Ask(broker, job(mesh="clinics")).challenge()
    assert caught.value.rule == "policy-mesh"


def test_an_owner_without_a_policy(tmp_path: Path) -> None:
    with closing(TableBroker(hospitals(), tmp_path / "b.db", given=False)) as broker:
        broker.consent(A)
        before = broker.record()
        with pytest.raises(PolicyDenied, match="hospital-b refuses") as caught:
            Ask(broker).whole()
        assert caught.value.rule == "no-policy"
        assert broker.record() == before


def test_a_withdrawn_table(broker: TableBroker) -> None:
    """Between plan and run: the job has the broker's challenge already."""
    ask = Ask(broker)
    ask.challenge()
    ask.attest()
    broker.consent(B, serial=2, revoked=True, keys=())
    with pytest.raises(PolicyDenied, match="hospital-b refuses for table claims") as caught:
        ask.respond()
    assert caught.value.rule == "policy-revoked"
    assert broker.record().uses == 0


def test_a_policy_that_was_put_back_into_the_store_counts_no_more(broker: TableBroker) -> None:
    """A broker that holds an older policy than it has seen refuses: the mark says so."""
    old = wire.encode(signed_policy(B))
    broker.consent(B, serial=2, allow=[allow(B, purposes=["billing"])])
    broker.authority.record(
        [broker.authority.entry(event="start", outcome="granted")], {(POLICIES, PLACES[B]): old}
    )
    assert refused(broker) == "policy-serial"


def test_a_table_whose_key_is_not_there(broker: TableBroker) -> None:
    """As after a recovery in which its owner had no part."""
    place = (KEYS, f"{toy_jobs.KEYS[B].public.hex()}/{TABLE_KEYS[B].key_id.hex()}")
    broker.authority.record(
        [broker.authority.entry(event="start", outcome="granted")], {place: None}
    )
    with pytest.raises(PolicyDenied, match="hospital-b has not given the key of table claims"):
        Ask(broker).whole()
    assert refused(broker) == "key-given"


def test_a_broker_without_the_record_of_a_policy(broker: TableBroker) -> None:
    with pytest.raises(SealError, match="no record"):
        broker.tables._record("nobody/nothing/table")


def test_time_beacons_count_at_the_broker(broker: TableBroker) -> None:
    broker.consent(A, serial=2, max_beacon_age_s=50)
    assert refused(broker) == "beacon-missing"
    broker.order("beacon", time=NOW - 10)
    Ask(broker).whole()
    broker.host_time = NOW + 100
    assert refused(broker) == "beacon-old"


# The last use


def test_two_jobs_race_for_the_last_use_and_one_gets_it(broker: TableBroker) -> None:
    broker.consent(A, serial=2, uses=1)
    asks = Ask(broker), Ask(broker)
    for ask in asks:
        ask.challenge()
        ask.attest()
    asks[1].respond()
    with pytest.raises(PolicyDenied) as caught:
        asks[0].respond()
    assert caught.value.rule == "uses-exhausted"
    assert asks[1].receive().tables
    assert (broker.record().uses, broker.record(B).uses) == (1, 1)


def test_a_broker_that_dies_before_the_commit_debits_nothing(broker: TableBroker) -> None:
    ask = Ask(broker)
    ask.challenge()
    ask.attest()
    broker.counter.fails = True
    with pytest.raises(Exception, match="killed before the counter"):
        ask.respond()
    broker.counter.fails = False
    broker.restart()
    # The file was ahead of the counter: either reading of it is one in which nobody has a key.
    assert broker.record().uses in {0, 1}
    assert not hasattr(ask, "m4")


def test_a_broker_killed_between_commit_and_answer_has_spent_the_use(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.consent(A, serial=2, uses=1)
    ask = Ask(broker)
    ask.challenge()
    ask.attest()
    with monkeypatch.context() as patch:
        patch.setattr(type(ask.session), "respond", killed)
        with pytest.raises(KeyboardInterrupt):
            ask.respond()
    broker.restart()
    assert broker.record().uses == 1
    assert refused(broker) == "uses-exhausted"


def killed(*_: object, **__: object) -> bytes:
    raise KeyboardInterrupt


def test_the_manifest_changes_between_challenge_and_release(broker: TableBroker) -> None:
    ask = Ask(broker)
    ask.challenge()
    ask.attest()
    broker.provision(broker.mesh.signed(version=2))
    with pytest.raises(Timeout, match="manifest changed meanwhile"):
        ask.respond()


# A forged broker


def test_a_broker_that_no_owner_knows(broker: TableBroker) -> None:
    ask = Ask(broker)
    ask.challenge()
    message = wire.decode(ask.m2, JobChallenge, what="x")
    report_data = broker_job_report_data(
        job_nonce=ask.job._nonce,
        broker_nonce=message.nonce,
        ca_spki=broker.authority.ca.spki,
        digest=broker.authority.manifest.digest,
        version=1,
        plan_digest=plan_digest(ask.plan),
    )
    forged = broker.mesh.attest("broker", measurement=digest("trojan"))(report_data)
    ask.m2 = tamper(ask.m2, JobChallenge, evidence=forged)
    with pytest.raises(PolicyDenied, match=r"measurement .* is not one"):
        ask.attest()


def test_a_broker_of_another_ca_or_manifest(broker: TableBroker) -> None:
    stranger = MeshCa.create(mesh=toy_jobs.MESH, simulated=True, now=NOW)
    for changes in (
        {"mesh_ca": stranger.certificate},
        {"signed_manifest": broker.mesh.signed(version=2)},
        {"nonce": b"n" * 32},
    ):
        ask = Ask(broker)
        ask.m2 = tamper(ask.challenge(), JobChallenge, **changes)
        with pytest.raises(EvidenceInvalid, match="made for something else"):
            ask.attest()


def test_t1_a_relaying_host_seals_its_own_keys(broker: TableBroker) -> None:
    ask = Ask(broker)
    ask.challenge()
    ask.attest()
    ask.respond()
    transcript = JOB_SESSION.transcript(ask.m1, ask.m2, ask.m3)
    public = wire.decode(ask.m3, JobAttestation, what="x").hpke_public
    forged = tamper(
        ask.m4, JobResponse, ciphertext=hpke_seal(public, b"{}", info=JOB_SESSION.info(transcript))
    )
    with pytest.raises(AuthenticationFailed, match="not signed by the broker that was attested"):
        ask.receive(forged)


def test_t1_an_answer_of_another_session(broker: TableBroker) -> None:
    one, two = Ask(broker), Ask(broker)
    for ask in (one, two):
        ask.challenge()
        ask.attest()
        ask.respond()
    with pytest.raises(AuthenticationFailed, match="for this session"):
        two.receive(one.m4)


# A broker that is attested and wrong


def spoilt(broker: TableBroker, spoil: Any, plan: Any = None, again: bytes | None = None) -> None:
    ask = Ask(broker, plan, again=again)
    ask.challenge()
    ask.attest()
    ask.respond()
    transcript = JOB_SESSION.transcript(ask.m1, ask.m2, ask.m3)
    opened = ask.job._hpke.open(
        wire.decode(ask.m4, JobResponse, what="x").ciphertext, info=JOB_SESSION.info(transcript)
    )
    plaintext = encode_job_release(spoil(decode_job_release(opened)))
    public = wire.decode(ask.m3, JobAttestation, what="x").hpke_public
    ciphertext = hpke_seal(public, plaintext, info=JOB_SESSION.info(transcript))
    signature = broker.authority.ca.sign(JOB_SESSION.signed_bytes(transcript, ciphertext))
    ask.receive(wire.encode(JobResponse(ciphertext=ciphertext, signature=signature)))


def test_a_release_that_is_not_what_was_asked_for(broker: TableBroker) -> None:
    change = dataclasses.replace
    for owner in (A, B):
        broker.consent(owner, serial=2, uses=100, budget={"epsilon": 100.0, "delta": 1e-3})
    known = Ask(broker).whole().job_id
    spoilt(broker, lambda release: release)
    for spoil, again in (
        (lambda r: change(r, manifest_version=2), None),
        (lambda r: change(r, job_id=bytes(32)), known),
        (lambda r: change(r, job_id=known), None),  # of another salt than this job's
        (lambda r: change(r, tables=r.tables[:1]), None),
        (lambda r: change(r, tables=(r.tables[0], r.tables[0])), None),
        (
            lambda r: change(r, tables=(change(r.tables[0], key=Secret(b"x" * 32)), r.tables[1])),
            None,
        ),
        (lambda r: change(r, terms=change(r.terms, model=frozenset())), None),
        (lambda r: change(r, terms=change(r.terms, metrics=frozenset())), None),
        (lambda r: change(r, terms=change(r.terms, epsilon=0.1)), None),
        (lambda r: change(r, terms=change(r.terms, delta=None)), None),
    ):
        with pytest.raises(PeerProtocolError):
            spoilt(broker, spoil, again=again)


def test_a_release_that_is_not_written_down(broker: TableBroker) -> None:
    log = broker.authority.transparency.show(0)
    with pytest.raises((PeerProtocolError, AuthenticationFailed)):
        spoilt(broker, lambda release: dataclasses.replace(release, log=log))


def test_a_release_whose_log_has_not_grown(broker: TableBroker) -> None:
    from wardian.broker.tables.granted import verify_granted

    ask = Ask(broker)
    granted = ask.whole()
    release = content.JobRelease(
        job_id=granted.job_id,
        noise_seed=granted.noise_seed,
        tables=granted.tables,
        terms=granted.terms,
        model=None,
        manifest_version=1,
        log=wire.decode(ask.m2, JobChallenge, what="x").log,
    )
    with pytest.raises(PeerProtocolError, match="audit log does not show"):
        verify_granted(
            release,
            plan=ask.plan,
            digest=granted.plan_digest,
            salt=ask.job._salt,
            again=None,
            shown=ask.job.shown,
            now=NOW,
        )


def test_a_model_that_is_served_comes_with_its_release(broker: TableBroker) -> None:
    serving = {"serving": [toy_jobs.WORKER], "approvals": {"needed": 1, "of": ["hospital-b"]}}
    for owner in (A, B):
        broker.consent(owner, serial=2, allow=[allow(owner, output=serving)])
    plan = job(outputs={"model": ["hospital-a"], "serving": [toy_jobs.WORKER]})
    granted = Ask(broker, plan).whole()
    assert granted.model is not None
    assert granted.model.measurements == {toy_jobs.WORKER}
    assert {owner for owner, _ in granted.model.terms} == {
        toy_jobs.KEYS[each].public.hex() for each in (A, B)
    }
    (approval,) = granted.terms.approvals
    assert (approval.needed, approval.of) == (1, {toy_jobs.KEYS[B].public.hex()})
    with pytest.raises(PeerProtocolError, match="code that the released terms"):
        spoilt(broker, lambda release: dataclasses.replace(release, model=None), plan)


# Malformed, late, out of turn


def test_an_oversized_plan_is_refused_before_it_is_sent(broker: TableBroker) -> None:
    columns = [f"column-{number:04}-{'x' * 40}" for number in range(900)]
    table = toy_jobs.job_table()
    table["inputs"][0]["columns"] = columns
    with pytest.raises(ConfigError, match="longer than the 45,056 bytes"):
        Ask(broker, toy_jobs.load_plan(toy_jobs.toml(table)))
    raw = tamper(Ask(broker).m1, JobRequest, plan=bytes(MAX_ASKED_PLAN_BYTES + 1))
    with pytest.raises(FormatError):
        wire.decode(raw, JobRequest, what="job request")
    largest = tamper(Ask(broker).m1, JobRequest, plan=bytes(MAX_ASKED_PLAN_BYTES), seen=2**53)
    assert len(largest) < 64 * 1024


def test_a_plan_that_is_none_or_not_canonical(broker: TableBroker) -> None:
    ask = Ask(broker)
    for plan in (b"{}", encode_plan(job()) + b" ", b"\xff" * 100):
        with pytest.raises(FormatError, match="job plan"):
            ask.challenge(tamper(ask.m1, JobRequest, plan=plan))


def test_a_useless_hpke_key(broker: TableBroker) -> None:
    ask = Ask(broker)
    ask.challenge()
    ask.job._hpke._public = bytes(32)
    ask.attest()
    with pytest.raises(FormatError, match="HPKE public key"):
        ask.respond()


def test_turns_and_times(broker: TableBroker) -> None:
    ask = Ask(broker)
    with pytest.raises(LocalProtocolError, match="no broker has been verified"):
        _ = ask.job.shown
    with pytest.raises(PeerProtocolError):
        ask.open(wire.decode(ask.m1, JobRequest, what="x")).receive(b"", now=broker.now)
    ask = Ask(broker)
    ask.challenge()
    ask.attest()
    with pytest.raises(PeerProtocolError):
        ask.job.request(tee="simulated")
    ask = Ask(broker)
    ask.challenge()
    ask.attest()
    broker.now += 31
    with pytest.raises(Timeout, match="it lives 30 s"):
        ask.respond()
    assert broker.record().uses == 0


def test_a_refusal_in_place_of_an_answer_says_whose_and_which_rule(broker: TableBroker) -> None:
    from wardian.broker.refusal import refusal_for

    ask = Ask(broker, job(purpose="billing"))
    ask.challenge()
    ask.attest()
    with pytest.raises(PolicyDenied) as caught:
        ask.respond()
    with pytest.raises(
        AdmissionRefused, match=r"hospital-a refuses for table records.*job-purpose"
    ):
        ask.receive(wire.encode(refusal_for(caught.value)))
