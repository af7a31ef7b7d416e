"""n of m owners bring a broker's state back: and whoever tries it in another way."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from recovery_world import RecoveryWorld
from toy_mesh import MASTER_KEY, NOW, OTHER_PLATFORM, Counter, ToyMesh, digest

from wardian._internal import wire
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.recovery import keeper
from wardian.broker.recovery.dealing import deal_package
from wardian.broker.recovery.gathering import Gathering
from wardian.broker.recovery.keeper import former_part, refresh
from wardian.broker.recovery.package import (
    PartRecord,
    RecoveryPackage,
    open_part,
    unwrap,
    verify_package,
)
from wardian.broker.recovery.protocol import (
    Contribution,
    RecoveryChallenge,
    RecoveryShare,
    _ContributionRecord,
)
from wardian.broker.refusal import refusal_for
from wardian.broker.state.audit import AuditHead, decode_line, verify_chain
from wardian.broker.state.merkle import leaf_hash
from wardian.broker.state.replica import Replica
from wardian.broker.state.sealer import unlock_owned
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.secret import Secret
from wardian.errors import (
    AttestationError,
    AuthenticationFailed,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
    PeerProtocolError,
    PolicyDenied,
    SealError,
    StateRolledBack,
    TransportError,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RecoveryWorld]:
    world = RecoveryWorld(tmp_path)
    yield world
    world.close()


def rule(error: pytest.ExceptionInfo[PolicyDenied]) -> str:
    return error.value.rule


def model_key(world: RecoveryWorld, model: str, owner: int) -> tuple[str, str]:
    return "model-key", f"{world.public(owner)}/{world.mesh.keys[model].key_id.hex()}"


# The way that it is meant


@pytest.mark.parametrize("owners", [(0, 1), (1, 2), (2, 0), (0, 1, 2)])
def test_any_quorum_brings_the_mesh_back(world: RecoveryWorld, owners: tuple[int, ...]) -> None:
    before = world.broker.store
    with world.recovered(*owners) as store:
        for place, key in (("ca", "key"), ("queue-key", "digits"), ("manifest", "current")):
            assert store.get(place, key) == before.get(place, key) is not None
        lines = verify_chain(store.audit_lines(limit=1000), head=store.audit_head)
        named = [line.entry.owner for line in lines if line.entry.rule == "recovered"]
        assert named == sorted(world.public(owner) for owner in owners)


def test_a_quorum_without_an_owner_does_not_open_that_owner_s_secrets(
    world: RecoveryWorld,
) -> None:
    """TRUST T7, and what becomes of them when the owner comes later."""
    digits, faces = model_key(world, "digits", 0), model_key(world, "faces", 2)
    with world.recovered(0, 1) as store:
        assert store.get(*digits) == world.mesh.keys["digits"].key.reveal()
        assert store.get(*faces) is None
        assert store.keys("model-key") == (digits[1],)
        (locked,) = store.locked(world.public(2)).values()
        part = open_part(world.package, owner=world.public(2), key=world.recovery_keys[2])
        opened = unlock_owned(locked, *faces, owner_key=part.owner_key)
        assert opened == world.mesh.keys["faces"].key.reveal()
        for other in (0, 1):
            part = open_part(
                world.package, owner=world.public(other), key=world.recovery_keys[other]
            )
            with pytest.raises(SealError):
                unlock_owned(locked, *faces, owner_key=part.owner_key)


def test_one_owner_alone_is_a_quorum_where_the_mesh_says_so(tmp_path: Path) -> None:
    world = RecoveryWorld(tmp_path, owners=1, threshold=1)
    with contextlib.closing(world.broker), world.recovered(0) as store:
        assert store.get("ca", "key") is not None
        assert store.get(*model_key(world, "digits", 0)) is not None


def test_a_recovered_broker_keeps_the_package_for_those_who_come_later(
    world: RecoveryWorld,
) -> None:
    from wardian.broker.authority import Authority

    with world.recovered(0, 1) as store:
        authority = Authority(
            store=store,
            attest=world.mesh.attest("broker"),
            agreed_toml=world.mesh.agreed_toml,
            clock=lambda: NOW,
        )
        assert former_part(authority, world.public(2)) == world.package
        fresh = refresh(authority)
        assert fresh is not None
        assert fresh.set_id != world.package.set_id
        assert former_part(authority, world.public(2)) == world.package
        assert former_part(authority, world.public(0)) is None
        assert refresh(authority) == fresh
        # Both have the key of now in the new package, also who has not come yet.
        part = open_part(fresh, owner=world.public(2), key=world.recovery_keys[2])
        assert part.owner_key == store.master_key.owner_key(world.public(2))


# Fewer, others, twice


def test_fewer_than_it_takes(world: RecoveryWorld) -> None:
    gathering = world.gathering()
    world.bring(gathering, 1)
    assert not gathering.complete
    with pytest.raises(PolicyDenied) as caught:
        gathering.master_key()
    assert rule(caught) == "share-threshold"


def test_an_owner_twice(world: RecoveryWorld) -> None:
    gathering = world.gathering()
    world.bring(gathering, 1)
    with pytest.raises(PolicyDenied) as caught:
        world.bring(gathering, 1)
    assert rule(caught) == "recovery-owner-once"
    assert not gathering.complete


def test_strangers_and_owners_without_a_share(world: RecoveryWorld) -> None:
    gathering = world.gathering()
    with pytest.raises(PolicyDenied) as caught:
        gathering.refuse_impossible("ab" * 32)
    assert rule(caught) == "recovery-owner"
    fewer = msgspec.structs.replace(world.package, owners=world.package.owners[:2])
    missing = next(
        number
        for number in range(3)
        if world.public(number) not in [part.owner for part in fewer.owners]
    )
    with pytest.raises(PolicyDenied) as caught:
        fewer.index_of(world.public(missing))
    assert rule(caught) == "recovery-owner"


def test_a_share_that_was_not_dealt(world: RecoveryWorld) -> None:
    gathering = world.gathering()
    visit = world.visit(1)
    brought = visit.broker.receive(visit.share())
    assert brought.value is not None
    wrong = bytearray(brought.value.reveal())
    wrong[5] ^= 1
    other = world.visit(0)
    others = other.broker.receive(other.share())
    for value in (Secret(wrong), others.value):
        changed = Contribution(value=value, owner_key=brought.owner_key, head=brought.head)
        with pytest.raises(AuthenticationFailed, match=f"owner {world.public(1)[:16]}"):
            gathering.add(world.public(1), changed)
    nothing = Contribution(value=None, owner_key=brought.owner_key, head=brought.head)
    with pytest.raises(PolicyDenied) as caught:
        gathering.add(world.public(1), nothing)
    assert rule(caught) == "recovery-share"
    gathering.add(world.public(1), brought)


# Stale backups


def test_a_backup_that_is_older_than_an_owner_knows(world: RecoveryWorld) -> None:
    world.broker.authority.record([world.broker.authority.entry(event="start", outcome="granted")])
    world.head = world.sign(world.broker.store.audit_head)  # seen after the backup was made
    gathering, counter = world.gathering(), Counter()
    world.bring(gathering, 0, 1)
    before = world.backup.read_bytes()
    with pytest.raises(StateRolledBack, match="older than owner"):
        world.recover(gathering, counter)
    assert (world.backup.read_bytes(), counter.value) == (before, 0)
    world.back_up()
    world.recover(gathering, counter)


def test_one_owner_s_newer_head_is_enough(world: RecoveryWorld) -> None:
    gathering = world.gathering()
    world.bring(gathering, 0)
    count = world.broker.store.audit_head.count + 1
    head = AuditHead(count=count, digest="aa" * 32, root="aa" * 32)
    visit = world.visit(1, head=world.sign(head))
    gathering.add(world.public(1), visit.broker.receive(visit.share()))
    with pytest.raises(StateRolledBack):
        world.recover(gathering, Counter())


def test_a_log_that_went_another_way(world: RecoveryWorld) -> None:
    """As long as what the owner saw, and with another line in the middle."""
    gathering = world.gathering()
    world.bring(gathering, 0)
    head = AuditHead(count=2, digest="aa" * 32, root="aa" * 32)
    visit = world.visit(1, head=world.sign(head))
    gathering.add(world.public(1), visit.broker.receive(visit.share()))
    with pytest.raises(StateRolledBack):
        world.recover(gathering, Counter())


def test_an_owner_who_saw_an_older_head_or_none(world: RecoveryWorld) -> None:
    raw = world.broker.store.audit_lines(limit=1)[0]
    assert decode_line(raw).sequence == 1
    old = AuditHead(count=1, digest=digest_of(raw), root=leaf_hash(raw).hex())
    gathering = world.gathering()
    for owner, head in ((0, world.sign(old)), (1, None)):
        visit = world.visit(owner, head=head)
        gathering.add(world.public(owner), visit.broker.receive(visit.share()))
    world.recover(gathering, Counter())


def test_a_head_that_no_broker_signed_does_not_refuse_every_backup(
    world: RecoveryWorld, tmp_path: Path
) -> None:
    """Else one owner, who comes first, keeps all others from ever recovering the mesh."""
    (tmp_path / "other").mkdir()
    made_up = AuditHead(count=10**6, digest="ab" * 32, root="ab" * 32)
    unsigned = msgspec.structs.replace(world.sign(made_up), signature=bytes(70))
    stretched = msgspec.structs.replace(world.sign(world.broker.store.audit_head), audit=made_up)
    with contextlib.closing(RecoveryWorld(tmp_path / "other")) as other:
        of_another = other.sign(made_up)
    gathering = world.gathering()
    for head in (unsigned, stretched, of_another):
        visit = world.visit(0, head=head)
        with pytest.raises(AuthenticationFailed, match="audit head"):
            gathering.add(world.public(0), visit.broker.receive(visit.share()))
        assert not gathering.came
    world.bring(gathering, 1, 2)
    world.recover(gathering, Counter())


def test_a_line_put_into_the_log_after_it_was_verified_makes_no_backup_newer(
    world: RecoveryWorld,
) -> None:
    """The host owns the disk, and has the newer line, sealed under the same key."""
    authority = world.broker.authority
    authority.record([authority.entry(event="start", outcome="granted")])
    world.head = world.sign(world.broker.store.audit_head)
    newest = world.broker.store.audit_head.count
    query = "SELECT sequence, generation, sealed FROM audit WHERE sequence = ?"
    with world.broker.store._database.select(query, newest) as found:
        line = found.fetchone()
    gathering = world.gathering()
    world.bring(gathering, 0, 1)
    with contextlib.closing(Replica(world.backup, master_key=gathering.master_key())) as state:
        state._database.execute("INSERT INTO audit VALUES (?, ?, ?)", *line)
        with pytest.raises(SealError):
            gathering.verify_state(state)


def digest_of(raw: bytes) -> str:
    import hashlib

    return hashlib.sha256(raw).hexdigest()


# Another mesh


def test_owners_refuse_another_mesh_s_package(world: RecoveryWorld, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = RecoveryWorld(tmp_path / "other")
    with contextlib.closing(other.broker):
        with pytest.raises(PolicyDenied) as caught:
            world.visit(0, package=other.package).share()
        assert rule(caught) == "recovery-mesh"
        with pytest.raises(PolicyDenied) as caught:
            verify_package(other.package, mesh="other", ca_spki=other.broker.authority.ca.spki)
        assert rule(caught) == "recovery-mesh"


def test_a_host_that_makes_a_package_of_its_own_brings_nothing_to_life(
    world: RecoveryWorld, tmp_path: Path
) -> None:
    """With shares that it knows, for a state of its own: owners know their mesh's CA."""
    (tmp_path / "host").mkdir()
    host = RecoveryWorld(tmp_path / "host")
    ca = world.broker.authority.ca
    with contextlib.closing(host.broker):
        publics = {world.public(n): key.public for n, key in enumerate(world.recovery_keys)}
        for certificate in (host.broker.authority.ca.certificate, ca.certificate):
            forged = deal_package(
                MASTER_KEY,
                mesh=world.mesh.name,
                mesh_ca=certificate,
                manifest=world.signed,
                publics=publics,
                threshold=2,
                sign=host.broker.authority.ca.sign,
            )
            with pytest.raises((PolicyDenied, AuthenticationFailed)):
                world.visit(0, package=forged).share()


