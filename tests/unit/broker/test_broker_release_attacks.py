"""Attacks on a release, each with the defence that stops it (TRUST T1, T2, T4, T7, T11, T24)."""

from contextlib import closing

import msgspec
import pytest
from toy_mesh import NOW, OTHER_PLATFORM, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.broker.ca import MeshCa
from wardian.broker.mesh.trust import RoleReference, TrustAnchor
from wardian.broker.release.admission import Admission
from wardian.broker.release.protocol import (
    RELEASE_SESSION,
    Attestation,
    Challenge,
    Release,
    ReleasedSecret,
    Response,
    broker_report_data,
    decode_release,
    encode_release,
    queue_key_id,
    workload_report_data,
)
from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    AttestationError,
    AuthenticationFailed,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    TcbUnacceptable,
    Timeout,
    TransportError,
)


def tamper(raw: bytes, kind: type, **changes: object) -> bytes:
    return wire.encode(msgspec.structs.replace(wire.decode(raw, kind, what="x"), **changes))


# The good case first: everything below differs from it in one thing.


def test_a_worker_gets_its_models_key_and_queue_key(mesh: ToyMesh, broker: ToyBroker) -> None:
    admission = broker.admit(mesh.workload("worker"), mesh.attest("worker"))
    assert admission.model_key("digits", 1) == mesh.keys["digits"].key
    key, epoch = admission.queue_key("digits")
    assert (len(key), epoch) == (32, 1)
    assert {(s.kind, s.model) for s in admission.secrets} == {
        ("model", "digits"),
        ("queue", "digits"),
        ("request", "digits"),
    }
    assert b"BEGIN CERTIFICATE" in admission.certificate_chain_pem
    assert b"BEGIN CERTIFICATE" in admission.mesh_ca_pem


def test_a_front_end_gets_queue_keys_and_no_model_key(mesh: ToyMesh, broker: ToyBroker) -> None:
    worker = broker.admit(mesh.workload("worker"), mesh.attest("worker"))
    frontend = broker.admit(
        mesh.workload("frontend", ("digits", "faces"), names=("localhost", "127.0.0.1")),
        mesh.attest("frontend"),
    )
    assert {s.kind for s in frontend.secrets} == {"queue"}
    assert frontend.queue_key("digits") == worker.queue_key("digits")
    assert frontend.queue_key("digits")[0] != frontend.queue_key("faces")[0]
    with pytest.raises(LocalProtocolError, match="no key of model digits"):
        frontend.model_key("digits", 1)
    with pytest.raises(LocalProtocolError, match="no queue key"):
        worker.queue_key("faces")


# T1: a host between workload and broker


class Relay:
    """A release with a hostile host on the wire, who sees and may replace every message."""

    def __init__(self, mesh: ToyMesh, broker: ToyBroker) -> None:
        self.mesh, self.broker = mesh, broker
        self.workload = mesh.workload()
        self.session = broker.open()
        self.m1 = self.workload.request(tee="simulated")
        self.m2 = broker.challenge(self.session, self.m1)

    def attest(self) -> None:
        report_data = self.workload.receive_challenge(self.m2, now=NOW)
        self.m3 = self.workload.attestation(self.mesh.attest("worker")(report_data))

    def respond(self) -> None:
        self.attest()
        self.m4 = self.broker.respond(self.session, self.m3)


@pytest.fixture
def relay(mesh: ToyMesh, broker: ToyBroker) -> Relay:
    return Relay(mesh, broker)


def forged_release(broker: ToyBroker) -> Release:
    key = Secret(b"k" * 32)
    return Release(
        certificate_chain=(b"x", b"y", b"z"),
        manifest_version=1,
        log=broker.authority.transparency.show(0),
        secrets=(
            ReleasedSecret(
                kind="queue",
                model="digits",
                version=None,
                epoch=1,
                key_id=queue_key_id(key).hex(),
                key=key,
            ),
        ),
    )


def test_t1_a_relaying_host_seals_its_own_queue_key(relay: Relay) -> None:
    relay.respond()
    transcript = RELEASE_SESSION.transcript(relay.m1, relay.m2, relay.m3)
    public = wire.decode(relay.m3, Attestation, what="x").hpke_public
    forged_secrets = encode_release(forged_release(relay.broker))
    ciphertext = hpke_seal(public, forged_secrets, info=RELEASE_SESSION.info(transcript))
    forged = tamper(relay.m4, Response, ciphertext=ciphertext)
    with pytest.raises(AuthenticationFailed, match="not signed by the broker that was attested"):
        relay.workload.receive_response(forged, now=NOW)


