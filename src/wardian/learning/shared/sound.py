"""What is wrong with a table shows in the table alone, before any of it is joined.

An owner that leaves a hole in one row, or puts a number there that no trainer takes, would learn
whether somebody else has that row if it were looked for in the join: the job fails, or it does not.
So each table is looked through whole, as its owner could do alone. Likewise where few rows have a
class, or there are too many classes or groups: whoever made them up asks who is there. Of what all
owners may have together each has an equal part, so that nobody's are one too many by another's.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wardian.broker.jobs.merge import OutputTerms
from wardian.broker.jobs.plan import Input, JobPlan
from wardian.broker.jobs.rules import Rule
from wardian.broker.jobs.trainers import TRAINERS
from wardian.errors import FormatError, PolicyDenied
from wardian.learning.shared.cohort import drowned, refuse_classes
from wardian.learning.shared.columns import Columns
from wardian.learning.shared.joining import owners_of
from wardian.learning.shared.rows import are_matched

LARGEST: Final = 1e37
"""Of numbers: 32 bits hold them, and 64 bits hold sums of as many products as there are rows."""
MOST_CLASSES: Final = 1024
MOST_GROUPS: Final = 10_000
MOST_SUMS: Final = 2**21
"""Groups times columns: less than half of what DuckDB's memory holds."""


def refuse_unsound(plan: JobPlan, used: Input, table: Columns) -> None:
    """Return if the trainer of `plan` takes every row of `table`, by itself.

    Args:
        plan: the job.
        used: the input that the table is.
        table: as it was read, whole.

    Raises:
        FormatError: a value or a label is missing or too large, or a label is no class. Says in
            whose table, and in which column; never in which row.
    """
    where, trainer = f"{used.owner}, table {used.table}", TRAINERS[plan.train.algorithm]
    for name in sorted(used.columns):
        values = table[name]
        if values.dtype != object:  # a group's name
            _refuse_values(values, f"{where}: column {name}", missing=trainer.missing)
    if used.label is not None:
        label = table[used.label]
        if np.isnan(label).any():
            raise FormatError(f"{where}: a row has no label")
        _refuse_values(label, f"{where}: the label", missing=False)
        if trainer.classes:
            classes_of(label, f"{where}: the label", private=plan.privacy is not None)


def refuse_unsound_together(plan: JobPlan, tables: Sequence[Columns], terms: OutputTerms) -> None:
    """Return if each owner's `tables` of `plan`, whole, have rows enough of each class.

    A class that too few rows of a whole table have, has too few in any join, unless it has none.
    Owners are judged apart: of all together, one would learn of another's rows.

    Args:
        plan: the job.
        tables: as they were read, in the plan's order; each passed `refuse_unsound`.
        terms: of all owners.

    Raises:
        PolicyDenied: the rule `cohort-small`: as `cohort.refuse_classes`, said with whose they are,
            and not which class; or of matched rows a column as `cohort.drowned` has them.
        FormatError: likewise; more classes than the owner's part of 1024, or groups than its part
            of 10,000.
    """
    if plan.privacy is not None:
        return
    by = str(plan.train.parameters.get("by", ""))
    sums = sum(len(used.columns) for used in plan.groups[0]) - 1
    wards = _by_owner(plan, tables, _called(by))
    for found in wards.values():
        groups = [{*names.tolist()} for _, names in found]
        where = f"{_named(found)}: column {by}"
        refuse_many_groups(groups, sums, where, owners=len(wards))
    if TRAINERS[plan.train.algorithm].classes:
        labels = _by_owner(plan, tables, _labels)
        for found in labels.values():
            _refuse_classes(found, terms, owners=len(labels))
    stacked = len(plan.groups) > 1 and are_matched(owners_of(plan))
    if terms.smallest_cohort > 1 and stacked and not TRAINERS[plan.train.algorithm].grows:
        _refuse_drowned(plan, tables)


_Found: TypeAlias = list[tuple[str, NDArray[Any]]]
"""One column of each of an owner's tables, and what errors call the table."""
_Wanted: TypeAlias = Callable[[Input], str | None]
"""Which column of a table, if any."""


def _called(name: str) -> _Wanted:
    return lambda used: name if name in used.columns else None


def _labels(used: Input) -> str | None:
    return used.label


