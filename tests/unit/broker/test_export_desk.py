"""The desk of exports as it is served: what is audited, rationed and told, and the client of it."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from desk_calls import FEW_PLANS, Desks, plans_read
from toy_exports import (
    MODEL_KEY,
    ExportBroker,
    Tell,
    masked,
    plan,
    serving_hospitals,
    statement,
)
from toy_mesh import NOW, ToyMesh, digest
from toy_tables import JOB

from wardian.broker.ca import MeshCa
from wardian.broker.exports import client
from wardian.broker.exports.client import tell_export
from wardian.broker.exports.exported import Exported
from wardian.broker.exports.statement import ExportStatement
from wardian.broker.jobs.plan import plan_digest
from wardian.broker.joint.kept import RECORDS
from wardian.broker.limits import ServiceLimits
from wardian.broker.tables.granted import GrantedTables
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
def broker(tmp_path: Path) -> Iterator[ExportBroker]:
    with closing(ExportBroker(serving_hospitals(), tmp_path / "broker.db")) as broker:
        yield broker


@pytest.fixture
def granted(broker: ExportBroker) -> GrantedTables:
    return broker.granted()


def tell(
    broker: ExportBroker,
    monkeypatch: pytest.MonkeyPatch,
    *told: ExportStatement,
    limits: ServiceLimits | None = None,
    prepare: Any = None,
    measurement: bytes = JOB,
    of: Any = None,
    **more: Any,
) -> list[Exported | BaseException]:
    """Return what the client hears of each of `told`, at once, from the broker's desks."""

    async def whole() -> list[Exported | BaseException]:
        desks = Desks(broker, limits=limits)
        desks.instead_of_sockets(monkeypatch, client.__name__)
        if prepare is not None:
            prepare(desks)
        arguments: dict[str, Any] = {
            "agreed": broker.mesh.agreed,
            "attest": broker.mesh.attest("job", measurement=measurement),
            "tee": "simulated",
            "now": lambda: NOW,
            "known": broker.known,
        }
        calls = (
            tell_export(
                ADDRESS,
                of or plan(),
                each,
                **({"key": masked(MODEL_KEY.key, each)} | arguments | more),
            )
            for each in told
        )
        try:
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await desks.close()

    return asyncio.run(whole())


def lines(broker: ExportBroker, event: str) -> list[Any]:
    return [each for each in broker.entries() if each.event == event]