@pytest.mark.parametrize(
    "change", [{"threshold": 1}, {"set_id": bytes(16)}, {"wrapped": bytes(48)}, {"owners": "fewer"}]
)
def test_a_package_that_was_altered(world: RecoveryWorld, change: dict[str, object]) -> None:
    if change.get("owners"):
        change = {"owners": world.package.owners[:2]}
    altered = msgspec.structs.replace(world.package, **change)
    with pytest.raises(AuthenticationFailed, match="did not make"):
        world.visit(0, package=altered).share()
    with pytest.raises(AuthenticationFailed, match="did not make"):
        world.gathering(altered)


def test_a_broker_takes_no_package_of_another_mesh_or_of_too_few(world: RecoveryWorld) -> None:
    mesh = world.mesh.agreed.mesh
    with pytest.raises(PolicyDenied) as caught:
        Gathering(world.package, msgspec.structs.replace(mesh, name="another"))
    assert rule(caught) == "recovery-mesh"
    with pytest.raises(PolicyDenied) as caught:
        Gathering(world.package, msgspec.structs.replace(mesh, threshold=3))
    assert rule(caught) == "recovery-threshold"


def test_a_state_and_a_package_of_two_meshes(world: RecoveryWorld, tmp_path: Path) -> None:
    """One master key, two CAs: what only somebody who has the key could make."""
    (tmp_path / "other").mkdir()
    other = RecoveryWorld(tmp_path / "other")
    with contextlib.closing(other.broker):
        gathering = world.gathering()
        world.bring(gathering, 0, 1)
        with pytest.raises(PolicyDenied) as caught:
            world.recover(gathering, Counter(), other.backup)
        assert rule(caught) == "recovery-mesh"


