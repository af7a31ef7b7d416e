"""Tables that are joined in groups, and stacked: the pooled table, whatever the order of anything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shared_world import SEED, A, B, C, Owner, csv_text, opened, plan_of, run
from toy_jobs import parties, toml

from wardian.broker.jobs.merge import OutputTerms
from wardian.broker.jobs.plan import JobPlan, load_plan
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, FormatError, PolicyDenied
from wardian.learning.shared.joining import Joined, identifiers_of, join, sorted_rows

KEY = Secret(b"joining".ljust(32))
Table = Mapping[str, Any]


def terms(smallest_join: int = 1) -> OutputTerms:
    nobody: frozenset[Any] = frozenset()
    return OutputTerms(
        model=nobody, metrics=nobody, aggregates=nobody, serving=nobody, approvals=nobody,
        smallest_join=smallest_join, smallest_cohort=1, epsilon=None, delta=None,
    )  # fmt: skip


def used(owner: str, columns: str, *, group: str | None = None, label: str | None = None) -> Any:
    found = {"table": f"table-of-{owner}", "owner": owner, "columns": list(columns)}
    if group:
        found |= {"group": group, "identifier": "id"}
    return found | ({"label": label} if label else {})


def plan(*inputs: Any, **changes: Any) -> JobPlan:
    table = {
        "mesh": "hospitals",
        "name": "study-1",
        "purpose": "study",
        "parties": parties(),
        "inputs": list(inputs),
        "join": {"kind": "stack"},
        "train": {"algorithm": "logistic-regression"},
        "outputs": {"model": [A], "metrics": [A, B]},
        "seed": 5,
        **changes,
    }
    return load_plan(toml(table))


GROUPED = (used(A, "x", group="g", label="y"), used(B, "z", group="g"), used(C, "xz", label="y"))


def as_read(table: Mapping[str, Sequence[Any]]) -> Table:
    return {
        name: np.array(values, object if name == "id" else np.float64)
        for name, values in table.items()
    }


def joined(wanted: JobPlan, tables: Sequence[Table], *, smallest_join: int = 1) -> Joined:
    read = [as_read(each) for each in tables]
    return join(wanted, read, identifiers_of(wanted, read), terms(smallest_join), key=KEY)


def same(one: Joined, other: Joined) -> bool:
    assert one.label is not None
    assert other.label is not None
    return (
        one.names == other.names
        and one.rows == other.rows
        and one.features().tobytes() == other.features().tobytes()
        and one.label.tobytes() == other.label.tobytes()
    )


def pooled(a: Table, b: Table, c: Table) -> Joined:
    """Return the same rows as one table has them, in the clear."""
    places = {each: at for at, each in enumerate(b["id"])}
    both = [(at, places[each]) for at, each in enumerate(a["id"]) if each in places]
    whole = as_read(
        {
            "x": [*(a["x"][at] for at, _ in both), *c["x"]],
            "z": [*(b["z"][at] for _, at in both), *c["z"]],
            "y": [*(a["y"][at] for at, _ in both), *c["y"]],
        }
    )
    whole = {name: each + 0.0 for name, each in whole.items()}
    order = sorted_rows(whole)
    return Joined(
        names=("x", "z"),
        columns={name: whole[name][order] for name in ("x", "z")},
        label=whole["y"][order],
        sources=np.repeat(np.arange(2, dtype=np.uint8), [len(both), len(c["x"])])[order],
        owners=(frozenset({A, B}), frozenset({C})),
        rows=len(order),
    )


numbers = st.sampled_from([0.0, -0.0, 1.5, -2.0, 1e300, float("nan")])
labels = st.sampled_from([0, 1])


@st.composite
def three(draw: st.DrawFn) -> tuple[Table, Table, Table]:
    def column(values: st.SearchStrategy[Any], rows: int) -> list[Any]:
        return draw(st.lists(values, min_size=rows, max_size=rows))

    mine = draw(st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=8))
    its = draw(st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=8))
    apart = draw(st.integers(1, 6))
    return (
        {
            "id": [f"p{each}" for each in mine],
            "x": column(numbers, len(mine)),
            "y": column(labels, len(mine)),
        },
        {"id": [f"p{each}" for each in its], "z": column(numbers, len(its))},
        {
            "x": column(numbers, apart),
            "z": column(numbers, apart),
            "y": column(labels, apart),
        },
    )


def shuffled(table: Table, order: np.random.Generator) -> Table:
    rows = order.permutation(len(next(iter(table.values()))))
    return {name: [values[row] for row in rows] for name, values in table.items()}


@settings(max_examples=60, deadline=None)
@given(three(), st.integers(0, 2**32 - 1), st.permutations([0, 1, 2]))
def test_it_is_the_pooled_table_whatever_the_order(
    tables: tuple[Table, Table, Table], tossed: int, order: list[int]
) -> None:
    assume(set(tables[0]["id"]) & set(tables[1]["id"]))
    found = joined(plan(*GROUPED), tables)
    assert same(found, pooled(*tables))
    chance = np.random.default_rng(tossed)
    mixed = [shuffled(tables[at], chance) for at in order]
    assert same(joined(plan(*(GROUPED[at] for at in order)), mixed), found)


def small() -> tuple[Table, Table, Table]:
    return (
        {"id": ["a", "b", "c"], "x": [1.0, 2.0, 3.0], "y": [0, 1, 0]},
        {"id": ["c", "d", "a"], "z": [7.0, 8.0, 9.0]},
        {"x": [5.0, 4.0], "z": [6.0, 6.0], "y": [1, 1]},
    )


def test_rows_by_hand() -> None:
    found = joined(plan(*GROUPED), small())
    assert found.label is not None
    rows = [*zip(*(found.columns[name].tolist() for name in found.names), found.label, strict=True)]
    assert rows == [(1, 9, 0), (3, 7, 0), (4, 6, 1), (5, 6, 1)]


def test_every_group_has_to_be_large_enough_by_itself() -> None:
    """Two joined rows beside a thousand stacked ones are two whose values owners can compare."""
    a, b, _ = small()
    many = {"x": [1.0] * 1000, "z": [2.0] * 1000, "y": [0, 1] * 500}
    assert joined(plan(*GROUPED), (a, b, many), smallest_join=2).rows == 1002
    with pytest.raises(PolicyDenied) as caught:
        joined(plan(*GROUPED), (a, b, many), smallest_join=3)
    assert caught.value.rule == "join-small"


def test_with_noise_no_group_is_asked_for_its_exact_size() -> None:
    noised = plan(
        *GROUPED, privacy={"epsilon": 1.0, "delta": 1e-6}, seed="derived", outputs={"model": [A]}
    )
    found = joined(noised, small(), smallest_join=10**6)
    assert found.rows == joined(plan(*GROUPED), small()).rows == 4


def test_groups_that_have_no_row_in_common_are_refused() -> None:
    a, _, c = small()
    with pytest.raises(PolicyDenied):
        joined(plan(*GROUPED), (a, {"id": ["q"], "z": [1.0]}, c))


def test_a_duplicate_in_a_group_is_refused_and_one_across_groups_is_not() -> None:
    a, b, c = small()
    with pytest.raises(FormatError):
        joined(plan(*GROUPED), ({**a, "id": ["a", "a", "c"]}, b, c))
    assert joined(plan(*GROUPED), (a, b, {name: [*c[name], *c[name]] for name in c})).rows == 6


WRONG = [
    ("two labels in a group", (used(A, "x", group="g", label="y"), used(B, "z", group="g", label="y"))),
    ("no label in a group", (used(A, "x", group="g"), used(B, "z", group="g"))),
    ("no identifier", ({**used(A, "x", label="y"), "group": "g"}, used(B, "z", group="g"))),
    ("other columns", (used(A, "x", group="g", label="y"), used(B, "w", group="g"))),
    ("a column twice", (used(A, "xz", group="g", label="y"), used(B, "z", group="g"))),
]  # fmt: skip


@pytest.mark.parametrize(("_what", "group"), WRONG, ids=[each[0] for each in WRONG])
def test_groups_that_do_not_fit(_what: str, group: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError):
        plan(*group, used(C, "xz", label="y"))


@pytest.mark.parametrize("kind", ["inner", None])
def test_groups_go_with_stacking(kind: str | None) -> None:
    inputs = [{**each, "identifier": "id"} for each in GROUPED]
    join_of = {"kind": kind} if kind else {}
    with pytest.raises(ConfigError):
        plan(*inputs, join=join_of)


def test_one_group_of_all_whose_columns_are_called_alike() -> None:
    """What an inner join calls apart is apart here, too."""
    inputs = (used(A, "x", group="g", label="y"), used(B, "x", group="g"))
    a, b, _ = small()
    found = joined(plan(*inputs), (a, {"id": b["id"], "x": b["z"]}))
    assert found.names == (f"{A}.table-of-{A}.x", f"{B}.table-of-{B}.x")
    assert found.features().tolist() == [[1, 9], [3, 7]]


def test_a_label_of_the_name_of_another_owners_column_is_not_learnt_from() -> None:
    """Else the model would be told what it shall say."""
    inputs = [used(A, "x", group="g", label="y"), used(B, "y", group="g")]
    other = [used(A, "x", group="h", label="y"), used(B, "y", group="h")]
    for each in other:
        each["table"] = f"other-{each['owner']}"
    a, b, _ = small()
    told = (a, {"id": b["id"], "y": b["z"]})
    found = joined(plan(*inputs, *other), (*told, *told))
    assert found.label is not None
    assert found.names == ("x", "y")
    assert found.columns["y"].tolist() == [9, 9, 7, 7]
    assert found.label.tolist() == [0, 0, 0, 0]


def test_a_model_of_groups_is_that_of_the_pooled_table(tmp_path: Path) -> None:
    """Sealed, opened, joined, stacked and trained; and the tables in another order."""
    chance = np.random.default_rng(11)
    sick = [row % 2 for row in range(60)]

    def near() -> list[float]:
        return [each + float(chance.normal()) for each in sick]

    ids = [f"p{row}" for row in range(60)]
    a = {"id": ids, "x": near(), "y": sick}
    b = {"id": ids[10:], "z": near()[10:]}
    c = {"x": near(), "z": near(), "y": sick}
    owners = [Owner(name, tmp_path, csv_text(each)) for name, each in ((A, a), (B, b), (C, c))]
    joint = run(plan(*GROUPED), owners)
    table = pooled(a, b, c)
    assert table.label is not None
    whole = {"x": table.columns["x"], "z": table.columns["z"], "y": table.label.astype(int)}
    (tmp_path / "pooled").mkdir()
    one = Owner(
        A, tmp_path / "pooled", csv_text({key: each.tolist() for key, each in whole.items()})
    )
    alone = run(plan_of([one], [["x", "z"]], "logistic-regression"), [one])
    model = opened(joint.held, "model", A)
    assert model == opened(alone.held, "model", A) is not None
    assert joint.report["rows_at_least"] == 10
    again = run(plan(*GROUPED), owners[::-1], seed=SEED)
    assert opened(again.held, "model", A) == model
