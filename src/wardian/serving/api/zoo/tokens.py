"""So many predictions a second, of a whole server: `tokensPerSecond` and `tokenAcquireTimeout`.

The original's bucket was of the server, too, and let a request wait for its token. It refused one
that waited too long, and then predicted all the same; here that one is not carried out.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from wardian._internal.clock import Monotonic, monotonic
from wardian.errors import QueueFull
from wardian.serving.api.call import Action, Call
from wardian.serving.api.error_answers import answer_error
from wardian.serving.api.zoo.form import Form
from wardian.serving.api.zoo.refusals import answer_refusal
from wardian.serving.http.messages import HttpResponse

Later: TypeAlias = Callable[[float, Callable[[], None]], object]
"""Calls the second so many seconds from now, on the loop's thread; `loop.call_later` does."""
_ROUNDING_S: Final = 1e-9


class TokenBucket:
    """Holds the tokens of one second at most, and hands out those of the near future.

    It is full at first. What was handed out in advance comes one after the other, so that who asks
    later waits longer.
    """

    def __init__(self, per_second: int, *, now: float) -> None:
        """Give `per_second` tokens, 1 to 1,000,000, a second; `now` is monotonic seconds."""
        self._interval_s = 1.0 / per_second
        self._full_at = now

    def take(self, now: float, *, wait_s: float) -> float | None:
        """Return in how many seconds the next token is there, which is then taken.

        None if that is later than `wait_s`: then none is taken.
        """
        full_at = max(self._full_at, now)
        there_in = full_at + self._interval_s - 1.0 - now
        if there_in > wait_s + _ROUNDING_S:
            return None
        self._full_at = full_at + self._interval_s
        return there_in if there_in > _ROUNDING_S else 0.0


class Rationing:
    """Lets predictions pass by their tokens; a `dialect.Ration` is its `limit`."""

    def __init__(
        self,
        per_second: int,
        *,
        wait_s: float,
        most_waiting: int,
        later: Later,
        clock: Monotonic = monotonic,
    ) -> None:
        """Let `per_second` pass.

        Args:
            per_second: 1 to 1,000,000; as many at once after a second without any.
            wait_s: how long a request waits for its token at most.
            most_waiting: requests that wait at once.
            later: calls a function later.
            clock: monotonic seconds.
        """
        self._bucket = TokenBucket(per_second, now=clock())
        self._wait_s, self._most = wait_s, most_waiting
        self._later, self._clock = later, clock
        self.waiting = 0
        """Requests that wait for their token."""

    def limit(self, action: Action, form: Form) -> Action:
        """Return `action` for who has a token; others are answered in `form`, as limited."""

        def act(call: Call) -> HttpResponse | None:
            wait_s = self._wait_s if self.waiting < self._most else 0.0
            there_in = self._bucket.take(self._clock(), wait_s=wait_s)
            if there_in is None:
                return answer_refusal(QueueFull("as many as are served in a second"), form)
            if not there_in:
                return action(call)
            self.waiting += 1
            self._later(there_in, partial(self._go_on, action, call))
            return None

        return act

    def _go_on(self, action: Action, call: Call) -> None:
        self.waiting -= 1
        try:
            response = action(call)
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            response = answer_error(err)
        if response is not None:
            call.end(response)
