"""An owner gives keys: to a broker that was attested, in this session, and to nobody else."""

import dataclasses
import hashlib
import secrets
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from toy_mesh import NOW, OTHER_PLATFORM, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.attestation.evidence import Evidence
from wardian.broker.ca import MeshCa
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.owners.goods import (
    Goods,
    _GoodsRecord,
    _KeyRecord,
    _SecretRecord,
    decode_goods,
    encode_goods,
    goods_of,
)
from wardian.broker.owners.protocol import (
    Order,
    OwnerChallenge,
    OwnerHello,
    Provision,
    Receipt,
    order_signed_bytes,
    owner_report_data,
    provision_info,
    provision_signed_bytes,
    provision_transcript,
)
from wardian.broker.owners.provisioning import BrokerProvisioning, OpenedOrder, OpenedProvision
from wardian.broker.owners.session import Demands, OwnerSession, Provisioned
from wardian.broker.refusal import refusal_for
from wardian.broker.release.protocol import broker_report_data
from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    TcbUnacceptable,
    TransportError,
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
        self.pinned: bytes | None = None
        report_data = self.desk.report_data(
            ca_spki=broker.authority.ca.spki, agreed_digest=self.agreed_digest
        )
        self.m2 = self.desk.challenge(
            broker.attest(report_data),
            mesh_ca=broker.authority.ca.certificate,
            agreed_digest=self.agreed_digest,
            manifest_version=0,
        )

    @property
    def demands(self) -> Demands:
        return Demands(
            agreed_toml=self.mesh.agreed_toml,
            policy=appraisal_policy(self.mesh.manifest(), "broker"),
            mesh_ca_spki=self.pinned,
        )

    def provision(self, raw: bytes | None = None, **more: object) -> bytes:
        self.m3 = self.owner.provision(
            self.m2 if raw is None else raw,
            demands=self.demands,
            manifest=self.manifest,
            goods=goods_of(tuple(self.mesh.keys.values())),
            now=NOW,
            **more,  # type: ignore[arg-type]
        )
        return self.m3

    def order(self, **what: object) -> bytes:
        what = {"kind": "turn-epoch", "time": None} | what
        self.m3 = self.owner.order(self.m2, demands=self.demands, now=NOW, **what)  # type: ignore[arg-type]
        return self.m3

    def receipt(self) -> bytes:
        opened = self.desk.receive(self.provision())
        assert isinstance(opened, OpenedProvision)
        offered = self.broker.offers.verify_offer(opened.signed_manifest)
        receipt = self.broker.offers.accept(opened, offered=offered)
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


def tamper(raw: bytes, kind: type, /, **changes: object) -> bytes:
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
    assert done.broker.claims.measurement == mesh.measurements["broker"]
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


def test_t5_a_second_broker_of_the_same_code(mesh: ToyMesh, visit: Visit, tmp_path) -> None:
    """The host begins it on an empty state; the owner's keys there would have uses of their own."""
    known = visit.broker.authority.ca.spki
    with closing(ToyBroker(mesh, tmp_path / "second.db", provisioned=False)) as second:
        for bring in ("provision", "order"):
            there = Visit(mesh, second)
            there.pinned = known
            with pytest.raises(PolicyDenied, match="another mesh CA") as caught:
                getattr(there, bring)()
            assert caught.value.rule == "mesh-ca"
    visit.pinned = known
    visit.owner.receipt(visit.receipt(), manifest=visit.manifest)


def test_t5_the_known_ca_beside_another_brokers_evidence(
    mesh: ToyMesh, visit: Visit, tmp_path
) -> None:
    """Its certificate is public; the evidence binds the key of the broker that made it."""
    first = visit.broker.authority.ca
    with closing(ToyBroker(mesh, tmp_path / "second.db", provisioned=False)) as second:
        there = Visit(mesh, second)
        there.pinned = first.spki
        with pytest.raises(EvidenceInvalid):
            there.provision(tamper(there.m2, OwnerChallenge, mesh_ca=first.certificate))


def test_a_refusal_in_place_of_the_challenge(visit: Visit) -> None:
    raw = wire.encode(refusal_for(PolicyDenied("not an owner here", rule="owner-known")))
    with pytest.raises(PolicyDenied, match="not an owner here"):
        visit.provision(raw)