def test_a_state_under_another_key(world: RecoveryWorld, tmp_path: Path) -> None:
    gathering = world.gathering()
    world.bring(gathering, 0, 1)
    key = gathering.master_key()
    with contextlib.closing(Replica(world.backup, master_key=key)) as state:
        gathering.verify_state(state)
    gathering.package = msgspec.structs.replace(world.package, wrapped=bytes(48))
    with pytest.raises(AuthenticationFailed, match="do not give the key"):
        gathering.master_key()
    with pytest.raises(AuthenticationFailed):
        unwrap(world.package, Secret.random())


# A broker that no owner accepts


@pytest.mark.parametrize("who", ["other code", "a worker", "other platform", "debug"])
def test_a_broker_that_no_owner_accepts_gets_no_share(world: RecoveryWorld, who: str) -> None:
    mesh = world.mesh
    attest = {
        "other code": mesh.attest("broker", measurement=digest("other")),
        "a worker": mesh.attest("worker"),
        "other platform": mesh.attest("broker", platform=OTHER_PLATFORM),
        "debug": mesh.attest("broker", debug=True),
    }[who]
    with pytest.raises((PolicyDenied, AttestationError)):
        world.visit(0).share(attest)


def test_an_owner_s_own_newer_policy_decides(world: RecoveryWorld) -> None:
    """New code on a new machine: the manifest in the backup does not know it, the owner does."""
    new = digest("new broker")
    other = ToyMesh(owners=world.mesh.owners, threshold=2)
    other.measurements["broker"] = new
    policy = appraisal_policy(other.manifest(), "broker")
    visit = world.visit(0, policy=lambda _: policy)
    visit.broker.receive(visit.share(world.mesh.attest("broker", measurement=new)))
    with pytest.raises(PolicyDenied):
        world.visit(0, policy=lambda _: policy).share()


