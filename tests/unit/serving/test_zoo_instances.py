"""Instances in JSON: what is read, and what is refused without a trace of the content."""

import json
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest

from wardian.errors import FormatError
from wardian.serving.zoo.columns import Column, Dense, Image, Sparse, Strings
from wardian.serving.zoo.instances import MAX_JSON_BYTES, MAX_LISTS, parse_instances


def _one(value: object) -> Column:
    (columns,) = parse_instances(json.dumps({"instances": [{"t": value}]}).encode())
    return columns["t"]


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (7, ()),
        (-1.5, ()),
        ([1, 2.5, -3e2], (3,)),
        ([[1, 2], [3, 4], [5, 6]], (3, 2)),
        ([[[1.0]]], (1, 1, 1)),
        ([], (0,)),
        ([[], []], (2, 0)),
        ([2**62, -(2**70)], (2,)),
    ],
)
def test_numbers_and_lists_of_them_are_tensors(value: object, shape: tuple[int, ...]) -> None:
    column = _one(value)

    assert isinstance(column, Dense)
    assert column.array.dtype == np.float32
    np.testing.assert_array_equal(column.array, np.array(value, np.float32).reshape(shape))


def test_spaces_between_the_brackets_do_not_matter() -> None:
    body = b'\n{ "instances" : [ { "t" : [\t[ 1 , 2 ] ,\r\n [3,4]] , "u" : 5 } ] }\n'

    (columns,) = parse_instances(body)

    assert [column.array.shape for column in columns.values()] == [(2, 2), ()]  # type: ignore[union-attr]


def test_texts_are_strings_or_images() -> None:
    assert _one("a|b||") == Strings(("a", "b", "", ""))
    assert _one(["a"]) == Strings(("a",))
    assert _one(["a", "b|c", "\u00e9"]) == Strings(("a", "b|c", "\u00e9"))
    assert _one("/9j/") == Image(b"\xff\xd8\xff")
    assert _one({"b64": "/9j/"}) == Image(b"\xff\xd8\xff")


def test_a_sparse_tensor_as_in_their_guide() -> None:
    column = _one(
        {
            "shape": [100, 10000, 10],
            "data": [0.2, 0.5, 3.45, 6.78],
            "indices": [[1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4]],
        }
    )

    assert isinstance(column, Sparse)
    assert column.shape == (100, 10000, 10)
    assert column.indices.tolist() == [[1] * 3, [2] * 3, [3] * 3, [4] * 3]
    assert column.values.tolist() == np.array([0.2, 0.5, 3.45, 6.78], np.float32).tolist()


def test_a_sparse_tensor_may_have_no_values() -> None:
    column = _one({"shape": [3, 4], "data": [], "indices": []})

    assert isinstance(column, Sparse)
    assert column.indices.shape == (0, 2)


