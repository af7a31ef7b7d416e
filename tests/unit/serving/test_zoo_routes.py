"""Cluster Serving's HTTP paths: which there are, for whom, and where they were agreed on."""

import json
import sys

import pytest
from simulators.zoo_world import (
    MODELS,
    PREDICT,
    TEXT,
    World,
    X,
    Y,
    info,
    rows,
)

from wardian._internal import settings
from wardian._internal.agreed import Agreed, ModelTerms, ZooDialect
from wardian.errors import ConfigError
from wardian.serving.api.zoo.dialect import ZooRoutes
from wardian.serving.dispatch import Outcome


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
    from wardian.roles.frontend import _more

    theirs = (".api.zoo", ".grpc.zoo")
    loaded = {
        name: module for name, module in sys.modules.items() if any(each in name for each in theirs)
    }
    for name in loaded:
        del sys.modules[name]
    try:
        for table in ("", "\n[dialects.zoo]\nenabled = false\n"):
            agreed = settings.parse((AGREED + table).encode(), Agreed, name="w")
            assert _more(agreed) == {}
            assert not any(each in name for name in sys.modules for each in theirs)
        enabled = "\n[dialects.zoo]\nenabled = true\n"
        agreed = settings.parse((AGREED + enabled).encode(), Agreed, name="w")
        assert _more(agreed).keys() == {"more_routes", "more_calls"}
    finally:
        sys.modules.update(loaded)
