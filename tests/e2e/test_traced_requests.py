"""`traceparent` over every way that an inference comes in: HTTP/1.1, HTTP/2, gRPC and its stream."""

import http.client
import json
import logging
import queue
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from simulators.front_end import FrontEnd
from simulators.http2_client import GOOD, PREDICT, Http2Client
from simulators.sealed_mesh import SealedMesh
from simulators.tenants import Clock, key_of, terms

from wardian.serving.client.sync import connect

triton = pytest.importorskip("tritonclient.grpc")

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
HEADERS = {"traceparent": SAMPLED}
PIXELS = np.zeros((1, 64), "f4")


@pytest.fixture(scope="module")
def front() -> Iterator[FrontEnd]:
    with FrontEnd() as running:
        yield running


@pytest.fixture
def spans(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """Return what returns the spans in the log."""
    with caplog.at_level(logging.INFO):
        yield lambda: [r.fields for r in caplog.records if r.getMessage() == "span"]  # type: ignore[attr-defined]


def post(front: FrontEnd, path: str, **headers: str) -> int:
    context = ssl.create_default_context(cadata=front.ca.certificate)
    connection = http.client.HTTPSConnection("localhost", front.port, context=context, timeout=20)
    try:
        connection.putrequest("POST", path)
        for name, value in headers.items():
            for each in value.split("|"):
                connection.putheader(name, each)
        connection.putheader("content-length", str(len(GOOD)))
        connection.endheaders(GOOD)
        with connection.getresponse() as response:
            response.read()
            return response.status
    finally:
        connection.close()


def told(front: FrontEnd, spans: Any) -> list[tuple[Any, ...]]:
    front.call(lambda: None)  # the line follows the answer in the same turn of the loop
    keys = ("name", "trace", "parent", "route", "model", "status")
    return [tuple(each.get(key) for key in keys) for each in spans()]


def test_http_1(front: FrontEnd, spans: Any) -> None:
    assert post(front, PREDICT, traceparent=SAMPLED) == 200
    assert told(front, spans) == [("request", TRACE, PARENT, "predict", "digits", 200)]


@pytest.mark.parametrize(
    "value", ["", "x", SAMPLED[:-1] + "0", SAMPLED.upper(), f"{SAMPLED}|{SAMPLED}", "00-" * 999]
)
def test_what_is_no_sampled_traceparent_is_no_error(
    front: FrontEnd, spans: Any, value: str
) -> None:
    assert post(front, PREDICT, traceparent=value) == 200
    assert told(front, spans) == []


def test_what_is_no_inference_is_not_traced(front: FrontEnd, spans: Any) -> None:
    assert post(front, "/v2/repository/index", traceparent=SAMPLED) == 200
    assert post(front, "/nowhere", traceparent=SAMPLED) == 404
    assert told(front, spans) == []


def test_http_2(front: FrontEnd, spans: Any) -> None:
    with Http2Client(front) as client:
        number = client.request(PREDICT, GOOD, traceparent=SAMPLED)
        assert client.answer(number)[0] == 200
    assert told(front, spans) == [("request", TRACE, PARENT, "predict", "digits", 200)]


@pytest.fixture
def client(front: FrontEnd, tmp_path: Path) -> Iterator[Any]:
    ca = tmp_path / "mesh-ca.pem"
    ca.write_text(ssl.DER_cert_to_PEM_cert(front.ca.certificate))
    with triton.InferenceServerClient(
        f"localhost:{front.port}", ssl=True, root_certificates=str(ca)
    ) as made:
        yield made


def pixels() -> Any:
    made = triton.InferInput("pixels", [1, 64], "FP32")
    made.set_data_from_numpy(PIXELS)
    return made


def test_grpc(front: FrontEnd, client: Any, spans: Any) -> None:
    client.infer("digits", [pixels()], headers=HEADERS)
    with pytest.raises(triton.InferenceServerException):
        client.infer("broken", [pixels()], headers=HEADERS)
    client.infer("digits", [pixels()])
    client.get_model_metadata("digits", headers=HEADERS)
    assert told(front, spans) == [
        ("request", TRACE, PARENT, "grpc_infer", "digits", 200),
        ("request", TRACE, PARENT, "grpc_infer", "broken", 500),
    ]


def test_each_request_of_a_stream_is_a_span(front: FrontEnd, client: Any, spans: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=HEADERS)
    for _ in range(3):
        client.async_stream_infer("digits", [pixels()])
    for _ in range(3):
        assert answers.get(timeout=20)[1] is None
    client.stop_stream()
    assert (
        told(front, spans) == [("request", TRACE, PARENT, "grpc_stream_infer", "digits", 200)] * 3
    )


def test_a_caller_who_is_not_known_writes_no_span(spans: Any) -> None:
    with FrontEnd(roster=Clock().roster(terms("alice", "digits"))) as front:
        bearer = f"Bearer {key_of('alice').decode()}"
        assert post(front, PREDICT, traceparent=SAMPLED) == 401
        assert post(front, PREDICT, traceparent=SAMPLED, authorization="Bearer x") == 401
        assert told(front, spans) == []
        assert post(front, PREDICT, traceparent=SAMPLED, authorization=bearer) == 200
        # A model that is not hers is not there: its name is in no line.
        assert post(front, "/v1/models/echo:predict", traceparent=SAMPLED, authorization=bearer)
        assert [each[4] for each in told(front, spans)] == ["digits", ""]
        assert "alice" not in json.dumps(spans())


def test_a_sealed_request_has_times_and_nothing_else(tmp_path: Path, spans: Any) -> None:
    canary = np.array([[3.25e7, -2.5e9, 1.5e-8, 1.75e5]], "f4")
    with SealedMesh(tmp_path) as mesh:
        mesh.redirects = lambda request: msgspec.structs.replace(
            request, headers={**request.headers, b"traceparent": SAMPLED.encode()}
        )
        for seal in ("worker", None):
            with connect(mesh.url, policy=mesh.policy(), seal=seal) as asking:
                asking.infer("digits", {"image": canary})
        lines = told(mesh, spans)  # type: ignore[arg-type]
    root = spans()[0]["span"]
    assert lines[:3] == [
        ("request", TRACE, PARENT, "infer", "digits", 200),
        ("queue", TRACE, root, None, None, None),
        ("worker", TRACE, root, None, None, None),
    ]
    assert [each[0] for each in lines] == ["request", "queue", "worker"] * 2
    assert {key for each in spans() for key in each} == {
        "name", "trace", "span", "parent", "start_ns", "duration_ns", "route", "model", "version",
        "status",
    }  # fmt: skip
