"""Every manifest that was ever in force, told in pages; and what each changed."""

import msgspec
import pytest
from toy_mesh import NOW, ToyBroker, ToyMesh, digest

from wardian._internal import wire
from wardian.broker.mesh.chain import follow
from wardian.broker.mesh.changes import Change, changes
from wardian.broker.mesh.lines import ReleaseTerms
from wardian.broker.owners import manifest_log
from wardian.broker.owners.manifest_log import (
    Edition,
    ManifestLog,
    ManifestLogRequest,
    tell_log,
)
from wardian.broker.state.audit import verify_chain


def tell(broker: ToyBroker, after: int = 0) -> ManifestLog:
    return tell_log(broker.store, ManifestLogRequest(after=after))


def versions(broker: ToyBroker, log: ManifestLog) -> list[int]:
    """Return the versions of one page, each verified as what follows the one before."""
    current, found = None, []
    for edition in log.editions:
        current = follow(edition.signed, current=current, mesh=broker.mesh.agreed.mesh)
        found.append(current.manifest.version)
    return found


def test_every_version_is_kept(mesh: ToyMesh, broker: ToyBroker) -> None:
    for version in (2, 3, 10, 200):
        broker.host_time += 5
        broker.provision(mesh.signed(version=version))
    broker.provision(mesh.signed(version=200), keys=(mesh.keys["digits"],))  # the same again
    broker.restart()
    log = tell(broker)
    assert versions(broker, log) == [1, 2, 3, 10, 200]  # by number, not by digit
    assert [edition.accepted for edition in log.editions] == [NOW + 5 * n for n in range(5)]
    assert not log.more
    newest = msgspec.structs.replace(log, editions=log.editions[-1:])
    assert tell(broker, after=10) == newest
    assert tell(broker, after=200).editions == ()


def test_a_broker_without_a_manifest_has_an_empty_log(mesh: ToyMesh, tmp_path) -> None:
    broker = ToyBroker(mesh, tmp_path / "fresh.db", provisioned=False)
    assert tell(broker) == ManifestLog(editions=(), more=False)
    broker.close()


def test_a_refused_manifest_is_not_in_it(mesh: ToyMesh, broker: ToyBroker) -> None:
    from wardian.errors import PolicyDenied

    with pytest.raises(PolicyDenied):
        broker.provision(mesh.signed(version=2, previous=None))
    assert len(tell(broker).editions) == 1


