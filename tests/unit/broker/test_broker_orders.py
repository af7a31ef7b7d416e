"""Owners' orders, and the broker's time: what one owner may do, and what it takes more for."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from toy_mesh import NOW, ToyBroker, ToyMesh

from wardian.attestation.verifier import verify_evidence
from wardian.broker.desk import Office
from wardian.broker.limits import ServiceLimits
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.state.audit import AuditEntry, verify_chain
from wardian.broker.state.clock import (
    MAX_BEACON_AHEAD_S,
    MAX_INSISTED_AHEAD_S,
    FlooredClock,
    agreed_time,
)
from wardian.crypto.signing import SigningKey
from wardian.errors import EvidenceStale, PolicyDenied, SealError, TransportError

HOUR = 3600


@pytest.fixture
def three(tmp_path: Path) -> Iterator[ToyBroker]:
    """Three owners, two of whom it takes to change the mesh."""
    owners = [SigningKey.generate() for _ in range(3)]
    mesh = ToyMesh(owners=owners, threshold=2)
    with closing(ToyBroker(mesh, tmp_path / "three.db")) as broker:
        yield broker


def entries(broker: ToyBroker) -> list[AuditEntry]:
    lines = broker.store.audit_lines(limit=1000)
    return [line.entry for line in verify_chain(lines, head=broker.store.audit_head)]


def refused(broker: ToyBroker, time: int, *, owner: int = 0, kind: str = "beacon") -> str:
    floor = broker.authority.clock.floor
    with pytest.raises(PolicyDenied) as caught:
        broker.order(kind, time=time, owner=owner)  # type: ignore[arg-type]
    assert broker.authority.clock.floor == floor
    return caught.value.rule


# Epochs


def test_any_one_owner_turns_the_epoch_at_once(three: ToyBroker) -> None:
    before = three.admit(three.mesh.workload(), three.mesh.attest("worker"))
    for owner in range(3):
        receipt = three.order("turn-epoch", owner=owner)
        assert receipt.epoch == owner + 2
    after = three.admit(three.mesh.workload(), three.mesh.attest("worker"))
    assert after.queue_key("digits") != before.queue_key("digits")
    turned = [each for each in entries(three) if each.event == "epoch"]
    assert [each.owner for each in turned] == [key.public.hex() for key in three.mesh.owners]
    assert {each.rule for each in turned} == {"owner-order"}
    assert receipt.manifest_digest == three.authority.manifest.digest.hex()


def test_an_epoch_needs_a_manifest(mesh: ToyMesh, tmp_path: Path) -> None:
    with closing(ToyBroker(mesh, tmp_path / "fresh.db", provisioned=False)) as broker:
        for kind, time in (("turn-epoch", None), ("beacon", NOW)):
            with pytest.raises(TransportError, match="no mesh manifest yet"):
                broker.order(kind, time=time)  # type: ignore[arg-type]
        assert broker.store.keys("beacon") == ()


# Beacons


def test_a_beacon_moves_the_time_of_a_mesh_of_one(mesh: ToyMesh, broker: ToyBroker) -> None:
    receipt = broker.order("beacon", time=NOW + 60)
    assert receipt.time == broker.authority.clock() == NOW + 60
    last = entries(broker)[-1]
    assert (last.event, last.rule, last.owner) == ("order", "beacon", mesh.owners[0].public.hex())


def test_a_beacon_that_is_not_written_down_moves_nothing(broker: ToyBroker) -> None:
    """The disk is full: a floor that stood only here would end leases that no line explains."""
    database, before = broker.store._database, broker.authority.clock.floor
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SealError, match="full"):
        for second in range(1, 301):  # a page has room for some lines yet
            broker.order("beacon", time=NOW + second)
            before = broker.authority.clock.floor
    assert broker.authority.clock.floor == before
    assert broker.authority.clock.unkept() == {}
    database.execute("PRAGMA max_page_count = 100000")
    assert broker.order("beacon", time=NOW + 300).time == NOW + 300
    broker.host_time = 0
    broker.restart()
    assert broker.authority.clock() == NOW + 300


def test_a_beacon_is_kept_beside_what_the_vendor_said_meanwhile(broker: ToyBroker) -> None:
    """Both raise the floor in one commit: the later of the two is what lasts."""
    broker.authority.clock.raise_to(NOW + 30)
    broker.order("beacon", time=NOW + 60)
    broker.authority.clock.raise_to(NOW + 90)
    broker.order("beacon", time=NOW + 70)
    broker.host_time = 0
    assert broker.authority.clock() == NOW + 90
    broker.restart()
    assert broker.authority.clock() == NOW + 90


def test_t9_the_floor_outlives_restarts_and_a_clock_set_back(broker: ToyBroker) -> None:
    broker.order("beacon", time=NOW + 60)
    for host_time in (NOW - HOUR, 0):
        broker.host_time = host_time
        assert broker.authority.clock() == NOW + 60
        broker.restart()
        assert broker.authority.clock() == NOW + 60
    broker.host_time = NOW + 61
    assert broker.authority.clock() == NOW + 61


def test_one_owner_does_not_move_the_time_of_the_others(three: ToyBroker) -> None:
    """It would end everybody's lines and certificates, and nobody could take it back."""
    far = NOW + MAX_INSISTED_AHEAD_S
    three.order("beacon-ahead", time=far)
    assert three.authority.clock() == NOW
    for _ in range(3):  # nor by insisting again and again
        far += MAX_INSISTED_AHEAD_S
        three.order("beacon-ahead", time=far)
    assert three.authority.clock() == NOW
    three.order("beacon", time=NOW + 5, owner=1)
    assert three.authority.clock() == NOW + 5  # as far as two of them vouch for


