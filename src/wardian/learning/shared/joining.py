"""Several tables as one, in memory. No file, and no order of rows in one, decides the order here.

    inner   the rows whose identifier all tables have, in the order of their identifiers' bytes
    stack   the rows of all tables, or of all groups of tables that were joined like that, in the
            order of their values, column by column
    alone   one table, likewise in the order of its values

So a model is the same to the last digit as one that was made of the same records in one table, in
that order: `sorted_rows` is there for who compares. Stacked tables of which a trainer needs no more
than passes are not joined here: see `rows`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.broker.jobs.merge import OutputTerms
from wardian.broker.jobs.plan import Input, JobPlan, joined_names
from wardian.broker.jobs.trainers import TRAINERS
from wardian.crypto.secret import Secret
from wardian.errors import FormatError
from wardian.learning.psi.intersection import intersect, refuse_duplicates
from wardian.learning.psi.tags import encoded, tags
from wardian.learning.shared.cohort import refuse_lost_classes
from wardian.learning.shared.columns import BATCH_ROWS, Columns, row_count
from wardian.learning.shared.rows import Batch, Owners, Sources, places_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Rows to learn from.

    Attributes:
        names: of the columns, in the order of the plan's inputs, sorted within each. Two owners may
            call columns alike: `OWNER.TABLE.COLUMN` is then what each is called.
        columns: by these names.
        label: what is learnt, float64; None where nothing is.
        sources: whose each row is, (rows,): places in `owners`.
        owners: see `rows.Rows`.
        rows: how many.
    """

    names: tuple[str, ...]
    columns: Columns
    label: NDArray[np.float64] | None
    sources: Sources
    owners: Owners
    rows: int

    def features(self) -> NDArray[np.float64]:
        """Return the columns as (rows, columns) float64, C order."""
        return np.ascontiguousarray(
            np.stack([self.columns[name] for name in self.names], axis=1), np.float64
        )

    def batches(self) -> Iterator[Batch]:
        """Yield all rows, up to 65536 at a time; see `rows.Rows`."""
        whole = Batch(columns=self.columns, label=self.label, sources=self.sources, rows=self.rows)
        for begin in range(0, self.rows, BATCH_ROWS):
            yield whole.part(begin, begin + BATCH_ROWS)


def identifiers_of(plan: JobPlan, tables: Sequence[Columns]) -> Mapping[str, list[bytes]]:
    """Return the identifiers of each of `tables` that is matched by them, by its place in `plan`.

    Args:
        plan: the job.
        tables: what was read of each input, in the plan's order.

    Raises:
        FormatError: one is missing, too long, or there twice in one table. Says in whose.
    """
    return {
        plan.place(used): _identifiers(used, table)
        for used, table in zip(plan.inputs, tables, strict=True)
        if used.identifier is not None
    }


def owners_of(plan: JobPlan) -> Owners:
    """Return whose the rows of each group of `plan` are, as `Joined.owners`, before any is read."""
    return tuple(_owners(plan, group) for group in plan.groups)


def join(
    plan: JobPlan,
    tables: Sequence[Columns],
    identifiers: Mapping[str, list[bytes]],
    terms: OutputTerms,
    *,
    key: Secret,
) -> Joined:
    """Return the rows that `plan` learns from.

    Args:
        plan: the job.
        tables: what was read of each input, in the plan's order; see `sound.refuse_unsound`.
        identifiers: see `identifiers_of`.
        terms: of all owners.
        key: of this job, 32 bytes, for the tags of identifiers.

    Raises:
        PolicyDenied: the rule `join-small`; or `cohort-small`: no row of a class is in the join.
    """
    read = {plan.place(used): table for used, table in zip(plan.inputs, tables, strict=True)}
    inner = plan.join is not None and plan.join.kind == "inner"
    groups, parts = (plan.inputs,) if inner else plan.groups, list[Joined]()
    for group in groups:
        each, owners = [read[plan.place(used)] for used in group], _owners(plan, group)
        if len(group) == 1 and not inner:
            parts.append(_alone(group[0], each[0], owners=owners))
        else:
            own = [identifiers[plan.place(used)] for used in group]
            parts.append(_inner(group, each, own, key=key, owners=owners))
            if plan.privacy is None:  # else how many there are is asked of the noised count
                terms.refuse_small_join(parts[-1].rows)
    named = next((used.label for used in plan.inputs if used.label), "")
    found = parts[0] if inner else _stacked(parts, label=named)
    if plan.privacy is None:
        terms.refuse_small_join(found.rows)
        if TRAINERS[plan.train.algorithm].classes:
            for group, part in zip(groups, parts, strict=True):
                for used in group:
                    if used.label is not None and part.label is not None:
                        label = read[plan.place(used)][used.label]
                        refuse_lost_classes(terms, label, part.label)
    return found


