"""GetMetrics of FrontEndGRPCService: durations as its timers told them, from our histograms.

A histogram counts durations by bounds, so that what is between two of them is estimated: count and
mean are exact, the other values are between the bounds of the durations that they are about.
"""

import struct
from collections.abc import Iterable, Mapping
from itertools import accumulate, pairwise
from math import ceil, sqrt
from typing import Final

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.metrics import (
    INFERENCE_SECONDS,
    REQUEST_SECONDS,
    SECONDS,
    DurationCounts,
    Labels,
)
from wardian.serving.api.service import Service
from wardian.serving.grpc import wire
from wardian.serving.grpc.methods import Named

OVERALL: Final = "zoo.serving.request.overall"
PREDICT: Final = "zoo.serving.request.predict"
_PREDICTIONS: Final = frozenset({"zoo_predict", "grpc_zoo_predict"})
"""Routes that were timed as predictions there."""
_SHARES: Final = (0.75, 0.95, 0.98, 0.99, 0.999)
_BOUNDS_MS: Final = tuple(1000 * bound for bound in (0.0, *SECONDS, SECONDS[-1]))
"""Bucket n is from n to n + 1; the last has no end, and counts as its beginning."""


class Timers:
    """Tells the timers of one process."""

    def __init__(self, clock: Monotonic = monotonic) -> None:
        """Rates are from now on, in seconds of `clock`."""
        self._clock, self._since = clock, clock()

    def render(self, service: Service, _named: Named) -> bytes:
        """Return a MetricsReply.

        Raises:
            RequestError: 403; the caller may not read metrics.
        """
        service.expect_metrics()
        seconds = max(self._clock() - self._since, 1e-3)
        timers = _timers(service.metrics.durations(REQUEST_SECONDS))
        lanes = service.metrics.durations(INFERENCE_SECONDS)
        timers |= {f"zoo.serving.inference.{m}.{v}": each for (m, v), each in lanes.items()}
        return b"".join(
            wire.element(1, _metric(name, each, seconds)) for name, each in sorted(timers.items())
        )


def _timers(requests: Mapping[Labels, DurationCounts]) -> dict[str, DurationCounts]:
    predictions = [each for (route, _), each in requests.items() if route in _PREDICTIONS]
    return {OVERALL: _together(requests.values()), PREDICT: _together(predictions)}


def _together(parts: Iterable[DurationCounts]) -> DurationCounts:
    whole = DurationCounts()
    for part in parts:
        whole.counts = [a + b for a, b in zip(whole.counts, part.counts, strict=True)]
        whole.total += part.total
    return whole


def _metric(name: str, timer: DurationCounts, seconds: float) -> bytes:
    """Return a Metric; all but its name, count and rate (per second) in milliseconds."""
    counts, count = timer.counts, sum(timer.counts)
    used = [number for number, each in enumerate(counts) if each]
    mean = 1000 * timer.total / count if count else 0.0
    return b"".join(
        (
            wire.field(1, name.encode()),
            _whole(2, count),
            _double(3, count / seconds),
            _whole(4, int(_BOUNDS_MS[used[0]]) if used else 0),
            _whole(5, ceil(_BOUNDS_MS[used[-1] + 1]) if used else 0),
            _double(6, mean),
            _double(7, _quantile(counts, 0.5)),
            _double(8, _deviation(counts, mean)),
            *(_double(number, _quantile(counts, share)) for number, share in enumerate(_SHARES, 9)),
        )
    )


def _quantile(counts: list[int], share: float) -> float:
    """Return below which milliseconds a `share` of the durations are, evenly within a bucket."""
    wanted = share * sum(counts)
    for number, until in enumerate(accumulate(counts)):
        if counts[number] and until >= wanted:
            low, high = _BOUNDS_MS[number : number + 2]
            return high - (high - low) * (until - wanted) / counts[number]
    return 0.0


def _deviation(counts: list[int], mean: float) -> float:
    """Return the standard deviation, each duration taken for the middle of its bucket."""
    middles = [(low + high) / 2 for low, high in pairwise(_BOUNDS_MS)]
    squares = sum(n * (m - mean) ** 2 for n, m in zip(counts, middles, strict=True))
    return sqrt(squares / max(sum(counts), 1))


def _whole(number: int, value: int) -> bytes:
    return wire.key(number, wire.VARINT) + wire.varint(value) if value else b""


def _double(number: int, value: float) -> bytes:
    return wire.key(number, wire.FIXED64) + struct.pack("<d", value) if value else b""
