"""ModelStreamInfer with a model that generates: `tritonclient`, unmodified, and frames by hand."""

import queue
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulators.generating import GeneratingFrontEnd, tiny
from simulators.http2_client import (
    CANCEL,
    PREFACE,
    RST_STREAM,
    STREAM_INFER,
    WINDOW,
    Http2Client,
    frame,
    settings,
    u32,
)

from wardian.inference.generate.parts import Ask, build_inputs, parse_outputs
from wardian.serving.grpc import wire
from wardian.serving.http import server as http_server

triton = pytest.importorskip("tritonclient.grpc")

Refused = triton.InferenceServerException
TEXT = "the owner"


@pytest.fixture(scope="module")
def front() -> Iterator[GeneratingFrontEnd]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_server, "MAX_SWEEP_S", 0.04)
        with GeneratingFrontEnd(deadline_ms=5000) as running:
            running.wait_for(lambda: running.dispatcher.catalog()["tiny"].ready)
            yield running


@pytest.fixture(autouse=True)
def _quick(front: GeneratingFrontEnd) -> Iterator[None]:
    yield
    front.delay_s = 0.0


class Stream:
    """A stream of tritonclient, and what came on it."""

    def __init__(self, front: GeneratingFrontEnd, ca_file: Path) -> None:
        self.client = triton.InferenceServerClient(
            f"localhost:{front.port}", ssl=True, root_certificates=str(ca_file)
        )
        self.answers: queue.Queue[Any] = queue.Queue()
        self.client.start_stream(lambda result, error: self.answers.put((result, error)))

    def ask(self, text: str = TEXT, *, model: str = "tiny", name: str = "text_input",
            **options: Any) -> None:  # fmt: skip
        tensor = triton.InferInput(name, [1], "BYTES")
        tensor.set_data_from_numpy(np.array([text.encode()], object))
        self.client.async_stream_infer(model, [tensor, *options.pop("more", ())], **options)

    def parts(self) -> list[Any]:
        """Results until the last of a request."""
        found = []
        while True:
            result, error = self.answers.get(timeout=10)
            if error is not None:
                raise error
            found.append(result)
            if result.get_response().parameters["triton_final_response"].bool_param:
                return found

    def close(self) -> None:
        self.client.stop_stream()
        self.client.close()


@pytest.fixture(scope="module")
def ca_file(front: GeneratingFrontEnd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "mesh-ca.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(front.ca.certificate))
    return path


@pytest.fixture
def stream(front: GeneratingFrontEnd, ca_file: Path) -> Iterator[Stream]:
    made = Stream(front, ca_file)
    yield made
    made.close()


def whole(tokens: int, **ask: Any) -> str:
    part = parse_outputs(tiny().infer(build_inputs(TEXT.encode(), Ask(max_tokens=tokens, **ask))))
    return part.text.decode()


def text_of(parts: list[Any]) -> str:
    return b"".join(each.as_numpy("text_output")[0] for each in parts).decode()


def test_parts(stream: Stream) -> None:
    stream.ask(parameters={"max_tokens": 40}, request_id="seven",
               enable_empty_final_response=True)  # fmt: skip
    parts = stream.parts()
    assert text_of(parts) == whole(40)
    assert [len(each.as_numpy("tokens")) for each in parts] == [1, 2, 4, 8, 16, 9]
    assert {each.get_response().id for each in parts} == {"seven"}
    assert {each.get_response().model_version for each in parts} == {"1"}
    assert parts[-1].as_numpy("finish_reason")[0] == b"length"
    assert parts[-1].as_numpy("prompt_tokens").tolist() == [8]


def test_parameters_by_name_and_in_a_tensor(stream: Stream) -> None:
    stream.ask(parameters={"max_tokens": 30, "temperature": 1.0, "top_p": 0.9, "seed": 3})
    assert text_of(stream.parts()) == whole(30, temperature=1.0, top_p=0.9, seed=3)
    tensor = triton.InferInput("sampling_parameters", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b'{"max_tokens":30,"temperature":1,"seed":3}'], object))
    stream.ask(more=[tensor])
    assert text_of(stream.parts()) == whole(30, temperature=1.0, seed=3)
    stream.ask(more=[tensor], parameters={"max_tokens": 2})
    with pytest.raises(triton.InferenceServerException if hasattr(
        triton, "InferenceServerException") else Exception, match="one of the two"):  # fmt: skip
        stream.parts()


def test_only_the_outputs_that_are_wanted(stream: Stream) -> None:
    stream.ask(parameters={"max_tokens": 3}, outputs=[triton.InferRequestedOutput("text_output")])
    assert all(each.as_numpy("tokens") is None for each in stream.parts())
    stream.ask(outputs=[triton.InferRequestedOutput("logits")])
    with pytest.raises(Refused, match="has the outputs"):
        stream.parts()


