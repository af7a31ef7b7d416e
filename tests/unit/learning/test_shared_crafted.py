"""An owner whose columns are joined to others' makes them up, to read labels and who is there."""

import csv
import importlib.util
import io

import numpy as np
import pytest
from shared_world import A, B, Owner, csv_text, opened, plan_of, run, trained

from wardian.errors import PolicyDenied
from wardian.learning.shared.trainers.spread import Spread

COHORT = 20
CHANCE = np.random.default_rng(8)
SICK = CHANCE.integers(0, 2, 200)
X = CHANCE.normal(size=200)
ONE = frozenset({A})
LEARNT = ["linear-regression", "logistic-regression", "perceptron", "dense-network"]


def world(folder, theirs: dict, *, mine=range(200), **changes) -> list[Owner]:
    """A has these of 200 patients; B says something of all of these, and of a hundred others."""
    folder.mkdir(exist_ok=True)
    own = list(mine)
    a = {"id": [f"p{at}" for at in own], "x": X[: len(own)], "y": SICK[: len(own)], **changes}
    b = {"id": [f"p{at}" for at in range(300)], **theirs}
    return [Owner(A, folder, csv_text(a)), Owner(B, folder, csv_text(b))]


def one_of(row: int) -> list[int]:
    return [int(at == row) for at in range(300)]


@pytest.mark.parametrize("algorithm", LEARNT)
def test_a_column_that_one_row_makes_is_not_learnt_from(tmp_path, algorithm) -> None:
    """Its coefficient was that patient's label; and the refusal does not say who is there."""
    if algorithm == "dense-network" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    said = set()
    for row in (7, 250):  # of A's patients, and of nobody's
        owners = world(tmp_path / str(row), {"z": list(range(300)), "one": one_of(row)})
        plan = plan_of(owners, [["x"], ["z", "one"]], algorithm)
        with pytest.raises(PolicyDenied) as refused:
            run(plan, owners, smallest_cohort=COHORT)
        assert refused.value.rule == "cohort-small"
        said.add(str(refused.value))
    assert said == {"too few rows stand behind a number"}
    run(plan_of(owners, [["x"], ["z"]], algorithm), owners, smallest_cohort=COHORT)


def test_a_label_that_one_row_makes_is_not_learnt(tmp_path) -> None:
    """Coefficients were what the other owner knows of that patient."""
    owners = world(tmp_path / "a", {"z": list(range(300))}, y=one_of(7)[:200])
    with pytest.raises(PolicyDenied, match="^too few rows stand behind a number$"):
        run(plan_of(owners, [["x"], ["z"]], "linear-regression"), owners, smallest_cohort=COHORT)


def test_a_rare_category_that_nobody_made_up_is_refused_and_named(tmp_path) -> None:
    for rare, passes in ((19, False), (20, True), (181, False), (180, True), (0, True)):
        (tmp_path / str(rare)).mkdir()
        columns = {"rare": [int(at < rare) for at in range(200)], "x": X, "y": SICK}
        owner = Owner(A, tmp_path / str(rare), csv_text(columns))
        plan = plan_of([owner], [["rare", "x"]], "linear-regression")
        if passes:
            run(plan, [owner], smallest_cohort=COHORT)
        else:
            with pytest.raises(PolicyDenied, match="column rare: too few"):
                run(plan, [owner], smallest_cohort=COHORT)


def test_another_owner_fills_no_column_up_that_few_rows_make(tmp_path) -> None:
    mine = {"c": [int(at < 3) for at in range(200)], "x": X, "y": SICK}
    theirs = {"c": [at % 2 for at in range(200)], "x": X, "y": SICK}
    owners = [Owner(A, tmp_path, csv_text(mine)), Owner(B, tmp_path, csv_text(theirs))]
    plan = plan_of(owners, [["c", "x"]] * 2, "linear-regression", kind="stack")
    with pytest.raises(PolicyDenied, match="column c: too few"):
        run(plan, owners, smallest_cohort=COHORT)
    (tmp_path / "x").mkdir()
    where = [Owner(A, tmp_path / "x", csv_text(mine | {"c": [1] * 200})), owners[1]]
    plan = plan_of(where, [["c", "x"]] * 2, "linear-regression", kind="stack")
    run(plan, where, smallest_cohort=COHORT)  # which hospital it was asks about nobody


def told(owners: list[Owner], columns: list[list[str]], **parameters) -> dict[str, dict[str, str]]:
    plan = plan_of(owners, columns, "statistics", label=None, parameters=parameters)
    raw = opened(run(plan, owners, smallest_cohort=COHORT).held, "aggregates", B)
    assert raw is not None
    return {row["column"]: row for row in csv.DictReader(io.StringIO(raw.decode()))}