def test_a_broker_with_another_wardian_toml(world: RecoveryWorld) -> None:
    with pytest.raises(PolicyDenied) as caught:
        world.visit(0, agreed_toml=world.mesh.agreed_toml + b"\n").share()
    assert rule(caught) == "agreed-digest"


def test_evidence_of_another_visit_or_state(world: RecoveryWorld) -> None:
    other = world.visit(0)
    report_data = other.broker.report_data()
    waiting = world.visit(0)
    stolen = waiting.broker.challenge(world.mesh.attest("broker")(report_data))
    with pytest.raises(EvidenceInvalid):
        waiting.owner.share(stolen, now=NOW)
    # An open broker asks for no share: the same evidence does not say both.
    visit = world.visit(0)
    challenge = wire.decode(visit.challenge(), RecoveryChallenge, what="challenge")
    for change in ({"waits": False}, {"nonce": bytes(32)}, {"hpke_public": bytes(31) + b"\x09"}):
        raw = wire.encode(msgspec.structs.replace(challenge, **change))
        with pytest.raises(EvidenceInvalid):
            world.visit(0).owner.share(raw, now=NOW)


def test_an_open_broker_gets_the_owner_s_key_and_no_share(world: RecoveryWorld) -> None:
    visit = world.visit(2, waits=False)
    brought = visit.broker.receive(visit.share())
    assert brought.value is None
    assert brought.owner_key == MASTER_KEY.owner_key(world.public(2))


