"""`policy.toml`: what one owner says of one table. Rules are alternatives; no rule means no.

What is not said is not allowed, and what weakens is said in words. `docs/reference/data-policy.md`
describes every key.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from wardian._internal import settings
from wardian._internal.settings import Settings
from wardian.attestation.appraisal.policy import AllOf, AppraisalPolicy
from wardian.attestation.appraisal.policy_file import PolicyFile, build_policy
from wardian.broker.jobs.parties import (
    Names,
    Parties,
    refuse_keyless,
    refuse_shared_keys,
    refuse_strangers,
)
from wardian.broker.jobs.trainers import TRAINERS, ParameterName, Scalar, is_number
from wardian.broker.mesh.fields import Hex32, Name, Serial, Text
from wardian.errors import ConfigError

EVERY_COLUMN: Final = "*"
MOST_RULES: Final = 64
Column: TypeAlias = Text
Columns = Annotated[frozenset[Column], msgspec.Meta(min_length=1, max_length=1024)]
PinText = Annotated[str, msgspec.Meta(pattern=r"\Awardian-pin-v1:[0-9a-f]{64}:[0-9a-f]{32}\Z")]
Rows = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Epsilon = Annotated[float, msgspec.Meta(gt=0, le=1000)]
Delta = Annotated[float, msgspec.Meta(ge=0, lt=1)]
UnixTime = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Time = UnixTime | Annotated[datetime, msgspec.Meta(tz=True)]


class Range(Settings, frozen=True, kw_only=True):
    """What a parameter may be: `min` and `max` (inclusive), one of a list, or one value."""

    min: int | float | None = None
    max: int | float | None = None
    one_of: Annotated[tuple[Scalar, ...], msgspec.Meta(min_length=1, max_length=64)] | None = None
    exact: Scalar | None = None

    def __post_init__(self) -> None:
        """Refuse what says nothing, contradicts itself, or is no number."""
        bounds = [each for each in (self.min, self.max) if each is not None]
        if bool(bounds) + (self.one_of is not None) + (self.exact is not None) != 1:
            raise ValueError("give `min` or `max` or both, or `one_of`, or `exact`")
        for value in (
            *bounds,
            *(self.one_of or ()),
            *(() if self.exact is None else (self.exact,)),
        ):
            if not (isinstance(value, bool | str) or is_number(value)):
                raise ValueError("a bound is a finite number up to 2^53")
        if len(bounds) == 2 and bounds[0] > bounds[1]:
            raise ValueError("`min` is above `max`")

    def holds(self, value: Scalar) -> bool:
        """Return whether `value` is one that this allows. A truth value is no number."""
        if self.one_of is not None or self.exact is not None:
            listed = (self.exact,) if self.one_of is None else self.one_of
            return any(_same(value, each) for each in listed if each is not None)
        if isinstance(value, bool | str) or not is_number(value):
            return False
        above = self.min is None or value >= self.min
        return above and (self.max is None or value <= self.max)


class Approvals(Settings, frozen=True, kw_only=True):
    """How many of whom have to approve before anything leaves the job."""

    needed: Annotated[int, msgspec.Meta(ge=1, le=64)]
    of: Annotated[frozenset[Name], msgspec.Meta(min_length=1, max_length=64)]


class Output(Settings, frozen=True, kw_only=True):
    """`[allow.output]`: what may come out, to whom, and how much it may tell."""

    model: Names = frozenset()
    metrics: Names = frozenset()
    """How good the model is."""
    aggregates: Names = frozenset()
    """Counts and means of columns."""
    serving: Annotated[frozenset[Hex32], msgspec.Meta(max_length=64)] = frozenset()
    """Measurements of the workers that the broker may give the model to, to serve it."""
    smallest_join: Rows
    """With fewer rows joined nothing is trained."""
    smallest_cohort: Rows
    """No number is told that fewer rows stand behind."""
    epsilon: Epsilon | None = None
    """The most that one run may spend, for all that it tells; None: see `without_noise`."""
    delta: Delta = 0.0
    without_noise: Literal["risk accepted"] | None = None
    approvals: Approvals | None = None

    def __post_init__(self) -> None:
        """Refuse silence about noise."""
        if (self.epsilon is None) is (self.without_noise is None):
            raise ValueError('give either `epsilon`, or `without_noise = "risk accepted"`')
        if self.epsilon is None and self.delta:
            raise ValueError("`delta` goes with `epsilon`")


class Allow(Settings, frozen=True, kw_only=True):
    """`[[allow]]`: one rule, all of which has to hold."""

    name: Name
    """What refusals call it."""
    purposes: Annotated[frozenset[Name], msgspec.Meta(min_length=1, max_length=64)]
    parties: Annotated[Names, msgspec.Meta(min_length=1)]
    """All whose tables may be in the job, and all who may receive anything; the owner, too."""
    columns: Columns
    """Which of the table a job may use, for whatever; `"*"`, alone, is all of them."""
    algorithms: Annotated[
        dict[Name, Annotated[dict[ParameterName, Range], msgspec.Meta(max_length=64)]],
        msgspec.Meta(min_length=1, max_length=64),
    ]
    """By name, with the range of each parameter. One that is not named has its default."""
    expires: Time
    """Unix seconds: no release later than that."""
    output: Output

    def __post_init__(self) -> None:
        """Write the time as a number, and refuse `"*"` beside names."""
        if isinstance(self.expires, datetime):
            seconds = int(self.expires.timestamp())
            if seconds < 1:
                raise ValueError("`expires` is before 1970")
            msgspec.structs.force_setattr(self, "expires", seconds)
        if EVERY_COLUMN in self.columns and len(self.columns) > 1:
            raise ValueError('`columns` is either "*" or names')

    @property
    def expires_at(self) -> int:
        """The last second (Unix) at which it holds."""
        return int(self.expires if isinstance(self.expires, int) else self.expires.timestamp())


class Budget(Settings, frozen=True, kw_only=True):
    """`[budget]`: what all runs over this table together may spend, whichever rules allow them."""

    epsilon: Epsilon
    delta: Delta = 0.0


class DataPolicy(Settings, frozen=True, kw_only=True):
    """One version of one owner's policy about one table."""

    mesh: Name
    table: Name
    owner: Name
    """Which of `parties` says all this."""
    serial: Serial
    """Only grows. Once a higher one was seen this one counts no more."""
    revoked: bool = False
    """Withdraws the table: whatever else stands here counts for nothing."""
    pin: PinText | None = None
    """Which sealed file the table is (`crypto.Pin`): another one, or an older one, is another."""
    uses: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    """Releases of the table's key, counted from the first one ever: a new serial does not begin
    anew, and all rules count together."""
    max_beacon_age_s: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    budget: Budget | None = None
    parties: Parties
    code: PolicyFile | None = None
    """What may have the key, in the words of an appraisal policy."""
    allow: Annotated[tuple[Allow, ...], msgspec.Meta(max_length=MOST_RULES)] = ()

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, or would mean something else than it says."""
        refuse_shared_keys(self.parties)
        refuse_strangers((self.owner,), self.parties, what="`owner`")
        if self.allow and None in {self.pin, self.uses}:
            raise ValueError("with [[allow]], `pin` and `uses` are needed")
        if self.allow and self.code is None:
            raise ValueError("with [[allow]], [code] is needed")
        if len({rule.name for rule in self.allow}) < len(self.allow):
            raise ValueError("two [[allow]] have one `name`")
        self._refuse_wrong_code()
        for rule in self.allow:
            self._refuse_in_rule(rule)

    @property
    def owner_key(self) -> str:
        """The owner's public key in hex."""
        return self.parties[self.owner].key

    @property
    def appraisal(self) -> AppraisalPolicy:
        """What evidence of a job has to satisfy; one that names no code accepts nothing."""
        if self.code is None:
            return AppraisalPolicy(roots=frozenset(), rule=AllOf())
        return build_policy(self.code, name="[code]")

    @property
    def place(self) -> str:
        """What the broker counts and remembers under, whatever the serial."""
        return table_place(self.owner_key, self.table)

    def _refuse_wrong_code(self) -> None:
        try:
            _ = self.appraisal
        except ConfigError as err:
            raise ValueError(str(err)) from err

    def _refuse_in_rule(self, rule: Allow) -> None:
        what, output = f"rule {rule.name}", rule.output
        refuse_strangers(rule.parties, self.parties, what=what)
        receiving = output.model | output.metrics | output.aggregates
        refuse_keyless(receiving, self.parties, what=what)
        if outside := sorted(receiving - rule.parties):
            raise ValueError(f"{what} gives to {outside[0]}, which is none of its `parties`")
        if output.epsilon is not None and self.budget is None:
            raise ValueError(f"{what} bounds epsilon for one run; bound it in all with [budget]")
        if output.approvals is not None:
            refuse_strangers(output.approvals.of, self.parties, what=what)
            if output.approvals.needed > len(output.approvals.of):
                raise ValueError(f"{what} needs more approvals than there are who could")


