"""What the broker remembers and in which order it acts."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from toy_mesh import NOW, OTHER_PLATFORM, ToyBroker, ToyMesh, digest

from wardian.broker.certificates import NO_MANIFEST, read_identity, verify_ca_certificate
from wardian.broker.mesh.lines import ModelLine
from wardian.broker.mesh.manifest import SignedManifest, manifest_digest, sign_manifest
from wardian.broker.owners.goods import Goods
from wardian.broker.owners.provisioning import OpenedProvision
from wardian.broker.state.audit import verify_chain, verify_tail
from wardian.broker.status import Status, StatusRequest
from wardian.broker.status_desk import tell_status
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.errors import AuthenticationFailed, PolicyDenied, SealError, WardianError


def status(broker: ToyBroker, after: int | None = None) -> Status:
    return tell_status(broker.authority, StatusRequest(after=after))


def entries(broker: ToyBroker) -> list[tuple[str, str, str]]:
    lines = verify_chain(status(broker).lines, head=status(broker).audit)
    return [(line.entry.event, line.entry.outcome, line.entry.kind) for line in lines]


# Memory


def test_ca_manifest_keys_and_epoch_survive_a_restart(mesh: ToyMesh, broker: ToyBroker) -> None:
    before = broker.admit(mesh.workload(), mesh.attest("worker"))
    ca = broker.authority.ca.certificate
    broker.restart()
    after = broker.admit(mesh.workload(), mesh.attest("worker"))
    assert broker.authority.ca.certificate == ca == after.mesh_ca
    assert after.queue_key("digits") == before.queue_key("digits")
    assert after.model_key("digits", 1) == before.model_key("digits", 1)


def test_a_stored_manifest_is_verified_again(mesh: ToyMesh, broker: ToyBroker) -> None:
    """A `wardian.toml` with other owners would be another measurement; still nothing is assumed."""
    broker.close()
    mesh.owners = [SigningKey.generate()]
    with pytest.raises(PolicyDenied, match="not an owner"):
        broker.start()
    broker.close()


def test_the_broker_says_who_it_is(mesh: ToyMesh, broker: ToyBroker, tmp_path: Path) -> None:
    assert broker.authority.simulated is True
    assert status(broker).measurement == mesh.measurements["broker"].hex()
    fresh = ToyBroker(mesh, tmp_path / "fresh.db", provisioned=False)
    assert (fresh.authority.manifest_version, status(fresh).manifest_digest) == (0, "")
    for each, expected in ((fresh, NO_MANIFEST), (broker, mesh.verified().digest)):
        _, chain = each.authority.own_identity()
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        leaf = x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.DER)
        identity = read_identity(leaf)
        assert (identity.role, identity.measurement) == ("broker", mesh.measurements["broker"])
        assert len(identity.manifest_digest) == len(expected)
    fresh.close()


# Manifests


@pytest.mark.parametrize("version", [1, 2])
def test_a_lower_or_equal_version_is_a_rollback(
    mesh: ToyMesh, broker: ToyBroker, version: int
) -> None:
    broker.provision(mesh.signed(version=2))
    other = mesh.signed(version=version, models=(mesh.line("digits"),))
    with pytest.raises(PolicyDenied, match="versions only grow") as caught:
        broker.offers.verify_offer(other)
    assert caught.value.rule == "manifest-version"


def test_a_newer_manifest_came_while_an_older_one_was_offered(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    offered = broker.offers.verify_offer(mesh.signed(version=2))
    broker.provision(mesh.signed(version=3))
    late = OpenedProvision(
        owner=mesh.owners[0].public.hex(), signed_manifest=offered.signed, goods=Goods()
    )
    with pytest.raises(PolicyDenied, match="versions only grow"):
        broker.offers.accept(late, offered=offered)


def test_the_rollback_is_refused_after_a_restart_too(mesh: ToyMesh, broker: ToyBroker) -> None:
    old = mesh.signed(version=1)
    broker.provision(mesh.signed(version=2))
    broker.restart()
    with pytest.raises(PolicyDenied, match="versions only grow"):
        broker.provision(old)


def test_an_offer_that_is_not_signed_well(mesh: ToyMesh, broker: ToyBroker) -> None:
    import msgspec

    signed = mesh.signed(version=2)
    with pytest.raises(AuthenticationFailed):
        broker.offers.verify_offer(
            msgspec.structs.replace(signed, manifest=signed.manifest.replace(b":2,", b":3,", 1))
        )


def test_a_new_manifest_begins_an_epoch_and_the_same_one_does_not(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    first = broker.admit(mesh.workload(), mesh.attest("worker")).queue_key("digits")
    receipt = broker.provision(mesh.signed(version=1), keys=(mesh.keys["digits"],))
    assert (receipt.epoch, receipt.missing) == (1, ())
    assert broker.admit(mesh.workload(), mesh.attest("worker")).queue_key("digits") == first
    assert broker.provision(mesh.signed(version=2)).epoch == 2
    key, epoch = broker.admit(mesh.workload(), mesh.attest("worker")).queue_key("digits")
    assert epoch == 2
    assert key != first[0]


def test_keys_that_no_line_names_any_more_are_deleted(mesh: ToyMesh, broker: ToyBroker) -> None:
    broker.provision(mesh.signed(version=2, models=(mesh.line("digits"),)))
    assert broker.store.keys("model-key") == (
        f"{mesh.owners[0].public.hex()}/{mesh.keys['digits'].key_id.hex()}",
    )
    assert broker.store.keys("queue-key") == ("digits",)
    assert broker.provision(mesh.signed(version=3)).missing == ("faces version 1",)


# Keys and their owners


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[ToyBroker]:
    """Two owners, either of whom may sign; the first owns both models."""
    mesh = ToyMesh(owners=[SigningKey.generate(), SigningKey.generate()])
    with closing(ToyBroker(mesh, tmp_path / "pair.db")) as broker:
        yield broker


def test_t7_another_owner_signs_a_line_over_a_strangers_key(pair: ToyBroker) -> None:
    """Same name, same key id, a worker of its own: the key is kept under who gave it."""
    mesh = pair.mesh
    theft = mesh.line(owner=mesh.owners[1], version=2)
    pair.provision(mesh.signed(version=2, models=(mesh.line(), theft)))
    admission = pair.admit(mesh.workload(), mesh.attest("worker"))
    assert [s.version for s in admission.secrets if s.kind == "model"] == [1]
    withheld = verify_chain(status(pair).lines, head=status(pair).audit)[-1].entry
    assert (withheld.outcome, withheld.version, withheld.rule) == ("refused", 2, "key-given")
    pair.provision(mesh.signed(version=3, models=(theft,)))
    with pytest.raises(PolicyDenied, match="has not given its key"):
        pair.admit(mesh.workload(), mesh.attest("worker"))


def withdrawn(pair: ToyBroker) -> tuple[ModelLine, ModelLine]:
    """Owner A gave its key to a first worker, then withdrew it for a second; return both lines."""
    mesh = pair.mesh
    first, second = digest("worker with a flaw"), digest("worker without it")
    mesh.measurements["worker"] = first
    old = mesh.line(measurements=[first], serial=2)
    pair.provision(mesh.signed(version=2, models=(old,)), keys=(mesh.keys["digits"],))
    new = mesh.line(measurements=[second], serial=3)
    mesh.measurements["worker"] = second
    pair.provision(mesh.signed(version=3, models=(new,)))
    mesh.measurements["worker"] = first
    return old, new


def signed_by_b(mesh: ToyMesh, **changes: object) -> SignedManifest:
    return sign_manifest(mesh.manifest(**changes), [mesh.owners[1]])


def refused_line(pair: ToyBroker, signed: SignedManifest) -> PolicyDenied:
    with pytest.raises(PolicyDenied) as caught:
        pair.provision(signed, owner=1)
    assert caught.value.rule == "line-serial"
    assert pair.authority.manifest.digest != manifest_digest(signed)
    return caught.value


def test_t7_an_owners_old_line_does_not_come_back(pair: ToyBroker) -> None:
    """B alone signs a newer manifest with A's old line: A's key would go to the flawed worker."""
    mesh, (old, _) = pair.mesh, withdrawn(pair)
    error = refused_line(pair, signed_by_b(mesh, version=4, models=(old,)))
    assert "serial 2, but its owner's line of serial 3 was in force" in str(error)
    with pytest.raises(WardianError):
        pair.admit(mesh.workload(), mesh.attest("worker", measurement=old_worker(old)))


def old_worker(old: ModelLine) -> bytes:
    return bytes.fromhex(old.measurements[0])


def test_t7_the_marks_outlive_the_lines_and_a_restart(pair: ToyBroker) -> None:
    """Drop the line, so that nothing names the model, and bring the old one two manifests later."""
    mesh, (old, new) = pair.mesh, withdrawn(pair)
    pair.provision(signed_by_b(mesh, version=4, models=()), owner=1)
    pair.restart()
    refused_line(pair, signed_by_b(mesh, version=5, models=(old,)))
    pair.provision(signed_by_b(mesh, version=5, models=(new,)), owner=1)
    refused_line(pair, signed_by_b(mesh, version=6, models=(old,)))


def test_t7_one_serial_stands_for_one_line(pair: ToyBroker) -> None:
    mesh, (_, new) = pair.mesh, withdrawn(pair)
    pair.provision(signed_by_b(mesh, version=4, models=(new,)), owner=1)
    twin = mesh.line(measurements=[digest("another")], serial=3)
    error = refused_line(pair, signed_by_b(mesh, version=5, models=(twin,)))
    assert "raises the serial with every change" in str(error)


def test_a_line_is_superseded_while_an_offer_is_under_way(pair: ToyBroker) -> None:
    """Between `verify_offer` and `accept` another owner's manifest came into force."""
    mesh = pair.mesh
    old, new = mesh.line(), mesh.line(serial=2)
    offered = pair.offers.verify_offer(signed_by_b(mesh, version=9, models=(old,)))
    pair.provision(mesh.signed(version=2, models=(new,)))
    late = OpenedProvision(
        owner=mesh.owners[1].public.hex(), signed_manifest=offered.signed, goods=Goods()
    )
    with pytest.raises(PolicyDenied) as caught:
        pair.offers.accept(late, offered=offered)
    assert caught.value.rule == "manifest-previous"


