"""A job tells what it gives out, in a session that nobody else's passes for; every attack on it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from toy_exports import (
    FILE,
    MODEL_KEY,
    ExportBroker,
    Tell,
    masked,
    plan,
    serving_hospitals,
    statement,
)
from toy_mesh import OTHER_PLATFORM, digest
from toy_tables import A, Ask

from wardian._internal import wire
from wardian.attestation.evidence import Purpose, bind
from wardian.broker.ca import MeshCa
from wardian.broker.exports.exported import verify_exported
from wardian.broker.exports.job_session import ExportSession
from wardian.broker.exports.protocol import (
    EXPORT_SESSION,
    ExportAttestation,
    ExportChallenge,
    ExportRequest,
    ExportResponse,
    Recorded,
    broker_export_report_data,
    export_report_data,
    key_info,
)
from wardian.broker.exports.statement import (
    MAX_STATEMENT_BYTES,
    ExportedTable,
    encode_statement,
    statement_digest,
)
from wardian.broker.frames import FIRST_FRAME_BYTES
from wardian.broker.jobs.plan import encode_plan, plan_digest
from wardian.broker.joint.kept import PARTS, RECORDS
from wardian.broker.joint.masked import MODEL_KEY_BYTES, MaskedKey
from wardian.broker.refusal import refusal_for
from wardian.broker.release.protocol import workload_report_data
from wardian.broker.tables.granted import GrantedTables
from wardian.broker.tables.protocol import (
    MAX_ASKED_PLAN_BYTES,
    JobAttestation,
    broker_job_report_data,
    job_report_data,
)
from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.secret import Secret
from wardian.errors import (
    AdmissionRefused,
    AuthenticationFailed,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    Timeout,
)


def tamper(raw: bytes, kind: type, **changes: object) -> bytes:
    return wire.encode(msgspec.structs.replace(wire.decode(raw, kind, what="x"), **changes))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ExportBroker]:
    with closing(ExportBroker(serving_hospitals(), tmp_path / "broker.db")) as broker:
        yield broker


@pytest.fixture
def granted(broker: ExportBroker) -> GrantedTables:
    return broker.granted()


@pytest.fixture
def tell(broker: ExportBroker, granted: GrantedTables) -> Tell:
    return Tell(broker, statement(granted))


def untold(broker: ExportBroker) -> bool:
    """Return whether nothing was written or kept."""
    kept = broker.store.keys(RECORDS) or broker.store.keys(PARTS)
    return not kept and not [each for each in broker.entries() if each.event == "export"]


def test_the_job_hears_that_it_is_written(broker: ExportBroker, tell: Tell) -> None:
    exported = tell.whole()
    assert exported.statement == tell.told
    assert exported.statement.served == FILE
    assert exported.digest == statement_digest(encode_statement(tell.told))
    assert exported.witnessed.head.audit.count == broker.store.audit_head.count
    assert exported.manifest.digest == broker.authority.manifest.digest


def test_a_job_without_a_model_to_serve(broker: ExportBroker) -> None:
    other = plan(outputs={"model": [A]})
    told = statement(Ask(broker, other).whole(), served=None)
    assert Tell(broker, told, key=None, of=other).whole().statement.served is None


def test_the_key_is_in_no_message_and_no_repr(broker: ExportBroker, tell: Tell) -> None:
    exported = tell.whole()
    key = MODEL_KEY.key.reveal()
    seen = [tell.m1, tell.m2, tell.m3, tell.m4, *broker.store.audit_lines(limit=1000)]
    seen += [repr(each).encode() for each in (exported, tell.job, tell.session, tell.told)]
    seen += [repr(tell.session.told).encode()]
    assert not any(key in raw or key.hex().encode() in raw for raw in seen)


# T8: the plan and the statement


def test_t8_the_host_swaps_plan_or_statement_on_the_way_to_the_broker(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    """The broker's evidence then binds another digest than the job's own."""
    for changes in (
        {"plan": encode_plan(plan(purpose="billing"))},
        {"statement": digest("other").hex()},
    ):
        tell = Tell(broker, statement(granted))
        tell.challenge(tamper(tell.m1, ExportRequest, **changes))
        with pytest.raises(EvidenceInvalid, match="made for something else"):
            tell.attest()


def test_t8_the_host_swaps_the_statement_after_the_evidence(
    broker: ExportBroker, tell: Tell, granted: GrantedTables
) -> None:
    """Fewer tables, other pins, other approvers: what is told is what the evidence binds."""
    tell.challenge()
    tell.attest()
    other = encode_statement(statement(granted, export=digest("other pins").hex()))
    with pytest.raises(AuthenticationFailed, match="not the one that was announced"):
        tell.respond(tamper(tell.m3, ExportAttestation, statement=other))
    again = Tell(broker, tell.told)
    announced = statement_digest(other).hex()
    again.challenge()
    again.attest()
    again.challenge(tamper(again.m1, ExportRequest, statement=announced))
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        again.respond(tamper(again.m3, ExportAttestation, statement=other))
    assert untold(broker)


def test_t8_everything_that_message_3_vouches_for_is_bound() -> None:
    good: dict[str, Any] = {
        "broker_nonce": b"n" * 32,
        "hpke_public": b"h" * 32,
        "digest": b"d" * 32,
        "plan_digest": b"p" * 32,
        "statement": b"s" * 32,
        "sealed_key": b"",
    }
    bound = {export_report_data(**good)}
    bound |= {export_report_data(**(good | {name: b"x" * 32})) for name in good}
    assert len(bound) == 7


def test_t8_everything_that_message_2_vouches_for_is_bound() -> None:
    good: dict[str, Any] = {
        "job_nonce": b"n" * 32,
        "broker_nonce": b"b" * 32,
        "ca_spki": b"ca",
        "digest": b"d" * 32,
        "version": 1,
        "plan_digest": b"p" * 32,
        "statement": b"s" * 32,
    }
    others = dict.fromkeys(good, b"x" * 32) | {"version": 2}
    bound = {broker_export_report_data(**good)}
    bound |= {broker_export_report_data(**(good | {name: others[name]})) for name in good}
    assert len(bound) == 8


# The key of the model


def test_the_host_puts_a_key_of_its_own_in_the_place_of_the_model_s(
    broker: ExportBroker, tell: Tell
) -> None:
    """It knows the broker's key: HPKE names no sender. The evidence does."""
    tell.challenge()
    tell.attest()
    info = key_info(
        job_nonce=tell.job._nonce,
        broker_nonce=tell.session._nonce,
        digest=tell.session.manifest.digest,
        plan_digest=plan_digest(plan()),
        statement=tell.job._told,
    )
    mine = hpke_seal(tell.session._nonce, b"x" * MODEL_KEY_BYTES, info=info)
    for sealed_key in (mine, b""):
        again = Tell(broker, tell.told)
        again.challenge()
        again.attest()
        with pytest.raises(EvidenceInvalid, match="made for something else"):
            again.respond(tamper(again.m3, ExportAttestation, sealed_key=sealed_key))
    assert untold(broker)


