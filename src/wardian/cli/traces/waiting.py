"""Spans between whoever reads them and whoever sends them, in bounded memory."""

from collections import deque
from threading import Condition
from typing import Final

from wardian._internal.clock import Monotonic, monotonic
from wardian.cli.traces.lines import Span

BATCH: Final = 512
"""Spans of one request at most."""
AGE_S: Final = 5.0
"""For how long a span waits for others before it is sent."""
MOST: Final = 8192
"""Spans that may wait."""


class Waiting:
    """A bounded line of spans; reading threads fill it, one sender empties it.

    Attributes:
        dropped: spans that were let go of because the line was full.
    """

    def __init__(self, *, drops: bool, most: int = MOST, clock: Monotonic = monotonic) -> None:
        """Begin empty.

        Args:
            drops: a full line lets go of its oldest span, so that no reader has to stop; if not,
                whoever puts a span waits for room.
            most: spans that may wait.
            clock: for their age.
        """
        self.dropped = 0
        self._drops, self._most, self._clock = drops, most, clock
        self._spans: deque[Span] = deque()
        self._since = 0.0
        self._changed = Condition()
        self._closed = False
        self._error: Exception | None = None

    def __len__(self) -> int:
        return len(self._spans)

    def put(self, span: Span) -> None:
        """Let `span` wait."""
        with self._changed:
            if self._drops and len(self._spans) >= self._most:
                self._spans.popleft()
                self.dropped += 1
            while len(self._spans) >= self._most and not self._closed:
                self._changed.wait()
            if self._closed:
                return
            if not self._spans:
                self._since = self._clock()
            self._spans.append(span)
            self._changed.notify_all()

    def close(self, error: Exception | None = None) -> None:
        """Nothing more is put; `error` is why, if reading failed."""
        with self._changed:
            self._closed = True
            self._error = self._error or error
            self._changed.notify_all()

    def take(self) -> list[Span]:
        """Take out the next spans to send, once there are enough or they are old enough.

        Empty when there are none and none come.

        Raises:
            Exception: why reading failed; what was read before comes first.
        """
        with self._changed:
            while not self._closed and len(self._spans) < BATCH:
                left_s = self._since + AGE_S - self._clock() if self._spans else None
                if left_s is not None and left_s <= 0:
                    break
                self._changed.wait(left_s)
            batch = [self._spans.popleft() for _ in range(min(BATCH, len(self._spans)))]
            self._since = self._clock()
            self._changed.notify_all()
            if not batch and self._error is not None:
                raise self._error
            return batch