def test_serials_are_counted_for_each_owner_model_and_version(pair: ToyBroker) -> None:
    mesh = pair.mesh
    pair.provision(mesh.signed(version=2, models=(mesh.line(serial=7),)))
    others = (
        mesh.line(version=2),
        mesh.line("faces"),
        mesh.line(owner=mesh.owners[1]),
    )
    for version, line in enumerate(others, start=3):
        pair.provision(mesh.signed(version=version, models=(line,)))
    assert len(pair.store.keys("line")) == 4


def test_an_owner_gives_keys_for_its_own_lines_only(pair: ToyBroker) -> None:
    with pytest.raises(PolicyDenied) as caught:
        pair.provision(pair.mesh.signed(), keys=(pair.mesh.keys["digits"],), owner=1)
    assert caught.value.rule == "key-named"
    with pytest.raises(PolicyDenied, match="no model line of this owner names"):
        pair.provision(pair.mesh.signed(), keys=(BrokerKey(Secret.random()),))


def test_every_version_that_the_worker_may_open_is_released(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    second = BrokerKey(Secret.random())
    lines = (mesh.line(), mesh.line(version=2, key_id=second.key_id))
    broker.provision(mesh.signed(version=2, models=lines), keys=(second,))
    admission = broker.admit(mesh.workload(), mesh.attest("worker"))
    assert admission.model_key("digits", 1) == mesh.keys["digits"].key
    assert admission.model_key("digits", 2) == second.key


def test_a_state_without_a_queue_key_is_refused(mesh: ToyMesh, broker: ToyBroker) -> None:
    broker.store.commit({("queue-key", "digits"): None}, audit=[], now=NOW)
    with pytest.raises(SealError, match="no queue key"):
        broker.admit(mesh.workload(), mesh.attest("worker"))


# Audit


def test_the_audit_log_tells_the_story(mesh: ToyMesh, broker: ToyBroker) -> None:
    broker.admit(mesh.workload(), mesh.attest("worker"))
    broker.authority.refuse(
        PolicyDenied("no", rule="role-known"), role="aggregator", models=("digits",)
    )
    broker.authority.refuse(PolicyDenied("no", rule="manifest-version"), role="owner")
    assert entries(broker) == [
        ("start", "granted", "certificate"),
        ("start", "granted", ""),
        ("provision", "granted", ""),  # the manifest
        ("provision", "granted", "model"),
        ("provision", "granted", "model"),
        ("release", "granted", "model"),
        ("release", "granted", "queue"),
        ("release", "granted", "request"),
        ("refusal", "refused", ""),
        ("refusal", "refused", ""),
    ]
    lines = verify_chain(status(broker).lines, head=status(broker).audit)
    release, refusal = lines[5].entry, lines[8].entry
    assert release.measurement == mesh.measurements["worker"].hex()
    assert release.key_id == mesh.keys["digits"].key_id.hex()
    assert release.manifest == mesh.verified().digest.hex()
    assert (refusal.role, refusal.model, refusal.rule) == ("aggregator", "digits", "role-known")
    assert [len(status(broker, after=n).lines) for n in (0, 7, 10, 99)] == [10, 3, 0, 0]


def test_every_change_that_an_owner_makes_has_a_line_of_its_own(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    """A manifest beside keys, and a recovery key beside nothing, are not hidden behind others."""

    def lines_of(**more: Any) -> list[tuple[str, str, int]]:
        before = broker.store.audit_head.count
        broker.provision(**more)
        lines = verify_tail(status(broker, after=before).lines, head=status(broker).audit)
        assert {(line.entry.event, line.entry.outcome) for line in lines} == {
            ("provision", "granted")
        }
        assert {line.entry.owner for line in lines} == {mesh.owners[0].public.hex()}
        assert {line.entry.manifest for line in lines} == {broker.authority.manifest_digest.hex()}
        return [(line.entry.kind, line.entry.rule, line.entry.epoch) for line in lines]

    second = mesh.signed(version=2)
    epoch = broker.authority.epoch
    assert lines_of(signed=second, keys=(mesh.keys["digits"],)) == [
        ("", "", epoch + 1),
        ("model", "", 0),
    ]
    assert broker.authority.epoch == epoch + 1
    assert lines_of(signed=second) == [("", "nothing-new", 0)]
    recovery = {"recovery_public": "ab" * 32}
    assert lines_of(signed=second, **recovery) == [("", "recovery-key", 0)]
    assert lines_of(signed=mesh.signed(version=3), **recovery) == [
        ("", "", epoch + 2),
        ("", "recovery-key", 0),
    ]


def test_a_bug_and_what_was_left_out_have_their_lines(mesh: ToyMesh, broker: ToyBroker) -> None:
    broker.authority.refuse(ZeroDivisionError("planted"), role="worker", models=("digits",))
    broker.authority.refuse_unwritten(41)
    bug, rest = verify_chain(status(broker).lines, head=status(broker).audit)[-2:]
    assert (bug.entry.rule, bug.entry.model, bug.entry.outcome) == ("bug", "digits", "refused")
    assert (rest.entry.rule, rest.entry.count, rest.entry.role) == ("left-out", 41, "")
    assert b"planted" not in b"".join(status(broker).lines)


def test_a_long_log_comes_in_pages_and_its_end_first(mesh: ToyMesh, broker: ToyBroker) -> None:
    error = PolicyDenied("no", rule="r")
    for _ in range(550):
        broker.authority.refuse(error, role="owner")
    newest, first = status(broker), status(broker, after=0)
    assert (len(newest.lines), len(first.lines)) == (100, 500)
    rest = status(broker, after=500).lines
    assert newest.lines[-1] == rest[-1]
    verify_chain((*first.lines, *rest), head=newest.audit)


def test_nothing_is_released_that_is_not_written_down(mesh: ToyMesh, broker: ToyBroker) -> None:
    broker.counter.fails = True
    with pytest.raises(OSError, match="killed"):
        broker.admit(mesh.workload(), mesh.attest("worker"))
    broker.counter.fails = False
    with pytest.raises(SealError, match="in doubt"):
        broker.admit(mesh.workload(), mesh.attest("worker"))


def test_the_ca_of_a_simulated_broker_says_so(mesh: ToyMesh, broker: ToyBroker) -> None:
    assert verify_ca_certificate(broker.authority.ca.certificate) == broker.authority.ca.spki
    assert b"SIMULATED" in broker.authority.ca.certificate
    assert mesh.attest("broker", platform=OTHER_PLATFORM)(bytes(64)).quote
