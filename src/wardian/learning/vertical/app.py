"""A party's side of a run over aligned records, as its author writes it: what loads its table.

    from wardian.learning.vertical.app import ColumnsApp, Table

    def load(context: Context) -> Table:
        return Table(identifiers=..., features=..., labels=None)

    app = ColumnsApp(load)

Everything else is the plan's: `ColumnsParty` answers what the plan has, in its order, and nothing
else.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from numpy.typing import NDArray
from typing_extensions import override

from wardian._internal.consortium import Consortium
from wardian._internal.log import event
from wardian.crypto.signing import Signer
from wardian.errors import ConfigError, PolicyDenied
from wardian.learning.app import Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message, MessageType
from wardian.learning.records import ConfigRecord, RecordDict
from wardian.learning.vertical.hands.desk import MODEL, POSITIONS, PREDICTED, Desk
from wardian.learning.vertical.hands.model import hands
from wardian.learning.vertical.script import ASK, OF, STEP, Of, Progress, Step, has_columns, script
from wardian.learning.vertical.table import Records, Table

__all__ = ["ColumnsApp", "ColumnsParty", "Records", "Table"]

log = logging.getLogger(__name__)

_AT: Final = "at"
_TABLE: Final = "table"

Load = Callable[[Context], Table]


class ColumnsApp:
    """A party's table, and how large its own layers are."""

    def __init__(self, load: Load, *, hidden: Sequence[int] = ()) -> None:
        """Bring what `load` returns.

        Args:
            load: called once a process, with the party's settings in `node_config`; it returns the
                same table however often the party is started in a run.
            hidden: with `model = "network"`, widths of this party's layers before its embedding.
        """
        self.load, self.hidden = load, tuple(hidden)

    def party(self, plan: Consortium, *, name: str, signer: Signer) -> "ColumnsParty":
        """Return what answers as `name` in a run of `plan`.

        Raises:
            ConfigError: the plan has neither `[psi]` nor `[vertical]`, or no such party.
        """
        return ColumnsParty(self, plan, name=name, signer=signer)


class ColumnsParty:
    """Answers as one party: each step of its part of the plan once, in order."""

    def __init__(self, app: ColumnsApp, plan: Consortium, *, name: str, signer: Signer) -> None:
        """See `ColumnsApp.party`."""
        if plan.psi is None and plan.vertical is None:
            raise ConfigError("the plan has a strategy: it needs a ClientApp, not a ColumnsApp")
        if name not in plan.parties:
            raise ConfigError(f"the plan names no party {name!r}")
        self._app, self._plan, self._name, self._signer = app, plan, name, signer
        self._script, self._hands = script(plan, name), hands(plan.vertical)
        self._table: tuple[Table, bytes] | None = None
        self._aligned: dict[Of, NDArray[Any]] = {}

    @override
    def __repr__(self) -> str:
        return f"ColumnsParty({self._name})"

    def __call__(self, message: Message, context: Context) -> Message:
        """Return the answer to `message`.

        Raises:
            PolicyDenied: the plan does not have this question, or not now, or not so.
            FormatError, AuthenticationFailed: what is said with it is not of its step.
            ConfigError: the party's own table or state is not what the plan needs.
        """
        return Message(self._answer(message, context), reply_to=message)

    def _answer(self, message: Message, context: Context) -> RecordDict:
        asked = message.content.get(ASK)
        if message.metadata.message_type is not MessageType.TRAIN or not isinstance(
            asked, ConfigRecord
        ):
            raise PolicyDenied("the plan has no question of this kind", rule="vertical-step")
        step, of = str(asked.get(STEP)), str(asked.get(OF))
        if step == Step.SEEN:
            return RecordDict()
        at = context.state.get(_AT, ConfigRecord())
        before = Progress(**{str(name): int(value) for name, value in dict(at).items()})  # type: ignore[arg-type]
        after = before.after(self._script, step, of)
        desk = Desk(
            plan=self._plan,
            name=self._name,
            signer=self._signer,
            table=self._same_table(context),
            hidden=self._app.hidden,
            run=bytes.fromhex(message.metadata.run),
            of=Of(of),
            state=context.state,
            times=after.times,
            aligned=self._aligned,
        )
        answer = self._hands[Step(step)](desk, message.content)
        context.state[_AT] = ConfigRecord({"place": after.place, "times": after.times})
        if after.times == 1:
            event(log, "party.step", party=self._name, step=step, of=of)
        return answer

    def _same_table(self, context: Context) -> Table:
        """Return the party's table, which is the one that the run began with.

        Raises:
            ConfigError: it is another one, or not what the plan needs.
        """
        if self._table is None:
            table = self._app.load(context)
            if not isinstance(table, Table):
                raise ConfigError("the app's function returned no Table")
            self._demand(table)
            self._table = table, table.digest()
        table, digest = self._table
        known = context.state.get(_TABLE)
        if known is None:
            context.state[_TABLE] = ConfigRecord({"digest": digest})
        elif known != ConfigRecord({"digest": digest}):
            raise ConfigError("the table is another one than the run began with")
        return table

    def _demand(self, table: Table) -> None:
        vertical = self._plan.vertical
        columns = vertical is not None and has_columns(vertical, self._name)
        named = self._plan.psi is not None
        table.demand(named=named, columns=columns)
        if vertical is None:
            return
        if (self._name == vertical.labels) != (table.labels is not None):
            raise ConfigError(f"table: labels are of {vertical.labels}, and of nobody else")
        if table.labels is not None and len(table.labels) != table.rows:
            raise ConfigError("table: as many labels as records are needed")
        if vertical.predict is not None:
            table.of(Of.PREDICT).demand(named=named, columns=columns)

    def outcome(self, content: RecordDict, context: Context) -> ArrayRecord:  # noqa: ARG002
        """Return what this party has of the run that is over, and nobody else.

        Returns:
            `positions` and `predict-positions`, (records,) int64: where the records that all
            parties have stand in its table; its part of the model; `predictions`, of the records
            at `predict-positions`, if the plan names it for them.
        """
        found: dict[str, NDArray[Any]] = {}
        for of, name in ((Of.LEARN, "positions"), (Of.PREDICT, "predict-positions")):
            known = context.state.get(POSITIONS + of.value)
            if isinstance(known, ArrayRecord):
                found[name] = known["positions"]
        for part in (MODEL, PREDICTED):
            known = context.state.get(part)
            if isinstance(known, ArrayRecord):
                found |= dict(known)
        return ArrayRecord(found)
