"""An owner makes one of its rows unusable, to see by the job's end whether others have that person."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_world import A, B, Owner, csv_text, plan_of, run

from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.trainers import TRAINERS
from wardian.crypto.secret import Secret
from wardian.errors import FormatError, PolicyDenied, WardianError
from wardian.learning.shared.sound import MOST_GROUPS

ROWS = 60
PRIVACY: dict[str, Any] = {"privacy": {"epsilon": 1.0, "delta": 1e-6}, "seed": None}
NOISED: dict[str, Any] = {"epsilon": 1.0, "delta": 1e-5, "without_noise": None}
SPOILT = [
    ("logistic-regression", "x", "", "column x: a value is missing"),
    ("logistic-regression", "y", "", "a row has no label"),
    ("logistic-regression", "y", "0.5", "classes are whole numbers"),
    ("logistic-regression", "x", "1e200", "column x: a number is larger"),
    ("perceptron", "x", "", "column x: a value is missing"),
    ("linear-regression", "y", "-1e200", "the label: a number is larger"),
    ("linear-regression", "x", "", "column x: a value is missing"),
    ("k-means", "x", "", "column x: a value is missing"),
    ("random-forest", "x", "1e200", "column x: a number is larger"),
    ("random-forest", "y", "3e9", "classes are whole numbers"),
    ("xgboost", "x", "-1e39", "column x: a number is larger"),
    ("statistics", "x", "1e200", "column x: a number is larger"),
]


def needs(algorithm: str) -> None:
    found = {"perceptron": "sklearn", "k-means": "sklearn", "random-forest": "sklearn"}
    module = found.get(algorithm, algorithm if algorithm == "xgboost" else "numpy")
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install 'wardian[shared]'")


def world(place: Path, column: str, value: str, *, there: bool) -> list[Owner]:
    """Return A, whose row of the victim is spoilt, and B, who has the victim or has not."""
    place.mkdir()
    chance = np.random.default_rng(1)
    ids = [f"p{at}" for at in range(ROWS)]
    mine: dict[str, list[Any]] = {
        "id": [*ids, "victim"],
        "x": [*chance.normal(size=ROWS), 0.5],
        "y": [*([0, 1] * (ROWS // 2)), 1],
    }
    mine[column][-1] = value
    theirs = [*ids, "victim"] if there else ids
    return [
        Owner(A, place, csv_text(mine)),
        Owner(B, place, csv_text({"id": theirs, "z": chance.normal(size=len(theirs))})),
    ]


def said(owners: Sequence[Owner], algorithm: str, *, noised: bool = False) -> str:
    label = "y" if TRAINERS[algorithm].labelled else None
    changes = PRIVACY if noised else {}
    plan = plan_of(owners, [["x"], ["z"]], algorithm, label=label, **changes)
    with pytest.raises(WardianError) as caught:
        run(plan, owners, **(NOISED if noised else {}))
    assert type(caught.value) is FormatError
    return str(caught.value)


def outcomes(plan: JobPlan, owners: Sequence[Owner], **terms: Any) -> set[str]:
    """Return how a job ends under different noise: `told`, or by which rule."""
    found = set()
    for seed in range(12):
        given = {"seed": Secret(bytes([seed]) * 32), "smallest_cohort": 1, **NOISED, **terms}
        try:
            run(plan, owners, **given)
        except PolicyDenied as err:
            found.add(err.rule)
        else:
            found.add("told")
    return found


@pytest.mark.parametrize(("algorithm", "column", "value", "words"), SPOILT)
def test_a_spoilt_row_says_nothing_of_who_else_has_it(
    tmp_path, algorithm: str, column: str, value: str, words: str
) -> None:
    needs(algorithm)
    found = {
        said(world(tmp_path / str(there), column, value, there=there), algorithm)
        for there in (True, False)
    }
    (one,) = found
    assert words in one
    assert one.startswith(f"{A}, table table-of-{A}: ")


@pytest.mark.parametrize(("column", "value"), [("x", ""), ("y", ""), ("y", "2"), ("x", "1e99")])
def test_nor_where_noise_is_made(tmp_path, column: str, value: str) -> None:
    for there in (True, False):
        owners = world(tmp_path / str(there), column, value, there=there)
        assert said(owners, "logistic-regression", noised=True).startswith(f"{A}, table")


@pytest.mark.parametrize("algorithm", ["random-forest", "xgboost", "statistics"])
def test_who_takes_rows_that_lack_a_value_takes_them(tmp_path, algorithm: str) -> None:
    needs(algorithm)
    owners = world(tmp_path / "x", "x", "", there=True)
    label = "y" if TRAINERS[algorithm].labelled else None
    small = {"trees": 2, "depth": 2} if TRAINERS[algorithm].labelled else {}
    run(plan_of(owners, [["x"], ["z"]], algorithm, label=label, parameters=small), owners)


@pytest.mark.parametrize("algorithm", ["statistics", "logistic-regression"])
@pytest.mark.parametrize("rows", [9, 10])
def test_with_noise_a_join_is_as_large_as_its_noised_count(tmp_path, algorithm, rows) -> None:
    """Counted exactly, a join that is full but for one person would say whether that one is there."""
    ids = [f"p{at}" for at in range(rows)]
    label = "y" if TRAINERS[algorithm].labelled else None
    small = {"max_iterations": 1} if TRAINERS[algorithm].labelled else {}
    owners = [
        Owner(A, tmp_path, csv_text({"id": ids, "x": range(rows), "y": ([0, 1] * rows)[:rows]})),
        Owner(B, tmp_path, csv_text({"id": [*ids, "p99"], "z": range(rows + 1)})),
    ]
    plan = plan_of(
        owners, [["x"], ["z"]], algorithm, label=label, parameters=small,
        outputs={"aggregates" if label is None else "model": [A]}, **PRIVACY,
    )  # fmt: skip
    assert outcomes(plan, owners) == {"told", "join-small"}


def test_with_noise_a_join_of_nobody_is_no_failure(tmp_path) -> None:
    owners = [
        Owner(A, tmp_path, csv_text({"id": ["a", "b"], "x": [1, 2], "y": [0, 1]})),
        Owner(B, tmp_path, csv_text({"id": ["c", "d"], "z": [1, 2]})),
    ]
    for algorithm, small in (("statistics", {}), ("logistic-regression", {"max_iterations": 1})):
        label = "y" if TRAINERS[algorithm].labelled else None
        plan = plan_of(
            owners, [["x"], ["z"]], algorithm, label=label, parameters=small,
            outputs={"aggregates" if label is None else "model": [A]}, **PRIVACY,
        )  # fmt: skip
        assert outcomes(plan, owners, smallest_join=1) == {"told", "join-small"}


def ended(place: Path, label: Sequence[int], there: Sequence[int], algorithm: str) -> str:
    """Return how a job over A's rows, with this label, and those that B has ends."""
    place.mkdir(parents=True)
    chance = np.random.default_rng(1)
    mine = {"id": [f"p{at}" for at in range(ROWS)], "x": chance.normal(size=ROWS), "y": label}
    theirs = {"id": [f"p{at}" for at in there], "z": chance.normal(size=len(there))}
    owners = [Owner(A, place, csv_text(mine)), Owner(B, place, csv_text(theirs))]
    small = {"trees": 2} if "trees" in TRAINERS[algorithm].parameters else {}
    try:
        run(plan_of(owners, [["x"], ["z"]], algorithm, parameters=small), owners)
    except WardianError as err:
        return f"{type(err).__name__}: {err}"
    return "told"


