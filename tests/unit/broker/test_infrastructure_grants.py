"""Access to Redis in a release: for who asked, on evidence, written down, and kept in the state."""

import dataclasses
import hashlib

import msgspec
import pytest
from cryptography import x509
from toy_mesh import MASTER_KEY, NOW, Counter, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.broker.infrastructure.acl import COMMANDS, key_prefix, users_acl
from wardian.broker.infrastructure.ca import InfrastructureCa
from wardian.broker.infrastructure.certificates import verify_infrastructure_certificate
from wardian.broker.infrastructure.grant import QueueGrant
from wardian.broker.infrastructure.keeping import Infrastructure
from wardian.broker.release.admission import Admission
from wardian.broker.release.protocol import (
    Release,
    Request,
    _QueueRecord,
    decode_release,
    encode_release,
)
from wardian.broker.state.audit import AuditEntry, verify_chain
from wardian.broker.state.new_life import begin_life
from wardian.cli.audit.lines import sentence
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    AuthenticationFailed,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
)


def admit(broker: ToyBroker, role: str = "worker", **more: object) -> Admission:
    mesh = broker.mesh
    more.setdefault("queue_access", True)
    return broker.admit(mesh.workload(role, **more), mesh.attest(role))


def grant_of(admission: Admission) -> QueueGrant:
    assert admission.queue_access is not None
    return admission.queue_access


def entries(broker: ToyBroker) -> list[AuditEntry]:
    store = broker.store
    lines = verify_chain(store.audit_lines(limit=1000), head=store.audit_head)
    return [line.entry for line in lines]


# Who gets it


@pytest.mark.parametrize("role", ["frontend", "worker"])
def test_who_asks_gets_a_certificate_and_its_role_s_password(broker: ToyBroker, role: str) -> None:
    first, second = grant_of(admit(broker, role)), grant_of(admit(broker, role))
    assert first.username == role
    assert len(first.password.reveal()) == 64
    assert bytes.fromhex(first.password.reveal().decode())
    assert first.password == second.password
    assert first.certificate != second.certificate
    assert first.infrastructure_ca == second.infrastructure_ca
    assert repr(first.password.reveal()) not in repr(first)


def test_roles_have_different_passwords(broker: ToyBroker) -> None:
    assert grant_of(admit(broker, "frontend")).password != grant_of(admit(broker)).password


def test_who_does_not_ask_gets_nothing_and_nothing_is_made(broker: ToyBroker) -> None:
    admission = admit(broker, queue_access=False)
    assert admission.queue_access is None
    assert not broker.store.keys("infrastructure")
    assert "access" not in {entry.kind for entry in entries(broker)}


def test_the_certificate_is_for_the_key_of_the_admission(broker: ToyBroker) -> None:
    admission = admit(broker, "frontend", names=("localhost",))
    grant = grant_of(admission)
    spki = verify_infrastructure_certificate(
        grant.certificate, ca=grant.infrastructure_ca, holder="frontend", now=NOW
    )
    assert spki == admission.tls_key.spki
    end = x509.load_der_x509_certificate(grant.certificate).not_valid_after_utc.timestamp()
    assert end == admission.valid_until == NOW + broker.authority.lease_s


def test_a_renewal_gets_a_fresh_certificate_and_the_same_password(broker: ToyBroker) -> None:
    first = admit(broker)
    again = admit(broker, renewal=True, seen=first.witnessed.head.audit)
    assert grant_of(again).password == grant_of(first).password
    assert grant_of(again).certificate != grant_of(first).certificate
    broker.authority.turn_epoch(rule="age")
    later = grant_of(admit(broker, renewal=True))
    assert later.infrastructure_ca == grant_of(first).infrastructure_ca


def test_a_wiped_admission_has_no_password(broker: ToyBroker) -> None:
    admission = admit(broker)
    admission.wipe()
    with pytest.raises(LocalProtocolError):
        grant_of(admission).password.reveal()
    admit(broker, queue_access=False).wipe()


def test_no_other_role_has_business_there(mesh: ToyMesh, broker: ToyBroker) -> None:
    from wardian.broker.certificates import build_csr, parse_csr

    request = parse_csr(build_csr(TlsKey.generate()))
    for role in ("broker", "keeper", "server", "authority"):
        with pytest.raises(PolicyDenied) as caught:
            Infrastructure(broker.authority).grant(request, role=role)
        assert caught.value.rule == "queue-access"


# What the state keeps


