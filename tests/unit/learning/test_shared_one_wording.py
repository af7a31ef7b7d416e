"""What an owner of joined rows learns from a job that fails: nothing that its own tables do not say."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_world import A, B, Owner, csv_text, plan_of, run, stack_of

from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.trainers import TRAINERS
from wardian.errors import FormatError, PolicyDenied, WardianError
from wardian.learning.shared import running
from wardian.learning.shared.sound import refuse_many_groups
from wardian.learning.shared.trainers.linear import whole_layers
from wardian.learning.shared.trainers.trained import Task, Trained

IDS = [f"p{at}" for at in range(60)]
NOISED: dict[str, Any] = {"epsilon": 1.0, "delta": 1e-5, "without_noise": None}
TREES: dict[str, Any] = {"trees": 2, "min_leaf_rows": 5}


def need(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'wardian[shared]'")


def small(algorithm: str) -> dict[str, Any]:
    return TREES if "trees" in TRAINERS[algorithm].parameters else {}


def owner(name: str, place: Path, columns: Mapping[str, Sequence[Any]], table: str) -> Owner:
    (place / table).mkdir(parents=True)
    return Owner(name, place / table, csv_text(columns), table=table)


def stacked_below(
    owners: Sequence[Owner], inputs: Sequence[dict[str, Any]], algorithm: str
) -> JobPlan:
    """Return a plan of A's table joined with B's and, below it, another of A's or B's."""
    label = next((each["label"] for each in inputs if "label" in each), None)
    by = {"by": "ward"} if algorithm == "statistics" else small(algorithm)
    return stack_of(owners, inputs, algorithm, label=label, parameters=by)


def ended(plan: JobPlan, owners: Sequence[Owner], **terms: Any) -> str:
    try:
        run(plan, owners, **terms)
    except WardianError as err:
        return f"{type(err).__name__}: {err}"
    return "told"


def of_b(place: Path, there: bool) -> Owner:
    theirs = [*IDS, *(["victim"] if there else [])]
    return owner(B, place, {"id": theirs, "z": range(len(theirs))}, "b")


@pytest.mark.parametrize("algorithm", ["logistic-regression", "random-forest"])
def test_a_class_too_many_by_a_row_of_the_join_is_one_too_many_without_it(
    tmp_path: Path, algorithm: str
) -> None:
    need("sklearn")
    said = set()
    for there in (True, False):
        place, rows = tmp_path / str(there), 1022 * 5
        ids = [*IDS, "victim", *(f"q{at}" for at in range(4))]
        mine = {"id": ids, "x": range(65), "y": [*([0, 1] * 30), *[2] * 5]}
        more = {"x": range(rows), "z": range(rows), "y": [10 + at // 5 for at in range(rows)]}
        owners = [owner(A, place, mine, "a"), of_b(place, there), owner(A, place, more, "more")]
        inputs = [
            {"columns": ["x"], "identifier": "id", "label": "y", "group": "g"},
            {"columns": ["z"], "identifier": "id", "group": "g"},
            {"columns": ["x", "z"], "label": "y"},
        ]
        said.add(ended(stacked_below(owners, inputs, algorithm), owners))
    (one,) = said
    assert one.endswith("table a and hospital-a, table more: the label: more than 1024 classes")


def test_nor_a_group(tmp_path: Path) -> None:
    need("duckdb", "pyarrow")
    said = set()
    for there in (True, False):
        place, rows = tmp_path / str(there), 9_999
        mine = {"id": [*IDS, "victim"], "x": range(61), "ward": [*["w"] * 60, "v"]}
        more = {"x": range(rows), "z": range(rows), "ward": [f"g{at}" for at in range(rows)]}
        owners = [owner(A, place, mine, "a"), of_b(place, there), owner(A, place, more, "more")]
        inputs = [
            {"columns": ["x", "ward"], "identifier": "id", "group": "g"},
            {"columns": ["z"], "identifier": "id", "group": "g"},
            {"columns": ["x", "z", "ward"]},
        ]
        said.add(ended(stacked_below(owners, inputs, "statistics"), owners))
    (one,) = said
    assert one.endswith("table more: column ward: more than 10000 groups")


def test_nor_one_that_another_owner_stacks(tmp_path: Path) -> None:
    """Tables that are stacked are read in passes; each owner has its part of what there may be."""
    need("duckdb", "pyarrow")
    for algorithm, name, most in (
        ("statistics", "ward", "column ward: more than 5000 groups"),
        ("logistic-regression", "y", "the label: more than 512 classes"),
    ):
        said = set()
        for last in (0, 1):
            place = tmp_path / f"{algorithm}-{last}"
            rows = 9_999 if name == "ward" else 1_023
            mine = {"x": range(rows), name: [7 + at for at in range(rows)]}
            theirs = {"x": range(60), name: [*[0] * 59, last]}
            owners = [owner(A, place, mine, "a"), owner(B, place, theirs, "b")]
            inputs = [
                {"columns": ["x", "ward"]} if name == "ward" else {"columns": ["x"], "label": "y"}
            ]
            plan = stacked_below(owners, inputs * 2, algorithm)
            said.add(ended(plan, owners, smallest_cohort=1))
        assert said == {f"FormatError: {most}"}


def test_sums_have_room_before_anything_is_joined() -> None:
    groups = [{str(at) for at in range(2_000)}, {str(at) for at in range(97)}]
    refuse_many_groups(groups, 1_000, "a table", owners=1)
    with pytest.raises(
        FormatError, match="^a table: more than 2097152 sums of groups and columns$"
    ):
        refuse_many_groups([*groups, {"x"}], 1_000, "a table", owners=1)
    with pytest.raises(FormatError, match="more than 1048576 sums"):
        refuse_many_groups(groups, 1_000, "a table", owners=2)


@pytest.mark.parametrize("algorithm", [name for name, each in TRAINERS.items() if each.labelled])
@pytest.mark.parametrize("case", ["a column that nobody else of the join has", "tiny numbers"])
def test_a_column_that_one_row_fills_is_none_without_it(tmp_path: Path, algorithm, case) -> None:
    """Neither is refused, or both: who is there is not said by how a library takes the rest."""
    need("sklearn", *(["xgboost"] if algorithm == "xgboost" else []))
    if algorithm == "dense-network":
        need("torch")
    if case != "tiny numbers" and not TRAINERS[algorithm].missing:
        pytest.skip("this trainer takes no row that lacks a value")
    chance, said = np.random.default_rng(1), set()
    rest = 1e-40 * chance.random(60) if case == "tiny numbers" else [""] * 60
    label = [*([0, 1] * 30), 1]
    epochs = {"epochs": 1} if "epochs" in TRAINERS[algorithm].parameters else {}
    for there in (True, False):
        place = tmp_path / str(there)
        mine = {"id": [*IDS, "victim"], "x": range(61), "h": [*rest, 1], "y": label}
        owners = [owner(A, place, mine, "a"), of_b(place, there)]
        given = {**small(algorithm), **epochs}
        plan = plan_of(owners, [["x", "h"], ["z"]], algorithm, parameters=given)
        said.add(ended(plan, owners))
    assert said == {"told"}


def test_a_model_of_joined_rows_has_no_number_too_large_by_one_row(tmp_path: Path) -> None:
    """A coefficient is a label's reach by a column's: one label makes it more than 32 bits hold."""
    said = set()
    for there in (True, False):
        place = tmp_path / str(there)
        mine = {
            "id": [*IDS, "victim"],
            "x": [1e-20 * (-1) ** at for at in range(60)] + [1e-37],
            "y": [*[0, 1] * 30, 1e37],
        }
        owners = [owner(A, place, mine, "a"), of_b(place, there)]
        plan = plan_of(owners, [["x"], ["z"]], "linear-regression", parameters={"l2": 0.0})
        said.add(ended(plan, owners))
    assert said == {"told"}
    alone = plan_of(owners[:1], [["x"]], "linear-regression", parameters={"l2": 0.0})
    assert ended(alone, owners[:1]).startswith("FormatError: layers: 0 holds what is no finite")


def test_what_is_no_number_of_32_bits_is_one_in_a_model_of_joined_rows_alone() -> None:
    layers = [(np.array([[np.nan, 1e39], [-np.inf, 2.5]]), np.array([np.inf, -1e300]))]
    assert whole_layers(layers, (frozenset({A}), frozenset({B}))) is layers
    ((weight, bias),) = whole_layers(layers, (frozenset({A, B}),))
    most = np.finfo(np.float32).max
    np.testing.assert_array_equal(weight, [[0, most], [-most, 2.5]])
    np.testing.assert_array_equal(bias, [most, -most])


@pytest.mark.parametrize("algorithm", ["linear-regression", "logistic-regression", "k-means"])
def test_a_column_drowns_by_whole_tables_and_not_by_who_is_there(
    tmp_path: Path, algorithm: str
) -> None:
    """Beside numbers that are stacked below, a column reaches far enough by one row alone."""
    need("sklearn")
    for reach, expected in ((2.0**30, "told"), (2.0**70, "PolicyDenied: column x: one owner's")):
        said = set()
        for there in (True, False):
            place = tmp_path / f"{there}-{reach}"
            mine = {"id": [*IDS, "victim"], "x": [*range(60), 2**38], "y": [*[0, 1] * 30, 1]}
            more = {
                "x": [reach * (-1) ** at for at in range(60)],
                "z": range(60),
                "y": [0, 1] * 30,
            }
            owners = [owner(A, place, mine, "a"), of_b(place, there), owner(B, place, more, "more")]
            label = {} if algorithm == "k-means" else {"label": "y"}
            inputs = [
                {"columns": ["x"], "identifier": "id", "group": "g", **label},
                {"columns": ["z"], "identifier": "id", "group": "g"},
                {"columns": ["x", "z"], **label},
            ]
            said.add(ended(stacked_below(owners, inputs, algorithm), owners))
        (one,) = said
        assert one.startswith(expected), reach


@pytest.mark.parametrize("algorithm", ["random-forest", "gradient-boosting", "xgboost"])
def test_trees_take_a_column_that_drowns_elsewhere(tmp_path: Path, algorithm: str) -> None:
    need("sklearn", "xgboost")
    mine = {"id": IDS, "x": range(60), "y": [0, 1] * 30}
    more = {"x": [2.0**70 * (-1) ** at for at in range(60)], "z": range(60), "y": [0, 1] * 30}
    owners = [
        owner(A, tmp_path, mine, "a"),
        of_b(tmp_path, there=True),
        owner(B, tmp_path, more, "more"),
    ]
    inputs = [
        {"columns": ["x"], "identifier": "id", "group": "g", "label": "y"},
        {"columns": ["z"], "identifier": "id", "group": "g"},
        {"columns": ["x", "z"], "label": "y"},
    ]
    assert ended(stacked_below(owners, inputs, algorithm), owners) == "told"


def test_groups_of_what_is_stacked_below_joined_rows_are_no_fewer_than_an_owner_may_have(
    tmp_path: Path,
) -> None:
    """One owner alone has groups: its part is all of them, in each of its tables."""
    need("duckdb", "pyarrow")
    mine = {"id": IDS, "ward": ["a", "b"] * 30, "x": range(60)}
    below = {"ward": [f"w{at // 2}" for at in range(12_000)], "x": range(12_000)}
    below["z"] = range(12_000)
    owners = [
        owner(A, tmp_path, mine, "a"),
        of_b(tmp_path, there=True),
        owner(A, tmp_path, below, "below"),
    ]
    inputs = [
        {"columns": ["x", "ward"], "identifier": "id", "group": "g"},
        {"columns": ["z"], "identifier": "id", "group": "g"},
        {"columns": ["x", "ward", "z"]},
    ]
    assert ended(stacked_below(owners, inputs, "statistics"), owners) == "told"


@pytest.mark.parametrize("error", [ValueError, MemoryError, FormatError, LookupError])
@pytest.mark.parametrize("joined", [True, False])
def test_all_that_fails_of_joined_rows_is_said_in_one_wording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], joined: bool
) -> None:
    def failing(_: Any) -> Any:
        raise error("613 rows")

    monkeypatch.setattr(running, "FUNCTIONS", {"linear-regression": failing})
    mine = {"id": IDS, "x": range(60), "y": range(60)}
    owners = [owner(A, tmp_path, mine, "a"), *([of_b(tmp_path, there=True)] if joined else [])]
    plan = plan_of(owners, [["x"], ["z"]][: len(owners)], "linear-regression")
    said = ended(plan, owners)
    if joined:
        assert said == "PolicyDenied: too few rows stand behind a number"
    else:
        assert said.startswith("FormatError: ")


@pytest.mark.parametrize("place", ["joining.intersect", "seeds._digest", "running.seal_outputs"])
def test_nor_is_it_said_at_which_step_memory_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """How much a join takes, and what comes of it, is as many rows as it has."""

    def failing(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(f"wardian.learning.shared.{place}", failing)
    mine = {"id": IDS, "x": range(60), "y": [0, 1] * 30}
    owners = [owner(A, tmp_path, mine, "a"), of_b(tmp_path, there=True)]
    noised: dict[str, Any] = {"privacy": {"epsilon": 1.0, "delta": 1e-6}, "seed": None}
    changes, terms = ({}, {}) if place != "seeds._digest" else (noised, NOISED)
    plan = plan_of(owners, [["x"], ["z"]], "logistic-regression", **changes)
    assert ended(plan, owners, **terms) == "PolicyDenied: too few rows stand behind a number"


def test_identifiers_of_all_tables_are_looked_through_before_any_is_joined(tmp_path: Path) -> None:
    """A table that is refused by itself is refused whether or not a join beside it is too small."""
    said = set()
    for there in (True, False):
        place = tmp_path / str(there)
        ids = [*IDS[:9], "victim"]
        mine = {"id": ids, "x": range(10), "y": range(10)}
        more = {"id": ["q1", "q1"], "x": range(2), "y": range(2)}
        owners = [owner(A, place, mine, "a"), of_b(place, there), owner(A, place, more, "more")]
        owners.append(owner(B, place, {"id": ["q1"], "z": [1]}, "rest"))
        inputs = [
            {"columns": ["x"], "identifier": "id", "label": "y", "group": "g"},
            {"columns": ["z"], "identifier": "id", "group": "g"},
            {"columns": ["x"], "identifier": "id", "label": "y", "group": "h"},
            {"columns": ["z"], "identifier": "id", "group": "h"},
        ]
        said.add(ended(stacked_below(owners, inputs, "linear-regression"), owners))
    (one,) = said
    assert one.startswith(f"FormatError: {A}, table more: identifiers: ")


def test_each_owner_s_classes_are_its_own_to_be_judged_by(tmp_path: Path) -> None:
    """Three rows of a class of one owner and three of another's are no cohort of five."""
    need("sklearn")
    rare = {"x": range(60), "y": [*[0, 1] * 28, 0, 2, 2, 2]}
    owners = [owner(A, tmp_path, rare, "a"), owner(B, tmp_path, rare, "b")]
    plan = plan_of(owners, [["x"], ["x"]], "perceptron", kind="stack", parameters={"epochs": 1})
    assert ended(plan, owners) == (
        f"PolicyDenied: {A}, table a: the label: too few rows have a class, or all have one"
    )


