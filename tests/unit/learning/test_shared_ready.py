"""What a job finds out before it asks: parameters, libraries, noise, and which files lie there."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_world import CSV, PARQUET, A, B, Owner, csv_text, plan_of, run

from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.trainers import RANGES, TRAINERS
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import seal_file
from wardian.errors import ConfigError, FormatError, WardianError
from wardian.learning.shared.ready import LIBRARIES, refuse_unready

ROWS = 60
SICK = [row % 2 for row in range(ROWS)]


def table(*names: str, **more: list[Any]) -> bytes:
    tossed = np.random.default_rng(4)
    return csv_text(
        {name: [each + tossed.normal() for each in SICK] for name in names} | {"y": SICK} | more
    )


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(A, tmp_path, table("x"))


def plan(owner: Owner, algorithm: str = "logistic-regression", **parameters: Any) -> JobPlan:
    trainer = TRAINERS[algorithm]
    outputs = {"model": [A]} if trainer.learns else {"aggregates": [A]}
    return plan_of(
        [owner],
        [["x"]],
        algorithm,
        label="y" if trainer.labelled else None,
        parameters=parameters,
        outputs=outputs,
    )


def places(*owners: Owner) -> dict[str, Path]:
    return {f"{each.name}/{each.table}": each.path for each in owners}


BOUNDED = [(algorithm, name) for algorithm, each in TRAINERS.items() for name in each.ranges]


def least_of(algorithm: str, name: str) -> float:
    """Return the least value that is accepted, as a plan has it."""
    whole = isinstance(TRAINERS[algorithm].parameters[name], int)
    least, _ = TRAINERS[algorithm].ranges[name]
    return int(least) if whole else float(least)


@pytest.mark.parametrize(("algorithm", "name"), BOUNDED)
def test_a_parameter_out_of_its_range(owner: Owner, algorithm: str, name: str) -> None:
    least, most = TRAINERS[algorithm].ranges[name]
    number = type(TRAINERS[algorithm].parameters[name])
    for wrong in (number(least) - 1, number(most) + 1):
        with pytest.raises(ConfigError, match=f"parameter `{name}` is between"):
            plan(owner, algorithm, **{name: wrong})
    plan(owner, algorithm, **{name: number(least)})
    plan(owner, algorithm, **{name: number(most)})


@pytest.mark.parametrize(("algorithm", "name"), [each for each in BOUNDED if each[1] != "largest"])
def test_what_is_let_through_its_trainer_takes(owner: Owner, algorithm: str, name: str) -> None:
    """No range here is wider than that of the code that runs after the debit."""
    if algorithm == "dense-network":
        pytest.importorskip("torch", reason="torch is not installed")
    small = {"trees": 3, "epochs": 2, "hidden": 2, "max_iterations": 5, "min_leaf_rows": 5}
    known = {key: value for key, value in small.items() if key in TRAINERS[algorithm].parameters}
    cohort = {"smallest_cohort": 1} if name == "min_leaf_rows" else {}
    run(plan(owner, algorithm, **{**known, name: least_of(algorithm, name)}), [owner], **cohort)


def test_every_number_of_every_trainer_has_a_range_and_every_learner_its_library() -> None:
    numbers = {
        name
        for trainer in TRAINERS.values()
        for name, default in trainer.parameters.items()
        if not isinstance(default, str)
    }
    assert numbers == RANGES.keys()
    assert LIBRARIES.keys() <= TRAINERS.keys()


@pytest.mark.parametrize("algorithm", sorted(LIBRARIES))
def test_a_library_that_is_not_installed(
    owner: Owner, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = LIBRARIES[algorithm][0].partition(".")[0]
    for module in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=library):
        refuse_unready(plan(owner, algorithm), places(owner))


@pytest.mark.parametrize("algorithm", sorted(TRAINERS.keys() - LIBRARIES.keys()))
def test_the_others_need_none(
    owner: Owner, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = {module.partition(".")[0] for each in LIBRARIES.values() for module in each}
    for library in (*every - {"torch"}, "duckdb", "pyarrow"):
        for module in [name for name in sys.modules if name.partition(".")[0] == library]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, library, None)
    wanted = plan(owner, algorithm)
    refuse_unready(wanted, places(owner))
    run(wanted, [owner])


@pytest.mark.parametrize("library", ["duckdb", "pyarrow"])
def test_groups_need_libraries_that_sums_do_not(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "pyarrow":
        pytest.importorskip("duckdb", reason="duckdb is not installed")
    owner = Owner(A, tmp_path, table("x", g=SICK))
    monkeypatch.setitem(sys.modules, library, None)
    parts: Any = ([owner], [["x", "g"]], "statistics")
    refuse_unready(plan_of(*parts, label=None), places(owner))
    with pytest.raises(ConfigError, match=library):
        refuse_unready(plan_of(*parts, label=None, parameters={"by": "g"}), places(owner))


def test_parquet_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which kind of table it is stands in the file's head, in the clear."""
    owner = Owner(A, tmp_path, b"no matter", media_type=PARQUET)
    for module in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="pyarrow"):
        refuse_unready(plan(owner), places(owner))