def test_t1_a_response_signed_by_another_ca(relay: Relay) -> None:
    relay.respond()
    transcript = RELEASE_SESSION.transcript(relay.m1, relay.m2, relay.m3)
    stranger = MeshCa.create(mesh="test", simulated=True, now=NOW)
    ciphertext = wire.decode(relay.m4, Response, what="x").ciphertext
    signature = stranger.sign(RELEASE_SESSION.signed_bytes(transcript, ciphertext))
    with pytest.raises(AuthenticationFailed, match="not signed by the broker"):
        relay.workload.receive_response(tamper(relay.m4, Response, signature=signature), now=NOW)


def test_t1_a_host_shows_its_own_ca_beside_the_brokers_evidence(relay: Relay) -> None:
    stranger = MeshCa.create(mesh="test", simulated=True, now=NOW)
    forged = tamper(relay.m2, Challenge, mesh_ca=stranger.certificate)
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        relay.workload.receive_challenge(forged, now=NOW)


def test_t1_a_response_of_another_session_is_refused(mesh: ToyMesh, broker: ToyBroker) -> None:
    first, second = Relay(mesh, broker), Relay(mesh, broker)
    first.respond()
    second.attest()
    with pytest.raises(AuthenticationFailed, match="for this session"):
        second.workload.receive_response(first.m4, now=NOW)


def test_t1_the_transcript_covers_message_1(mesh: ToyMesh, broker: ToyBroker) -> None:
    relay = Relay(mesh, broker)
    relay.session = broker.open()
    changed = relay.m1.replace(b'"simulated"', b'"hardware"')  # the one field without a check
    relay.m2 = broker.challenge(relay.session, changed)
    relay.respond()
    with pytest.raises(AuthenticationFailed, match="for this session"):
        relay.workload.receive_response(relay.m4, now=NOW)


def test_a_ciphertext_for_another_workload_does_not_open(relay: Relay) -> None:
    """Even if the signature were good: HPKE's info and key are this session's."""
    relay.respond()
    transcript = RELEASE_SESSION.transcript(relay.m1, relay.m2, relay.m3)
    ciphertext = hpke_seal(
        HpkePrivateKey.generate().public, b"{}", info=RELEASE_SESSION.info(transcript)
    )
    signature = relay.broker.authority.ca.sign(RELEASE_SESSION.signed_bytes(transcript, ciphertext))
    forged = wire.encode(Response(ciphertext=ciphertext, signature=signature))
    with pytest.raises(AuthenticationFailed, match="HPKE"):
        relay.workload.receive_response(forged, now=NOW)


# The broker's evidence, as the workload sees it


def test_broker_evidence_for_another_nonce_is_refused(mesh: ToyMesh, broker: ToyBroker) -> None:
    old = Relay(mesh, broker)
    fresh = mesh.workload()
    fresh.request(tee="simulated")
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        fresh.receive_challenge(old.m2, now=NOW)


def test_broker_evidence_under_another_broker_nonce_is_refused(relay: Relay) -> None:
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        relay.workload.receive_challenge(tamper(relay.m2, Challenge, nonce=b"n" * 32), now=NOW)


def test_t2_a_broker_shows_a_manifest_that_its_evidence_does_not_bind(
    mesh: ToyMesh, relay: Relay
) -> None:
    other = mesh.signed(version=2)  # as good a manifest as the other, and signed by the owner
    forged = tamper(relay.m2, Challenge, signed_manifest=other)
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        relay.workload.receive_challenge(forged, now=NOW)


def test_t2_the_version_is_bound_beside_the_digest() -> None:
    common = {
        "workload_nonce": b"w" * 32,
        "broker_nonce": b"b" * 32,
        "ca_spki": b"ca",
        "digest": b"d" * 32,
    }
    assert broker_report_data(**common, version=1) != broker_report_data(**common, version=2)


