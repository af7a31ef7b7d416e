"""Cluster Serving's HTTP paths: instances to inferences, and answers byte for byte."""

import json
from binascii import a2b_base64, b2a_base64
from typing import Any

import numpy as np
import pytest
from simulators.zoo_world import PREDICT, World, X, rows, spec, values

from wardian.errors import RequestError
from wardian.inference.dtypes import NUMPY_OF, from_bf16
from wardian.serving.api.zoo.fitting import fit
from wardian.serving.zoo.columns import Dense, Sparse
from wardian.serving.zoo.results import encode_result


def test_front_end_app_byte_for_byte() -> None:
    world = World()
    status, body = world.predict([{"t": [1, 2]}], rows([0.09, 3]))
    assert (status, body.decode()) == (
        200,
        (
            '{\n  "predictions" : [ '
            r'"{\"value\":\"{\\\"data\\\":[0.09,3.0],\\\"shape\\\":[2]}\"}"'
            " ]\n}"
        ),
    )
    (call,) = world.calls
    assert (call["model"], call["version"], call["deadline_s"]) == ("digits", 1, 10)
    np.testing.assert_array_equal(call["inputs"]["x"], np.array([[1, 2]], "f4"))
    assert call["inputs"]["x"].dtype == np.float32


def test_frontend2_byte_for_byte() -> None:
    status, body = World().predict([{"t": [1, 2]}], rows([0.09, 3]), target="/predict")
    result = encode_result([np.array([0.09, 3], "f4")]).decode()
    expected = '{\n  "predictions" : [ "\\"' + result + '\\"" ]\n}'
    assert (status, body.decode()) == (200, expected)
    assert a2b_base64(result)[:4] == b"\xff\xff\xff\xff"


def test_the_model_paths_answer_in_arrow_where_that_was_agreed() -> None:
    plain, agreed = World(), World(model_answers="arrow")
    by_default = plain.predict([{"t": [1, 2]}], rows([0.09, 3]), target="/predict")
    assert agreed.predict([{"t": [1, 2]}], rows([0.09, 3])) == by_default
    assert b'"inputCompileType" : "direct"' in agreed.do("GET", "/models/digits")[1]


def test_instances_are_rows_of_one_inference() -> None:
    world = World()
    status, body = world.predict(
        [{"x": [1, 2]}, {"x": [3, 4]}, {"x": [5, 6]}], rows([1, 1], [2, 2], [3, 3])
    )
    assert status == 200
    assert [each["data"] for each in values(body)] == [[1, 1], [2, 2], [3, 3]]
    np.testing.assert_array_equal(world.calls[0]["inputs"]["x"], [[1, 2], [3, 4], [5, 6]])


def test_the_strict_frontend2_looks_at_the_first_alone() -> None:
    instances = [{"x": [1, 2]}, {"x": [3, 4]}]
    strict = World(compat="strict")
    _, body = strict.predict(instances, rows([1, 1]), target="/predict")
    assert len(json.loads(body)["predictions"]) == 1
    _, body = World().predict(instances, rows([1, 1], [2, 2]), target="/predict")
    assert len(json.loads(body)["predictions"]) == 2


def test_instances_with_a_batch_axis_keep_it_and_their_order() -> None:
    world = World()
    status, body = world.predict(
        [{"x": [[1, 2], [3, 4]]}, {"x": [5, 6]}, {"x": [[7, 8]]}, {"x": [9, 0]}],
        rows([1, 1], [2, 2]),
        rows([3, 3], [5, 5]),
        rows([4, 4]),
    )
    assert status == 200
    assert values(body) == [
        {"data": [1, 1, 2, 2], "shape": [2, 2]},
        {"data": [3, 3], "shape": [2]},
        {"data": [4, 4], "shape": [1, 2]},
        {"data": [5, 5], "shape": [2]},
    ]


def test_several_inputs_and_outputs() -> None:
    pair, outputs = "/models/pair/versions/1/predict", rows([0.5, 1]) | {"z": np.array([2**40])}
    world = World()
    _, body = world.predict([{"n": 7, "x": [1, 2]}], outputs, target=pair)
    assert values(body) == [[{"data": [0.5, 1], "shape": [2]}, {"data": [2**40], "shape": []}]]
    sent = world.calls[0]["inputs"]
    assert (sent["n"].dtype, sent["n"].tolist()) == (np.int64, [7])
    strict = World(compat="strict")
    _, body = strict.predict([{"first": [1, 2], "second": 7}], outputs, target=pair)  # by place
    assert strict.calls[0]["inputs"]["n"].tolist() == [7]
    (text,) = json.loads(body)["predictions"]
    assert json.loads(text)["value"] == (
        '{"data":[0.5,1.0],"shape":[2]}{"data":[1.0995116E12],"shape":[]}'
    )


def test_a_model_without_rows_gets_each_instance_by_itself() -> None:
    world = World()
    _, body = world.predict(
        [{"x": [1, 2, 3]}, {"x": [4, 5, 6]}],
        {"y": np.array([1, 2], "f4")},
        {"y": np.array([3, 4], "f4")},
        target="/models/whole/versions/1/predict",
    )
    assert values(body) == [{"data": [1, 2], "shape": [2]}, {"data": [3, 4], "shape": [2]}]


def test_sparse() -> None:
    world = World()
    sparse = {"shape": [2], "data": [5.5], "indices": [[1]]}
    assert world.predict([{"x": sparse}], rows([1, 2]))[0] == 200
    np.testing.assert_array_equal(world.calls[0]["inputs"]["x"], [[0, 5.5]])