def test_a_session_provisions_once_and_in_order(visit: Visit) -> None:
    with pytest.raises(LocalProtocolError):
        visit.owner.receipt(b"{}", manifest=visit.manifest)
    visit.provision()
    with pytest.raises(LocalProtocolError, match="brings one thing"):
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
    for changes in (
        {"signed_manifest": mesh.signed(version=2)},
        {"sealed_goods": b"x" * 64},
        {"recovery_public": "11" * 32},
    ):
        visit.desk._step = 1
        with pytest.raises(AuthenticationFailed):
            visit.desk.receive(tamper(raw, Provision, **changes))


def test_keys_sealed_for_another_session(mesh: ToyMesh, visit: Visit) -> None:
    message = wire.decode(visit.provision(), Provision, what="x")
    transcript = provision_transcript(visit.m1, visit.m2)
    public = wire.decode(visit.m2, OwnerChallenge, what="x").hpke_public
    sealed = hpke_seal(public, encode_goods(Goods()), info=provision_info(bytes(32)))
    signature = mesh.owners[0].sign(
        provision_signed_bytes(
            transcript,
            signed_manifest=message.signed_manifest,
            sealed_goods=sealed,
            recovery_public=None,
        )
    )
    forged = tamper(visit.m3, Provision, sealed_goods=sealed, signature=signature)
    with pytest.raises(AuthenticationFailed, match="HPKE"):
        visit.desk.receive(forged)


def test_the_hosts_recovery_key_in_place_of_the_owners(visit: Visit) -> None:
    """What is kept for recovery would be wrapped for the host."""
    raw = visit.provision(recovery_public=b"o" * 32)
    with pytest.raises(AuthenticationFailed):
        visit.desk.receive(tamper(raw, Provision, recovery_public="11" * 32))
    visit.desk._step = 1
    opened = visit.desk.receive(raw)
    assert isinstance(opened, OpenedProvision)
    assert opened.recovery_public == (b"o" * 32).hex()


def test_garbage_in_place_of_a_provision(visit: Visit) -> None:
    with pytest.raises(FormatError):
        visit.desk.receive(b"garbage")


def test_a_key_with_another_id_beside_it(mesh: ToyMesh) -> None:
    key = _KeyRecord(key_id="00" * 16, key=mesh.keys["digits"].key.reveal())
    with pytest.raises(FormatError, match="does not have the id"):
        decode_goods(wire.encode(_GoodsRecord(keys=(key,), secrets=())))


def test_goods_that_stand_twice(mesh: ToyMesh) -> None:
    broker_key = mesh.keys["digits"]
    key = _KeyRecord(key_id=broker_key.key_id.hex(), key=broker_key.key.reveal())
    secret = _SecretRecord(name="license", value=b"v")
    decode_goods(wire.encode(_GoodsRecord(keys=(key,), secrets=(secret,))))
    for keys, values in (
        ((key, key), ()),
        ((), (secret, _SecretRecord(name="license", value=b"w"))),
    ):
        with pytest.raises(FormatError, match="twice"):
            decode_goods(wire.encode(_GoodsRecord(keys=keys, secrets=values)))


@pytest.mark.parametrize("length", [0, 64 * 1024 + 1])
def test_a_secret_that_is_empty_or_too_long(length: int) -> None:
    record = _GoodsRecord(keys=(), secrets=(_SecretRecord(name="license", value=bytes(length)),))
    with pytest.raises(FormatError):
        decode_goods(wire.encode(record))


def test_more_than_one_visit_takes_is_refused_at_the_owner(visit: Visit) -> None:
    goods = Goods(secrets={f"s{number}": Secret(bytes(64 * 1024)) for number in range(40)})
    with pytest.raises(ConfigError, match="another visit"):
        visit.owner.provision(
            visit.m2, demands=visit.demands, manifest=visit.manifest, goods=goods, now=NOW
        )


# Orders


def test_an_order_comes_as_it_was_signed(mesh: ToyMesh, visit: Visit) -> None:
    opened = visit.desk.receive(visit.order(kind="beacon", time=NOW))
    public = mesh.owners[0].public.hex()
    assert opened == OpenedOrder(owner=public, kind="beacon", time=NOW)


