"""Sends spans in batches, again where that makes sense, and counts what became of them.

Source: OpenTelemetry Protocol 1.x, "Retryable Response Codes", "OTLP/HTTP Throttling".
"""

import secrets
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from wardian._internal.clock import Monotonic, monotonic
from wardian.cli.traces.collector import Answer
from wardian.cli.traces.lines import Span
from wardian.cli.traces.otlp import encode_spans, parse_response
from wardian.cli.traces.waiting import Waiting
from wardian.errors import ConnectionLost, TransportError

RETRYABLE: Final = frozenset({429, 502, 503, 504})
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
PATIENCE_S: Final = 60.0
"""For how long one batch is tried where the input ends."""

Post: TypeAlias = Callable[[bytes], Answer]


class Sender:
    """Sends what waits.

    Attributes:
        sent: spans that the collector took.
        refused: spans that it will never take.
        lost: spans that were given up.
    """

    def __init__(
        self,
        post: Post,
        *,
        service: str,
        say: Callable[[str], None],
        patience_s: float | None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Monotonic = monotonic,
    ) -> None:
        """Send by `post`, as spans of `service`.

        Args:
            post: see `Collector.post`.
            service: what the spans are of.
            say: tells the user of trouble, once when it begins and once when it is over.
            patience_s: for how long one batch is tried; None: for ever.
            sleep: waits for so many seconds.
            clock: for the patience.
        """
        self.sent = self.refused = self.lost = 0
        self._post, self._service, self._say = post, service, say
        self._patience_s, self._sleep, self._clock = patience_s, sleep, clock
        self._at_hand: list[Span] = []
        self._trouble = ""

    def send(self, waiting: Waiting) -> None:
        """Send what waits, and what comes, until nothing more comes.

        Raises:
            ConnectionLost: a batch was given up after `patience_s`.
        """
        while True:
            self._at_hand = self._at_hand or waiting.take()
            if not self._at_hand:
                return
            self._deliver(self._at_hand)
            self._at_hand = []

    def finish(self, waiting: Waiting) -> None:
        """Send what is left, once: somebody wants us to end."""
        self._patience_s = 0.0
        waiting.close()
        try:
            self.send(waiting)
        except ConnectionLost:
            self.lost += len(waiting)

    def _deliver(self, batch: list[Span]) -> None:
        body, pause_s, begun = (
            encode_spans(batch, service=self._service),
            FIRST_PAUSE_S,
            self._clock(),
        )
        while True:
            pause_s, trouble = min(2 * pause_s, LONGEST_PAUSE_S), ""
            wait_s = pause_s * (0.5 + secrets.randbelow(500) / 1000)  # not all of a mesh at once
            try:
                answer = self._post(body)
            except TransportError as err:
                trouble = str(err)
            else:
                if answer.status not in RETRYABLE:
                    self._note(batch, answer)
                    return
                trouble = f"it answers {answer.status}"
                wait_s = max(wait_s, answer.retry_after_s)
            if trouble != self._trouble:
                self._trouble = trouble
                self._say(f"collector: {trouble}; spans wait")
            if self._patience_s is not None and self._clock() - begun >= self._patience_s:
                self.lost += len(batch)
                self._at_hand = []
                raise ConnectionLost(f"the collector took nothing: {trouble}")
            self._sleep(wait_s)

    def _note(self, batch: list[Span], answer: Answer) -> None:
        """Count what became of `batch`, which is not sent again."""
        if self._trouble:
            self._trouble = ""
            self._say("collector: it is there")
        if answer.status // 100 != 2:
            self.refused += len(batch)
            self._say(f"collector: refused {len(batch)} spans with the status {answer.status}")
            return
        rejected = parse_response(answer.body, sent=len(batch))
        self.sent += len(batch) - rejected.spans
        self.refused += rejected.spans
        if rejected.spans:
            self._say(f"collector: refused {rejected.spans} spans: {rejected.said or 'no reason'}")
