"""One of a load's connections, and the request that is under way on it."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from wardian._internal.clock import Monotonic
from wardian.errors import ConnectionLost, WardianError
from wardian.serving.client.attempts import Attempts
from wardian.serving.client.messages import Answer
from wardian.serving.loadgen.dial import Dial
from wardian.serving.loadgen.link import Link
from wardian.serving.loadgen.payload import Payload
from wardian.serving.loadgen.report import Tally

Judge: TypeAlias = Callable[[Payload, Answer], None]
"""Returns if an answer is right, else raises what it is counted as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all connections of a driver share.

    Attributes:
        dial: opens a connection.
        payloads: what is asked, in turn.
        judge: of every answer.
        clock: monotonic seconds.
        unasked: called for each answer that nobody asked for.
    """

    dial: Dial
    payloads: Sequence[Payload]
    judge: Judge
    clock: Monotonic
    unasked: Callable[[], None]


class Asking(Protocol):
    """The load that a request belongs to."""

    tally: Tally

    def ended(self, slot: "Slot") -> None:
        """`slot` has an outcome, and is free again."""


class Slot:
    """At most one connection, and at most one request on it."""

    def __init__(self, means: Means) -> None:
        """Not connected yet."""
        self._means = means
        self._link: Link | None = None
        self._run: Asking | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn = 0
        self._name = secrets.token_hex(12).encode()
        self.due = self.sent = self.asked = 0.0
        self.kind = ""

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._run is not None

    @property
    def connected(self) -> bool:
        """Whether a request can be sent at once."""
        return self._link is not None and self._link.usable

    async def connect(self) -> None:
        """Have a connection."""
        self._link = await self._means.dial(self._means.unasked)

    def start(self, run: Asking, due: float) -> None:
        """Ask the next thing; `run` is told when it has ended."""
        self._run, self.due, self.kind = run, due, ""
        self.sent = self._means.clock()
        payloads = self._means.payloads
        self._payload = payloads[run.tally.started % len(payloads)]
        self._turn += 1
        self._key = b"%b%08x" % (self._name, self._turn)
        self._attempts = Attempts()
        self._attempt()

    def give_up(self) -> None:
        """End the request as `Timeout`."""
        link, self._link = self._link, None
        if self._task is not None:
            self._task.cancel()
        if link is not None:
            link.abort()
        self._end("Timeout")

    def forget(self) -> None:
        """Drop the request, which then has no outcome."""
        self._run = None
        if self._task is not None:
            self._task.cancel()
        if self._link is not None:
            self._link.abort()
            self._link = None

    async def close(self) -> None:
        """Close the connection."""
        self.forget_task()
        if self._link is not None:
            await self._link.close()

    def forget_task(self) -> None:
        """Connect no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _attempt(self) -> None:
        link, self.asked = self._link, 0.0
        if link is not None and link.usable:
            turn, self.asked = self._turn, self._means.clock()
            payload = self._payload
            link.send(
                (payload.before, self._key, payload.after),
                lambda outcome: self._came(turn, outcome),
            )
        else:
            self._task = asyncio.get_running_loop().create_task(self._reconnect(self._turn))

    async def _reconnect(self, turn: int) -> None:
        try:
            if self._link is not None:
                self._link.abort()
            await self.connect()
        except WardianError as err:
            self._came(turn, err)
            return
        if turn == self._turn and self.busy:
            self._attempt()

    def _came(self, turn: int, outcome: Answer | WardianError) -> None:
        run = self._run
        if run is None or turn != self._turn:
            return  # given up meanwhile
        if isinstance(outcome, Answer):
            try:
                self._means.judge(self._payload, outcome)
            except WardianError as err:
                self._end(type(err).__name__)
            else:
                self._end("")
            return
        try:
            if not isinstance(outcome, ConnectionLost):
                raise outcome
            self._attempts.survive(outcome)
        except WardianError as err:
            self._end(type(err).__name__)
            return
        run.tally.retried += 1
        self._link = None
        self._attempt()

    def _end(self, kind: str) -> None:
        run, self._run = self._run, None
        self.kind = kind
        if run is not None:
            run.ended(self)