def test_an_order_is_carried_out_and_its_receipt_verified(visit: Visit) -> None:
    visit.broker.provision(visit.manifest)
    opened = visit.desk.receive(visit.order())
    assert isinstance(opened, OpenedOrder)
    receipt = visit.broker.orders.carry_out(opened)
    raw = visit.desk.receipt(receipt, sign=visit.broker.authority.ca.sign)
    done = visit.owner.receipt(raw)
    assert (done.receipt.epoch, done.receipt.time) == (2, NOW)


@pytest.mark.parametrize(
    "changes", [{"kind": "turn-epoch", "time": None}, {"time": NOW + 1}, {"time": None}]
)
def test_an_order_that_the_host_changed(visit: Visit, changes: dict[str, object]) -> None:
    raw = visit.order(kind="beacon", time=NOW)
    with pytest.raises(AuthenticationFailed, match="owner's signature is wrong"):
        visit.desk.receive(tamper(raw, Order, **changes))


def test_an_order_replayed_into_another_session(mesh: ToyMesh, visit: Visit) -> None:
    """Yesterday's beacon, or an epoch to be turned again and again."""
    old = visit.order()
    with pytest.raises(AuthenticationFailed, match="not for this session"):
        Visit(mesh, visit.broker).desk.receive(old)


def test_an_order_signed_by_a_stranger(visit: Visit) -> None:
    visit.owner._owner = SigningKey.generate()
    with pytest.raises(AuthenticationFailed):
        visit.desk.receive(visit.order())


def test_a_provisions_signature_is_none_over_an_order(mesh: ToyMesh, visit: Visit) -> None:
    message = wire.decode(visit.provision(), Provision, what="x")
    with pytest.raises(AuthenticationFailed):
        visit.desk.receive(
            wire.encode(Order(kind="turn-epoch", time=None, signature=message.signature))
        )


def test_orders_are_refused_before_the_first_manifest(visit: Visit) -> None:
    opened = visit.desk.receive(visit.order())
    assert isinstance(opened, OpenedOrder)
    with pytest.raises(TransportError, match="no mesh manifest yet"):
        visit.broker.orders.carry_out(opened)


@pytest.mark.parametrize("order", [{"kind": "beacon", "time": None}, {"time": NOW}])
def test_an_order_that_makes_no_sense(visit: Visit, order: dict[str, object]) -> None:
    visit.broker.provision(visit.manifest)
    opened = visit.desk.receive(visit.order(**order))
    assert isinstance(opened, OpenedOrder)
    with pytest.raises(FormatError, match="a beacon says what time it is"):
        visit.broker.orders.carry_out(opened)


def test_what_an_order_signs_is_one_for_each_meaning() -> None:
    signed = {
        order_signed_bytes(transcript, kind=kind, time=time)
        for transcript in (b"a", b"b")
        for kind, time in (("beacon", 1), ("beacon", 2), ("beacon", None), ("turn-epoch", None))
    }
    assert len(signed) == 8


# Owners whose keys are on P-256


@pytest.fixture
def p256(tmp_path) -> Iterator[Visit]:
    mesh = ToyMesh(owners=[SigningKey.generate(SignatureKind.P256)])
    with closing(ToyBroker(mesh, tmp_path / "p256.db", provisioned=False)) as broker:
        yield Visit(mesh, broker)


def test_a_visit_of_an_owner_on_p256(p256: Visit) -> None:
    done = p256.owner.receipt(p256.receipt(), manifest=p256.manifest)
    assert done.receipt.missing == ()
    admission = p256.broker.admit(p256.mesh.workload(), p256.mesh.attest("worker"))
    assert admission.model_key("digits", 1) == p256.mesh.keys["digits"].key


@pytest.mark.parametrize("spoil", ["high s", "cut", "der"])
def test_another_form_of_the_owners_signature(p256: Visit, spoil: str) -> None:
    """Who sees a signature cannot make another message 3 of it, that would count as well."""
    raw = p256.provision()
    signature = wire.decode(raw, Provision, what="x").signature
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    other = {
        "high s": signature[:32] + (P256_ORDER - s).to_bytes(32, "big"),
        "cut": signature[:63],
        "der": encode_dss_signature(r, s),
    }[spoil]
    with pytest.raises((AuthenticationFailed, FormatError)):
        p256.desk.receive(tamper(raw, Provision, signature=other))


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


# The host answers in the broker's place


@pytest.mark.parametrize(
    "changes", [{"missing": ()}, {"epoch": 7}, {"time": 7}, {"signature": b"x"}]
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
