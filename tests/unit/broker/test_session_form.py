"""Four kinds of session have one form and no label in common (TRUST T1, T24)."""

import dataclasses
import hashlib
import itertools
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from toy_exports import ExportBroker, Tell, serving_hospitals
from toy_tables import Ask, TableBroker

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.exports.protocol import EXPORT_SESSION
from wardian.broker.exports.statement import ExportedTable, ExportStatement
from wardian.broker.release.protocol import RELEASE_SESSION, Attestation
from wardian.broker.session.answering import AnsweringEnd
from wardian.broker.session.asking import AskingEnd
from wardian.broker.session.form import SessionForm
from wardian.broker.standby.active_session import ActiveSession
from wardian.broker.standby.messages import STANDBY_SESSION, StandbyHello
from wardian.broker.standby.standby_session import StandbySession
from wardian.broker.tables.protocol import JOB_SESSION
from wardian.crypto.hpke import hpke_seal
from wardian.errors import AuthenticationFailed, FormatError, PeerProtocolError, Timeout

FORMS = (RELEASE_SESSION, JOB_SESSION, STANDBY_SESSION, EXPORT_SESSION)
LABELS = {
    RELEASE_SESSION: ("release transcript v1", "release hpke v1", "release response v1"),
    JOB_SESSION: ("job transcript v1", "job hpke v1", "job response v1"),
    STANDBY_SESSION: ("standby transcript v1", "standby hpke v1", "standby answer v1"),
    EXPORT_SESSION: ("export transcript v1", "export hpke v1", "export response v1"),
}
TAGS = {
    RELEASE_SESSION: ("release challenge v1", "release attestation v1", "release response v1"),
    JOB_SESSION: ("job challenge v1", "job attestation v1", "job response v1"),
    STANDBY_SESSION: ("standby challenge v1", "standby proof v1", "standby answer v1"),
    EXPORT_SESSION: ("export challenge v1", "export attestation v1", "export response v1"),
}
MESH_FIELDS = ["format", "nonce", "signed_manifest", "mesh_ca", "issuing_ca", "log", "evidence"]
FIELDS = {
    RELEASE_SESSION: (MESH_FIELDS, ["format", "evidence", "hpke_public", "csr"]),
    JOB_SESSION: (MESH_FIELDS, ["format", "evidence", "hpke_public"]),
    EXPORT_SESSION: (
        MESH_FIELDS,
        ["format", "evidence", "hpke_public", "statement", "sealed_key"],
    ),
    STANDBY_SESSION: (
        ["format", "nonce", "signed_manifest", "mesh_ca", "evidence"],
        ["format", "evidence", "hpke_public"],
    ),
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.of or "release")
def test_what_is_hashed_sealed_and_signed(form: SessionForm[Any, Any]) -> None:
    """The bytes of `docs/reference/protocol.md` and `broker-state.md`, written out."""
    transcript, info, signed = (f"wardian {label}" for label in LABELS[form])
    digest = hashlib.sha256(wire.fields(transcript, b"1", b"2", b"3")).digest()
    assert form.transcript(b"1", b"2", b"3") == digest
    assert form.info(digest) == wire.fields(info, digest)
    assert form.signed_bytes(digest, b"sealed") == wire.fields(signed, digest, b"sealed")
    kinds = (form.challenge, form.attestation, form.response)
    assert tuple(each.__struct_config__.tag for each in kinds) == tuple(
        f"wardian {tag}" for tag in TAGS[form]
    )


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.of or "release")
def test_messages_have_their_fields_in_their_order(form: SessionForm[Any, Any]) -> None:
    evidence = Evidence(quote=b"q", collateral=b"c")
    challenge, attestation, response = form.challenge, form.attestation, form.response
    shown = challenge(**dict.fromkeys(challenge.__struct_fields__))
    vouched = attestation(
        **(dict.fromkeys(attestation.__struct_fields__, b"k") | {"evidence": evidence})
    )
    sealed = response(ciphertext=b"sealed", signature=b"s" * 70)
    order = [list(json.loads(wire.encode(each))) for each in (shown, vouched, sealed)]
    assert order == [*FIELDS[form], ["format", "ciphertext", "signature"]]
    for kind, raw in ((attestation, vouched), (response, sealed)):
        with pytest.raises(FormatError):  # no field is more than its kind has
            wire.decode(wire.encode(raw)[:-1] + b',"more":1}', kind, what="x")


def test_t24_no_label_and_no_message_is_of_two_kinds() -> None:
    labels = [
        label
        for form in FORMS
        for label in (form.transcript_label, form.info_label, form.signed_label)
    ]
    assert len(set(labels)) == 12
    for one, other in itertools.permutations(FORMS, 2):
        sealed = wire.encode(one.response(ciphertext=b"sealed", signature=b"s" * 70))
        with pytest.raises(FormatError):
            wire.decode(sealed, other.response, what="x")


# What one kind signed, in a session of another: everything else is the same


@dataclasses.dataclass
class Open:
    """A session up to message 3, of whichever kind: what its message 4 depends on."""

    form: SessionForm[Any, Any]
    asks: AskingEnd[Any, Any]
    answers: AnsweringEnd[Any, Any, Any]
    take: Any

    @property
    def messages(self) -> tuple[bytes, bytes, bytes]:
        return self.asks._request, self.asks._challenge, self.asks._attestation


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ExportBroker]:
    with closing(ExportBroker(serving_hospitals(), tmp_path / "broker.db")) as broker:
        yield broker


