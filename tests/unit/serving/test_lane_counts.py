"""Rate, errors, duration and queue delay of each version of a model."""

import asyncio

import pytest
from simulators.data_plane import LANE, LANES, Collector, MemoryQueue, Pipe, image, sender

from wardian._internal import clock
from wardian._internal.metrics import INFERENCE_SECONDS, SECONDS, DurationCounts, Metrics
from wardian.errors import QueueFull, RequestError
from wardian.serving.dispatch import Dispatcher
from wardian.serving.lane_counts import WINDOW_S, LaneCounts, QueueDelay


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock, "monotonic", made)
    return made


class Plane:
    def __init__(self, *, max_waiting: int = 1000) -> None:
        self.queue = MemoryQueue()
        self.dispatcher = Dispatcher(
            queue=self.queue, codecs={"digits": sender()}, lanes=LANES, max_waiting=max_waiting
        )
        self.requests = Collector(self.dispatcher)

    @property
    def counts(self) -> LaneCounts:
        return self.dispatcher.counters.lanes[LANE]

    async def worker(self, **options) -> Pipe:
        pipe = Pipe(self.queue.connect(LANE, 1), None, **options)
        await pipe.step()
        return pipe


@pytest.fixture
async def plane(time):
    made = Plane()
    yield made
    made.dispatcher.close()


async def test_answers_are_counted_by_version_with_the_time_that_they_took(plane, time) -> None:
    pipe = await plane.worker()
    for number in range(3):
        plane.requests.submit(number, image(number))
    time.now += 0.3
    with pipe.serving():
        await plane.requests.all_done()
    assert plane.counts.outcomes == {"answered": 3}
    assert plane.counts.seconds.total == pytest.approx(0.9)
    assert sum(plane.counts.seconds.counts) == 3
    assert set(plane.dispatcher.counters.lanes) == {LANE}


async def test_each_error_is_counted_by_its_class_and_once(plane) -> None:
    await plane.worker()
    plane.requests.submit("late", image(1), deadline_s=0.001)
    await plane.requests.all_done()
    with pytest.raises(RequestError):
        plane.requests.submit("wrong", {"another": image(1)["image"]})
    plane.requests.submit("stopping", image(2))
    plane.dispatcher.close()
    await plane.requests.all_done()
    assert plane.counts.outcomes == {"Timeout": 1, "RequestError": 1, "ConnectionLost": 1}
    assert sum(plane.counts.seconds.counts) == 2  # a refusal has no duration


async def test_back_pressure_is_counted_against_the_version_that_was_asked(time) -> None:
    plane = Plane(max_waiting=1)
    await plane.worker()
    plane.requests.submit("first", image(1))
    with pytest.raises(QueueFull):
        plane.requests.submit("second", image(2))
    assert plane.counts.outcomes == {"QueueFull": 1}
    plane.dispatcher.close()


async def test_a_model_that_nobody_has_makes_no_label(plane) -> None:
    await plane.worker()
    for name in ("nobody", "x" * 1000):
        with pytest.raises(RequestError):
            plane.requests.submit(name, image(1), model=name)
    assert not {lane.model for lane in plane.dispatcher.counters.lanes} - {"digits"}


async def test_the_delay_grows_while_nobody_takes_what_waits(plane, time) -> None:
    pipe = await plane.worker()
    plane.requests.submit("first", image(1))
    await asyncio.sleep(0)  # sent: the worker has room for one message
    plane.requests.submit("second", image(2))
    await asyncio.sleep(0)
    assert plane.dispatcher.waiting() == {LANE: 1}
    time.now += 4.0
    assert plane.dispatcher.delays()[LANE] == pytest.approx(4.0)
    with pipe.serving():
        await plane.requests.all_done()
    assert plane.dispatcher.waiting() == {LANE: 0}
    assert plane.dispatcher.delays()[LANE] == pytest.approx(4.0)  # lately it was so
    time.now += 2 * WINDOW_S
    assert plane.dispatcher.delays()[LANE] == 0.0


async def test_what_ended_while_it_waited_is_not_waiting(plane, time) -> None:
    await plane.worker()
    plane.requests.submit("first", image(1))
    await asyncio.sleep(0)
    plane.requests.submit("second", image(2), deadline_s=0.001)
    while "second" not in plane.requests.outcomes:
        await asyncio.sleep(0)
    time.now += 50.0
    assert plane.dispatcher.waiting() == {LANE: 0}
    assert plane.dispatcher.delays()[LANE] == 0.0


def test_a_delay_is_seen_for_one_window_at_least_and_two_at_most() -> None:
    delay = QueueDelay()
    delay.note(3.0, now=1000.0)
    assert delay.longest_s(now=1000.0 + WINDOW_S - 0.1, waiting_since=None) == 3.0
    delay.note(1.0, now=1000.0 + WINDOW_S + 0.1)
    assert delay.longest_s(now=1000.0 + 1.5 * WINDOW_S, waiting_since=None) == 3.0
    assert delay.longest_s(now=1000.0 + 2.2 * WINDOW_S, waiting_since=None) == 1.0
    assert delay.longest_s(now=1000.0 + 9 * WINDOW_S, waiting_since=None) == 0.0


def test_a_clock_that_jumps_makes_no_negative_delay() -> None:
    delay = QueueDelay()
    delay.note(-5.0, now=1000.0)
    assert delay.longest_s(now=10.0, waiting_since=500.0) == 0.0


def test_a_watched_histogram_is_rendered_whole() -> None:
    metrics, counts = Metrics(), DurationCounts()
    for seconds in (0.0001, 0.3, 99.0):
        counts.record(seconds)
    metrics.watch_durations(INFERENCE_SECONDS, lambda: {("digits", "2"): counts})
    text = metrics.render().decode()
    labels = 'model="digits",version="2"'
    assert f"wardian_inference_seconds_count{{{labels}}} 3.0" in text
    assert f'wardian_inference_seconds_bucket{{le="0.0005",{labels}}} 1.0' in text
    assert f'wardian_inference_seconds_bucket{{le="+Inf",{labels}}} 3.0' in text
    assert text.count("wardian_inference_seconds_bucket{") == len(SECONDS) + 1
    with pytest.raises(KeyError):
        metrics.watch_durations("wardian_unknown", dict)