# Messages


def test_a_share_of_another_owner_session_or_hand(world: RecoveryWorld) -> None:
    first, second = world.visit(0), world.visit(1)
    of_first, of_second = first.share(), second.share()
    third = world.visit(0)
    third.challenge()
    for raw in (of_first, of_second):
        fourth = world.visit(0)
        fourth.challenge()
        with pytest.raises(AuthenticationFailed, match="signature is wrong"):
            fourth.broker.receive(raw)
    message = wire.decode(of_first, RecoveryShare, what="share")
    for change in (
        {"signature": bytes(64)},
        {"sealed": message.sealed[:-1] + bytes([message.sealed[-1] ^ 1])},
    ):
        visit = world.visit(0)
        visit.challenge()
        with pytest.raises(AuthenticationFailed):
            visit.broker.receive(wire.encode(msgspec.structs.replace(message, **change)))


def test_steps_once_and_in_turn(world: RecoveryWorld) -> None:
    visit = world.visit(0)
    with pytest.raises(PeerProtocolError, match="out of turn"):
        visit.broker.receive(b"")
    raw = visit.share()
    visit.broker.receive(raw)
    with pytest.raises(PeerProtocolError, match="out of turn"):
        visit.broker.receive(raw)
    with pytest.raises(LocalProtocolError, match="one share"):
        visit.owner.share(b"", now=NOW)
    for answer, error in (
        (wire.encode(refusal_for(TransportError("later"))), TransportError),
        (b"{}", PeerProtocolError),
    ):
        with pytest.raises(error):
            world.visit(0).owner.share(answer, now=NOW)
    visit = world.visit(0)
    visit.challenge()
    with pytest.raises(FormatError):
        visit.broker.receive(b"{}")


def test_another_recovery_key_opens_no_part(world: RecoveryWorld) -> None:
    for key in (HpkePrivateKey.generate(), world.recovery_keys[1]):
        with pytest.raises(AuthenticationFailed):
            world.visit(0, recovery_key=key).share()


