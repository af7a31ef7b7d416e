"""Where a broker's own evidence, and that of others, gets its collateral from."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from toy_mesh import NOW, PLATFORM, ToyBroker, ToyMesh

from wardian.attestation.appraisal.policy import AppraisalPolicy, NotDebug
from wardian.attestation.evidence import Evidence
from wardian.broker.desk import Office
from wardian.broker.limits import ServiceLimits
from wardian.errors import CollateralUnavailable

BOUND = bytes(64)
POLICY = AppraisalPolicy(roots=frozenset({PLATFORM.root_sha256}), rule=NotDebug())


class Shelf:
    """A source that has the platform's collateral, or none."""

    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty
        self.roots: list[frozenset[bytes]] = []
        self.refreshed: list[int] = []

    def complete(self, evidence: Evidence, *, roots: frozenset[bytes], now: int) -> Evidence:
        self.roots.append(roots)
        if self.empty:
            raise CollateralUnavailable("the shelf is empty")
        return Evidence(quote=evidence.quote, collateral=PLATFORM.collateral())

    def refresh(self, now: int) -> None:
        self.refreshed.append(now)


def bare(mesh: ToyMesh, role: str) -> Evidence:
    return Evidence(quote=mesh.attest(role)(BOUND).quote, collateral=b"")


@pytest.fixture
def broker(mesh: ToyMesh, tmp_path: Path) -> Iterator[ToyBroker]:
    with closing(ToyBroker(mesh, tmp_path / "office.db")) as broker:
        yield broker


def office(broker: ToyBroker, shelf: Shelf) -> Office:
    return Office(
        authority=broker.authority,
        attest=lambda _: bare(broker.mesh, "broker"),
        ticks=lambda: 0.0,
        limits=ServiceLimits(),
        collateral=shelf,
    )


async def test_own_evidence_brings_what_the_source_has(broker: ToyBroker) -> None:
    shelf = Shelf()
    with closing(office(broker, shelf)) as desk:
        assert (await desk.evidence(BOUND)).collateral == PLATFORM.collateral()
    assert shelf.roots == [frozenset({PLATFORM.root_sha256})]


async def test_own_evidence_goes_without_where_there_is_none(broker: ToyBroker) -> None:
    """The peer may have it from elsewhere, and judges it in any case."""
    with closing(office(broker, Shelf(empty=True))) as desk:
        assert (await desk.evidence(BOUND)).collateral == b""


async def test_others_are_judged_with_it_or_not_at_all(broker: ToyBroker, mesh: ToyMesh) -> None:
    asked = bare(mesh, "worker")
    with closing(office(broker, Shelf())) as desk:
        result = await desk.verify(asked, policy=POLICY, report_data=BOUND)
        assert result.claims.measurement == mesh.measurements["worker"]
        assert desk.collateral_expires == result.claims.collateral_expires
    with closing(office(broker, Shelf(empty=True))) as desk, pytest.raises(CollateralUnavailable):
        await desk.verify(asked, policy=POLICY, report_data=BOUND)


async def test_the_source_is_looked_after(broker: ToyBroker) -> None:
    shelf = Shelf()
    with closing(office(broker, shelf)) as desk:
        await desk.refresh_collateral()
    assert shelf.refreshed == [NOW]
