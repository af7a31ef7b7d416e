"""Statistics by group, by DuckDB in memory, with every small group left out.

The query is built here and calls columns by their places: a plan brings none, and no name either,
of which SQL takes two for one (`Z` and `z`). DuckDB has neither files, network, extensions nor
settings, and sees the columns of this query and nothing else. Two groups are left out at least
where leaving out one would tell it by the difference to the whole: what is left out together is
never smaller than the smallest cohort. Differences between *runs* over other rows are not seen
here: that is what owners' `uses`, and epsilon, are for.

Of tables that are stacked, all of that holds for the rows of each owner by itself. An owner knows
its own rows, could make up as many as a cohort takes, and subtract them. A group that one of them
has no row of is left out as well: else that it is told would say so.

Rows are handed to DuckDB batch by batch, as whole numbers of 45 bits below each column's largest,
and it sums these up in 128 bits. So sums are exact, and those of the pooled table to the last bit.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wardian.broker.jobs.merge import OutputTerms
from wardian.errors import ConfigError, FormatError, LocalProtocolError, WardianError
from wardian.learning.shared.cohort import few, stands
from wardian.learning.shared.extra import extra
from wardian.learning.shared.rows import Batch, apart, are_matched
from wardian.learning.shared.sound import refuse_many_groups
from wardian.learning.shared.trainers.blocks import parts_of
from wardian.learning.shared.trainers.survey import Survey, surveyed
from wardian.learning.shared.trainers.trained import Task

MOST_MEMORY: Final = "512MiB"
"""Of DuckDB, for the sums of each group, source and column. As numbers of Python's, in what is read
from it, these are up to eight times as large."""
_GROUP, _SOURCE, _VALUE = "g", "s", "v"
"""What DuckDB's columns are called: the group, the source, and each value with its place."""
_GRID_BITS: Final = 45
"""The squares of 2**37 rows have room in 127 bits."""


