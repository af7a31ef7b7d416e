"""Counts, means and deviations within the smallest cohort; groups need DuckDB and pyarrow."""

import csv
import importlib.util
import io

import numpy as np
import pytest
from shared_world import A, B, C, Owner, csv_text, opened, plan_of, run

from wardian.errors import ConfigError, FormatError, LocalProtocolError, PolicyDenied

GROUPS = all(importlib.util.find_spec(name) for name in ("duckdb", "pyarrow"))
WARD = {"by": "ward"}


def told(finished, who: str = A) -> list[dict[str, str]]:
    raw = opened(finished.held, "aggregates", who)
    assert raw is not None
    return list(csv.DictReader(io.StringIO(raw.decode())))


def counted(owner: Owner, columns: list[str], **changes):
    return plan_of([owner], [columns], "statistics", label=None, **changes)


def test_means_and_deviations_of_columns(tmp_path) -> None:
    values = np.random.default_rng(1).normal(size=100)
    few = ["1" if at < 4 else "" for at in range(100)]
    most = ["" if at < 4 else str(at) for at in range(100)]
    owner = Owner(A, tmp_path, csv_text({"x": values, "few": few, "most": most}))
    finished = run(counted(owner, ["x", "few", "most"]), [owner])
    (x_told,) = told(finished)  # 4 rows have, or lack, the others: they would be told
    assert (x_told["column"], x_told["rows"]) == ("x", "100")
    assert float(x_told["mean"]) == float(f"{np.mean(values):.5e}")
    assert float(x_told["deviation"]) == float(f"{np.std(values, ddof=1):.5e}")
    assert opened(finished.held, "aggregates", C, to=A) is None
    assert opened(finished.held, "aggregates", B) is not None
    with pytest.raises(PolicyDenied) as refused:
        run(counted(owner, ["x"]), [owner], smallest_cohort=101)
    assert refused.value.rule == "cohort-small"


def padded(tmp_path, sizes: dict[str, int], rows: int) -> list[Owner]:
    """Return who has `sizes`, and who has 20 rows of each name there is that it wonders about."""
    mine = wards(tmp_path, sizes)
    names = [name for name in ("north", "east", "rare", "none") for _ in range(rows)]
    columns = {"ward": names, "cost": [7] * len(names), "days": [3] * len(names)}
    return [mine, Owner(B, tmp_path, csv_text(columns))]


def stacked(owners: list[Owner], columns: list[str], **changes):
    return plan_of(owners, [columns] * 2, "statistics", kind="stack", label=None, **changes)


def test_another_owner_fills_no_group_up_with_rows_that_it_knows(groups, tmp_path) -> None:
    """It took its own rows off exact sums, and had the one row of `rare` as it was."""
    sizes = {"north": 20, "east": 9, "rare": 1}
    owners = padded(tmp_path, sizes, 20)
    rows = told(run(stacked(owners, ["ward", "cost", "days"], parameters=WARD), owners))
    assert {row["ward"] for row in rows} == {"north"}  # nor `none`, which would tell who is not
    (tmp_path / "x").mkdir()
    owners = padded(tmp_path / "x", sizes | {"none": 5}, 20)
    rows = told(run(stacked(owners, ["ward", "cost"], parameters=WARD), owners))
    assert {row["ward"] for row in rows} == {"north", "east"}


def test_another_owner_fills_no_column_up_and_no_table(tmp_path) -> None:
    few = [1 if at < 4 else "" for at in range(40)]
    mine = Owner(A, tmp_path, csv_text({"few": few, "x": range(40)}))
    theirs = Owner(B, tmp_path, csv_text({"few": [1] * 30, "x": range(30)}))
    rows = told(run(stacked([mine, theirs], ["few", "x"]), [mine, theirs]))
    assert [row["column"] for row in rows] == ["x"]
    (tmp_path / "x").mkdir()
    mine = Owner(A, tmp_path / "x", csv_text({"x": range(4)}))
    theirs = Owner(B, tmp_path / "x", csv_text({"x": range(500)}))
    with pytest.raises(PolicyDenied) as refused:
        run(stacked([mine, theirs], ["x"]), [mine, theirs])
    assert refused.value.rule == "cohort-small"


@pytest.fixture
def groups() -> None:
    if not GROUPS:
        pytest.skip("pyarrow or duckdb is not installed: pip install 'wardian[shared]'")


def wards(tmp_path, sizes: dict[str, int]) -> Owner:
    names = [name for name, rows in sizes.items() for _ in range(rows)]
    columns = {"ward": names, "cost": range(len(names)), "days": [3] * len(names)}
    return Owner(A, tmp_path, csv_text(columns))


