"""What a dispatcher counts, as metrics of the process that has it."""

from collections.abc import Mapping
from typing import Protocol

from wardian._internal import metrics as names
from wardian._internal.metrics import DurationCounts, Labels, Metrics
from wardian.serving.api.service import Dispatching
from wardian.serving.dispatch import Counters
from wardian.serving.queue.lease import Lane


class CountingDispatcher(Dispatching, Protocol):
    """What a front end needs of `dispatch.Dispatcher`."""

    counters: Counters

    def waiting(self) -> dict[Lane, int]:
        """Return how many requests wait for a worker, by version of a model."""

    def delays(self) -> dict[Lane, float]:
        """Return for how many seconds requests waited for a worker lately, at most."""


def watch_dispatcher(metrics: Metrics, dispatcher: CountingDispatcher) -> None:
    """Show in `metrics` what `dispatcher` counts."""

    def ready() -> dict[Labels, float]:
        return {(info.name,): float(info.ready) for info in dispatcher.catalog().values()}

    def outcomes() -> dict[Labels, float]:
        return {
            (*_labels(lane), outcome): count
            for lane, counts in dispatcher.counters.lanes.items()
            for outcome, count in counts.outcomes.items()
        }

    def durations() -> dict[Labels, DurationCounts]:
        lanes = dispatcher.counters.lanes
        return {_labels(lane): counts.seconds for lane, counts in lanes.items()}

    metrics.watch(names.MODEL_READY, ready)
    metrics.watch(names.QUEUE_WAITING, lambda: _labelled(dispatcher.waiting()))
    metrics.watch(names.QUEUE_DELAY, lambda: _labelled(dispatcher.delays()))
    metrics.watch(names.INFERENCES, outcomes)
    metrics.watch_durations(names.INFERENCE_SECONDS, durations)
    metrics.watch(names.PACKS, lambda: {(): dispatcher.counters.packs})
    metrics.watch(names.REDELIVERIES, lambda: {(): dispatcher.counters.redelivered})


def _labels(lane: Lane) -> Labels:
    return (lane.model, str(lane.version))


def _labelled(values: Mapping[Lane, float]) -> dict[Labels, float]:
    return {_labels(lane): value for lane, value in values.items()}
