"""A whole run over columns in this process: the same stages, the same apps, and no network.

Nobody is attested here, and all tables are in one place: this is to try out a plan. Parties have
keys that are made for this run alone; the steps that only say what was seen are left out.
"""

import secrets
from collections.abc import Mapping

import msgspec

from wardian._internal.consortium import Consortium, PartyTerms
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SigningKey
from wardian.errors import JobFailed, WardianError
from wardian.learning.app import Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.content import specs_of
from wardian.learning.coordinator.stages.stage import Asking, Kept, Stage, World
from wardian.learning.coordinator.vertical import said, stages, wanted
from wardian.learning.message import Message, MessageType, Metadata
from wardian.learning.records import ConfigRecord, Record, RecordDict
from wardian.learning.vertical.app import ColumnsApp


def simulate_columns(
    app: ColumnsApp, plan: Consortium, *, node_config: Mapping[str, ConfigRecord] | None = None
) -> dict[str, ArrayRecord]:
    """Return what each party of `plan` has of a run in which all of them run `app`.

    Args:
        app: of every party; it tells them apart by its context.
        plan: with `[psi]` or `[vertical]`.
        node_config: of each party, by its name; empty for who is not in it.

    Raises:
        ConfigError: the plan has a strategy.
        JobFailed: a party refused a step, or answered something else; says which step, who, why.
    """
    signers = {name: SigningKey.generate() for name in sorted(plan.parties)}
    named = {name: PartyTerms(key=signer.public.hex()) for name, signer in signers.items()}
    tried = msgspec.structs.replace(plan, parties=named)
    run = _Run(app, tried, signers, node_config or {})
    for make in stages(run.world):
        stage = make()
        while (asking := stage.asking()) is not None:
            run.ask(stage, asking)
            try:
                stage.advance()
            except WardianError as err:
                raise JobFailed(f"{asking.step}: {err}") from err
    return run.outcomes()


class _Run:
    def __init__(
        self,
        app: ColumnsApp,
        plan: Consortium,
        signers: Mapping[str, SigningKey],
        node_config: Mapping[str, ConfigRecord],
    ) -> None:
        self._plan, self._node_config = plan, node_config
        self._parties = {
            name: app.party(plan, name=name, signer=signer) for name, signer in signers.items()
        }
        self._states: dict[str, dict[str, Record]] = {name: {} for name in signers}
        self.world = World(
            plan=plan, run=secrets.token_bytes(32), secret=Secret.random(32), kept=Kept({})
        )

    def ask(self, stage: Stage, asking: Asking) -> None:
        """Ask every party that `asking` names, and have the stage take what they answer."""
        for party, content in asking.contents.items():
            metadata = Metadata(
                run=self.world.run.hex(), round=1, party=party, message_type=MessageType.TRAIN
            )
            context = self._context(party)
            try:
                message = Message(said(asking, content), metadata=metadata)
                answer = self._parties[party](message, context).content
                wanted(asking, self._plan).demand(specs_of(answer))
                stage.take(party, answer)
            except WardianError as err:
                raise JobFailed(f"{asking.step}: {party}: {err}") from err
            self._states[party] = context.state

    def outcomes(self) -> dict[str, ArrayRecord]:
        """Return what each party has."""
        return {
            name: party.outcome(RecordDict(), self._context(name))
            for name, party in self._parties.items()
        }

    def _context(self, party: str) -> Context:
        return Context(
            party=party,
            run_config=ConfigRecord(self._plan.app),
            node_config=self._node_config.get(party, ConfigRecord()),
            state=dict(self._states[party]),
        )