def _by_owner(plan: JobPlan, tables: Sequence[Columns], wanted: _Wanted) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    for used, table in zip(plan.inputs, tables, strict=True):
        if (column := wanted(used)) is not None:
            theirs = found.setdefault(plan.parties[used.owner].key, [])
            theirs.append((f"{used.owner}, table {used.table}", table[column]))
    return found


def _named(found: _Found) -> str:
    return " and ".join(where for where, _ in found)


def _refuse_drowned(plan: JobPlan, tables: Sequence[Columns]) -> None:
    """Refuse columns by what whole tables have: in a join, one row more could make it another."""
    names = {name for used in plan.inputs for name in used.columns}
    names -= {plan.train.parameters.get("by")}
    wanted = {f"column {name}": _called(name) for name in sorted(names)}
    if not TRAINERS[plan.train.algorithm].classes:
        wanted["the label"] = _labels
    for what, column in wanted.items():
        theirs = _by_owner(plan, tables, column).values()
        whole = [np.concatenate([values for _, values in each]) for each in theirs]
        lowest = np.array([[np.fmin.reduce(each, initial=np.inf) for each in whole]])
        highest = np.array([[np.fmax.reduce(each, initial=-np.inf) for each in whole]])
        if whole and drowned(lowest, highest).any():
            reason = f"{what}: one owner's values are all but one beside another's"
            raise PolicyDenied(reason, rule=Rule.COHORT)


def _refuse_classes(found: _Found, terms: OutputTerms, *, owners: int) -> None:
    classes, rows = np.unique(np.concatenate([label for _, label in found]), return_counts=True)
    where = f"{_named(found)}: the label"
    refuse_classes(terms, rows[:, None], where, least=2 if owners == 1 else 1)
    refuse_many_classes(len(classes), where, owners=owners)


def refuse_no_classes(label: NDArray[np.float64], where: str) -> None:
    """Return if `label` is of whole numbers of 32 bits; FormatError."""
    if not (np.isfinite(label) & (label == np.trunc(label)) & (np.abs(label) < 2**31)).all():
        raise FormatError(f"{where}: classes are whole numbers of 32 bits")


def refuse_many_classes(classes: int, where: str, *, owners: int) -> None:
    """Return if one of `owners` has no more `classes` than its part; FormatError."""
    if classes > MOST_CLASSES // owners:
        raise FormatError(f"{where}: more than {MOST_CLASSES // owners} classes")


def refuse_many_groups(
    groups: Sequence[Collection[str | None]], columns: int, where: str, *, owners: int
) -> None:
    """Return if one of `owners` has no more groups than its part.

    Args:
        groups: that each of its tables has.
        columns: of which there are sums, 1 or more.
        where: what an error calls it.
        owners: that have groups.

    Raises:
        FormatError: it has more, or there are too many sums of them.
    """
    if len(set().union(*groups)) > MOST_GROUPS // owners:
        raise FormatError(f"{where}: more than {MOST_GROUPS // owners} groups")
    if (most := MOST_SUMS // owners) < sum(map(len, groups)) * columns:
        raise FormatError(f"{where}: more than {most} sums of groups and columns")


def classes_of(
    label: NDArray[np.float64], where: str = "the label", *, private: bool = False
) -> NDArray[np.int64]:
    """Return the classes in `label`, sorted.

    Args:
        label: (rows,).
        where: what an error calls it.
        private: whether they have to be 0 and 1.

    Raises:
        FormatError: it is not of whole numbers of 32 bits, or of more than 1024 of them; or other
            ones where noise is made.
    """
    if private and not np.isin(label, (0.0, 1.0)).all():
        raise FormatError(f"{where}: with [privacy] classes are 0 and 1")
    refuse_no_classes(label, where)
    found: NDArray[np.int64] = np.unique(label.astype(np.int64))
    refuse_many_classes(len(found), where, owners=1)
    return found


def _refuse_values(values: NDArray[Any], where: str, *, missing: bool) -> None:
    if not missing and np.isnan(values).any():
        raise FormatError(f"{where}: a value is missing, and this trainer takes none")
    if (np.abs(values) > LARGEST).any():
        raise FormatError(f"{where}: a number is larger than {LARGEST:g}")
