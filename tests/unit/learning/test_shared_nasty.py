"""A party's table that is made to break a trainer, or to have it say what is in others' tables.

Whatever stands in a table, a job ends with what it made or with an error of Wardian's, and no error
has a value of it.
"""

import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_world import A, B, Owner, csv_text, plan_of, run

from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.trainers import TRAINERS
from wardian.errors import WardianError
from wardian.learning.shared import running

ROWS = 40
CANARY = "CANARY-3141592653"
NUMBER = 31415926535.5
SICK = [row % 2 for row in range(ROWS)]
SMALL = {
    "trees": 2, "epochs": 2, "hidden": 2, "max_iterations": 5, "min_leaf_rows": 5, "depth": 2,
    "layers": 1, "clusters": 2,
}  # fmt: skip
NASTY: dict[str, Callable[[], dict[str, list[Any]]]] = {
    "texts": lambda: {"x": [CANARY] * ROWS},
    "one text": lambda: {"x": [*range(ROWS - 1), CANARY]},
    "missing": lambda: {"x": [NUMBER, *[""] * (ROWS - 1)]},
    "all missing": lambda: {"x": [""] * ROWS},
    "largest": lambda: {"x": [(-1) ** row * 1.7e308 for row in range(ROWS)]},
    "largest, one sign": lambda: {"x": [1.7e308] * ROWS},
    "past the largest": lambda: {"x": ["1e400", *range(ROWS - 1)]},
    "smallest": lambda: {"x": [5e-324, *[0.0] * (ROWS - 1)]},
    "constant": lambda: {"x": [NUMBER] * ROWS},
    "one large among small": lambda: {"x": [1e300, *[1e-300] * (ROWS - 1)]},
    "wide 32 bits": lambda: {"x": [3.5e38 * row for row in range(ROWS)]},
    "nothing, and the largest": lambda: {"x": [0.0, *[1.7e308] * (ROWS - 1)]},
    "large where it is kept": lambda: {"x": [1.45e154 * (-1) ** row for row in range(ROWS)]},
    "infinite": lambda: {"x": ["inf"] * ROWS},
    "not a number": lambda: {"x": ["nan"] * ROWS},
    "labels as texts": lambda: {"y": [CANARY] * ROWS},
    "labels missing": lambda: {"y": [""] * ROWS},
    "one class": lambda: {"y": [1] * ROWS},
    "a class for each": lambda: {"y": list(range(ROWS))},
    "fractions as labels": lambda: {"y": [row + 0.5 for row in range(ROWS)]},
    "labels past 32 bits": lambda: {"y": [NUMBER * 10 + row % 2 for row in range(ROWS)]},
    "labels as large as can be": lambda: {"y": [1.7e308 * (row % 2) for row in range(ROWS)]},
    "negative labels": lambda: {"y": [-(row % 2) for row in range(ROWS)]},
    "identifiers twice": lambda: {"id": [CANARY] * ROWS},
    "no identifiers": lambda: {"id": [""] * ROWS},
    "long identifiers": lambda: {"id": [CANARY * 3000 + str(row) for row in range(ROWS)]},
    "one row": lambda: {"id": ["p0"], "x": [1.0], "y": [1]},
    "two rows": lambda: {"id": ["p0", "p1"], "x": [1.0, NUMBER], "y": [0, 1]},
}


def table(**changes: list[Any]) -> bytes:
    ids = [f"p{row}" for row in range(ROWS)]
    return csv_text({"id": ids, "x": [float(row) for row in range(ROWS)], "y": SICK, **changes})


