"""One run, whatever it is about: how something is asked, where it stands, how it ends."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from wardian._internal.clock import Monotonic
from wardian._internal.consortium import Consortium
from wardian.crypto.secret import Secret
from wardian.learning.arrays import ArrayRecord
from wardian.learning.chain import first_head
from wardian.learning.content import specs_of
from wardian.learning.coordinator.attending import Attending, Tell
from wardian.learning.coordinator.keeping import RunKeeper, Standing
from wardian.learning.coordinator.question import SPILLED, Question, Wanted
from wardian.learning.message import MessageType
from wardian.learning.messages import Over
from wardian.learning.records import RecordDict
from wardian.learning.rounds import Outcome, Round

T = TypeVar("T")

IN_MEMORY_BYTES: Final = 256 * 1024**2
"""Answers to a question that are larger together lie on disk, sealed."""
AT_ONCE_BYTES: Final = 1024**2
"""What is made of less is made at once: another thread would take longer."""


class Run:
    """One run, for whoever attends (`attending`).

    Attributes:
        plan: what the parties agreed to.
        id: 32 bytes that name the run.
        secret: 32 bytes that nobody else knows, the same for as long as the run lasts.
        attending: who is here.
        ticks: seconds that never go back.
        standing: the newest that was kept; None before the first.
    """

    def __init__(
        self,
        plan: Consortium,
        *,
        keeper: RunKeeper,
        spill: Path,
        ticks: Monotonic,
        tell: Tell = lambda _: None,
    ) -> None:
        """Go on where `keeper` says that the run stands, or begin one.

        Args:
            plan: what the parties agreed to.
            keeper: keeps where the run stands.
            spill: a directory for answers that are too large for memory, which is there.
            ticks: seconds that never go back.
            tell: told of progress.

        Raises:
            SealError: what is kept is not this run's.
        """
        self.plan, self.ticks = plan, ticks
        self._keeper, self._spill = keeper, spill
        for left in spill.glob(f"{SPILLED}*"):  # of a process before: nobody has its key
            left.unlink(missing_ok=True)
        self.standing = keeper.load()
        self.id = secrets.token_bytes(32) if self.standing is None else self.standing.run
        self.secret = Secret.random(32) if self.standing is None else self.standing.secret
        self.attending = Attending(
            self.id, max_bytes=plan.run.max_update_bytes, ticks=ticks, tell=tell
        )
        if self.standing is not None:
            self.attending.round = self.standing.round

    @property
    def head(self) -> bytes:
        """Of the chain of outcomes, after the newest round that is complete."""
        return first_head(self.id) if self.standing is None else self.standing.head

    async def gather(self, *, needed: str | None = None) -> None:
        """Return when enough attend, and `needed`, and the others have had their time to come."""
        terms = self.plan.run
        until = self.ticks() + terms.gather_s
        while True:
            here = list(self.attending)
            enough = len(here) >= terms.quorum and (needed is None or needed in here)
            left_s = until - self.ticks()
            if enough and (left_s <= 0 or len(here) == len(self.plan.parties)):
                return
            await self.attending.wait(left_s if enough else None)

    @asynccontextmanager
    async def asked(
        self,
        kind: MessageType,
        *,
        number: int,
        round_number: int,
        contents: Mapping[str, RecordDict],
        quorum: int,
        wanted: Wanted,
    ) -> AsyncIterator[tuple[Question, Outcome]]:
        """Ask, and yield the question and its outcome; when the block ends answers are dropped.

        Args:
            kind: what is asked for.
            number: of the question; within the run it never stands for another one.
            round_number: the round that it is of.
            contents: what each party of the cohort is told.
            quorum: as many have to answer.
            wanted: what an answer has to be made of.
        """
        large = wanted.expected_bytes() * len(contents) > IN_MEMORY_BYTES
        until = self.ticks() + self.plan.run.answer_s
        question = Question(
            number=number,
            round_number=round_number,
            kind=kind,
            contents=contents,
            round=Round(contents, quorum=quorum, until=until),
            wanted=wanted,
            spill=self._spill if large else None,
        )
        try:
            yield question, await self.attending.put(question, head=self.head)
        finally:
            question.forget()

    async def keep(self, standing: Standing) -> Standing:
        """Return `standing` once it is on the disk: nobody is told of it before (TRUST T16).

        Raises:
            SealError: the disk does not take it.
        """
        await worked(lambda: self._keeper.save(standing), standing.model.nbytes)
        self.standing, self.attending.round = standing, standing.round
        return standing

    async def finish(self, failure: str | None, contents: Mapping[str, RecordDict]) -> None:
        """Tell everybody that the run is over, and wait for those who are away.

        Args:
            failure: why it failed; None: it was completed.
            contents: what each party is told of the model; who is not in it, nothing.
        """
        number = 0 if self.standing is None else self.standing.round

        def over(party: str) -> tuple[Over, RecordDict]:
            content = contents.get(party, RecordDict())
            message = Over(
                run=self.id,
                round=number,
                head=self.head,
                failure=failure,
                records=specs_of(content),
            )
            return message, content

        self.attending.say("run.over", failure=failure, round=number)
        await self.attending.finish(over, parties=len(self.plan.parties))


async def worked(work: Callable[[], T], size: int) -> T:
    """Return what `work` on `size` bytes returns; much is done in a thread, beside connections."""
    return work() if size <= AT_ONCE_BYTES else await asyncio.to_thread(work)


def whole(model: ArrayRecord) -> RecordDict:
    """Return what a party is told of a model that everybody gets."""
    return RecordDict({"arrays": model})
