"""Set intersection over the aggregator: undisturbed, with deaths, and against who cheats."""

import asyncio
import importlib.util
from pathlib import Path

import pytest
from aligned_world import AlignedConsort, disturbed, people, shuffled, steps_of

from wardian.learning.arrays import ArrayRecord
from wardian.learning.vertical.app import Table

SETS = {
    "a": people(range(40)),
    "b": people(range(25, 60)),
    "c": people(range(10), range(20, 45), range(90, 99)),
}
COMMON = set(people(range(25, 40)))


def consort(place: Path, *names: str, **psi: object) -> AlignedConsort:
    tables = {
        name: shuffled(Table(identifiers=SETS[name]), seed) for seed, name in enumerate(names)
    }
    return AlignedConsort(place, tables, psi=psi)


def common(of: AlignedConsort, found: dict[str, ArrayRecord]) -> set[str]:
    """Return whom all parties have in common; the same ones in the same order at each."""
    named = [
        [str(of.tables[name].identifiers[at]) for at in each["positions"]]
        for name, each in found.items()
    ]
    assert len(named) == len(of.keys)
    assert all(each == named[0] for each in named)
    return set(named[0])


async def test_each_party_knows_which_records_all_have(tmp_path: Path) -> None:
    world = consort(tmp_path, "a", "b", "c")
    found = await world.have()
    assert common(world, found) == COMMON
    assert world.state("a")["psi-runs"]["n"] == 1
    assert "psi" not in world.state("a")  # the key is gone


async def test_none_in_common_is_an_answer_too(tmp_path: Path) -> None:
    tables = {"a": Table(identifiers=people(range(5))), "b": Table(identifiers=people(range(7, 9)))}
    world = AlignedConsort(tmp_path, tables, psi={})
    found = await world.have()
    assert common(world, found) == set()


@pytest.mark.parametrize(
    ("victim", "every"),
    [
        ("coordinator", 5),
        ("b", 5),
        *(pytest.param(each, 1, marks=pytest.mark.slow) for each in ("coordinator", "a", "b")),
    ],
)
def test_who_dies_at_any_step_changes_nothing(
    tmp_path: Path, victim: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.learning.coordinator.attending.LINGER_S", 1.0)
    steps = steps_of(lambda place: consort(place, "a", "b"), tmp_path / "undisturbed")
    for at in range(0, len(steps), every):
        world = consort(tmp_path / f"{at}", "a", "b")
        found = asyncio.run(disturbed(world, at, victim))
        assert common(world, found) == set(people(range(25, 40))), steps[at]
        for name in world.keys:
            assert world.state(name)["psi-runs"]["n"] == 1, steps[at]


@pytest.mark.skipif(
    importlib.util.find_spec("private_set_intersection") is None,
    reason="the extra `psi` is not installed",
)
@pytest.mark.parametrize("victim", ["coordinator", "b"])
def test_ecdh_over_the_aggregator(
    tmp_path: Path, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.learning.coordinator.attending.LINGER_S", 1.0)

    def make(place: Path) -> AlignedConsort:
        return consort(place, "a", "b", protocol="ecdh")

    steps = steps_of(make, tmp_path / "undisturbed")
    for at in range(len(steps)):
        world = make(tmp_path / f"{at}")
        found = asyncio.run(disturbed(world, at, victim))
        assert common(world, found) == set(people(range(25, 40))), steps[at]


async def test_more_identifiers_than_agreed_are_not_even_tagged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = consort(tmp_path, "a", "b", caps={"a": 39, "b": 100})
    assert await world.have() == {}
    assert "psi-runs" not in world.state("a")
    assert any("more identifiers" in str(vars(each)) for each in caplog.records)
