"""A release shows the log that it is written in; the lines say who got what, on which evidence."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from audit_logs import WITNESSES, Watcher
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from test_broker_release_attacks import Relay, _receive, _release
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.attestation.evidence_digest import evidence_digest
from wardian.broker.audit_log.desks import offer_to
from wardian.broker.release.protocol import Attestation, Challenge
from wardian.broker.state.audit import EMPTY, AuditEntry, decode_line
from wardian.broker.transparency.cosigning import Cosignature
from wardian.broker.transparency.following import ShownLog
from wardian.broker.transparency.heads import sign_head, verify_head
from wardian.broker.transparency.witnessing import WitnessHello
from wardian.errors import AuthenticationFailed, PeerProtocolError, PolicyDenied, Timeout

changed = msgspec.structs.replace


class Desk:
    """What a `Watcher` visits, at a toy broker."""

    def __init__(self, broker: ToyBroker) -> None:
        self.shown, self.now = broker.authority.transparency, NOW
        self.broker = broker

    @property
    def certificate(self) -> bytes:
        _, chain = self.broker.authority.own_identity()
        return x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.DER)

    def offer(self, hello: bytes) -> bytes:
        return wire.encode(offer_to(self.shown, wire.decode(hello, WitnessHello, what="x")))

    def take(self, raw: bytes) -> bytes:
        self.shown.accept(wire.decode(raw, Cosignature, what="x"))
        return wire.encode(self.shown.witnessed())


@pytest.fixture
def watched_mesh() -> ToyMesh:
    return ToyMesh(witnesses=list(WITNESSES[:2]), head_threshold=2)


def entries(broker: ToyBroker) -> list[AuditEntry]:
    return [decode_line(raw).entry for raw in broker.store.audit_lines(limit=1000)]


# What a workload is shown


def test_a_workload_sees_the_log_grow_by_its_own_lines(mesh: ToyMesh, broker: ToyBroker) -> None:
    before = broker.store.audit_head
    admission = broker.admit(mesh.workload(), mesh.attest("worker"))
    head = admission.witnessed.head
    assert verify_head(head, ca_spki=admission.mesh_ca_spki, mesh="test") == broker.store.audit_head
    assert head.audit.count == before.count + 3  # the model's key, the queue's and the request key
    assert head.manifest == admission.manifest.digest.hex()


def test_a_renewal_goes_on_from_what_was_seen(mesh: ToyMesh, broker: ToyBroker) -> None:
    seen = broker.admit(mesh.workload(), mesh.attest("worker")).witnessed.head.audit
    again = broker.admit(mesh.workload(seen=seen, renewal=True), mesh.attest("worker"))
    assert again.witnessed.head.audit.count > seen.count


def test_a_broker_that_runs_twice_on_one_state_renews_nobody_of_the_other(
    mesh: ToyMesh, broker: ToyBroker, tmp_path: Path
) -> None:
    copy, counted = tmp_path / "copy.db", broker.counter.value
    copy.write_bytes(broker.path.read_bytes())
    seen = broker.admit(mesh.workload(), mesh.attest("worker")).witnessed.head.audit
    twin = ToyBroker.__new__(ToyBroker)
    twin.mesh, twin.path, twin.now, twin.host_time = mesh, copy, 100.0, NOW
    twin.counter = type(broker.counter)(counted)
    twin.start()
    with closing(twin):
        for _ in range(3):
            twin.admit(mesh.workload(), mesh.attest("worker"))
        assert twin.authority.ca.spki == broker.authority.ca.spki
        with pytest.raises(AuthenticationFailed, match="forked"):
            twin.admit(mesh.workload(seen=seen, renewal=True), mesh.attest("worker"))


def test_an_older_copy_of_the_broker_renews_nobody(
    mesh: ToyMesh, broker: ToyBroker, tmp_path: Path
) -> None:
    for _ in range(3):
        seen = broker.admit(mesh.workload(), mesh.attest("worker")).witnessed.head.audit
    with (
        closing(ToyBroker(mesh, tmp_path / "other.db")) as other,
        pytest.raises(AuthenticationFailed, match="cut short"),
    ):
        other.admit(mesh.workload(seen=seen), mesh.attest("worker"))


def _head_of_another_ca(log: ShownLog, relay: Relay) -> ShownLog:
    from wardian.broker.ca import MeshCa

    other = MeshCa.create(mesh="test", simulated=True, now=NOW)
    head = sign_head(
        log.witnessed.head.audit,
        mesh="test",
        manifest_digest=b"",
        ca_spki=relay.broker.authority.ca.spki,
        sign=other.sign,
        now=NOW,
    )
    return changed(log, witnessed=changed(log.witnessed, head=head))


@pytest.mark.parametrize(
    "spoil",
    [
        _head_of_another_ca,
        lambda log, relay: changed(
            log,
            witnessed=changed(log.witnessed, head=changed(log.witnessed.head, audit=EMPTY)),
        ),
    ],
    ids=["another CA's key", "another head"],
)
def test_the_host_shows_a_head_of_its_own_with_message_2(
    relay: Relay, spoil: Callable[[ShownLog, Relay], ShownLog]
) -> None:
    shown = wire.decode(relay.m2, Challenge, what="x")
    relay.m2 = wire.encode(changed(shown, log=spoil(shown.log, relay)))
    with pytest.raises(AuthenticationFailed, match="not signed by the mesh's CA key"):
        relay.attest()


def test_a_release_that_no_line_shows(relay: Relay) -> None:
    before = relay.broker.authority.transparency.show(0)
    release = _release(relay)
    shown = wire.decode(relay.m2, Challenge, what="x").log
    with pytest.raises(PeerProtocolError, match="audit log does not show"):
        _receive(relay, replace(release, log=changed(shown, continues=())))
    assert before.witnessed.head.audit == shown.witnessed.head.audit


def test_the_log_of_message_4_does_not_go_on_from_that_of_message_2(relay: Relay) -> None:
    release = _release(relay)
    with pytest.raises(AuthenticationFailed, match="forked"):
        _receive(relay, replace(release, log=changed(release.log, continues=())))


@pytest.fixture
def relay(mesh: ToyMesh, broker: ToyBroker) -> Relay:
    return Relay(mesh, broker)


# wardian.toml demands witnesses


def test_no_key_is_taken_from_a_broker_without_its_witnesses(
    watched_mesh: ToyMesh, tmp_path: Path
) -> None:
    with closing(ToyBroker(watched_mesh, tmp_path / "broker.db")) as broker:
        lines = len(entries(broker))
        with pytest.raises(Timeout, match="0 of the 2 witnesses"):
            broker.admit(watched_mesh.workload(), watched_mesh.attest("worker"))
        desk = Desk(broker)
        Watcher(WITNESSES[0], ca_spki=broker.authority.ca.spki).visit(desk)
        with pytest.raises(Timeout, match="1 of the 2 witnesses"):
            broker.admit(watched_mesh.workload(), watched_mesh.attest("worker"))
        assert len(entries(broker)) == lines  # and nothing was released, no use counted
        Watcher(WITNESSES[1], ca_spki=broker.authority.ca.spki).visit(desk)
        admission = broker.admit(watched_mesh.workload(), watched_mesh.attest("worker"))
        assert len(admission.witnessed.cosigned) == 2


# What the lines say


def test_a_line_names_evidence_certificate_and_manifest(mesh: ToyMesh, broker: ToyBroker) -> None:
    shown: list[Evidence] = []

    def attest(report_data: bytes) -> Evidence:
        shown.append(mesh.attest("worker")(report_data))
        return shown[0]

    admission = broker.admit(mesh.workload(), attest)
    for entry in entries(broker)[-2:]:
        assert entry.evidence == evidence_digest(shown[0]).hex()
        assert entry.evidence != hashlib.sha256(shown[0].quote).hexdigest()
        assert entry.certificate == admission.certificate_digest.hex()
        assert entry.manifest == admission.manifest.digest.hex()
        assert entry.measurement == mesh.measurements["worker"].hex()


def test_a_refusal_names_the_evidence_that_was_refused(mesh: ToyMesh, broker: ToyBroker) -> None:
    relay = Relay(mesh, broker)
    relay.attest()
    evidence = wire.decode(relay.m3, Attestation, what="x").evidence
    error = PolicyDenied("no", rule="MeasurementIn")
    broker.authority.refuse(error, role="worker", models=("digits",), evidence=evidence)
    garbage = Evidence(quote=b"x", collateral=b"")
    broker.authority.refuse(error, role="worker", evidence=garbage)
    broker.authority.refuse(error, role="owner", owner=mesh.owners[0].public.hex())
    named, unnamed, owner = entries(broker)[-3:]
    assert named.evidence == evidence_digest(evidence).hex()
    assert (unnamed.evidence, unnamed.owner) == ("", "")
    assert owner.owner == mesh.owners[0].public.hex()
    assert {named.rule, unnamed.rule, owner.rule} == {"MeasurementIn"}
    assert named.measurement == ""  # nobody verified it


def test_the_session_knows_what_was_presented(mesh: ToyMesh, broker: ToyBroker) -> None:
    relay = Relay(mesh, broker)
    assert relay.session.presented is None
    relay.attest()
    relay.session.receive(relay.m3, now=broker.now)
    assert relay.session.presented == wire.decode(relay.m3, Attestation, what="x").evidence


def test_an_owner_gets_a_head_that_it_can_keep(mesh: ToyMesh, broker: ToyBroker) -> None:
    receipt = broker.provision(mesh.signed(version=2), keys=tuple(mesh.keys.values()))
    ca_spki = broker.authority.ca.spki
    assert verify_head(receipt.head, ca_spki=ca_spki, mesh="test") == broker.store.audit_head
    assert receipt.head.manifest == receipt.manifest_digest
    owners = {entry.owner for entry in entries(broker) if entry.event == "provision"}
    assert owners == {mesh.owners[0].public.hex()}
