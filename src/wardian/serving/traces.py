"""Spans of the inferences that their clients trace, as lines of the log.

A client that traces sends `traceparent`; where it is sampled, three lines tell when the request
came, waited and was with a worker. `wardian traces` makes OpenTelemetry of them elsewhere: a role
talks to nobody but the mesh (DESIGN I8).

A line has closed names, times, the model's name and the two ids that the client itself made. So
that nobody floods the log, a process writes of `RATE_PER_S` inferences a second and counts others.

Source: W3C Trace Context, section 3.2.
"""

import logging
import math
import re
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.log import Field, event
from wardian._internal.metrics import TRACES, Metrics
from wardian.serving.tenants.limits import Allowance

if TYPE_CHECKING:
    from wardian.serving.packing import Done, Outcome

log = logging.getLogger(__name__)

HEADER: Final = b"traceparent"
RATE_PER_S: Final = 50
"""Inferences of one process of which spans are written, and how many at once."""

_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED: Final = 1
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16

UnixNs: TypeAlias = Callable[[], int]
"""Returns nanoseconds since 1970-01-01 UTC."""


class TraceParent(NamedTuple):
    """Where a client's trace goes on.

    Attributes:
        trace: id of the trace, 32 hex digits, not all zero.
        parent: id of the client's span, 16 hex digits, not all zero.
    """

    trace: str
    parent: str


def parse_traceparent(value: bytes) -> TraceParent | None:
    """Return what a `traceparent` says that is sampled, or None.

    What is malformed, of another version than 00 or repeated is as if it were not there: a trace
    is no reason to refuse an inference.
    """
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    trace, parent, flags = (each.decode() for each in found.groups())
    if not int(flags, 16) & _SAMPLED or trace == _NO_TRACE or parent == _NO_SPAN:
        return None
    return TraceParent(trace, parent)


class Tracer:
    """Decides which inferences of one process have their spans written."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        clock: Monotonic = monotonic,
        unix_ns: UnixNs = time.time_ns,
    ) -> None:
        """Begin with a full second's worth.

        Args:
            metrics: counts what was written and what was not.
            clock: that all times are of which a trace is told.
            unix_ns: when a span is said to have been; the host's word, as in every line.
        """
        self.clock, self.unix_ns = clock, unix_ns
        self._metrics = metrics
        self._allowance = Allowance(rate=RATE_PER_S, burst=RATE_PER_S, now=-math.inf)

    def begin(self, traceparent: bytes) -> "Trace | None":
        """Return the trace of an inference that came with `traceparent`; None: it has none."""
        context = parse_traceparent(traceparent)
        if context is None or not log.isEnabledFor(logging.INFO):
            return None
        if self._allowance.wait_s(self.clock()) > 0:
            self._metrics.count(TRACES, "limited")
            return None
        self._allowance.take()
        self._metrics.count(TRACES, "written")
        return Trace(self, context)


class Trace:
    """One inference that is traced; a `Done` that passes the outcome on to the one behind it."""

    __slots__ = ("_accepted", "_context", "_done", "_ended", "_sent", "_tracer", "_version")

    def __init__(self, tracer: Tracer, context: TraceParent) -> None:
        """Trace for a client whose span is `context`."""
        self._tracer, self._context = tracer, context
        self._done: Done | None = None
        self._accepted = self._sent = self._ended = 0.0
        self._version = 0

    def through(self, done: "Done") -> "Trace":
        """Return what to give the dispatcher in the place of `done`."""
        self._done = done
        return self

    def note(self, *, accepted: float, sent: float, ended: float) -> None:
        """Take the times of the inference from the dispatcher; `sent` is 0 if it never was."""
        self._accepted, self._sent, self._ended = accepted, sent, ended

    def __call__(self, outcome: "Outcome") -> None:
        """Take the outcome of the inference."""
        done, self._done = self._done, None
        self._version = outcome.version
        if done is not None:
            done(outcome)

    def end(self, *, route: str, model: str, status: int, started: float) -> None:
        """Write the spans of the inference, which was answered now.

        Args:
            route: label of the metrics.
            model: a model of `wardian.toml`, or "".
            status: HTTP's, over gRPC too.
            started: when the request was whole.
        """
        now, unix_ns = self._tracer.clock(), self._tracer.unix_ns()

        def at(moment: float) -> int:
            return unix_ns - int((now - moment) * 1e9)

        request = self._write(
            "request", self._context.parent, at(started), unix_ns,
            route=route, model=model, version=self._version, status=status,
        )  # fmt: skip
        if self._ended:
            sent = self._sent or self._ended
            self._write("queue", request, at(self._accepted), at(sent))
            if self._sent:
                self._write("worker", request, at(sent), at(self._ended))

    def _write(self, name: str, parent: str, start: int, end: int, **fields: Field) -> str:
        """Write one span, and return its id."""
        span = secrets.token_hex(8)
        event(
            log, "span", level=logging.INFO, name=name, trace=self._context.trace, span=span,
            parent=parent, start_ns=start, duration_ns=max(0, end - start), **fields,
        )  # fmt: skip
        return span