@pytest.mark.parametrize("algorithm", ["logistic-regression", "random-forest", "perceptron"])
@pytest.mark.parametrize("others", [0, 1])
def test_a_class_of_one_row_says_nothing_of_who_else_has_it(tmp_path, algorithm, others) -> None:
    needs(algorithm)
    label = [2, *(others * (at % 2) for at in range(1, ROWS))]
    found = {
        ended(tmp_path / str(first), label, range(first, ROWS), algorithm)
        for first in (0, 1)  # B has the one whose class it is, or has not
    }
    assert found == {
        f"PolicyDenied: {A}, table table-of-{A}: the label: too few rows have a class, or all have one"
    }


@pytest.mark.parametrize("algorithm", ["logistic-regression", "random-forest"])
def test_a_class_of_no_row_of_a_join_is_refused_as_one_of_too_few(tmp_path, algorithm) -> None:
    needs(algorithm)
    label = [int(at < 5) for at in range(ROWS)]  # a cohort
    found = [
        ended(tmp_path / str(first), label, range(first, ROWS), algorithm) for first in range(6)
    ]
    assert found[0] == "told"
    assert set(found[1:]) == {"PolicyDenied: too few rows stand behind a number"}


@pytest.mark.parametrize("algorithm", ["logistic-regression", "perceptron"])
def test_that_nobody_has_a_class_is_not_told_apart_from_that_too_few_have(
    tmp_path, algorithm
) -> None:
    """Whoever wrote the plan reads what is wrong with another's label."""
    needs(algorithm)
    said_ = set()
    for few in range(5):
        label = [int(at < few) for at in range(ROWS)]
        for first in (0, 1):
            place = tmp_path / f"{few}-{first}"
            said_.add(ended(place, label, range(first, ROWS), algorithm))
    (one,) = said_
    assert one.endswith("the label: too few rows have a class, or all have one")