def _challenge_with(mesh: ToyMesh, relay: Relay, evidence_of: object, **manifest: object) -> bytes:
    """Message 2 whose evidence binds all it should, but comes from somewhere else."""
    message = wire.decode(relay.m2, Challenge, what="x")
    verified = mesh.verified(**manifest)
    report_data = broker_report_data(
        workload_nonce=relay.workload._nonce,
        broker_nonce=message.nonce,
        ca_spki=relay.broker.authority.ca.spki,
        digest=verified.digest,
        version=verified.manifest.version,
    )
    evidence = evidence_of(report_data)  # type: ignore[operator]
    return tamper(relay.m2, Challenge, signed_manifest=verified.signed, evidence=evidence)


def test_a_broker_of_unknown_measurement_is_refused(mesh: ToyMesh, relay: Relay) -> None:
    forged = _challenge_with(mesh, relay, mesh.attest("broker", measurement=digest("trojan")))
    with pytest.raises(PolicyDenied, match=r"measurement .* is not one") as caught:
        relay.workload.receive_challenge(forged, now=NOW)
    assert caught.value.rule == "MeasurementIn"


def test_a_front_end_cannot_pose_as_the_broker(mesh: ToyMesh, relay: Relay) -> None:
    forged = _challenge_with(mesh, relay, mesh.attest("frontend"))
    with pytest.raises(PolicyDenied, match="measurement"):
        relay.workload.receive_challenge(forged, now=NOW)


def test_a_debug_broker_is_refused(mesh: ToyMesh, relay: Relay) -> None:
    forged = _challenge_with(mesh, relay, mesh.attest("broker", debug=True))
    with pytest.raises(TcbUnacceptable, match="debug"):
        relay.workload.receive_challenge(forged, now=NOW)


def test_t11_a_simulated_broker_under_a_hardware_manifest_is_refused(
    mesh: ToyMesh, relay: Relay
) -> None:
    hardware = TrustAnchor(
        simulation_root_sha256=None,
        tcb_statuses=("UpToDate",),
        advisories=(),
        any_platform="risk accepted",
    )
    forged = _challenge_with(mesh, relay, mesh.attest("broker"), trust=hardware)
    with pytest.raises(PolicyDenied, match="evidence is SIMULATED") as caught:
        relay.workload.receive_challenge(forged, now=NOW)
    assert caught.value.rule == "Root"


def test_t11_a_broker_under_another_simulation_root_is_refused(mesh: ToyMesh, relay: Relay) -> None:
    forged = _challenge_with(mesh, relay, mesh.attest("broker", platform=OTHER_PLATFORM))
    with pytest.raises(PolicyDenied, match="does not name that root"):
        relay.workload.receive_challenge(forged, now=NOW)


def test_t24_evidence_for_an_owner_is_no_evidence_for_a_workload(
    mesh: ToyMesh, relay: Relay
) -> None:
    message = wire.decode(relay.m2, Challenge, what="x")
    report_data = bind(
        Purpose.BROKER,
        b"provision",
        relay.workload._nonce,
        message.nonce,
        relay.broker.authority.ca.spki,
        bytes(32),
        bytes(32),
    )
    forged = tamper(relay.m2, Challenge, evidence=mesh.attest("broker")(report_data))
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        relay.workload.receive_challenge(forged, now=NOW)


def test_a_manifest_of_other_owners_is_refused(mesh: ToyMesh, relay: Relay) -> None:
    strangers = ToyMesh(keys=mesh.keys)
    forged = tamper(relay.m2, Challenge, signed_manifest=strangers.signed())
    with pytest.raises(PolicyDenied, match="not an owner"):
        relay.workload.receive_challenge(forged, now=NOW)


# The workload's evidence, as the broker sees it


def _attestation(
    relay: Relay,
    *,
    evidence: Evidence | None = None,
    hpke: bytes | None = None,
    csr: bytes | None = None,
) -> bytes:
    relay.attest()
    changes = {"evidence": evidence, "hpke_public": hpke, "csr": csr}
    return tamper(relay.m3, Attestation, **{k: v for k, v in changes.items() if v is not None})


def test_evidence_with_another_hpke_key_is_refused(relay: Relay) -> None:
    forged = _attestation(relay, hpke=HpkePrivateKey.generate().public)
    with pytest.raises(EvidenceInvalid, match="not bound to this nonce, these keys"):
        relay.broker.respond(relay.session, forged)