def release(broker: TableBroker) -> Open:
    workload, session = broker.mesh.workload(), broker.open()
    shown = broker.challenge(session, workload.request(tee="simulated"))
    now = broker.authority.clock()
    attest = broker.mesh.attest("worker")
    session.receive(
        workload.attestation(attest(workload.receive_challenge(shown, now=now))), now=broker.now
    )
    return Open(
        RELEASE_SESSION, workload, session, lambda raw: workload.receive_response(raw, now=now)
    )


def job(broker: TableBroker) -> Open:
    ask = Ask(broker)
    ask.challenge()
    ask.session.receive(ask.attest(), now=broker.now)
    return Open(JOB_SESSION, ask.job, ask.session, ask.receive)


def standby(broker: TableBroker) -> Open:
    asks = StandbySession(wish="follow", agreed=broker.mesh.agreed, nonce=secrets.token_bytes(32))
    raw = asks.hello(tee="simulated")
    session = ActiveSession(
        raw,
        wire.decode(raw, StandbyHello, what="x"),
        manifest=broker.authority.manifest,
        ca_certificate=broker.authority.ca.certificate,
        opened_at=broker.now,
    )
    shown = session.challenge(broker.attest(session.report_data()))
    now = broker.authority.clock()
    report_data = asks.receive_challenge(shown, now=now, known=None)
    session.receive(asks.proof(broker.attest(report_data)), now=broker.now)
    return Open(STANDBY_SESSION, asks, session, asks.receive_answer)


def export(broker: ExportBroker) -> Open:
    tables = (ExportedTable(owner="f" * 64, table="any", serial=1, rule="any"),)
    told = ExportStatement(job="0" * 64, export="0" * 64, report="0" * 64, tables=tables)
    tell = Tell(broker, told, key=None)  # nobody decides about it here
    tell.challenge()
    tell.session.receive(tell.attest(), now=broker.now)
    return Open(EXPORT_SESSION, tell.job, tell.session, tell.receive)


KINDS = (release, job, standby, export)


def message_4(to: Open, broker: TableBroker, **labels: str) -> bytes:
    """Return message 4 as the broker itself would make it, with other labels."""
    form = dataclasses.replace(to.form, **labels)
    transcript = form.transcript(*to.messages)
    ciphertext = hpke_seal(to.asks._hpke.public, b"{}", info=form.info(transcript))
    signature = broker.authority.ca.sign(form.signed_bytes(transcript, ciphertext))
    return wire.encode(to.form.response(ciphertext=ciphertext, signature=signature))


@pytest.mark.parametrize("begin", KINDS)
def test_t24_what_the_broker_signed_and_sealed_in_a_session_of_another_kind(
    broker: TableBroker, begin: Callable[[TableBroker], Open]
) -> None:
    """The same broker, key and messages 1 to 3: one label alone is the other kind's."""
    good = begin(broker)
    with pytest.raises(FormatError):  # it opens, and is nothing that was ever released
        good.take(message_4(good, broker))
    for other, (label, refusal) in itertools.product(
        FORMS,
        {
            "transcript_label": "not signed by the broker",
            "signed_label": "not signed by the broker",
            "info_label": "HPKE",
        }.items(),
    ):
        to = begin(broker)
        if other is to.form:
            continue
        with pytest.raises(AuthenticationFailed, match=refusal):
            to.take(message_4(to, broker, **{label: getattr(other, label)}))
        with pytest.raises(PeerProtocolError, match="out of turn"):
            to.take(message_4(to, broker))


# Turns


@pytest.mark.parametrize("begin", KINDS)
def test_what_raises_between_two_turns_ends_the_session(
    broker: TableBroker, begin: Callable[[TableBroker], Open]
) -> None:
    for raw in (
        b"{}",
        b"",
        wire.encode(begin(broker).form.response(ciphertext=b"", signature=b"s" * 8)),
    ):
        at = begin(broker)
        with pytest.raises((PeerProtocolError, AuthenticationFailed)):
            at.take(raw)
        with pytest.raises(PeerProtocolError, match="out of turn"):
            at.take(message_4(at, broker))


def test_a_certificate_request_that_is_wrong_ends_the_session(broker: TableBroker) -> None:
    """It is read within the turn: nothing is released to whom it came from."""
    workload, session = broker.mesh.workload(), broker.open()
    shown = broker.challenge(session, workload.request(tee="simulated"))
    report_data = workload.receive_challenge(shown, now=broker.authority.clock())
    good = workload.attestation(broker.mesh.attest("worker")(report_data))
    bad = msgspec.structs.replace(wire.decode(good, Attestation, what="x"), csr=b"no request")
    with pytest.raises(FormatError):
        session.receive(wire.encode(bad), now=broker.now)
    for step in (lambda: session.receive(good, now=broker.now), lambda: seal(session, broker)):
        with pytest.raises(PeerProtocolError, match="out of turn"):
            step()


@pytest.mark.parametrize("begin", KINDS)
@pytest.mark.parametrize("late", [30.1, -0.1])
def test_nothing_is_sealed_when_it_is_late_or_not_due(
    broker: TableBroker, begin: Callable[[TableBroker], Open], late: float
) -> None:
    """Secrets are not even put together then."""
    at = begin(broker)
    with pytest.raises(Timeout, match="it lives 30 s"):
        seal(at.answers, broker, now=broker.now + late)
    with pytest.raises(PeerProtocolError, match="out of turn"):
        seal(at.answers, broker)


def seal(answers: AnsweringEnd[Any, Any, Any], broker: TableBroker, **how: Any) -> bytes:
    def never() -> bytes:
        raise AssertionError("nothing was to be sealed")

    return answers._seal(never, sign=broker.authority.ca.sign, **({"now": broker.now} | how))
