"""One generated answer: a chain of requests, each for the part that follows those before it.

The queue knows nothing of it. So a lost worker costs a part, tenants have their turns between
parts, and a client that left costs no more than the part that was under way. Parts grow, so that
the first token comes soon and a long answer costs the queue little.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from wardian._internal.metrics import GENERATED, PARTS
from wardian.errors import QueueFull, RequestError, Timeout
from wardian.inference.generate.parts import (
    MAX_SEED,
    MOST_TOKENS,
    NO_PROMPT,
    TOO_LONG,
    Ask,
    Part,
    build_inputs,
    parse_outputs,
)
from wardian.inference.spec import Tensors
from wardian.serving.api.service import Service
from wardian.serving.traces import Trace

if TYPE_CHECKING:
    from wardian.serving.dispatch import Outcome

MOST_A_PART: Final = 16
"""Tokens; parts have 1, 2, 4, 8 and then so many."""
_FIRST_RETRY_S: Final = 0.05
_LAST_RETRY_S: Final = 1.0


class Wanted(NamedTuple):
    """What a client asks for.

    Attributes:
        model: name.
        version: as written; "" for whichever has its turn. The one that begins goes on.
        text: the prompt, in UTF-8; empty where `ask` has it in numbers.
        ask: how to answer.
        timeout_s: for the whole answer, or None.
        connection: that it came on.
        tls_spki: of the server's key on that connection.
    """

    model: str
    version: str
    text: bytes
    ask: Ask
    timeout_s: float | None
    connection: int
    tls_spki: bytes


class Chain:
    """Asks for one part after the other, each when its receiver says so.

    Attributes:
        version: that answers; 0 before the first part.
        generated: how many tokens came.
    """

    def __init__(
        self,
        service: Service,
        wanted: Wanted,
        *,
        part: Callable[[Part], None],
        failed: Callable[[BaseException | None], None],
        trace: Trace | None = None,
    ) -> None:
        """Prepare; `begin` asks for the first part.

        Args:
            service: of the caller.
            wanted: the answer.
            part: gets each part; has to call `go_on`, then or later, until one has a `finish`.
            failed: told why no part follows; neither is called after that.
            trace: of the first part.
        """
        self.version, self.generated = 0, 0
        self._service, self._wanted, self._trace = service, wanted, trace
        self._part, self._failed = part, failed
        # Drawn here and never by a client, so that nobody can name another's stream.
        self._ask = msgspec.structs.replace(wanted.ask, stream=secrets.token_hex(16))
        self._tokens: list[int] = []
        self._size = 1
        self._open = self._travels = False
        self._rest: Callable[[], None] = _nothing
        clock, timeout_s = service.clock, wanted.timeout_s
        self._ends_at = None if timeout_s is None else clock() + timeout_s
        self._retry: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Ask for the first part.

        Raises:
            RequestError, QueueFull: it is not accepted; nothing is called then.
        """
        wanted, trace = self._wanted, self._trace
        self._service.submit(
            model=wanted.model,
            version=wanted.version,
            inputs=self._inputs(),
            outputs=None,
            timeout_s=wanted.timeout_s,
            connection=wanted.connection,
            done=self._done if trace is None else trace.through(self._done),
        )
        self._open = self._travels = True

    def go_on(self) -> None:
        """Ask for the next part."""
        if self._open and not self._travels:
            self._travels = True
            self._size = min(2 * self._size, MOST_A_PART)
            self._next(self._service.clock() + self._service.patience_s, _FIRST_RETRY_S)

    def cancel(self, rest: Callable[[], None]) -> None:
        """Nobody wants further parts; `rest` is called once the one that is under way is over."""
        if not self._open:
            rest()
            return
        self._part, self._failed, self._rest = _ignore, _ignore, rest
        if self._retry is not None:
            self._retry.cancel()
            self._travels, self._retry = False, None
        if not self._travels:
            self._end()

    def _next(self, until: float, retry_s: float) -> None:
        """Ask for a part; again after `retry_s` while too much waits, until the time `until`."""
        self._retry = None
        wanted, service = self._wanted, self._service
        try:
            service.expect_in_force(wanted.tls_spki)
            service.go_on(
                model=wanted.model,
                version=str(self.version),
                inputs=self._inputs(),
                timeout_s=self._left_s(),
                connection=wanted.connection,
                done=self._done,
            )
        except QueueFull as err:
            if service.clock() + retry_s > until:
                self._fail(err)
                return
            self._retry = asyncio.get_running_loop().call_later(
                retry_s, self._next, until, min(2 * retry_s, _LAST_RETRY_S)
            )
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self._fail(err)

    def _done(self, outcome: "Outcome") -> None:
        self._travels = False
        try:
            if outcome.outputs is None:
                self._fail(outcome.error)
                return
            part = parse_outputs(outcome.outputs)
            self._take(part, outcome.version)
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            self._fail(err)

    def _take(self, part: Part, version: int) -> None:
        if part.finish in (TOO_LONG, NO_PROMPT):
            self._fail(_no_answer(part))
            return
        self.version = version
        self._tokens += part.tokens
        self.generated = len(self._tokens)
        metrics, model = self._service.metrics, self._wanted.model
        metrics.count(PARTS, model)
        metrics.add(GENERATED, len(part.tokens), model)
        if part.finish or self._part is _ignore:
            self._end()
        elif not part.tokens or self.generated > MOST_TOKENS:
            raise RequestError("a part without a token, and no end", status=500)
        self._part(part)

    def _fail(self, err: BaseException | None) -> None:
        self._travels = False
        failed, self._failed, self._part = self._failed, _ignore, _ignore
        self._end()
        failed(err)

    def _end(self) -> None:
        """Count the answer out."""
        if self._open:
            self._open = False
            self._service.over()
            self._rest()

    def _inputs(self) -> Tensors:
        ask = msgspec.structs.replace(self._ask, limit=self._size, tokens=self._tokens)
        return build_inputs(self._wanted.text, ask)

    def _left_s(self) -> float | None:
        if self._ends_at is None:
            return None
        left_s = self._ends_at - self._service.clock()
        if left_s <= 0:
            raise Timeout("the answer is not whole within the time that was given")
        return left_s


def drawn_seed() -> int:
    """Return a seed for an answer whose client named none."""
    return secrets.randbelow(MAX_SEED + 1)


def _no_answer(part: Part) -> RequestError:
    if part.finish == NO_PROMPT:
        return RequestError("the prompt has no token")
    return RequestError(
        f"the prompt is too long: the model takes at most {part.prompt_tokens - 1} tokens of one, "
        "or fewer bytes than it has",
        status=413,
    )


def _ignore(_: object) -> None:
    """Nobody wants to know."""


def _nothing() -> None:
    """Nobody waits for the end."""