def test_an_export_is_told(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = statement(granted)
    (one,) = tell(broker, monkeypatch, told, known=granted.broker)
    assert isinstance(one, Exported)
    (two,) = tell(broker, monkeypatch, told, known=granted.broker)
    assert isinstance(two, Exported)
    assert (one.statement, one.digest) == (two.statement, two.digest)
    assert MODEL_KEY.key.reveal()  # what is masked here is not the broker's to wipe
    assert lines(broker, "refusal") == []


def test_one_export_told_by_two_clones_at_once(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tell(broker, monkeypatch, statement(granted), statement(granted))
    assert {type(each) for each in found} == {Exported}
    assert len(broker.store.keys(RECORDS)) == 1


def test_a_refusal_is_audited_and_told(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    (refused,) = tell(broker, monkeypatch, statement(granted, approvers=()))
    assert isinstance(refused, AdmissionRefused)
    assert refused.rule == "export-approvals"
    (line,) = lines(broker, "refusal")
    assert (line.role, line.rule, line.plan) == (
        "job",
        "export-approvals",
        plan_digest(plan()).hex(),
    )
    assert len(line.evidence) == 64
    assert lines(broker, "export") == []


def test_strangers_learn_nothing_of_policies(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = statement(granted, approvers=())
    (refused,) = tell(broker, monkeypatch, wrong, measurement=digest("x"))
    assert isinstance(refused, AdmissionRefused)
    assert refused.rule == "MeasurementIn"


def test_plans_that_cost_no_quote_are_rationed(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = plan(mesh="another")
    limits = ServiceLimits(line_burst=2, lines_per_s=0.0)
    told = [statement(granted)] * 5
    found = tell(broker, monkeypatch, *told, of=other, limits=limits)
    assert {type(each) for each in found} == {PolicyDenied}
    assert [each.rule for each in lines(broker, "refusal")] == ["policy-mesh"] * 2


def test_garbage_for_a_plan_is_refused_and_rationed(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wardian.broker.exports import job_session

    monkeypatch.setattr(job_session, "encode_plan", lambda _: b"{}")
    (refused,) = tell(broker, monkeypatch, statement(granted))
    assert isinstance(refused, PeerProtocolError)
    assert [each.rule for each in lines(broker, "refusal")] == ["FormatError"]


def test_one_owner_s_tellings_are_rationed_and_the_same_again_takes_none(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds many approvers' keys tells of ever other approvals: lines stay for good."""
    told = [statement(granted, report=digest(f"report {at}").hex()) for at in range(4)]
    limits = ServiceLimits(granted_burst=2, granted_per_s=0.0)
    found = tell(broker, monkeypatch, *told, limits=limits)  # at once: any two of them
    passed = [each for each, one in zip(told, found, strict=True) if isinstance(one, Exported)]
    assert [type(one) for one in found].count(TransportError) == 2
    assert len([each for each in lines(broker, "export") if each.kind == "table"]) == 4
    assert lines(broker, "refusal") == []
    none = ServiceLimits(granted_burst=0, granted_per_s=0.0)
    again = [tell(broker, monkeypatch, each, limits=none)[0] for each in passed]
    assert {type(one) for one in again} == {Exported, TransportError}  # the last one has its lines
    assert len([each for each in lines(broker, "export") if each.kind == "table"]) == 4


def test_more_plans_of_one_address_than_are_read_are_not_read(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = plans_read(monkeypatch)
    found = tell(broker, monkeypatch, *[statement(granted)] * 3, limits=FEW_PLANS)
    assert sorted(type(each).__name__ for each in found) == ["Exported"] * 2 + ["TransportError"]
    assert len(read) == 2


def test_a_broker_that_is_asked_too_much_says_so(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ServiceLimits(
        quote_burst=1, quotes_per_s=0.0, peer_quote_burst=1, peer_quotes_per_s=0.0
    )
    found = tell(broker, monkeypatch, *[statement(granted)] * 2, limits=limits)
    assert {type(each) for each in found} == {Exported, TransportError}


def test_a_job_that_leaves_costs_no_line(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(_: bytes) -> Any:
        raise OSError("gone")

    (left,) = tell(broker, monkeypatch, statement(granted), attest=leave)
    assert isinstance(left, OSError)
    assert lines(broker, "refusal") == lines(broker, "export") == []


def test_a_host_that_ends_tls_gets_neither_evidence_nor_key(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []

    def attest(report_data: bytes) -> Any:
        made.append(report_data)
        return broker.mesh.attest("job")(report_data)

    def strange(desks: Desks) -> None:
        other = ToyMesh()
        desks.certificate = lambda: (
            MeshCa.create(mesh=other.name, simulated=True, now=NOW).certificate
        )

    (refused,) = tell(broker, monkeypatch, statement(granted), attest=attest, prepare=strange)
    assert isinstance(refused, AuthenticationFailed | PolicyDenied)
    assert made == []


def test_a_host_that_answers_with_the_challenge_of_another_export(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = Tell(broker, statement(granted, report=digest("other").hex())).challenge()

    def carry(raw: bytes) -> bytes:
        return foreign if b"wardian export challenge v1" in raw else raw

    (refused,) = tell(
        broker,
        monkeypatch,
        statement(granted),
        prepare=lambda desks: setattr(desks, "carry", carry),
    )
    assert isinstance(refused, EvidenceInvalid)
    assert lines(broker, "export") == []


def test_evidence_that_is_not_bound_is_audited_as_a_stranger_s(
    broker: ExportBroker, granted: GrantedTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    (refused,) = tell(
        broker,
        monkeypatch,
        statement(granted),
        attest=lambda _: broker.mesh.attest("job")(bytes(64)),
    )
    assert isinstance(refused, EvidenceInvalid)
    (line,) = lines(broker, "refusal")
    assert (line.rule, line.measurement) == ("EvidenceInvalid", "")