@pytest.mark.parametrize("by", ["", "ward"])
def test_counts_and_means_of_crafted_columns_do_not_say_who_is_there(tmp_path, by) -> None:
    if by and not all(importlib.util.find_spec(name) for name in ("duckdb", "pyarrow")):
        pytest.skip("the extra `shared` is not installed: `make shared`")
    theirs = {"one": one_of(7), "none": one_of(250), "z": [at % 7 for at in range(300)]}
    if by:
        theirs["ward"] = ["north", "south"] * 150
    owners = world(tmp_path / "a", theirs)
    found = told(owners, [["x"], list(theirs)], by=by)
    assert set(found) == {"x", "z"}
    for row in found.values():
        assert all(
            float(row[each]) == float(f"{float(row[each]):.5e}") for each in ("mean", "deviation")
        )


def test_a_column_that_one_row_makes_is_not_told_under_the_name_of_another(tmp_path) -> None:
    """To SQL `Z` is `z`: the mean of each group said in which of them that patient is, and so who."""
    if not all(importlib.util.find_spec(name) for name in ("duckdb", "pyarrow")):
        pytest.skip("the extra `shared` is not installed: `make shared`")
    numbers = [at % 7 for at in range(300)]
    found = []
    for row in (7, 8):  # who is in the south, and in the north
        theirs = {"Z": one_of(row), "z": numbers, "X": numbers, "WARD": numbers}
        owners = world(tmp_path / str(row), theirs, ward=["north", "south"] * 100)
        found.append(told(owners, [["x", "ward"], list(theirs)], by="ward"))
    assert found[0] == found[1]
    assert set(found[0]) == {"x", "X", "z", "WARD"}
    assert found[0]["z"] == {**found[0]["X"], "column": "z"}
    assert found[0]["z"] == {**found[0]["WARD"], "column": "z"}
    assert abs(float(found[0]["z"]["mean"]) - 3) < 0.2


@pytest.mark.parametrize(
    "algorithm", ["linear-regression", "logistic-regression", "perceptron", "k-means"]
)
def test_huge_numbers_of_one_owner_leave_no_few_rows_of_another_s(tmp_path, algorithm) -> None:
    """On the grid of such a column all of B's are one, but for who is above 64: the coefficient was
    the label of that one."""
    rows = {"x": [*CHANCE.integers(20, 60, 199), 97], "w": X}
    label = "y" if algorithm != "k-means" else None
    for power, passes in ((56, False), (30, False), (24, True)):
        (place := tmp_path / str(power)).mkdir()
        mine = {"x": [2.0**power, -(2.0**power)] * 100, "w": X, "y": SICK}
        owners = [
            Owner(A, place, csv_text(mine)),
            Owner(B, place, csv_text({**rows, "y": SICK})),
        ]
        plan = plan_of(owners, [["x", "w"]] * 2, algorithm, kind="stack", label=label)
        if passes:
            run(plan, owners, smallest_cohort=COHORT)
        else:
            with pytest.raises(PolicyDenied, match="^column x: too few rows"):
                run(plan, owners, smallest_cohort=COHORT)
        run(plan, owners, smallest_cohort=1)  # then nothing is asked


def test_nor_of_a_label(tmp_path) -> None:
    tall = {"x": X, "y": [2.0**56, -(2.0**56)] * 100}
    owners = [Owner(A, tmp_path, csv_text(tall)), Owner(B, tmp_path, csv_text({"x": X, "y": X}))]
    plan = plan_of(owners, [["x"]] * 2, "linear-regression", kind="stack")
    with pytest.raises(PolicyDenied, match="^the label: too few rows"):
        run(plan, owners, smallest_cohort=COHORT)


BISECTED = {  # what A has, for what two tables of B reach from and to
    "how far it reaches": ([2.0**20 * 78, 2.0**20 * 126, 2.0**27], -1, ((20, 97), (20, 99))),
    "where it begins": ([2.0**20 * 77 + 20.5, 2.0**27 + 20.5], 1, ((20, 97), (21, 98))),
    "where it ends": ([-(2.0**20) * 77 + 97.5, -(2.0**27) + 97.5], 1, ((20, 97), (21, 98))),
}


