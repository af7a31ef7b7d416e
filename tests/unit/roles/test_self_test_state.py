"""What a role seals in a self-test, for which its host need only ask, is no state of a real run."""

import asyncio
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace
from simulators.consortium import Consort

from wardian._internal.clock import monotonic
from wardian.broker.keeping.ledger import Ledger
from wardian.crypto.secret import Secret
from wardian.errors import SealError
from wardian.learning.coordinator.course import Course
from wardian.learning.coordinator.keeping import RunKeeper
from wardian.learning.coordinator.run import Run
from wardian.learning.planned import planned_strategy
from wardian.roles import aggregator, keeper
from wardian.roles.enclave_sealing import EnclaveSealing
from wardian.roles.host import HostSettings
from wardian.tee.backend import Enclave


class Sealed:
    """An enclave, as far as it seals."""

    def sealing_key(self, *_: object) -> Secret:
        return Secret(b"k" * 32)


ENCLAVE = cast("Enclave", Sealed())


@pytest.fixture
def stolen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a host has a copy of every file that is removed."""
    place, unlink = tmp_path / "stolen", Path.unlink
    place.mkdir()

    def copied(path: Path, *args: Any, **more: Any) -> None:
        if path.exists():
            shutil.copy(path, place)
        unlink(path, *args, **more)

    monkeypatch.setattr(Path, "unlink", copied)
    return place


def tried(tmp_path: Path) -> HostSettings:
    """Return what a host says for a self-test."""
    (tmp_path / "trial").mkdir()
    return HostSettings(self_test=True, store=str(tmp_path / "trial"))


async def test_a_run_is_not_begun_with_what_a_self_test_sealed(
    tmp_path: Path, stolen: Path
) -> None:
    """Else it would be over before it began: parties were told a model that nobody trained."""
    assert aggregator._try_keeping(ENCLAVE, tried(tmp_path)) == "a run that was kept"
    consort = Consort(tmp_path / "consort", "a", "b", rounds=1)
    consort.course_of = lambda run: Course(
        run, planned_strategy(run.plan, run=run.id, secret=run.secret)
    )
    consort.plan = replace(consort.plan, strategy={"name": "fedavg"})

    def run() -> Run:
        return Run(
            consort.plan,
            keeper=RunKeeper(stolen, sealing=EnclaveSealing(ENCLAVE)),
            spill=tmp_path,
            ticks=monotonic,
        )

    consort.run = run  # type: ignore[method-assign]
    parties = [asyncio.create_task(consort.party(name).attend()) for name in "ab"]
    try:
        with pytest.raises(SealError):
            await consort.coordinate()
    finally:
        for party in parties:
            party.cancel()
        await asyncio.gather(*parties, return_exceptions=True)


def test_a_keeper_has_no_numbers_of_a_self_test(tmp_path: Path, stolen: Path) -> None:
    assert keeper._try_ledger(ENCLAVE, tried(tmp_path)) == "a number that was kept"
    with pytest.raises(SealError):
        Ledger(stolen, sealing=EnclaveSealing(ENCLAVE), ticks=monotonic)
