"""Open Inference Protocol v2: bodies to arrays and back, and what is said of those that are not."""

import contextlib
import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wardian.errors import RequestError
from wardian.inference.dtypes import NAME_OF, NUMPY_OF, from_bf16, to_bf16
from wardian.serving.api.json_tensors import MAX_JSON_BYTES, MAX_JSON_VALUES
from wardian.serving.api.oip import InferRequest, decode_infer, encode_infer

PIXELS = np.arange(8, dtype="f4").reshape(2, 4)


def request(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def json_input(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": PIXELS.tolist(), **changes}


def binary_input(size: Any = 32, **changes: Any) -> dict[str, Any]:
    return {
        "name": "x",
        "shape": [2, 4],
        "datatype": "FP32",
        "parameters": {"binary_data_size": size},
        **changes,
    }


def decode_binary(head: bytes, tail: bytes) -> InferRequest:
    return decode_infer(head + tail, header_length=len(head))


@pytest.mark.parametrize("data", [PIXELS.tolist(), PIXELS.reshape(-1).tolist()])
def test_json_nested_or_flat(data: list[Any]) -> None:
    decoded = decode_infer(request(json_input(data=data), id="7"), header_length=None)
    assert decoded.id == "7"
    assert decoded.inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(decoded.inputs["x"], PIXELS)
    assert (decoded.outputs, decoded.binary, decoded.timeout_s) == (None, frozenset(), None)


def test_binary_is_not_copied() -> None:
    head = request(binary_input(), parameters={"binary_data_output": True})
    body = head + PIXELS.tobytes()
    decoded = decode_infer(body, header_length=len(head))
    np.testing.assert_array_equal(decoded.inputs["x"], PIXELS)
    assert np.shares_memory(decoded.inputs["x"], np.frombuffer(body, "u1"))
    assert decoded.binary is None


def test_binary_and_json_tensors_together() -> None:
    head = request(
        binary_input(8, shape=[2], name="a"), json_input(), binary_input(2, shape=[2], name="b",
                                                                         datatype="UINT8")
    )  # fmt: skip
    decoded = decode_binary(head, np.array([1, 2], "f4").tobytes() + b"\x05\x06")
    assert decoded.inputs["a"].tolist() == [1, 2]
    assert decoded.inputs["b"].tolist() == [5, 6]
    assert decoded.inputs["x"].shape == (2, 4)


def test_what_other_clients_add_is_tolerated() -> None:
    body = request(
        json_input(parameters={"content_type": "np"}),
        id=None,
        outputs=None,
        parameters={"sequence_id": 4, "priority": 1, "headers": {"a": "b"}},
        model_name="digits",
    )
    assert decode_infer(body, header_length=None).inputs["x"].shape == (2, 4)


def test_outputs_and_their_form() -> None:
    outputs = [
        {"name": "a", "parameters": {"binary_data": True}},
        {"name": "b", "parameters": {"binary_data": False}},
        {"name": "c"},
    ]
    decoded = decode_infer(request(json_input(), outputs=outputs), header_length=None)
    assert (decoded.outputs, decoded.binary) == (("a", "b", "c"), frozenset("a"))
    parameters = {"binary_data_output": True}
    decoded = decode_infer(
        request(json_input(), outputs=outputs, parameters=parameters), header_length=None
    )
    assert decoded.binary == frozenset("ac")


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(250_000, 0.25), ("1000000", 1.0), (0, None), (None, None)]
)
def test_timeout_in_microseconds(timeout: object, seconds: float | None) -> None:
    body = request(json_input(), parameters={"timeout": timeout})
    assert decode_infer(body, header_length=None).timeout_s == seconds


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body is empty"),
        (b"  ", "the body is empty"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `inputs`"),
        (request(), ""),
        (request(json_input(), input=[]), "unknown field `input`"),
        (request(json_input(dtype="FP32")), "unknown field `dtype`"),
        (request(json_input(name=7)), "Expected `str`, got `int` - at `$.inputs[0].name`"),
        (request(json_input(datatype="FP8")), "'FP8' is not served; expected one of BOOL"),
        (request(json_input(datatype="float32")), "'float32' is not served"),
        (request(json_input(shape=[2, -4])), "Expected `int` >= 0"),
        (request(json_input(shape=[1] * 17)), "length <= 16"),
        (request(json_input(shape=[2, 5])), "shape [2, 5] has 10 elements"),
        (request(json_input(shape=[4, 2])), "shape [4, 2] has 8 elements"),
        (request(json_input(shape=[2, 2, 2])), "in 7 lists, data is neither flat nor"),
        (request(json_input(shape=[8])), "in 1 lists, data is neither flat nor"),
        (request(json_input(data=[[1, 2, 3, 4], [5, 6]])), "ragged"),
        (request(json_input(data=[1, 2, 3, 4, 5, 6, 7, "8"])), "got `str` - at `$[7]`"),
        (request(json_input(data=[[1, 2, 3, 4], [5, 6, 7, "8"]])), "got `str` - at `$[1][3]`"),
        (request(json_input(data=[[1, 2, 3, 4], [5, 6, 7, None]])), "got `null`"),
        (request(json_input(data=[True] * 8)), "got `bool`"),
        (request(json_input(data=None)), "got `null`"),
        (request(json_input(data=[1e300] * 8)), "out of range for float32"),
        (request(json_input(data=[1.5] * 8, datatype="INT32")), "Expected `int`, got `float`"),
        (request(json_input(data=[300] * 8, datatype="UINT8")), "out of range for uint8"),
        (request(json_input(data=[-1] * 8, datatype="UINT64")), "out of range for uint64"),
        (request(json_input(data=[1] * 8, datatype="BOOL")), "Expected `bool`, got `int`"),
        (request(json_input(), json_input()), "given twice"),
        (request({"name": "x", "shape": [1], "datatype": "FP32"}), "neither data nor"),
        (request(json_input(), outputs=[{"name": "a"}, {"name": "a"}]), "asked for twice"),
        (
            request(json_input(), outputs=[{"name": "a", "parameters": {"classification": 3}}]),
            "classification",
        ),
        (request(json_input(), parameters={"timeout": "soon"}), "expected microseconds"),
        (request(json_input(), parameters={"timeout": -1}), "expected microseconds"),
        (request(json_input(), parameters={"timeout": 10**400}), "expected microseconds"),
        (request(json_input(), parameters={"timeout": "9" * 400}), "expected microseconds"),
        (request(json_input(), parameters={"timeout": "9" * 5000}), "expected microseconds"),
        (request(json_input(shape=[1] * 16, data=[[0]] * 9)), "has another number"),
        (request(json_input(shape=[1] * 16, data=[[[0]]])), "in 16 lists"),
        (request(json_input(), id="i" * 2000), "length <= 1024"),
        (request(binary_input()), "announced, 0 are left"),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}', "no NaN"),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[-Infinity]}]}', "no NaN"),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1e999]}]}', "out of range"),
        (b'{"x":' * 100_000, "unknown field `x`"),
        (b'{"inputs":' + b"[" * 100_000, "Expected `object`, got `array`"),
    ],
)
def test_what_is_no_request(body: bytes, says: str) -> None:
    if not says:
        assert decode_infer(body, header_length=None).inputs == {}
        return
    with pytest.raises(RequestError) as caught:
        decode_infer(body, header_length=None)
    assert says in str(caught.value)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("entry", "tail", "says"),
    [
        (binary_input(), b"", "32 bytes were announced, 0 are left"),
        (binary_input(), bytes(31), "32 bytes were announced, 31 are left"),
        (binary_input(), bytes(33), "33 bytes follow the JSON header"),
        (binary_input(28), bytes(28), "is 32 bytes, binary_data_size says 28"),
        (binary_input(-1), b"", "Expected `int` >= 0"),
        (binary_input(data=[1]), bytes(32), "both data and binary_data_size"),
        (binary_input(datatype="FP8"), bytes(32), "'FP8' is not served"),
        (binary_input(31, datatype="BYTES"), bytes(31), "more elements of BYTES"),
        (binary_input(40, datatype="BYTES"), bytes(40), "end after 32 bytes of 40"),
        (binary_input(shape=[2**40, 2**40]), bytes(32), "binary_data_size says 32"),
        (binary_input(0, shape=[0, 2**40, 2**40, 2**40]), b"", "is not possible"),
        (binary_input(8, datatype="BOOL"), b"\1\0\1\0\1\0\1\2", "byte of 0 or 1"),
        (json_input(), b"x", "1 bytes follow the JSON header"),
    ],
)
def test_what_is_no_binary_request(entry: dict[str, Any], tail: bytes, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_binary(request(entry), tail)
    assert says in str(caught.value)


def test_too_much_json_and_much_in_binary() -> None:
    with pytest.raises(RequestError, match="in binary") as caught:
        decode_infer(b" " * (MAX_JSON_BYTES + 1), header_length=None)
    assert caught.value.status == 413
    size = 4 * MAX_JSON_BYTES
    decoded = decode_binary(request(binary_input(size, shape=[MAX_JSON_BYTES])), bytes(size))
    assert decoded.inputs["x"].nbytes == size


def test_a_header_longer_than_the_body() -> None:
    with pytest.raises(RequestError, match="is 9, the body has 2"):
        decode_infer(b"{}", header_length=9)


def test_tensors_without_elements() -> None:
    assert decode_binary(request(binary_input(0, shape=[0, 4])), b"").inputs["x"].shape == (0, 4)
    body = request(json_input(shape=[0, 4], data=[]))
    assert decode_infer(body, header_length=None).inputs["x"].shape == (0, 4)


def asked(**changes: Any) -> InferRequest:
    return InferRequest(
        **{"id": None, "inputs": {}, "outputs": None, "binary": frozenset(), "timeout_s": None}
        | changes
    )


def test_answers_in_json() -> None:
    parts, header = encode_infer(
        model="m", version="3", request=asked(id="i"), outputs={"y": PIXELS, "n": np.array([7])}
    )
    assert header is None
    assert json.loads(b"".join(parts)) == {
        "model_name": "m",
        "model_version": "3",
        "id": "i",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2, 4], "data": list(range(8))},
            {"name": "n", "datatype": "INT64", "shape": [1], "data": [7]},
        ],
    }