def test_images_and_texts() -> None:
    raw = b"\xff\xd8\xff\xe0 no picture, but the model's steps say so"
    text = b2a_base64(raw, newline=False).decode()
    world = World()
    photos = "/models/photos/versions/1/predict"
    instances = [{"pixels": text}, {"pixels": {"b64": text}}]
    assert world.predict(instances, rows([1, 1]), rows([2, 2]), target=photos)[0] == 200
    assert [each["inputs"]["pixels"].tolist() for each in world.calls] == [[raw], [raw]]
    world, words = World(), "/models/words/versions/1/predict"
    labels = {"label": np.array([b'"gr\xc3\xbcn"', b"no"], object)}
    _, body = world.predict([{"text": ["a", "ü"]}, {"text": ["c", "d"]}], labels, target=words)
    assert world.calls[0]["inputs"]["text"].tolist() == [[b"a", b"\xc3\xbc"], [b"c", b"d"]]
    assert values(body) == [{"data": ['"grün"'], "shape": []}, {"data": ["no"], "shape": []}]


@pytest.mark.parametrize(
    ("model", "instance", "says"),
    [
        ("digits", {"x": "/9j/4AAQ"}, "own steps"),
        ("digits", {"x": ["a", "b"]}, "own steps"),
        ("photos", {"pixels": [1, 2]}, "an image was expected"),
        ("photos", {"pixels": ["a", "b"]}, "one image in base64"),
        ("words", {"text": "YWJj"}, "send a list"),
        ("words", {"text": [1, 2]}, "a list of texts was expected"),
        ("words", {"text": ["a", "b", "c"]}, ""),  # the dispatcher's to say
    ],
)
def test_what_a_model_does_not_take(model: str, instance: Any, says: str) -> None:
    world = World()
    world.raises[1] = RequestError("3 is not 2")
    status, body = world.do(
        "POST", f"/models/{model}/versions/1/predict", {"instances": [instance]}
    )
    assert status == 400
    assert says in body.decode()
    assert world.api.in_flight == 0


@pytest.mark.parametrize(
    ("instance", "says"),
    [
        ({"x": [1, 2], "more": [1]}, "inputs x"),
        ({"x": [[[1, 2]]]}, "FP32 [2] was expected"),
        ({"x": 1}, "FP32 [2] was expected"),
    ],
)
def test_bad_shapes(instance: Any, says: str) -> None:
    instances = [{"x": [1, 2]}, instance]
    world = World()
    status, body = world.do("POST", PREDICT, {"instances": instances})
    assert status == 400
    assert says in body.decode()
    assert world.calls == []
    status, body = World(compat="strict").predict(instances, rows([1, 2]))
    assert status == 200
    assert body.endswith(rb""", "{\"value\":\"NaN\"}" ]""" + b"\n}")
    strict = World(compat="strict")
    assert strict.do("POST", "/predict", {"instances": [instance]}) == (
        200,
        b'{\n  "predictions" : [ "\\"NaN\\"" ]\n}',
    )


def test_whole_numbers_are_what_float32_can_say() -> None:
    for number, status in ((2**24, 200), (2**24 + 2, 400), (1.5, 400), (-1e30, 400)):
        world = World()
        pair = "/models/pair/versions/1/predict"
        answers = world.start("POST", pair, {"instances": [{"x": [1, 2], "n": number}]})
        if status == 200:
            assert world.calls[0]["inputs"]["n"].tolist() == [number]
            continue
        assert answers[0].status == status


def test_numbers_that_json_has_not() -> None:
    _, body = World().predict([{"x": [1, 2]}], rows([np.nan, -np.inf]))
    assert values(body) == [{"data": ["NaN", "-Infinity"], "shape": [2]}]
    _, body = World().predict([{"x": [1, 2]}], rows([1e-7, 3e38]))
    assert values(body)[0]["data"] == [1e-7, 3e38]


@pytest.mark.parametrize(
    ("dtype", "number", "sent"),
    [
        ("FP16", 1.5, 1.5),
        ("FP16", 1e5, None),
        ("FP64", 0.5, 0.5),
        ("BF16", 1.5, 1.5),
        ("BF16", 3.4e38, None),  # rounds to infinity
        ("BOOL", 1, True),
        ("BOOL", 2, None),
        ("UINT8", 255, 255),
        ("UINT8", 256, None),
        ("UINT64", -1, None),
        ("INT8", -128, -128),
        ("INT8", 0.5, None),
    ],
)
def test_a_number_is_of_the_model_s_type_or_refused(dtype: str, number: float, sent: Any) -> None:
    instance, specs = {"x": Dense(np.array(number, "f4"))}, (spec("x", dtype, -1),)
    if sent is None:
        with pytest.raises(RequestError, match="'x'"):
            fit(instance, specs, images=frozenset())
        return
    array = fit(instance, specs, images=frozenset()).inputs["x"]
    assert (array.dtype, array.shape) == (NUMPY_OF[dtype], (1,))
    assert (from_bf16(array) if dtype == "BF16" else array).tolist() == [sent]


def test_a_sparse_scalar() -> None:
    for given, sent in (([], 0.0), ([2.5], 2.5)):
        sparse = Sparse(np.empty((len(given), 0), "i4"), np.array(given, "f4"), ())
        fitted = fit({"x": sparse}, (spec("x", "FP32", -1),), images=frozenset())
        assert fitted.inputs["x"].tolist() == [sent]


def test_inputs_of_one_instance_agree_about_the_batch_axis() -> None:
    instance = {"x": Dense(np.zeros((1, 2), "f4")), "n": Dense(np.zeros((), "f4"))}
    with pytest.raises(RequestError, match="batch axis"):
        fit(instance, (X, spec("n", "INT64", -1)), images=frozenset())
