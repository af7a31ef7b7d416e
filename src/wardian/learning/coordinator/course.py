"""A federated run from its first model to its last: who is asked what, and what is made of it.

gather      wait until the quorum attends, and a little for the others
train       ask the cohort; below the quorum, ask again
aggregate   the strategy makes the next model of the answers, party by party in order of names
seal        the new standing is on the disk before anybody is told of it (TRUST T16)
evaluate    ask those who attend what the model is worth on their own data
"""

from dataclasses import replace
from typing import Final

import msgspec

from wardian.errors import FormatError, JobFailed, PolicyDenied
from wardian.learning.arrays import ArrayRecord
from wardian.learning.chain import next_head
from wardian.learning.coordinator.answers import MAX_REASON, Answers
from wardian.learning.coordinator.keeping import Standing
from wardian.learning.coordinator.masked import MaskedRounds
from wardian.learning.coordinator.question import Wanted, first_wanted, update_wanted
from wardian.learning.coordinator.run import Run, whole, worked
from wardian.learning.message import MessageType
from wardian.learning.messages import RoundLine
from wardian.learning.records import ConfigRecord, Metric, RecordDict
from wardian.learning.rounds import cohort
from wardian.learning.staging import StagedReplies
from wardian.learning.strategies.strategy import Strategy

_PLACES: Final = {MessageType.QUERY: 0, MessageType.TRAIN: 1, MessageType.EVALUATE: 2}


class _Failed(JobFailed):
    """The parties are `told` why, maybe in words of one of them; the host, who logs, is not."""

    def __init__(self, message: str, *, told: str) -> None:
        super().__init__(message)
        self.told = told


