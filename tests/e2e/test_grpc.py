"""gRPC, by NVIDIA's `tritonclient` (gRPC's own C core) and by hand, against a whole front end."""

import asyncio
import queue
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from simulators.front_end import FrontEnd, digits, make_manifest
from simulators.http2_client import (
    DATA,
    END_STREAM,
    GOOD,
    INFER,
    PREDICT,
    STREAM_INFER,
    Http2Client,
    Reset,
    frame,
    u32,
)

from wardian._internal import wire as json_wire
from wardian.serving.frontend_evidence import FrontendEvidence, frontend_report_data
from wardian.serving.grpc import wire
from wardian.serving.http import server as http_server

triton = pytest.importorskip("tritonclient.grpc")
aio = pytest.importorskip("tritonclient.grpc.aio")
Refused = triton.InferenceServerException

PIXELS = np.random.default_rng(1).random((3, 64), dtype="f4")


@pytest.fixture(scope="module")
def front() -> Iterator[FrontEnd]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_server, "MAX_SWEEP_S", 0.04)
        with FrontEnd(max_body_bytes=2**21, body_timeout_s=0.5, idle_timeout_s=3.0) as running:
            yield running


@pytest.fixture(scope="module")
def ca_file(front: FrontEnd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "mesh-ca.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(front.ca.certificate))
    return path


@pytest.fixture
def client(front: FrontEnd, ca_file: Path) -> Iterator[Any]:
    with triton.InferenceServerClient(
        f"localhost:{front.port}", ssl=True, root_certificates=str(ca_file)
    ) as made:
        yield made


@pytest.fixture
async def async_client(front: FrontEnd, ca_file: Path) -> AsyncIterator[Any]:
    async with aio.InferenceServerClient(
        f"localhost:{front.port}", ssl=True, root_certificates=str(ca_file)
    ) as made:
        yield made


def tensor(array: np.ndarray, name: str = "pixels", datatype: str = "FP32") -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def message(model: str, pixels: np.ndarray = PIXELS) -> bytes:
    shape = b"".join(wire.varint(axis) for axis in pixels.shape)
    tensor_ = wire.field(1, b"pixels") + wire.field(2, b"FP32") + wire.field(3, shape)
    return (
        wire.field(1, model.encode()) + wire.element(5, tensor_) + wire.element(7, pixels.tobytes())
    )


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert not client.is_server_ready()  # "absent" has no worker
    assert client.is_model_ready("digits", "2")
    assert not client.is_model_ready("absent")
    assert client.get_server_metadata().name == "wardian"
    described = client.get_model_metadata("digits", as_json=True)
    assert described["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": ["-1", "64"]}]
    assert client.get_model_config("texts").config.input[0].data_type == 13
    index = client.get_model_repository_index(as_json=True)["models"]
    assert {"name": "digits", "version": "1", "state": "READY"} in index


def test_infer(client: Any, front: FrontEnd) -> None:
    wanted = [triton.InferRequestedOutput("scores")]
    answer = client.infer(
        "digits", [tensor(PIXELS)], outputs=wanted, model_version="1", request_id="seven"
    )
    np.testing.assert_allclose(answer.as_numpy("scores"), digits(PIXELS), rtol=1e-6)
    said = answer.get_response()
    assert (said.id, said.model_name, said.model_version) == ("seven", "digits", "1")
    assert front.dispatcher.seen[-1]["version"] == 1


def test_large_tensors_go_through_flow_control(client: Any) -> None:
    rows = np.random.default_rng(2).random((8000, 64), dtype="f4")
    answer = client.infer("digits", [tensor(rows)])
    np.testing.assert_allclose(answer.as_numpy("scores"), digits(rows), rtol=1e-5)


def test_every_type_there_and_back(client: Any) -> None:
    arrays = {
        name.lower(): (np.array([[0, 1], [1, 1]]).astype(dtype), name)
        for name, dtype in {
            "BOOL": "?", "UINT8": "u1", "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4",
            "FP64": "f8",
        }.items()
    }  # fmt: skip
    inputs = [tensor(array, name, kind) for name, (array, kind) in arrays.items()]
    answer = client.infer("echo", inputs)
    for name, (array, _) in arrays.items():
        got = answer.as_numpy(name)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


