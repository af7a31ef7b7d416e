"""Every metric of Wardian, in one table, and what counts them.

Labels come from closed sets only: routes of the API, models of `wardian.toml`, HTTP statuses,
enums, and the names of a signed tenants list, which only whom that list allows may read. Never a
path, a user, an address or anything from a request (they would be a side channel,
and without bound).

Counting is an integer in a dict, since it happens for every request; `prometheus_client` sees the
numbers only when somebody scrapes. Nothing here is shared between processes or threads: count on
the event loop's thread.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

Labels: TypeAlias = tuple[str, ...]
Source: TypeAlias = Callable[[], Mapping[Labels, float]]
"""Read at each scrape; returns the value for each combination of label values."""

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the buckets of a duration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: its name, kind, labels, and what it says."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    text: str


REQUESTS: Final = "wardian_requests_total"
REQUEST_SECONDS: Final = "wardian_request_seconds"
REFUSALS: Final = "wardian_refusals_total"
EVIDENCE: Final = "wardian_evidence_total"
CONNECTIONS: Final = "wardian_connections"
IN_FLIGHT: Final = "wardian_requests_in_flight"
MODEL_READY: Final = "wardian_model_ready"
INFERENCES: Final = "wardian_inferences_total"
INFERENCE_SECONDS: Final = "wardian_inference_seconds"
QUEUE_DELAY: Final = "wardian_queue_delay_seconds"
QUEUE_WAITING: Final = "wardian_queue_waiting"
PACKS: Final = "wardian_queue_packs_total"
REDELIVERIES: Final = "wardian_queue_redeliveries_total"
TENANT_INFERENCES: Final = "wardian_tenant_inferences_total"
TENANTS_LEFT: Final = "wardian_tenants_list_left_seconds"
CALLER_REFUSALS: Final = "wardian_caller_refusals_total"
QUEUE_REFUSALS: Final = "wardian_queue_refusals_total"
SLAB_BYTES: Final = "wardian_queue_slab_bytes"
LARGE_MESSAGES: Final = "wardian_queue_large_messages_total"
TRACES: Final = "wardian_traces_total"
PARTS: Final = "wardian_generated_parts_total"
GENERATED: Final = "wardian_generated_tokens_total"

FAMILIES: Final = (
    Family(
        name=REQUESTS,
        kind="counter",
        labels=("route", "model", "status"),
        text="Requests answered, by route, model and HTTP status",
    ),
    Family(
        name=REQUEST_SECONDS,
        kind="histogram",
        labels=("route", "model"),
        text="From a request read whole to its answer handed to TLS, in seconds",
    ),
    Family(
        name=REFUSALS,
        kind="counter",
        labels=("status",),
        text="Refused before routing: not HTTP, over a limit, too slow, too many connections",
    ),
    Family(
        name=EVIDENCE,
        kind="counter",
        labels=("outcome",),
        text="Requests for evidence: quoted, limited (429) or failed",
    ),
    Family(
        name=CONNECTIONS,
        kind="gauge",
        labels=(),
        text="Open connections, those in their TLS handshake included",
    ),
    Family(
        name=IN_FLIGHT,
        kind="gauge",
        labels=(),
        text="Inference requests accepted and not yet answered",
    ),
    Family(
        name=MODEL_READY,
        kind="gauge",
        labels=("model",),
        text="1 while a worker of the model, of whichever version, is connected and takes requests",
    ),
    Family(
        name=INFERENCES,
        kind="counter",
        labels=("model", "version", "outcome"),
        text="Inferences ended, by what in: answered, or the class of the error",
    ),
    Family(
        name=INFERENCE_SECONDS,
        kind="histogram",
        labels=("model", "version"),
        text="From an inference accepted to its outcome, in seconds",
    ),
    Family(
        name=QUEUE_DELAY,
        kind="gauge",
        labels=("model", "version"),
        text="Longest that an inference waited for a worker in the last 15 to 30 s: scale on this",
    ),
    Family(
        name=QUEUE_WAITING,
        kind="gauge",
        labels=("model", "version"),
        text="Inferences that wait for a worker at this moment",
    ),
    Family(
        name=PACKS,
        kind="counter",
        labels=(),
        text="Sealed messages sent to workers; each carries what one turn of the loop collected",
    ),
    Family(
        name=REDELIVERIES,
        kind="counter",
        labels=(),
        text="Requests sent again because a worker was lost",
    ),
    Family(
        name=QUEUE_REFUSALS,
        kind="counter",
        labels=("why",),
        text="Answers of the queue that were refused: malformed, unknown, not authentic",
    ),
    Family(
        name=SLAB_BYTES,
        kind="gauge",
        labels=(),
        text="Shared memory of the embedded queue that holds messages to workers at this moment",
    ),
    Family(
        name=LARGE_MESSAGES,
        kind="counter",
        labels=("way",),
        text="Messages of 64 KiB and more of the embedded queue, both directions: slab or socket",
    ),
    Family(
        name=TRACES,
        kind="counter",
        labels=("outcome",),
        text="Inferences with a sampled traceparent: spans written to the log, or limited",
    ),
    Family(
        name=PARTS,
        kind="counter",
        labels=("model",),
        text="Parts of generated answers that came from workers; each is an inference",
    ),
    Family(
        name=GENERATED,
        kind="counter",
        labels=("model",),
        text="Tokens of generated answers",
    ),
    Family(
        name=TENANT_INFERENCES,
        kind="counter",
        labels=("tenant", "outcome"),
        text="Inferences of each tenant: accepted, or refused for which of its limits",
    ),
    Family(
        name=CALLER_REFUSALS,
        kind="counter",
        labels=("why",),
        text="Requests of callers who are not known: bad credentials, too many failures, no list",
    ),
    Family(
        name=TENANTS_LEFT,
        kind="gauge",
        labels=(),
        text="Seconds until the tenants list in force ends; 0: there is none, and all are refused",
    ),
)
_BY_NAME: Final = {family.name: family for family in FAMILIES}


class DurationCounts:
    """Counts per bucket of `SECONDS` (not cumulative), and the sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds


