"""Entries of the request stream, filters, and answers in JSON."""

import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from wardian.errors import ConfigError, FormatError
from wardian.serving.zoo.answers import NAN_ANSWER, app_text, frontend2_text, predictions
from wardian.serving.zoo.columns import Strings
from wardian.serving.zoo.filters import Filter, parse_filter
from wardian.serving.zoo.java_numbers import java_floats
from wardian.serving.zoo.records import MAX_URI_BYTES, parse_record, parse_uri, result_key

VECTORS = Path(__file__).parents[2] / "vectors" / "zoo" / "payloads.json"
STRINGS = next(
    case["payload"].encode()
    for case in json.loads(VECTORS.read_text())
    if case["name"] == "strings and image"
)
BODY = b'{"instances":[{"t":"a|b"}]}'


@pytest.mark.parametrize("uri", [b"", b"a", b"u:r:i", b"\xff\x00\n", b"x" * MAX_URI_BYTES])
def test_a_uri_is_any_bytes_and_stands_in_the_key_as_it_is(uri: bytes) -> None:
    fields = {b"uri": uri, b"data": b""}

    assert result_key(b"serving_stream", parse_uri(fields)) == (
        b"cluster-serving_serving_stream:" + uri
    )


def test_without_a_uri_nobody_waits() -> None:
    with pytest.raises(FormatError, match="no uri"):
        parse_uri({b"data": b""})
    with pytest.raises(FormatError, match="4097 bytes"):
        parse_uri({b"uri": b"x" * 4097})


def test_serde_says_what_data_is() -> None:
    fields = {b"uri": b"u", b"serde": b"stream", b"data": BODY, b"more": b"x"}

    assert parse_record(fields) == [{"t": Strings(("a", "b"))}]
    (columns,) = parse_record({b"uri": b"u", b"data": STRINGS})
    assert columns["words"] == Strings(("a", "b"))
    with pytest.raises(FormatError, match="not base64"):
        parse_record({b"uri": b"u", b"data": BODY})
    with pytest.raises(FormatError, match="not valid JSON"):
        parse_record({b"serde": b"stream", b"data": STRINGS})
    with pytest.raises(FormatError, match="unknown serde"):
        parse_record({b"serde": b"pickle", b"data": BODY})
    with pytest.raises(FormatError, match="no data"):
        parse_record({b"uri": b"u"})


def test_limits_are_the_callers() -> None:
    with pytest.raises(FormatError, match="at most 8"):
        parse_record({b"serde": b"stream", b"data": BODY}, max_json_bytes=8)
    with pytest.raises(FormatError, match="more than 8"):
        parse_record({b"data": STRINGS}, max_bytes=8)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1, "1.0"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (0.1306194, "0.1306194"),
        (1e-3, "0.001"),
        (0.00099, "9.9E-4"),
        (1e-4, "1.0E-4"),
        (9999999, "9999999.0"),
        (1e7, "1.0E7"),
        (1.17549435e-38, "1.1754944E-38"),
        (1e-45, "1.0E-45"),
        (3.4028235e38, "3.4028235E38"),
        (np.nan, "NaN"),
        (np.inf, "Infinity"),
        (-np.inf, "-Infinity"),
    ],
)
def test_numbers_are_written_as_java_does(value: float, text: str) -> None:
    assert java_floats(np.array([value], np.float32)) == [text]


def test_filters_of_a_configuration() -> None:
    assert parse_filter("") is None
    assert parse_filter("topN(5)") == Filter(name="topN", count=5)
    assert parse_filter("pickTopN( 10 )") == Filter(name="pickTopN", count=10)
    for text in (
        "topN", "topN()", "topN(0)", "topN(-1)", "topN(1,2)", "topn(1)", "topN(1) ", "topN(\u0661)",
        "exec(1)", "topN(99999999)",
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="postProcessing"):
            parse_filter(text)


