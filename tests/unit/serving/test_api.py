"""Routes, their answers and their errors; no socket, and a dispatcher that answers when told."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wardian._internal.metrics import FAMILIES, Metrics, render_table
from wardian.errors import (
    ConnectionLost,
    FormatError,
    JobFailed,
    LeaseLost,
    QueueFull,
    RequestError,
    Timeout,
    WardianError,
)
from wardian.inference.spec import TensorSpec
from wardian.serving.api.routes import Api
from wardian.serving.catalog import ModelInfo
from wardian.serving.dispatch import Outcome
from wardian.serving.http.messages import BINARY, HttpRequest, HttpResponse
from wardian.serving.packing import moved_error

X = TensorSpec(name="x", dtype="FP32", shape=(-1, 2))
Y = TensorSpec(name="y", dtype="FP32", shape=(-1, 2))
READY = ModelInfo(
    name="digits",
    versions=(1, 3),
    inputs=(X,),
    outputs=(Y,),
    engine="openvino 2026.4",
    ready_versions=(3,),
)
WAITING = ModelInfo(name="later", versions=(), inputs=(), outputs=(), engine="", ready_versions=())
ROWS = json.dumps({"instances": [[1, 2]]}).encode()
TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
INFER = json.dumps({"inputs": [TENSOR]}).encode()


class Fakes:
    """An API over fakes, and what went through it."""

    def __init__(self, *models: ModelInfo) -> None:
        self.models = {each.name: each for each in models or (READY,)}
        self.calls: list[dict[str, Any]] = []
        self.raises: Exception | None = None
        self.nonces: list[tuple[bytes, bytes]] = []
        self.metrics = Metrics()
        self.now = 0.0
        self.keys = {b"spki"}
        self.api = Api(
            dispatcher=self,
            desk=self,
            metrics=self.metrics,
            deadline_s=10,
            serves=self.keys.__contains__,
            clock=self.clock,
        )

    def clock(self) -> float:
        self.now += 0.002
        return self.now

    def catalog(self) -> dict[str, ModelInfo]:
        return self.models

    def submit(self, **call: Any) -> None:
        self.calls.append(call)
        if self.raises:
            raise self.raises

    def answer(self, nonce: bytes, *, tls_spki: bytes, connection: int, done: Any) -> None:
        self.nonces.append((nonce, tls_spki))
        if self.raises:
            raise self.raises
        done(HttpResponse(body=(b"evidence",)))

    def start(
        self, method: str, target: str, body: bytes = b"", **headers: str
    ) -> list[HttpResponse]:
        answers: list[HttpResponse] = []
        named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        request = HttpRequest(
            method.encode(), target.encode(), named, body, b"spki", 7, "192.0.2.1"
        )
        self.api.handle(request, answers.append)
        return answers

    def do(self, method: str, target: str, body: bytes = b"", **headers: str) -> Any:
        (response,) = self.start(method, target, body, **headers)
        return response.status, json.loads(b"".join(response.body))

    def end(self, outcome: Outcome) -> None:
        self.calls[-1]["done"](outcome)


def outputs() -> Outcome:
    return Outcome(outputs={"y": np.array([[3, 4]], "f4")}, version=1)


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/3/ready", {"name": "digits", "ready": True}),
        ("/v2/models/dig%69ts/ready/", {"name": "digits", "ready": True}),
    ],
)
def test_health(target: str, answer: Any) -> None:
    assert Fakes().do("GET", target) == (200, answer)


METADATA = {
    "name": "digits",
    "versions": ["1", "3"],
    "platform": "openvino 2026.4",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


def test_descriptions() -> None:
    fakes = Fakes()
    status, server = fakes.do("GET", "/v2")
    assert (status, server["name"], "binary_tensor_data" in server["extensions"]) == (
        200,
        "wardian",
        True,
    )
    assert fakes.do("GET", "/v2/models/digits") == (200, METADATA)
    assert fakes.do("GET", "/v2/models/digits/versions/1") == (200, METADATA)
    assert fakes.do("GET", "/v1/models") == (200, {"models": [{**METADATA, "ready": True}]})
    config = fakes.do("GET", "/v2/models/digits/config")[1]
    assert (config["backend"], config["input"][0]["data_type"]) == ("openvino", "TYPE_FP32")


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/v2/models/digits/infer", INFER),
        ("POST", "/v1/models/digits:predict", ROWS),
        ("GET", f"/v1/attestation?nonce={'ab' * 32}", b""),
        ("GET", "/v2/health/ready", b""),
    ],
)
def test_t2_on_a_connection_of_a_manifest_of_before_nothing_is_done(
    method: str, target: str, body: bytes
) -> None:
    """Its client accepted another mesh: no data of it travels in this one, and it is told."""
    fakes = Fakes()
    fakes.keys.clear()
    (response,) = fakes.start(method, target, body)
    assert (response.status, response.close) == (421, True)
    assert json.loads(response.body[0])["code"] == "moved"
    assert (fakes.calls, fakes.nonces) == ([], [])


def test_a_request_that_waited_while_the_manifest_changed() -> None:
    fakes = Fakes()
    answers = fakes.start("POST", "/v2/models/digits/infer", INFER)
    fakes.calls[0]["done"](Outcome(error=moved_error()))
    assert (answers[0].status, answers[0].close) == (421, True)


def test_what_is_not_ready_says_so() -> None:
    fakes = Fakes(READY, WAITING)
    for target in (
        "/v2/health/ready",
        "/v2/models/later/ready",
        "/v2/models/digits/versions/1/ready",
    ):
        (response,) = fakes.start("GET", target)
        assert response.status == 503
        assert b"Retry-After: 1\r\n" in response.headers
        assert json.loads(response.body[0]) == {
            "error": f"no worker yet for: {'digits' if 'digits' in target else 'later'}",
            "code": "not_ready",
        }


@pytest.mark.parametrize(
    ("method", "target", "status", "says"),
    [
        ("GET", "/", 404, "no such path; see /v2, /v2/health/live"),
        ("GET", "/v2/models", 404, "no such path"),
        ("GET", "/v2/models/digits/infer/x", 404, "no such path"),
        ("GET", "/v2/models/digits/versions", 404, "no such path"),
        ("POST", "/v1/models/digits:classify", 404, "no such path"),
        ("POST", "/v1/models/digits:predict/x", 404, "no such path"),
        ("GET", "*", 404, "no such path"),
        ("GET", "/v2/models/nobody", 404, "no model 'nobody'; this mesh serves: digits"),
        ("GET", "/v2/models/" + "n" * 500, 404, "no model 'nnn"),
        ("GET", "/v2/models/digits/versions/2", 404, "no version 2 of model 'digits'; served: 1, 3"),
        ("GET", "/v2/models/digits/versions/two", 404, "a version is a whole number"),
        ("GET", "/v2/models/digits/versions/-1", 404, "a version is a whole number"),
        ("GET", "/v2/models/digits/versions/99999999999", 404, "a version is a whole number"),
        ("POST", "/v1/models/nobody:predict", 404, "no model 'nobody'"),
        ("DELETE", "/v2", 405, "this path takes GET, HEAD"),
        ("GET", "/v2/models/digits/infer", 405, "this path takes POST"),
        ("GET", "/v1/attestation", 400, "32 random bytes in hex"),
        ("GET", "/v1/attestation?nonce=xyz", 400, "32 random bytes in hex"),
    ],
)  # fmt: skip
def test_what_is_not_there(method: str, target: str, status: int, says: str) -> None:
    got, error = Fakes().do(method, target)
    assert (got, says in error["error"]) == (status, True), error
    assert len(error["error"]) < 400


def test_infer_in_json() -> None:
    fakes = Fakes()
    answers = fakes.start("POST", "/v2/models/digits/infer", INFER, content_type="application/json")
    assert answers == []
    (call,) = fakes.calls
    assert (call["model"], call["version"], call["outputs"], call["deadline_s"]) == (
        "digits",
        None,
        None,
        10,
    )
    assert call["inputs"]["x"].tolist() == [[1, 2]]
    assert fakes.api.in_flight == 1
    fakes.end(outputs())
    assert fakes.api.in_flight == 0
    assert json.loads(answers[0].body[0]) == {
        "model_name": "digits",
        "model_version": "1",  # of two: the one that answered
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [3, 4]}],
    }


def test_infer_in_binary_on_a_version() -> None:
    fakes = Fakes()
    entry = {**TENSOR, "parameters": {"binary_data_size": 8}}
    del entry["data"]
    head = json.dumps(
        {"inputs": [entry], "parameters": {"binary_data_output": True, "timeout": 500_000}}
    ).encode()
    answers = fakes.start(
        "POST",
        "/v2/models/digits/versions/1/infer",
        head + np.array([1, 2], "f4").tobytes(),
        inference_header_content_length=str(len(head)),
        content_type="application/octet-stream",
    )
    assert (fakes.calls[0]["version"], fakes.calls[0]["deadline_s"]) == (1, 0.5)
    fakes.end(outputs())
    (response,) = answers
    described = json.loads(response.body[0])
    assert described["model_version"] == "1"
    assert response.content_type == BINARY
    assert response.headers == b"Inference-Header-Content-Length: %d\r\n" % len(response.body[0])
    assert response.body[1] == np.array([3, 4], "f4").tobytes()


def test_a_client_cannot_ask_for_more_time_than_there_is() -> None:
    fakes = Fakes()
    body = json.dumps({"inputs": [TENSOR], "parameters": {"timeout": 10**9}}).encode()
    fakes.start("POST", "/v2/models/digits/infer", body)
    assert fakes.calls[0]["deadline_s"] == 10


def test_predict() -> None:
    fakes = Fakes()
    answers = fakes.start("POST", "/v1/models/digits:predict", ROWS)
    fakes.end(outputs())
    assert json.loads(answers[0].body[0]) == {"predictions": [[3, 4]]}
    assert answers[0].headers == b"Wardian-Model-Version: 1\r\n"


def test_predict_before_a_worker_came() -> None:
    status, error = Fakes(WAITING).do("POST", "/v1/models/later:predict", ROWS)
    assert (status, error["error"]) == (503, "no worker serves model 'later' yet")


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (INFER, {"content_type": "multipart/form-data; boundary=x"}, 415, "application/json"),
        (INFER, {"content_type": "application/x-protobuf"}, 415, "application/octet-stream"),
        (INFER, {"inference_header_content_length": "ten"}, 400, "a number of bytes"),
        (INFER, {"inference_header_content_length": "-1"}, 400, "a number of bytes"),
        (INFER, {"inference_header_content_length": "5, 5"}, 400, "a number of bytes"),
        (INFER, {"inference_header_content_length": "9" * 30}, 400, "a number of bytes"),
        (b"", {}, 400, "the body is empty"),
    ],
)
def test_bodies_that_are_refused(
    body: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    fakes = Fakes()
    got, error = fakes.do("POST", "/v2/models/digits/infer", body, **headers)
    assert (got, says in error["error"]) == (status, True), error
    assert fakes.calls == []


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/x-www-form-urlencoded", "Text/Plain"]
)  # fmt: skip
def test_bodies_that_are_taken_for_what_they_are(content_type: str) -> None:
    fakes = Fakes()
    fakes.start("POST", "/v2/models/digits/infer", INFER, content_type=content_type)
    assert len(fakes.calls) == 1


ERRORS = [
    (RequestError("input 'x': expected 2"), 400, "bad_request", "input 'x': expected 2", None),
    (RequestError("no model", status=404), 404, "not_found", "no model", None),
    (RequestError("no worker", status=503), 503, "unavailable", "no worker", 1),
    (FormatError("tensor: no such type"), 400, "bad_request", "tensor: no such type", None),
    (QueueFull("4096 wait", retry_after_s=7), 429, "busy", "4096 wait", 7),
    (Timeout("10 s passed"), 504, "deadline_exceeded", "10 s passed", None),
    (JobFailed("the model failed"), 500, "inference_failed", "the model failed", None),
    (LeaseLost("secret"), 503, "unavailable", "the request could not be carried out; try again", 1),
    (ConnectionLost("secret"), 503, "unavailable", "the request could not be carried out; try again", 1),
]  # fmt: skip


@pytest.mark.parametrize("told", ERRORS)
@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize(
    ("target", "body"), [("/v2/models/digits/infer", INFER), ("/v1/models/digits:predict", ROWS)]
)
def test_errors_and_what_is_told_of_them(
    told: tuple[Any, ...], when: str, target: str, body: bytes
) -> None:
    error, status, code, text, retry = told
    fakes = Fakes()
    if when == "at once":
        fakes.raises = error
    answers = fakes.start("POST", target, body)
    if when == "later":
        fakes.end(Outcome(error=error))
    (response,) = answers
    assert response.status == status
    body_told = json.loads(response.body[0])
    assert ("reference" in body_told) is ("could not be carried out" in text)
    body_told.pop("reference", None)
    assert body_told == {"error": text, "code": code}
    assert (b"Retry-After: %d\r\n" % (retry or 0) in response.headers) is (retry is not None)
    assert fakes.api.in_flight == 0


@pytest.mark.parametrize("error", [KeyError("secret"), WardianError("secret"), ZeroDivisionError()])
def test_bugs_are_told_as_a_reference_into_the_log(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    fakes = Fakes()
    fakes.raises = error
    status, told = fakes.do("POST", "/v2/models/digits/infer", INFER)
    assert (status, told["error"], told["code"]) == (500, "internal error", "internal")
    (record,) = caplog.records
    assert record.fields["reference"] == told["reference"]  # type: ignore[attr-defined]
    assert record.fields["error"] == type(error).__name__  # type: ignore[attr-defined]
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("target", "body"), [("/v2/models/digits/infer", INFER), ("/v1/models/digits:predict", ROWS)]
)
@pytest.mark.parametrize("outcome", [Outcome(), Outcome(outputs={"y": np.array(["text"])})])
def test_answers_that_cannot_be_encoded(target: str, body: bytes, outcome: Outcome) -> None:
    fakes = Fakes()
    answers = fakes.start("POST", target, body)
    if target.endswith("predict") and outcome.outputs:
        outcome = Outcome(outputs={"y": np.array([1j])})
    fakes.end(outcome)
    assert [each.status for each in answers] == [500]


def test_evidence_is_about_the_key_of_the_connection() -> None:
    fakes = Fakes()
    (response,) = fakes.start("GET", f"/v1/attestation?nonce={'ab' * 32}")
    assert (response.status, fakes.nonces) == (200, [(b"\xab" * 32, b"spki")])
    fakes.raises = QueueFull("too many")
    assert fakes.do("GET", f"/v1/attestation?nonce={'ab' * 32}")[0] == 429
    text = fakes.metrics.render().decode()
    assert 'wardian_evidence_total{outcome="quoted"} 1.0' in text
    assert 'wardian_evidence_total{outcome="limited"} 1.0' in text


def test_metrics_have_labels_from_closed_sets_only() -> None:
    fakes = Fakes()
    fakes.start("POST", "/v2/models/digits/infer", INFER)
    fakes.end(outputs())
    fakes.do("GET", "/v2/models/canary-of-a-user")
    fakes.do("GET", "/canary-path")
    (response,) = fakes.start("GET", "/metrics")
    text = b"".join(response.body).decode()
    assert "canary" not in text
    assert 'wardian_requests_total{model="digits",route="infer",status="200"} 1.0' in text
    assert 'wardian_requests_total{model="",route="metadata",status="404"} 1.0' in text
    assert 'wardian_requests_total{model="",route="other",status="404"} 1.0' in text
    assert 'wardian_request_seconds_count{model="digits",route="infer"} 1.0' in text
    assert 'wardian_request_seconds_bucket{le="0.001",model="digits",route="infer"} 0.0' in text
    assert 'wardian_request_seconds_bucket{le="0.005",model="digits",route="infer"} 1.0' in text
    assert response.content_type.startswith(b"text/plain")


def test_watched_metrics_are_read_when_scraped() -> None:
    metrics = Metrics()
    metrics.watch("wardian_model_ready", lambda: {("digits",): 3})
    assert 'wardian_model_ready{model="digits"} 3.0' in metrics.render().decode()
    with pytest.raises(KeyError):
        metrics.watch("wardian_unheard_of", dict)


def test_the_page_on_metrics_has_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text()
    assert render_table() in page, "put the output of wardian._internal.metrics.render_table there"
    assert all(re.fullmatch(r"wardian_[a-z_]+", family.name) for family in FAMILIES)


def test_every_connection_is_a_tenant_of_its_own() -> None:
    fakes = Fakes()
    fakes.start("POST", "/v1/models/digits:predict", ROWS)
    assert fakes.calls[-1]["tenant"] == "7"