def test_a_key_of_another_session_does_not_open(broker: ExportBroker, tell: Tell) -> None:
    tell.challenge()
    tell.attest()
    other = Tell(broker, tell.told)
    other.challenge()
    other.attest()
    sealed = wire.decode(other.m3, ExportAttestation, what="x").sealed_key
    proof = tell.session.receive(
        tamper(tell.m3, ExportAttestation, sealed_key=sealed), now=broker.now
    )
    with pytest.raises(AuthenticationFailed, match="HPKE"):
        tell.session.told(proof)


def test_what_is_sealed_as_a_key_and_is_none(broker: ExportBroker, tell: Tell) -> None:
    tell.job._key = MaskedKey(key_id=FILE.key_id, masked=b"short")
    tell.challenge()
    tell.attest()
    with pytest.raises(FormatError, match="32 bytes"):
        tell.respond()
    assert untold(broker)


def test_a_job_that_mistakes_its_own_key(broker: ExportBroker, granted: GrantedTables) -> None:
    for told, key in (
        (statement(granted), None),
        (statement(granted), Secret(b"x" * 32)),
        (statement(granted, served=None), MODEL_KEY.key),
    ):
        with pytest.raises(LocalProtocolError, match="not the one that is told of"):
            Tell(broker, told, key=key)


# T24: evidence and sessions of one use for another


