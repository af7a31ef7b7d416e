"""A whole mesh that also speaks Cluster Serving's HTTP dialect: in confined processes."""

import http.client
import json
import shutil
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from mesh import DIGITS, RunningMesh
from simulators.zoo_grpc import ZooGrpcClient

import wardian

pytestmark = pytest.mark.slow

TABLE = '\n[dialects.zoo]\nenabled = true\ndefault_model = "digits"\n'


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    folder = tmp_path_factory.mktemp("zoo")
    shutil.copytree(DIGITS, folder / "example")
    agreed = folder / "example" / "wardian.toml"
    agreed.write_text(agreed.read_text() + TABLE)
    running = RunningMesh(state=folder / "state", example=folder / "example").start()
    yield running
    running.stop()


def ask(mesh: RunningMesh, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    context = ssl.create_default_context(cafile=mesh.ca)
    connection = http.client.HTTPSConnection(urlsplit(mesh.url).netloc, context=context, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_both_dialects_give_one_answer(mesh: RunningMesh) -> None:
    assert ask(mesh, "GET", "/") == (200, b"welcome to analytics zoo web serving frontend")
    status, body = ask(mesh, "GET", "/models")
    assert (status, json.loads(body)[0]["modelName"]) == (200, "digits")
    with wardian.connect(mesh.url, policy=mesh.policy) as client:
        (spec,) = client.metadata("digits")["inputs"]
        rows = np.random.default_rng(5).random((3, *spec["shape"][1:]), dtype="f4")
        expected = list(client.infer("digits", {spec["name"]: rows}).values())
    body_sent = {"instances": [{"any": row.tolist()} for row in rows]}
    status, body = ask(mesh, "POST", "/models/digits/versions/1/predict", body_sent)
    assert status == 200
    told = [json.loads(json.loads(each)["value"]) for each in json.loads(body)["predictions"]]
    assert len(expected) > 1  # so each instance has a list
    for number, output in enumerate(expected):
        found = np.array([each[number]["data"] for each in told], output.dtype)
        np.testing.assert_allclose(found.reshape(output.shape), output, rtol=1e-5, atol=1e-6)
        assert [each[number]["shape"] for each in told] == [list(output.shape[1:])] * 3
    status, body = ask(mesh, "POST", "/predict", body_sent)
    assert (status, len(json.loads(body)["predictions"])) == (200, 3)


def test_what_does_not_fit(mesh: RunningMesh) -> None:
    status, body = ask(mesh, "POST", "/predict", {"instances": [{"any": [1, 2]}]})
    assert status == 400
    assert b"was expected" in body
    assert ask(mesh, "POST", "/predict", [1])[0] == 400
    assert ask(mesh, "POST", "/models/other/versions/1/predict", [1])[0] == 404


def test_its_grpc_service_gives_the_same(mesh: RunningMesh) -> None:
    rows = np.random.default_rng(5).random((2, 64), dtype="f4")
    body = {"instances": [{"any": row.tolist()} for row in rows]}
    _, over_http = ask(mesh, "POST", "/models/digits/versions/1/predict", body)
    client = ZooGrpcClient(urlsplit(mesh.url).port or 443, mesh.ca)
    with client.channel:
        reply = client.call("Predict", modelName="digits", modelVersion="1", input=json.dumps(body))
        assert json.loads(reply.response) == json.loads(over_http)["predictions"]
        names = {each.name for each in client.call("GetMetrics").metrics}
    assert "zoo.serving.inference.digits.1" in names
