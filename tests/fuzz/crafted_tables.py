"""Tables and plans as an owner would make them up who wants to be told of another's rows.

Each case has one owner's tables, and what the other may have: versions of one table, in which some
persons are there or not. What the first owner makes up goes to the ends of what may be said at all.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wardian.broker.jobs.trainers import TRAINERS, Trainer

Table = dict[str, list[str]]
EDGES = (
    *("0", "-0.0", "1", "-1", "0.1", "1e16", "123456789012", "2147483647", "-2147483647"),
    *("1e36", "-1e36", "9.9e36", "-1e37", "1e37", "1e-30", "1e-37", "1e-300", "5e-324"),
)
SMALL: Mapping[str, Any] = {"epochs": 1, "trees": 2, "max_iterations": 4, "hidden": 3, "bins": 8}
"""Of parameters whose usual size only costs time."""
SIZES = (1, 5, 9, 30, 200, 1022, 1023)
"""Of what is stacked below: with two classes more, the last has one class too many."""
TURNED: Mapping[str, Sequence[Any]] = {
    "l2": (0.0, 1e-9, 1.0, 1000.0),
    "learning_rate": (1e-9, 0.1, 1.0, 10.0),
    "clusters": (1, 2, 7, 100),
    "depth": (1, 3, 16),
    "min_leaf_rows": (10, 12, 1000),
    "bins": (2, 8, 300),
    "layers": (1, 2),
    "batch": (1, 7, 64),
    "trees": (1, 2, 25),
    "epochs": (1, 10),
    "max_iterations": (1, 4, 30),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attempt.

    Attributes:
        algorithm: of the plan.
        parameters: likewise.
        kind: `inner`: both owners' tables are joined. `below`: so they are, and another table of
            the first owner is stacked below. `stack`: both owners' are stacked.
        mine: the table of the first owner.
        below: its other one, for `below`.
        theirs: what the other one's table may be.
        columns: that are used, of the first owner's table and of the other's.
        label: whether there is one, `y`.
        terms: of both owners.
        noised: whether noise is asked for, of which little is enough.
        aimed: whether the other owner's tables differ in one person alone, whose row is the only
            one that the first owner made up.
    """

    algorithm: str
    parameters: Mapping[str, Any]
    kind: str
    mine: Table
    below: Table | None
    theirs: Sequence[Table]
    columns: tuple[list[str], list[str]]
    label: bool
    terms: Mapping[str, int]
    noised: bool = False
    aimed: bool = False


def craft(chance: random.Random, algorithms: Sequence[str]) -> Case:
    """Return a case whose tables are made up whole: with the same `chance`, the same."""
    algorithm = chance.choice(algorithms)
    trainer = TRAINERS[algorithm]
    kind = chance.choice(["inner", "inner", "below", "stack"])
    parameters = turned(chance, trainer)
    persons = [f"p{at}" for at in range(chance.choice([9, 12, 16, 24, 36]))]
    mine = chance.sample(persons, len(persons) - chance.choice([0, 1, 3]))
    own = ["g", "w", "x"] if parameters.get("by") else ["w", "x"]
    return Case(
        algorithm=algorithm,
        parameters=parameters,
        kind=kind,
        mine={"id": mine, **_table(chance, trainer, len(mine), ["w", "x"])},
        below=below(chance, trainer, chance.choice(SIZES)) if kind == "below" else None,
        theirs=_versions(chance, trainer, persons),
        columns=(own, own if kind == "stack" else ["z"]),
        label=trainer.labelled,
        terms={
            "smallest_join": chance.choice([1, 4, 8, 10]),
            "smallest_cohort": chance.choice([1, 2, 3, 5]),
        },
    )


def turned(chance: random.Random, trainer: Trainer) -> dict[str, Any]:
    """Return parameters of `trainer`, some of which are at an end of what they may be."""
    found = {name: value for name, value in SMALL.items() if name in trainer.parameters}
    for name in sorted(TURNED.keys() & trainer.parameters.keys()):
        if chance.random() < 0.5:
            least, largest = trainer.ranges[name]
            fitting = [each for each in TURNED[name] if least <= each <= largest]
            found[name] = chance.choice(fitting)
    if "by" in trainer.parameters:
        found["by"] = chance.choice(["", "g"])
    return found


def below(chance: random.Random, trainer: Trainer, rows: int) -> Table:
    """Return a table that is stacked below joined ones; one of 1000 rows has as many classes."""
    found = _table(chance, trainer, rows, ["w", "x", "z"])
    if trainer.classes and rows > 1000:
        found["y"] = [str(3 + at) for at in range(rows)]
    return found


def _versions(chance: random.Random, trainer: Trainer, persons: Sequence[str]) -> list[Table]:
    """Return tables of one owner who makes nothing up, of most `persons`, and of one more or less."""
    rows = {
        each: {
            "id": each,
            "z": f"{chance.gauss(0, 1):.6f}",
            "w": f"{chance.gauss(0, 1):.6f}",
            "x": str(chance.randrange(4)),
            "g": "ab"[at % 2],
            "y": str(at % 2 if trainer.classes else at),
        }
        for at, each in enumerate(persons)
    }
    base = [each for each in persons if chance.random() < chance.choice([0.6, 0.9, 1])] or persons
    others = [sorted({*base} ^ {each}) or base for each in chance.sample(persons, 4)]
    found = [base, persons, *others]
    return [{name: [rows[each][name] for each in ids] for name in rows[ids[0]]} for ids in found]


def _table(
    chance: random.Random, trainer: Trainer, rows: int, columns: Sequence[str]
) -> dict[str, list[str]]:
    found = {name: _column(chance, rows, missing=trainer.missing) for name in columns}
    many = chance.random() < 0.5
    found["g"] = [chance.choice(["a", "b", *([f"g{at}"] if many else [])]) for at in range(rows)]
    found["y"] = _classes(chance, rows) if trainer.classes else _column(chance, rows, missing=False)
    return found


def _classes(chance: random.Random, rows: int) -> list[str]:
    classes = chance.choice([1, 2, 2, 2, 3, 4])
    found = [str(chance.randrange(classes)) for _ in range(rows)]
    if chance.random() < 0.3:
        few = min(rows, chance.choice([1, 2, 3, 5]))
        found[:few] = [chance.choice(["9", "-1", "2147483647"])] * few
    return found


def _column(chance: random.Random, rows: int, *, missing: bool) -> list[str]:
    edges = (*EDGES, "", "nan") if missing else EDGES
    most = chance.choice(edges)
    ways: list[Callable[[int], str]] = [
        lambda _: f"{chance.gauss(0, 1):.6f}",
        lambda _: chance.choice("123"),
        lambda _: chance.choice(edges),
        lambda at: most if at else chance.choice(edges),
        lambda at: most if at % 2 else "-" + most.lstrip("-") if most not in ("", "nan") else most,
        lambda _: f"{chance.random() * 10.0 ** chance.randrange(-42, -3):e}",
    ]
    way = chance.choice(ways)
    found = [way(at) for at in range(rows)]
    chance.shuffle(found)
    return found
