"""What happened to the requests of a load: counted while it runs, reported when it is over."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import msgspec

from wardian.serving.loadgen.histogram import Histogram
from wardian.serving.loadgen.load import Load, OpenLoad

MAX_KINDS: Final = 64
"""Classes of errors that are told apart; there are fewer, but a judge may have its own."""
OTHER: Final = "other"


@dataclass(slots=True)
class Tally:
    """Counts outcomes; each request that was started ends in one of them.

    Attributes:
        latency: of the answers, each from when its request should have started.
        errors: by class.
        started: requests that were.
        not_started: arrived while all connections were busy.
        within: answers that came while the load was put on.
        retried: attempts beyond the first, under the same idempotency key, after a lost connection.
        unasked: answers that nobody had asked for.
        unfinished: still in flight when the run was stopped by hand.
        lag_s: by which the generator itself started a request too late, at most.
        longest_s: from a request's first byte sent to its outcome, at most.
    """

    latency: Histogram = field(default_factory=Histogram)
    errors: Counter[str] = field(default_factory=Counter)
    started: int = 0
    not_started: int = 0
    within: int = 0
    retried: int = 0
    unasked: int = 0
    unfinished: int = 0
    lag_s: float = 0.0
    longest_s: float = 0.0

    @property
    def failed(self) -> int:
        """How many ended in an error."""
        return self.errors.total()

    def start(self, lag_s: float) -> None:
        """Count a request that starts `lag_s` after it should have."""
        self.started += 1
        self.lag_s = max(self.lag_s, lag_s)

    def answer(self, latency_s: float, *, held_s: float, within: bool) -> None:
        """Count an answer."""
        self.latency.record(latency_s)
        self.longest_s = max(self.longest_s, held_s)
        self.within += within

    def fail(self, kind: str, *, held_s: float) -> None:
        """Count an error of class `kind`."""
        known = kind in self.errors or len(self.errors) < MAX_KINDS
        self.errors[kind if known else OTHER] += 1
        self.longest_s = max(self.longest_s, held_s)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one load. Milliseconds are None where nothing was answered.

    Attributes:
        loop: "open" or "closed".
        rate: asked for, a second; None in a closed loop.
        connections: most requests in flight.
        seconds: for which load was put on.
        started: requests that were.
        answered: with a result.
        errors: by class; together with `answered` and `unfinished` they are `started`.
        not_started: see `Tally`; so are the rest.
        goodput: answers a second, of those that came within `seconds`.
        p50_ms: half of the answers took no longer, from when they should have started; and so on.
        stopped: by hand, before its time.
    """

    loop: str
    rate: float | None
    connections: int
    seconds: float
    started: int
    answered: int
    errors: dict[str, int]
    not_started: int
    retried: int
    unasked: int
    unfinished: int
    goodput: float
    mean_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    p99_9_ms: float | None
    max_ms: float | None
    lag_ms: float
    longest_ms: float
    stopped: bool

    @property
    def failed(self) -> int:
        """How many ended in an error."""
        return sum(self.errors.values())


def build_report(tally: Tally, load: Load, *, seconds: float, stopped: bool) -> Report:
    """Return the figures of `load` after it was put on for `seconds`."""
    latency = tally.latency

    def at(percent: float) -> float | None:
        return _ms(latency.percentile(percent))

    return Report(
        loop="open" if isinstance(load, OpenLoad) else "closed",
        rate=load.rate if isinstance(load, OpenLoad) else None,
        connections=load.connections,
        seconds=round(seconds, 6),
        started=tally.started,
        answered=latency.count,
        errors=dict(sorted(tally.errors.items())),
        not_started=tally.not_started,
        retried=tally.retried,
        unasked=tally.unasked,
        unfinished=tally.unfinished,
        goodput=tally.within / seconds if seconds > 0 else 0.0,
        mean_ms=_ms(latency.total_s / latency.count) if latency.count else None,
        p50_ms=at(50),
        p90_ms=at(90),
        p99_ms=at(99),
        p99_9_ms=at(99.9),
        max_ms=_ms(latency.max_s) if latency.count else None,
        lag_ms=round(1e3 * tally.lag_s, 3),
        longest_ms=round(1e3 * tally.longest_s, 3),
        stopped=stopped,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1e3 * seconds, 4)


def render_reports(reports: list[Report]) -> str:
    """Return the lines of a table of `reports`, one each, and below it what went wrong."""
    head = f"{'load':>22} {'answered/s':>11} {'p50 ms':>9} {'p90 ms':>9} {'p99 ms':>9}"
    lines = [f"{head} {'p99.9 ms':>9} {'max ms':>9} {'errors':>7} {'not started':>11}"]
    for each in reports:
        load = f"{each.connections} connections" if each.rate is None else f"{each.rate:,.0f}/s"
        times = (each.p50_ms, each.p90_ms, each.p99_ms, each.p99_9_ms, each.max_ms)
        shown = " ".join(f"{'-' if ms is None else f'{ms:.2f}':>9}" for ms in times)
        lines.append(
            f"{load:>22} {each.goodput:>11,.0f} {shown} {each.failed:>7,} {each.not_started:>11,}"
        )
    lines += [note for each in reports for note in _notes(each)]
    return "\n".join(lines)


def _notes(report: Report) -> list[str]:
    load = f"{report.connections} connections" if report.rate is None else f"{report.rate:,.0f}/s"
    notes = []
    if report.errors:
        errors = ", ".join(f"{kind} {count:,}" for kind, count in report.errors.items())
        notes.append(f"{load}: errors: {errors}")
    if report.retried:
        notes.append(f"{load}: {report.retried:,} attempts were retries after a lost connection")
    if report.unasked:
        notes.append(f"{load}: {report.unasked:,} answers came that nobody had asked for")
    if report.stopped:
        notes.append(
            f"{load}: stopped after {report.seconds:.1f} s, {report.unfinished:,} in flight"
        )
    if report.loop == "open" and report.lag_ms > LAG_WORTH_SAYING_MS:
        notes.append(
            f"{load}: this generator was up to {report.lag_ms:,.0f} ms late itself; latencies "
            "include it"
        )
    return notes


LAG_WORTH_SAYING_MS: Final = 50.0