def connection() -> Any:
    """Return a DuckDB in memory that reads no file, no network, loads nothing and stays so.

    It writes nothing either: beyond `MOST_MEMORY` a question fails.

    Raises:
        ConfigError: it is not installed.
    """
    found = extra("duckdb").connect(
        ":memory:",
        config={
            "memory_limit": MOST_MEMORY,
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


def asked(database: Any, sql: str) -> Any:
    """Return the answer to `sql`, which is one question and nothing else.

    Raises:
        LocalProtocolError: several statements, or one that changes something.
    """
    statements = database.extract_statements(sql)
    if [each.type for each in statements] != [extra("duckdb").StatementType.SELECT]:
        raise LocalProtocolError("one SELECT, and nothing else, is asked of DuckDB")
    return database.execute(statements[0])


def query(values: int) -> str:
    """Return the one statement: rows, and of each of `values` count, sum and sum of squares.

    Of each group there is an answer for each source.
    """
    names = [f"{_VALUE}{at}" for at in range(values)]
    told = "".join(
        f", count({name}), sum({name}), sum({name}::HUGEINT * {name}::HUGEINT)" for name in names
    )
    return f"SELECT {_GROUP}, {_SOURCE}, count(*){told} FROM joined GROUP BY 1, 2"  # noqa: S608


def by_group(task: Task, by: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the head and the rows of: group, column, rows, mean, deviation.

    Raises:
        PolicyDenied: the rule `cohort-small`: there are too few rows at all.
        ConfigError: DuckDB is not installed; `by` is no column, or the only one; with [privacy].
        FormatError: an owner has more than its part of 10,000 groups, or of sums.
    """
    values = [name for name in task.rows.names if name != by]
    if by not in task.rows.names or not values:
        raise ConfigError("`by` is one of the columns, and there is another")
    if task.privacy is not None:
        raise ConfigError("`by` goes without [privacy]: which groups there are tells of rows")
    extra("duckdb")
    survey = surveyed(task, classes=False, missing=True, narrow=True, names=values)
    groups = _large(_asked(task, values, by, survey), task.terms)
    shape = len(groups), len(values), len(survey.sources)
    counts = np.reshape([each.numbers[::3] for each in groups], shape)
    rows = np.reshape([each.rows for each in groups], (len(groups), 1, len(survey.sources)))
    told: list[tuple[Any, ...]] = []
    for place, at in np.argwhere(enough(task.terms, counts, rows)).tolist():
        if at not in survey.narrow:
            group = groups[place]
            count, total, squares = map(sum, group.numbers[3 * at : 3 * at + 3])
            moments = _moments(survey, at, count, total, squares)
            told.append((group.name, values[at], count, *map(rounded, moments)))
    return (by, "column", "rows", "mean", "deviation"), told


def enough(terms: OutputTerms, values: ArrayLike, rows: ArrayLike) -> NDArray[Any]:
    """Return which of `values` among `rows` may be told of, (...); both are (..., owners)."""
    lacking = np.subtract(rows, values)
    found: NDArray[Any] = np.logical_and(stands(terms, values), ~few(terms, lacking).any(axis=-1))
    return found


def rounded(number: float | None) -> float | str:
    """Return six digits of `number`; nothing where there is none."""
    return "" if number is None else float(f"{number:.5e}")


def _moments(
    survey: Survey, at: int, count: int, total: int, squares: int
) -> tuple[float, float | None]:
    """Return mean and deviation of what was summed on the grid of column `at`."""
    exponent = int(survey.exponents[at])
    mean = float(survey.lowest[at]) + math.ldexp(total / (count << _GRID_BITS), exponent)
    if count < 2:
        return mean, None
    spread = (count * squares - total * total) / (count * (count - 1) << 2 * _GRID_BITS)
    return mean, math.ldexp(spread**0.5, exponent)


def _asked(task: Task, values: Sequence[str], by: str, survey: Survey) -> "list[_Group]":
    pa = extra("pyarrow")
    numbers = ((f"{_VALUE}{at}", pa.int64()) for at in range(len(values)))
    schema = pa.schema([(_GROUP, pa.string()), (_SOURCE, pa.uint8()), *numbers])
    failed: list[WardianError] = []
    owners = task.rows.owners
    names: list[set[str | None]] = [set() for _ in owners]

    def gone_through() -> Iterator[Any]:
        try:
            for batch in task.rows.batches():
                for part in parts_of(batch):
                    for source, own in apart(part.sources):
                        names[source].update(part.columns[by][own])
                        if not are_matched(owners):  # else it was looked for before
                            refuse_many_groups(
                                [names[source]], len(values), f"column {by}", owners=len(owners)
                            )
                    yield _on_grid(part, values, by, survey, schema)
        except WardianError as err:  # DuckDB would put it into words of its own
            failed.append(err)
            raise

    found: dict[str | None, _Group] = {}
    with connection() as database:
        reader = pa.RecordBatchReader.from_batches(schema, gone_through())
        database.register("joined", reader)
        try:
            answer = asked(database, query(len(values)))
            while (row := answer.fetchone()) is not None:
                name, source, *numbers = row
                if name not in found:
                    found[name] = _Group.empty(name, len(survey.sources), len(numbers) - 1)
                found[name].add(source, numbers)
        except extra("duckdb").Error as err:
            raise (failed[0] if failed else _refused(by, err)) from err
    return sorted(found.values(), key=_Group.order)


def _refused(by: str, err: Exception) -> FormatError:
    """Return in our words why DuckDB gave no answer."""
    if isinstance(err, extra("duckdb").OutOfMemoryException):
        return FormatError(f"column {by}: its groups take more than {MOST_MEMORY}")
    return FormatError("columns: not of numbers that this trainer takes")


def _on_grid(part: Batch, values: Sequence[str], by: str, survey: Survey, schema: Any) -> Any:
    """Return the rows of `part` as Arrow has them, in whole numbers."""
    pa = extra("pyarrow")
    arrays = [pa.array(part.columns[by], pa.string()), pa.array(part.sources, pa.uint8())]
    for at, name in enumerate(values):
        shifted = part.columns[name] - survey.lowest[at]
        missing = np.isnan(shifted)
        whole = np.ldexp(np.where(missing, 0.0, shifted), _GRID_BITS - int(survey.exponents[at]))
        arrays.append(pa.array(np.rint(whole).astype(np.int64), mask=missing))
    return pa.record_batch(arrays, schema=schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """One group: of each source its rows, and of each number that was asked for the sum."""

    name: str | None
    rows: list[int]
    numbers: list[list[int]]

    @classmethod
    def empty(cls, name: str | None, sources: int, numbers: int) -> "_Group":
        return cls(name=name, rows=[0] * sources, numbers=[[0] * sources for _ in range(numbers)])

    def add(self, source: int, found: Sequence[int | None]) -> None:
        """Take in what was found of one source: rows, and then the numbers."""
        self.rows[source] = found[0] or 0
        for held, number in zip(self.numbers, found[1:], strict=True):
            held[source] = number or 0  # there is no sum of nothing

    def order(self) -> tuple[int, bool, str]:
        """Return its place: the largest first, then by name, the one without a name last."""
        return -sum(self.rows), self.name is None, self.name or ""


def _large(groups: Sequence[_Group], terms: OutputTerms) -> list[_Group]:
    """Return the groups that may be told; `groups` come with the largest first."""
    rows = np.array([each.rows for each in groups])
    large = stands(terms, rows)
    kept, left = list(compress(groups, large)), rows[~large].sum(axis=0)
    while kept and few(terms, left).any():
        left = left + kept.pop().rows
    return kept
