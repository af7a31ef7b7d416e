"""A run over records that all parties have: it aligns them, learns, predicts, and ends.

ask        what the stage asks, under the number of the next round; who answered something else is
           named, and asked again
advance    the stage makes of all answers what comes next: errors are noised here, once
seal       what every stage knows is on the disk before anybody is asked the next thing
seen       before a question that tells what was made of several parties' answers, all parties are
           asked whether they have seen the standing that it is of
told       the question says what was sealed

So a coordinator that is killed before it sealed asks the same again, and gets the same answers;
killed after it, it tells what was sealed. Nothing that was told is ever made a second time: a host
that puts the run back to before it, to have it made of other answers by a party that it is in
league with, meets parties who have seen more.
"""

import asyncio
import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from wardian._internal.consortium import Consortium
from wardian._internal.vertical import Network, Trees
from wardian.errors import AuthenticationFailed, FormatError, JobFailed, PolicyDenied, SealError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.chain import digest, next_head
from wardian.learning.coordinator.keeping import Standing
from wardian.learning.coordinator.question import Question, Wanted
from wardian.learning.coordinator.run import Run
from wardian.learning.coordinator.stages.aligning import aligning
from wardian.learning.coordinator.stages.linear import EmbeddingsStage, FeaturesStage
from wardian.learning.coordinator.stages.network import NetworkStage
from wardian.learning.coordinator.stages.predicting import Predicting
from wardian.learning.coordinator.stages.stage import NOTHING, Asking, Kept, Stage, World
from wardian.learning.coordinator.stages.trees import BinsStage
from wardian.learning.message import MessageType
from wardian.learning.messages import RoundLine
from wardian.learning.records import ConfigRecord, RecordDict
from wardian.learning.vertical.script import ASK, OF, STEP, Of, Step

MAX_REASON: Final = 200
Take = Callable[[str, RecordDict], None]
_AT: Final = "at"
_REFUSED: Final = (FormatError, PolicyDenied, AuthenticationFailed)


class _Failed(JobFailed):
    """The parties are `told` why, maybe in words of one of them; the host, who logs, is not."""

    def __init__(self, message: str, *, told: str) -> None:
        super().__init__(message)
        self.told = told