def test_nobody_prints_shares_or_keys() -> None:
    for record in (
        PartRecord(value=b"v" * 32, owner_key=b"k" * 32),
        _ContributionRecord(value=b"v" * 32, owner_key=b"k" * 32, head=None),
    ):
        assert "vvv" not in repr(record)
        assert "kkk" not in repr(record)


# When a package is due


def test_a_package_is_dealt_when_something_changed(world: RecoveryWorld) -> None:
    authority, lines = world.broker.authority, world.broker.store.audit_head.count
    assert refresh(authority) == world.package
    assert world.broker.store.audit_head.count == lines
    world.recovery_keys[1] = HpkePrivateKey.generate()
    world.give(1)
    second = refresh(authority)
    assert second is not None
    assert second.set_id != world.package.set_id
    world.signed = world.mesh.signed(
        version=2,
        models=(world.mesh.line("digits"), world.mesh.line("faces", owner=world.mesh.owners[2])),
    )
    world.give(0)
    third = refresh(authority)
    assert third is not None
    assert third.signed_manifest == world.signed
    assert len({each.set_id for each in (world.package, second, third)}) == 3
    raw = world.broker.store.audit_lines(after=world.broker.store.audit_head.count - 1)[0]
    entry = decode_line(raw).entry
    assert (entry.event, entry.rule, entry.count) == ("recovery", "shares-dealt", 3)
    assert not world.broker.store.keys(keeper.FORMER)  # nothing is locked


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31)])
def test_a_recovery_key_that_nothing_can_be_sealed_to_ends_no_broker(
    world: RecoveryWorld, public: bytes
) -> None:
    """Points of small order: one owner would end the broker, and each that is started on its state.

    It is refused; and one that stands in a state already is no key.
    """
    with pytest.raises(FormatError, match="not a usable X25519 key"):
        world.broker.provision(world.signed, owner=1, recovery_public=public.hex())
    authority = world.broker.authority
    assert refresh(authority) == world.package
    entry = authority.entry(event="provision", outcome="granted", rule="recovery-key")
    authority.record([entry], {("recovery-public", world.public(1)): public})
    fresh = refresh(authority)
    assert fresh is not None
    assert {part.owner for part in fresh.owners} == {world.public(0), world.public(2)}


def test_fewer_recovery_keys_than_it_takes_are_no_package(tmp_path: Path) -> None:
    from toy_mesh import ToyBroker

    from wardian.crypto.signing import SigningKey

    mesh = ToyMesh(owners=[SigningKey.generate() for _ in range(2)], threshold=2)
    broker = ToyBroker(mesh, tmp_path / "x.db", provisioned=False)
    with contextlib.closing(broker):
        assert refresh(broker.authority) is None
        broker.provision(mesh.signed(), recovery_public=HpkePrivateKey.generate().public.hex())
        assert refresh(broker.authority) is None
        assert former_part(broker.authority, mesh.owners[0].public.hex()) is None
        broker.provision(
            mesh.signed(), owner=1, recovery_public=HpkePrivateKey.generate().public.hex()
        )
        package = refresh(broker.authority)
        assert package is not None
        assert (package.threshold, len(package.owners)) == (2, 2)


def test_a_package_is_public(world: RecoveryWorld) -> None:
    """What its host reads of it: no key, no share."""
    raw = wire.encode(world.package)
    assert wire.decode(raw, RecoveryPackage, what="package") == world.package
    parts = [
        open_part(world.package, owner=world.public(n), key=key)
        for n, key in enumerate(world.recovery_keys)
    ]
    for secret in (
        MASTER_KEY.mesh,
        *(part.share.value for part in parts),
        *(part.owner_key for part in parts),
    ):
        assert secret.reveal() not in raw
        assert secret.reveal().hex().encode() not in raw
