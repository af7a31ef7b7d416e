"""One party that attends, on its connection: it is asked, and what it answers is staged."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final

from wardian._internal.log import event
from wardian.broker.frames import FrameStream
from wardian.errors import FormatError, PolicyDenied, WardianError
from wardian.learning.content import content_bytes, frames, specs_of
from wardian.learning.coordinator.question import Question
from wardian.learning.messages import (
    CHUNK_BYTES,
    HEADER_BYTES,
    Answer,
    Ask,
    FromParty,
    Known,
    Over,
    Still,
    Unwanted,
    encode,
    from_party,
)
from wardian.learning.records import RecordDict
from wardian.learning.staging import Staging

log = logging.getLogger(__name__)

STILL_S: Final = 10.0
"""After so long without a word, each side says that it is there."""
SILENT_S: Final = 60.0
"""Who says nothing for so long is gone."""
CHUNK_S: Final = 30.0
"""Within which a frame of content has come, or gone."""
MAX_REASON: Final = 200

Answered = Callable[[str, Answer, "Staging | None"], bool]
"""Told of an answer of a party, whole, or without content; returns whether it counts."""


class Attendant:
    """Speaks with one party for as long as it is there."""

    def __init__(
        self,
        party: str,
        stream: FrameStream,
        *,
        question: Callable[[], Question | None],
        answered: Answered,
        known: Callable[[str], None],
        leaves: "Callable[[Attendant], None]",
        max_bytes: int,
    ) -> None:
        """Speak with `party` on `stream`.

        Args:
            party: who has proved to be there.
            stream: its connection.
            question: what is asked at present, if anything is.
            answered: told of every answer.
            known: told when the party has the outcome of the run.
            leaves: told when the party is about to be cut.
            max_bytes: the largest answer that any question asks for: so much is read of one that
                comes too late.
        """
        self.party, self._max_bytes = party, max_bytes
        self._stream = stream
        self._question, self._answered, self._known = question, answered, known
        self._leaves = leaves
        self._turn = asyncio.Lock()
        self._news: list[bytes] = []

    async def converse(self) -> None:
        """Hear the party until its connection ends.

        Raises:
            WardianError: it ended, or was ended: the party broke the rules.
        """
        quiet = asyncio.get_running_loop().create_task(self._say_still())
        try:
            while True:
                raw = await self._stream.receive(most=HEADER_BYTES, timeout_s=SILENT_S)
                await self._hear(from_party(raw))
        except (FormatError, PolicyDenied) as err:  # it is not waited for in this round
            reason = str(err)[:MAX_REASON]
            event(  # what is wrong with an answer hangs on records: the party hears it, no host
                log,
                "party.refused",
                level=logging.WARNING,
                party=self.party,
                error=type(err).__name__,
            )
            question = self._question()
            if question is not None:
                self._answered(self.party, Answer(number=question.number, error=reason), None)
            self._leaves(self)  # now: nobody hears what it says to what it would be told here
            if question is not None:
                await self._reply(Unwanted(number=question.number, reason=reason))
            raise
        finally:
            quiet.cancel()

    def ask_at_once(self, groups: Iterable[list[bytes]]) -> bool:
        """Ask as `ask` does, or return False: it would have to wait until the party reads."""
        if self._turn.locked() or not self._stream.drained:
            return False
        self._stream.post(*self._told_first(), *chain.from_iterable(groups))
        return True

    async def ask(self, groups: Iterable[list[bytes]]) -> None:
        """Ask, by the frames that say it; raises TransportError where the party is gone."""
        await self._say(groups)

    async def tell_over(self, message: Over, content: RecordDict) -> None:
        """Say that the run is over."""
        await self._say(frames(encode(message), content))

    def tell_news(self, said: bytes) -> None:
        """Say what became of a round, a `News`, together with whatever is said next."""
        self._news.append(said)

    def abort(self) -> None:
        """Cut the connection."""
        self._stream.abort()

    async def _hear(self, said: FromParty) -> None:
        if isinstance(said, Answer):
            await self._take(said)
        elif isinstance(said, Known):
            self._known(self.party)
        elif not isinstance(said, Still):
            raise FormatError("learning message: not its turn")

    async def _take(self, answer: Answer) -> None:
        """Take in one answer, if it is wanted."""
        question = self._question()
        if question is None or question.number != answer.number:
            await self._drain(content_bytes(answer.records))
            await self._reply(Unwanted(number=answer.number, reason="its time is over"))
            return
        staged = None if answer.error else await self._staged(question, answer)
        if not self._answered(self.party, answer, staged):
            reason = "the party says that it cannot" if answer.error else "it came too late"
            await self._reply(Unwanted(number=answer.number, reason=reason))

    async def _staged(self, question: Question, answer: Answer) -> Staging:
        staged = question.stage(answer)
        try:
            while staged.left:
                await self._stream.receive_into(staged.space(), timeout_s=CHUNK_S)
                staged.filled()
            if staged.total_bytes > CHUNK_BYTES:
                return await asyncio.get_running_loop().run_in_executor(None, staged.finish)
            return staged.finish()
        except BaseException:
            staged.drop()
            raise

    async def _drain(self, size: int) -> None:
        """Read past the content of an answer that nobody waits for, if it is not too much."""
        if size > self._max_bytes:
            raise PolicyDenied("an answer that was not asked for", rule="size")
        while size > 0:
            size -= len(await self._stream.receive(most=CHUNK_BYTES, timeout_s=CHUNK_S))

    async def _say(self, groups: Iterable[list[bytes]]) -> None:
        async with self._turn:
            news = self._told_first()
            for group in groups:
                await self._stream.send(*news, *group, timeout_s=CHUNK_S)
                news = []

    def _told_first(self) -> list[bytes]:
        news, self._news = self._news, []
        return news

    async def _reply(self, message: Unwanted | Still) -> None:
        await self._say([[encode(message)]])

    async def _say_still(self) -> None:
        while True:
            await asyncio.sleep(STILL_S)
            try:
                await self._reply(Still())
            except WardianError:
                self.abort()
                return


def ask_of(
    question: Question, content: RecordDict, *, run: bytes, head: bytes, left_s: float
) -> Ask:
    """Return the message that asks `question`."""
    return Ask(
        run=run,
        round=question.round_number,
        kind=question.kind,
        number=question.number,
        head=head,
        answer_s=max(0.001, left_s),
        records=specs_of(content),
    )