@pytest.mark.parametrize("asked", BISECTED)
@pytest.mark.parametrize("algorithm", ["linear-regression", "statistics"])
def test_where_another_s_column_ends_is_told_by_no_run(tmp_path, algorithm, asked) -> None:
    """Each end is one row. By one number after another of A's, runs told it to a digit."""
    label = "y" if algorithm != "statistics" else None
    numbers, sign, versions = BISECTED[asked]
    for number in numbers:
        ended = set()
        for least, most in versions:
            (place := tmp_path / f"{number} {most}").mkdir()
            mine = {"x": [number / 2, sign * number / 2] * 100, "w": X, "y": SICK}
            if sign > 0:
                mine["x"] = [number] * 200
            theirs = {"x": [least, *CHANCE.integers(30, 60, 198), most], "w": X, "y": SICK}
            owners = [Owner(A, place, csv_text(mine)), Owner(B, place, csv_text(theirs))]
            plan = plan_of(owners, [["x", "w"]] * 2, algorithm, kind="stack", label=label)
            try:
                held = run(plan, owners, smallest_cohort=COHORT).held
            except PolicyDenied as err:
                ended.add(str(err))
            else:
                told = "" if label else opened(held, "aggregates", B).decode()
                ended.add("\nx," in told)
        assert len(ended) == 1, number


@pytest.mark.parametrize("by", ["", "ward"])
def test_nor_are_they_counted_by_a_mean(tmp_path, by) -> None:
    if by and not all(importlib.util.find_spec(name) for name in ("duckdb", "pyarrow")):
        pytest.skip("the extra `shared` is not installed: `make shared`")
    tall = {"x": [2.0**47, -(2.0**47)] * 100, "w": [3] * 200}
    rows = {"x": [*CHANCE.integers(0, 5, 199), 97], "w": X}
    wards = {"ward": ["north", "south"] * 100} if by else {}
    owners = [
        Owner(A, tmp_path, csv_text({**tall, **wards})),
        Owner(B, tmp_path, csv_text({**rows, **wards})),
    ]
    columns = ["x", "w", *wards]
    plan = plan_of(
        owners, [columns] * 2, "statistics", kind="stack", label=None, parameters={"by": by}
    )
    raw = opened(run(plan, owners, smallest_cohort=COHORT).held, "aggregates", B)
    assert raw is not None
    assert {row["column"] for row in csv.DictReader(io.StringIO(raw.decode()))} == {"w"}


def test_a_sum_that_every_set_of_rows_has_another_of_is_told_to_six_digits(tmp_path) -> None:
    """Exact means of 2**k said of each identifier whether it is in the other table."""
    powers = [2.0 ** (at % 50) for at in range(300)]
    rows = []
    for left_out in (200, 201):  # 2**0 or 2**1 is missing in the sum
        mine = [at for at in range(202) if at != left_out][1:]
        owners = world(tmp_path / str(left_out), {"c": powers}, mine=mine[:200])
        rows.append(told(owners, [["x"], ["c"]])["c"])
    assert rows[0] == rows[1]
    assert rows[0]["rows"] == "200"


def test_how_many_rows_lack_a_value_does_not_come_back_from_a_mean(tmp_path) -> None:
    """Of 1,000 rows only a count of 996 made the sum of whole numbers whole."""
    values = ["" if at < 4 else int(each) for at, each in enumerate(CHANCE.integers(0, 90, 1000))]
    (tmp_path / "a").mkdir()
    owner = Owner(B, tmp_path / "a", csv_text({"few": values, "x": range(1000)}))
    assert set(told([owner], [["few", "x"]])) == {"x"}


def test_models_keep_all_their_digits() -> None:
    data = np.random.default_rng(1).normal(size=(300, 2)) * 1e6 + 1
    found = trained("linear-regression", data, data @ [1.0, 2.0], {"l2": 0.0})
    assert found.metrics is not None
    assert found.metrics["root_mean_square_error"] < 1e-6


@pytest.mark.parametrize("cut", [1, 700, 1500])
def test_rows_are_counted_alike_however_they_come(cut: int) -> None:
    few = np.zeros(3000)
    few[[5, 1100, 2900]] = [1.0, 2.0, -0.0]
    missing = few.copy()
    missing[10:2000] = np.nan
    wide = np.arange(3000.0)
    half = np.array([0.0, 1.0] * 1500)
    late = np.where(np.arange(3000) < 2980, 4.0, wide)
    for values, narrow in (
        (few, True),
        (missing, True),
        (wide, False),
        (half, False),
        (late, False),
    ):
        spread = Spread(1, (ONE,), COHORT)
        for piece in np.split(values, range(cut, 3000, cut)):
            spread.add(0, 0, piece)
        assert spread.narrow(label=True) == (frozenset({0}) if narrow else frozenset())
        apart = Spread(1, (ONE, ONE), COHORT)
        apart.add(0, 0, values)
        apart.add(0, 1, wide)
        assert apart.narrow(label=True) == (frozenset({0}) if narrow else frozenset())


def test_no_more_values_are_held_than_a_cohort_has() -> None:
    spread = Spread(1, (ONE,), 100)
    for at in range(50):
        spread.add(0, 0, np.append(np.zeros(5000), at + 1.0))
    assert len(spread._counts[0, 0]) == 51
    spread.add(0, 0, np.arange(5000.0))
    assert (0, 0) not in spread._counts