def test_a_prompt_in_numbers(stream: Stream) -> None:
    numbers = np.array(tiny()._prompt(TEXT.encode(), Ask()), np.int64)
    tensor = triton.InferInput("input_ids", [len(numbers)], "INT64")
    tensor.set_data_from_numpy(numbers)
    stream.client.async_stream_infer("tiny", [tensor], parameters={"max_tokens": 20})
    assert text_of(stream.parts()) == whole(20)


def test_a_failure_is_its_requests_alone(stream: Stream) -> None:
    for options, said in (
        ({"parameters": {"max_tokens": -1}}, "max_tokens"),
        ({"parameters": {"presence": 1}}, "presence"),
        ({"parameters": {"max_tokens": True}}, "max_tokens"),
        ({"name": "prompt"}, "not the model's"),
        ({"text": ""}, "no token"),
        ({"text": "a b" * 1000}, "too long"),
        ({"model": "none"}, "no model"),
    ):
        stream.ask(**options)
        with pytest.raises(Refused, match=said):
            stream.parts()
    stream.ask(parameters={"max_tokens": 5})
    assert text_of(stream.parts()) == whole(5)


def test_several_at_once_and_one_that_does_not_generate(stream: Stream) -> None:
    stream.ask(parameters={"max_tokens": 40}, request_id="a")
    stream.ask(parameters={"max_tokens": 20}, request_id="b")
    image = triton.InferInput("image", [1, 4], "FP32")
    image.set_data_from_numpy(np.ones((1, 4), np.float32))
    stream.client.async_stream_infer(
        "digits", [image], request_id="c", enable_empty_final_response=True
    )
    found: dict[str, list[Any]] = {"a": [], "b": [], "c": []}
    for _ in range(3):
        for each in stream.parts():
            found[each.get_response().id].append(each)
    assert (text_of(found["a"]), text_of(found["b"])) == (whole(40), whole(20))
    assert found["c"][0].as_numpy("sum").tolist() == [4.0]


def test_plain_inference_answers_whole(stream: Stream, front: GeneratingFrontEnd) -> None:
    tensors = []
    for name, said in (("text_input", TEXT), ("sampling_parameters", '{"max_tokens":40}')):
        tensors.append(triton.InferInput(name, [1], "BYTES"))
        tensors[-1].set_data_from_numpy(np.array([said.encode()], object))
    before = len(front.parts)
    answer = stream.client.infer("tiny", tensors)
    assert answer.as_numpy("text_output")[0].decode() == whole(40)
    assert len(front.parts) == before + 1


def message(**parameters: int) -> bytes:
    entries = b"".join(
        wire.element(4, wire.field(1, name.encode())
                     + wire.element(2, wire.key(2, wire.VARINT) + wire.varint(value)))
        for name, value in parameters.items()
    )  # fmt: skip
    tensor = wire.field(1, b"text_input") + wire.field(2, b"BYTES") + wire.field(3, b"\x01")
    raw = len(TEXT).to_bytes(4, "little") + TEXT.encode()
    return wire.field(1, b"tiny") + entries + wire.element(5, tensor) + wire.element(7, raw)


def test_a_stream_that_its_client_resets(front: GeneratingFrontEnd) -> None:
    front.delay_s = 0.05
    with Http2Client(front) as client:
        number = client.grpc(STREAM_INFER, message(max_tokens=200), end=False)
        while not client.bodies.get(number):
            client.read()
        client.send(frame(RST_STREAM, 0, number, u32(CANCEL)))
        asked = len(front.parts)
        time.sleep(0.3)
        assert len(front.parts) <= asked + 1
        front.wait_for(lambda: front.frontend._api.in_flight == 0)
        connection = next(iter(front.frontend._server._state.connections))
        front.wait_for(lambda: not connection._working)
        assert client.get() == 200


def test_nothing_is_asked_for_while_the_client_does_not_read(front: GeneratingFrontEnd) -> None:
    with Http2Client(front, greet=False) as client:
        client.send(PREFACE + settings(_4=20))
        before = len(front.parts)
        number = client.grpc(STREAM_INFER, message(max_tokens=40))
        front.wait_for(lambda: len(front.parts) == before + 1)
        time.sleep(0.1)
        assert len(front.parts) == before + 1
        client.send(frame(WINDOW, 0, number, u32(2**20)))
        _, fields, body = client.answer(number)
        assert fields["grpc-status"] == "0"
        assert body.count(b"triton_final_response") == 6


def test_the_clients_deadline(front: GeneratingFrontEnd) -> None:
    front.delay_s = 0.05
    with Http2Client(front) as client:
        number = client.grpc(STREAM_INFER, message(max_tokens=400), grpc_timeout="200m")
        _, fields, body = client.answer(number)
        assert body.count(b"triton_final_response") >= 2
        # Between parts, or within one.
        said = (b"not whole within the time", b"no answer within the deadline")
        assert any(each in body for each in said)
        assert fields["grpc-status"] == "0"
    front.wait_for(lambda: front.frontend._api.in_flight == 0)