def test_small_groups_are_left_out_and_so_is_what_would_tell_them(groups, tmp_path) -> None:
    owner = wards(tmp_path, {"north": 20, "east": 9, "rare": 2})
    rows = told(run(counted(owner, ["ward", "cost", "days"], parameters=WARD), [owner]))
    assert {row["ward"] for row in rows} == {"north"}  # east - whole would be 2 rows
    (cost,) = (row for row in rows if row["column"] == "cost")
    assert (cost["rows"], float(cost["mean"])) == ("20", 9.5)
    (tmp_path / "x").mkdir()
    owner = wards(tmp_path / "x", {"north": 20, "east": 9, "rare": 3, "scarce": 4})
    rows = told(run(counted(owner, ["ward", "cost"], parameters=WARD), [owner]))
    assert {row["ward"] for row in rows} == {"north", "east"}  # 7 rows are left out together


def test_within_a_group_columns_that_few_rows_have_or_lack_are_left_out(groups, tmp_path) -> None:
    columns = {
        "ward": ["north"] * 20 + ["east"] * 10,
        "few": [1] * 3 + [""] * 17 + [1] * 10,
        "most": [""] * 3 + [2] * 17 + [2] * 10,
    }
    owner = Owner(A, tmp_path, csv_text(columns))
    rows = told(run(counted(owner, ["ward", "few", "most"], parameters=WARD), [owner]))
    found = {(row["ward"], row["column"]): row["rows"] for row in rows}
    assert found == {("east", "few"): "10", ("east", "most"): "10"}


def test_groups_without_end_and_groups_of_nothing_are_refused(groups, tmp_path) -> None:
    owner = wards(tmp_path, {f"w{at}": 1 for at in range(10_001)})
    with pytest.raises(FormatError, match="more than 10000 groups"):
        run(counted(owner, ["ward", "cost"], parameters=WARD), [owner])
    with pytest.raises(ConfigError, match="there is another"):
        run(counted(owner, ["ward"], parameters=WARD), [owner])


def test_groups_that_take_more_memory_than_they_may_are_refused(
    groups, tmp_path, monkeypatch
) -> None:
    """Ten thousand groups are as many sums for each column: DuckDB would take what there is."""
    from wardian.learning.shared.trainers import grouped

    with grouped.connection() as database:
        (limit,) = database.execute("SELECT current_setting('memory_limit')").fetchone()
    assert limit == "512.0 MiB"
    names = [f"x{at}" for at in range(16)]
    columns = {"ward": [f"w{at // 2}" for at in range(19_998)]}
    columns |= {name: range(19_998) for name in names}
    owner = Owner(A, tmp_path, csv_text(columns))
    plan = counted(owner, ["ward", *names], parameters=WARD)
    monkeypatch.setattr(grouped, "MOST_MEMORY", "4MiB")
    with pytest.raises(FormatError, match="column ward: its groups take more than 4MiB"):
        run(plan, [owner], smallest_cohort=1)
    monkeypatch.undo()
    assert len(told(run(plan, [owner], smallest_cohort=1))) == 9_999 * 16


def test_the_name_of_a_column_is_no_sql(groups, tmp_path) -> None:
    evil = "x\"), (SELECT * FROM read_csv('/etc/passwd')) --"
    header = '"' + evil.replace('"', '""') + '"'
    lines = "".join(f"north,{at}\n" for at in range(20))
    owner = Owner(A, tmp_path, f"ward,{header}\n{lines}".encode())
    (row,) = told(run(counted(owner, ["ward", evil], parameters=WARD), [owner]))
    assert (row["column"], float(row["mean"])) == (evil, 9.5)


ESCAPES = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_parquet('https://127.0.0.1/x.parquet')",
    "SELECT getenv('PATH')",
    "COPY (SELECT 1) TO '/tmp/wardian-escape.csv'",
    "EXPORT DATABASE '/tmp/wardian-escape'",
    "ATTACH '/tmp/wardian-escape.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
]


@pytest.mark.parametrize("sql", ESCAPES)
def test_duckdb_has_neither_files_nor_network_nor_settings(groups, sql: str) -> None:
    import duckdb

    from wardian.learning.shared.trainers.grouped import asked, connection

    with connection() as database:
        with pytest.raises(duckdb.Error):
            database.execute(sql).fetchall()
        with pytest.raises((duckdb.Error, LocalProtocolError)):
            asked(database, sql).fetchall()


@pytest.mark.parametrize(
    "sql", ["SELECT 1; SELECT 2", "CREATE TABLE t (x INT)", "", "DROP TABLE t"]
)
def test_one_question_alone_is_asked(groups, sql: str) -> None:
    from wardian.learning.shared.trainers.grouped import asked, connection

    with connection() as database, pytest.raises(LocalProtocolError):
        asked(database, sql)


def test_variables_of_python_are_no_tables(groups) -> None:
    import duckdb

    from wardian.learning.shared.trainers.grouped import connection

    secret_of_this_frame = __import__("pyarrow").table({"x": [1]})
    with connection() as database, pytest.raises(duckdb.Error):
        database.execute("SELECT * FROM secret_of_this_frame").fetchall()
    assert secret_of_this_frame.num_rows == 1


def test_without_duckdb_the_error_says_what_to_install(tmp_path, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    owner = wards(tmp_path, {"north": 20, "east": 9})
    with pytest.raises(ConfigError, match=r"wardian\[shared\]"):
        run(counted(owner, ["ward", "cost"], parameters=WARD), [owner])