def test_texts_and_bfloat16(client: Any) -> None:
    texts = np.array([b"", b"a\0b", b"\xff"], object)
    answer = client.infer("texts", [tensor(texts, "texts", "BYTES")])
    assert answer.as_numpy("texts").tolist() == texts.tolist()
    halves = np.array([1.0, -2.5], pytest.importorskip("ml_dtypes").bfloat16)
    answer = client.infer("halves", [tensor(halves, "halves", "BF16")])
    np.testing.assert_array_equal(answer.as_numpy("halves"), halves)


@pytest.mark.parametrize(
    ("model", "status", "says"),
    [
        ("nobody", "NOT_FOUND", "no model"),
        ("digits", "INVALID_ARGUMENT", "expected FP32"),
        ("full", "RESOURCE_EXHAUSTED", "4096 requests are waiting"),
        ("broken", "INTERNAL", "the model failed"),
        ("late", "DEADLINE_EXCEEDED", "no answer within"),
        ("absent", "UNAVAILABLE", "no worker"),
    ],
)
def test_errors_have_their_status(client: Any, model: str, status: str, says: str) -> None:
    rows = np.zeros((3, 63 if model == "digits" else 64), "f4")
    with pytest.raises(Refused, match=says) as caught:
        client.infer(model, [tensor(rows)])
    assert caught.value.status() == f"StatusCode.{status}"


def test_back_pressure_says_when_to_come_back(front: FrontEnd) -> None:
    with Http2Client(front) as raw:
        _, fields, _ = raw.answer(raw.grpc(INFER, message("full")))
    assert (fields["grpc-status"], fields["grpc-retry-pushback-ms"]) == ("8", "3000")


def test_a_deadline_travels(client: Any, front: FrontEnd) -> None:
    client.infer("digits", [tensor(PIXELS)], client_timeout=5)
    assert 4 < front.dispatcher.seen[-1]["deadline_s"] <= 5
    client.infer("digits", [tensor(PIXELS)], timeout=250_000)
    assert front.dispatcher.seen[-1]["deadline_s"] == 0.25
    with pytest.raises(Refused) as caught:
        client.infer("held", [tensor(PIXELS)], client_timeout=0.1)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    front.release()


def test_a_message_over_the_limit(client: Any) -> None:
    with pytest.raises(Refused, match="more than the 2097152") as caught:
        client.infer("digits", [tensor(np.zeros((8300, 64), "f4"))])
    assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert client.is_server_live()


def test_compression_is_refused(client: Any) -> None:
    with pytest.raises(Refused, match="not compressed") as caught:
        client.infer("digits", [tensor(PIXELS)], compression_algorithm="gzip")
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_what_is_not_served_says_so(client: Any) -> None:
    for call in (
        client.get_inference_statistics,
        client.get_system_shared_memory_status,
        client.get_trace_settings,
    ):
        with pytest.raises(Refused, match="GRPCInferenceService has ModelStreamInfer, ModelConfig"):
            call()
    with pytest.raises(Refused, match="by the mesh manifest"):
        client.load_model("digits")


