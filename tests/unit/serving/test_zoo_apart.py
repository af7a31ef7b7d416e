"""Cluster Serving's paths by themselves, under an operator's key: nothing else, and no evidence."""

import json
from typing import Any

import pytest
from simulators.zoo_world import PREDICT, TERMS, TEXT, World, rows

from wardian._internal.agreed import ZooDialect
from wardian._internal.metrics import CONTENT_TYPE, Metrics
from wardian.errors import RequestError
from wardian.serving.api.call import Call
from wardian.serving.api.table import ROUTES
from wardian.serving.api.zoo import apart
from wardian.serving.api.zoo.apart import ZooApi
from wardian.serving.api.zoo.dialect import ZooRoutes
from wardian.serving.dispatch import Outcome
from wardian.serving.frontend_evidence import PATH as ATTESTATION
from wardian.serving.http.messages import HttpRequest, HttpResponse


class Apart:
    def __init__(self, **given: Any) -> None:
        self.world = World()
        zoo = ZooDialect(**{"enabled": True, "default_model": "digits", "keystore": True, **given})
        self.metrics = Metrics()
        self.api = ZooApi(
            dispatcher=self.world,
            routes=ZooRoutes(zoo, models=TERMS),
            metrics=self.metrics,
            deadline_s=10,
        )

    def start(self, method: str, target: str, body: Any = b"") -> list[HttpResponse]:
        answers: list[HttpResponse] = []
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.api.handle(
            HttpRequest(method.encode(), target.encode(), {}, raw, b"key", 7, "192.0.2.1"),
            answers.append,
        )
        return answers

    def do(self, method: str, target: str, body: Any = b"") -> tuple[int, bytes]:
        (response,) = self.start(method, target, body)
        return response.status, b"".join(response.body)


@pytest.mark.parametrize(
    "path",
    sorted({*ROUTES, ATTESTATION + "?nonce=" + 64 * "0", "/v1/models/digits/request-key"}),
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_evidence_and_nothing_of_the_front_end_s_own_paths(path: str, method: str) -> None:
    if path == "/metrics":
        return
    served = Apart()
    for spelling in (path.replace("*", "digits"), path.replace("*", "digits") + "/"):
        status, body = served.do(method, spelling)
        assert status == 404, spelling
        assert json.loads(body)["code"] == "not_found"
    assert served.world.calls == []


def test_whoever_asks_its_desk_gets_nothing() -> None:
    served = Apart()
    desk = apart._NoDesk()
    with pytest.raises(RequestError) as caught:
        desk.answer(b"n" * 32, tls_spki=b"key", connection=7, done=lambda _: pytest.fail("shown"))
    assert caught.value.status == 404
    with pytest.raises(RequestError):
        desk.request_key("digits")
    assert isinstance(served.api._desk, apart._NoDesk)
    assert not hasattr(Call, "evidence")


def test_predictions_and_lists() -> None:
    served = Apart()
    (answer,) = served.start("GET", "/")
    assert (answer.status, answer.content_type) == (200, TEXT)
    assert served.do("GET", "/models/digits/versions/1")[0] == 200
    for target in (PREDICT, "/predict", "/%70redict"):
        answers = served.start("POST", target, {"instances": [{"x": [1, 2]}]})
        assert served.api.in_flight == 1
        served.world.calls[-1]["done"](Outcome(outputs=rows([1, 2]), version=3))
        (response,) = answers
        assert (response.status, served.api.in_flight) == (200, 0)
    assert served.do("POST", "/model-secure", b"secret=a&salt=b")[0] == 403


def test_errors_are_answered() -> None:
    served = Apart()
    (response,) = served.start("GET", "/predict")
    assert response.status == 405
    assert b"Allow: POST" in response.headers
    assert served.do("GET", "/")[0] == 200
    assert served.do("PUT", "/metrics")[0] == 405
    assert served.do("POST", "/predict", b"{")[0] == 400
    served.world.raises[1] = RequestError("nobody", status=503)
    assert served.do("POST", "/predict", {"instances": [{"x": [1, 2]}]})[0] == 503
    for target in ("", "/%ff%00", "/predict/../v2", "/metrics/..", "*"):
        assert served.do("GET", target)[0] in {404, 405}


def test_metrics_are_of_this_role() -> None:
    served = Apart()
    served.do("GET", "/models")
    served.do("GET", "/nowhere")
    (response,) = served.start("GET", "/metrics?x=1")
    assert (response.status, response.content_type) == (200, CONTENT_TYPE)
    shown = b"".join(response.body).decode()
    assert 'wardian_requests_total{model="",route="zoo_models",status="200"} 1.0' in shown
    assert 'wardian_requests_total{model="",route="other",status="404"} 1.0' in shown
    assert served.do("HEAD", "/metrics")[0] == 200
