"""The job's desk as it is served: what is audited, rationed and told, and the client of it."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import toy_jobs
from desk_calls import FEW_PLANS, Desks, plans_read
from toy_jobs import job
from toy_mesh import NOW, ToyMesh, digest
from toy_tables import JOB, A, Ask, B, TableBroker, hospitals

from wardian._internal import wire
from wardian.attestation.results.result import AttestationResult
from wardian.broker.desk import Office
from wardian.broker.frames import FIRST_FRAME_BYTES
from wardian.broker.jobs.plan import plan_digest
from wardian.broker.limits import ServiceLimits
from wardian.broker.release import client as release_client
from wardian.broker.session.answering import SESSION_LIFE_S
from wardian.broker.tables import client
from wardian.broker.tables.client import obtain_tables
from wardian.broker.tables.granted import GrantedTables
from wardian.broker.tables.protocol import JobChallenge, JobRequest
from wardian.errors import (
    AdmissionRefused,
    AuthenticationFailed,
    EvidenceInvalid,
    PeerProtocolError,
    PolicyDenied,
    TransportError,
)

ADDRESS = ("nowhere", 0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TableBroker]:
    with closing(TableBroker(hospitals(), tmp_path / "broker.db")) as broker:
        yield broker


def ask(
    broker: TableBroker,
    monkeypatch: pytest.MonkeyPatch,
    *,
    plans: Any = None,
    limits: ServiceLimits | None = None,
    prepare: Any = None,
    measurement: bytes = JOB,
    attest: Any = None,
    **more: Any,
) -> list[GrantedTables | BaseException]:
    """Return what the client gets for each of `plans`, asked at once of the broker's desks."""

    async def whole() -> list[GrantedTables | BaseException]:
        desks = Desks(broker, limits=limits)
        desks.instead_of_sockets(monkeypatch, client.__name__, release_client.__name__)
        if prepare is not None:
            prepare(desks)
        asked = (
            obtain_tables(
                ADDRESS,
                plan,
                agreed=broker.mesh.agreed,
                attest=attest or broker.mesh.attest("job", measurement=measurement),
                tee="simulated",
                now=lambda: NOW,
                salt=secrets.token_bytes(16),
                **more,
            )
            for plan in plans or [job()]
        )
        try:
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await desks.close()

    return asyncio.run(whole())


def refusals(broker: TableBroker) -> list[Any]:
    return [each for each in broker.entries() if each.event == "refusal"]


