"""Cluster Serving's HTTP paths: bodies byte for byte, both forms of what goes wrong, abuse."""

import json
import sys
from binascii import a2b_base64, b2a_base64
from typing import Any

import numpy as np
import pytest
from simulators.tenants import Clock, key_of, terms

from wardian._internal import settings
from wardian._internal.agreed import Agreed, ModelTerms, ZooDialect
from wardian._internal.metrics import Metrics
from wardian._internal.steps import ImageStep
from wardian.errors import (
    ConfigError,
    ConnectionLost,
    JobFailed,
    QueueFull,
    RequestError,
    Timeout,
    WardianError,
)
from wardian.inference.spec import TensorSpec
from wardian.serving.api.routes import Api
from wardian.serving.api.tenant_api import TenantApi
from wardian.serving.api.zoo.dialect import ZooRoutes
from wardian.serving.catalog import ModelInfo
from wardian.serving.dispatch import Outcome
from wardian.serving.http.messages import HttpRequest, HttpResponse
from wardian.serving.zoo.results import encode_result

TEXT = b"text/plain; charset=UTF-8"
PREDICT = "/models/digits/versions/1/predict"


def spec(name: str, dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def info(name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> ModelInfo:
    return ModelInfo(
        name=name, versions=(1, 3), inputs=inputs, outputs=outputs, engine="fake 1",
        ready_versions=(1, 3),
    )  # fmt: skip


X, Y = spec("x", "FP32", -1, 2), spec("y", "FP32", -1, 2)
MODELS = (
    info("digits", (X,), (Y,)),
    info("pair", (X, spec("n", "INT64", -1)), (Y, spec("z", "INT64", -1))),
    info("whole", (spec("x", "FP32", 3),), (spec("y", "FP32", 2),)),
    info("photos", (spec("pixels", "BYTES", -1),), (Y,)),
    info("words", (spec("text", "BYTES", -1, 2),), (spec("label", "BYTES", -1),)),
    ModelInfo(name="later", versions=(), inputs=(), outputs=(), engine="", ready_versions=()),
)
TERMS = {each.name: ModelTerms() for each in MODELS} | {
    "photos": ModelTerms(pre=(ImageStep(input="pixels"),))
}


class World:
    """An API with this dialect, over a dispatcher that answers when told."""

    def __init__(self, *, tenants: bool = False, **given: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self.raises: dict[int, WardianError] = {}
        self.metrics = Metrics()
        self.models = {each.name: each for each in MODELS}
        self.now = 0.0
        zoo = ZooDialect(**{"enabled": True, "default_model": "digits", **given})
        more: dict[str, Any] = {"more_routes": ZooRoutes(zoo, models=TERMS).find}
        if tenants:
            self.roster = Clock().roster(
                terms("alice", "pair"), terms("bob", "digits", rate_per_s=1.0, burst=1)
            )
            more |= {"roster": self.roster, "max_open": 8}
        self.api = (TenantApi if tenants else Api)(
            dispatcher=self, desk=self, metrics=self.metrics, deadline_s=10,
            serves={b"spki"}.__contains__, clock=self.clock, **more,
        )  # fmt: skip

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def catalog(self) -> dict[str, ModelInfo]:
        return self.models

    def submit(self, **call: Any) -> None:
        self.calls.append(call)
        if err := self.raises.get(len(self.calls)):
            raise err

    def answer(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nobody asked for evidence")

    def start(self, method: str, target: str, body: Any = b"", who: str = "") -> list[HttpResponse]:
        answers: list[HttpResponse] = []
        headers = {b"authorization": b"Bearer " + key_of(who)} if who else {}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = HttpRequest(
            method.encode(), target.encode(), headers, raw, b"spki", 7, "192.0.2.1"
        )
        self.api.handle(request, answers.append)
        return answers

    def do(self, method: str, target: str, body: Any = b"", who: str = "") -> tuple[int, bytes]:
        (response,) = self.start(method, target, body, who)
        return response.status, b"".join(response.body)

    def predict(
        self, instances: list[Any], *outputs: Any, target: str = PREDICT
    ) -> tuple[int, bytes]:
        """Post `instances`; each inference has one of `outputs`, in reverse order."""
        answers = self.start("POST", target, {"instances": instances})
        for call, each in reversed(list(zip(self.calls, outputs, strict=True))):
            assert answers == []
            call["done"](
                Outcome(error=each) if isinstance(each, Exception)
                else Outcome(outputs=each, version=3)
            )  # fmt: skip
        (response,) = answers
        assert response.content_type == TEXT
        assert self.api.in_flight == 0
        return response.status, b"".join(response.body)


def rows(*values: Any) -> dict[str, np.ndarray]:
    return {"y": np.array(values, "f4")}


# -- routes


def test_without_the_table_there_is_no_such_path() -> None:
    world = World()
    world.api.more_routes = None
    for method, path in (("GET", "/"), ("GET", "/models"), ("POST", "/predict")):
        status, body = world.do(method, path)
        assert (status, json.loads(body)["code"]) == (404, "not_found")


def test_fixed_answers() -> None:
    world = World()
    (response,) = world.start("GET", "/")
    assert (response.status, response.content_type) == (200, TEXT)
    assert response.body == (b"welcome to analytics zoo web serving frontend",)
    status, body = world.do("GET", "/metrics")
    assert status == 200
    assert b"wardian_requests_total" in body  # ours
    assert world.do("GET", "/v2/health/live") == (200, b'{"live":true}')


@pytest.mark.parametrize("compat", ["sane", "strict"])
def test_secrets_are_refused_and_repeated_nowhere(
    compat: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    status, body = World(compat=compat).do("POST", "/model-secure", b"secret=hunter2&salt=pepper")
    assert status == 403
    assert b"wardian reseal" in body
    assert b"hunter2" not in body + caplog.text.encode()


def test_models() -> None:
    world = World()
    world.models = {"digits": MODELS[0], "later": MODELS[-1]}
    one = """{
  "modelName" : "digits",
  "modelVersion" : "1",
  "inputCompileType" : "instance",
  "features" : [ "x" ]
}"""
    listed = f"[ {one}, {one.replace('1', '3')} ]".encode()
    assert world.do("GET", "/models") == (200, listed)
    assert world.do("GET", "/models/digits") == (200, listed)
    assert world.do("GET", "/models/later") == (200, b"[ ]")
    typed = one.replace("{\n", '{\n  "type" : "ClusterServingMetaData",\n').encode()
    for version in ("1", "1.0", "1/"):
        assert world.do("GET", f"/models/digits/versions/{version}") == (200, typed)


@pytest.mark.parametrize(
    "target",
    [
        "/models/nobody",
        "/models/nobody/versions/1",
        "/models/nobody/versions/1/predict",
        "/models/digits/versions/2",
        "/models/digits/versions/2/predict",
        "/models/digits/versions/1.5/predict",
        "/models/digits/versions/-1/predict",
        "/models/digits/versions/%D9%A1/predict",
        "/models/digits/versions/1.0.0/predict",
        "/models/digits/versions/99999999999999/predict",
        "/models//versions/1/predict",
    ],
)
@pytest.mark.parametrize("compat", ["sane", "strict"])
def test_model_not_found(compat: str, target: str) -> None:
    method = "POST" if target.endswith("predict") else "GET"
    world = World(compat=compat)
    got = world.do(method, target, {"instances": [{"x": [1, 2]}]})
    assert got == (404, b"Model Not Found")
    assert world.calls == []


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/predict", 405),
        ("PUT", "/models", 405),
        ("GET", PREDICT, 405),
        ("GET", "/model-secure", 405),
        ("POST", "/", 405),
        ("GET", "/models/digits/version/1", 404),
        ("GET", "/models/digits/versions", 404),
        ("GET", PREDICT + "/more", 404),
        ("GET", "/models/models/versions/1", 404),
        ("GET", "//models", 404),
        ("GET", "/models/digits//predict", 404),
        ("GET", "", 404),
    ],
)
def test_no_such_path_or_method(method: str, target: str, status: int) -> None:
    assert World().do(method, target)[0] == status


def test_a_model_may_be_called_models() -> None:
    world = World()
    world.models = {"models": info("models", (X,), (Y,))}
    for target in ("/models/models", "/models/models/versions/1"):
        assert b'"modelName" : "models"' in world.do("GET", target)[1]
    assert world.do("GET", "/v2/models/models")[0] == 200


def test_the_default_model() -> None:
    assert World(default_model=None).do("POST", "/predict")[0] == 404  # several, and none is said
    alone = ZooRoutes(ZooDialect(enabled=True), models={"digits": ModelTerms()})
    world = World()
    world.api.more_routes = alone.find
    world.predict([{"x": [1, 2]}], rows([3, 4]), target="/predict")
    assert world.calls[0]["model"] == "digits"
    assert world.calls[0]["version"] is None


# -- predictions


def test_front_end_app_byte_for_byte() -> None:
    world = World()
    status, body = world.predict([{"t": [1, 2]}], rows([0.09, 3]))
    assert (status, body.decode()) == (
        200,
        (
            '{\n  "predictions" : [ '
            r'"{\"value\":\"{\\\"data\\\":[0.09,3.0],\\\"shape\\\":[2]}\"}"'
            " ]\n}"
        ),
    )
    (call,) = world.calls
    assert (call["model"], call["version"], call["deadline_s"]) == ("digits", 1, 10)
    np.testing.assert_array_equal(call["inputs"]["x"], np.array([[1, 2]], "f4"))
    assert call["inputs"]["x"].dtype == np.float32


def test_frontend2_byte_for_byte() -> None:
    status, body = World().predict([{"t": [1, 2]}], rows([0.09, 3]), target="/predict")
    result = encode_result([np.array([0.09, 3], "f4")]).decode()
    expected = '{\n  "predictions" : [ "\\"' + result + '\\"" ]\n}'
    assert (status, body.decode()) == (200, expected)
    assert a2b_base64(result)[:4] == b"\xff\xff\xff\xff"


def test_the_model_paths_answer_in_arrow_where_that_was_agreed() -> None:
    plain, agreed = World(), World(model_answers="arrow")
    by_default = plain.predict([{"t": [1, 2]}], rows([0.09, 3]), target="/predict")
    assert agreed.predict([{"t": [1, 2]}], rows([0.09, 3])) == by_default
    assert b'"inputCompileType" : "direct"' in agreed.do("GET", "/models/digits")[1]


def values(body: bytes) -> list[Any]:
    """What a client reads, by the three layers of JSON."""
    return [
        json.loads(json.loads(each)["value"], parse_constant=pytest.fail)
        for each in json.loads(body)["predictions"]
    ]


def test_instances_are_rows_of_one_inference() -> None:
    world = World()
    status, body = world.predict(
        [{"x": [1, 2]}, {"x": [3, 4]}, {"x": [5, 6]}], rows([1, 1], [2, 2], [3, 3])
    )
    assert status == 200
    assert [each["data"] for each in values(body)] == [[1, 1], [2, 2], [3, 3]]
    np.testing.assert_array_equal(world.calls[0]["inputs"]["x"], [[1, 2], [3, 4], [5, 6]])


def test_the_strict_frontend2_looks_at_the_first_alone() -> None:
    instances = [{"x": [1, 2]}, {"x": [3, 4]}]
    strict = World(compat="strict")
    _, body = strict.predict(instances, rows([1, 1]), target="/predict")
    assert len(json.loads(body)["predictions"]) == 1
    _, body = World().predict(instances, rows([1, 1], [2, 2]), target="/predict")
    assert len(json.loads(body)["predictions"]) == 2


def test_instances_with_a_batch_axis_keep_it_and_their_order() -> None:
    world = World()
    status, body = world.predict(
        [{"x": [[1, 2], [3, 4]]}, {"x": [5, 6]}, {"x": [[7, 8]]}, {"x": [9, 0]}],
        rows([1, 1], [2, 2]),
        rows([3, 3], [5, 5]),
        rows([4, 4]),
    )
    assert status == 200
    assert values(body) == [
        {"data": [1, 1, 2, 2], "shape": [2, 2]},
        {"data": [3, 3], "shape": [2]},
        {"data": [4, 4], "shape": [1, 2]},
        {"data": [5, 5], "shape": [2]},
    ]


def test_several_inputs_and_outputs() -> None:
    pair, outputs = "/models/pair/versions/1/predict", rows([0.5, 1]) | {"z": np.array([2**40])}
    world = World()
    _, body = world.predict([{"n": 7, "x": [1, 2]}], outputs, target=pair)
    assert values(body) == [[{"data": [0.5, 1], "shape": [2]}, {"data": [2**40], "shape": []}]]
    sent = world.calls[0]["inputs"]
    assert (sent["n"].dtype, sent["n"].tolist()) == (np.int64, [7])
    strict = World(compat="strict")
    _, body = strict.predict([{"first": [1, 2], "second": 7}], outputs, target=pair)  # by place
    assert strict.calls[0]["inputs"]["n"].tolist() == [7]
    (text,) = json.loads(body)["predictions"]
    assert json.loads(text)["value"] == (
        '{"data":[0.5,1.0],"shape":[2]}{"data":[1.0995116E12],"shape":[]}'
    )


def test_a_model_without_rows_gets_each_instance_by_itself() -> None:
    world = World()
    _, body = world.predict(
        [{"x": [1, 2, 3]}, {"x": [4, 5, 6]}],
        {"y": np.array([1, 2], "f4")},
        {"y": np.array([3, 4], "f4")},
        target="/models/whole/versions/1/predict",
    )
    assert values(body) == [{"data": [1, 2], "shape": [2]}, {"data": [3, 4], "shape": [2]}]


def test_sparse() -> None:
    world = World()
    sparse = {"shape": [2], "data": [5.5], "indices": [[1]]}
    assert world.predict([{"x": sparse}], rows([1, 2]))[0] == 200
    np.testing.assert_array_equal(world.calls[0]["inputs"]["x"], [[0, 5.5]])


def test_images_and_texts() -> None:
    raw = b"\xff\xd8\xff\xe0 no picture, but the model's steps say so"
    text = b2a_base64(raw, newline=False).decode()
    world = World()
    photos = "/models/photos/versions/1/predict"
    instances = [{"pixels": text}, {"pixels": {"b64": text}}]
    assert world.predict(instances, rows([1, 1]), rows([2, 2]), target=photos)[0] == 200
    assert [each["inputs"]["pixels"].tolist() for each in world.calls] == [[raw], [raw]]
    world, words = World(), "/models/words/versions/1/predict"
    labels = {"label": np.array([b'"gr\xc3\xbcn"', b"no"], object)}
    _, body = world.predict([{"text": ["a", "ü"]}, {"text": ["c", "d"]}], labels, target=words)
    assert world.calls[0]["inputs"]["text"].tolist() == [[b"a", b"\xc3\xbc"], [b"c", b"d"]]
    assert values(body) == [{"data": ['"grün"'], "shape": []}, {"data": ["no"], "shape": []}]


@pytest.mark.parametrize(
    ("model", "instance", "says"),
    [
        ("digits", {"x": "/9j/4AAQ"}, "own steps"),
        ("digits", {"x": ["a", "b"]}, "own steps"),
        ("photos", {"pixels": [1, 2]}, "an image was expected"),
        ("photos", {"pixels": ["a", "b"]}, "one image in base64"),
        ("words", {"text": "YWJj"}, "send a list"),
        ("words", {"text": [1, 2]}, "a list of texts was expected"),
        ("words", {"text": ["a", "b", "c"]}, ""),  # the dispatcher's to say
    ],
)
def test_what_a_model_does_not_take(model: str, instance: Any, says: str) -> None:
    world = World()
    world.raises[1] = RequestError("3 is not 2")
    status, body = world.do(
        "POST", f"/models/{model}/versions/1/predict", {"instances": [instance]}
    )
    assert status == 400
    assert says in body.decode()
    assert world.api.in_flight == 0


@pytest.mark.parametrize(
    ("instance", "says"),
    [
        ({"x": [1, 2], "more": [1]}, "inputs x"),
        ({"x": [[[1, 2]]]}, "FP32 [2] was expected"),
        ({"x": 1}, "FP32 [2] was expected"),
    ],
)
def test_bad_shapes(instance: Any, says: str) -> None:
    instances = [{"x": [1, 2]}, instance]
    world = World()
    status, body = world.do("POST", PREDICT, {"instances": instances})
    assert status == 400
    assert says in body.decode()
    assert world.calls == []
    status, body = World(compat="strict").predict(instances, rows([1, 2]))
    assert status == 200
    assert body.endswith(rb""", "{\"value\":\"NaN\"}" ]""" + b"\n}")
    strict = World(compat="strict")
    assert strict.do("POST", "/predict", {"instances": [instance]}) == (
        200,
        b'{\n  "predictions" : [ "\\"NaN\\"" ]\n}',
    )


def test_whole_numbers_are_what_float32_can_say() -> None:
    for number, status in ((2**24, 200), (2**24 + 2, 400), (1.5, 400), (-1e30, 400)):
        world = World()
        pair = "/models/pair/versions/1/predict"
        answers = world.start("POST", pair, {"instances": [{"x": [1, 2], "n": number}]})
        if status == 200:
            assert world.calls[0]["inputs"]["n"].tolist() == [number]
            continue
        assert answers[0].status == status


def test_numbers_that_json_has_not() -> None:
    _, body = World().predict([{"x": [1, 2]}], rows([np.nan, -np.inf]))
    assert values(body) == [{"data": ["NaN", "-Infinity"], "shape": [2]}]
    _, body = World().predict([{"x": [1, 2]}], rows([1e-7, 3e38]))
    assert values(body)[0]["data"] == [1e-7, 3e38]


# -- what goes wrong


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


# -- abuse

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


# -- callers


def test_another_tenants_model_is_not_found_and_nothing_else_tells() -> None:
    world = World(tenants=True)
    body = {"instances": [{"x": [1, 2]}]}
    asked = [
        ("POST", "/models/{}/versions/1/predict"),
        ("GET", "/models/{}"),
        ("GET", "/models/{}/versions/1"),
    ]
    for method, pattern in asked:
        theirs = world.do(method, pattern.format("digits"), body, "alice")
        nobodys = world.do(method, pattern.format("nobody"), body, "alice")
        assert theirs == nobodys == (404, b"Model Not Found")
    assert world.do("POST", "/predict", body, "alice") == (404, b"Model Not Found")
    assert b"digits" not in world.do("GET", "/models", who="alice")[1]
    assert world.calls == []


def test_nobody_unknown_gets_anything() -> None:
    world = World(tenants=True)
    for method, target in (
        ("GET", "/"), ("GET", "/models"), ("POST", PREDICT), ("POST", "/predict"),
        ("POST", "/model-secure"),
    ):  # fmt: skip
        assert world.do(method, target, {"instances": [{"x": [1, 2]}]})[0] == 401
    assert world.calls == []


@pytest.mark.parametrize("compat", ["sane", "strict"])
def test_a_tenant_s_limit_counts_what_never_fits(compat: str) -> None:
    world = World(tenants=True, compat=compat)
    bad = {"instances": [{"x": [[[1]]]}]}
    for _ in range(4):
        status, body = world.do("POST", PREDICT, bad, "bob")
    if compat == "strict":
        assert (status, body) == (500, b'{"error" : "limited"}')
    else:
        assert status == 400
        world.start("POST", PREDICT, {"instances": [{"x": [1, 2]}]}, "bob")
        world.calls[0]["done"](Outcome(outputs=rows([1, 1]), version=1))
        assert world.do("POST", PREDICT, {"instances": [{"x": [1, 2]}]}, "bob") == (
            429,
            b'{"error" : "limited"}',
        )


# -- settings

AGREED = """
[mesh]
name = "m"
owners = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]

[models.digits]
"""


def test_the_table_is_read_and_nothing_is_there_without_it() -> None:
    assert settings.parse(AGREED.encode(), Agreed, name="w").dialects.zoo is None
    table = '\n[dialects.zoo]\nenabled = true\ndefault_model = "digits"\ncompat = "strict"\n'
    zoo = settings.parse((AGREED + table).encode(), Agreed, name="w").dialects.zoo
    assert zoo == ZooDialect(enabled=True, default_model="digits", compat="strict")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("[dialects.zoo]\n", "enabled"),
        ('[dialects.zoo]\nenabled = true\ndefault_model = "other"\n', "none of `models`"),
        ('[dialects.zoo]\nenabled = true\ncompat = "loose"\n', "loose"),
        ("[dialects.zoo]\nenabled = true\nsecret = 1\n", "secret"),
        ("[dialects.zookeeper]\n", "zookeeper"),
    ],
)
def test_a_wrong_table_is_refused(table: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings.parse((AGREED + table).encode(), Agreed, name="w")


def test_nothing_of_it_is_loaded_unless_it_was_agreed_on() -> None:
    from wardian.roles.frontend import _more_routes

    loaded = {name: module for name, module in sys.modules.items() if ".api.zoo" in name}
    for name in loaded:
        del sys.modules[name]
    try:
        for table in ("", "\n[dialects.zoo]\nenabled = false\n"):
            agreed = settings.parse((AGREED + table).encode(), Agreed, name="w")
            assert _more_routes(agreed) is None
            assert not any(".api.zoo" in name for name in sys.modules)
        enabled = "\n[dialects.zoo]\nenabled = true\n"
        agreed = settings.parse((AGREED + enabled).encode(), Agreed, name="w")
        assert _more_routes(agreed) is not None
    finally:
        sys.modules.update(loaded)
