"""One stage of a run over aligned records: it asks, takes answers, and advances; all of it kept.

What a stage knows is in records that the coordinator seals after each of its steps (`Kept`). A
stage that is made anew of these goes on exactly there: it asks what it would have asked, with the
same content. So a coordinator that is killed repeats a question, and never an outcome.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from wardian._internal.consortium import Consortium
from wardian.crypto.secret import Secret
from wardian.errors import SealError
from wardian.learning.arrays import DTYPES, ArrayRecord
from wardian.learning.messages import ArraySpec
from wardian.learning.records import ConfigRecord, Record, RecordDict, Setting
from wardian.learning.vertical.script import Of, Step

Specs = tuple[ArraySpec, ...]
SMALL_BYTES: Final = 4096
"""Room beside what is counted, for lengths and signatures."""
NOTHING: Final = RecordDict()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What is asked next.

    Attributes:
        step: what.
        of: of which records.
        contents: what each party is told beside that; who is not in it is not asked.
        arrays: the array records of an answer, as `Wanted` has them.
        settings: its records of settings.
        max_bytes: of its arrays.
        tells: whether something that was made of what several parties sent leaves with it: then
            all have seen the standing that it is of before.
        metrics: numbers that follow from what everybody who is asked is told, for these alone.
    """

    step: Step
    of: Of
    contents: Mapping[str, RecordDict]
    arrays: Mapping[str, Specs | None] = field(default_factory=dict)
    settings: frozenset[str] = frozenset()
    max_bytes: int = 0
    tells: bool = False
    metrics: Mapping[str, int | float] = field(default_factory=dict)


class Kept:
    """Records that are sealed after each step.

    Attributes:
        records: by name; at most 60.
    """

    __slots__ = ("records",)

    def __init__(self, records: MutableMapping[str, Record]) -> None:
        """Hold `records`, which are changed in their place."""
        self.records = records

    def __contains__(self, name: str) -> bool:
        """Return whether there is a record `name`."""
        return name in self.records

    def put(self, name: str, **settings: Setting) -> None:
        """Keep `settings` as the record `name`."""
        self.records[name] = ConfigRecord(settings)

    def put_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep `arrays` as the record `name`."""
        self.records[name] = ArrayRecord(arrays)

    def settings(self, name: str) -> Mapping[str, Any]:
        """Return the settings `name`; empty if there are none."""
        found = self.records.get(name, ConfigRecord())
        if not isinstance(found, ConfigRecord):
            raise SealError("the state of the run is damaged")
        return found

    def arrays(self, name: str) -> ArrayRecord:
        """Return the arrays `name`; SealError if there are none."""
        found = self.records.get(name)
        if not isinstance(found, ArrayRecord):
            raise SealError("the state of the run is damaged")
        return found

    def drop(self, *names: str) -> None:
        """Forget the records `names`, where they are there."""
        for name in names:
            self.records.pop(name, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every stage of a run works with.

    Attributes:
        plan: what the parties agreed to.
        run: names the run.
        secret: of the run; nobody else knows it.
        kept: where all stages keep what they know.
    """

    plan: Consortium
    run: bytes
    secret: Secret
    kept: Kept

    def rows(self, of: Of) -> int | None:
        """Return how many records `of` all parties have; None: that is not known yet."""
        found = self.kept.settings(ROWS).get(of.value)
        return found if isinstance(found, int) else None

    def learn_rows(self, of: Of, rows: int) -> None:
        """Keep how many records `of` all parties have."""
        self.kept.put(ROWS, **{**self.kept.settings(ROWS), of.value: rows})


ROWS: Final = "rows"


class Stage(Protocol):
    """See the module."""

    def asking(self) -> Asking | None:
        """Return what is asked next; None: the stage is over."""

    def take(self, party: str, content: RecordDict) -> None:
        """Take in what `party` answered; once it is taken a repetition changes nothing.

        Raises:
            FormatError, PolicyDenied, AuthenticationFailed: it is not what was asked for.
        """

    def advance(self) -> None:
        """Make of all answers what is asked next, and keep it.

        Raises:
            FormatError: nothing can be made of these answers together.
            PolicyDenied: what comes next is more than was agreed to.
        """


def spec(name: str, dtype: str, *shape: int) -> Specs:
    """Return the form of a record with one array."""
    return (ArraySpec(name=name, dtype=DTYPES.index(dtype), shape=shape),)


def one(name: str, array: NDArray[Any]) -> RecordDict:
    """Return a record with one array of its own name."""
    return RecordDict({name: ArrayRecord({name: array})})
