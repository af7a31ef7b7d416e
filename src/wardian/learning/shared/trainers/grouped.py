"""Statistics by group, by DuckDB in memory, with every small group left out.

The query is built here from names of columns alone; a plan brings none. DuckDB has neither files,
network, extensions nor settings, and sees the columns of this query and nothing else. Two groups
are left out at least where leaving out one would tell it by the difference to the whole: what is
left out together is never smaller than the smallest cohort. Differences between *runs* over other
rows are not seen here: that is what owners' `uses`, and epsilon, are for.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from wardian.errors import ConfigError, FormatError, LocalProtocolError
from wardian.learning.shared.extra import extra
from wardian.learning.shared.trainers.trained import Task

MOST_GROUPS: Final = 10_000


def connection() -> Any:
    """Return a DuckDB in memory that reads no file, no network, loads nothing and stays so.

    Raises:
        ConfigError: it is not installed.
    """
    found = extra("duckdb").connect(
        ":memory:",
        config={
            "enable_external_access": "false",
            "autoload_known_extensions": "false",
            "autoinstall_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_unsigned_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": "",
            "threads": "1",
        },
    )
    found.execute("SET lock_configuration = true")
    return found


def quoted(name: str) -> str:
    """Return `name` as an identifier of SQL, whatever is in it.

    Raises:
        FormatError: a NUL is in it.
    """
    if "\0" in name:
        raise FormatError("the name of a column has a NUL in it")
    return '"' + name.replace('"', '""') + '"'


def asked(database: Any, sql: str) -> Any:
    """Return the answer to `sql`, which is one question and nothing else.

    Raises:
        LocalProtocolError: several statements, or one that changes something.
    """
    statements = database.extract_statements(sql)
    if [each.type for each in statements] != [extra("duckdb").StatementType.SELECT]:
        raise LocalProtocolError("one SELECT, and nothing else, is asked of DuckDB")
    return database.execute(statements[0])


def query(values: Sequence[str], by: str) -> str:
    """Return the one statement: rows, and of each column in `values` count, mean and deviation."""
    told = "".join(
        f", count({name}), avg({name}), stddev_samp({name})" for name in map(quoted, values)
    )
    return f"SELECT {quoted(by)}, count(*){told} FROM joined GROUP BY 1 ORDER BY 2 DESC, 1"  # noqa: S608  quoted


def by_group(task: Task, by: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the head and the rows of: group, column, rows, mean, deviation.

    Raises:
        PolicyDenied: the rule `cohort-small`: there are too few rows at all.
        ConfigError: DuckDB is not installed; `by` is no column, or the only one; with [privacy].
        FormatError: there are more than 10,000 groups.
    """
    values = [name for name in task.joined.names if name != by]
    if by not in task.joined.names or not values:
        raise ConfigError("`by` is one of the columns, and there is another")
    if task.privacy is not None:
        raise ConfigError("`by` goes without [privacy]: which groups there are tells of rows")
    task.terms.refuse_small_cohort(task.joined.rows)
    groups = _asked(task, values, by)
    least = task.terms.smallest_cohort
    told: list[tuple[Any, ...]] = []
    for group, rows, *numbers in _large(groups, least):
        for at, name in enumerate(values):
            count, mean, deviation = numbers[3 * at : 3 * at + 3]
            if count >= least:
                shown = "" if 0 < rows - count < least else count
                told.append((group, name, shown, mean, "" if deviation is None else deviation))
    return (by, "column", "rows", "mean", "deviation"), told


def _asked(task: Task, values: Sequence[str], by: str) -> list[tuple[Any, ...]]:
    pa = extra("pyarrow")
    columns = {by: task.joined.columns[by]} | {name: task.joined.columns[name] for name in values}
    arrays = {
        name: pa.array(each, from_pandas=each.dtype != object) for name, each in columns.items()
    }
    with connection() as database:
        database.register("joined", pa.table(arrays))
        groups: list[tuple[Any, ...]] = asked(database, query(values, by)).fetchmany(
            MOST_GROUPS + 1
        )
    if len(groups) > MOST_GROUPS:
        raise FormatError(f"column {by}: more than {MOST_GROUPS} groups")
    return groups


def _large(groups: list[tuple[Any, ...]], least: int) -> list[tuple[Any, ...]]:
    """Return the groups that may be told; `groups` come with the largest first."""
    rows = np.array([each[1] for each in groups])
    kept = int(np.count_nonzero(rows >= least))
    while kept > 0 and 0 < rows[kept:].sum() < least:
        kept -= 1
    return groups[:kept]