class Course:
    """Federated rounds, for whoever attends."""

    def __init__(self, run: Run, strategy: Strategy) -> None:
        """Go on where `run` stands.

        Args:
            run: this one.
            strategy: what becomes of answers, as it is at the beginning of a run.

        Raises:
            FormatError: what is kept is none of this strategy's.
        """
        self._run, self._strategy = run, strategy
        self._masked = None if run.plan.masking is None else MaskedRounds(run)
        if run.standing is not None:
            strategy.restore(run.standing.strategy)

    async def run(self) -> ArrayRecord:
        """Return the model after the last round, once it is made, kept and told.

        Raises:
            JobFailed: too few answered, again and again.
            PolicyDenied: no further round is allowed.
            SealError: the disk does not take the standing; nobody was told of it.
        """
        try:
            standing = self._run.standing or await self._begin()
            while standing.round < self._run.plan.run.rounds:
                standing = await self._one_round(standing)
        except (JobFailed, PolicyDenied) as err:
            told = err.told if isinstance(err, _Failed) else str(err)
            await self._run.finish(told[:MAX_REASON], {})
            raise
        model = whole(standing.model)
        await self._run.finish(None, dict.fromkeys(self._run.plan.parties, model))
        return standing.model

    async def _begin(self) -> Standing:
        """Return the standing before the first round: one party gives the model."""
        run, plan = self._run, self._run.plan
        await run.gather(needed=plan.initial)
        giver = plan.initial or min(run.attending)
        async with run.asked(
            MessageType.QUERY,
            number=1,
            round_number=0,
            contents={giver: RecordDict({"config": self._config(0)})},
            quorum=1,
            wanted=first_wanted(self._strategy, max_bytes=plan.run.max_update_bytes),
        ) as (question, outcome):
            if not outcome.stands:
                none = f"{giver} gave no first model"
                raise _Failed(none, told=f"{none}: {outcome.dropped.get(giver, '')}")
            model = question.answers[giver].content()["arrays"]
        if not isinstance(model, ArrayRecord):
            raise JobFailed(f"{giver} gave no first model")
        return await run.keep(
            Standing(
                run=run.id, secret=run.secret, round=0, head=run.head, model=model,
                strategy=self._strategy.state(), history=(),
            )
        )  # fmt: skip

    async def _one_round(self, standing: Standing) -> Standing:
        run, number = self._run, standing.round + 1
        terms, why, seen = run.plan.run, "", ""
        for attempt in range(1, terms.attempts + 1):
            await run.gather()
            chosen = cohort(
                run.attending, sample=terms.sample, quorum=terms.quorum,
                seed=terms.seed, number=number, attempt=attempt,
            )  # fmt: skip
            try:
                kept = await self._train(run.standing or standing, number, chosen)
                if kept is not None:
                    return kept
                why = seen = f"fewer than {terms.quorum} parties answered"
            except (FormatError, JobFailed) as err:  # no model can be made of these answers
                why, seen = str(err)[:MAX_REASON], "no model can be made of the answers"
            run.attending.say("round.failed", round=number, attempt=attempt, reason=why)
        raise _Failed(f"round {number}: {seen}", told=f"round {number}: {why}")

    async def _train(
        self, standing: Standing, number: int, parties: tuple[str, ...]
    ) -> Standing | None:
        """Return the standing after the round; None if too few answered."""
        contents = self._strategy.configure_train(
            number, standing.model, self._config(number), parties
        )
        if self._masked is not None:
            answers = await self._masked.train(standing, number, contents)
            return await self._conclude(standing, number, answers)
        run, began = self._run, self._run.ticks()
        async with run.asked(
            MessageType.TRAIN,
            number=_number(number, MessageType.TRAIN),
            round_number=number,
            contents=contents,
            quorum=run.plan.run.quorum,
            wanted=update_wanted(
                self._strategy, standing.model, max_bytes=run.plan.run.max_update_bytes
            ),
        ) as (question, outcome):
            if not outcome.stands:
                return None
            answered = {party: question.answers[party] for party in outcome.answered}
            size = sum(each.total_bytes for each in question.answers.values())
            answers = Answers(
                outcome=outcome, replies=StagedReplies(answered), bytes=size, began=began
            )
            return await self._conclude(standing, number, answers)

    async def _conclude(self, standing: Standing, number: int, answers: Answers) -> Standing:
        """Return the standing after the round: made, kept, told, and evaluated."""
        run, outcome = self._run, answers.outcome

        def aggregate() -> tuple[ArrayRecord, dict[str, Metric], bytes]:
            model, metrics = self._strategy.aggregate_train(number, standing.model, answers.replies)
            head = next_head(
                standing.head, number=number, cohort=outcome.answered, model=whole(model)
            )
            return model, dict(metrics), head

        model, metrics, head = await worked(aggregate, answers.bytes)
        line = RoundLine(
            round=number,
            cohort=outcome.answered,
            dropped=outcome.dropped,
            bytes=answers.bytes,
            seconds=run.ticks() - answers.began,
            metrics=metrics,  # type: ignore[arg-type]
        )
        kept = await run.keep(
            replace(
                standing, round=number, head=head, model=model,
                strategy=self._strategy.state(), history=(*standing.history, line),
                pending=RecordDict(),
            )
        )  # fmt: skip
        run.attending.say(
            "round.done",
            round=number,
            parties=len(line.cohort),
            cohort=list(line.cohort),
            dropped=dict(line.dropped),
            bytes=line.bytes,
        )
        every = run.plan.run.evaluate_every
        if every and number % every == 0:
            line = msgspec.structs.replace(line, evaluation=await self._evaluate(kept))
            kept = replace(kept, history=(*standing.history, line))
        run.attending.tell_news(line)
        return kept

    async def _evaluate(self, standing: Standing) -> dict[str, Metric]:
        """Return what those who attend say that the model is worth; nothing depends on it.

        Of fewer than the quorum nothing: it would be one party's, if a host lets that one through.
        """
        run = self._run
        contents = self._strategy.configure_evaluate(
            standing.round, standing.model, self._config(standing.round), tuple(run.attending)
        )
        if not contents:
            return {}
        async with run.asked(
            MessageType.EVALUATE,
            number=_number(standing.round, MessageType.EVALUATE),
            round_number=standing.round,
            contents=contents,
            quorum=run.plan.run.quorum,
            wanted=Wanted(arrays={}, max_bytes=0, examples=True),
        ) as (question, outcome):
            if not outcome.stands:
                return {}
            answered = {party: question.answers[party] for party in outcome.answered}
            found = self._strategy.aggregate_evaluate(standing.round, StagedReplies(answered))
        run.attending.say("round.evaluated", round=standing.round)
        return dict(found)

    def _config(self, number: int) -> ConfigRecord:
        return ConfigRecord({"server-round": number, **self._run.plan.app})


def _number(round_number: int, kind: MessageType) -> int:
    """Return the number of the question of this kind in the round."""
    return 4 * round_number + _PLACES[kind] + 1
