"""`make fuzz-refusals`: whether how a job ends tells one owner who is in another's table.

One owner makes tables and plans up; the other has one person more or less. A job over joined rows
may be told, or refused in one wording; whatever else is said, is said in every version, or in none.
Where one row alone was made up, the job ends alike whether or not the other has that person, and
its report says the same of how many rows there are.

Not looked at: what else comes out, and how long it is; more than two owners; tables stacked below
that are about as small as a cohort asks for, of which metrics may lack a row by the join's size; and
what refusals of stacked tables say of an owner's own whole table. The threat model names them.
"""

import argparse
import importlib.util
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "learning"))

from aimed_rows import aim
from crafted_tables import Case, Table, craft
from shared_world import A, B, Owner, csv_text, plan_of, run, stack_of

from wardian.broker.jobs.plan import JobPlan
from wardian.broker.jobs.trainers import TRAINERS
from wardian.errors import WardianError
from wardian.learning.shared.report import rows_told

TOLD = "told"
ONE_WORDING = frozenset({
    TOLD,
    "PolicyDenied: too few rows are in the join",
    "PolicyDenied: too few rows stand behind a number",
})  # fmt: skip
NOISED = {"epsilon": 100.0, "delta": 1e-4, "without_noise": None}
NEEDED = {
    "dense-network": "torch",
    "perceptron": "sklearn",
    "random-forest": "sklearn",
    "statistics": "duckdb",
    "xgboost": "xgboost",
}


def algorithms() -> list[str]:
    """Return the trainers that can be run here."""
    return [
        each
        for each in TRAINERS
        if each not in NEEDED or importlib.util.find_spec(NEEDED[each]) is not None
    ]


def endings(case: Case) -> list[str]:
    """Return how the job of `case` ends with each version of the other owner's table."""
    with tempfile.TemporaryDirectory() as place:
        mine = _owner(A, place, case.mine, "a")
        below = [] if case.below is None else [_owner(A, place, case.below, "below")]
        return [
            _ended(case, [mine, _owner(B, place, theirs, f"b{at}"), *below])
            for at, theirs in enumerate(case.theirs)
        ]


def tells(case: Case, ended: list[str]) -> bool:
    """Return whether how it `ended` says more than it may."""
    if any(each.startswith("not ours") or "the job failed" in each for each in ended):
        return True
    if case.aimed:
        return len({*ended}) > 1
    ended = [TOLD if each.startswith(TOLD) else each for each in ended]
    if case.kind == "stack":  # whose rows are whose is known: of its own each owner is told
        ended = [each for each in ended if not each.startswith("PolicyDenied")]
    return len({*ended}) > 1 and not {*ended} <= ONE_WORDING


def _owner(name: str, place: str, table: Table, called: str) -> Owner:
    folder = Path(place, called)
    folder.mkdir()
    return Owner(name, folder, csv_text(table), table=called.rstrip("0123456789"))


def _ended(case: Case, owners: list[Owner]) -> str:
    try:
        done = run(_plan(case, owners), owners, **case.terms, **(NOISED if case.noised else {}))
    except WardianError as err:
        return f"{type(err).__name__}: {err}"
    except Exception as err:  # noqa: BLE001 (a finding)
        return f"not ours, {type(err).__name__}: {err}"
    return f"{TOLD}, rows: {rows_told(done.report)}"


def _plan(case: Case, owners: list[Owner]) -> JobPlan:
    label = "y" if case.label else None
    given: dict[str, Any] = {"label": label, "parameters": case.parameters}
    if case.noised:
        given |= {"privacy": {"epsilon": 50.0, "delta": 1e-5}, "seed": None}
    if case.kind != "below":
        return plan_of(owners, case.columns, case.algorithm, kind=case.kind, **given)
    labelled = {"label": label} if label else {}
    group = {"identifier": "id", "group": "both"}
    both = sorted({*case.columns[0], *case.columns[1]})
    used = [
        {"columns": case.columns[0], **group, **labelled},
        {"columns": case.columns[1], **group},
        {"columns": both, **labelled},
    ]
    return stack_of(owners, used, case.algorithm, **given)


def attempt(name: str) -> tuple[str, list[str], str]:
    """Return `name`, how its case ended, and what is wrong with that."""
    chance = random.Random(name)
    case = (aim if chance.random() < 0.5 else craft)(chance, algorithms())
    ended = endings(case)
    return name, ended, f"{name}: {sorted({*ended})} of {case}" if tells(case, ended) else ""


def main() -> int:
    """Try cases for `--seconds`; return 1 if any told more than it may."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    print(f"seed {args.seed}, trainers: {', '.join(algorithms())}")
    until, found, tried, told = time.monotonic() + args.seconds, 0, 0, 0

    def names() -> Iterator[str]:
        number = 0
        while time.monotonic() < until:
            yield f"{args.seed}/{number}"
            number += 1

    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        waiting = names()
        while batch := list(islice(waiting, 64)):
            for _, ended, wrong in pool.imap_unordered(attempt, batch):
                tried, told = tried + 1, told + any(each.startswith(TOLD) for each in ended)
                if wrong:
                    found += 1
                    print(wrong[:2000], file=sys.stderr)
    print(f"{tried} crafted cases, {told} of which were told; {found} tell more than they may")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