def test_classes_of_an_owner_s_stacked_tables_are_counted_together(tmp_path) -> None:
    """Three rows of a class in each of two tables are a cohort of six, held in memory or not."""
    needs("perceptron")
    chance = np.random.default_rng(1)
    owners = []
    for name in ("one", "two"):
        label = [int(at < 3) for at in range(ROWS)]
        content = csv_text({"x": chance.normal(size=ROWS), "y": label})
        (tmp_path / name).mkdir()
        owners.append(Owner(A, tmp_path / name, content, table=name))
    for algorithm, small in (("perceptron", {"epochs": 1}), ("logistic-regression", {})):
        plan = plan_of(
            owners, [["x"]] * 2, algorithm, kind="stack", parameters=small, outputs={"model": [A]}
        )
        run(plan, owners)


def test_groups_without_end_say_nothing_of_who_else_has_a_row(tmp_path) -> None:
    """The last group is the one too many: it was counted where another owner had its row."""
    for module in ("duckdb", "pyarrow"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'wardian[shared]'")
    rows = MOST_GROUPS + 1
    ids = [f"p{at}" for at in range(rows)]
    found = set()
    for there in (rows, rows - 1):
        owners = [
            Owner(A, tmp_path, csv_text({"id": ids, "x": range(rows), "ward": ids})),
            Owner(B, tmp_path, csv_text({"id": ids[:there], "z": range(there)})),
        ]
        plan = plan_of(
            owners, [["x", "ward"], ["z"]], "statistics", label=None, parameters={"by": "ward"}
        )
        with pytest.raises(FormatError) as caught:
            run(plan, owners, smallest_cohort=1)
        found.add(str(caught.value))
    assert found == {f"{A}, table table-of-{A}: column ward: more than 10000 groups"}


@pytest.mark.parametrize("algorithm", ["logistic-regression", "random-forest", "xgboost"])
def test_a_class_that_the_join_takes_away_is_refused_as_one_of_too_few(tmp_path, algorithm) -> None:
    """A gives the victim, and four whom nobody has, a third class: too few in the join, or none."""
    needs(algorithm)
    said = set()
    for there in (True, False):
        place = tmp_path / str(there)
        place.mkdir()
        ids, made_up = [f"p{at}" for at in range(ROWS)], [f"q{at}" for at in range(4)]
        label = [*([0, 1] * (ROWS // 2)), 2, 2, 2, 2, 2]
        mine = {"id": [*ids, "victim", *made_up], "x": range(len(label)), "y": label}
        theirs = [*ids, "victim"] if there else ids
        owners = [
            Owner(A, place, csv_text(mine)),
            Owner(B, place, csv_text({"id": theirs, "z": range(len(theirs))})),
        ]
        small = {"trees": 2} if "trees" in TRAINERS[algorithm].parameters else {}
        plan = plan_of(owners, [["x"], ["z"]], algorithm, parameters=small)
        for more in ({}, {"smallest_join": 1000}):
            with pytest.raises(PolicyDenied) as caught:
                run(plan, owners, **more)
            said.add((caught.value.rule, str(caught.value)))
    assert {rule for rule, _ in said} == {"cohort-small", "join-small"}
    assert len(said) == 2


def test_rows_are_counted_by_a_number_of_their_own_where_noise_is_made(tmp_path) -> None:
    """Of each column less than half have a value: the join is as large all the same."""
    rows = 200
    ids = [f"p{at}" for at in range(rows)]
    columns = {f"x{at}": [1 if row % 4 == at else "" for row in range(rows)] for at in range(4)}
    owners = [
        Owner(A, tmp_path, csv_text({"id": ids, **columns})),
        Owner(B, tmp_path, csv_text({"id": ids, "z": [1, *[""] * (rows - 1)]})),
    ]
    plan = plan_of(
        owners, [list(columns), ["z"]], "statistics", label=None,
        privacy={"epsilon": 8.0, "delta": 1e-6}, seed=None,
    )  # fmt: skip
    given = {"epsilon": 8.0, "delta": 1e-5, "without_noise": None}
    assert run(plan, owners, smallest_join=120, smallest_cohort=1, **given)
    with pytest.raises(PolicyDenied) as caught:
        run(plan, owners, smallest_join=300, smallest_cohort=1, **given)
    assert caught.value.rule == "join-small"
