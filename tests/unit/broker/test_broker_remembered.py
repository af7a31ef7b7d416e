"""What a broker remembers of owners for good: bounded, and lost to nobody's manifest."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import toy_mesh
from toy_mesh import MASTER_KEY, NOW, Counter, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.broker.joint.kept import MOST_ENDED, MOST_PARTS, PARTS
from wardian.broker.joint.kept import RECORDS as JOINT
from wardian.broker.owners import offers
from wardian.broker.owners.consents import MOST_TABLES
from wardian.broker.owners.offers import MOST_EDITIONS, MOST_LINES
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.store import Store
from wardian.broker.tables.kept import KEYS, POLICIES, RECORDS
from wardian.crypto.signing import SigningKey
from wardian.errors import PolicyDenied, SealError

ENTRY = AuditEntry(event="start", outcome="granted")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[ToyBroker]:
    """Two owners, either of whom may sign a manifest."""
    mesh = ToyMesh(owners=[SigningKey.generate(), SigningKey.generate()])
    with closing(ToyBroker(mesh, tmp_path / "pair.db")) as broker:
        yield broker


def put(broker: ToyBroker, **changes: object) -> None:
    broker.provision(
        broker.mesh.signed(version=broker.authority.manifest_version + 1, **changes),
        keys=(broker.mesh.keys["digits"],),
    )


def named(broker: ToyBroker) -> dict[str, bytes]:
    admission = broker.admit(broker.mesh.workload(), broker.mesh.attest("worker"))
    return {each.name: each.key.reveal() for each in admission.secrets if each.kind == "secret"}


# A state has an end, and nobody drives a broker over it


def test_an_owner_fills_the_state_with_lines(
    pair: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest with other versions each time: 46 of the largest, and no release was possible."""
    monkeypatch.setattr(offers, "MOST_LINES", 5)
    mesh = pair.mesh
    put(pair, models=(mesh.line(version=2), mesh.line(version=3)))
    with pytest.raises(PolicyDenied) as caught:
        put(pair, models=(mesh.line(version=4), mesh.line(version=5)))
    assert caught.value.rule == "memory-full"
    put(pair, models=(mesh.line(version=2, serial=2), mesh.line(version=4)))  # known ones change
    pair.admit(mesh.workload(), mesh.attest("worker"))


def test_owners_fill_the_state_with_manifests(
    pair: ToyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "MOST_EDITIONS", 3)
    put(pair)
    put(pair)
    with pytest.raises(PolicyDenied) as caught:
        put(pair)
    assert caught.value.rule == "memory-full"
    pair.provision(pair.mesh.signed(version=3, previous=pair.mesh.chain[2]))  # the one in force


def test_as_much_as_is_remembered_fits_into_a_state() -> None:
    """The longest rows there are, with room for a tenth more of others."""
    line = f"line/{'0' * 66}/{'n' * 64}/{2**31 - 1}"
    uses = line.replace("line", "uses")
    edition = f"manifest-history/{2**53:016d}"
    rows = MOST_LINES * (len(line) + len(uses)) + MOST_EDITIONS * len(edition)
    per_row = len(wire.encode({"": "0" * 64})) - 1  # and a comma for a brace
    rows += (2 * MOST_LINES + MOST_EDITIONS) * per_row
    table = f"{'0' * 66}/{'n' * 64}/table"
    of_table = (f"{RECORDS}/{table}", f"{POLICIES}/{table}", f"{KEYS}/{'0' * 66}/{'0' * 32}")
    rows += MOST_TABLES * sum(len(row) + per_row for row in of_table)
    joint = (f"{JOINT}/{'0' * 32}", f"{PARTS}/{'0' * 66}/{'0' * 32}")
    rows += MOST_PARTS * sum(len(row) + per_row for row in joint)
    rows += MOST_ENDED * (len(joint[0]) + per_row)
    rows += 64 * (len(f"job-part/{'0' * 66}/current") + per_row)
    assert rows < 0.9 * wire.MAX_MESSAGE_BYTES


def test_a_list_of_rows_that_nobody_could_read_back_is_not_written(tmp_path: Path) -> None:
    """It fits on the disk and into a commit, and the next start would refuse it for good."""
    counter, path = Counter(), tmp_path / "full.db"

    def rows(*numbers: int) -> dict[tuple[str, str], bytes | None]:
        return {("line", f"{'n' * 150}{number:06d}"): b"" for number in numbers}

    with closing(Store(path, master_key=MASTER_KEY, counter=counter.seam)) as store:
        store.commit(rows(*range(18_150)), audit=[ENTRY], now=NOW)
        before = store.generation
        with pytest.raises(SealError, match="no room for more rows"):
            store.commit(rows(*range(18_150, 19_000)), audit=[ENTRY], now=NOW)
        assert (store.generation, store.usable) == (before, True)
        number = 18_150
        with pytest.raises(SealError, match="no room for more rows"):
            while True:  # to the very edge, row by row
                store.commit(rows(number), audit=[ENTRY], now=NOW)
                number += 1
        assert store.generation > before
        newest = store.generation
    with closing(Store(path, master_key=MASTER_KEY, counter=counter.seam)) as again:
        assert again.generation == newest


# What only its owner's key opens is not lost to a manifest


@pytest.fixture
def taken_over(pair: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> tuple[ToyBroker, bytes]:
    """A broker of other code has the state, and no owner accepted that code."""
    put(pair, secrets=(pair.mesh.secret(),))
    made = named(pair)["license"]
    monkeypatch.setattr(
        toy_mesh,
        "MASTER_KEY",
        MasterKey.from_secret(MASTER_KEY.share_with(frozenset())),
    )
    pair.restart()
    return pair, made


def come_back(broker: ToyBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the owner's earlier key be there again, as after its visit."""
    monkeypatch.setattr(toy_mesh, "MASTER_KEY", MASTER_KEY)
    broker.restart()


def test_t7_a_manifest_does_not_make_a_locked_secret_anew(
    taken_over: tuple[ToyBroker, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others need only sign the next manifest, and what the owner sealed under it is lost."""
    broker, made = taken_over
    assert broker.authority.missing() == (
        "digits version 1",
        "faces version 1",
        "secret license",
    )
    put(broker, secrets=(broker.mesh.secret(),))
    assert broker.store.get("secret", broker.mesh.secret().kept) is None
    come_back(broker, monkeypatch)
    kept = broker.store.get("secret", broker.mesh.secret().kept)
    assert kept is not None
    assert kept.endswith(made)


def test_a_locked_secret_that_no_line_names_is_deleted_all_the_same(
    taken_over: tuple[ToyBroker, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, made = taken_over
    put(broker)
    put(broker, secrets=(broker.mesh.secret(),))
    fresh = named(broker)["license"]
    assert fresh != made
    come_back(broker, monkeypatch)
    assert broker.store.get("secret", broker.mesh.secret().kept) is None