def test_a_job_obtains_its_tables(broker: TableBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    (granted,) = ask(broker, monkeypatch)
    assert isinstance(granted, GrantedTables)
    assert {each.table for each in granted.tables} == {"records", "claims"}
    (again,) = ask(broker, monkeypatch, again=granted.job_id, seen=granted.witnessed.head.audit)
    assert isinstance(again, GrantedTables)
    assert again.noise_seed == granted.noise_seed
    assert refusals(broker) == []


def test_a_job_whose_evidence_was_verified_too_late_pays_nothing(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was debited, and then its session was over: nobody had the benefit of it."""
    verify = Office.verify

    def slow(desks: Desks) -> None:
        async def late(self: Office, *args: Any, **more: Any) -> AttestationResult:
            result = await verify(self, *args, **more)
            desks.ticks += SESSION_LIFE_S + 1
            return result

        monkeypatch.setattr(Office, "verify", late)

    (late,) = ask(broker, monkeypatch, prepare=slow)
    assert isinstance(late, TransportError)
    assert (broker.record(A).uses, broker.record(B).uses) == (0, 0)
    assert refusals(broker) == []


def test_a_job_whose_debit_took_its_time_has_its_answer(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted is told: the age that was asked for before is the one that counts."""
    record = broker.authority.record

    def slow(desks: Desks) -> None:
        def late(*args: Any, **more: Any) -> Any:
            done = record(*args, **more)
            desks.ticks += SESSION_LIFE_S + 1
            return done

        monkeypatch.setattr(type(broker.authority), "record", lambda _, *a, **m: late(*a, **m))

    (found,) = ask(broker, monkeypatch, prepare=slow)
    assert isinstance(found, GrantedTables)
    assert (broker.record(A).uses, broker.record(B).uses) == (1, 1)


def test_two_jobs_at_once_and_one_last_use(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.consent(B, serial=2, uses=1)
    found = ask(broker, monkeypatch, plans=[job(), job()])
    (got,) = [each for each in found if isinstance(each, GrantedTables)]
    (refused,) = [each for each in found if each is not got]
    assert isinstance(refused, AdmissionRefused)
    assert refused.rule == "uses-exhausted"
    assert "hospital-b refuses for table claims" in str(refused)
    (line,) = refusals(broker)
    assert (line.role, line.rule, line.plan) == ("job", "uses-exhausted", plan_digest(job()).hex())
    assert len(line.evidence) == 64
    assert broker.record(B).uses == 1


def test_a_refusal_before_any_evidence_tells_nothing_of_policies(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that every policy would refuse gets a challenge as any other, and its line later."""
    (refused,) = ask(broker, monkeypatch, plans=[job(purpose="billing")], measurement=digest("x"))
    assert isinstance(refused, AdmissionRefused)
    assert refused.rule == "MeasurementIn"
    assert [each.rule for each in refusals(broker)] == ["MeasurementIn"]


def test_plans_that_cost_no_quote_are_rationed(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = job(owners=("hospital-a", "hospital-c"))
    limits = ServiceLimits(line_burst=2, lines_per_s=0.0)
    found = ask(broker, monkeypatch, plans=[strange] * 5, limits=limits)
    assert {type(each) for each in found} == {PolicyDenied}
    assert [each.rule for each in refusals(broker)] == ["table-owner"] * 2


def test_garbage_for_a_plan_is_refused_and_rationed(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wardian.broker.tables import job_session

    monkeypatch.setattr(job_session, "encode_plan", lambda _: b"{}")
    (refused,) = ask(broker, monkeypatch)
    assert isinstance(refused, PeerProtocolError)
    assert [each.rule for each in refusals(broker)] == ["FormatError"]


def test_one_owner_s_releases_are_rationed_and_cost_nothing_beyond(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner that grants itself all the uses there are has jobs ask in a loop."""
    limits = ServiceLimits(granted_burst=2, granted_per_s=0.0)
    found = ask(broker, monkeypatch, plans=[job()] * 4, limits=limits)
    assert (
        sorted(type(each).__name__ for each in found)
        == ["GrantedTables"] * 2 + ["TransportError"] * 2
    )
    assert [broker.record(each).uses for each in (A, B)] == [2, 2]
    assert len([each for each in broker.entries() if each.event == "release"]) == 4
    assert refusals(broker) == []


def test_more_plans_of_one_address_than_are_read_are_not_read(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = plans_read(monkeypatch)
    found = ask(broker, monkeypatch, plans=[job()] * 3, limits=FEW_PLANS)
    assert [type(each) for each in found] == [GrantedTables, GrantedTables, TransportError]
    assert len(read) == 2


def test_a_broker_that_is_asked_too_much_says_so(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ServiceLimits(
        quote_burst=1, quotes_per_s=0.0, peer_quote_burst=1, peer_quotes_per_s=0.0
    )
    found = ask(broker, monkeypatch, plans=[job()] * 2, limits=limits)
    assert {type(each) for each in found} == {GrantedTables, TransportError}


def test_a_peer_that_leaves_costs_no_line(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(_: bytes) -> Any:
        raise OSError("gone")

    (left,) = ask(broker, monkeypatch, attest=leave)
    assert isinstance(left, OSError)
    assert refusals(broker) == []
    assert broker.record().uses == 0


def test_a_host_that_ends_tls_gets_no_evidence_of_the_job(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []

    def attest(report_data: bytes) -> Any:
        made.append(report_data)
        return broker.mesh.attest("job")(report_data)

    def strange(desks: Desks) -> None:
        other = ToyMesh()
        desks.certificate = lambda: _certificate_of(other)

    (refused,) = ask(broker, monkeypatch, attest=attest, prepare=strange)
    assert isinstance(refused, AuthenticationFailed | PolicyDenied)
    assert made == []


def _certificate_of(mesh: ToyMesh) -> bytes:
    from wardian.broker.ca import MeshCa

    return MeshCa.create(mesh=mesh.name, simulated=True, now=NOW).certificate


def test_a_host_that_swaps_plans_between_two_jobs(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers one job with the challenge that it got for another plan."""
    other = Ask(broker, job(outputs={"model": ["hospital-a"]}))
    foreign = other.challenge()

    def carry(raw: bytes) -> bytes:
        return foreign if b"wardian job challenge v1" in raw else raw

    (refused,) = ask(broker, monkeypatch, prepare=lambda desks: setattr(desks, "carry", carry))
    assert isinstance(refused, EvidenceInvalid)
    assert wire.decode(foreign, JobChallenge, what="x").nonce
    assert broker.record().uses == 0


def test_evidence_that_is_not_bound_is_audited_as_a_stranger_s(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (refused,) = ask(broker, monkeypatch, attest=lambda _: broker.mesh.attest("job")(bytes(64)))
    assert isinstance(refused, EvidenceInvalid)
    (line,) = refusals(broker)
    assert (line.rule, line.measurement) == ("EvidenceInvalid", "")


def test_the_first_frame_has_room_for_the_largest_plan(broker: TableBroker) -> None:
    columns = [f"column-{number:03}-{'x' * 50}" for number in range(660)]
    table = toy_jobs.job_table()
    table["inputs"][0]["columns"] = columns
    raw = Ask(broker, toy_jobs.load_plan(toy_jobs.toml(table))).m1
    assert 0.85 * FIRST_FRAME_BYTES < len(raw) < FIRST_FRAME_BYTES
    assert wire.decode(raw, JobRequest, what="x").again is None


def test_owners_of_both_tables_are_told_apart_in_lines(
    broker: TableBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(broker, monkeypatch)
    lines = [each for each in broker.entries() if (each.event, each.kind) == ("release", "table")]
    assert {each.owner for each in lines} == {toy_jobs.KEYS[each].public.hex() for each in (A, B)}
