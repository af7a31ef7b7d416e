"""What an owner demands of a broker that comes with a backup: not the word of an old manifest."""

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from recovery_world import RecoveryWorld
from toy_mesh import NOW, digest

from wardian._internal import wire
from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.verifier import verify_evidence
from wardian.broker.mesh.trust import RoleReference
from wardian.broker.recovery.keeper import refresh
from wardian.broker.transparency.heads import SignedHead
from wardian.broker.transparency.memory import AuditMemory
from wardian.cli.audit.files import save_record
from wardian.cli.mesh import recover
from wardian.cli.mesh.places import OwnersPlace
from wardian.errors import ConfigError, PolicyDenied

NEWER = digest("newer broker")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RecoveryWorld]:
    world = RecoveryWorld(tmp_path)
    yield world
    world.close()


def policy_of(
    world: RecoveryWorld, *seen: SignedHead, manifest: Path | None = None
) -> AppraisalPolicy:
    """Return what `wardian owner recover` demands for an owner who remembers these heads."""
    memory = world.directory / "memory.json"
    save_record(memory, AuditMemory(read=None, peaks=(), seen=seen))
    place = OwnersPlace(
        state=None, address=("", 0), agreed_toml=world.mesh.agreed_toml, agreed=world.mesh.agreed
    )
    return recover._policy(world.package, manifest, place, recover._newest(memory, place))


def accepts(policy: AppraisalPolicy, world: RecoveryWorld, measurement: bytes) -> bool:
    """Whether evidence of a broker of this measurement satisfies `policy`."""
    evidence = world.mesh.attest("broker", measurement=measurement)(bytes(64))
    try:
        verify_evidence(evidence, policy=policy, report_data=bytes(64), now=NOW)
    except PolicyDenied:
        return False
    return True


def withdraw(world: RecoveryWorld) -> SignedHead:
    """Put a manifest in force with other broker code, and return the head that an owner sees."""
    roles = {
        role: RoleReference(measurements=(measured.hex(),))
        for role, measured in world.mesh.measurements.items()
    }
    roles["broker"] = RoleReference(measurements=(NEWER.hex(),))
    world.signed = world.mesh.signed(version=2, roles=roles)
    world.broker.provision(world.signed)
    return world.sign(world.broker.store.audit_head)


def test_the_manifest_in_a_backup_counts_while_it_is_the_newest(world: RecoveryWorld) -> None:
    assert world.head is not None
    policy = policy_of(world, world.head)
    assert accepts(policy, world, world.mesh.measurements["broker"])
    assert not accepts(policy, world, NEWER)


def test_an_old_backup_does_not_bring_code_back_that_the_owners_withdrew(
    world: RecoveryWorld,
) -> None:
    """Its package is genuine, and its manifest names the old code: which would get the share."""
    before, after = world.head, withdraw(world)
    assert before is not None
    for seen in ((before, after), (after, before), (after,)):
        with pytest.raises(PolicyDenied, match="--manifest") as caught:
            policy_of(world, *seen)
        assert caught.value.rule == "recovery-manifest"
    newest = world.directory / "newest.json"
    newest.write_bytes(wire.encode(world.signed))
    policy = policy_of(world, after, manifest=newest)
    assert accepts(policy, world, NEWER)
    assert not accepts(policy, world, world.mesh.measurements["broker"])


def test_who_saw_no_manifest_in_force_names_one(world: RecoveryWorld) -> None:
    assert world.head is not None
    earlier = msgspec.structs.replace(world.head, manifest="")
    with pytest.raises(PolicyDenied):
        policy_of(world, earlier)
    with pytest.raises(ConfigError, match="remembers nothing"):
        policy_of(world)


def test_a_manifest_that_is_older_than_the_backup_s_is_not_the_newest(
    world: RecoveryWorld,
) -> None:
    older = world.directory / "older.json"
    older.write_bytes(wire.encode(world.signed))
    seen = withdraw(world)
    package = refresh(world.broker.authority)
    assert package is not None
    world.package = package
    with pytest.raises(PolicyDenied, match="older than the one in the backup") as caught:
        policy_of(world, seen, manifest=older)
    assert caught.value.rule == "recovery-manifest"
    assert accepts(policy_of(world, seen), world, NEWER)
