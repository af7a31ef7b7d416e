"""A party: one process that stays, answers what a verified coordinator asks, and comes back.

What the coordinator's host does costs a party no more than time. It verifies before each
connection, refuses a run that is not the one it knows, and trains in a thread, so that it can say
meanwhile that it is there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec.structs import replace

from wardian._internal.log import event
from wardian.errors import PeerProtocolError, WardianError
from wardian.learning.app import Context, Handler
from wardian.learning.arrays import ArrayRecord
from wardian.learning.content import specs_of
from wardian.learning.message import Message, Metadata
from wardian.learning.messages import (
    Answer,
    Ask,
    Here,
    Known,
    News,
    Over,
    RoundLine,
    Still,
    Unwanted,
)
from wardian.learning.party.link import CoordinatorLink
from wardian.learning.party.memory import Memory, MemoryFile
from wardian.learning.party.thread import AppThread
from wardian.learning.records import ConfigRecord, RecordDict

log = logging.getLogger(__name__)

STILL_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 15.0
MAX_REASON: Final = 200


Outcome = Callable[[RecordDict, Context], ArrayRecord | None]
"""Returns what a party has of a run that is over, of what it is told then and what it kept."""


def told_model(content: RecordDict, _: Context) -> ArrayRecord | None:
    """Return the model that all parties are told; None if there is none."""
    return content.array_records.get("arrays")


class Party:
    """One party of a consortium."""

    def __init__(
        self,
        name: str,
        app: Handler,
        *,
        dial: Callable[[], Awaitable[CoordinatorLink]],
        memory: MemoryFile,
        run_config: ConfigRecord | None = None,
        node_config: ConfigRecord | None = None,
        tell: Callable[[RoundLine], None] = lambda _: None,
        keep: Callable[[ArrayRecord], None] = lambda _: None,
        outcome: Outcome = told_model,
        thread: AppThread | None = None,
    ) -> None:
        """Attend as `name`.

        Args:
            name: as the consortium names this party.
            app: what trains and evaluates.
            dial: opens a verified connection.
            memory: what the party remembers from run to run of this process.
            run_config: what the parties agreed to, of `[app]`.
            node_config: the party's own settings.
            tell: told what became of each round.
            keep: given what the party has of the run; once it returns, the coordinator need not
                have it any more.
            outcome: returns what the party has when a run is over.
            thread: runs the app. It was started, and may run those of other parties of this
                process, one after the other. None: one of this party alone.

        Raises:
            ConfigError: its memory is damaged.
        """
        self.name, self._app, self._dial = name, app, dial
        self._file, self._memory = memory, memory.load()
        self._run_config = run_config or ConfigRecord()
        self._node_config = node_config or ConfigRecord()
        self._tell, self._keep, self._outcome, self._thread = tell, keep, outcome, thread
        self._under_way: tuple[int, asyncio.Future[Memory | str]] | None = None
        """What the app is at work on: one question at a time, whatever becomes of connections."""

    async def attend(self) -> ArrayRecord | None:
        """Return what the party has of the run when it is over; None if the run failed.

        A coordinator that is away is waited for; one that is not what it has to be is refused.

        Raises:
            PolicyDenied, AttestationError: the coordinator is refused, or refuses this party.
            ConfigError: the party's disk does not take its memory.
        """
        thread = self._thread or AppThread().start()
        try:
            return await self._attend(thread)
        finally:
            if thread is not self._thread:
                thread.end()

    async def _attend(self, thread: AppThread) -> ArrayRecord | None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                link = await self._dial()
                pause_s = FIRST_PAUSE_S
                try:
                    over, content = await self._converse(link, thread)
                except BaseException:
                    link.abort()
                    raise
                await link.close()
            except WardianError as err:
                if not (err.retryable or isinstance(err, PeerProtocolError)):
                    raise
                event(log, "party.away", party=self.name, reason=str(err)[:MAX_REASON])
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            if over.failure is not None:
                event(log, "party.run-failed", level=logging.ERROR, reason=over.failure)
                return None
            return self._outcome(content, self._context())

    async def _converse(self, link: CoordinatorLink, thread: AppThread) -> tuple[Over, RecordDict]:
        """Answer until the run is over, saying meanwhile that this party is there."""
        known = self._memory
        await link.say(Here(run=known.run, round=known.round, head=known.head))
        quiet = asyncio.get_running_loop().create_task(_say_still(link))
        try:
            while True:
                said, content = await link.hear()
                if isinstance(said, Over):
                    self._remember(self._memory.seen(said))
                    if said.failure is None:
                        model = self._outcome(content, self._context())
                        if model is not None:
                            self._keep(model)
                    await link.say(Known())
                    return said, content
                if isinstance(said, Ask):
                    self._remember(self._memory.seen(said))
                    await self._answer(link, said, content, thread=thread, quiet=quiet)
                elif isinstance(said, News):
                    self._tell(said.line)
                elif isinstance(said, Unwanted):
                    event(log, "party.unwanted", level=logging.WARNING, reason=said.reason)
        finally:
            quiet.cancel()

    async def _answer(
        self,
        link: CoordinatorLink,
        ask: Ask,
        content: RecordDict,
        *,
        thread: AppThread,
        quiet: "asyncio.Task[WardianError]",
    ) -> None:
        while self._memory.number != ask.number:
            if self._under_way is None:
                begun = thread.run(lambda: self._work(ask, content))
                self._under_way = ask.number, begun
            number, work = self._under_way
            await _first(work, quiet)
            if not work.done():  # it goes on, though this connection has ended
                raise quiet.result()
            self._under_way = None
            made = work.result()
            if isinstance(made, Memory):
                self._remember(
                    replace(self._memory, number=number, answer=made.answer, state=made.state)
                )
            elif number == ask.number:
                await link.say(Answer(number=ask.number, error=made))
                return
        answer = self._memory.answer
        await link.say(Answer(number=ask.number, records=specs_of(answer)), answer)

    def _work(self, ask: Ask, content: RecordDict) -> Memory | str:
        """Return what is known after `ask` was answered, or why it cannot be."""
        metadata = Metadata(
            run=ask.run.hex(), round=ask.round, party=self.name, message_type=ask.kind
        )
        context = self._context()
        try:
            reply = self._app(Message(content, metadata=metadata), context)
        except WardianError as err:  # says what is wrong; to this party's own log alone
            reason = str(err)[:MAX_REASON]
            event(log, "party.app-failed", level=logging.ERROR, round=ask.round, reason=reason)
            return f"the app failed: {type(err).__name__}"
        except Exception as err:
            log.exception("the party's app failed")
            return f"the app failed: {type(err).__name__}"[:MAX_REASON]
        if reply.error is not None:
            return reply.error
        return replace(
            self._memory, number=ask.number, answer=reply.content, state=dict(context.state)
        )

    def _context(self) -> Context:
        return Context(
            party=self.name,
            run_config=self._run_config,
            node_config=self._node_config,
            state=dict(self._memory.state),
        )

    def _remember(self, memory: Memory) -> None:
        if memory is not self._memory:
            self._file.save(memory)
            self._memory = memory


async def _first(one: "asyncio.Future[Any]", other: "asyncio.Future[Any]") -> None:
    """Return when either is done, as `asyncio.wait` does, at a third of what that costs."""
    either = asyncio.get_running_loop().create_future()

    def wake(_: object) -> None:
        if not either.done():
            either.set_result(None)

    for each in (one, other):
        each.add_done_callback(wake)
    try:
        await either
    finally:
        for each in (one, other):
            each.remove_done_callback(wake)


async def _say_still(link: CoordinatorLink) -> WardianError:
    """Say again and again that this party is there; return what ended the connection."""
    while True:
        await asyncio.sleep(STILL_S)
        try:
            await link.say(Still())
        except WardianError as err:
            link.abort()
            return err
