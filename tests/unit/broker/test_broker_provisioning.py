"""An owner gives keys: to a broker that was attested, in this session, and to nobody else."""

import dataclasses
import hashlib
import secrets
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
from toy_mesh import NOW, OTHER_PLATFORM, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.ca import MeshCa
from wardian.broker.manifest import appraisal_policy
from wardian.broker.owner import OwnerSession, Provisioned
from wardian.broker.protocol import broker_report_data
from wardian.broker.provisioning import (
    BrokerProvisioning,
    OwnerChallenge,
    OwnerHello,
    Provision,
    Receipt,
    _KeyRecord,
    _KeysRecord,
    decode_keys,
    encode_keys,
    owner_report_data,
    provision_info,
    provision_signed_bytes,
    provision_transcript,
)
from wardian.broker.refusal import refusal_for
from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.signing import SigningKey
from wardian.errors import (
    AuthenticationFailed,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    TcbUnacceptable,
)


class Visit:
    """One owner's visit, step by step, with a hostile host on the wire."""

    def __init__(self, mesh: ToyMesh, broker: ToyBroker) -> None:
        self.mesh, self.broker = mesh, broker
        self.owner = OwnerSession(owner=mesh.owners[0], nonce=secrets.token_bytes(32))
        self.m1 = self.owner.hello()
        hello = wire.decode(self.m1, OwnerHello, what="x")
        self.desk = BrokerProvisioning(self.m1, hello, nonce=secrets.token_bytes(32))
        self.agreed_digest = hashlib.sha256(mesh.agreed_toml).digest()
        self.manifest = mesh.signed()
        report_data = self.desk.report_data(
            ca_spki=broker.authority.ca.spki, agreed_digest=self.agreed_digest
        )
        self.m2 = self.desk.challenge(
            broker.attest(report_data),
            mesh_ca=broker.authority.ca.certificate,
            agreed_digest=self.agreed_digest,
            manifest_version=0,
        )

    def provision(self, raw: bytes | None = None) -> bytes:
        self.m3 = self.owner.provision(
            self.m2 if raw is None else raw,
            agreed_toml=self.mesh.agreed_toml,
            policy=appraisal_policy(self.mesh.manifest(), "broker"),
            manifest=self.manifest,
            keys=tuple(self.mesh.keys.values()),
            now=NOW,
        )
        return self.m3

    def receipt(self) -> bytes:
        offer = self.desk.receive(self.provision())
        offered = self.broker.authority.verify_offer(offer.signed_manifest)
        receipt = self.broker.authority.provision(offer, offered=offered)
        return self.desk.receipt(receipt, sign=self.broker.authority.ca.sign)

    def evidence(self, **how: object) -> Evidence:
        message = wire.decode(self.m2, OwnerChallenge, what="x")
        report_data = owner_report_data(
            owner_nonce=self.owner._nonce,
            broker_nonce=message.nonce,
            ca_spki=self.broker.authority.ca.spki,
            hpke_public=message.hpke_public,
            agreed_digest=self.agreed_digest,
        )
        return self.mesh.attest("broker", **how)(report_data)  # type: ignore[arg-type]


def tamper(raw: bytes, kind: type, **changes: object) -> bytes:
    return wire.encode(msgspec.structs.replace(wire.decode(raw, kind, what="x"), **changes))


@pytest.fixture
def visit(mesh: ToyMesh, tmp_path) -> Iterator[Visit]:
    with closing(ToyBroker(mesh, tmp_path / "v.db", provisioned=False)) as broker:
        yield Visit(mesh, broker)


def test_an_owner_puts_a_manifest_and_keys_in_force(mesh: ToyMesh, visit: Visit) -> None:
    done = visit.owner.receipt(visit.receipt(), manifest=visit.manifest)
    assert isinstance(done, Provisioned)
    assert (done.receipt.manifest_version, done.receipt.epoch, done.receipt.missing) == (1, 1, ())
    assert done.mesh_ca == visit.broker.authority.ca.certificate
    assert done.broker.claims.mr_enclave == mesh.measurements["broker"]
    admission = visit.broker.admit(mesh.workload(), mesh.attest("worker"))
    assert admission.model_key("digits", 1) == mesh.keys["digits"].key
    for raw in (visit.m1, visit.m2, visit.m3):
        assert mesh.keys["digits"].key.reveal() not in raw


# The host shows the owner another broker


def test_the_hosts_own_hpke_key_beside_the_brokers_evidence(visit: Visit) -> None:
    mine = HpkePrivateKey.generate().public
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        visit.provision(tamper(visit.m2, OwnerChallenge, hpke_public=mine))


def test_the_hosts_own_ca_beside_the_brokers_evidence(visit: Visit) -> None:
    mine = MeshCa.create(mesh="test", simulated=True, now=NOW).certificate
    with pytest.raises(EvidenceInvalid):
        visit.provision(tamper(visit.m2, OwnerChallenge, mesh_ca=mine))


def test_replayed_evidence_of_an_earlier_visit(mesh: ToyMesh, visit: Visit) -> None:
    with pytest.raises(EvidenceInvalid):
        Visit(mesh, visit.broker).provision(visit.m2)