def test_it_is_committed_with_an_audit_line_before_it_is_used(broker: ToyBroker) -> None:
    before = len(entries(broker))
    admission = admit(broker)
    made, *released = entries(broker)[before:]
    assert (made.event, made.role, made.kind) == ("start", "infrastructure", "certificate")
    assert sentence(made) == "made the infrastructure CA and passwords of Redis"
    assert [entry.kind for entry in released] == ["model", "queue", "request", "access"]
    access = released[-1]
    assert access.certificate == hashlib.sha256(grant_of(admission).certificate).hexdigest()
    assert (access.role, access.outcome) == ("worker", "granted")
    assert access.measurement == broker.mesh.measurements["worker"].hex()
    assert access.evidence
    assert sentence(access) == "got access to Redis"
    admit(broker)
    assert [entry.event for entry in entries(broker)[before:]].count("start") == 1


def test_a_broker_that_dies_before_it_is_counted_has_given_nothing(broker: ToyBroker) -> None:
    broker.counter.fails = True
    with pytest.raises(OSError, match="killed"):
        admit(broker)
    broker.counter.fails = False
    broker.restart()
    kept = broker.store.keys("infrastructure")
    grant = grant_of(admit(broker))  # the file was ahead, hence whole: this is what it had
    assert kept == broker.store.keys("infrastructure")
    assert grant.infrastructure_ca == broker.store.get("infrastructure", "certificate")


def test_it_survives_a_restart_and_another_manifest(mesh: ToyMesh, broker: ToyBroker) -> None:
    first = grant_of(admit(broker))
    broker.restart()
    broker.provision(mesh.signed(version=2))
    again = grant_of(admit(broker))
    assert again.password == first.password
    assert again.infrastructure_ca == first.infrastructure_ca


def test_it_goes_along_when_the_state_begins_another_life(broker: ToyBroker) -> None:
    """As after a recovery, and at a broker to which a mesh was handed over."""
    first = grant_of(admit(broker))
    broker.close()
    broker.counter = Counter()
    begin_life(
        broker.path,
        master_key=MASTER_KEY,
        counter=broker.counter.seam,
        changes={},
        audit=[AuditEntry(event="recovery", outcome="granted")],
        now=NOW,
    )
    broker.start()
    again = grant_of(admit(broker))
    assert again.password == first.password
    assert again.infrastructure_ca == first.infrastructure_ca


def test_a_role_that_came_later_gets_a_password_and_the_others_keep_theirs(
    broker: ToyBroker,
) -> None:
    first = grant_of(admit(broker))
    lost = {("infrastructure", "password-frontend"): None}
    broker.store.commit(lost, audit=[], now=NOW)
    front = grant_of(admit(broker, "frontend"))
    assert len(front.password.reveal()) == 64
    again = grant_of(admit(broker))
    assert again.password == first.password
    assert again.infrastructure_ca == first.infrastructure_ca


def test_keys_and_passwords_stand_nowhere_in_the_clear(broker: ToyBroker) -> None:
    password = grant_of(admit(broker)).password.reveal()
    key = broker.store.get("infrastructure", "key")
    assert key is not None
    files = [path for path in broker.path.parent.iterdir() if path.is_file()]
    assert files
    for path in files:
        raw = path.read_bytes()
        assert password not in raw
        assert key not in raw
    for line in broker.store.audit_lines(limit=1000):
        assert password not in line


# What the host may try


