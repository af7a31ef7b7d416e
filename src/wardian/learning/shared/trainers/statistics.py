"""Counts, means and deviations of columns: of all rows, or by group, within the smallest cohort.

    column, rows, mean, deviation

A column is left out if fewer rows than the smallest cohort have a value, or if fewer lack one: the
difference to another column's would tell. Of tables that are stacked these are the rows of each
owner by itself, since the others know their own rows, and subtract them.

So is a column that few rows make (`spread`), which would say them. Sums without noise are exact
(`shared.exact`), and those of the pooled table. Six digits of them are told: more would say which
rows stand behind, by a column whose sums are all different, and how many, by whole numbers.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from wardian.learning.shared.exact import Powers, split
from wardian.learning.shared.rows import apart
from wardian.learning.shared.trainers.blocks import blocks
from wardian.learning.shared.trainers.grouped import by_group, enough, rounded
from wardian.learning.shared.trainers.private import NoisySums, noise_of, within
from wardian.learning.shared.trainers.survey import surveyed
from wardian.learning.shared.trainers.trained import Task, Trained


def statistics(task: Task) -> Trained:
    """Return aggregates as CSV.

    Raises:
        PolicyDenied: the rule `cohort-small`: there are too few rows at all.
        ConfigError: DuckDB is not installed, which groups need; the column of groups is none of the
            plan's; groups and [privacy] together, since which groups there are would tell of rows.
    """
    by = str(task.parameters["by"])
    if by:
        return Trained(aggregates=csv_of(*by_group(task, by)))
    if task.privacy is not None:
        return Trained(aggregates=csv_of(_HEAD, _noised(task)))
    return Trained(aggregates=csv_of(_HEAD, _plain(task)))


_HEAD = ("column", "rows", "mean", "deviation")


def csv_of(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a table as CSV; numbers so that they read back as they are."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue().encode()


def _plain(task: Task) -> Iterable[Sequence[Any]]:
    survey = surveyed(task, classes=False, missing=True, narrow=True)
    powers, grids = Powers(len(task.rows.names)), survey.exponents
    values = np.zeros((len(task.rows.names), len(survey.sources)), np.int64)
    for block in blocks(task):
        there = ~np.isnan(block.values)
        for source, rows in apart(block.sources):
            values[:, source] += there[:, rows].sum(axis=1)
        powers.add(there, split(np.where(there, survey.shifted(block.values), 0.0), grids))
    large = enough(task.terms, values, survey.sources)
    found = zip(task.rows.names, survey.lowest.tolist(), powers.moments(grids), strict=True)
    for at, (name, lowest, (rows, mean, deviation)) in enumerate(found):
        if at not in survey.narrow and large[at]:
            yield name, rows, *(rounded(each) for each in (lowest + mean, deviation))


def _noised(task: Task) -> Iterable[Sequence[Any]]:
    """Yield each column from one noised sum: of rows, and of (1, value, square) of each column."""
    privacy, noise = noise_of(task)
    largest, names = task.number("largest"), task.joined.names
    values = task.joined.features()
    there = ~np.isnan(values)
    shares = within(np.where(there, values, 0.0), largest)
    each = np.ones((len(values), 1))
    rows = np.hstack([each, there.astype(np.float64), shares, np.square(shares)])
    length = np.sqrt(rows.shape[1])
    sums = NoisySums(privacy, noise, releases=1).sum(rows / length) * length
    task.terms.refuse_small_join(int(sums[0]))
    told = sums[1:].reshape(3, -1).T.tolist()
    for name, (count, total, squares) in zip(names, told, strict=True):
        if count < task.terms.smallest_cohort:
            continue
        mean = min(1.0, max(-1.0, total / count))
        variance = max(0.0, squares / count - mean * mean)
        yield name, count, mean * largest, float(np.sqrt(variance)) * largest
