"""The first pass over the rows: how many, from where to where columns go, and which classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.errors import FormatError
from wardian.learning.shared.cohort import drowned, refuse_classes, refuse_small
from wardian.learning.shared.exact import (
    Floats,
    Moments,
    Products,
    exponents_of,
    moments_of,
    plus,
    split,
)
from wardian.learning.shared.rows import Batch, Owners, apart, are_matched
from wardian.learning.shared.sound import refuse_many_classes, refuse_no_classes
from wardian.learning.shared.trainers.blocks import blocks
from wardian.learning.shared.trainers.spread import Spread, refuse_narrow
from wardian.learning.shared.trainers.tell import fifth
from wardian.learning.shared.trainers.trained import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the first pass found.

    Attributes:
        rows: how many.
        lowest, highest: of each column, (columns,); 0 of one without any value.
        ends: the lowest and the highest label; None without one.
        classes: sorted, (classes,); empty without.
        sources: how many rows are of each owner's tables, (owners,).
        narrow: places of columns that few rows make; see `spread`.
    """

    rows: int
    lowest: Floats
    highest: Floats
    ends: tuple[float, float] | None
    classes: NDArray[np.int64]
    sources: NDArray[np.int64]
    narrow: frozenset[int]

    @property
    def exponents(self) -> NDArray[np.int64]:
        """Of the grids of what `shifted` gives, (columns,)."""
        return exponents_of(self.highest - self.lowest)

    def shifted(self, values: Floats) -> Floats:
        """Return `values`, (columns, rows), from the lowest on: a constant column is 0."""
        return values - self.lowest[:, None]

    def places(self, label: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return which of the classes each row has, (rows,)."""
        return np.searchsorted(self.classes, label.astype(np.int64)).astype(np.int64)


def surveyed(
    task: Task,
    *,
    classes: bool,
    missing: bool = False,
    narrow: bool = False,
    names: Sequence[str] | None = None,
) -> Survey:
    """Return what a pass over the rows finds; nothing is to be trained before.

    Args:
        task: the training.
        classes: whether the label is of classes.
        missing: whether values may be missing.
        narrow: whether the trainer itself sees to columns that few rows make.
        names: of the columns that are looked at, if not of all.

    Raises:
        PolicyDenied: the rules `join-small` and `cohort-small`: too few rows, of all or of one
            owner, or of one class; or too few make a column, or the label.
        FormatError: a value is missing; the label is not of classes; there is no label.
    """
    looked = tuple(task.rows.names if names is None else names)
    found: dict[int, NDArray[np.int64]] = {}
    owners, rows = task.rows.owners, 0
    each = len(looked) + 1, len(owners)  # the label comes last
    lowest, highest = np.full(each, np.inf), np.full(each, -np.inf)
    sources = np.zeros(len(owners), np.int64)
    spread = Spread(len(looked), owners, task.terms.smallest_cohort)
    for batch in task.rows.batches():
        rows += batch.rows
        spread.take(batch, looked)
        sources += np.bincount(batch.sources, minlength=len(sources))
        _widen(lowest, highest, batch, looked, missing=missing)
        if classes:
            _count(found, batch, owners)
    task.terms.refuse_small_join(rows)
    refuse_small(task.terms, sources)
    if classes:
        refuse_classes(task.terms, list(found.values()))
    number = bool(np.isfinite(lowest[-1]).any()) and not classes
    few = spread.narrow(label=number)
    if task.terms.smallest_cohort > 1 and not are_matched(owners):  # else it was looked for before
        deep = np.flatnonzero(drowned(lowest, highest)[: len(looked) + number])
        few |= frozenset(deep.tolist())
    if not narrow:
        refuse_narrow(few, looked)
    low, high = lowest.min(axis=1), highest.max(axis=1)
    had = low <= high
    with np.errstate(over="ignore"):
        survey = Survey(
            rows=rows,
            lowest=np.where(had, low, 0.0)[:-1],
            highest=np.where(had, high, 0.0)[:-1],
            ends=(float(low[-1]), float(high[-1])) if had[-1] else None,
            classes=np.array(sorted(found), np.int64),
            sources=sources,
            narrow=few,
        )
        if not np.isfinite(np.where(had, high - low, 0.0)).all():
            raise FormatError("columns or label: not of numbers that this trainer takes")
    return survey


def _widen(
    lowest: Floats, highest: Floats, batch: Batch, names: Sequence[str], *, missing: bool
) -> None:
    """Let each owner's extents, (columns and the label, owners), hold the rows of `batch`."""
    for source, own in apart(batch.sources):
        values = [(name, batch.columns[name][own]) for name in names]
        values += [] if batch.label is None else [("the label", batch.label[own])]
        for at, (name, some) in enumerate(values):
            low, high = _extent(name, some, missing=missing)
            lowest[at, source] = min(lowest[at, source], low)
            highest[at, source] = max(highest[at, source], high)


def _extent(name: str, values: NDArray[Any], *, missing: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if np.isnan(low):
        if not missing:
            raise FormatError(f"column {name}: a value is missing, and this trainer takes none")
        values = values[~np.isnan(values)]
        low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    return low, high


def _count(found: dict[int, NDArray[np.int64]], batch: Batch, owners: Owners) -> None:
    label = batch.label
    if label is None:
        raise FormatError("no label")
    refuse_no_classes(label, "the label")
    for place, own in apart(batch.sources):
        classes, counts = np.unique(label[own].astype(np.int64), return_counts=True)
        for each, count in zip(classes.tolist(), counts.tolist(), strict=True):
            found.setdefault(each, np.zeros(len(owners), np.int64))[place] += count
    if not are_matched(owners):  # of joined rows it was looked for before
        most = max(np.count_nonzero(list(found.values()), axis=0).tolist())
        refuse_many_classes(most, "the label", owners=len(owners))


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """Moments of all rows and, where somebody is given metrics, of those that are trained on then.

    Their columns are those of `Survey.shifted`, and the label behind them where it is a number.
    """

    whole: Moments
    kept: Moments | None


def measured(task: Task, survey: Survey, *, with_label: bool = False) -> Halves:
    """Return the moments of columns, by one pass.

    Args:
        task: the training.
        survey: of it.
        with_label: whether moments of the label, a number, are wanted too.

    Raises:
        FormatError: numbers are so large that no moments are.
    """
    exponents, (low, high) = survey.exponents, survey.ends or (0.0, 0.0)
    if with_label:
        exponents = np.append(exponents, exponents_of([high - low]))
    grids = np.concatenate([[0], exponents])
    sums = [Products(len(grids), len(grids)) for _ in range(2)]
    for block in blocks(task):
        ones, values = np.ones((1, block.rows)), survey.shifted(block.values)
        rows = [ones, values, *([(block.label - low)[None, :]] if with_label else [])]
        parts = split(np.concatenate(rows), grids)
        tried = fifth(task, block.begin, block.rows, survey.rows)
        for chosen, found in ((~tried, sums[0]), (tried, sums[1])):
            if chosen.all():
                found.add(parts, parts)
            elif chosen.any():
                some = [each[:, chosen] for each in parts]
                found.add(some, some)
    with np.errstate(over="ignore"):
        halves = Halves(
            whole=moments_of(plus(*sums), exponents),
            kept=moments_of(sums[0], exponents) if task.measured else None,
        )
    if not all(np.isfinite(each.covariance).all() for each in (halves.whole, halves.kept) if each):
        raise FormatError("columns or label: not of numbers that this trainer takes")
    return halves
