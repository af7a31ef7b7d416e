"""One issuing CA for each manifest, renewals, and how a process learns that it is not wanted."""

from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from toy_mesh import NOW, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.broker.authority import Authority
from wardian.broker.ca import ISSUING_LIFE_S, MeshCa
from wardian.broker.certificates import (
    NO_MANIFEST,
    MeshIdentity,
    build_csr,
    parse_csr,
    read_identity,
    valid_until,
    verify_issuing_certificate,
    verify_peer_certificate,
)
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.refusal import refusal_for
from wardian.broker.release.protocol import Challenge, Request
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    AdmissionRefused,
    AuthenticationFailed,
    EvidenceInvalid,
    EvidenceStale,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    SealError,
    TransportError,
)


def issuer_of(authority: Authority, digest: bytes) -> bytes:
    """Return the key of the authority's issuing CA, if it is of the manifest with this digest."""
    return verify_issuing_certificate(
        authority.issuer.certificate,
        ca_spki=authority.ca.spki,
        manifest_digest=digest,
        now=NOW,
    )


def admit(broker: ToyBroker, role: str = "worker", **more: object):
    mesh = broker.mesh
    return broker.admit(mesh.workload(role, **more), mesh.attest(role))


# One for each manifest


def test_before_the_first_manifest_it_is_of_none(mesh: ToyMesh, tmp_path: Path) -> None:
    fresh = ToyBroker(mesh, tmp_path / "fresh.db", provisioned=False)
    first = issuer_of(fresh.authority, NO_MANIFEST)
    fresh.restart()
    assert issuer_of(fresh.authority, NO_MANIFEST) == first
    with pytest.raises(PolicyDenied):
        issuer_of(fresh.authority, mesh.verified().digest)
    fresh.close()