def test_evidence_with_another_tls_key_is_refused(relay: Relay) -> None:
    from wardian.broker.certificates import build_csr

    forged = _attestation(relay, csr=build_csr(TlsKey.generate()))
    with pytest.raises(EvidenceInvalid, match="not bound to this nonce, these keys"):
        relay.broker.respond(relay.session, forged)


def test_evidence_replayed_into_another_session_is_refused(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    """Message 3 of one session, whole, in another: the broker's nonce is another."""
    old, new = Relay(mesh, broker), Relay(mesh, broker)
    old.attest()
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        broker.respond(new.session, old.m3)


def test_message_3_a_second_time_meets_a_dead_session(relay: Relay) -> None:
    relay.respond()
    with pytest.raises(PeerProtocolError, match="a session releases once"):
        relay.broker.respond(relay.session, relay.m3)


def test_a_refused_session_is_dead(relay: Relay) -> None:
    forged = _attestation(relay, hpke=HpkePrivateKey.generate().public)
    with pytest.raises(EvidenceInvalid):
        relay.broker.respond(relay.session, forged)
    with pytest.raises(PeerProtocolError, match="out of turn"):
        relay.broker.respond(relay.session, relay.m3)


def test_t24_a_workloads_evidence_for_another_purpose_is_refused(
    mesh: ToyMesh, relay: Relay
) -> None:
    """The same parts under the label of a front end's evidence for its clients."""
    relay.attest()
    message = wire.decode(relay.m3, Attestation, what="x")
    report_data = bind(
        Purpose.FRONTEND,
        relay.session._nonce,
        message.hpke_public,
        relay.workload._tls.spki,
        relay.workload.shown.manifest.digest,
        b"worker",
        b"digits",
    )
    forged = tamper(relay.m3, Attestation, evidence=mesh.attest("worker")(report_data))
    with pytest.raises(EvidenceInvalid, match="this use"):
        relay.broker.respond(relay.session, forged)


def test_t2_evidence_bound_to_another_manifest_is_refused(mesh: ToyMesh, relay: Relay) -> None:
    relay.attest()
    message = wire.decode(relay.m3, Attestation, what="x")
    report_data = workload_report_data(
        broker_nonce=relay.session._nonce,
        hpke_public=message.hpke_public,
        tls_spki=relay.workload._tls.spki,
        digest=mesh.verified(version=2).digest,
        role="worker",
        models=("digits",),
    )
    forged = tamper(relay.m3, Attestation, evidence=mesh.attest("worker")(report_data))
    with pytest.raises(EvidenceInvalid):
        relay.broker.respond(relay.session, forged)


def test_evidence_for_one_model_does_not_get_another(mesh: ToyMesh, broker: ToyBroker) -> None:
    """The host asks for `faces` with the evidence of a worker that meant `digits`."""
    relay = Relay(mesh, broker)
    relay.session = broker.open()
    relay.m2 = broker.challenge(relay.session, relay.m1.replace(b"digits", b"faces"))
    relay.attest()
    with pytest.raises(EvidenceInvalid):
        broker.respond(relay.session, relay.m3)


@pytest.mark.parametrize(
    ("attester", "error", "text"),
    [
        (
            {"measurement": digest("one byte changed")},
            PolicyDenied,
            "is not one that the policy names",
        ),
        ({"debug": True}, TcbUnacceptable, "debug"),
        ({"platform": OTHER_PLATFORM}, PolicyDenied, "the policy does not name that root"),
    ],
)
def test_a_workload_that_is_not_what_the_manifest_lists(
    mesh: ToyMesh, broker: ToyBroker, attester: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        broker.admit(mesh.workload(), mesh.attest("worker", **attester))  # type: ignore[arg-type]


def test_no_collateral_no_key(mesh: ToyMesh, broker: ToyBroker) -> None:
    with pytest.raises(AttestationError, match="collateral"):
        broker.admit(
            mesh.workload(),
            lambda data: Evidence(quote=mesh.attest("worker")(data).quote, collateral=b""),
        )


def test_a_session_does_not_wait_forever(relay: Relay) -> None:
    relay.attest()
    relay.broker.now += 31
    with pytest.raises(Timeout, match="it lives 30 s"):
        relay.broker.respond(relay.session, relay.m3)


def test_an_answer_that_took_too_long_is_not_sent(relay: Relay) -> None:
    release = _release(Relay(relay.mesh, relay.broker))
    relay.attest()
    relay.session.receive(relay.m3, now=relay.broker.now + 30)
    with pytest.raises(Timeout):
        relay.session.respond(release, sign=lambda m: m, now=relay.broker.now + 31)


def test_a_late_message_3_is_refused_before_it_is_looked_at(relay: Relay) -> None:
    with pytest.raises(Timeout):
        relay.session.receive(b"garbage", now=relay.broker.now + 31)


def test_one_wrong_message_ends_the_session(relay: Relay) -> None:
    relay.attest()
    with pytest.raises(FormatError):
        relay.broker.respond(relay.session, b"garbage")
    with pytest.raises(PeerProtocolError, match="out of turn"):
        relay.broker.respond(relay.session, relay.m3)


def test_everything_that_message_3_vouches_for_is_bound() -> None:
    good = {
        "broker_nonce": b"n" * 32,
        "hpke_public": b"h" * 32,
        "tls_spki": b"spki",
        "digest": b"d" * 32,
        "role": "worker",
        "models": ("a", "b"),
    }
    others = {
        "broker_nonce": b"x" * 32,
        "hpke_public": b"x" * 32,
        "tls_spki": b"x",
        "digest": b"x" * 32,
        "role": "frontend",
        "models": ("b", "a"),
    }
    bound = {workload_report_data(**good)}  # type: ignore[arg-type]
    for name, value in [*others.items(), ("models", ("a",)), ("models", ("ab",))]:
        bound.add(workload_report_data(**(good | {name: value})))  # type: ignore[arg-type]
    assert len(bound) == 9


def test_a_clock_that_goes_back_ends_a_session(relay: Relay) -> None:
    relay.attest()
    relay.broker.now -= 1
    with pytest.raises(Timeout):
        relay.broker.respond(relay.session, relay.m3)


def test_garbage_in_place_of_message_3(relay: Relay) -> None:
    with pytest.raises(FormatError, match="attestation"):
        relay.broker.respond(relay.session, b"garbage")


def test_an_unknown_field_in_message_3(relay: Relay) -> None:
    relay.attest()
    with pytest.raises(FormatError, match="unknown field"):
        relay.broker.respond(relay.session, relay.m3[:-1] + b',"debug":true}')


def test_a_useless_hpke_key_is_refused(mesh: ToyMesh, relay: Relay) -> None:
    """A key of small order would seal to everybody; the evidence even binds it."""
    relay.workload._hpke._public = bytes(32)
    relay.attest()
    with pytest.raises(FormatError, match="HPKE public key"):
        relay.broker.respond(relay.session, relay.m3)


# Release policy: attested, but not entitled


@pytest.mark.parametrize(
    ("role", "models", "rule"),
    [
        ("broker", ("digits",), "role-known"),
        ("aggregator", ("digits",), "role-known"),
        ("worker", ("digits", "faces"), "models-count"),
        ("worker", ("secret",), "model-known"),
        ("frontend", ("digits", "digits"), "models-distinct"),
    ],
)
def test_what_nobody_may_ask_for(
    mesh: ToyMesh, broker: ToyBroker, role: str, models: tuple[str, ...], rule: str
) -> None:
    with pytest.raises(PolicyDenied) as caught:
        broker.challenge(broker.open(), mesh.workload(role, models).request(tee="simulated"))
    assert caught.value.rule == rule


@pytest.mark.parametrize(("claims", "asks"), [("worker", "frontend"), ("frontend", "worker")])
def test_t4_code_of_one_role_asks_as_another(
    mesh: ToyMesh, broker: ToyBroker, claims: str, asks: str
) -> None:
    with pytest.raises(PolicyDenied, match=r"measurement .* is not one"):
        broker.admit(mesh.workload(asks), mesh.attest(claims))


def test_t7_a_majority_lists_a_worker_that_the_models_owner_does_not(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    """The manifest makes the trojan a worker; the model's line, signed by its owner, does not."""
    roles = dict(mesh.manifest().roles)
    roles["worker"] = RoleReference(
        measurements=(mesh.measurements["worker"].hex(), digest("trojan").hex())
    )
    broker.provision(mesh.signed(version=2, roles=roles))
    with pytest.raises(PolicyDenied, match="owner of model digits does not give") as caught:
        broker.admit(mesh.workload(), mesh.attest("worker", measurement=digest("trojan")))
    assert caught.value.rule == "owner-policy"


def test_t7_a_models_owner_lists_code_that_is_no_worker_of_the_mesh(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    lines = (mesh.line("digits", measurements=[digest("trojan")], serial=2),)
    broker.provision(mesh.signed(version=2, models=lines))
    with pytest.raises(PolicyDenied, match=r"measurement .* is not one"):
        broker.admit(mesh.workload(), mesh.attest("worker", measurement=digest("trojan")))


def test_the_release_policy_stands_without_the_appraisal(mesh: ToyMesh, broker: ToyBroker) -> None:
    """Whoever appraised with another policy by mistake still releases nothing."""
    from wardian.attestation.verifier import verify_evidence
    from wardian.broker.mesh.appraisal import appraisal_policy
    from wardian.broker.release.policy import entitlements

    manifest = mesh.manifest()
    result = verify_evidence(
        mesh.attest("frontend")(bytes(64)),
        policy=appraisal_policy(manifest, "frontend"),
        report_data=bytes(64),
        now=NOW,
    )
    with pytest.raises(PolicyDenied) as caught:
        entitlements(manifest, role="worker", models=("digits",), result=result)
    assert caught.value.rule == "role-measurement"


def test_the_manifest_changes_between_challenge_and_release(mesh: ToyMesh, relay: Relay) -> None:
    relay.attest()
    relay.broker.provision(mesh.signed(version=2))
    with pytest.raises(Timeout, match="manifest changed meanwhile"):
        relay.broker.respond(relay.session, relay.m3)


def test_a_key_that_was_never_given(mesh: ToyMesh, tmp_path) -> None:
    with closing(ToyBroker(mesh, tmp_path / "b.db", provisioned=False)) as broker:
        with pytest.raises(TransportError, match="no mesh manifest yet"):
            broker.challenge(broker.open(), mesh.workload().request(tee="simulated"))
        assert broker.provision(mesh.signed()).missing == ("digits version 1", "faces version 1")
        with pytest.raises(PolicyDenied, match="has not given its key") as caught:
            broker.admit(mesh.workload(), mesh.attest("worker"))
    assert caught.value.rule == "key-given"


# Turns


def test_every_step_happens_once_and_in_order(mesh: ToyMesh, broker: ToyBroker) -> None:
    with pytest.raises(PeerProtocolError):
        broker.open().challenge(
            mesh.attest("broker")(bytes(64)), log=broker.authority.transparency.show(0)
        )
    with pytest.raises(PeerProtocolError):
        broker.open().receive(b"", now=broker.now)
    with pytest.raises(PeerProtocolError):
        broker.open().respond(forged_release(broker), sign=lambda m: m, now=broker.now)
    workload = mesh.workload()
    with pytest.raises(LocalProtocolError):
        _ = workload.ca_spki
    workload.request(tee="simulated")
    with pytest.raises(PeerProtocolError):
        workload.request(tee="simulated")
    with pytest.raises(PeerProtocolError):
        mesh.workload().attestation(mesh.attest("worker")(bytes(64)))
    with pytest.raises(PeerProtocolError):
        mesh.workload().receive_response(b"", now=NOW)


# A broker that is attested and wrong: caught before a wrong key is used


def _signed_response(relay: Relay, release: Release) -> bytes:
    transcript = RELEASE_SESSION.transcript(relay.m1, relay.m2, relay.m3)
    public = wire.decode(relay.m3, Attestation, what="x").hpke_public
    ciphertext = hpke_seal(public, encode_release(release), info=RELEASE_SESSION.info(transcript))
    signature = relay.broker.authority.ca.sign(RELEASE_SESSION.signed_bytes(transcript, ciphertext))
    return wire.encode(Response(ciphertext=ciphertext, signature=signature))


def _release(relay: Relay) -> Release:
    relay.respond()
    transcript = RELEASE_SESSION.transcript(relay.m1, relay.m2, relay.m3)
    message = wire.decode(relay.m4, Response, what="x")
    opened = relay.workload._hpke.open(message.ciphertext, info=RELEASE_SESSION.info(transcript))
    return decode_release(opened)


def _receive(relay: Relay, release: Release) -> Admission:
    return relay.workload.receive_response(_signed_response(relay, release), now=NOW)


def _change(release: Release, index: int, **changes: object) -> Release:
    from dataclasses import replace

    secrets = list(release.secrets)
    secrets[index] = replace(secrets[index], **changes)  # type: ignore[arg-type]
    return replace(release, secrets=tuple(secrets))


@pytest.mark.parametrize(
    ("index", "changes"),
    [
        (0, {"model": "faces"}),
        (0, {"version": 2}),
        (0, {"epoch": 1}),
        (0, {"key": Secret(b"x" * 32)}),
        (1, {"key": Secret(b"x" * 32)}),
        (1, {"epoch": None}),
        (1, {"version": 1}),
        (1, {"kind": "model"}),
    ],
)
def test_a_secret_that_is_not_what_it_says(
    relay: Relay, index: int, changes: dict[str, object]
) -> None:
    with pytest.raises(PeerProtocolError):
        _receive(relay, _change(_release(relay), index, **changes))


def test_secrets_missing_doubled_or_under_another_manifest(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    from dataclasses import replace

    for spoil in (
        lambda r: replace(r, secrets=r.secrets[:1]),
        lambda r: replace(r, secrets=(*r.secrets, r.secrets[0])),
        lambda r: replace(r, manifest_version=2),
        lambda r: replace(r, certificate_chain=(r.certificate_chain[0],) * 3),
        lambda r: replace(r, certificate_chain=(*r.certificate_chain[:2], r.certificate_chain[0])),
    ):
        relay = Relay(mesh, broker)
        with pytest.raises(PeerProtocolError):
            _receive(relay, spoil(_release(relay)))


def test_a_certificate_for_another_key(mesh: ToyMesh, broker: ToyBroker) -> None:
    from dataclasses import replace

    other = _release(Relay(mesh, broker)).certificate_chain
    relay = Relay(mesh, broker)
    with pytest.raises(PeerProtocolError, match="not for the key that asked"):
        _receive(relay, replace(_release(relay), certificate_chain=other))


def test_a_refusal_in_place_of_an_answer_says_why(mesh: ToyMesh, relay: Relay) -> None:
    from wardian.broker.refusal import refusal_for

    raw = wire.encode(
        refusal_for(PolicyDenied("measurement 00 is not known", rule="MeasurementIn"))
    )
    with pytest.raises(PolicyDenied, match=r"the broker refuses: measurement 00 .*MeasurementIn"):
        relay.workload.receive_challenge(raw, now=NOW)
    with pytest.raises(PeerProtocolError):
        other = mesh.workload()
        other.request(tee="simulated")
        other.receive_challenge(b"garbage", now=NOW)


# No secret shows


def test_no_secret_is_printed_logged_or_stored_in_the_clear(
    mesh: ToyMesh, broker: ToyBroker, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    with caplog.at_level(logging.DEBUG):
        relay = Relay(mesh, broker)
        release = _release(relay)
    key = mesh.keys["digits"].key.reveal()
    shown = " ".join(
        [repr(release), repr(mesh.keys["digits"]), caplog.text]
        + [repr(getattr(r, "fields", "")) for r in caplog.records]
    )
    for secret in (key, release.secrets[1].key.reveal()):
        import base64

        assert secret.hex() not in shown
        assert base64.b64encode(secret).decode() not in shown
        for raw in (relay.m1, relay.m2, relay.m3, relay.m4, broker.path.read_bytes()):
            assert secret not in raw
            assert base64.b64encode(secret) not in raw
    assert any(r.getMessage() == "broker.release" for r in caplog.records)


def test_wire_records_of_secrets_do_not_print_them() -> None:
    from wardian.broker.owners.goods import _KeyRecord
    from wardian.broker.release.protocol import _SecretRecord

    record = _SecretRecord(
        kind="queue", model="digits", version=None, epoch=1, key_id="00" * 16, key=b"K" * 32
    )
    assert "KKK" not in repr(record)
    assert "KKK" not in f"{record!s}"
    assert "KKK" not in repr(_KeyRecord(key_id="00" * 16, key=b"K" * 32))