def tried(plan: JobPlan, owners: list[Owner], **output: Any) -> WardianError | None:
    """Run a job; return why it was refused. A warning is none that a user sees: it is ignored."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            run(plan, owners, smallest_join=1, smallest_cohort=1, **output)
        except WardianError as err:
            return err
    return None


def says_nothing(refused: WardianError | None, what: str) -> None:
    """Demand that no value of a table is in what was said, nor in what is chained to it."""
    if refused is None:
        return
    whole = "".join(traceback.format_exception(refused))
    assert len(str(refused)) < 500, what
    assert (CANARY in whole, "31415926" in str(refused)) == (False, False), what


def each_nasty(
    place: Path, plan: Callable[[list[Owner]], JobPlan], *more: bytes, **output: Any
) -> None:
    """Run the job with A's table made nasty in every way, and `more` owners' as they are."""
    for at, (what, changes) in enumerate(NASTY.items()):
        folder = place / str(at)
        folder.mkdir()
        others = [Owner(name, folder, each) for name, each in zip((B,), more, strict=False)]
        owners = [Owner(A, folder, table(**changes())), *others]
        try:
            refused = tried(plan(owners), owners, **output)
        except Exception as err:
            raise AssertionError(f"{what}: {type(err).__name__}: {err}") from err
        says_nothing(refused, what)


def small(algorithm: str) -> dict[str, Any]:
    return {key: each for key, each in SMALL.items() if key in TRAINERS[algorithm].parameters}


@pytest.mark.parametrize("kind", ["inner", "stack"])
@pytest.mark.parametrize("algorithm", sorted(TRAINERS))
def test_a_table_that_is_made_to_break_a_job(tmp_path: Path, algorithm: str, kind: str) -> None:
    if algorithm == "dense-network":
        pytest.importorskip("torch", reason="torch is not installed")
    if algorithm == "xgboost":
        pytest.importorskip("xgboost", reason="xgboost is not installed")
    trainer, near = TRAINERS[algorithm], [NUMBER + row for row in range(ROWS)]
    inner = csv_text({"id": [f"p{row}" for row in range(ROWS)], "z": near})
    metrics = [A] if kind == "inner" else []
    outputs = {"model": [A], "metrics": metrics} if trainer.learns else {"aggregates": [A]}

    def plan(owners: list[Owner]) -> JobPlan:
        return plan_of(
            owners,
            [["x"], ["z"] if kind == "inner" else ["x"]],
            algorithm,
            kind=kind,
            label="y" if trainer.labelled else None,
            parameters=small(algorithm),
            outputs=outputs,
        )

    each_nasty(tmp_path, plan, inner if kind == "inner" else table(x=near))


@pytest.mark.parametrize("algorithm", sorted(key for key in TRAINERS if TRAINERS[key].private))
def test_with_noise(tmp_path: Path, algorithm: str) -> None:
    learns = TRAINERS[algorithm].learns

    def plan(owners: list[Owner]) -> JobPlan:
        return plan_of(
            owners, [["x"]], algorithm, label="y" if learns else None, parameters=small(algorithm),
            privacy={"epsilon": 1.0, "delta": 1e-6}, seed="derived",
        )  # fmt: skip

    each_nasty(tmp_path, plan)


@pytest.mark.parametrize("nasty", ["x", "g"])
def test_by_group(tmp_path: Path, nasty: str) -> None:
    """What is counted by group, and what the groups are called."""
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    other = {"x": "g", "g": "x"}[nasty]
    for at, (what, changes) in enumerate(NASTY.items()):
        (tmp_path / str(at)).mkdir()
        values = (changes().get("x") or list(range(ROWS)))[:ROWS]
        content = csv_text({nasty: values, other: SICK[: len(values)]})
        owners = [Owner(A, tmp_path / str(at), content)]
        plan = plan_of(owners, [["x", "g"]], "statistics", label=None, parameters={"by": "g"})
        says_nothing(tried(plan, owners), what)


def test_a_library_that_fails_says_where_and_not_what(tmp_path: Path, monkeypatch: Any) -> None:
    def failing(_: Any) -> None:
        raise ArithmeticError(f"cannot add {CANARY}")

    def full(_: Any) -> None:
        raise MemoryError(f"Unable to allocate 1 TiB for an array with shape ({NUMBER},)")

    owners = [Owner(A, tmp_path, table())]
    plan = plan_of(owners, [["x"]], "statistics", label=None)
    for function, told in ((failing, "ArithmeticError"), (full, "not memory enough")):
        monkeypatch.setitem(running.FUNCTIONS, "statistics", function)
        refused = tried(plan, owners)
        assert told in str(refused)
        assert CANARY not in "".join(traceback.format_exception(refused))
        says_nothing(refused, told)
    monkeypatch.setattr(running, "source", lambda *_: full(None))  # before anything is trained
    refused = tried(plan, owners)
    assert "not memory enough" in str(refused)
    says_nothing(refused, "while rows are read")