def test_an_owner_may_have_one_class_where_another_has_more(tmp_path: Path) -> None:
    need("sklearn")
    of_a = owner(A, tmp_path, {"x": range(60), "y": [0] * 60}, "a")
    of_both = owner(B, tmp_path, {"x": range(60), "y": [0, 1] * 30}, "b")
    owners = [of_a, of_both]
    plan = plan_of(owners, [["x"], ["x"]], "perceptron", kind="stack", parameters={"epochs": 1})
    assert ended(plan, owners) == "told"


def test_where_no_cohort_is_asked_for_a_join_may_lose_a_class(tmp_path: Path) -> None:
    label = [*([0, 1] * 30), 2]
    mine = {"id": [*IDS, "victim"], "x": range(61), "y": label}
    owners = [owner(A, tmp_path, mine, "a"), of_b(tmp_path, there=False)]
    plan = plan_of(owners, [["x"], ["z"]], "logistic-regression")
    assert ended(plan, owners, smallest_cohort=1) == "told"


def test_a_small_join_is_refused_also_below_many_rows(tmp_path: Path) -> None:
    mine = {"id": IDS[:8], "x": range(8), "y": range(8)}
    more = {"x": range(60), "z": range(60), "y": range(60)}
    owners = [owner(A, tmp_path, mine, "a"), of_b(tmp_path, there=True)]
    owners.append(owner(A, tmp_path, more, "more"))
    inputs = [
        {"columns": ["x"], "identifier": "id", "label": "y", "group": "g"},
        {"columns": ["z"], "identifier": "id", "group": "g"},
        {"columns": ["x", "z"], "label": "y"},
    ]
    plan = stacked_below(owners, inputs, "linear-regression")
    with pytest.raises(PolicyDenied) as caught:
        run(plan, owners)
    assert caught.value.rule == "join-small"


def test_a_small_join_is_refused_also_where_a_trainer_reads_pass_by_pass_and_does_not_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counting(task: Task) -> Trained:
        return Trained(model=b"", metrics={"rows": sum(each.rows for each in task.rows.batches())})

    monkeypatch.setattr(running, "FUNCTIONS", {"linear-regression": counting})
    few = owner(A, tmp_path, {"x": range(9), "y": range(9)}, "a")
    with pytest.raises(PolicyDenied) as caught:
        run(plan_of([few], [["x"]], "linear-regression"), [few])
    assert caught.value.rule == "join-small"
