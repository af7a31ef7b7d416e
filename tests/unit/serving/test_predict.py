"""The plain JSON dialect."""

import json

import numpy as np
import pytest

from wardian.errors import RequestError
from wardian.inference.dtypes import BF16
from wardian.inference.spec import FREE, TensorSpec
from wardian.serving.api.json_tensors import MAX_JSON_BYTES, MAX_JSON_VALUES
from wardian.serving.api.predict import decode_predict, encode_predict

ONE = (TensorSpec(name="x", dtype="FP32", shape=(-1, 2)),)
TWO = (*ONE, TensorSpec(name="n", dtype="INT64", shape=(-1,)))


def test_rows_of_one_input() -> None:
    array = decode_predict(b'{"instances": [[1, 2.5], [3, 4]]}', inputs=ONE)["x"]
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 2.5], [3, 4]]


def test_rows_by_name() -> None:
    body = b'{"signature_name": "s", "instances": [{"x": [1, 2], "n": 3}, {"n": 4, "x": [5, 6]}]}'
    arrays = decode_predict(body, inputs=TWO)
    assert arrays["x"].tolist() == [[1, 2], [5, 6]]
    assert arrays["n"].dtype == np.int64
    assert arrays["n"].tolist() == [3, 4]
    assert decode_predict(b'{"instances": [{"x": [1, 2]}]}', inputs=ONE)["x"].shape == (1, 2)


@pytest.mark.parametrize(
    ("body", "inputs", "says"),
    [
        (b"{}", ONE, "missing required field `instances`"),
        (b'{"inputs": []}', ONE, "unknown field `inputs`"),
        (b"nope", ONE, "not valid JSON"),
        (b'{"instances": [[NaN, 1]]}', ONE, "no NaN"),
        (b'{"instances": []}', ONE, "at least one row"),
        (b'{"instances": 7}', ONE, "Expected `array`, got `int`"),
        (b'{"instances": [1, 2]}', ONE, "Expected `array`, got `int`"),
        (b'{"instances": [[1, 2], [3]]}', ONE, "ragged"),
        (b'{"instances": [[[1, 2]]]}', ONE, "Expected `float`, got `array`"),
        (b'{"instances": [["1", "2"]]}', ONE, "Expected `float`, got `str`"),
        (b'{"instances": [[1e300, 2]]}', ONE, "out of range"),
        (b'{"instances": [[1, 2]]}', TWO, "a list of objects with the inputs x, n"),
        (b'{"instances": [{"x": [1, 2]}]}', TWO, "instances[0]: expected the inputs n, x, got x"),
        (b'{"instances": [{}]}', TWO, "got none"),
        (b'{"instances": []}', TWO, "at least one row"),
    ],
)
def test_what_is_no_request(body: bytes, inputs: tuple[TensorSpec, ...], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        decode_predict(body, inputs=inputs)
    assert says in str(caught.value)
    assert caught.value.status == 400


def test_too_many_rows_by_name() -> None:
    body = b'{"instances": [' + b",".join([b'{"x":[1,2],"n":1}'] * 16_385) + b"]}"
    with pytest.raises(RequestError, match="at most 16384 rows by name"):
        decode_predict(body, inputs=TWO)


def test_rows_without_elements_are_no_rows_of_this_model() -> None:
    with pytest.raises(RequestError, match="rows of shape"):
        decode_predict(
            b'{"instances": [[], []]}',
            inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, 2, 2)),),
        )


def test_too_much_json() -> None:
    body = b'{"instances": [' + b" " * MAX_JSON_BYTES + b"]}"
    with pytest.raises(RequestError, match="in binary") as caught:
        decode_predict(body, inputs=ONE)
    assert caught.value.status == 413


def test_a_model_of_too_many_axes() -> None:
    deep = TensorSpec(name="x", dtype="FP32", shape=(-1, *[1] * 16))
    with pytest.raises(RequestError, match="17 axes, 1 to 16"):
        decode_predict(b'{"instances": [[1]]}', inputs=(deep,))


def test_predictions_of_one_output() -> None:
    answer = json.loads(encode_predict({"y": np.array([[1, np.nan]])}))
    assert answer == {"predictions": [[1, None]]}


def test_predictions_of_several_outputs() -> None:
    answer = json.loads(encode_predict({"a": np.array([[1, 2], [3, 4]]), "b": np.array([5, 6])}))
    assert answer == {"predictions": [{"a": [1, 2], "b": 5}, {"a": [3, 4], "b": 6}]}


def test_outputs_without_a_common_batch_axis() -> None:
    for other in (np.array([1]), np.array(7)):
        answer = json.loads(encode_predict({"a": np.array([[1, 2], [3, 4]]), "b": other}))
        assert answer == {"outputs": {"a": [[1, 2], [3, 4]], "b": other.tolist()}}


@pytest.mark.parametrize(
    ("rows", "last"),
    [([b"[]"] * 70_000, b"[]"), ([b"[1]"] * 70_000, b"[1,2]"), ([b"[[[[]]]]"] * 70_000, b"[]")],
)
def test_rows_that_cost_much_are_refused_before_they_are_decoded(
    rows: list[bytes], last: bytes
) -> None:
    body = b'{"instances":[' + b",".join([*rows, last]) + b"]}"
    with pytest.raises(RequestError, match="lists of JSON, at most 65536") as caught:
        decode_predict(body, inputs=ONE)
    assert caught.value.status == 413


@pytest.mark.parametrize("shape", [(MAX_JSON_VALUES, 1), (2**40, 0), (9, MAX_JSON_VALUES // 9)])
def test_a_large_answer_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="ask for binary_data_output") as caught:
        encode_predict({"y": np.zeros(shape, "u1")})
    assert caught.value.status == 413


def test_bfloat16_rows() -> None:
    spec = TensorSpec(name="x", dtype="BF16", shape=(-1, 2))
    got = decode_predict(b'{"instances": [[1.5, -2], [0.1, 3]]}', inputs=(spec,))["x"]
    assert (got.dtype, got.shape) == (BF16, (2, 2))
    said = json.loads(encode_predict({"y": got}))
    assert said == {"predictions": [[1.5, -2.0], [0.10009765625, 3.0]]}
    with pytest.raises(RequestError, match="out of range"):
        decode_predict(b'{"instances": [[3.4e38, 0]]}', inputs=(spec,))


def test_a_name_that_is_not_utf_8_is_refused() -> None:
    spec = TensorSpec(name="x", dtype="FP32", shape=(FREE, 1))
    with pytest.raises(RequestError, match="expected a list of objects with the inputs x"):
        decode_predict(b'{"instances": [{"\xff": [1]}]}', inputs=(spec,))