DurationSource: TypeAlias = Callable[[], Mapping[Labels, DurationCounts]]
"""Read at each scrape; returns the counts for each combination of label values."""


class Metrics(Collector):
    """The metrics of one process."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[Labels, int]] = {
            family.name: {} for family in FAMILIES if family.kind == "counter"
        }
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[Labels, DurationCounts] = {}
        self._sources: dict[str, Source] = {}
        self._durations: dict[str, DurationSource] = {REQUEST_SECONDS: lambda: self._seconds}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count one answered request.

        Args:
            route: a name from the API's table.
            model: a model of `wardian.toml`, or "".
            status: of the answer.
            seconds: that it took.
        """
        key = (route, model, status)
        requests = self._requests
        requests[key] = requests.get(key, 0) + 1
        histogram = self._seconds.get((route, model))
        if histogram is None:
            histogram = self._seconds[(route, model)] = DurationCounts()
        histogram.record(seconds)

    def count(self, name: str, *labels: str) -> None:
        """Add one to the counter `name`."""
        counts = self._counts[name]
        counts[labels] = counts.get(labels, 0) + 1

    def add(self, name: str, more: int, *labels: str) -> None:
        """Add `more` to the counter `name`."""
        counts = self._counts[name]
        counts[labels] = counts.get(labels, 0) + more

    def watch(self, name: str, source: Source) -> None:
        """Read the gauge or counter `name` from `source` at each scrape."""
        self._sources[_BY_NAME[name].name] = source

    def watch_durations(self, name: str, source: DurationSource) -> None:
        """Read the histogram `name` from `source` at each scrape."""
        self._durations[_BY_NAME[name].name] = source

    def durations(self, name: str) -> Mapping[Labels, DurationCounts]:
        """Return what the histogram `name` has counted, for each combination of label values."""
        source = self._durations.get(name)
        return {} if source is None else source()

    def render(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield the families with their present values, for the registry."""
        for family in FAMILIES:
            if family.kind == "histogram":
                yield self._collect_seconds(family)
                continue
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.text, labels=family.labels)
            for labels, value in self._values(family.name).items():
                metric.add_metric(list(labels), value)
            yield metric

    def _values(self, name: str) -> Mapping[Labels, float]:
        if name == REQUESTS:
            return {(r, m, str(status)): n for (r, m, status), n in self._requests.items()}
        if name in self._sources:
            return self._sources[name]()
        return self._counts.get(name, {})

    def _collect_seconds(self, family: Family) -> Metric:
        metric = HistogramMetricFamily(family.name, family.text, labels=family.labels)
        for labels, histogram in self.durations(family.name).items():
            buckets: list[tuple[str, float]] = []
            seen = 0
            for bound, count in zip((*SECONDS, None), histogram.counts, strict=True):
                seen += count
                buckets.append(("+Inf" if bound is None else repr(bound), seen))
            metric.add_metric(list(labels), buckets, histogram.total)
        return metric


def render_table() -> str:
    """Return the table of all metrics in Markdown, for `docs/reference/metrics.md`."""
    lines = ["| metric | kind | labels | what it says |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.text} |")
    return "\n".join(lines) + "\n"
