"""Tables of which one row is made up, to be told whether another owner has the person of that row.

All else is usual, and far from every number that is asked for: so a job that ends in one way with
that person, and in another without, has answered.
"""

import random
from collections.abc import Callable, Sequence

from crafted_tables import EDGES, Case, Table, below, turned

from wardian.broker.jobs.trainers import TRAINERS, Trainer

PERSONS = 60
SIZES = (1, 200, 1022, 1023)
"""Of what is stacked below: none near a number of rows that is asked for."""
VICTIM = "victim"


def aim(chance: random.Random, algorithms: Sequence[str]) -> Case:
    """Return a case that is aimed at one person: with the same `chance`, the same."""
    algorithm = chance.choice(algorithms)
    trainer = TRAINERS[algorithm]
    kind = chance.choice(["inner", "inner", "below"])
    parameters = turned(chance, trainer)
    noised = trainer.private and not parameters.get("by") and chance.random() < 0.3
    persons = [f"p{at}" for at in range(PERSONS)]
    theirs = [
        {"id": ids, "z": [f"{chance.gauss(0, 1):.6f}" for _ in ids]}
        for ids in ([*persons, VICTIM], persons)
    ]
    return Case(
        algorithm=algorithm,
        parameters=parameters,
        kind=kind,
        mine={"id": [*persons, VICTIM], **_columns(chance, trainer)},
        below=below(chance, trainer, chance.choice(SIZES)) if kind == "below" else None,
        theirs=theirs,
        columns=(["g", "w", "x"] if parameters.get("by") else ["w", "x"], ["z"]),
        label=trainer.labelled,
        terms={
            "smallest_join": chance.choice([1, 10, 30]),
            "smallest_cohort": chance.choice([1, 2, 5, 10]),
        },
        noised=noised,
        aimed=True,
    )


def _columns(chance: random.Random, trainer: Trainer) -> Table:
    found = {name: _column(chance, missing=trainer.missing) for name in ("w", "x")}
    found["g"] = [*("ab" * (PERSONS // 2)), chance.choice(["a", "c", ""])]
    if trainer.classes:
        found["y"] = [
            *("01" * (PERSONS // 2)),
            chance.choice(["0", "2", "-1", "2147483648", "0.5", ""]),
        ]
    else:
        found["y"] = _column(chance, missing=False)
    return found


def _column(chance: random.Random, *, missing: bool) -> list[str]:
    """Return what nearly all rows have, and what the last one has, which may be refused."""
    edges = (*EDGES, "") if missing else EDGES
    last = chance.choice([*edges, *edges, *edges, "", "1e38", "inf"])
    most, size = chance.choice(edges), 10.0 ** chance.choice([-300, -45, -38, -20, 0, 0, 20, 36])
    ways: list[Callable[[], str]] = [
        lambda: f"{chance.gauss(0, 1):.6f}",
        lambda: f"{chance.gauss(0, 1):.6f}",
        lambda: chance.choice("123"),
        lambda: most,
        lambda: f"{chance.random() * size:e}",
        lambda: chance.choice([f"{size:e}", f"{-size:e}"]),
    ]
    way = chance.choice(ways)
    return [*(way() for _ in range(PERSONS)), last]
