"""The timers that gRPC clients of Cluster Serving read, from histograms."""

import math
from typing import Any

import pytest
from simulators.zoo_grpc import CLASSES

from wardian._internal.metrics import SECONDS, DurationCounts, Metrics
from wardian.errors import RequestError
from wardian.serving.api.service import Service
from wardian.serving.grpc.methods import Named
from wardian.serving.grpc.zoo_timers import Timers

NONE = Named({}, {})


class Ticking:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Counted(Service):
    """As much of a service as timers read."""

    def __init__(self, *, open_to: bool = True) -> None:
        self.metrics = Metrics()
        self._open = open_to

    def expect_metrics(self) -> None:
        if not self._open:
            raise RequestError("not for you", status=403)


def told(service: Service, timers: Timers) -> dict[str, Any]:
    reply = CLASSES["MetricsReply"].FromString(timers.render(service, NONE))
    return {each.name: each for each in reply.metrics}


def test_count_rate_and_mean_are_exact_and_the_rest_within_the_bounds() -> None:
    clock, service = Ticking(), Counted()
    timers = Timers(clock)
    for milliseconds in (0.7, 0.8, 3.0, 30.0):
        service.metrics.answered("zoo_predict", "digits", 200, milliseconds / 1000)
    service.metrics.answered("grpc_zoo_predict", "digits", 200, 0.0)
    service.metrics.answered("metrics", "", 200, 2.0)
    clock.now += 10
    found = told(service, timers)
    predict, overall = found["zoo.serving.request.predict"], found["zoo.serving.request.overall"]
    assert (predict.count, overall.count) == (5, 6)
    assert predict.meanRate == 0.5
    assert predict.mean == pytest.approx(34.5 / 5)
    assert (predict.min, predict.max) == (0, 50)
    assert 0.5 <= predict.median <= 1.0
    assert 25 <= predict.Percentile99th <= predict.Percentile999th <= 50
    assert predict.Percentile75th <= predict.Percentile95th <= predict.Percentile98th
    middles = [0.25, 0.75, 0.75, 3.75, 37.5]
    deviation = math.sqrt(sum((each - predict.mean) ** 2 for each in middles) / 5)
    assert predict.stdDev == pytest.approx(deviation)


def test_what_has_no_bound_counts_as_the_last_one() -> None:
    service = Counted()
    service.metrics.answered("zoo_predict", "digits", 504, 3600.0)
    predict = told(service, Timers(Ticking()))["zoo.serving.request.predict"]
    assert predict.max == predict.median == SECONDS[-1] * 1000
    assert predict.mean == 3_600_000


def test_nothing_counted_is_all_zeros() -> None:
    predict = told(Counted(), Timers(Ticking()))["zoo.serving.request.predict"]
    assert (predict.count, predict.mean, predict.median, predict.stdDev, predict.max) == (0,) * 5


def test_each_version_of_a_model_has_its_timer() -> None:
    service, counts = Counted(), DurationCounts()
    counts.record(0.02)
    service.metrics.watch_durations("wardian_inference_seconds", lambda: {("m", "2"): counts})
    assert told(service, Timers(Ticking()))["zoo.serving.inference.m.2"].count == 1


def test_not_for_whoever_may_not_read_metrics() -> None:
    with pytest.raises(RequestError, match="not for you"):
        Timers(Ticking()).render(Counted(open_to=False), NONE)
