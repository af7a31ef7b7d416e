"""A cohort of each owner, and that one of a single row asks for nothing (ADR 44)."""

import importlib.util

import numpy as np
import pytest
from shared_world import A, B, Owner, csv_text, opened, plan_of, run

from wardian.broker.jobs.merge import OutputTerms
from wardian.errors import FormatError, PolicyDenied
from wardian.learning.shared.cohort import drowned, few, refuse_classes, refuse_small, stands

GROUPS = all(importlib.util.find_spec(name) for name in ("duckdb", "pyarrow"))


def terms(cohort: int) -> OutputTerms:
    nobody: frozenset = frozenset()
    return OutputTerms(
        model=nobody, metrics=nobody, aggregates=nobody, serving=nobody, approvals=nobody,
        smallest_join=1, smallest_cohort=cohort, epsilon=None, delta=None,
    )  # fmt: skip


ROWS = [[0, 0], [0, 1], [4, 5], [5, 5], [0, 50], [5, 4]]


@pytest.mark.parametrize(
    ("cohort", "stand", "are_few"),
    [
        (1, [False, True, True, True, True, True], [False] * 6),
        (5, [False, False, False, True, False, False], [False, True, True, False, False, True]),
    ],
)
def test_what_stands_on_enough_rows_of_each(cohort, stand, are_few) -> None:
    assert stands(terms(cohort), ROWS).tolist() == stand
    assert few(terms(cohort), ROWS).any(axis=-1).tolist() == are_few
    for at, rows in enumerate(ROWS):
        classes = [rows, [9, 9]]
        for refuse, asked, refused in (
            (refuse_small, rows, not stand[at]),
            (refuse_classes, classes, are_few[at]),
        ):
            if not refused:
                refuse(terms(cohort), asked)
                continue
            with pytest.raises(PolicyDenied) as caught:
                refuse(terms(cohort), asked)
            assert caught.value.rule == "cohort-small"


def test_one_class_alone_is_as_one_of_too_few() -> None:
    said = set()
    for classes in ([[20, 20]], [[20, 20], [3, 0]]):
        with pytest.raises(PolicyDenied) as caught:
            refuse_classes(terms(5), classes, "a label")
        said.add(str(caught.value))
    assert said == {"a label: too few rows have a class, or all have one"}
    with pytest.raises(FormatError, match="^a label: one class alone$"):
        refuse_classes(terms(1), [[20, 20]], "a label")
    refuse_classes(terms(5), [[20, 20]], least=1)


def test_of_nothing_there_is_nothing_to_refuse() -> None:
    none = np.zeros((0, 2), int)
    assert stands(terms(1), none).tolist() == []
    refuse_small(terms(5), none)
    refuse_classes(terms(5), none, least=0)


@pytest.mark.skipif(
    not GROUPS, reason="pyarrow or duckdb is not installed: pip install 'wardian[shared]'"
)
@pytest.mark.parametrize("cohort", [1, 2])
def test_a_cohort_of_one_asks_no_owner_for_rows(tmp_path, cohort) -> None:
    """Each group is of one hospital: who is content with one row has both of them told."""
    tables = {A: (["north"] * 9, [4] * 9), B: (["south"] * 8, [""] * 8)}
    owners = [
        Owner(name, tmp_path, csv_text({"ward": ward, "cost": cost, "days": range(len(ward))}))
        for name, (ward, cost) in tables.items()
    ]
    columns = ["ward", "cost", "days"]
    plan = plan_of(
        owners, [columns] * 2, "statistics", kind="stack", label=None, parameters={"by": "ward"}
    )
    raw = opened(run(plan, owners, smallest_cohort=cohort).held, "aggregates", A)
    assert raw is not None
    told = {tuple(line.split(",")[:3]) for line in raw.decode().splitlines()[1:]}
    every = {("north", "cost", "9"), ("north", "days", "9"), ("south", "days", "8")}
    assert told == (every if cohort == 1 else set())


@pytest.mark.parametrize(
    ("ends", "is_drowned"),
    [  # of each owner, from and to; the second one's are a person's age
        ([(-(2.0**27), 2.0**27), (20, 97)], True),
        ([(-(2.0**24), 2.0**24), (20, 97)], False),
        ([(2.0**40, 2.0**40), (20, 97)], True),
        ([(2.0**40, 2.0**40), (20, 20)], False),
        ([(-8e307, 8e307), (20, 97)], True),
        ([(0, 5e-324), (-(2.0**27), 2.0**27), (20, 97)], True),
        ([(np.inf, -np.inf), (20, 97)], False),  # no values at all
        ([(20, 97)], False),
        ([(0, np.inf), (20, 97)], False),  # no trainer takes that
    ],
)
def test_numbers_of_any_size_drown_a_column_or_do_not(ends, is_drowned) -> None:
    lowest, highest = np.array([ends], np.float64).transpose(2, 0, 1)
    assert drowned(lowest, highest).tolist() == [is_drowned]