def test_a_long_log_comes_in_pages(
    mesh: ToyMesh, broker: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in range(2, 8):
        broker.provision(mesh.signed(version=version))
    size = len(wire.encode(tell(broker).editions[0]))
    monkeypatch.setattr(manifest_log, "PAGE_BYTES", int(2.5 * size))
    after, pages = 0, []
    while True:
        page = tell(broker, after=after)
        pages.append(page)
        after += len(page.editions)
        if not page.more:
            break
    assert [len(page.editions) for page in pages] == [2, 2, 2, 1]
    whole = ManifestLog(editions=sum((p.editions for p in pages), ()), more=False)
    assert versions(broker, whole) == list(range(1, 8))


def test_a_manifest_that_fills_a_page_comes_alone(
    mesh: ToyMesh, broker: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.provision(mesh.signed(version=2))
    monkeypatch.setattr(manifest_log, "PAGE_BYTES", 10)
    assert [len(tell(broker, after=n).editions) for n in (0, 1)] == [1, 1]
    assert [tell(broker, after=n).more for n in (0, 1)] == [True, False]


def test_the_log_holds_no_secret(mesh: ToyMesh, broker: ToyBroker) -> None:
    broker.provision(mesh.signed(version=2, secrets=(mesh.secret(),)))
    raw = wire.encode(tell(broker))
    made = broker.store.get("secret", mesh.secret().kept)
    assert made is not None
    for secret in (made[16:], mesh.keys["digits"].key.reveal()):
        assert secret.hex().encode() not in raw
    assert wire.decode(raw, ManifestLog, what="x") == tell(broker)
    assert verify_chain(broker.store.audit_lines(limit=99), head=broker.store.audit_head)


def test_an_edition_names_its_time() -> None:
    signed = ToyMesh().signed()
    edition = Edition(accepted=NOW, signed=signed)
    assert wire.decode(wire.encode(edition), Edition, what="x") == edition


# What changed


def said(found: tuple[Change, ...]) -> str:
    return "\n".join(line for change in found for line in change.said)


def test_nothing_changed_but_the_number(mesh: ToyMesh) -> None:
    assert changes(mesh.manifest(), mesh.manifest(version=2, previous="00" * 32)) == ()


def test_a_first_manifest_adds_all_of_it(mesh: ToyMesh) -> None:
    found = changes(None, mesh.manifest(secrets=(mesh.secret(),)))
    assert {change.kind for change in found} == {"added"}
    assert [change.subject for change in found] == [
        "mesh",
        "role broker",
        "role frontend",
        "role worker",
        "model digits version 1",
        "model faces version 1",
        "secret license",
    ]
    assert f"  measurements: +{digest('worker').hex()}" in said(found)


def test_what_an_owner_wants_to_see_before_signing(mesh: ToyMesh) -> None:
    before = mesh.manifest(secrets=(mesh.secret(), mesh.secret("old")))
    roles = dict(before.roles)
    roles["worker"] = type(roles["worker"])(measurements=(digest("trojan").hex(),))
    del roles["frontend"]
    after = mesh.manifest(
        version=2,
        change_threshold=1,
        trust=msgspec.structs.replace(
            before.trust, tcb_statuses=("UpToDate", "SWHardeningNeeded"), advisories=("INTEL-1",)
        ),
        roles=roles,
        models=(mesh.line(serial=2, terms=ReleaseTerms(max_uses=5)), mesh.line("faces")),
        secrets=(mesh.secret(serial=2, interop=True), mesh.secret("new")),
    )
    found = changes(before, after)
    assert said(found).splitlines() == [
        "mesh: changed",
        "  tcb_statuses: +SWHardeningNeeded",
        "  advisories: +INTEL-1",
        "role frontend: removed",
        f"  measurements: -{digest('frontend').hex()}",
        "role worker: changed",
        f"  measurements: -{digest('worker').hex()} +{digest('trojan').hex()}",
        "model digits version 1: changed",
        "  serial: 1 -> 2",
        "  max_uses: 5",
        "secret license: changed",
        "  serial: 1 -> 2",
        "  interop: False -> True",
        "secret old: removed",
        *[f"  {line}" for line in gone(mesh)],
        "secret new: added",
        "  serial: 1",
        "  source: generated",
        f"  measurements: +{digest('worker').hex()}",
        f"  owner: {mesh.owners[0].public.hex()}",
    ]
    as_json = msgspec.json.decode(wire.encode(found))
    assert as_json[1] == {
        "subject": "role frontend",
        "kind": "removed",
        "fields": {"measurements": [[digest("frontend").hex()], []]},
    }


def gone(mesh: ToyMesh) -> list[str]:
    return [
        "serial: 1 -> none",
        "source: generated -> none",
        f"measurements: -{digest('worker').hex()}",
        f"owner: {mesh.owners[0].public.hex()} -> none",
    ]


def test_a_model_whose_file_was_exchanged_shows(mesh: ToyMesh) -> None:
    before = mesh.manifest()
    line = msgspec.structs.replace(mesh.line(serial=2), header_digest="11" * 32)
    after = mesh.manifest(version=2, models=(line, mesh.line("faces")))
    (change,) = changes(before, after)
    assert change.subject == "model digits version 1"
    assert set(change.fields) == {"serial", "header_digest"}
    assert change.fields["header_digest"][1] == "11" * 32
