"""Cluster Serving's HTTP paths: both forms of what goes wrong, and abuse."""

import json
from typing import Any

import numpy as np
import pytest
from simulators.zoo_world import (
    PREDICT,
    TEXT,
    World,
    rows,
    values,
)

from wardian.errors import (
    ConnectionLost,
    JobFailed,
    QueueFull,
    RequestError,
    Timeout,
    WardianError,
)
from wardian.serving.dispatch import Outcome


@pytest.mark.parametrize(
    ("err", "sane", "app", "single"),
    [
        (QueueFull("full", retry_after_s=3), 429, 500, 500),
        (JobFailed("the model failed"), 500, 200, 200),
        (RequestError("shape"), 400, 200, 200),
        (RequestError("no worker", status=503), 503, 405, 400),
        (Timeout("late"), 504, 405, 400),
        (ConnectionLost("gone"), 503, 405, 400),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_statuses(err: WardianError, sane: int, app: int, single: int, at_once: bool) -> None:
    for compat, target, status in (
        ("sane", PREDICT, sane),
        ("sane", "/predict", sane),
        ("strict", PREDICT, app),
        ("strict", "/predict", single),
    ):
        world = World(compat=compat)
        if at_once:
            world.raises[1] = err
        answers = world.start("POST", target, {"instances": [{"x": [1, 2]}]})
        if not at_once:
            world.calls[0]["done"](Outcome(error=err))
        (response,) = answers
        body = b"".join(response.body)
        assert (response.status, response.content_type) == (status, TEXT)
        assert world.api.in_flight == 0
        if isinstance(err, QueueFull):
            assert body == b'{"error" : "limited"}'
            assert b"Retry-After: 3\r\n" in response.headers
        assert (b"NaN" in body) is (status == 200)
        counted = (
            f'wardian_requests_total{{model="digits",route="zoo_predict",status="{status}"}} 1.0'
        )
        assert counted in world.metrics.render().decode()


def test_one_of_several_inferences_fails() -> None:
    instances = [{"x": [[1, 2]]}, {"x": [[3, 4]]}, {"x": [[5, 6]]}]
    outcomes = (rows([1, 1]), JobFailed("no"), rows([3, 3]))
    status, body = World().predict(instances, *outcomes)
    assert (status, b"predictions" in body) == (500, False)
    status, body = World(compat="strict").predict(instances, *outcomes)
    told = [json.loads(each)["value"] for each in json.loads(body)["predictions"]]
    assert (status, told[1], told[2][:9]) == (200, "NaN", '{"data":[')


def test_one_of_several_is_not_taken_and_the_answer_waits_for_the_others() -> None:
    world = World()
    world.raises[2] = QueueFull("full")
    answers = world.start("POST", PREDICT, {"instances": [{"x": [[1, 2]]}] * 3})
    assert (answers, len(world.calls), world.api.in_flight) == ([], 2, 1)  # a third was not tried
    world.calls[0]["done"](Outcome(outputs=rows([1, 1]), version=1))
    assert [each.status for each in answers] == [429]
    assert world.api.in_flight == 0


def test_a_dispatcher_that_answers_at_once() -> None:
    world = World()

    def submit(**call: Any) -> None:
        call["done"](Outcome(outputs=rows([1, 1]), version=1))

    world.api.service._submit = submit  # type: ignore[method-assign]
    status, body = world.do("POST", PREDICT, {"instances": [{"x": [[1, 2]]}] * 3})
    assert (status, len(values(body)), world.api.in_flight) == (200, 3, 0)


def test_a_model_that_waits_for_a_worker() -> None:
    world = World(default_model="later")
    assert world.do("POST", "/predict", {"instances": [{"x": [1]}]})[0] == 503


def test_the_version_that_answered() -> None:
    world = World()
    answers = world.start("POST", "/predict", {"instances": [{"x": [1, 2]}]})
    world.calls[0]["done"](Outcome(outputs=rows([1, 1]), version=3))
    assert b"Wardian-Model-Version: 3\r\n" in answers[0].headers
    answers = world.start("POST", "/predict", {"instances": [{"x": [[1, 2]]}] * 2})
    for version in (1, 3):
        world.calls[version // 2 + 1]["done"](Outcome(outputs=rows([1, 1]), version=version))
    assert b"Wardian-Model-Version" not in answers[0].headers  # two of them


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"{}",
    b'{"instances": 3}',
    b'{"instances": {"x": [1, 2]}}',
    b'{"instances": []}',
    b'{"instances": [[1, 2]]}',
    b'{"instances": [{}]}',
    b'{"instances": [{"x": null}]}',
    b'{"instances": [{"x": [1, [2]]}]}',
    b'{"instances": [{"x": [[1, 2], [3]]}]}',
    b'{"instances": [{"x": [1, "2"]}]}',
    b'{"instances": [{"x": [NaN, 1]}]}',
    b'{"instances": [{"x": {"b64": "!"}}]}',
    b'{"instances": [{"x": {"shape": [2], "data": [1], "indices": [[9]]}}]}',
    b'{"instances": [{"x": {"shape": [-2], "data": [1], "indices": [[0]]}}]}',
    b'{"instances": [{"x": {"shape": [2], "data": [1, 2], "indices": [[0]]}}]}',
    b'{"instances": [{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}]}",
    b'{"instances": [' + b'{"x": ' * 5000 + b"1" + b"}" * 5000 + b"]}",
]


@pytest.mark.parametrize("body", MALFORMED)
def test_malformed_bodies(body: bytes) -> None:
    for compat, target, status in (
        ("sane", PREDICT, 400),
        ("sane", "/predict", 400),
        ("strict", PREDICT, 500),
        ("strict", "/predict", 400),
    ):
        world = World(compat=compat)
        got, said = world.do("POST", target, body)
        assert (got, world.calls, world.api.in_flight) == (status, [], 0)
        assert b"keyword should be 'instances'" in said if got == 500 else b'{"instances"' in said


def test_many_instances() -> None:
    world = World()
    status, body = world.predict([{"x": [1, 2]}] * 1024, {"y": np.ones((1024, 2), "f4")})
    assert (status, len(values(body)), len(world.calls)) == (200, 1024, 1)
    world = World()
    status, _ = world.do("POST", PREDICT, {"instances": [{"x": [1, 2]}] * 10_000})
    assert (status, world.calls) == (400, [])
    status, _ = world.do("POST", PREDICT, {"instances": [{"x": [[1, 2]]}] * 65})
    assert (status, world.calls) == (413, [])


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [' + b'{"x": 1},' * 20_000 + b'{"x": 1}]}',
        b'{"instances": [{"x": [' + b"1," * 300_000 + b"1]}]}",
        json.dumps({"instances": [{f"c{n}": 1 for n in range(64)}] * 1024}).encode(),
        b'{"instances": [{"x": [' + b"[]," * 80_000 + b"[]]}]}",
        json.dumps(
            {"instances": [{"x": {"shape": [2**20], "data": [1], "indices": [[0]]}}] * 2}
        ).encode(),
        json.dumps(
            {"instances": [{"x": {"shape": [2**15, 2**15], "data": [1], "indices": [[0, 0]]}}]}
        ).encode(),
    ],
)
def test_too_much(body: bytes) -> None:
    world = World()
    status, _ = world.do("POST", PREDICT, body)
    assert (status, world.calls) == (413, [])


def test_an_answer_that_is_too_large() -> None:
    large = {"y": np.ones((1, 200_000), "f4")}
    assert World().predict([{"x": [1, 2]}], large)[0] == 413
    assert World().predict([{"x": [1, 2]}], large, target="/predict")[0] == 200
    larger = {"y": np.ones((1, 1_048_577), "f4")}
    assert World().predict([{"x": [1, 2]}], larger, target="/predict")[0] == 413


def test_texts_have_no_arrow_form() -> None:
    labels = {"label": np.array([b"yes"], object)}
    world = World(default_model="words")
    assert world.predict([{"text": ["a", "b"]}], labels, target="/predict")[0] == 400