@pytest.mark.parametrize(
    ("values", "count", "text"),
    [
        ([0.1, 0.7, 0.2], 1, "[[1,0.7]]"),
        ([0.1, 0.7, 0.2], 2, "[[1,0.7][2,0.2]]"),
        ([0.1, 0.7], 5, "[[1,0.7][0,0.1]]"),
        ([1, 1, 1], 2, "[[0,1.0][1,1.0]]"),
        ([1, 2, 2, 3], 2, "[[3,3.0][1,2.0]]"),
        ([1, 2, 3, 2], 3, "[[2,3.0][3,2.0][1,2.0]]"),
        ([[1, 5], [3, 4]], 2, "[[1,5.0][3,4.0]]"),
    ],
)
def test_the_largest_with_their_places(values: list, count: int, text: str) -> None:
    assert Filter(name="topN", count=count).text([np.array(values, "f4")]) == text


def test_the_largest_of_many_are_found_as_by_a_sort() -> None:
    values = np.random.default_rng(3).permutation(5000).astype("f4")

    text = Filter(name="topN", count=40).text([values])

    places = [int(pair.partition(",")[0]) for pair in text[2:-2].split("][")]
    assert places == np.argsort(-values)[:40].tolist()


def test_the_first_rows() -> None:
    boxes = np.array([[1, 0.5], [2, 0.25], [3, 0.125]], "f4")
    two = Filter(name="pickTopN", count=2)

    assert two.text([boxes]) == "[[1.0,0.5][2.0,0.25]]"
    assert two.text([boxes[None]]) == two.text([boxes])
    assert two.text([boxes, boxes]) == two.text([boxes]) * 2
    for wrong in (boxes[:1], boxes[0], np.stack([boxes, boxes]), np.array(["a"])):
        with pytest.raises(FormatError):
            two.text([wrong])


def test_an_answer_of_the_app_as_it_was_seen() -> None:
    body = predictions([app_text([np.array([0.09, 1], "f4")])])

    assert body == (
        b'{\n  "predictions" : [ "{\\"value\\":\\"{\\\\\\"data\\\\\\":[0.09,1.0],'
        b'\\\\\\"shape\\\\\\":[2]}\\"}" ]\n}'
    )


def test_their_client_reads_an_answer_of_the_app() -> None:
    """As `http_json_to_ndarray` does: JSON in JSON in JSON."""
    array = np.arange(6, dtype="f4").reshape(2, 3) / 7

    body = predictions([app_text([array]), NAN_ANSWER])

    first, second = json.loads(body)["predictions"]
    value = json.loads(json.loads(first)["value"])
    np.testing.assert_array_equal(np.array(value["data"], "f4").reshape(value["shape"]), array)
    assert json.loads(second) == {"value": "NaN"}


def test_several_outputs_of_the_app_have_nothing_between_them() -> None:
    text = app_text([np.array(1, "f4"), np.array([[2]], "i8")])

    assert json.loads(text)["value"] == '{"data":[1.0],"shape":[]}{"data":[2.0],"shape":[1,1]}'


def test_what_is_not_finite_is_in_quotes() -> None:
    text = app_text([np.array([np.nan, -np.inf, 1e-9], "f4")])

    assert json.loads(json.loads(text)["value"])["data"] == ["NaN", "-Infinity", 1e-9]


def test_an_answer_of_frontend2_is_a_result_in_quotes() -> None:
    body = predictions([frontend2_text([np.ones(2, "f4")])])

    (text,) = json.loads(body)["predictions"]
    assert text[0] == text[-1] == '"'
    assert b64decode(text[1:-1], validate=True).startswith(b"\xff\xff\xff\xff")


def test_answers_are_of_numbers() -> None:
    for text in (app_text, frontend2_text):
        with pytest.raises(FormatError, match="not of numbers"):
            text([np.array(["a"])])
        with pytest.raises(FormatError, match="no outputs"):
            text([])
    with pytest.raises(FormatError, match="too many elements"):
        app_text([np.broadcast_to(np.float32(1), (2**20, 2**20))])
