"""A job from its opened keys to its sealed outputs. Everything it needs is an argument."""

import contextlib
import json
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wardian.broker.jobs.merge import OutputTerms
from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.rules import Rule
from wardian.broker.tables.content import TableKey
from wardian.crypto.secret import Secret
from wardian.errors import (
    ConfigError,
    FormatError,
    LocalProtocolError,
    PolicyDenied,
    WardianError,
)
from wardian.learning.shared.cohort import refuse_small, too_few
from wardian.learning.shared.columns import kinds_of
from wardian.learning.shared.joining import Joined, identifiers_of, join, owners_of
from wardian.learning.shared.outputs import HeldOutputs, seal_outputs
from wardian.learning.shared.report import report_of
from wardian.learning.shared.rows import Owners, Rows, SealedRows, are_matched
from wardian.learning.shared.seeds import Seeds
from wardian.learning.shared.sound import refuse_unsound, refuse_unsound_together
from wardian.learning.shared.tables import SealedTable
from wardian.learning.shared.trainers.table import FUNCTIONS, STREAMING
from wardian.learning.shared.trainers.trained import Task, Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A job that ran.

    Attributes:
        held: what came out.
        report: what was done; see `report`.
    """

    held: HeldOutputs
    report: Mapping[str, Any]


def run_job(
    plan: JobPlan,
    keys: Iterable[TableKey],
    terms: OutputTerms,
    tables: Iterable[SealedTable],
    *,
    job_id: bytes,
    seed: Secret,
    measurement: str,
    serving: Secret | None = None,
) -> Finished:
    """Return what comes out of the job `plan`.

    Args:
        plan: whose digest the evidence of this enclave binds.
        keys: as the broker gave them, for the report: under whose rule.
        terms: given with them.
        tables: one for each input, with the key that the broker released, in any order.
        job_id: of the broker's debit, 32 bytes, for the report.
        seed: 32 bytes, the same whenever the job is run again; of the broker.
        measurement: of this code, in hex, for the report.
        serving: a fresh broker key for the model, where the plan has it served.

    Raises:
        PolicyDenied: `join-small`, `cohort-small`, or a recipient whom the terms do not name.
        FormatError, CryptoError: a table is not what its owner sealed, or not what the plan needs;
            the message says whose. Or memory is not enough, or a library failed.
        ConfigError: a library is not installed, no noise is enough for the budget, or there is no
            column but that of groups.
        LocalProtocolError: the tables are not those of the plan's inputs.
    """
    seeds = Seeds(seed, plan)
    with _in_our_words():
        rows = source(plan, tables, terms, seeds)
        with _one_wording(rows.owners):
            task = Task(
                rows=rows,
                parameters=plan.train.parameters,
                terms=terms,
                privacy=plan.privacy,
                noise=seeds.noise(rows) if plan.privacy and isinstance(rows, Joined) else None,
                seed=seeds.training,
                measured=bool(plan.outputs.metrics),
            )
            results = _results(FUNCTIONS[plan.train.algorithm](task))
            if plan.privacy is None:  # also if its trainer, that read pass by pass, did not ask
                terms.refuse_small_join(rows.rows)
            held = seal_outputs(plan, terms, results, serving=serving)
    report = report_of(
        plan, keys, terms, held, rows=rows.rows, job_id=job_id, measurement=measurement
    )
    return Finished(held=held, report=report)


@contextlib.contextmanager
def _one_wording(owners: Owners) -> Iterator[None]:
    """Let all that fails of joined rows fail as too few of them do: why would tell who is there.

    Which class lost its rows, or which column: an owner that made one up for each of many people
    would be told who of them is there. What is wrong with one owner's table was looked for in all
    of it, before it was joined; a join that is too small is told as that.
    """
    try:
        yield
    except ConfigError:  # of the plan
        raise
    except Exception as err:
        other_rule = isinstance(err, PolicyDenied) and err.rule != Rule.COHORT
        if other_rule or not are_matched(owners):
            raise
        raise too_few() from None


@contextlib.contextmanager
def _in_our_words() -> Iterator[None]:
    """Let a library that fails say no more than where: its own text may hold values of rows."""
    try:
        yield
    except WardianError:
        raise
    except MemoryError:
        raise FormatError("the job has not memory enough for these tables") from None
    except Exception as err:  # noqa: BLE001 (a library's own)
        place = traceback.extract_tb(err.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        raise FormatError(f"the job failed: {type(err).__name__} ({where})") from None


def source(plan: JobPlan, tables: Iterable[SealedTable], terms: OutputTerms, seeds: Seeds) -> Rows:
    """Return the rows to learn from; errors as `run_job`.

    Of stacked tables, or of one, a trainer that goes through its rows reads them anew each time.
    Rows that are matched by identifiers, or that noise is made for, are in memory.
    """
    matched = any(len(group) > 1 for group in plan.groups)
    if plan.train.algorithm not in STREAMING or matched or plan.privacy is not None:
        joined = opened(plan, tables, terms, seeds)
        if plan.privacy is None:  # else the noised count is looked at
            each = np.bincount(joined.sources, minlength=len(joined.owners))
            refuse_small(terms, each)
        return joined
    given, used = _given(plan, tables), plan.inputs[0]
    return SealedRows(
        used,
        [
            (f"{each.owner}, table {each.name}", each.batches)
            for each in (given[used.owner, used.table] for used in plan.inputs)
        ],
        kinds_of(used, {str(plan.train.parameters.get("by", ""))} & used.columns),
        owners=[plan.parties[used.owner].key for used in plan.inputs],
    )


def _given(plan: JobPlan, tables: Iterable[SealedTable]) -> Mapping[tuple[str, str], SealedTable]:
    given = {(each.owner, each.name): each for each in tables}
    if set(given) != {(used.owner, used.table) for used in plan.inputs}:
        raise LocalProtocolError("the tables are not those of the plan")
    return given


def opened(
    plan: JobPlan, tables: Iterable[SealedTable], terms: OutputTerms, seeds: Seeds
) -> Joined:
    """Return the joined rows of `tables`, in memory; errors as `run_job`."""
    given = _given(plan, tables)
    by = str(plan.train.parameters.get("by", ""))
    read = []
    for used in plan.inputs:
        read.append(given[used.owner, used.table].read(kinds_of(used, {by} & used.columns)))
        refuse_unsound(plan, used, read[-1])
    refuse_unsound_together(plan, read, terms)
    identifiers = identifiers_of(plan, read)
    with _one_wording(owners_of(plan)):
        return join(plan, read, identifiers, terms, key=seeds.joining)


def _results(trained: Trained) -> Mapping[str, bytes]:
    """Return what the trainer gave, as the bytes that are sealed."""
    found = {"model": trained.model, "aggregates": trained.aggregates}
    if trained.metrics is not None:
        text = json.dumps(trained.metrics, indent=2, sort_keys=True, allow_nan=False)
        found["metrics"] = f"{text}\n".encode()
    return {name: each for name, each in found.items() if each is not None}
