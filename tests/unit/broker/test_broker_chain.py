"""The manifests of a mesh are one chain: nobody skips, reorders, rolls back or lowers the bar."""

from contextlib import closing

import msgspec
import pytest
from toy_mesh import ToyBroker, ToyMesh, digest

from wardian.broker.mesh.chain import MAX_VERSION_STEP, follow, verify_successor
from wardian.broker.mesh.manifest import SignedManifest, manifest_digest, sign_manifest
from wardian.crypto.signing import SignatureKind, SigningKey
from wardian.errors import AuthenticationFailed, FormatError, PolicyDenied

OWNERS = [SigningKey.generate(), SigningKey.generate(SignatureKind.P256), SigningKey.generate()]


@pytest.fixture
def mesh() -> ToyMesh:
    """Three owners of both kinds; `wardian.toml` demands two of them."""
    return ToyMesh(owners=list(OWNERS), threshold=2)


def refused(broker: ToyBroker, signed: SignedManifest) -> str:
    before = broker.authority.manifest_digest
    with pytest.raises(PolicyDenied) as caught:
        broker.provision(signed)
    assert broker.authority.manifest_digest == before
    assert len(str(caught.value)) > 40
    return caught.value.rule


def test_each_manifest_names_the_one_before(mesh: ToyMesh, broker: ToyBroker) -> None:
    first = broker.authority.manifest
    broker.provision(mesh.signed(version=5))
    second = broker.authority.manifest
    assert (first.manifest.previous, second.manifest.previous) == (None, first.digest.hex())


# The bar is what the manifest in force says


def test_two_of_three_lower_the_bar_that_stands_at_three(mesh: ToyMesh, broker: ToyBroker) -> None:
    """The offer itself demands two, is signed by two, and `wardian.toml` is content with two."""
    high = mesh.manifest(version=2, change_threshold=3)
    broker.provision(sign_manifest(high, OWNERS[:2]))  # two may raise it
    assert broker.authority.quorum == 3
    low = mesh.manifest(version=3, change_threshold=2)
    for two in (OWNERS[:2], OWNERS[1:], OWNERS[::2]):
        assert refused(broker, sign_manifest(low, two)) == "manifest-threshold-current"
    broker.provision(sign_manifest(low, OWNERS))
    assert broker.authority.quorum == 2


def test_the_bar_stays_after_a_restart(mesh: ToyMesh, broker: ToyBroker) -> None:
    broker.provision(sign_manifest(mesh.manifest(version=2, change_threshold=3), OWNERS))
    broker.restart()
    low = mesh.manifest(version=3, change_threshold=2)
    assert refused(broker, sign_manifest(low, OWNERS[:2])) == "manifest-threshold-current"


@pytest.mark.parametrize("bar", [1, 4, 64])
def test_a_bar_below_wardian_toml_or_above_the_owners(
    mesh: ToyMesh, broker: ToyBroker, bar: int
) -> None:
    signed = sign_manifest(mesh.manifest(version=2, change_threshold=bar), OWNERS)
    assert refused(broker, signed) == "manifest-change-threshold"


def test_signed_by_fewer_than_wardian_toml_demands(mesh: ToyMesh, broker: ToyBroker) -> None:
    signed = sign_manifest(mesh.manifest(version=2), OWNERS[:1])
    assert refused(broker, signed) == "manifest-threshold"


def test_one_owner_under_two_spellings_of_a_signature(mesh: ToyMesh, broker: ToyBroker) -> None:
    """An owner on P-256 cannot be counted twice by the second form of its signature."""
    signed = sign_manifest(mesh.manifest(version=2), [OWNERS[1]])
    (one,) = signed.signatures
    s = int(one.signature[64:], 16)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = msgspec.structs.replace(one, signature=one.signature[:64] + f"{order - s:064x}")
    twice = msgspec.structs.replace(signed, signatures=(one, other))
    assert refused(broker, twice) == "manifest-owner-once"
    with pytest.raises(AuthenticationFailed):
        broker.provision(msgspec.structs.replace(signed, signatures=(other,)))