def test_evidence_that_the_broker_made_for_a_workload(visit: Visit) -> None:
    message = wire.decode(visit.m2, OwnerChallenge, what="x")
    report_data = broker_report_data(
        workload_nonce=visit.owner._nonce,
        broker_nonce=message.nonce,
        ca_spki=visit.broker.authority.ca.spki,
        digest=visit.agreed_digest,
        version=1,
    )
    evidence = visit.broker.attest(report_data)
    with pytest.raises(EvidenceInvalid):
        visit.provision(tamper(visit.m2, OwnerChallenge, evidence=evidence))


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"measurement": digest("trojan")}, PolicyDenied),
        ({"platform": OTHER_PLATFORM}, PolicyDenied),
        ({"debug": True}, TcbUnacceptable),
    ],
    ids=["unknown measurement", "other simulation", "debug"],
)
def test_a_broker_that_is_not_the_one_the_owner_measured(
    visit: Visit, how: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        visit.provision(tamper(visit.m2, OwnerChallenge, evidence=visit.evidence(**how)))


def test_a_broker_with_another_wardian_toml(visit: Visit) -> None:
    with pytest.raises(PolicyDenied, match=r"another wardian\.toml") as caught:
        visit.provision(tamper(visit.m2, OwnerChallenge, agreed_digest="00" * 32))
    assert caught.value.rule == "agreed-digest"


def test_a_refusal_in_place_of_the_challenge(visit: Visit) -> None:
    raw = wire.encode(refusal_for(PolicyDenied("not an owner here", rule="owner-known")))
    with pytest.raises(PolicyDenied, match="not an owner here"):
        visit.provision(raw)


def test_a_session_provisions_once_and_in_order(visit: Visit) -> None:
    with pytest.raises(LocalProtocolError):
        visit.owner.receipt(b"{}", manifest=visit.manifest)
    visit.provision()
    with pytest.raises(LocalProtocolError, match="provisions once"):
        visit.provision()


# The host shows the broker another owner


def test_a_stranger_signs(visit: Visit) -> None:
    visit.owner._owner = SigningKey.generate()
    with pytest.raises(AuthenticationFailed, match="owner's signature is wrong"):
        visit.desk.receive(visit.provision())


def test_a_provision_replayed_into_another_session(mesh: ToyMesh, visit: Visit) -> None:
    old = visit.provision()
    with pytest.raises(AuthenticationFailed, match="not for this session"):
        Visit(mesh, visit.broker).desk.receive(old)


def test_a_provision_twice_in_one_session(visit: Visit) -> None:
    visit.desk.receive(visit.provision())
    with pytest.raises(PeerProtocolError, match="second time"):
        visit.desk.receive(visit.m3)


def test_another_manifest_or_other_keys_under_the_owners_signature(
    mesh: ToyMesh, visit: Visit
) -> None:
    raw = visit.provision()
    for changes in ({"signed_manifest": mesh.signed(version=2)}, {"sealed_keys": b"x" * 64}):
        visit.desk._step = 1
        with pytest.raises(AuthenticationFailed):
            visit.desk.receive(tamper(raw, Provision, **changes))


def test_keys_sealed_for_another_session(mesh: ToyMesh, visit: Visit) -> None:
    message = wire.decode(visit.provision(), Provision, what="x")
    transcript = provision_transcript(visit.m1, visit.m2)
    public = wire.decode(visit.m2, OwnerChallenge, what="x").hpke_public
    sealed = hpke_seal(public, encode_keys(()), info=provision_info(bytes(32)))
    signature = mesh.owners[0].sign(
        provision_signed_bytes(
            transcript, signed_manifest=message.signed_manifest, sealed_keys=sealed
        )
    )
    forged = tamper(visit.m3, Provision, sealed_keys=sealed, signature=signature)
    with pytest.raises(AuthenticationFailed, match="HPKE"):
        visit.desk.receive(forged)


def test_garbage_in_place_of_a_provision(visit: Visit) -> None:
    with pytest.raises(FormatError):
        visit.desk.receive(b"garbage")


def test_a_key_with_another_id_beside_it(mesh: ToyMesh) -> None:
    record = _KeysRecord(keys=(_KeyRecord(key_id="00" * 16, key=mesh.keys["digits"].key.reveal()),))
    with pytest.raises(FormatError, match="does not have the id"):
        decode_keys(wire.encode(record))


# The host answers in the broker's place


@pytest.mark.parametrize(
    "changes", [{"missing": ()}, {"epoch": 7}, {"audit_digest": "00" * 32}, {"signature": b"x"}]
)
def test_a_forged_receipt(mesh: ToyMesh, visit: Visit, changes: dict[str, object]) -> None:
    mesh.keys = {}
    raw = visit.receipt()
    with pytest.raises(AuthenticationFailed):
        visit.owner.receipt(tamper(raw, Receipt, **changes), manifest=visit.manifest)


def test_a_receipt_for_another_manifest(mesh: ToyMesh, visit: Visit) -> None:
    raw = visit.receipt()
    with pytest.raises(PeerProtocolError, match="another manifest"):
        visit.owner.receipt(raw, manifest=mesh.signed(version=9))


def test_a_receipt_of_another_visit(mesh: ToyMesh, visit: Visit) -> None:
    other = Visit(dataclasses.replace(mesh), visit.broker)
    other.provision()
    with pytest.raises(AuthenticationFailed):
        other.owner.receipt(visit.receipt(), manifest=visit.manifest)
