"""The token bucket of Cluster Serving's front end: who passes, who waits, who is refused."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from simulators.zoo_world import PREDICT, TERMS, World, rows

from wardian._internal.agreed import ZooDialect
from wardian._internal.metrics import Metrics
from wardian.errors import QueueFull
from wardian.serving.api.zoo.apart import ZooApi
from wardian.serving.api.zoo.dialect import ZooRoutes
from wardian.serving.api.zoo.tokens import Rationing, TokenBucket
from wardian.serving.dispatch import Outcome
from wardian.serving.http.messages import HttpRequest, HttpResponse

ONE = {"instances": [{"x": [1, 2]}]}


@pytest.mark.parametrize("rate", [1, 2, 3, 7, 30, 100])
def test_a_second_has_so_many_and_no_more(rate: int) -> None:
    bucket = TokenBucket(rate, now=5.0)
    assert sum(bucket.take(5.0, wait_s=0) == 0 for _ in range(rate + 50)) == rate
    passed = [bucket.take(5.0 + part / 1000, wait_s=0) == 0 for part in range(10_000)]
    assert abs(sum(passed) - 10 * rate) <= 1


def test_a_million() -> None:
    bucket = TokenBucket(1_000_000, now=5.0)
    assert all(bucket.take(5.0, wait_s=0) == 0 for _ in range(5000))


def test_it_holds_the_tokens_of_one_second_however_long_nobody_asks() -> None:
    bucket = TokenBucket(10, now=0.0)
    assert sum(bucket.take(1e6, wait_s=0) is not None for _ in range(100)) == 10


def test_tokens_of_the_near_future_are_handed_out_in_turn() -> None:
    bucket = TokenBucket(10, now=0.0)
    waits = [bucket.take(0.0, wait_s=0.25) for _ in range(14)]
    assert waits[:10] == [0.0] * 10
    assert waits[10:12] == pytest.approx([0.1, 0.2])
    assert waits[12:] == [None, None]  # and what is refused takes nothing:
    assert bucket.take(0.1, wait_s=0.25) == pytest.approx(0.2)


def test_any_mixture_of_times_stays_within_the_rate() -> None:
    for seed in range(20):
        picked = random.Random(seed)
        rate, now = picked.choice([1, 3, 10, 250]), 0.0
        bucket = TokenBucket(rate, now=now)
        granted: list[float] = []
        for _ in range(2000):
            now += picked.choice([0.0, 0.0, 0.001, picked.random() / rate])
            there_in = bucket.take(now, wait_s=picked.choice([0, 0.1, 1.0]))
            if there_in is not None:
                granted.append(now + there_in)
        assert granted == sorted(granted)
        for begin in range(0, len(granted), 37):
            after = [each for each in granted[begin:] if each < granted[begin] + 1.0 - 1e-6]
            assert len(after) <= 2 * rate + 1  # one second's worth, and what came in that second


class Served:
    """An API by itself, with a bucket, over a dispatcher that answers when told."""

    def __init__(self, per_second: int = 2, *, wait_s: float = 1.0, **given: Any) -> None:
        self.world = World()
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.rationing = Rationing(
            per_second,
            wait_s=wait_s,
            most_waiting=given.pop("most_waiting", 8),
            later=lambda seconds, go: self.timers.append((self.now + seconds, go)),
            clock=lambda: self.now,
        )
        zoo = ZooDialect(enabled=True, default_model="digits", keystore=True, **given)
        self.metrics = Metrics()
        self.api = ZooApi(
            dispatcher=self.world,
            routes=ZooRoutes(zoo, models=TERMS, ration=self.rationing.limit),
            metrics=self.metrics,
            deadline_s=10,
        )

    def ask(self, target: str = PREDICT, method: str = "POST") -> list[HttpResponse]:
        answers: list[HttpResponse] = []
        body = json.dumps(ONE).encode() if method == "POST" else b""
        self.api.handle(
            HttpRequest(method.encode(), target.encode(), {}, body, b"key", 7, "192.0.2.1"),
            answers.append,
        )
        return answers

    def until(self, now: float) -> None:
        self.now = now
        due = sorted(
            (each for each in self.timers if each[0] <= now + 1e-9), key=lambda each: each[0]
        )
        self.timers = [each for each in self.timers if each not in due]
        for _, go in due:
            go()


@pytest.mark.parametrize(
    ("compat", "target", "status"),
    [("sane", PREDICT, 429), ("sane", "/predict", 429), ("strict", PREDICT, 500),
     ("strict", "/predict", 500)],
)  # fmt: skip
def test_who_has_no_token_is_told_so_and_nothing_is_predicted(
    compat: str, target: str, status: int
) -> None:
    served = Served(2, wait_s=0.0, compat=compat)
    for _ in range(2):
        assert served.ask(target) == []
    assert len(served.world.calls) == 2
    (response,) = served.ask(target)
    assert response.status == status
    assert b"".join(response.body) == b'{"error" : "limited"}'
    assert b"Retry-After: 1" in response.headers
    assert len(served.world.calls) == 2
    assert served.timers == []
    shown = served.metrics.render().decode()
    model = "digits" if target == PREDICT else ""
    labels = f'model="{model}",route="zoo_predict",status="{status}"'
    assert f"wardian_requests_total{{{labels}}} 1.0" in shown


def test_who_waits_is_served_in_turn_and_once() -> None:
    served = Served(2)
    answers = [served.ask() for _ in range(5)]
    assert len(served.world.calls) == 2
    assert [bool(each) for each in answers] == [False] * 4 + [True]  # the fifth: 1.5 s
    assert served.rationing.waiting == 2
    served.until(100.4)
    assert len(served.world.calls) == 2
    served.until(100.5)
    assert len(served.world.calls) == 3
    served.until(101.0)
    assert len(served.world.calls) == 4
    assert (served.rationing.waiting, served.timers) == (0, [])
    for call in served.world.calls:
        call["done"](Outcome(outputs=rows([1, 2]), version=3))
    assert [each[0].status for each in answers] == [200] * 4 + [429]


def test_only_so_many_wait() -> None:
    served = Served(1000, wait_s=60.0, most_waiting=3)
    answers = [served.ask() for _ in range(1010)]
    assert sum(bool(each) for each in answers) == 7
    assert len(served.timers) == 3
    served.until(100.0015)  # there is room for one, whose token is there later
    assert served.rationing.waiting == 2
    assert served.ask() == []
    assert served.rationing.waiting == 3


def test_what_is_no_prediction_needs_no_token() -> None:
    served = Served(1, wait_s=0.0)
    served.ask()
    for target in ("/", "/metrics", "/models", "/models/digits"):
        (response,) = served.ask(target, "GET")
        assert response.status == 200
    (response,) = served.ask("/model-secure")
    assert response.status == 403


def test_who_waited_for_nothing_gets_an_error_and_no_exception_ends_the_loop() -> None:
    served = Served(1)
    served.ask()
    limited = served.ask()
    served.world.raises[2] = QueueFull("full")
    served.until(101.0)
    assert limited[0].status == 429
    broken = served.ask()
    served.world.raises[3] = RuntimeError("a bug")  # type: ignore[assignment]
    served.until(102.0)
    assert broken[0].status == 500
    assert served.rationing.waiting == 0