def test_the_host_asks_in_a_workload_s_name_or_takes_its_question_away(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    """The transcript covers message 1: what the broker signed is of another session."""
    for asked in (False, True):
        workload, session = mesh.workload(queue_access=asked), broker.open()
        raw = workload.request(tee="simulated")
        request = wire.decode(raw, Request, what="request")
        changed = wire.encode(msgspec.structs.replace(request, queue_access=not asked))
        challenge = broker.challenge(session, changed)
        evidence = mesh.attest("worker")(workload.receive_challenge(challenge, now=NOW))
        response = broker.respond(session, workload.attestation(evidence))
        with pytest.raises(AuthenticationFailed, match="for this session"):
            workload.receive_response(response, now=NOW)


def respond_with(broker: ToyBroker, change, *, asked: bool = True, role: str = "worker"):
    """Carry out a release whose `queue` a broker that is wrong changed."""
    mesh = broker.mesh
    workload, session = mesh.workload(role, queue_access=asked), broker.open()
    challenge = broker.challenge(session, workload.request(tee="simulated"))
    evidence = mesh.attest(role)(workload.receive_challenge(challenge, now=NOW))
    release = broker.releases.release

    def wrong(proof, **more) -> Release:
        found = release(proof, **more)
        return dataclasses.replace(found, queue=change(found.queue))

    broker.releases = type("Wrong", (), {"release": staticmethod(wrong)})()
    response = broker.respond(session, workload.attestation(evidence))
    return workload.receive_response(response, now=NOW)


def issued(ca: InfrastructureCa, key: TlsKey, role: str = "worker") -> bytes:
    from wardian.broker.certificates import build_csr, parse_csr

    return ca.issue_client(parse_csr(build_csr(key)), role=role, now=NOW, life_s=60)


def test_a_broker_that_gives_too_little_or_too_much(mesh: ToyMesh, broker: ToyBroker) -> None:
    with pytest.raises(PeerProtocolError, match="in vain"):
        respond_with(broker, lambda _: None)
    broker.restart()
    given = grant_of(admit(broker))
    with pytest.raises(PeerProtocolError, match="unasked"):
        respond_with(broker, lambda _: given, asked=False)


def test_a_certificate_for_somebody_else_s_key(broker: ToyBroker) -> None:
    other = grant_of(admit(broker))
    with pytest.raises(PeerProtocolError, match="not for this process"):
        respond_with(broker, lambda _: other)


def test_another_user(broker: ToyBroker) -> None:
    def change(grant: QueueGrant) -> QueueGrant:
        return dataclasses.replace(grant, username="frontend")

    with pytest.raises(PeerProtocolError, match="not for this process"):
        respond_with(broker, change)


def test_a_certificate_of_another_ca_or_role(broker: ToyBroker) -> None:
    other = InfrastructureCa.create(mesh="test", simulated=True, now=NOW)

    def change(grant: QueueGrant) -> QueueGrant:
        return dataclasses.replace(grant, infrastructure_ca=other.certificate)

    with pytest.raises(AuthenticationFailed):
        respond_with(broker, change)
    broker.restart()
    front = grant_of(admit(broker, "frontend"))
    with pytest.raises(PolicyDenied):
        respond_with(broker, lambda _: front)


def test_t3_an_authority_of_the_mesh_that_signs_for_infrastructure(broker: ToyBroker) -> None:
    """Whoever has Redis's certificate would have one of an authority that peers know."""
    key = broker.authority.ca._key
    made = _created_with(key)

    def change(grant: QueueGrant) -> QueueGrant:
        return dataclasses.replace(grant, infrastructure_ca=made.certificate)

    with pytest.raises(PeerProtocolError, match="signs for infrastructure"):
        respond_with(broker, change)


def _created_with(key: TlsKey) -> InfrastructureCa:
    from unittest import mock

    with mock.patch.object(TlsKey, "generate", return_value=key):
        return InfrastructureCa.create(mesh="test", simulated=True, now=NOW)


def test_a_record_with_a_password_of_another_form(broker: ToyBroker) -> None:
    from wardian.errors import FormatError

    admission = admit(broker)
    release = Release(
        certificate_chain=(b"a", b"b", b"c"),
        manifest_version=1,
        secrets=(),
        log=broker.authority.transparency.show(0),
        queue=grant_of(admission),
    )
    raw = encode_release(release)
    assert decode_release(raw).queue == grant_of(admission)
    password = grant_of(admission).password.reveal()
    for wrong in (password[:-1], password.upper(), b"", password + b"0", b"g" * 64):
        with pytest.raises(FormatError):
            decode_release(raw.replace(password, wrong))


# The ACL's text


def test_the_text_of_the_acl_file() -> None:
    passwords = {role: Secret(role.encode() * 8) for role in COMMANDS}
    text = users_acl("test", passwords)
    off, *users = text.splitlines()
    assert off.startswith("user default off ")
    assert off.endswith("-@all")
    assert [line.split()[1] for line in users] == ["frontend", "worker", "zoo"]
    for line, role in zip(users, COMMANDS, strict=True):
        digest = hashlib.sha256(passwords[role].reveal()).hexdigest()
        assert f" #{digest} " in line
        assert f" ~{key_prefix('test')}* " in line
        assert passwords[role].reveal().decode() not in line
        assert "nopass" not in line
        assert "allkeys" not in line
        assert "+@" not in line
    assert key_prefix("a.b-c") == "{wardian:a.b-c}:"


def test_a_record_that_is_about_to_travel_does_not_show_its_password() -> None:
    record = _QueueRecord(
        infrastructure_ca=b"ca", certificate=b"leaf", username="worker", password="5e" * 32
    )
    assert repr(record) == "_QueueRecord(worker)"
