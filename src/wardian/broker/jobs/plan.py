"""`job.toml`: what one job wants to do with whose tables. It names code and never brings it.

The digest of its canonical form is what owners look at and what the job's evidence binds (TRUST
T8): a host that swaps the file has another job. `docs/reference/job.md` describes every key.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec

from wardian._internal import settings, wire
from wardian._internal.settings import Settings
from wardian.broker.jobs.canonical import canonical, parse_canonical
from wardian.broker.jobs.parties import (
    Names,
    Parties,
    refuse_keyless,
    refuse_shared_keys,
    refuse_strangers,
)
from wardian.broker.jobs.policy import EVERY_COLUMN, Column, Delta, Epsilon, table_place
from wardian.broker.jobs.trainers import TRAINERS, ParameterName, Scalar, settled
from wardian.broker.mesh.fields import Hex32, Name

LABEL: Final = "wardian job plan v1"
MAX_PLAN_BYTES: Final = 1024 * 1024
MOST_INPUTS: Final = 64
SERVING: Final = "serving"
"""What stands for the workers of `Outputs.serving` where parties are named."""
MOST_NAME_CHARS: Final = 64
"""Of a model's name in a mesh (`mesh.fields.Name`)."""


class Input(Settings, frozen=True, kw_only=True):
    """`[[inputs]]`: one table, and what of it is used."""

    table: Name
    owner: Name
    """Which of `parties` it is of."""
    columns: Annotated[frozenset[Column], msgspec.Meta(min_length=1, max_length=1024)]
    """What is learnt from, or counted."""
    identifier: Column | None = None
    """By which rows of several tables are joined; nothing is learnt from it."""
    label: Column | None = None
    """What is learnt."""
    group: Name | None = None
    """Of tables that are joined by identifier before their rows are stacked with others'."""

    def __post_init__(self) -> None:
        """Refuse a column in two parts, and a sign for every one: a plan names what it uses."""
        if self.used and EVERY_COLUMN in self.used:
            raise ValueError("a plan names every column that it uses")
        if len(self.used) < len(self.columns) + sum(map(bool, (self.identifier, self.label))):
            raise ValueError("`identifier`, `label` and `columns` share a column")

    @property
    def used(self) -> frozenset[str]:
        """Every column that is used, for whatever."""
        return self.columns | {each for each in (self.identifier, self.label) if each is not None}


class Join(Settings, frozen=True, kw_only=True):
    """`[join]`: how several tables become one."""

    kind: Literal["inner", "stack"]
    """`inner`: the rows whose identifiers all tables have. `stack`: the rows of all, one below the
    other, of tables that have the same columns, or of groups of joined tables that do."""


class Train(Settings, frozen=True, kw_only=True):
    """`[train]`: which entry of the table of trainers, and its parameters."""

    algorithm: Name
    parameters: Annotated[dict[ParameterName, Scalar], msgspec.Meta(max_length=64)] = msgspec.field(
        default_factory=dict
    )
    """Once read, every parameter of the trainer: those that were not set have its defaults."""

    def __post_init__(self) -> None:
        """Refuse another algorithm or parameter, and settle them all."""
        msgspec.structs.force_setattr(self, "parameters", settled(self.algorithm, self.parameters))

    @property
    def defaults(self) -> Mapping[str, Scalar]:
        """Every parameter of the trainer, by default."""
        return TRAINERS[self.algorithm].parameters


class Outputs(Settings, frozen=True, kw_only=True):
    """`[outputs]`: what comes out, and to whom it is sealed."""

    model: Names = frozenset()
    metrics: Names = frozenset()
    aggregates: Names = frozenset()
    serving: Annotated[frozenset[Hex32], msgspec.Meta(max_length=64)] = frozenset()
    """Measurements of workers that the model goes to straight away, to be served."""

    @property
    def receiving(self) -> frozenset[str]:
        """Every party that is given anything."""
        return self.model | self.metrics | self.aggregates


class Privacy(Settings, frozen=True, kw_only=True):
    """`[privacy]`: what the run spends, for all that it tells."""

    epsilon: Epsilon
    delta: Delta = 0.0