def test_columns_and_instances_keep_their_order() -> None:
    body = b'{"instances":[{"b":1,"a":[2]},{"a":3,"b":"x|y"}]}'

    instances = parse_instances(body)

    assert [list(columns) for columns in instances] == [["b", "a"], ["a", "b"]]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([[1, 2], [3]], "ragged"),
        ([[1], []], "ragged"),
        ([[1, 2], 3], "Expected `array`"),
        ([1, [2]], "Expected `float`"),
        ([1, "a"], "Expected `float`"),
        (["a", 1], "Expected `str`"),
        ([["a"]], "strings in lists within lists"),
        ([1, None], "Expected `float`"),
        ([True], "Expected `float`"),
        (True, "Expected `float`"),
        (None, "Expected `float`"),
        (1e300, "out of float32's range"),
        ([1e39], "out of float32's range"),
        ("hello", "not base64"),
        ({"b64": "hello"}, "not base64"),
        ({"b64": 1}, "Expected `str`"),
        ({"b64": "", "more": 1}, "unknown field"),
        ({}, "missing required field"),
        ({"shape": [1], "data": [1]}, "missing required field"),
        ({"shape": [-1, -1], "data": [1], "indices": [[0, 0]]}, "negative length"),
        ({"shape": [2], "data": [1], "indices": [[2]]}, "outside its shape"),
        ({"shape": [2], "data": [1], "indices": [[-1]]}, "outside its shape"),
        ({"shape": [2], "data": [1], "indices": [[0], [1]]}, "one row for each value"),
        ({"shape": [2, 2], "data": [1, 2], "indices": [[0], [1]]}, "one row for each value"),
        ({"shape": [2], "data": [1, 2], "indices": [[0, 1]]}, "one row for each value"),
        ({"shape": [2, 2], "data": [1, 2], "indices": [[0, 1], [1]]}, "ragged"),
        ({"shape": [2**31], "data": [1], "indices": [[0]]}, "Expected `int`"),
        ({"shape": [2**30, 2**30], "data": [1], "indices": [[0, 0]]}, "more than"),
        ({"shape": [1] * 17, "data": [1], "indices": [[0] * 17]}, "17 axes"),
    ],
)
def test_what_is_no_value_is_refused(value: object, says: str) -> None:
    with pytest.raises(FormatError, match=f"column 0: .*{says}"):
        _one(value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field"),
        (b'{"instances": {}}', "Expected `array`"),
        (b'{"instances": []}', "0 instances"),
        (b'{"instances": [{}]}', "0 columns"),
        (b'{"instances": [[1]]}', "Expected `object`"),
        (b'{"instances": [{"":1}]}', "0 characters"),
        (b'{"instances": [{"t":1}], "more": 1}', "unknown field"),
        (b'{"instances": [{"t":NaN}]}', "not valid JSON"),
        (b'{"instances": [{"t":1e999}]}', "column 0"),
        (b'{"instances": [{"t":"\xff"}]}', "not valid JSON|column 0"),
        (b'{"instances": [{"t":1}]} x', "not valid JSON"),
        (b'{"instances": [{"t":' + b"[" * 17 + b"1" + b"]" * 17 + b"}]}", "more than 16 lists"),
        (b'{"instances":[' + b",".join([b'{"t":1}'] * 1025) + b"]}", "1025 instances"),
        (
            json.dumps({"instances": [{str(index): 1 for index in range(65)}]}).encode(),
            "65 columns",
        ),
        (json.dumps({"instances": [{"n" * 257: 1}]}).encode(), "257 characters"),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_what_is_no_body_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        parse_instances(body)


def test_errors_do_not_hold_what_was_sent() -> None:
    secret = "s3cr3t-c4n4ry"
    for value in (secret, [secret, 1], {secret: 1}, [[secret]], {"b64": secret + "|"}):
        body = json.dumps({"instances": [{"t": value}]}).encode()
        with pytest.raises(FormatError) as caught:
            parse_instances(body)
        assert secret not in str(caught.value)
    with pytest.raises(FormatError) as caught:
        parse_instances(json.dumps({"instances": [{"t": 1}], secret: 1}).encode())
    assert secret not in str(caught.value)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_ends_in_an_error_of_ours(opening: bytes) -> None:
    body = b'{"instances":[{"t":' + opening * 60_000

    with pytest.raises(FormatError):
        parse_instances(body)


def test_size_and_lists_are_bounded() -> None:
    with pytest.raises(FormatError, match="bytes, at most"):
        parse_instances(b" " * (MAX_JSON_BYTES + 1))
    with pytest.raises(FormatError, match="at most 4"):
        parse_instances(b'{"instances":[{"t":1}]}', max_bytes=4)
    with pytest.raises(FormatError, match=f"at most {MAX_LISTS}"):
        parse_instances(b'{"instances":[{"t":[' + b",".join([b"[]"] * MAX_LISTS) + b"]}]}")


def test_memory_is_bounded_by_what_was_sent() -> None:
    body = b'{"instances":[{"t":[' + b",".join([b"0"] * 400_000) + b"]}]}"
    tracemalloc.start()

    parse_instances(body)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 40 * len(body)


def test_a_body_cut_anywhere_is_refused() -> None:
    body = b'{"instances":[{"t":[[1,2],[3,4]],"s":{"shape":[2],"data":[1],"indices":[[1]]}}]}'
    assert parse_instances(body)

    for size in range(len(body)):
        with pytest.raises(FormatError):
            parse_instances(body[:size])
    for at in range(len(body)):
        for value in b'[]{}",:0e-\\\x00\xff':
            with suppress(FormatError):
                parse_instances(body[:at] + bytes([value]) + body[at + 1 :])