def test_noise_needs_no_library_and_a_budget_that_some_noise_keeps(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)

    def private(epsilon: float) -> JobPlan:
        privacy = {"epsilon": epsilon, "delta": 1e-6}
        changes = {"privacy": privacy, "seed": "derived"}
        return plan_of([owner], [["x"]], "logistic-regression", **changes)

    refuse_unready(private(1.0), places(owner))
    with pytest.raises(ConfigError, match="no noise is enough"):
        refuse_unready(private(1e-12), places(owner))


class Lying:
    """What a host puts in place of a table."""

    def __init__(self, owner: Owner) -> None:
        self.owner, self.path = owner, owner.path
        self.sealed = owner.path.read_bytes()
        owner.path.unlink()

    def missing(self) -> None:
        """Nothing."""

    def directory(self) -> None:
        self.path.mkdir()

    def pipe(self) -> None:
        os.mkfifo(self.path)

    def loop(self) -> None:
        self.path.symlink_to(self.path)

    def empty(self) -> None:
        self.path.touch()

    def clear(self) -> None:
        self.path.write_bytes(table("x"))

    def half_a_head(self) -> None:
        self.path.write_bytes(self.sealed[:20])

    def of_another_name(self) -> None:
        self._seal(CSV, "visits")

    def of_another_kind(self) -> None:
        self._seal("application/onnx", self.owner.table)

    def _seal(self, media_type: str, name: str) -> None:
        clear = self.path.with_suffix(".clear")
        clear.write_bytes(table("x"))
        seal_file(
            clear, self.path, recipients=[BrokerKey(self.owner.key)],
            media_type=media_type, name=name, version=1,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ("missing", "cannot be read"),
        ("directory", "cannot be read|is no regular file"),
        ("pipe", "is no regular file"),
        ("loop", "cannot be read"),
        ("empty", ""),
        ("clear", ""),
        ("half_a_head", ""),
        ("of_another_name", "the file is sealed as visits"),
        ("of_another_kind", "sealed as application/onnx, not as text/csv"),
    ],
)
def test_what_lies_in_the_place_of_a_table(owner: Owner, lie: str, said: str) -> None:
    wanted = plan(owner)
    getattr(Lying(owner), lie)()
    with pytest.raises(WardianError, match=f"{A}, table table-of-{A}: .*({said})") as caught:
        refuse_unready(wanted, places(owner))
    assert isinstance(caught.value, ConfigError | FormatError)


def test_a_table_that_the_host_names_no_place_of(tmp_path: Path) -> None:
    owners = [Owner(name, tmp_path, table("x", id=list(range(ROWS)))) for name in (A, B)]
    both = plan_of(owners, [["x"], ["x"]], "logistic-regression")
    refuse_unready(both, places(*owners))
    with pytest.raises(ConfigError, match=f"where does table {B}/table-of-{B} lie"):
        refuse_unready(both, places(owners[0]))