def test_the_same_manifest_with_fewer_signatures_changes_nothing(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    """An owner who adds keys shows the manifest in force; it stays as it was signed."""
    high = mesh.manifest(version=2, change_threshold=3)
    broker.provision(sign_manifest(high, OWNERS))
    broker.provision(sign_manifest(high, OWNERS[:2]))
    assert len(broker.authority.manifest.signers) == 3
    broker.restart()
    assert len(broker.authority.manifest.signers) == 3


# What it follows


def test_a_manifest_that_skips_one(mesh: ToyMesh, broker: ToyBroker) -> None:
    """Two offers were made to follow version 1; one came into force, the other comes too late."""
    first = broker.authority.manifest_digest.hex()
    broker.provision(mesh.signed(version=2))
    assert refused(broker, mesh.signed(version=3, previous=first)) == "manifest-previous"


@pytest.mark.parametrize("previous", [None, digest("another").hex()])
def test_a_manifest_that_follows_another_or_none(
    mesh: ToyMesh, broker: ToyBroker, previous: str | None
) -> None:
    assert refused(broker, mesh.signed(version=2, previous=previous)) == "manifest-previous"


def test_a_first_manifest_that_claims_a_past(mesh: ToyMesh, tmp_path) -> None:
    broker = ToyBroker(mesh, tmp_path / "fresh.db", provisioned=False)
    assert refused(broker, mesh.signed(previous="11" * 32)) == "manifest-previous"
    broker.close()


def test_a_version_after_which_nothing_can_follow(mesh: ToyMesh, broker: ToyBroker) -> None:
    """Numbers have an end: whoever takes the last one lets nothing be withdrawn any more."""
    for version in (2**53, MAX_VERSION_STEP + 2):
        assert refused(broker, mesh.signed(version=version)) == "manifest-version"
    broker.provision(mesh.signed(version=MAX_VERSION_STEP + 1))
    broker.provision(mesh.signed(version=MAX_VERSION_STEP + 2))


def test_a_first_manifest_after_which_nothing_can_follow(mesh: ToyMesh, tmp_path) -> None:
    with closing(ToyBroker(mesh, tmp_path / "fresh.db", provisioned=False)) as broker:
        assert refused(broker, mesh.signed(version=2**53)) == "manifest-version"


def test_an_old_manifest_comes_back_under_its_own_signatures(
    mesh: ToyMesh, broker: ToyBroker
) -> None:
    old = mesh.signed()
    broker.provision(mesh.signed(version=2))
    for _ in range(2):
        assert refused(broker, old) == "manifest-version"
        broker.host_time -= 10**6  # nor does a clock that goes back help it
        broker.restart()


# A history, as whoever asks for it sees it


def history(mesh: ToyMesh, versions: int = 4) -> list[SignedManifest]:
    found = []
    for version in range(1, versions + 1):
        found.append(mesh.signed(version=version))
        mesh.in_force(found[-1])
    return found


def walk(signed: list[SignedManifest], mesh: ToyMesh) -> int:
    current = None
    for each in signed:
        current = follow(each, current=current, mesh=mesh.agreed.mesh)
    return current.manifest.version if current else 0


def test_a_whole_history(mesh: ToyMesh) -> None:
    assert walk(history(mesh), mesh) == 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda h: h[1:],
        lambda h: [h[0], *h[2:]],
        lambda h: [h[0], h[2], h[1], h[3]],
        lambda h: [h[0], *h],
        lambda h: list(reversed(h)),
    ],
    ids=["beginning cut off", "middle left out", "reordered", "one twice", "reversed"],
)
def test_a_history_that_somebody_edited(mesh: ToyMesh, spoil) -> None:
    with pytest.raises(PolicyDenied) as caught:
        walk(spoil(history(mesh)), mesh)
    assert caught.value.rule in {"manifest-previous", "manifest-version"}


def test_a_history_with_a_manifest_of_fewer_owners(mesh: ToyMesh) -> None:
    """Whoever makes up a middle needs as many owners as the manifest before it demands."""
    first = sign_manifest(mesh.manifest(change_threshold=3), OWNERS)
    mesh.in_force(first)
    forged = sign_manifest(mesh.manifest(version=2), OWNERS[:2])
    with pytest.raises(PolicyDenied) as caught:
        walk([first, forged], mesh)
    assert caught.value.rule == "manifest-threshold-current"


def test_a_history_with_a_changed_byte(mesh: ToyMesh) -> None:
    first, second, *_ = history(mesh)
    changed = msgspec.structs.replace(second, manifest=second.manifest[:-1] + b" ")
    with pytest.raises((AuthenticationFailed, FormatError)):
        walk([first, changed], mesh)


def test_a_manifest_follows_what_is_in_force_and_not_its_own_version(mesh: ToyMesh) -> None:
    first = mesh.verified()
    second = mesh.verified(version=2, previous=first.digest.hex())
    verify_successor(second, current=first)
    assert manifest_digest(second.signed) == second.digest
    with pytest.raises(PolicyDenied):
        verify_successor(second, current=second)
