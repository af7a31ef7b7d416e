"""Who attends, what they are asked at present, and what they answered: an `Attendance`.

asked  --> answers, or fails to, or is late     (`rounds`)
gone   --> may come back before the deadline, and is asked the same again
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from wardian._internal.clock import Monotonic
from wardian._internal.log import event
from wardian.broker.frames import FrameStream
from wardian.errors import PolicyDenied, QueueFull, TransportError
from wardian.learning.content import content_bytes, frames
from wardian.learning.coordinator.attendant import Attendant, ask_of
from wardian.learning.coordinator.question import Question
from wardian.learning.message import MessageType
from wardian.learning.messages import Answer, Here, News, Over, RoundLine, encode
from wardian.learning.records import RecordDict
from wardian.learning.rounds import Outcome
from wardian.learning.staging import Staging

log = logging.getLogger(__name__)

Tell = Callable[[dict[str, object]], None]
"""Told of everything that happens, as JSON takes it: names and numbers, no content."""

Ending = Callable[[str], tuple[Over, RecordDict]]
"""Returns what a party is told when the run is over."""

ONE_FOR_ALL_BYTES: Final = 1024**2
"""A question of no more is put into frames once for everybody."""
ASKED_AT_ONCE: Final = 8
"""Parties whose questions leave together: the first ones work while the others are asked."""
LINGER_S: Final = 60.0
"""How long parties that are away when the run ends may take to come for the model."""


class Attending:
    """The parties of one run that are here."""

    def __init__(self, run: bytes, *, max_bytes: int, ticks: Monotonic, tell: Tell) -> None:
        """Nobody is here.

        Args:
            run: 32 bytes that name it.
            max_bytes: the largest answer that any question asks for.
            ticks: seconds that never go back.
            tell: told of what happens.
        """
        self.round = 0
        """The newest round that is complete, here: who has seen more is refused."""
        self._run, self._max_bytes, self._ticks, self._tell = run, max_bytes, ticks, tell
        self._here: dict[str, Attendant] = {}
        self._question: Question | None = None
        self._head = b""
        self._over: Ending | None = None
        self._informed: set[str] = set()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Return how many are here."""
        return len(self._here)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of those who are here, sorted."""
        return iter(sorted(self._here))

    def say(self, happened: str, **fields: object) -> None:
        """Tell what happened."""
        self._tell({"event": happened, **fields})

    def admit(self, party: str, here: Here, stream: FrameStream) -> Attendant:
        """See `service.Attendance`."""
        if party in self._here:
            raise QueueFull("this party attends already: come again when it has left")
        if here.run is not None and here.run != self._run:
            raise PolicyDenied("this party takes part in another run", rule="run")
        if here.round > self.round:
            event(log, "party.ahead", level=logging.ERROR, party=party, round=here.round)
            raise PolicyDenied("this party has seen more of the run than is kept here", rule="run")
        attendant = Attendant(
            party,
            stream,
            question=lambda: self._question,
            answered=self._answered,
            known=self._knows,
            leaves=self.left,
            max_bytes=self._max_bytes,
        )
        self._here[party] = attendant
        self.say("party.here", party=party)
        return attendant

    async def arrived(self, attendant: Attendant) -> None:
        """See `service.Attendance`."""
        self._changed.set()
        if self._over is not None:
            await self._tell_over(attendant, self._over)
        elif self._question is not None and self._question.round.expects(attendant.party):
            content = self._question.contents[attendant.party]
            await self._ask(attendant, self._said(self._question, content))

    def left(self, attendant: Attendant) -> None:
        """See `service.Attendance`."""
        if self._here.get(attendant.party) is attendant:
            del self._here[attendant.party]
            question = self._question
            if question is not None and question.kind is MessageType.EVALUATE:
                question.round.refuse(attendant.party, "it left")  # nothing depends on it
            self.say("party.gone", party=attendant.party)
            self._changed.set()

    def _answered(self, party: str, answer: Answer, staged: Staging | None) -> bool:
        question = self._question
        if question is None or question.number != answer.number:
            if staged is not None:
                staged.drop()
            return False
        counts = self._counted(party, question, answer, staged)
        if not question.round.hopeful:  # the round is over
            self._changed.set()
        return counts

    def _counted(
        self, party: str, question: Question, answer: Answer, staged: Staging | None
    ) -> bool:
        if staged is None:
            reason = answer.error or "it answered with nothing"
            question.round.refuse(party, reason)
            self.say("party.refused", party=party, round=question.round_number, reason=reason)
            return False
        self.say(
            "party.answered",
            party=party,
            round=question.round_number,
            what=question.kind,
            bytes=staged.total_bytes,
        )
        return question.count(party, staged)

    def _knows(self, party: str) -> None:
        self._informed.add(party)
        self._changed.set()

    async def put(self, question: Question, *, head: bytes) -> Outcome:
        """Ask `question`, and return its outcome."""
        self._question, self._head = question, head
        present = [self._here[p] for p in question.contents if p in self._here]
        asking: list[asyncio.Future[None]] = []
        try:
            for place, attendant in enumerate(present, start=1):
                if (asked := self._asked(attendant, question)) is not None:
                    asking.append(asked)
                if place % ASKED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            while not question.round.over(self._ticks()):
                await self.wait(question.round.until - self._ticks())
            return question.round.close()
        finally:
            self._question = None
            for each in asking:  # who takes so long to read is late, and cut
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    def _asked(self, attendant: Attendant, question: Question) -> "asyncio.Future[None] | None":
        """Ask at once, where what is said is little and the party reads; else return who asks."""
        groups = self._said(question, question.contents[attendant.party])
        try:
            if isinstance(groups, list) and attendant.ask_at_once(groups):
                return None
        except TransportError:
            attendant.abort()  # it may come back, and is then asked again
            return None
        return asyncio.ensure_future(self._ask(attendant, groups))

    async def _ask(self, attendant: Attendant, groups: Iterable[list[bytes]]) -> None:
        try:
            await attendant.ask(groups)
        except BaseException as err:
            attendant.abort()  # it may come back, and is then asked again
            if not isinstance(err, TransportError):
                raise

    def _said(self, question: Question, content: RecordDict) -> Iterable[list[bytes]]:
        """Return the frames that ask `question` with `content`; made once for all if small."""
        known = question.said.get(id(content))
        if known is not None:
            return known
        left_s = question.round.until - self._ticks()
        message = ask_of(question, content, run=self._run, head=self._head, left_s=left_s)
        groups = frames(encode(message), content)
        if content_bytes(message.records) > ONE_FOR_ALL_BYTES:
            return groups
        return question.said.setdefault(id(content), list(groups))

    def tell_news(self, line: RoundLine, parties: Iterable[str] | None = None) -> None:
        """Tell `parties`, or all, if they are here: with what each is told next, a round's end."""
        said = encode(News(line=line))
        for party in self._here if parties is None else parties:
            if party in self._here:
                self._here[party].tell_news(said)

    async def finish(self, over: Ending, *, parties: int) -> None:
        """Return when all `parties` know that the run is over, or had time enough to come."""
        self._over = over
        until = self._ticks() + LINGER_S
        present = list(self._here.values())
        await asyncio.gather(*(self._tell_over(each, over) for each in present))
        while (left_s := until - self._ticks()) > 0 and len(self._informed) < parties:
            await self.wait(left_s)

    async def _tell_over(self, attendant: Attendant, over: Ending) -> None:
        try:
            await attendant.tell_over(*over(attendant.party))
        except TransportError:
            attendant.abort()

    async def wait(self, timeout_s: float | None) -> None:
        """Return when something has changed, or after so long."""
        self._changed.clear()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(timeout_s, self._changed.set) if timeout_s is not None else None
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()