def test_t24_evidence_of_a_job_or_a_workload_is_none_of_an_export(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    tell = Tell(broker, statement(granted))
    tell.challenge()
    tell.attest()
    message = wire.decode(tell.m3, ExportAttestation, what="x")
    nonce, manifest = tell.session._nonce, tell.session.manifest.digest
    parts = (nonce, message.hpke_public, manifest, plan_digest(plan()))
    for report_data in (
        job_report_data(
            broker_nonce=nonce,
            hpke_public=message.hpke_public,
            digest=manifest,
            plan_digest=plan_digest(plan()),
            salt=bytes(16),
            again=None,
        ),
        workload_report_data(
            broker_nonce=nonce,
            hpke_public=message.hpke_public,
            tls_spki=b"spki",
            digest=manifest,
            role="job",
            models=("digits",),
        ),
        *(bind(purpose, *parts, tell.job._told) for purpose in (Purpose.JOB, Purpose.RELEASE)),
    ):
        session = Tell(broker, tell.told)
        session.challenge()
        session.job.receive_challenge(session.m2, now=broker.authority.clock())
        forged = tamper(tell.m3, ExportAttestation, evidence=broker.mesh.attest("job")(report_data))
        with pytest.raises(EvidenceInvalid, match="made for something else"):
            session.respond(forged)
    assert untold(broker)


def test_t24_evidence_of_an_export_is_none_of_a_job(broker: ExportBroker, tell: Tell) -> None:
    tell.challenge()
    tell.attest()
    evidence = wire.decode(tell.m3, ExportAttestation, what="x").evidence
    ask = Ask(broker, plan())
    ask.challenge()
    ask.attest()
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        ask.respond(tamper(ask.m3, JobAttestation, evidence=evidence))


def test_t24_the_brokers_evidence_for_a_job_is_none_for_an_export(
    broker: ExportBroker, tell: Tell
) -> None:
    tell.challenge()
    message = wire.decode(tell.m2, ExportChallenge, what="x")
    report_data = broker_job_report_data(
        job_nonce=tell.job._nonce,
        broker_nonce=message.nonce,
        ca_spki=broker.authority.ca.spki,
        digest=broker.authority.manifest.digest,
        version=1,
        plan_digest=plan_digest(plan()),
    )
    tell.m2 = tamper(tell.m2, ExportChallenge, evidence=broker.attest(report_data))
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        tell.attest()


def test_evidence_of_another_session_or_key_is_refused(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    old, new, third = (Tell(broker, statement(granted)) for _ in range(3))
    for tell in (old, new, third):
        tell.challenge()
        tell.attest()
    with pytest.raises(EvidenceInvalid):
        new.respond(old.m3)
    mine = tamper(third.m3, ExportAttestation, hpke_public=HpkePrivateKey.generate().public)
    with pytest.raises(EvidenceInvalid):
        third.respond(mine)
    with pytest.raises(PeerProtocolError, match="out of turn"):
        third.respond()
    assert untold(broker)
    old.respond()
    with pytest.raises(PeerProtocolError):
        old.respond()


def test_t1_the_host_puts_itself_in_the_place_of_the_broker(
    broker: ExportBroker, tell: Tell
) -> None:
    """A key of its own in message 2 would be given the model: the evidence binds it."""
    tell.challenge()
    tell.m2 = tamper(tell.m2, ExportChallenge, nonce=HpkePrivateKey.generate().public)
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        tell.attest()


def test_code_that_no_manifest_lists_is_refused(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    for how, rule in (
        ({"measurement": digest("trojan")}, "MeasurementIn"),
        ({"measurement": broker.mesh.measurements["worker"]}, "MeasurementIn"),
        ({"platform": OTHER_PLATFORM}, "Root"),
    ):
        with pytest.raises(PolicyDenied) as caught:
            Tell(broker, statement(granted)).whole(**how)
        assert caught.value.rule == rule
    assert untold(broker)


# The answer


def test_t1_an_answer_that_another_key_signed_or_of_another_session(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    one, two = Tell(broker, statement(granted)), Tell(broker, statement(granted))
    for tell in (one, two):
        tell.challenge()
        tell.attest()
        tell.respond()
    with pytest.raises(AuthenticationFailed, match="for this session"):
        two.receive(one.m4)
    other = MeshCa.create(mesh="hospitals", simulated=True, now=broker.authority.clock())
    answer = wire.decode(one.m4, ExportResponse, what="x")
    transcript = EXPORT_SESSION.transcript(one.m1, one.m2, one.m3)
    forged = other.sign(EXPORT_SESSION.signed_bytes(transcript, answer.ciphertext))
    with pytest.raises(AuthenticationFailed, match="not signed by the broker that was attested"):
        one.receive(tamper(one.m4, ExportResponse, signature=forged))


def test_an_answer_whose_log_has_not_the_lines(broker: ExportBroker, tell: Tell) -> None:
    exported = tell.whole()
    before = wire.decode(tell.m2, ExportChallenge, what="x").log
    shown = tell.job.shown
    first = shown.audit.count + 1
    good = {"statement": tell.told, "digest": exported.digest, "shown": shown}
    good["now"] = broker.authority.clock()
    with pytest.raises(PeerProtocolError, match="log does not show"):
        verify_exported(Recorded(manifest_version=1, first=first, log=before), **good)
    log = broker.authority.transparency.show(shown.audit.count)
    verify_exported(Recorded(manifest_version=1, first=first, log=log), **good)
    with pytest.raises(PeerProtocolError, match="log does not show"):
        verify_exported(Recorded(manifest_version=1, first=first + 1, log=log), **good)
    with pytest.raises(PeerProtocolError, match="another manifest"):
        verify_exported(Recorded(manifest_version=2, first=first, log=log), **good)
    forked = broker.authority.transparency.show(0)
    with pytest.raises((PeerProtocolError, AuthenticationFailed)):
        verify_exported(Recorded(manifest_version=1, first=first, log=forked), **good)


def test_a_refusal_in_place_of_an_answer_says_which_rule(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    tell = Tell(broker, statement(granted, approvers=()))
    tell.challenge()
    tell.attest()
    with pytest.raises(PolicyDenied) as caught:
        tell.respond()
    with pytest.raises(AdmissionRefused, match="export-approvals") as told:
        tell.receive(wire.encode(refusal_for(caught.value)))
    assert told.value.rule == "export-approvals"


# Malformed, late, large


def test_a_statement_that_is_none(broker: ExportBroker, tell: Tell) -> None:
    tell.job._raw = b"{}"
    tell.m1 = tamper(tell.m1, ExportRequest, statement=statement_digest(b"{}").hex())
    tell.job._request = tell.m1
    tell.challenge()
    tell.attest()
    with pytest.raises(FormatError, match="export statement"):
        tell.respond()
    assert untold(broker)


def test_a_session_that_is_late(broker: ExportBroker, tell: Tell) -> None:
    tell.challenge()
    tell.attest()
    broker.now += 31
    with pytest.raises(Timeout, match="it lives 30 s"):
        tell.respond()
    assert untold(broker)


def test_the_largest_statement_and_plan_have_room(broker: ExportBroker, tell: Tell) -> None:
    key = "02" + "f" * 64
    tables = tuple(
        ExportedTable(owner=key, table=f"{number:02}".ljust(64, "t"), serial=2**53, rule="r" * 64)
        for number in range(64)
    )
    approvers = tuple(f"02{number:064x}" for number in range(64))
    largest = msgspec.structs.replace(tell.told, tables=tables, approvers=approvers)
    assert len(encode_statement(largest)) < MAX_STATEMENT_BYTES
    asked = tamper(tell.m1, ExportRequest, plan=bytes(MAX_ASKED_PLAN_BYTES), seen=2**53)
    assert len(asked) < FIRST_FRAME_BYTES


def test_nobody_tells_before_a_broker_was_verified(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    session = ExportSession(
        plan(),
        statement(granted),
        key=masked(MODEL_KEY.key, statement(granted)),
        agreed=broker.mesh.agreed,
        nonce=bytes(32),
        known=granted.broker,
    )
    with pytest.raises(LocalProtocolError, match="no broker has been verified"):
        _ = session.shown


# The broker that the tables came from, and no other


def test_a_job_tells_no_broker_of_another_mesh_ca(
    broker: ExportBroker, granted: GrantedTables, tmp_path: Path
) -> None:
    """Some owners' signatures are enough for a manifest; its broker was never given a table."""
    theirs = serving_hospitals()
    with closing(ExportBroker(theirs, tmp_path / "theirs.db")) as other:
        tell = Tell(other, statement(granted), known=granted.broker)
        tell.challenge()
        with pytest.raises((PolicyDenied, AuthenticationFailed)):
            tell.attest()
        assert tell.job._sealed_key == b""
        honest = msgspec.structs.replace(granted.broker, audit=other.known.audit)
        tell = Tell(other, statement(granted), known=honest)
        tell.challenge()
        with pytest.raises(PolicyDenied) as caught:
            tell.attest()
        assert caught.value.rule == "mesh-ca"
        assert tell.job._sealed_key == b""


def test_a_job_tells_no_broker_that_was_put_back(
    broker: ExportBroker, granted: GrantedTables
) -> None:
    later = msgspec.structs.replace(granted.broker, version=granted.broker.version + 1)
    tell = Tell(broker, statement(granted), known=later)
    tell.challenge()
    with pytest.raises(PolicyDenied) as caught:
        tell.attest()
    assert caught.value.rule == "in-force-older"
    longer = msgspec.structs.replace(
        granted.broker, audit=msgspec.structs.replace(granted.broker.audit, count=10**6)
    )
    tell = Tell(broker, statement(granted), known=longer)
    tell.challenge()
    with pytest.raises(AuthenticationFailed):
        tell.attest()
