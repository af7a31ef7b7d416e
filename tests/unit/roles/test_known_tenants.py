"""Whom a front end's process knows: what it makes of the operator's file and of its certificate."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from simulators.tenants import DAY, MESH, TERMS, signed, terms

from wardian._internal import wire
from wardian._internal.agreed import Agreed, Mesh, ModelTerms
from wardian.roles import tenants as tenants_module
from wardian.roles.host import HostSettings
from wardian.roles.tenants import KnownTenants

NOW = 1_800_000_000
LEASE = 3600
AGREED = Agreed(
    mesh=Mesh(name=MESH, owners=("ab" * 32,), lease_s=LEASE),
    models={"digits": ModelTerms()},
    tenants=TERMS,
)


@pytest.fixture(autouse=True)
def host_clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The host's clock, set back by two weeks."""
    told = [NOW - 14 * DAY]
    made = tenants_module.FloorClock
    monkeypatch.setattr(
        tenants_module, "FloorClock", lambda floor: made(floor, clock=lambda: told[0])
    )
    return told


def admission(issued: int) -> Any:
    return SimpleNamespace(valid_until=issued + LEASE)


def known(path: Path | None, *, issued: int = NOW) -> KnownTenants:
    host = HostSettings(tenants=None if path is None else str(path))
    found = KnownTenants.of(host, AGREED, admission(issued))
    assert found is not None
    return found


def test_without_tenants_there_is_no_list() -> None:
    agreed = msgspec.structs.replace(AGREED, tenants=None)
    assert KnownTenants.of(HostSettings(tenants="x"), agreed, admission(NOW)) is None


def test_a_list_that_is_there_is_in_force_before_anybody_connects(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(wire.encode(signed(terms("alice", "digits"), now=NOW)))
    found = known(path)
    assert found.roster.in_force
    assert not found.file.look()


def test_none_is_nobody(tmp_path: Path) -> None:
    assert not known(None).roster.in_force
    assert not known(tmp_path / "none").roster.in_force


def test_the_certificate_says_the_least_that_it_can_be(
    tmp_path: Path, host_clock: list[int]
) -> None:
    """A host that sets its clock back keeps no list alive beyond the next certificate."""
    path = tmp_path / "list.json"
    path.write_bytes(wire.encode(signed(terms("alice", "digits"), now=NOW)))
    found = known(path)
    assert found.roster.now() == NOW
    found.admitted(admission(NOW + 7 * DAY + 1))
    assert not found.roster.in_force
    assert not known(path, issued=NOW + 8 * DAY).roster.in_force
    host_clock[0] = NOW + 30 * DAY
    assert found.roster.now() == NOW + 30 * DAY