def test_answers_in_both_forms() -> None:
    parts, header = encode_infer(
        model="m",
        version="3",
        request=asked(binary=frozenset({"b"})),
        outputs={"a": np.array([1], "i4"), "b": PIXELS.T},
    )
    described = json.loads(parts[0])["outputs"]
    assert header == len(parts[0])
    assert described[0]["data"] == [1]
    assert described[1]["parameters"] == {"binary_data_size": 32}
    assert b"".join(parts[1:]) == np.ascontiguousarray(PIXELS.T).tobytes()


def test_numbers_that_json_has_not_go_out_as_null() -> None:
    parts, _ = encode_infer(
        model="m", version="", request=asked(), outputs={"y": np.array([np.nan, np.inf, 1.0])}
    )
    assert json.loads(parts[0])["outputs"][0]["data"] == [None, None, 1.0]


@pytest.mark.parametrize("shape", [(0, 3), (300, 300), ()])
def test_binary_answers_of_any_size(shape: tuple[int, ...]) -> None:
    array = np.ones(shape, "f8")
    parts, header = encode_infer(
        model="m", version="", request=asked(binary=None), outputs={"y": array}
    )
    assert header == len(parts[0])
    assert b"".join(parts[1:]) == array.tobytes()


ARRAYS = st.sampled_from([dtype for dtype in NUMPY_OF.values() if dtype.kind not in "fV"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
)
FLOATS = st.sampled_from([16, 32, 64]).flatmap(
    lambda width: hnp.arrays(
        np.dtype(f"<f{width // 8}"),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
        elements=st.floats(width=width, allow_nan=False, allow_infinity=False),
    )
)


HALVES = hnp.arrays(
    np.dtype("<f4"),
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
).map(to_bf16)


@given(array=ARRAYS | FLOATS | HALVES)
def test_any_array_survives_both_forms(array: np.ndarray) -> None:
    name = NAME_OF[array.dtype]
    entry = {"name": "x", "shape": list(array.shape), "datatype": name}
    values = from_bf16(array) if name == "BF16" else array
    body = request({**entry, "data": values.tolist()})
    np.testing.assert_array_equal(decode_infer(body, header_length=None).inputs["x"], array)
    head = request({**entry, "parameters": {"binary_data_size": array.nbytes}})
    np.testing.assert_array_equal(decode_binary(head, array.tobytes()).inputs["x"], array)


@given(body=st.binary(max_size=200), length=st.none() | st.integers(0, 200))
def test_any_bytes_end_in_a_request_error(body: bytes, length: int | None) -> None:
    with contextlib.suppress(RequestError):
        decode_infer(body, header_length=length)


def deep(rank: int, rows: int) -> bytes:
    return b"[" + b",".join([b"[" * (rank - 1) + b"0" + b"]" * (rank - 1)] * rows) + b"]"


@pytest.mark.parametrize(
    ("shape", "data", "status"),
    [
        ([1] * 16, deep(16, 30_000), 413),
        ([30_000, *[1] * 15], deep(16, 30_000), 413),
        ([1, 30_000], deep(16, 4000), 400),
        ([4000, 1], deep(16, 4000), 400),
        ([1, 1], b"[" + b",".join([b"[]"] * 60_000) + b"]", 400),
        ([60_000, 1], b"[" + b",".join([b"[1]"] * 59_998) + b",[1,2],[]]", 400),
        ([1], b"[" + b",".join([b"0"] * 500_000) + b"]", 400),
    ],
)
def test_json_that_costs_much_is_refused_at_little_cost(
    shape: list[int], data: bytes, status: int
) -> None:
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":%b,"data":%b}]}' % (
        json.dumps(shape).encode(),
        data,
    )
    start = time.process_time()
    with pytest.raises(RequestError) as caught:
        decode_infer(body, header_length=None)
    assert caught.value.status == status
    assert time.process_time() - start < 0.5  # it takes a tenth; it used to be seconds


def test_a_large_answer_goes_out_in_binary_alone() -> None:
    large = {"y": np.zeros(MAX_JSON_VALUES + 1, "u1"), "z": np.zeros(1, "u1")}
    for asked in (None, [{"name": "z", "parameters": {"binary_data": True}}]):
        decoded = decode_infer(request(json_input(), outputs=asked), header_length=None)
        with pytest.raises(RequestError, match="ask for binary_data_output") as caught:
            encode_infer(model="m", version="1", request=decoded, outputs=large)
        assert caught.value.status == 413
    everything = request(json_input(), parameters={"binary_data_output": True})
    decoded = decode_infer(everything, header_length=None)
    parts, _ = encode_infer(model="m", version="1", request=decoded, outputs=large)
    assert len(parts[1]) == MAX_JSON_VALUES + 1
