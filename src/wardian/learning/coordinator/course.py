"""A run from its first model to its last: who is asked what, and what becomes of the answers.

gather      wait until the quorum attends, and a little for the others
train       ask the cohort; below the quorum, ask again
aggregate   the strategy makes the next model of the answers, party by party in order of names
seal        the new standing is on the disk before anybody is told of it (TRUST T16)
evaluate    ask those who attend what the model is worth on their own data
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from wardian._internal.clock import Monotonic
from wardian._internal.consortium import Consortium
from wardian.errors import FormatError, JobFailed, PolicyDenied
from wardian.learning.arrays import ArrayRecord
from wardian.learning.chain import first_head, next_head
from wardian.learning.content import array_bytes, specs_of
from wardian.learning.coordinator.attending import Attending, Tell
from wardian.learning.coordinator.keeping import RunKeeper, Standing
from wardian.learning.coordinator.question import SPILLED, Question, Wanted
from wardian.learning.message import MessageType
from wardian.learning.messages import Arrays, ArraySpec, Over, RoundLine
from wardian.learning.records import ConfigRecord, Metric, MetricRecord, RecordDict
from wardian.learning.rounds import Outcome, Round, cohort
from wardian.learning.staging import StagedReplies
from wardian.learning.strategies.strategy import Strategy

T = TypeVar("T")

IN_MEMORY_BYTES: Final = 256 * 1024**2
"""Answers of a round that are larger together lie on disk, sealed."""
AT_ONCE_BYTES: Final = 1024**2
"""What is made of less is made at once: another thread would take longer."""
MAX_REASON: Final = 200
_PLACES: Final = {MessageType.QUERY: 0, MessageType.TRAIN: 1, MessageType.EVALUATE: 2}


class Course:
    """One run, for whoever attends (`attending`)."""

    def __init__(
        self,
        plan: Consortium,
        strategy: Strategy,
        *,
        keeper: RunKeeper,
        spill: Path,
        ticks: Monotonic,
        tell: Tell = lambda _: None,
    ) -> None:
        """Go on where `keeper` says that the run stands, or begin one.

        Args:
            plan: what the parties agreed to.
            strategy: what becomes of answers.
            keeper: keeps where the run stands.
            spill: a directory for answers that are too large for memory, which is there.
            ticks: seconds that never go back.
            tell: told of progress.

        Raises:
            SealError: what is kept is not this run's.
        """
        self._plan, self._strategy, self._keeper = plan, strategy, keeper
        self._spill, self._ticks = spill, ticks
        for left in spill.glob(f"{SPILLED}*"):  # of a process before: nobody has its key
            left.unlink(missing_ok=True)
        self._standing = keeper.load()
        self._run = secrets.token_bytes(32) if self._standing is None else self._standing.run
        if self._standing is not None:
            strategy.restore(self._standing.strategy)
        self.attending = Attending(self._run, ticks=ticks, tell=tell)
        if self._standing is not None:
            self.attending.round = self._standing.round

    async def run(self) -> ArrayRecord:
        """Return the model after the last round, once it is made, kept and told.

        Raises:
            JobFailed: too few answered, again and again.
            SealError: the disk does not take the standing; nobody was told of it.
        """
        try:
            standing = self._standing or await self._begin()
            while standing.round < self._plan.run.rounds:
                standing = await self._one_round(standing)
        except (JobFailed, PolicyDenied) as err:
            await self._finish(str(err)[:MAX_REASON], None)
            raise
        await self._finish(None, standing)
        return standing.model

    async def _begin(self) -> Standing:
        """Return the standing before the first round: one party gives the model."""
        await self._gather()
        giver = self._plan.initial or min(self.attending)
        question = self._new_question(
            MessageType.QUERY,
            number=0,
            contents={giver: RecordDict({"config": self._config(0)})},
            quorum=1,
            wanted=Wanted(arrays=None, max_bytes=self._plan.run.max_update_bytes, examples=False),
        )
        try:
            outcome = await self.attending.put(question, head=first_head(self._run))
            if not outcome.stands:
                raise JobFailed(f"{giver} gave no first model: {outcome.dropped.get(giver, '')}")
            staged = question.answers[giver]
            model = staged.content()["arrays"]
        finally:
            question.forget()
        if not isinstance(model, ArrayRecord):
            raise JobFailed(f"{giver} gave no first model")
        standing = Standing(
            run=self._run, round=0, head=first_head(self._run), model=model,
            strategy=self._strategy.state(), history=(),
        )  # fmt: skip
        return await self._keep(standing)

    async def _one_round(self, standing: Standing) -> Standing:
        number = standing.round + 1
        why = ""
        for attempt in range(1, self._plan.run.attempts + 1):
            await self._gather()
            chosen = cohort(
                self.attending,
                sample=self._plan.run.sample,
                quorum=self._plan.run.quorum,
                seed=self._plan.run.seed,
                number=number,
                attempt=attempt,
            )
            question = self._training(standing, number, chosen)
            began = self._ticks()
            try:
                outcome = await self.attending.put(question, head=standing.head)
                if outcome.stands:
                    return await self._conclude(standing, question, outcome, began=began)
                why = f"fewer than {self._plan.run.quorum} parties answered"
            except (FormatError, JobFailed) as err:  # no model can be made of these answers
                why = str(err)[:MAX_REASON]
            finally:
                question.forget()
            self.attending.say("round.failed", round=number, attempt=attempt, reason=why)
        raise JobFailed(f"round {number}: {why}")

    def _training(self, standing: Standing, number: int, parties: tuple[str, ...]) -> Question:
        contents = self._strategy.configure_train(
            number, standing.model, self._config(number), parties
        )
        arrays = _array_specs(standing.model)
        return self._new_question(
            MessageType.TRAIN,
            number=number,
            contents=contents,
            quorum=self._plan.run.quorum,
            wanted=Wanted(
                arrays=dict.fromkeys(self._strategy.records, arrays),
                max_bytes=self._plan.run.max_update_bytes,
                examples=True,
            ),
        )

    async def _conclude(
        self, standing: Standing, question: Question, outcome: Outcome, *, began: float
    ) -> Standing:
        """Return the standing after the round: made, kept, told, and evaluated."""
        number = question.round_number
        replies = StagedReplies({party: question.answers[party] for party in outcome.answered})

        def aggregate() -> tuple[ArrayRecord, MetricRecord, bytes]:
            model, metrics = self._strategy.aggregate_train(number, standing.model, replies)
            content = RecordDict({"arrays": model})
            head = next_head(standing.head, number=number, cohort=outcome.answered, model=content)
            return model, metrics, head

        size = sum(each.total_bytes for each in question.answers.values())
        model, metrics, head = await _worked(aggregate, size)
        line = RoundLine(
            round=number,
            cohort=outcome.answered,
            dropped=outcome.dropped,
            bytes=size,
            seconds=self._ticks() - began,
            metrics=dict(metrics),  # type: ignore[arg-type]
        )
        kept = await self._keep(
            Standing(
                run=self._run, round=number, head=head, model=model,
                strategy=self._strategy.state(), history=(*standing.history, line),
            )
        )  # fmt: skip
        self.attending.say(
            "round.done",
            round=number,
            parties=len(line.cohort),
            cohort=list(line.cohort),
            dropped=dict(line.dropped),
            bytes=line.bytes,
        )
        every = self._plan.run.evaluate_every
        if every and number % every == 0:
            found = await self._evaluate(kept)
            line = msgspec.structs.replace(line, evaluation=found)
            kept = replace(kept, history=(*standing.history, line))
        self.attending.tell_news(line)
        return kept

    async def _evaluate(self, standing: Standing) -> dict[str, Metric]:
        """Return what those who attend say that the model is worth; nothing depends on it."""
        parties = tuple(self.attending)
        contents = self._strategy.configure_evaluate(
            standing.round, standing.model, self._config(standing.round), parties
        )
        if not contents:
            return {}
        question = self._new_question(
            MessageType.EVALUATE,
            number=standing.round,
            contents=contents,
            quorum=1,
            wanted=Wanted(arrays={}, max_bytes=0, examples=True),
        )
        outcome = await self.attending.put(question, head=standing.head)
        if not outcome.stands:
            return {}
        replies = StagedReplies({party: question.answers[party] for party in outcome.answered})
        found = self._strategy.aggregate_evaluate(standing.round, replies)
        self.attending.say("round.evaluated", round=standing.round)
        return dict(found)

    async def _keep(self, standing: Standing) -> Standing:
        await _worked(lambda: self._keeper.save(standing), standing.model.nbytes)
        self._standing, self.attending.round = standing, standing.round
        return standing

    async def _finish(self, failure: str | None, standing: Standing | None) -> None:
        """Tell everybody that the run is over, and wait for those who are away."""
        known = standing or self._standing
        content = RecordDict({"arrays": standing.model}) if standing is not None else RecordDict()
        over = Over(
            run=self._run,
            round=known.round if known is not None else 0,
            head=known.head if known is not None else first_head(self._run),
            failure=failure,
            records=specs_of(content),
        )
        self.attending.say("run.over", failure=failure, round=over.round)
        await self.attending.finish(over, content, parties=len(self._plan.parties))

    def _new_question(
        self,
        kind: MessageType,
        *,
        number: int,
        contents: Mapping[str, RecordDict],
        quorum: int,
        wanted: Wanted,
    ) -> Question:
        arrays = wanted.arrays or {}
        size = sum(_bytes(specs) for specs in arrays.values()) * len(contents)
        return Question(
            number=4 * number + _PLACES[kind] + 1,
            round_number=number,
            kind=kind,
            contents=contents,
            round=Round(contents, quorum=quorum, until=self._ticks() + self._plan.run.answer_s),
            wanted=wanted,
            spill=self._spill if size > IN_MEMORY_BYTES else None,
        )

    async def _gather(self) -> None:
        """Return when enough attend, and the others have had their time to come."""
        until = self._ticks() + self._plan.run.gather_s
        while True:
            enough = len(self.attending) >= self._plan.run.quorum
            giver = self._plan.initial
            if self._standing is None and giver is not None:
                enough = enough and giver in list(self.attending)
            left_s = until - self._ticks()
            if enough and (left_s <= 0 or len(self.attending) == len(self._plan.parties)):
                return
            await self.attending.wait(left_s if enough else None)

    def _config(self, number: int) -> ConfigRecord:
        return ConfigRecord({"server-round": number, **self._plan.app})


async def _worked(work: Callable[[], T], size: int) -> T:
    """Return what `work` on `size` bytes returns; much is done in a thread, beside connections."""
    return work() if size <= AT_ONCE_BYTES else await asyncio.to_thread(work)


def _array_specs(model: ArrayRecord) -> tuple[ArraySpec, ...]:
    (spec,) = specs_of(RecordDict({"arrays": model}))
    return spec.arrays if isinstance(spec, Arrays) else ()


def _bytes(specs: tuple[ArraySpec, ...]) -> int:
    return sum(array_bytes(each) for each in specs)