def test_the_bar_for_time_is_the_bar_for_changes(three: ToyBroker) -> None:
    three.provision(three.mesh.signed(version=2, change_threshold=3))
    for owner in range(2):
        three.order("beacon", time=NOW + 60, owner=owner)
    assert three.authority.clock() == NOW
    three.order("beacon", time=NOW + 50, owner=2)
    assert three.authority.clock() == NOW + 50


def test_a_beacon_of_who_is_no_owner_any_more_does_not_count(
    three: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.order("beacon", time=NOW + 60)
    monkeypatch.setattr(
        type(three.authority),
        "owners",
        property(lambda _: frozenset(key.public.hex() for key in three.mesh.owners[1:])),
    )
    three.order("beacon", time=NOW + 60, owner=1)
    assert three.authority.clock() == NOW
    three.order("beacon", time=NOW + 60, owner=2)
    assert three.authority.clock() == NOW + 60


def test_a_mistaken_clock_is_refused_and_may_insist(broker: ToyBroker) -> None:
    ahead = NOW + MAX_BEACON_AHEAD_S
    assert refused(broker, ahead + 1) == "beacon-ahead"
    broker.order("beacon", time=ahead)
    broker.order("beacon-ahead", time=NOW + 24 * HOUR)
    assert broker.authority.clock() == NOW + 24 * HOUR


def test_insisting_has_its_end(broker: ToyBroker) -> None:
    """The year 2106 of a machine that lost its battery: the floor would stay there for good."""
    assert refused(broker, 2**32, kind="beacon-ahead") == "beacon-ahead"
    assert refused(broker, 2**53, kind="beacon-ahead") == "beacon-ahead"
    step = NOW + MAX_INSISTED_AHEAD_S
    assert refused(broker, step + 1, kind="beacon-ahead") == "beacon-ahead"
    broker.order("beacon-ahead", time=step)
    broker.order("beacon-ahead", time=step + MAX_INSISTED_AHEAD_S)


def test_an_owner_takes_no_beacon_back(three: ToyBroker) -> None:
    three.order("beacon", time=NOW + 60)
    assert refused(three, NOW + 59) == "beacon-order"
    three.order("beacon", time=NOW + 60)
    three.restart()
    assert refused(three, NOW) == "beacon-order"
    three.order("beacon", time=NOW, owner=1)


def test_a_beacon_behind_the_clock_is_taken_and_moves_nothing(broker: ToyBroker) -> None:
    broker.order("beacon", time=NOW - 10)
    assert broker.authority.clock() == NOW
    assert broker.authority.clock.floor == NOW - 10


def test_time_is_what_enough_owners_vouch_for() -> None:
    beacons = {"a": 30, "b": 10, "c": 20}
    assert [agreed_time(beacons, quorum=quorum) for quorum in (1, 2, 3, 4)] == [30, 20, 10, None]
    assert agreed_time({}, quorum=1) is None


# What else raises the floor


def test_the_floor_is_written_with_the_next_commit(broker: ToyBroker) -> None:
    """Not with one of its own: a release costs one."""
    clock, generation = broker.authority.clock, broker.store.generation
    clock.raise_to(NOW + 7)
    assert clock() == NOW + 7
    assert broker.store.generation == generation
    assert clock.unkept()
    broker.order("turn-epoch")
    assert clock.unkept() == {}
    broker.host_time = 0
    broker.restart()
    assert broker.authority.clock() == NOW + 7


def test_the_floor_never_comes_down(broker: ToyBroker) -> None:
    clock = broker.authority.clock
    for moment in (NOW + 7, NOW, 0, -1):
        clock.raise_to(moment)
        assert clock.floor == NOW + 7


async def test_t9_collateral_that_was_seen_dates_what_comes_after(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    """The host sets the clock back, so that old collateral is valid again; the broker knows better."""
    office = Office(
        authority=broker.authority,
        attest=broker.attest,
        ticks=lambda: 0.0,
        limits=ServiceLimits(),
    )
    policy = appraisal_policy(mesh.manifest(), "worker")
    evidence = mesh.attest("worker")(bytes(64))
    result = await office.verify(evidence, policy=policy, report_data=bytes(64))
    office.close()
    issued = result.claims.collateral_issued
    assert 0 < issued <= NOW
    assert broker.authority.clock.floor == issued
    broker.host_time = 1000
    assert broker.authority.clock() == issued
    broker.order("turn-epoch")
    broker.restart()
    assert broker.authority.clock() == issued


def test_t9_old_collateral_stays_old(mesh: ToyMesh, broker: ToyBroker) -> None:
    from wardian.tee.launch.simulation import generate_platform

    old = generate_platform(clock=lambda: NOW - 400 * 24 * HOUR)
    evidence = old.evidence(mr_enclave=mesh.measurements["worker"], report_data=bytes(64))
    policy = appraisal_policy(mesh.manifest(trust=_trust(old.root_sha256)), "worker")
    broker.order("beacon", time=NOW)
    broker.host_time = NOW - 400 * 24 * HOUR
    for now, stale in ((broker.host_time, False), (broker.authority.clock(), True)):
        if not stale:
            verify_evidence(evidence, policy=policy, report_data=bytes(64), now=now)
            continue
        with pytest.raises(EvidenceStale):
            verify_evidence(evidence, policy=policy, report_data=bytes(64), now=now)


def _trust(root: bytes) -> object:
    from wardian.broker.mesh.trust import TrustAnchor

    return TrustAnchor(simulation_root_sha256=root.hex(), tcb_statuses=("UpToDate",), advisories=())


async def test_collateral_of_refused_evidence_dates_nothing(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    office = Office(
        authority=broker.authority, attest=broker.attest, ticks=lambda: 0.0, limits=ServiceLimits()
    )
    policy = appraisal_policy(mesh.manifest(), "frontend")
    with pytest.raises(PolicyDenied):
        await office.verify(mesh.attest("worker")(bytes(64)), policy=policy, report_data=bytes(64))
    office.close()
    assert broker.authority.clock.floor == 0


def test_a_fresh_state_has_no_floor(broker: ToyBroker) -> None:
    clock = FlooredClock(lambda: 5, store=broker.store)
    assert (clock(), clock.floor, clock.beacons(), clock.beacon_of("nobody")) == (5, 0, {}, None)


def test_where_an_owners_recovery_key_is_kept(broker: ToyBroker) -> None:
    public = broker.mesh.owners[0].public.hex()
    assert broker.store.get("recovery-public", public) is None
    broker.provision(broker.mesh.signed(), recovery_public="ab" * 32)
    assert broker.store.get("recovery-public", public) == b"\xab" * 32
    broker.provision(broker.mesh.signed(version=2))  # says nothing of it: it stays
    assert broker.store.get("recovery-public", public) == b"\xab" * 32
