"""A model that takes and gives bfloat16, through every dialect, the queue and both engines."""

import asyncio
import json
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper
from simulators.data_plane import LANES, MemoryQueue, Pipe, onnx_model, sender

from wardian._internal.metrics import Metrics
from wardian.errors import FormatError
from wardian.inference.dtypes import BF16, from_bf16, to_bf16
from wardian.inference.model import load_model
from wardian.serving.api.routes import Api
from wardian.serving.client.messages import Answer, build_infer, parse_infer
from wardian.serving.dispatch import Dispatcher
from wardian.serving.grpc.infer_answer import build_infer as grpc_answer
from wardian.serving.grpc.infer_request import parse_infer as grpc_request
from wardian.serving.grpc.wire import element, field
from wardian.serving.http.messages import HttpRequest, HttpResponse

HALF = TensorProto.BFLOAT16
X = to_bf16(np.array([[1, -2.5], [0.15625, 1e30]], np.float32))
DOUBLED = [[2.0, -5.0], [0.3125, float(from_bf16(to_bf16(np.array([2e30], "f4")))[0])]]


def doubles() -> bytes:
    return onnx_model(
        [
            helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["a", "a"], ["b"]),
            helper.make_node("Cast", ["b"], ["y"], to=HALF),
        ],
        inputs=[("x", HALF, ["N", 2])],
        outputs=[("y", HALF, ["N", 2])],
    )


class Plane:
    """An API, a dispatcher and one worker."""

    def __init__(self, engine: str) -> None:
        self.queue = MemoryQueue()
        self.dispatcher = Dispatcher(
            queue=self.queue, codecs={"digits": sender()}, lanes=LANES, max_waiting=9
        )
        model = load_model(doubles(), media_type="application/onnx", engine=engine, threads=1)
        self.pipe = Pipe(self.queue.connect(), model)
        self.api = Api(
            dispatcher=self.dispatcher,
            desk=SimpleNamespace(),  # type: ignore[arg-type]  nobody asks for evidence
            metrics=Metrics(),
            deadline_s=10,
            serves=lambda _: True,
        )

    async def post(self, path: str, body: bytes, **headers: bytes) -> HttpResponse:
        answers: list[HttpResponse] = []
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        request = HttpRequest(b"POST", path.encode(), named, body, b"spki", 7, "192.0.2.1")
        self.api.handle(request, answers.append)
        with self.pipe.serving():
            while not answers:
                await asyncio.sleep(0)
        return answers[0]


@pytest.fixture(params=["openvino", "onnxruntime"])
async def plane(request):
    plane = Plane(request.param)
    await plane.pipe.step()
    yield plane
    plane.dispatcher.close()


async def test_json(plane) -> None:
    entry = {"name": "x", "datatype": "BF16", "shape": [2, 2], "data": from_bf16(X).tolist()}
    answer = await plane.post("/v2/models/digits/infer", json.dumps({"inputs": [entry]}).encode())
    (output,) = json.loads(b"".join(answer.body))["outputs"]
    assert (output["datatype"], output["shape"]) == ("BF16", [2, 2])
    assert np.reshape(output["data"], (2, 2)).tolist() == DOUBLED


async def test_plain_json(plane) -> None:
    body = json.dumps({"instances": from_bf16(X).tolist()}).encode()
    answer = await plane.post("/v1/models/digits:predict", body)
    assert json.loads(b"".join(answer.body)) == {"predictions": DOUBLED}


async def test_binary_by_our_own_client(plane) -> None:
    call = build_infer("digits", {"x": X}, version=None, outputs=None, timeout_s=1)
    length = dict(call.headers)[b"Inference-Header-Content-Length"]
    answer = await plane.post(
        "/v2/models/digits/infer", call.body, inference_header_content_length=length
    )
    name, value = answer.headers.strip().lower().split(b": ")
    got = parse_infer(Answer(status=200, headers={name: value}, body=b"".join(answer.body)))["y"]
    assert (got.dtype, got.shape) == (BF16, (2, 2))
    assert from_bf16(got).tolist() == DOUBLED


async def test_the_other_types_of_16_bits_are_refused(plane) -> None:
    for array in (X.view("<u2"), X.view("<f2")):
        call = build_infer("digits", {"x": array}, version=None, outputs=None, timeout_s=1)
        length = dict(call.headers)[b"Inference-Header-Content-Length"]
        answer = await plane.post(
            "/v2/models/digits/infer", call.body, inference_header_content_length=length
        )
        assert answer.status == 400
        assert "BF16" in json.loads(b"".join(answer.body))["error"]


async def test_metadata(plane) -> None:
    request = HttpRequest(b"GET", b"/v2/models/digits", {}, b"", b"spki", 7, "192.0.2.1")
    answers: list[HttpResponse] = []
    plane.api.handle(request, answers.append)
    said = json.loads(b"".join(answers[0].body))
    assert [each["datatype"] for each in said["inputs"] + said["outputs"]] == ["BF16", "BF16"]


def test_grpc_carries_it_raw() -> None:
    shape = field(3, b"\x02\x02")
    tensor = element(5, field(1, b"x") + field(2, b"BF16") + shape)
    message = field(1, b"digits") + tensor + element(7, X.tobytes())
    asked = grpc_request(message, 0, len(message))
    (array,) = asked.request.inputs.values()
    assert (array.dtype, array.tolist()) == (BF16, X.tolist())
    answer = b"".join(
        grpc_answer(model="digits", version="2", request=asked.request, outputs={"y": array})
    )
    assert X.tobytes() in answer
    assert field(2, b"BF16") in answer


def test_a_client_s_array_of_no_known_type_is_refused() -> None:
    with pytest.raises(FormatError):
        build_infer("m", {"x": np.zeros(2, "V2")}, version=None, outputs=None, timeout_s=1)
