"""BYTES and BF16 in both REST dialects: texts, bytes that are none, and what is neither."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian.errors import RequestError
from wardian.inference.dtypes import BF16
from wardian.inference.spec import TensorSpec
from wardian.serving.api.elements import MAX_ELEMENTS
from wardian.serving.api.json_tensors import MAX_LISTS
from wardian.serving.api.oip import decode_infer, encode_infer
from wardian.serving.api.predict import decode_predict, encode_predict

TEXTS = TensorSpec(name="texts", dtype="BYTES", shape=(-1,))
GRID = TensorSpec(name="texts", dtype="BYTES", shape=(-1, 2))
IMAGES = TensorSpec(name="images", dtype="BYTES", shape=(-1,))


def request(datatype: str, shape: list[int], data: object, **parameters: object) -> bytes:
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


def infer(datatype: str, shape: list[int], data: object, **parameters: object):
    return decode_infer(request(datatype, shape, data, **parameters), header_length=None)


@given(st.lists(st.text(max_size=8), max_size=12))
def test_texts_there_and_back(texts: list[str]) -> None:
    asked = infer("BYTES", [len(texts)], texts)
    array = asked.inputs["x"]
    assert (array.dtype, array.tolist()) == (np.dtype(object), [text.encode() for text in texts])
    parts, _ = encode_infer(model="m", version="", request=asked, outputs={"y": array})
    (output,) = json.loads(b"".join(parts))["outputs"]
    assert (output["datatype"], output["data"]) == ("BYTES", texts)


def test_texts_nested_as_their_shape_says() -> None:
    texts = [["[", ",", "]"], ["a", "", "\0"]]
    array = infer("BYTES", [2, 3], texts).inputs["x"]
    assert array.tolist() == [[text.encode() for text in row] for row in texts]
    assert infer("BYTES", [2, 3], [*texts[0], *texts[1]]).inputs["x"].tolist() == array.tolist()
    assert infer("BYTES", [1], ["[" * (MAX_LISTS + 1)]).inputs["x"].size == 1


@pytest.mark.parametrize(
    ("shape", "data", "status", "says"),
    [
        ([2], ["a"], 400, "has 2 elements, data has 1"),
        ([1], [1], 400, "Expected `str`"),
        ([1], "a", 400, "Expected `array`"),
        ([1], [None], 400, "Expected `str`"),
        ([2, 2], [["a", "b"], ["c"]], 400, "not nested as shape"),
        ([2, 1], [["a", "b"]], 400, "not nested as shape"),
        ([], ["a", "b"], 400, "has 1 elements"),
        ([MAX_ELEMENTS + 1], [], 413, "at most 65536"),
        ([1, 1], [[]] * (MAX_LISTS + 1), 413, "lists"),
    ],
)
def test_what_are_no_texts(shape: list[int], data: object, status: int, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        infer("BYTES", shape, data)
    assert (caught.value.status, says in str(caught.value)) == (status, True), str(caught.value)


def test_bfloat16_in_json() -> None:
    asked = infer("BF16", [2, 2], [[1.0, -2.5], [0.1, 3]])
    array = asked.inputs["x"]
    assert (array.dtype, array.shape) == (BF16, (2, 2))
    parts, _ = encode_infer(model="m", version="", request=asked, outputs={"y": array})
    (output,) = json.loads(b"".join(parts))["outputs"]
    assert (output["datatype"], output["shape"]) == ("BF16", [2, 2])
    assert output["data"] == [1.0, -2.5, 0.10009765625, 3.0]
    for wrong in (1e39, 3.4e38):
        with pytest.raises(RequestError, match="out of range"):
            infer("BF16", [1], [wrong])


def test_an_answer_that_is_no_text_needs_binary() -> None:
    array = np.array([b"\xff"], object)
    with pytest.raises(RequestError, match="binary_data_output"):
        encode_infer(model="m", version="", request=infer("BYTES", [0], []), outputs={"y": array})
    asked = infer("BYTES", [0], [], binary_data_output=True)
    parts, length = encode_infer(model="m", version="", request=asked, outputs={"y": array})
    assert b"".join(parts)[length:] == b"\1\0\0\0\xff"


def rows(instances: object, *inputs: TensorSpec):
    return decode_predict(json.dumps({"instances": instances}).encode(), inputs=inputs)


def test_predictions_take_texts_and_base64() -> None:
    assert rows(["a", {"b64": "/9g="}], TEXTS)["texts"].tolist() == [b"a", b"\xff\xd8"]
    assert rows([{"b64": "/9g="}], IMAGES)["images"].tolist() == [b"\xff\xd8"]
    assert rows([["a", "b"], ["c", "d"]], GRID)["texts"].shape == (2, 2)
    both = rows([{"texts": "a", "images": {"b64": "/9g="}}], TEXTS, IMAGES)
    assert (both["texts"].tolist(), both["images"].tolist()) == ([b"a"], [b"\xff\xd8"])
    for wrong in ([1], [{"b64": "?"}], [{"b65": "/9g="}], [["a"], "b"], [["a"]]):
        with pytest.raises(RequestError):
            rows(wrong, TEXTS)
    with pytest.raises(RequestError, match="not nested"):
        rows([["a", "b"], ["c"]], GRID)


def test_predictions_give_texts_and_base64() -> None:
    array = np.array([[b"a", b"\xff\xd8"]], object)
    assert json.loads(encode_predict({"y": array})) == {"predictions": [["a", {"b64": "/9g="}]]}


def test_a_text_that_is_not_utf_8_is_refused() -> None:
    body = b'{"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["\xff"]}]}'
    with pytest.raises(RequestError, match="utf-8") as refused:
        decode_infer(body, header_length=None)
    assert refused.value.status == 400