def sorted_rows(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.intp]:
    """Return the places of the rows of `columns` in the order of their values.

    The first column by name counts first; missing values come last; texts go by their code points.
    """
    ranks = [_ranks(columns[name]) for name in sorted(columns, reverse=True)]
    return np.lexsort(ranks)


def _ranks(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype != object:
        return values
    places = {text: at for at, text in enumerate(sorted({*values.tolist()} - {None}))}
    return np.array([places.get(each, len(places)) for each in values.tolist()], np.int64)


def _owners(plan: JobPlan, inputs: Sequence[Input]) -> frozenset[str]:
    return frozenset(plan.parties[used.owner].key for used in inputs)


def _inner(
    inputs: Sequence[Input],
    tables: Sequence[Columns],
    identifiers: Sequence[list[bytes]],
    *,
    key: Secret,
    owners: frozenset[str],
) -> Joined:
    sets = [tags(key, each) for each in identifiers]
    for each in sets:
        refuse_duplicates(each)
    places = intersect(sets)  # (rows, tables), in an order of chance
    first = identifiers[0]
    order = np.array(
        sorted(range(len(places)), key=lambda row: first[places[row, 0]]), dtype=np.intp
    )
    places = places[order]
    called = joined_names(inputs)
    columns: dict[str, NDArray[Any]] = {}
    label = None
    for at, (used, table) in enumerate(zip(inputs, tables, strict=True)):
        rows = places[:, at]
        columns |= {called[at, name]: table[name][rows] for name in sorted(used.columns)}
        if used.label is not None:
            label = table[used.label][rows]
    return Joined(
        names=tuple(columns), columns=columns, label=label, **_of_one(len(places), owners)
    )


def _alone(used: Input, table: Columns, *, owners: frozenset[str]) -> Joined:
    """Return the rows of one table, in the order of its file."""
    return Joined(
        names=tuple(sorted(used.columns)),
        columns={name: table[name] for name in used.columns},
        label=None if used.label is None else table[used.label],
        **_of_one(row_count(table), owners),
    )


def _stacked(parts: Sequence[Joined], *, label: str) -> Joined:
    """Return the rows of `parts`, which all have the same columns, and the same `label` or none."""
    names = tuple(sorted(parts[0].names))
    whole = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
    last = f"{label}\0"  # sorted as it is called, and apart from a column that is called so, too
    labels = [part.label for part in parts if part.label is not None]
    if labels:
        whole[last] = np.concatenate(labels)
    whole = {  # minus zero is zero: else the order of equal rows would be a file's
        name: each + 0.0 if each.dtype != object else each for name, each in whole.items()
    }
    order = sorted_rows(whole)
    owners, places = places_of([part.owners[0] for part in parts])
    sources = np.repeat(np.array(places, np.uint8), [part.rows for part in parts])
    return Joined(
        names=names,
        columns={name: whole[name][order] for name in names},
        label=whole[last][order] if labels else None,
        sources=sources[order],
        owners=owners,
        rows=len(order),
    )


def _of_one(rows: int, owners: frozenset[str]) -> dict[str, Any]:
    """Return what `Joined` says of so many rows of one group of tables, which are of `owners`."""
    return {"sources": np.zeros(rows, np.uint8), "owners": (owners,), "rows": rows}


def _identifiers(used: Input, table: Columns) -> list[bytes]:
    where = f"{used.owner}, table {used.table}"
    values = table[str(used.identifier)]
    if any(each is None for each in values):
        raise FormatError(f"{where}: a row has no identifier")
    try:
        return encoded(values.tolist())
    except FormatError as err:
        raise FormatError(f"{where}: {err}") from err
