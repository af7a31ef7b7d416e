"""Masked rounds over the run's connections: five questions, of which the last may be asked again.

    model       who trained, and has keys for this round
    keys        shares of everybody's secrets
    delivery    vectors under masks
    survivors   signatures under the list of those whose vectors came
    agreements  shares that take the masks off the sum

Until the last question a round that failed begins anew, under another number: nothing was revealed.
Before it is asked, all that is needed for the sum is sealed with the run (`Standing.pending`): a
coordinator that is killed asks the same again, and publishes the same.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from wardian._internal.clock import UnixTime, unix_time
from wardian.crypto.masks import Ring
from wardian.errors import AuthenticationFailed, FormatError, JobFailed, PolicyDenied, SealError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.answers import MAX_REASON, Answers
from wardian.learning.coordinator.keeping import Standing
from wardian.learning.coordinator.question import Wanted
from wardian.learning.coordinator.run import Run, worked
from wardian.learning.masking.coordinator import MaskingCoordinator
from wardian.learning.masking.messages import MAX_BYTES
from wardian.learning.masking.plan import MaskingPlan
from wardian.learning.masking.revealing import Revealing
from wardian.learning.masking.steps import (
    MASK,
    MASK_STEP,
    Step,
    question_number,
    question_of,
    said,
)
from wardian.learning.masking.vectors import ARRAYS, VectorForm, masking_plan
from wardian.learning.message import MessageType
from wardian.learning.records import ConfigRecord, RecordDict
from wardian.learning.replies import HeldReplies
from wardian.learning.rounds import Outcome
from wardian.learning.staging import Staging

TOGETHER: Final = "cohort"
"""The name under which a strategy sees the mean of all."""
NUMBERS_PER_S: Final = 256
"""Of masked rounds, at most: numbers go with the clock, so that none is used twice."""


class MaskedRounds:
    """Asks a cohort for the sum of its updates."""

    def __init__(self, run: Run, *, clock: UnixTime = unix_time) -> None:
        """Ask whoever attends `run`; a `clock` that is put back makes parties refuse, no more."""
        self._run, self._clock, self._last = run, clock, 0

    async def train(
        self, standing: Standing, number: int, contents: Mapping[str, RecordDict]
    ) -> Answers:
        """Return what the cohort answered in round `number`, taken together.

        Args:
            standing: where the run stands.
            number: of the round.
            contents: what each party of the cohort is told, the same for all.

        Raises:
            JobFailed: too few took a step; the round may be asked again.
            PolicyDenied: somebody lied so that there is no sum of this round (rule `mask-shares`).
            FormatError: a party did not keep to the bounds.
        """
        began = self._run.ticks()
        told = next(iter(contents.values()))
        if any(each is not told for each in contents.values()):
            raise JobFailed("masking: the strategy tells parties different things")
        form = VectorForm.of(self._run.plan, standing.model)
        plan = masking_plan(self._run.plan, form, run=self._run.id, told=told)
        under_way = _Round(self._run, plan, number)
        if standing.pending:
            revealing = Revealing.decode(_kept(standing.pending), plan)
        else:
            try:
                revealing = await under_way.agree(self._number(), told, tuple(contents))
            except PolicyDenied as err:
                raise JobFailed(under_way.blamed(str(err))) from err
            await self._run.keep(replace(standing, pending=_pending(revealing)))
        model, metrics = form.decode(await under_way.reveal(revealing))
        survivors = revealing.survivors
        lost = {p: under_way.lost.get(p, "it was lost") for p in contents if p not in survivors}
        return Answers(
            outcome=Outcome(answered=survivors, dropped=lost, stands=True),
            replies=HeldReplies({TOGETHER: ({ARRAYS: model}, metrics)}),
            bytes=under_way.bytes,
            began=began,
        )

    def _number(self) -> int:
        self._last = max(self._last + 1, NUMBERS_PER_S * self._clock())
        return self._last


class _Round:
    """One masked round under way.

    Attributes:
        lost: who is not in it any more, and why.
        bytes: of all answers.
    """

    def __init__(self, run: Run, plan: MaskingPlan, number: int) -> None:
        self._run, self._plan, self._round = run, plan, number
        self.lost: dict[str, str] = {}
        self.bytes = 0

    async def agree(self, number: int, told: RecordDict, parties: tuple[str, ...]) -> Revealing:
        """Return the round `number` when its survivors have agreed on who they are."""
        coordinator = MaskingCoordinator(self._plan, number=number)
        step = partial(self._step, number, faults=coordinator.faults)
        about = ConfigRecord({"number": number, "step": str(Step.MODEL)})
        first = RecordDict({**told, MASK_STEP: about})
        here = await step(Step.MODEL, dict.fromkeys(parties, first), coordinator.advertised)
        keys = question_of(number, Step.KEYS, coordinator.keys())
        await step(Step.KEYS, dict.fromkeys(here, keys), coordinator.shared)
        deliveries = {
            party: question_of(number, Step.DELIVERY, raw)
            for party, raw in coordinator.deliveries().items()
        }
        here = await step(Step.DELIVERY, deliveries, coordinator.masked)
        survivors = question_of(number, Step.SURVIVORS, coordinator.survivors())
        await step(Step.SURVIVORS, dict.fromkeys(here, survivors), coordinator.signed)
        return coordinator.agreed()

    async def reveal(self, revealing: Revealing) -> Ring:
        """Return the sum of the survivors' vectors."""
        asked = question_of(revealing.number, Step.AGREEMENTS, revealing.agreements())
        contents = dict.fromkeys(revealing.signed, asked)
        await self._step(
            revealing.number, Step.AGREEMENTS, contents, revealing.revealed, faults=revealing.faults
        )
        try:
            return await asyncio.to_thread(revealing.total)
        except PolicyDenied as err:
            if err.rule == "mask-threshold":  # who revealed already says the same once more
                raise JobFailed(self.blamed(str(err))) from err
            raise

    def blamed(self, reason: str) -> str:
        """Return `reason`, with the first of those who were lost."""
        why = [f"; {party}: {said}" for party, said in sorted(self.lost.items())]
        return f"{reason}{''.join(why[:1])}"[:MAX_REASON]

    def _taken(self, party: str, staged: Staging, take: Callable[[str, bytes], None]) -> bool:
        """Return whether what `party` said was taken; it is lost to the round if not."""
        try:
            take(party, said(staged.content()))
        except (FormatError, AuthenticationFailed, PolicyDenied) as err:
            reason = str(err)[:MAX_REASON]
            self.lost[party] = reason
            self._run.attending.say("party.refused", party=party, round=self._round, reason=reason)
            return False
        return True

    async def _step(
        self,
        number: int,
        step: Step,
        contents: Mapping[str, RecordDict],
        take: Callable[[str, bytes], None],
        *,
        faults: Mapping[str, str],
    ) -> list[str]:
        """Ask for one step; return who took it."""
        vector = 8 * self._plan.elements if step is Step.DELIVERY else 0
        wanted = Wanted(arrays={MASK: None}, max_bytes=MAX_BYTES + vector, examples=False)
        async with self._run.asked(
            MessageType.TRAIN,
            number=question_number(number, step),
            round_number=self._round,
            contents=contents,
            quorum=self._plan.threshold,
            wanted=wanted,
        ) as (question, outcome):
            self.lost |= outcome.dropped
            size = sum(each.total_bytes for each in question.answers.values())
            self.bytes += size

            def take_all() -> list[str]:
                return [p for p in outcome.answered if self._taken(p, question.answers[p], take)]

            took = await worked(take_all, size)
        self.lost |= faults
        return took


def _pending(revealing: Revealing) -> RecordDict:
    kept = {name: np.frombuffer(raw, np.uint8) for name, raw in revealing.encode().items()}
    return RecordDict({MASK: ArrayRecord(kept)})


def _kept(pending: RecordDict) -> Mapping[str, bytes]:
    found = pending.get(MASK)
    if not isinstance(found, ArrayRecord):
        raise SealError("masking: what was kept is damaged")
    return {name: array.tobytes() for name, array in found.items()}
