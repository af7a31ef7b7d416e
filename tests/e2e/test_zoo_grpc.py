"""FrontEndGRPCService by gRPC's own client, over real TLS, against a whole front end."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from simulators.front_end import FrontEnd, digits
from simulators.tenants import key_of, terms, verified
from simulators.zoo_grpc import ZooGrpcClient

from wardian._internal.agreed import ModelTerms, ZooDialect
from wardian._internal.clock import monotonic, unix_time
from wardian.serving.grpc.zoo_calls import ZooCalls
from wardian.serving.tenants.roster import Roster
from wardian.serving.zoo.answers import app_text, frontend2_text

PIXELS = np.random.default_rng(2).random((3, 64), dtype="f4")
SCORES = digits(PIXELS)
INPUT = json.dumps({"instances": [{"image": row.tolist()} for row in PIXELS]})
BAD = json.dumps({"instances": [{"image": [1, 2]}, {"image": PIXELS[1].tolist()}]})
MODELS = ("digits", "pair", "full", "broken", "late", "absent", "texts")
Status = grpc.StatusCode


def calls(**given: str) -> Any:
    zoo = ZooDialect(enabled=True, default_model="digits", **given)  # type: ignore[arg-type]
    return ZooCalls(zoo, models=dict.fromkeys(MODELS, ModelTerms())).methods


def client_of(front: FrontEnd, where: Path) -> ZooGrpcClient:
    ca_file = where / "mesh-ca.pem"
    ca_file.write_text(ssl.DER_cert_to_PEM_cert(front.ca.certificate))
    return ZooGrpcClient(front.port, ca_file)


@pytest.fixture(scope="module")
def sane() -> Iterator[FrontEnd]:
    with FrontEnd(more_calls=calls()) as running:
        yield running


@pytest.fixture
def client(sane: FrontEnd, tmp_path: Path) -> Iterator[ZooGrpcClient]:
    made = client_of(sane, tmp_path)
    with made.channel:
        yield made


def test_predictions_are_the_texts_of_the_http_front_end(
    client: ZooGrpcClient, sane: FrontEnd
) -> None:
    reply = client.call("Predict", modelName="digits", modelVersion="1.0", input=INPUT)
    assert json.loads(reply.response) == [app_text([scores]) for scores in SCORES]
    assert (reply.response[:3], reply.response[-3:]) == ('[ "', '" ]')
    assert sane.dispatcher.seen[-1]["version"] == 1


def test_the_client_may_wait_less_than_the_mesh_gives(
    client: ZooGrpcClient, sane: FrontEnd
) -> None:
    client.call("Predict", modelName="digits", input=INPUT, timeout=5)
    assert 0 < sane.dispatcher.seen[-1]["deadline_s"] <= 5
    assert sane.dispatcher.seen[-1]["version"] is None


def test_answers_in_arrow_and_strict_answers(tmp_path: Path) -> None:
    with FrontEnd(more_calls=calls(model_answers="arrow")) as front:
        made = client_of(front, tmp_path)
        with made.channel:
            reply = made.call("Predict", modelName="digits", modelVersion="1", input=INPUT)
            assert json.loads(reply.response) == [frontend2_text([scores]) for scores in SCORES]
    with FrontEnd(more_calls=calls(compat="strict")) as front:
        made = client_of(front, tmp_path)
        with made.channel:
            reply = made.call("Predict", modelName="digits", modelVersion="1", input=BAD)
            said = json.loads(reply.response)
            assert said == ['{"value":"NaN"}', app_text(digits(PIXELS[1:2]))]
            with pytest.raises(grpc.RpcError) as caught:
                made.call("Predict", modelName="digits", modelVersion="1", input="{")
            assert caught.value.code() is Status.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("model", "version", "body", "status", "says"),
    [
        ("digits", "1", BAD, Status.INVALID_ARGUMENT, "FP32 [-1, 64]"),
        ("digits", "1", "{", Status.INVALID_ARGUMENT, "JSON"),
        ("digits", "1", "", Status.INVALID_ARGUMENT, "JSON"),
        ("digits", "one", INPUT, Status.NOT_FOUND, "whole number"),
        ("digits", "9", INPUT, Status.NOT_FOUND, "no version 9"),
        ("nobody", "1", INPUT, Status.NOT_FOUND, "no model"),
        ("full", "1", INPUT, Status.RESOURCE_EXHAUSTED, "waiting"),
        ("broken", "1", INPUT, Status.INTERNAL, "the model failed"),
        ("late", "1", INPUT, Status.DEADLINE_EXCEEDED, "no answer within"),
        ("absent", "", INPUT, Status.UNAVAILABLE, "no worker"),
        ("texts", "1", INPUT, Status.INVALID_ARGUMENT, "texts"),
    ],
)
def test_each_error_has_its_status(
    client: ZooGrpcClient, model: str, version: str, body: str, status: Any, says: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.call("Predict", modelName=model, modelVersion=version, input=body)
    assert caught.value.code() is status
    assert says in caught.value.details()


def test_models(client: ZooGrpcClient) -> None:
    assert client.call("Ping").message == "welcome to analytics zoo grpc serving frontend"
    every = client.call("GetAllModels").clusterServingMetaDatas
    assert {(each.modelName, each.modelVersion) for each in every} >= {
        ("digits", "1"), ("digits", "2"), ("pair", "1"),
    }  # fmt: skip
    versions = client.call("GetModelsWithName", modelName="digits").clusterServingMetaDatas
    assert [each.modelVersion for each in versions] == ["1", "2"]
    (one,) = client.call(
        "GetModelsWithNameAndVersion", modelName="pair", modelVersion="1.0"
    ).clusterServingMetaDatas
    assert (one.modelName, one.features) == ("pair", "a,b")
    assert not one.redisTrustStoreToken
    for method, fields in (
        ("GetModelsWithName", {"modelName": "nobody"}),
        ("GetModelsWithNameAndVersion", {"modelName": "digits", "modelVersion": "7"}),
        ("GetModelsWithNameAndVersion", {"modelName": "digits"}),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            client.call(method, **fields)
        assert caught.value.code() is Status.NOT_FOUND


def test_timers(client: ZooGrpcClient) -> None:
    client.call("Predict", modelName="digits", input=INPUT)
    before = {each.name: each for each in client.call("GetMetrics").metrics}
    client.call("Predict", modelName="digits", input=INPUT)
    after = {each.name: each for each in client.call("GetMetrics").metrics}
    predict = "zoo.serving.request.predict"
    assert after[predict].count == before[predict].count + 1
    overall = after["zoo.serving.request.overall"]
    assert overall.count > after[predict].count
    assert overall.min <= overall.median <= overall.Percentile99th <= overall.max
    assert 0 < overall.mean <= overall.max
    assert overall.meanRate > 0


def test_without_the_table_there_is_no_such_service(tmp_path: Path) -> None:
    with FrontEnd() as front:
        made = client_of(front, tmp_path)
        with made.channel, pytest.raises(grpc.RpcError) as caught:
            made.call("Ping")
        assert caught.value.code() is Status.UNIMPLEMENTED
        assert "no such service" in caught.value.details()


def test_only_known_callers_where_callers_are_known(tmp_path: Path) -> None:
    roster = Roster(now=unix_time, monotonic=monotonic)
    roster.adopt(verified(terms("alice", "digits")))
    with FrontEnd(more_calls=calls(), roster=roster) as front:
        made = client_of(front, tmp_path)
        with made.channel:
            for method in ("Ping", "GetMetrics", "Predict"):
                with pytest.raises(grpc.RpcError) as caught:
                    made.call(method)
                assert caught.value.code() is Status.UNAUTHENTICATED
            key = key_of("alice")
            listed = made.call("GetAllModels", key=key).clusterServingMetaDatas
            assert {each.modelName for each in listed} == {"digits"}
            with pytest.raises(grpc.RpcError) as caught:
                made.call("Predict", key=key, modelName="pair", input=INPUT)
            assert caught.value.code() is Status.NOT_FOUND
            with pytest.raises(grpc.RpcError) as caught:
                made.call("GetMetrics", key=key)
            assert caught.value.code() is Status.PERMISSION_DENIED