def test_t21_with_a_new_manifest_comes_a_new_one_and_the_old_key_is_gone(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    before = admit(broker)
    root = broker.authority.ca.certificate
    broker.provision(mesh.signed(version=2))
    after = admit(broker)
    assert before.issuer_spki != after.issuer_spki
    assert (before.mesh_ca, after.mesh_ca) == (root, root)
    assert broker.store.keys("issuing-ca") == ("certificate", "key")
    for admission, other in ((before, after), (after, before)):
        leaf = x509.load_pem_x509_certificates(admission.certificate_chain_pem)[0]
        raw = leaf.public_bytes(encoding=x509_der())
        with pytest.raises(AuthenticationFailed, match="issuing CA of this manifest"):
            verify_peer_certificate(
                raw,
                issuer_spki=other.issuer_spki,
                role="worker",
                manifest_digest=other.manifest.digest,
                now=NOW,
            )


def x509_der():
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER


def test_the_same_manifest_again_and_a_turned_epoch_leave_it_as_it_is(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    issuer = issuer_of(broker.authority, mesh.verified().digest)
    broker.provision(mesh.signed(), keys=(mesh.keys["digits"],))
    broker.authority.turn_epoch(rule="age")
    broker.restart()
    assert issuer_of(broker.authority, broker.authority.manifest_digest) == issuer


def test_a_manifest_and_its_issuing_ca_come_in_one_commit(mesh: ToyMesh, broker: ToyBroker) -> None:
    """The broker dies before it is counted: at the next start both are there, or neither."""
    old = broker.authority.manifest_digest
    broker.counter.fails = True
    with pytest.raises(OSError, match="killed"):
        broker.provision(mesh.signed(version=2))
    broker.counter.fails = False
    broker.restart()
    authority = broker.authority
    assert authority.manifest_digest != old  # the file was ahead, hence whole
    assert issuer_of(authority, authority.manifest_digest)
    assert admit(broker).manifest.manifest.version == 2


@pytest.mark.parametrize("by", ["restart", "age"])
def test_past_half_of_its_life_it_is_replaced(mesh: ToyMesh, broker: ToyBroker, by: str) -> None:
    issuer = issuer_of(broker.authority, mesh.verified().digest)
    broker.host_time = NOW + ISSUING_LIFE_S // 2 + 1
    if by == "restart":
        broker.restart()
    else:
        broker.authority.turn_epoch(rule="age")
    authority = broker.authority
    assert authority.issuer.spki != issuer
    assert valid_until(authority.issuer.certificate) == authority.clock() + ISSUING_LIFE_S
    key, chain = authority.own_identity()
    leaf, above = x509.load_pem_x509_certificates(chain)
    assert above.public_bytes(x509_der()) == authority.issuer.certificate
    assert read_identity(leaf.public_bytes(x509_der())).role == "broker"
    assert key.spki


def test_a_state_without_one_gets_one_at_the_next_start(mesh: ToyMesh, broker: ToyBroker) -> None:
    """As from a release that had none."""
    changes = {("issuing-ca", name): None for name in ("key", "certificate")}
    broker.store.commit(changes, audit=[], now=NOW)
    with pytest.raises(SealError, match="no issuing CA"):
        broker.authority.adopt(broker.authority.manifest)
    broker.restart()
    assert issuer_of(broker.authority, broker.authority.manifest_digest)


def test_certificates_last_one_lease(mesh: ToyMesh, broker: ToyBroker) -> None:
    admission = admit(broker)
    assert admission.valid_until == NOW + mesh.agreed.mesh.lease_s == NOW + 3600
    assert admission.identity == MeshIdentity(
        role="worker",
        measurement=mesh.measurements["worker"],
        manifest_digest=admission.manifest.digest,
    )
    assert (broker.authority.lease_s, broker.authority.epoch_s) == (3600, 86_400)


def test_the_chain_that_a_process_shows_is_its_own_and_the_issuing_cas(broker: ToyBroker) -> None:
    admission = admit(broker, "frontend", names=("localhost",))
    shown = x509.load_pem_x509_certificates(admission.certificate_chain_pem)
    assert [each.subject.rfc4514_string().split("CN=")[1] for each in shown] == [
        "frontend",
        "Wardian issuing CA",
    ]
    assert shown[1].public_bytes(x509_der()) == admission.issuing_ca


# What the host may try with message 2


def challenge_of(broker: ToyBroker):
    workload = broker.mesh.workload()
    raw = broker.challenge(broker.open(), workload.request(tee="simulated"))
    return workload, wire.decode(raw, Challenge, what="challenge")


def refused(workload, message: Challenge, error: type[Exception], says: str, **changes) -> None:
    forged = wire.encode(msgspec.structs.replace(message, **changes))
    with pytest.raises(error, match=says):
        workload.receive_challenge(forged, now=NOW)


def test_a_host_shows_an_issuing_ca_of_its_own(broker: ToyBroker) -> None:
    workload, message = challenge_of(broker)
    mine = MeshCa.create(mesh="test", simulated=True, now=NOW)
    issuer = mine.create_issuing(manifest_digest=broker.authority.manifest_digest, now=NOW)
    changes = {"issuing_ca": issuer.certificate}
    refused(workload, message, AuthenticationFailed, "not signed by the mesh CA", **changes)


def test_a_host_swaps_both_cas(broker: ToyBroker) -> None:
    workload, message = challenge_of(broker)
    mine = MeshCa.create(mesh="test", simulated=True, now=NOW)
    issuer = mine.create_issuing(manifest_digest=broker.authority.manifest_digest, now=NOW)
    changes = {"mesh_ca": mine.certificate, "issuing_ca": issuer.certificate}
    refused(workload, message, EvidenceInvalid, "made for something else", **changes)


def test_a_host_shows_the_issuing_ca_of_an_older_manifest(broker: ToyBroker) -> None:
    old = broker.authority.issuer.certificate
    broker.provision(broker.mesh.signed(version=2))
    workload, message = challenge_of(broker)
    refused(workload, message, PolicyDenied, "another mesh manifest", issuing_ca=old)


def test_an_issuing_ca_that_is_over(broker: ToyBroker) -> None:
    workload, message = challenge_of(broker)
    authority = broker.authority
    old = authority.ca.create_issuing(
        manifest_digest=authority.manifest_digest, now=NOW - ISSUING_LIFE_S - 10
    )
    refused(workload, message, EvidenceStale, "issuing CA", issuing_ca=old.certificate)


# Front ends ask for every model of wardian.toml


def test_a_front_end_gets_the_models_that_the_manifest_has(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    broker.provision(mesh.signed(version=2, models=(mesh.line("digits"),)))
    admission = admit(broker, "frontend", models=("digits", "faces"))
    assert admission.models == ("digits",)
    with pytest.raises(LocalProtocolError):
        admission.queue_key("faces")
    broker.provision(mesh.signed(version=3), keys=(mesh.keys["faces"],))
    assert admit(broker, "frontend", models=("digits", "faces")).models == ("digits", "faces")


def test_a_front_end_whose_models_are_all_gone(mesh: ToyMesh, broker: ToyBroker) -> None:
    broker.provision(mesh.signed(version=2, models=(mesh.line("faces"),)))
    with pytest.raises(PolicyDenied) as caught:
        admit(broker, "frontend")
    assert caught.value.rule == "model-known"


# Renewals


def test_a_renewal_gets_a_certificate_and_queue_keys_and_nothing_else(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    first = admit(broker)
    again = admit(broker, renewal=True)
    assert again.queue_key("digits") == first.queue_key("digits")
    assert {secret.kind for secret in again.secrets} == {"queue", "request"}
    assert again.certificate_digest != first.certificate_digest
    assert again.tls_key.spki != first.tls_key.spki


def test_a_renewal_after_a_turn_gets_the_new_epoch(broker: ToyBroker) -> None:
    first = admit(broker)
    broker.authority.turn_epoch(rule="owner-order")
    again = admit(broker, renewal=True)
    assert (first.epoch, again.epoch) == (1, 2)
    assert again.queue_key("digits")[0] != first.queue_key("digits")[0]


def test_more_than_a_renewal_asks_for(mesh: ToyMesh, broker: ToyBroker) -> None:
    """A broker that is wrong; the workload takes nothing that it did not ask for."""
    workload = mesh.workload(renewal=True)
    session = broker.open()
    challenge = broker.challenge(session, workload.request(tee="simulated"))
    evidence = mesh.attest("worker")(workload.receive_challenge(challenge, now=NOW))
    asked = session.request
    entitled = msgspec.structs.replace(asked, renewal=False)
    grant = broker.releases.release

    def too_much(proof: object, *, request: Request, **more: object) -> object:
        return grant(proof, request=entitled, **more)  # type: ignore[arg-type]

    broker.releases = type("Generous", (), {"release": staticmethod(too_much)})()
    response = broker.respond(session, workload.attestation(evidence))
    with pytest.raises(PeerProtocolError, match="more was released than a renewal"):
        workload.receive_response(response, now=NOW)


def test_a_host_that_makes_a_renewal_of_a_first_admission(mesh: ToyMesh, broker: ToyBroker) -> None:
    """It would withhold the model's key, or spend uses the other way round: evidence binds it."""
    for renewal in (False, True):
        workload = mesh.workload(renewal=renewal)
        session = broker.open()
        raw = workload.request(tee="simulated")
        request = wire.decode(raw, Request, what="request")
        changed = wire.encode(msgspec.structs.replace(request, renewal=not renewal))
        challenge = broker.challenge(session, changed)
        evidence = mesh.attest("worker")(workload.receive_challenge(challenge, now=NOW))
        with pytest.raises(EvidenceInvalid):
            broker.respond(session, workload.attestation(evidence))


def withdrawn_role(broker: ToyBroker) -> None:
    roles = dict(broker.mesh.manifest().roles)
    roles["worker"] = RoleReference(measurements=(digest("another").hex(),))
    broker.provision(broker.mesh.signed(version=2, roles=roles))


def withdrawn_line(broker: ToyBroker) -> None:
    line = broker.mesh.line(serial=2, measurements=[digest("another")])
    broker.provision(broker.mesh.signed(version=2, models=(line,)))


def withdrawn_model(broker: ToyBroker) -> None:
    broker.provision(broker.mesh.signed(version=2, models=(broker.mesh.line("faces"),)))


@pytest.mark.parametrize(
    ("withdraw", "rule"),
    [
        (withdrawn_role, "MeasurementIn"),
        (withdrawn_line, "owner-policy"),
        (withdrawn_model, "model-known"),
    ],
)
def test_t21_a_process_that_was_withdrawn_is_told_when_it_renews(
    broker: ToyBroker, withdraw: object, rule: str
) -> None:
    """In place of message 4, when the workload knows that nobody but its broker says so."""
    admit(broker)
    withdraw(broker)  # type: ignore[operator]
    mesh = broker.mesh
    workload = mesh.workload(renewal=True)
    session = broker.open()
    challenge = broker.challenge(session, workload.request(tee="simulated"))
    evidence = mesh.attest("worker")(workload.receive_challenge(challenge, now=NOW))
    with pytest.raises(PolicyDenied) as denied:
        broker.respond(session, workload.attestation(evidence))
    with pytest.raises(AdmissionRefused) as caught:
        workload.receive_response(wire.encode(refusal_for(denied.value)), now=NOW)
    assert caught.value.rule == denied.value.rule == rule


def test_a_refusal_in_place_of_message_2_says_nothing_about_who_refuses(mesh: ToyMesh) -> None:
    """Anybody on the way could have sent it, so it is no reason to end."""
    workload = mesh.workload(renewal=True)
    workload.request(tee="simulated")
    raw = wire.encode(refusal_for(PolicyDenied("go away", rule="role-known")))
    with pytest.raises(PolicyDenied) as caught:
        workload.receive_challenge(raw, now=NOW)
    assert not isinstance(caught.value, AdmissionRefused)


def test_a_broker_that_cannot_decide_now_is_asked_again(mesh: ToyMesh, broker: ToyBroker) -> None:
    workload = mesh.workload()
    session = broker.open()
    challenge = broker.challenge(session, workload.request(tee="simulated"))
    workload.attestation(mesh.attest("worker")(workload.receive_challenge(challenge, now=NOW)))
    with pytest.raises(TransportError) as caught:
        workload.receive_response(wire.encode(refusal_for(SealError("trouble"))), now=NOW)
    assert caught.value.retryable


def test_secrets_that_were_wiped_are_gone(broker: ToyBroker) -> None:
    admission = admit(broker)
    key, _ = admission.queue_key("digits")
    admission.wipe()
    assert repr(key) == "Secret(wiped)"
    with pytest.raises(LocalProtocolError):
        admission.model_key("digits", 1).reveal()
    with pytest.raises(LocalProtocolError, match="no secret token"):
        admission.named_secret("token")


# Epochs


def test_an_epoch_says_when_it_began(mesh: ToyMesh, broker: ToyBroker, tmp_path: Path) -> None:
    fresh = ToyBroker(mesh, tmp_path / "fresh.db", provisioned=False)
    assert (fresh.authority.epoch, fresh.authority.epoch_began) == (0, 0)
    fresh.close()
    assert (broker.authority.epoch, broker.authority.epoch_began) == (1, NOW)
    broker.host_time = NOW + 500
    broker.authority.turn_epoch(rule="age")
    broker.restart()
    assert (broker.authority.epoch, broker.authority.epoch_began) == (2, NOW + 500)


def test_a_certificate_of_the_issuing_ca_is_only_for_its_own_manifest(broker: ToyBroker) -> None:
    request = parse_csr(build_csr(TlsKey.generate()))
    identity = MeshIdentity(role="worker", measurement=bytes(32), manifest_digest=bytes(32))
    with pytest.raises(LocalProtocolError):
        broker.authority.issue(request, identity=identity)