def test_a_stream_answers_in_order_and_outlives_a_failure(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(200):
        model = "broken" if number == 7 else "digits"
        client.async_stream_infer(model, [tensor(PIXELS)], request_id=str(number))
    for number in range(200):
        result, error = answers.get(timeout=10)
        if number == 7:
            assert "the model failed" in str(error)
        else:
            assert result.get_response().id == str(number)
            np.testing.assert_allclose(result.as_numpy("scores"), digits(PIXELS), rtol=1e-6)
    client.stop_stream()


def test_a_stream_of_large_answers_waits_for_its_client(front: FrontEnd) -> None:
    """Nothing more is begun while answers are not taken; all come once they are."""
    rows = np.zeros((2000, 64), "f4")
    with Http2Client(front) as raw:
        raw.grants = False
        number = raw.grpc(STREAM_INFER, message("digits", rows), end=False)
        before = len(front.dispatcher.seen)
        body = message("digits", rows)
        framed = b"\0" + u32(len(body)) + body
        for _ in range(3):
            for at in range(0, len(framed), 16384):
                raw.send(frame(DATA, 0, number, framed[at : at + 16384]))
        raw.send(frame(DATA, END_STREAM, number))
        front.wait_for(lambda: len(front.dispatcher.seen) >= before + 3)
        _, fields, answer = raw.answer(number)
        assert fields["grpc-status"] == "0"
        assert len(answer) > 4 * 2000 * 40


@pytest.mark.parametrize(
    ("body", "fields", "status", "says"),
    [
        (b"", {}, 3, "exactly one message"),
        (b"\0\0\0\0\1", {}, 3, "exactly one message"),
        (b"\0\0\0\0\0" * 2, {}, 3, "exactly one message"),
        (b"\1\0\0\0\0", {}, 12, "compressed"),
        (b"\0\0\0\0\0", {"grpc_encoding": "gzip"}, 12, "compressed"),
        (b"\0\0\0\0\0", {"grpc_timeout": "5"}, 3, "HMSmun"),
        (b"\0\0\0\0\0", {"grpc_timeout": "-5S"}, 3, "HMSmun"),
        (b"\0\0\0\0\0", {"grpc_timeout": "123456789S"}, 3, "HMSmun"),
        (b"\0\xff\xff\xff\xff", {}, 8, "4294967295 bytes"),
        (b"\0\0\0\0\1\xff", {}, 3, "varint"),
        (b"\0\0\0\0\0", {"grpc_timeout": "0n"}, 4, "deadline"),
    ],
)  # fmt: skip
def test_calls_that_are_none(
    front: FrontEnd, body: bytes, fields: dict[str, str], status: int, says: str
) -> None:
    with Http2Client(front) as raw:
        number = raw.request(INFER, body, content_type="application/grpc", **fields)
        _, told, _ = raw.answer(number)
        assert (int(told["grpc-status"]), says in unquote(told["grpc-message"])) == (status, True)
        assert raw.call("/inference.GRPCInferenceService/ServerLive") == (0, "", b"\x08\1")


def test_other_services_and_methods(front: FrontEnd) -> None:
    with Http2Client(front) as raw:
        for path in ("/grpc.health.v1.Health/Check", "/inference.GRPCInferenceService/Nothing"):
            assert raw.call(path)[0] == 12
        number = raw.request(INFER, b"{}", content_type="application/grpc+json")
        assert raw.answer(number)[0] == 404  # not of gRPC, so it is a path like any other


def test_a_request_that_trickles_ends_with_a_status(front: FrontEnd) -> None:
    with Http2Client(front) as raw:
        for path in (INFER, STREAM_INFER):
            number = raw.request(path, b"\0\0\0", end=False, content_type="application/grpc")
            assert raw.answer(number)[1]["grpc-status"] == "4"


def test_a_stream_ends_at_its_deadline_and_when_nothing_comes(front: FrontEnd) -> None:
    with Http2Client(front) as raw:
        number = raw.grpc(STREAM_INFER, message("digits"), end=False, grpc_timeout="200m")
        assert raw.answer(number)[1]["grpc-status"] == "4"
        number = raw.grpc(STREAM_INFER, message("digits"), end=False)
        _, fields, body = raw.answer(number)
        assert (fields["grpc-status"], unquote(fields["grpc-message"])) == (
            "14", "nothing came for a while",
        )  # fmt: skip
        assert len(body) > 5  # the one request had its answer


def test_a_call_that_is_cancelled_leaves_nothing_behind(front: FrontEnd) -> None:
    with Http2Client(front) as raw:
        numbers = [raw.grpc(INFER, message("held")) for _ in range(5)]
        numbers.append(raw.grpc(STREAM_INFER, message("held"), end=False))
        front.wait_for(lambda: len(front.dispatcher.held) == 6)
        for number in numbers:
            raw.send(frame(3, 0, number, u32(8)))
        assert raw.get() == 200
        front.release()
        front.wait_for(lambda: front.frontend._api.in_flight == 0)
        assert front.frontend._server._state.buffered_bytes == 0
        assert raw.get() == 200


def test_evidence_about_the_key_of_an_http_2_connection(front: FrontEnd) -> None:
    """What a gRPC client asks for on its own connection, before it sends a tensor."""
    nonce = bytes(range(32))
    with Http2Client(front) as raw:
        status, _, body = raw.answer(raw.request(f"/v1/attestation?nonce={nonce.hex()}"))
        shown = json_wire.decode(body, FrontendEvidence, what="evidence")
        expected = frontend_report_data(
            nonce=nonce,
            tls_spki=front.identity.key.spki,
            ca_spki=front.ca.spki,
            manifest_digest=front.manifest.digest,
            version=front.manifest.manifest.version,
        )
        assert status == 200
        assert expected in shown.evidence.quote
        assert raw.call(INFER, message("digits"))[0] == 0


def test_rest_and_grpc_share_a_connection(front: FrontEnd) -> None:
    with Http2Client(front) as raw:
        numbers = [
            raw.request(PREDICT, GOOD) if index % 2 else raw.grpc(INFER, message("digits"))
            for index in range(40)
        ]
        assert all(raw.answer(number)[0] == 200 for number in numbers)
        tenants = {seen["tenant"] for seen in front.dispatcher.seen[-40:]}
    assert len(tenants) == 1


def test_the_loop_of_the_standard_library_serves_as_well() -> None:
    with FrontEnd(loop="asyncio") as front, Http2Client(front) as raw:
        rows = np.zeros((4000, 64), "f4")
        number = raw.grpc(INFER, message("digits", rows))
        _, fields, body = raw.answer(number)
        assert (fields["grpc-status"], len(body) > 4000 * 40) == ("0", True)
        assert raw.get() == 200


def test_calls_of_another_manifest_are_unavailable() -> None:
    with FrontEnd() as front, Http2Client(front) as raw:
        stream = raw.grpc(STREAM_INFER, message("held"), end=False)
        front.wait_for(lambda: bool(front.dispatcher.held))
        front.put_in_force(make_manifest(front.platform, version=4))
        front.release()
        assert raw.answer(stream)[1]["grpc-status"] == "14"
        assert raw.end().code == 0


def test_a_drain_ends_streams_after_what_they_are_owed() -> None:
    with FrontEnd() as front, Http2Client(front) as raw:
        stream = raw.grpc(STREAM_INFER, message("held"), end=False)
        front.wait_for(lambda: bool(front.dispatcher.held))
        stopped = asyncio.run_coroutine_threadsafe(front.frontend.stop(drain_s=5), front.loop)
        while raw.ended is None:
            raw.read()
        front.release()
        _, fields, body = raw.answer(stream)
        assert (fields["grpc-status"], len(body) > 5) == ("14", True)
        raw.end()
        stopped.result(20)


def test_metrics_count_calls_by_method(front: FrontEnd) -> None:
    with Http2Client(front) as raw:
        raw.call(INFER, message("digits"))
        raw.call(INFER, message("nobody"))
        _, _, body = raw.answer(raw.request("/metrics"))
    assert b'wardian_requests_total{model="digits",route="grpc_infer",status="200"}' in body
    assert b'wardian_requests_total{model="",route="grpc_infer",status="404"}' in body
    assert b"nobody" not in body


async def test_the_asynchronous_client(async_client: Any) -> None:
    assert await async_client.is_server_live()
    result = await async_client.infer("digits", [tensor(PIXELS)])
    np.testing.assert_allclose(result.as_numpy("scores"), digits(PIXELS), rtol=1e-6)


def test_a_reset_of_nothing_owed_is_no_answer(front: FrontEnd) -> None:
    with Http2Client(front) as raw:
        number = raw.grpc(INFER, message("digits"), content_length="3")
        with pytest.raises(Reset):
            raw.answer(number)