class VerticalCourse:
    """Stages over aligned records, for whoever attends."""

    def __init__(self, run: Run) -> None:
        """Go on where `run` stands.

        Raises:
            SealError: what is kept is none of this plan's.
        """
        self._run = run
        kept = Kept({} if run.standing is None else dict(run.standing.strategy))
        self._world = World(plan=run.plan, run=run.id, secret=run.secret, kept=kept)
        self._stages = stages(self._world)
        self._at = int(kept.settings(_AT).get("stage", 0))
        self._seen = bool(kept.settings(_AT).get("seen", False))
        self._stage = self._begun()

    def _begun(self) -> Stage | None:
        return self._stages[self._at]() if self._at < len(self._stages) else None

    async def run(self) -> ArrayRecord:
        """Return once the run is over and told; nobody gets a model, so there are no arrays.

        Raises:
            JobFailed: a party did not answer what it was asked, again and again, or nothing can
                be made of what all answered.
            PolicyDenied: no further step is allowed.
            SealError: the disk does not take the standing; nobody was told of it.
        """
        try:
            standing = self._run.standing or await self._keep(None, ())
            while self._stage is not None:
                standing = await self._step(standing, self._stage)
        except (JobFailed, PolicyDenied) as err:
            told = err.told if isinstance(err, _Failed) else str(err)
            await self._run.finish(told[:MAX_REASON], {})
            raise
        await self._run.finish(None, {})
        return standing.model

    async def _step(self, standing: Standing, stage: Stage) -> Standing:
        asking = stage.asking()
        if asking is None:
            raise SealError("the state of the run is damaged")
        if asking.tells and not self._seen:
            return await self._see(standing)
        began = self._run.ticks()
        size = await self._ask(standing, asking, stage.take)
        try:
            await asyncio.to_thread(stage.advance)
        except FormatError as err:
            none = f"{asking.step}: nothing can be made of the answers"
            raise _Failed(none, told=f"{asking.step}: {err}") from err
        self._seen = False
        if stage.asking() is None:
            self._at += 1
            self._stage = self._begun()
        if self._stage is None:  # nobody needs any of it again
            self._world.kept.drop(*list(self._world.kept.records))
        kept = await self._done(standing, asking, size)
        self._tell(kept.round, asking, seconds=self._run.ticks() - began)
        return kept

    def _tell(self, number: int, asking: Asking, *, seconds: float) -> None:
        """Tell those who were asked what became of it: who they were, and what they know anyway.

        Not how much others answered, which says how many columns or records they have, and nothing
        of the errors or the model but what `asking` told them: that is all that the plan lets out.
        """
        line = RoundLine(
            round=number,
            cohort=tuple(asking.contents),
            dropped={},
            bytes=None,
            seconds=seconds,
            metrics=dict(asking.metrics),
            step=f"{asking.of}.{asking.step}",
        )
        self._run.attending.tell_news(line, asking.contents)

    async def _done(self, standing: Standing, asking: Asking, size: int) -> Standing:
        """Return the standing after the step, sealed and told the host: it sees as much anyway."""
        kept = await self._keep(standing, tuple(asking.contents))
        parties = len(asking.contents)
        self._run.attending.say("round.done", round=kept.round, parties=parties, bytes=size)
        return kept

    async def _see(self, standing: Standing) -> Standing:
        """Return the standing in which all parties have seen the one of before."""
        everybody = dict.fromkeys(self._run.plan.parties, NOTHING)
        asking = Asking(step=Step.SEEN, of=Of.LEARN, contents=everybody)
        await self._ask(standing, asking, lambda *_: None)
        self._seen = True
        return await self._done(standing, asking, 0)

    async def _ask(self, standing: Standing, asking: Asking, take: Take) -> int:
        """Return how many bytes all asked parties answered, once `take` took them."""
        run, number = self._run, standing.round + 1
        missing, size = dict(asking.contents), 0
        reasons: Mapping[str, str] = {}
        for attempt in range(1, run.plan.run.attempts + 1):
            await run.gather()
            async with run.asked(
                MessageType.TRAIN,
                number=number,
                round_number=number,
                contents={party: said(asking, each) for party, each in missing.items()},
                quorum=1,  # each is waited for, whatever another answers
                wanted=wanted(asking, run.plan),
            ) as (question, outcome):
                size += sum(each.total_bytes for each in question.answers.values())
                reasons = outcome.dropped | self._taken(take, question, outcome.answered)
            missing = {party: missing[party] for party in reasons if party in missing}
            if not missing:
                return size
            run.attending.say("round.failed", round=number, attempt=attempt, reason=dict(reasons))
        party = min(missing)
        raise _Failed(
            f"{asking.step}: {party} did not answer what it was asked",
            told=f"{asking.step}: {party}: {reasons[party]}",
        )

    def _taken(self, take: Take, question: Question, parties: tuple[str, ...]) -> dict[str, str]:
        """Return of each party whose answer `take` refuses why."""
        refused = {}
        for party in parties:
            try:
                take(party, question.answers[party].content())
            except _REFUSED as err:
                refused[party] = str(err)[:MAX_REASON]
                self._run.attending.say(
                    "party.refused",
                    party=party,
                    round=question.round_number,
                    reason=refused[party],
                )
        return refused

    async def _keep(self, before: Standing | None, parties: tuple[str, ...]) -> Standing:
        """Return the standing after one more step, sealed.

        What the chain is made of must tell nothing: the digest is of labels, too, and a party could
        try which labels give it. So it is keyed with the run's secret.
        """
        run, kept = self._run, self._world.kept
        kept.put(_AT, stage=self._at, seen=self._seen)
        state = RecordDict(kept.records)
        if before is None:
            return await run.keep(
                Standing(
                    run=run.id, secret=run.secret, round=0, head=run.head, model=ArrayRecord(),
                    strategy=state, history=(),
                )
            )  # fmt: skip
        keyed = hmac.digest(run.secret.reveal(), digest(state), "sha256")
        number = before.round + 1
        head = next_head(
            before.head,
            number=number,
            cohort=parties,
            model=RecordDict({_AT: ConfigRecord({"state": keyed})}),
        )
        return await run.keep(replace(before, round=number, head=head, strategy=state))


def stages(world: World) -> list[Callable[[], Stage]]:
    """Return what makes each stage of the plan, in order."""
    plan, found = world.plan, list[Callable[[], Stage]]()
    if plan.psi is not None:
        found.append(lambda: aligning(world, Of.LEARN))
    if plan.vertical is None:
        return found
    found.append(lambda: learning(world))
    if plan.vertical.predict is not None:
        if plan.psi is not None:
            found.append(lambda: aligning(world, Of.PREDICT))
        found.append(lambda: Predicting(world))
    return found


def learning(world: World) -> Stage:
    """Return the stage of the plan's model and placement, where it stands."""
    vertical = world.plan.vertical
    if isinstance(vertical, Trees):
        return BinsStage(world)
    if isinstance(vertical, Network):
        return NetworkStage(world)
    whole = vertical is not None and vertical.placement == "features"
    return FeaturesStage(world) if whole else EmbeddingsStage(world)


def wanted(asking: Asking, plan: Consortium) -> Wanted:
    """Return what an answer has to be made of."""
    return Wanted(
        arrays=asking.arrays,
        max_bytes=min(asking.max_bytes, plan.run.max_update_bytes),
        examples=False,
        settings=asking.settings,
    )


def said(asking: Asking, content: RecordDict) -> RecordDict:
    """Return what a party is told with a question, beside which one it is."""
    about = ConfigRecord({STEP: asking.step.value, OF: asking.of.value})
    return RecordDict({ASK: about, **content})
