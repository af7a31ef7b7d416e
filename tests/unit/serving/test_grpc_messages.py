"""Our reading and writing of Protocol Buffers against Google's, and against what is no message."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wardian.errors import FormatError, RequestError
from wardian.inference.dtypes import BF16, from_bf16
from wardian.inference.spec import TensorSpec
from wardian.serving.api.elements import to_bf16
from wardian.serving.catalog import ModelInfo
from wardian.serving.grpc import wire
from wardian.serving.grpc.infer_answer import build_infer
from wardian.serving.grpc.infer_request import Asked, parse_infer
from wardian.serving.grpc.methods import METHODS, SERVICE, read_named

pb = pytest.importorskip("tritonclient.grpc.service_pb2")

TYPED = {
    "BOOL": ("?", "bool_contents"),
    "INT8": ("i1", "int_contents"),
    "INT16": ("<i2", "int_contents"),
    "INT32": ("<i4", "int_contents"),
    "INT64": ("<i8", "int64_contents"),
    "UINT8": ("u1", "uint_contents"),
    "UINT16": ("<u2", "uint_contents"),
    "UINT32": ("<u4", "uint_contents"),
    "UINT64": ("<u8", "uint64_contents"),
    "FP32": ("<f4", "fp32_contents"),
    "FP64": ("<f8", "fp64_contents"),
}


def parsed(message: bytes) -> Asked:
    return parse_infer(b"prefix" + message + b"behind", 6, 6 + len(message))


def typed_request(datatype: str, array: np.ndarray) -> bytes:
    request = pb.ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=array.shape)
    getattr(tensor.contents, TYPED[datatype][1]).extend(array.reshape(-1).tolist())
    return request.SerializeToString()


@pytest.mark.parametrize("datatype", TYPED)
@given(data=st.data())
def test_typed_contents_are_read_and_written_as_google_does(datatype: str, data) -> None:
    dtype = np.dtype(TYPED[datatype][0])
    array = data.draw(arrays.arrays(dtype, st.integers(1, 40)))
    asked = parsed(typed_request(datatype, array))
    found = asked.request.inputs["x"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)
    parts = build_infer(model="m", version="", request=asked.request, outputs={"y": found})
    answer = pb.ModelInferResponse.FromString(b"".join(parts))
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == (datatype, [array.size])
    back = getattr(answer.outputs[0].contents, TYPED[datatype][1])
    np.testing.assert_array_equal(np.array(back, dtype), array)


@pytest.mark.parametrize("datatype", [*TYPED, "FP16", "BF16"])
def test_raw_contents_there_and_back(datatype: str) -> None:
    dtype = {"FP16": np.dtype("<f2"), "BF16": BF16}.get(datatype) or np.dtype(TYPED[datatype][0])
    raw = bytes(6 * dtype.itemsize) if datatype == "BOOL" else bytes(range(6 * dtype.itemsize))
    request = pb.ModelInferRequest(model_name="m", model_version="3", id="i")
    request.inputs.add(name="x", datatype=datatype, shape=[2, 3])
    request.raw_input_contents.append(raw)
    asked = parsed(request.SerializeToString())
    assert asked[:2] == ("m", "3")
    assert (asked.request.inputs["x"].dtype, asked.request.inputs["x"].shape) == (dtype, (2, 3))
    parts = build_infer(model="m", version="3", request=asked.request, outputs=asked.request.inputs)
    answer = pb.ModelInferResponse.FromString(b"".join(parts))
    assert (answer.id, list(answer.raw_output_contents)) == ("i", [raw])


def test_large_raw_contents_are_not_copied() -> None:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[100_000])
    request.raw_input_contents.append(bytes(400_000))
    source = request.SerializeToString()
    array = parse_infer(source, 0, len(source)).request.inputs["x"]
    assert np.shares_memory(array, np.frombuffer(source, np.uint8))
    parts = build_infer(
        model="m", version="", request=parse_infer(source, 0, len(source)).request,
        outputs={"y": array},
    )  # fmt: skip
    assert np.shares_memory(np.frombuffer(parts[-1], np.uint8), array)


@given(st.lists(st.binary(max_size=9), max_size=20))
def test_bytes_raw_and_typed(elements: list[bytes]) -> None:
    for raw in (True, False):
        request = pb.ModelInferRequest(model_name="m")
        tensor = request.inputs.add(name="x", datatype="BYTES", shape=[len(elements)])
        if raw:
            request.raw_input_contents.append(
                b"".join(len(each).to_bytes(4, "little") + each for each in elements)
            )
        else:
            tensor.contents.bytes_contents.extend(elements)
        asked = parsed(request.SerializeToString())
        assert asked.request.inputs["x"].tolist() == elements
        parts = build_infer(
            model="m", version="", request=asked.request, outputs=asked.request.inputs
        )
        answer = pb.ModelInferResponse.FromString(b"".join(parts))
        if raw or not elements:
            continue
        assert list(answer.outputs[0].contents.bytes_contents) == elements


def test_half_floats_go_out_raw_beside_typed_inputs() -> None:
    asked = parsed(typed_request("FP32", np.ones(2, "<f4")))
    outputs = {"h": np.ones(2, "<f2"), "f": np.ones(2, "<f4")}
    parts = build_infer(model="m", version="", request=asked.request, outputs=outputs)
    answer = pb.ModelInferResponse.FromString(b"".join(parts))
    assert [len(raw) for raw in answer.raw_output_contents] == [4, 8]


def test_numbers_that_are_not_packed_are_read_too() -> None:
    """Writers may leave repeated numbers unpacked; readers must take both."""
    contents = b"".join(wire.key(6, wire.FIXED32) + np.float32(i).tobytes() for i in range(3))
    numbers = b"".join(wire.key(2, wire.VARINT) + wire.varint(i) for i in (1, 2))
    numbers += wire.field(2, b"\3\4")
    for datatype, body, want in (("FP32", contents, [0, 1, 2]), ("INT32", numbers, [1, 2, 3, 4])):
        tensor = wire.field(1, b"x") + wire.field(2, datatype.encode())
        tensor += wire.key(3, wire.VARINT) + wire.varint(len(want)) + wire.field(5, body)
        asked = parsed(wire.element(5, tensor))
        assert asked.request.inputs["x"].tolist() == want


def test_parameters() -> None:
    request = pb.ModelInferRequest(model_name="m")
    request.parameters["timeout"].int64_param = 250_000
    request.parameters["sequence_id"].uint64_param = 7
    request.parameters["other"].string_param = "x"
    request.parameters["double"].double_param = 0.5
    request.parameters["flag"].bool_param = True
    assert parsed(request.SerializeToString()).request.timeout_s == 0.25
    request.parameters["timeout"].bool_param = True
    with pytest.raises(RequestError, match="microseconds|expected"):
        parsed(pb.ModelInferRequest(parameters={"timeout": pb.InferParameter(int64_param=-1)})
               .SerializeToString())  # fmt: skip


def refused(request) -> str:
    with pytest.raises((RequestError, FormatError)) as caught:
        parsed(request if isinstance(request, bytes) else request.SerializeToString())
    return str(caught.value)


def tensor_request(datatype: str = "FP32", shape=(2,), raw: tuple[bytes, ...] = (), **contents):
    request = pb.ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=shape)
    for name, values in contents.items():
        getattr(tensor.contents, name).extend(values)
    request.raw_input_contents.extend(raw)
    return request


REFUSED = [
    (tensor_request("FP12"), "'FP12' is not served"),
    (tensor_request("FP16"), "travels in raw_input_contents"),
    (tensor_request(fp32_contents=[1]), "has 2 elements, contents have 1"),
    (tensor_request(fp64_contents=[1, 2]), "not those of FP32"),
    (tensor_request("INT8", int_contents=[1, 128]), "out of range for int8"),
    (tensor_request("UINT8", uint_contents=[1, 256]), "out of range for uint8"),
    (tensor_request("INT8", int_contents=[1, -129]), "out of range for int8"),
    (tensor_request(raw=(bytes(7),)), "is 8 bytes, raw_input_contents has 7"),
    (tensor_request(raw=(bytes(8), bytes(8))), "2 raw_input_contents for 1 inputs"),
    (tensor_request(raw=(bytes(8),), fp32_contents=[1, 2]), "contents beside"),
    (tensor_request("BOOL", raw=(b"\1\2",)), "byte of 0 or 1"),
    (tensor_request("BYTES", raw=(b"\1\0\0\0a",)), "more elements|cut off"),
    (tensor_request("BYTES", raw=(b"\1\0\0\0a\0\0\0\0b",)), "end after 9 bytes of 10"),
    (tensor_request("BYTES", (2**20,), (b"",)), "at most 65536"),
    (tensor_request(shape=(-1,)), "each of 0 to"),
    (tensor_request(shape=(2**40, 2**40), raw=(bytes(8),)), "raw_input_contents has 8"),
    (tensor_request(shape=(0, 2**40, 2**40), raw=(b"",)), "not possible"),
    (tensor_request(shape=[1] * 17), "at most 16 axes"),
    (b"\x0b", "wire type"),
    (b"\x00", "out of range"),
    (b"\x0a\x05ab", "longer than"),
    (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "does not end"),
    (b"\x0a\x80", "does not end"),
    (b"\x0a\1\xff", "not UTF-8"),
    (b"\x08\1", "another type"),
    (b"\x2d\0\0\0\0", "another type"),
    (wire.element(5, wire.element(5, b"") * 2), "given twice"),
    (wire.element(5, wire.field(2, b"INT32") + wire.field(3, b"\1") +
                  wire.element(5, wire.field(2, b"\xff"))), "does not end"),
    (wire.element(5, wire.field(2, b"INT32") + wire.field(3, b"\1") +
                  wire.element(5, wire.field(2, b"\xff" * 11 + b"\1"))), "does not end"),
    (wire.element(5, wire.field(2, b"FP32") + wire.field(3, b"\1") +
                  wire.element(5, wire.field(6, b"abc"))), "cut off"),
    (wire.element(5, b"") * 257, "at most 256 tensors|given twice"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "says"), REFUSED, ids=[str(number) for number in range(len(REFUSED))]
)
def test_what_is_no_request_is_refused(request_, says: str) -> None:
    told = refused(request_)
    assert any(part in told for part in says.split("|")), told


def test_what_a_message_may_cost_is_bounded() -> None:
    many = wire.element(6, b"") * (wire.MAX_FIELDS + 1)
    assert "fields" in refused(wire.element(4, wire.element(9, b"") * (wire.MAX_FIELDS + 1)))
    assert refused(many)
    big = wire.field(2, bytes(wire.MAX_VARINTS_BYTES + 1))
    tensor = wire.field(1, b"x") + wire.field(2, b"INT32") + wire.element(5, big)
    assert "typed integers" in refused(wire.element(5, tensor))


def test_shared_memory_and_classification_are_refused() -> None:
    request = tensor_request(fp32_contents=[1, 2])
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    assert "shared memory" in refused(request)
    request = tensor_request(fp32_contents=[1, 2])
    request.outputs.add(name="y").parameters["classification"].int64_param = 3
    assert "classification" in refused(request)
    request = tensor_request(fp32_contents=[1, 2])
    request.outputs.add(name="y")
    request.outputs.add(name="y")
    assert "asked for twice" in refused(request)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_typed_error(data: bytes) -> None:
    for read in (parse_infer, read_named):
        with contextlib.suppress(FormatError, RequestError):
            read(data, 0, len(data))


@given(st.data())
def test_any_damage_is_a_message_or_a_typed_error(data) -> None:
    good = bytearray(typed_request("INT32", np.arange(5, dtype="i4")))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError, RequestError):
        parsed(bytes(good))


@given(arrays.arrays(np.dtype("<f4"), 20, elements=st.floats(-(2.0**126), 2.0**126, width=32)))
def test_bfloat16_is_the_nearest(values: np.ndarray) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    want = values.astype(ml_dtypes.bfloat16)
    got = to_bf16(values, "x")
    np.testing.assert_array_equal(got.view("<u2"), want.view("<u2"))
    np.testing.assert_array_equal(from_bf16(got), want.astype("f4"))


def test_bfloat16_does_not_bend_large_numbers_to_infinity() -> None:
    with pytest.raises(RequestError, match="out of range"):
        to_bf16(np.array([3.4e38], "f4"), "x")


class FakeService:
    def __init__(self) -> None:
        spec = TensorSpec(name="x", dtype="BYTES", shape=(-1, 4))
        self.info = ModelInfo(
            name="m",
            versions=(1, 12),
            inputs=(spec,),
            outputs=(spec,),
            engine="e 1",
            ready_versions=(12,),
        )

    def models(self) -> dict[str, ModelInfo]:
        return {"m": self.info}

    def model(self, name: str, version: str) -> ModelInfo:
        if name != "m":
            raise RequestError("no model", status=404)
        return self.info

    def waiting_models(self) -> list[str]:
        return []

    def look(self) -> None:
        return None


class FakeCall:
    def __init__(self) -> None:
        self.service, self.message = FakeService(), b""

    def answer(self, parts) -> None:
        self.message = b"".join(parts)


def run(method: str, request, answer):
    message, call = request.SerializeToString(), FakeCall()
    METHODS[SERVICE + method.encode()].act(call, bytes(5) + message)
    return answer.FromString(call.message)


def test_what_a_model_is_read_by_google() -> None:
    said = run("ModelMetadata", pb.ModelMetadataRequest(name="m"), pb.ModelMetadataResponse)
    assert (said.name, list(said.versions), said.platform) == ("m", ["1", "12"], "e 1")
    assert (said.inputs[0].datatype, list(said.inputs[0].shape)) == ("BYTES", [-1, 4])
    config = run("ModelConfig", pb.ModelConfigRequest(name="m"), pb.ModelConfigResponse).config
    assert (config.name, config.backend, config.input[0].data_type) == ("m", "e", 13)
    assert (list(config.input[0].dims), list(config.output[0].dims)) == ([-1, 4], [-1, 4])
    listed = run("RepositoryIndex", pb.RepositoryIndexRequest(), pb.RepositoryIndexResponse)
    assert [(each.name, each.version, each.state) for each in listed.models] == [
        ("m", "1", "UNAVAILABLE"), ("m", "12", "READY"),
    ]  # fmt: skip
    assert run("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse).extensions
    for version, ready in (("1", False), ("12", True), ("", True)):
        raw = run(
            "ModelReady", pb.ModelReadyRequest(name="m", version=version), pb.ModelReadyResponse
        )
        assert raw.ready is ready
    for name in ("ServerLive", "ServerReady", "ModelReady"):
        request = getattr(pb, f"{name}Request")(**({"name": "m"} if name == "ModelReady" else {}))
        answer = run(name, request, getattr(pb, f"{name}Response"))
        assert getattr(answer, "live" if name == "ServerLive" else "ready")
    with pytest.raises(RequestError) as caught:
        run(
            "RepositoryModelLoad",
            pb.RepositoryModelLoadRequest(model_name="m"),
            pb.RepositoryModelLoadResponse,
        )
    assert caught.value.status == 403