def table_place(owner: str, table: str) -> str:
    """Return the place of `table` of the owner with this public key.

    Where the line of a model has its version stands a word: it shares no place with it.
    """
    return f"{owner}/{table}/table"


def load_policy(raw: bytes, *, name: str = "policy.toml") -> DataPolicy:
    """Return the policy in `raw`, as a person writes it.

    Args:
        raw: TOML, at most 1 MiB.
        name: the file's name for messages.

    Raises:
        ConfigError: not TOML, an unknown key, a wrong value, keys that contradict each other, or
            an algorithm or a parameter that no trainer has, which would never allow anything.
    """
    policy = settings.parse(raw, DataPolicy, name=name)
    for rule in policy.allow:
        for algorithm, ranges in rule.algorithms.items():
            _refuse_unknown(algorithm, ranges, what=f"{name}: rule {rule.name}")
    return policy


def _refuse_unknown(algorithm: str, parameters: Iterable[str], *, what: str) -> None:
    if algorithm not in TRAINERS:
        raise ConfigError(f"{what}: there is no algorithm {algorithm}")
    if unknown := sorted(set(parameters) - TRAINERS[algorithm].parameters.keys()):
        raise ConfigError(f"{what}: {algorithm} has no parameter {unknown[0]}")


def _same(one: Scalar, other: Scalar) -> bool:
    """Return whether both are the same word, truth value or number; true is not 1."""
    kinds = [(isinstance(each, bool), isinstance(each, str)) for each in (one, other)]
    return kinds[0] == kinds[1] and one == other