class JobPlan(Settings, frozen=True, kw_only=True):
    """One job."""

    mesh: Name
    name: Name
    purpose: Name
    parties: Parties
    inputs: Annotated[tuple[Input, ...], msgspec.Meta(min_length=1, max_length=MOST_INPUTS)]
    join: Join | None = None
    train: Train
    outputs: Outputs
    privacy: Privacy | None = None
    seed: Literal["derived"] | Annotated[int, msgspec.Meta(ge=0, le=2**53)] = "derived"
    """Of what training tosses: `derived` inside from a seed of the broker's and this plan, so that
    nobody knows it and a job that asks again is the same; or a number. Noise is always derived."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, or what nobody could run."""
        refuse_shared_keys(self.parties)
        if SERVING in self.parties:
            raise ValueError(f'no party is called "{SERVING}": that is who serves the model')
        refuse_strangers((each.owner for each in self.inputs), self.parties, what="`inputs`")
        if len({self.place(each) for each in self.inputs}) < len(self.inputs):
            raise ValueError("`inputs` names one table twice")
        self._refuse_wrong_join()
        self._refuse_wrong_outputs()
        if self.privacy and not self.privacy.delta:
            raise ValueError("[privacy] needs a delta above 0: the noise is Gaussian")
        if self.privacy and not TRAINERS[self.train.algorithm].private:
            raise ValueError(f"{self.train.algorithm} adds no noise: leave [privacy] out")
        if self.privacy and self.seed != "derived":
            raise ValueError('with [privacy] the seed is "derived"')
        self._refuse_wrong_groups()

    @property
    def places(self) -> frozenset[str]:
        """`DataPolicy.place` of every table in the job."""
        return frozenset(map(self.place, self.inputs))

    def place(self, each: Input) -> str:
        """Return where the table of this input is counted."""
        return table_place(self.parties[each.owner].key, each.table)

    def output_name(self, output: str) -> str:
        """Return the name that the sealed file of `output` opens under."""
        return f"{self.name}.{output}"

    @property
    def groups(self) -> tuple[tuple[Input, ...], ...]:
        """The inputs in groups: rows of one are joined by identifier, rows of several stacked."""
        if self.join is None or self.join.kind == "inner":
            return (self.inputs,)
        found: dict[str | int, list[Input]] = {}
        for at, each in enumerate(self.inputs):
            found.setdefault(at if each.group is None else each.group, []).append(each)
        return tuple(map(tuple, found.values()))

    def _refuse_wrong_join(self) -> None:
        kind = self.join.kind if self.join else None
        if (kind is None) is (len(self.inputs) > 1):
            raise ValueError("[join] goes with two inputs or more, and is needed then")
        if kind != "stack" and any(each.group is not None for each in self.inputs):
            raise ValueError("`group` goes with the join `stack`")
        for group in self.groups:
            if any((each.identifier is None) is (len(group) > 1) for each in group):
                raise ValueError("`identifier` goes with tables that are joined, for each of them")
            if (
                sum(each.label is not None for each in group)
                != TRAINERS[self.train.algorithm].labelled
            ):
                raise ValueError("`label` goes with learning: of one input, or of all stacked ones")
            called = joined_names(group)
            if len(called) > len({*called.values()}):
                raise ValueError("a column is called like another one, OWNER.TABLE.COLUMN")
        if kind == "stack" and len({self._rows_of(group) for group in self.groups}) > 1:
            raise ValueError("the join `stack` needs the same columns and label of every input")

    def _rows_of(self, group: tuple[Input, ...]) -> tuple[frozenset[str], str | None]:
        """Return columns and label of the rows of `group`."""
        columns = frozenset(name for each in group for name in each.columns)
        if len(self.groups) > 1 and len(columns) < sum(len(each.columns) for each in group):
            raise ValueError("two tables of a `group` have a column of the same name")
        return columns, next((each.label for each in group if each.label), None)

    def _refuse_wrong_groups(self) -> None:
        by = self.train.parameters.get("by")
        if not by:
            return
        if self.privacy:
            raise ValueError("`by` goes without [privacy]: which groups there are tells of rows")
        if sum(by in each.columns for each in self.inputs) != len(self.groups):
            raise ValueError("`by` is one of the columns, of one table or of all that are stacked")

    def _refuse_wrong_outputs(self) -> None:
        refuse_keyless(self.outputs.receiving, self.parties, what="`outputs`")
        if not (self.outputs.receiving or self.outputs.serving):
            raise ValueError("`outputs` gives nothing to anybody")
        if self.outputs.serving and len(self.output_name("model")) > MOST_NAME_CHARS:
            raise ValueError("`name` is too long: with `.model` it is the name of a served model")
        learns = TRAINERS[self.train.algorithm].learns
        learnt = self.outputs.model or self.outputs.metrics or self.outputs.serving
        if learnt and not learns:
            raise ValueError(f"{self.train.algorithm} makes no model: only `aggregates` come out")
        if self.outputs.aggregates and learns:
            raise ValueError(f"{self.train.algorithm} makes a model: no `aggregates` come out")


def joined_names(inputs: Sequence[Input]) -> dict[tuple[int, str], str]:
    """Return what each column of joined `inputs` is called, by its place and its own name.

    That is its own name, unless two of them have it: then it is `OWNER.TABLE.COLUMN`.
    """
    every = Counter(name for used in inputs for name in used.columns)
    return {
        (at, name): name if every[name] == 1 else f"{used.owner}.{used.table}.{name}"
        for at, used in enumerate(inputs)
        for name in used.columns
    }


def load_plan(raw: bytes, *, name: str = "job.toml") -> JobPlan:
    """Return the plan in `raw`, as a person writes it.

    Args:
        raw: TOML, at most 1 MiB.
        name: the file's name for messages.

    Raises:
        ConfigError: not TOML, an unknown key, a wrong value, or keys that contradict each other.
    """
    return settings.parse(raw, JobPlan, name=name)


def encode_plan(plan: JobPlan) -> bytes:
    """Return the canonical form of `plan`: what travels, and what its digest covers."""
    return canonical(plan)


def parse_plan(raw: bytes) -> JobPlan:
    """Return the plan in `raw`, untrusted.

    Raises:
        FormatError: no plan, more than 1 MiB, or not in its one canonical form.
    """
    return parse_canonical(raw, JobPlan, what="job plan", most_bytes=MAX_PLAN_BYTES)


def plan_digest(plan: JobPlan) -> bytes:
    """Return SHA-256 (32 bytes) of the canonical form under a label of its own."""
    return canonical_digest(canonical(plan))


def canonical_digest(raw: bytes) -> bytes:
    """Return `plan_digest` of the plan whose canonical form is `raw`."""
    return hashlib.sha256(wire.fields(LABEL, raw)).digest()
