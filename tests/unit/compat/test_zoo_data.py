"""What users enqueue, told apart, and as the columns of a record."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian.compat.zoo import data as zoo
from wardian.compat.zoo.data import ONLY, build_record, read_request
from wardian.errors import RequestError
from wardian.serving.zoo.arrow import parse_columns
from wardian.serving.zoo.columns import Columns, Dense, Image, Sparse, Strings

JPEG = b"\xff\xd8 jpeg"


def written(**data: Any) -> Columns:
    return parse_columns(build_record(data))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", ">f4", "?"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 4), (1, 2, 1, 3)])
def test_an_array_of_any_type_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    column = written(t=array)["t"]
    assert isinstance(column, Dense)
    assert column.array.dtype == np.float32
    np.testing.assert_array_equal(column.array, array)


def test_an_array_that_is_not_contiguous() -> None:
    array = np.arange(24.0).reshape(4, 6)[::2, ::-3].T
    column = written(t=array)["t"]
    assert isinstance(column, Dense)
    np.testing.assert_array_equal(column.array, array)


def test_a_sparse_one() -> None:
    column = written(s=[np.array([[0, 1], [2, 0]]), np.array([5.0, 7.0]), np.array([3, 2])])["s"]
    assert isinstance(column, Sparse)
    assert column.shape == (3, 2)
    assert column.indices.tolist() == [[0, 1], [2, 0]]
    assert column.values.tolist() == [5.0, 7.0]


@pytest.mark.parametrize(
    "texts", [["a", "b"], ["a", "", "ö"], ["one"], [""], ["a|b"], ["a|b", "c"], ["", ""]]
)
def test_texts_stay_the_texts_that_they_are(texts: list[str]) -> None:
    column = written(words=texts)["words"]
    assert column == Strings(tuple(texts))


def test_images(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(JPEG)
    for value in (str(path), {"path": str(path)}, {"path": path}, {"b64": base64.b64encode(JPEG)}):
        assert written(img=value)["img"] == Image(JPEG)


def test_all_kinds_in_one_record_in_their_order() -> None:
    columns = written(
        b=np.ones(2), a=["x", "y"], s=[np.array([[1]]), np.ones(1), np.array([3])],
        i={"b64": base64.b64encode(JPEG)},
    )  # fmt: skip
    assert list(columns) == ["b", "a", "s", "i"]
    assert [type(each) for each in columns.values()] == [Dense, Strings, Sparse, Image]


@pytest.mark.parametrize(
    "value", [None, 3, 2.5, object(), [], [1, 2], {"b64": "", "x": 1}, {}, b""]
)
def test_values_of_no_kind(value: Any) -> None:
    with pytest.raises(TypeError, match="expected an array"):
        build_record({"x": value})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (np.array(["a"]), "expected numbers"),
        (np.array([object()]), "expected numbers"),
        (np.array([1j]), "expected numbers"),
        (np.array([2**24 + 1]), "16777216"),
        (np.array([-(2**24) - 1]), "16777216"),
        (np.array([2**64 - 1], np.uint64), "16777216"),
        (np.array([1e300]), "3.4e38"),
        ([np.array([[3, 0]]), np.ones(1), np.array([3, 2])], "outside"),
        ([np.array([[-1, 0]]), np.ones(1), np.array([3, 2])], "outside"),
        ([np.array([[0.5, 0]]), np.ones(1), np.array([3, 2])], "whole"),
        ([np.array([[np.nan, 0]]), np.ones(1), np.array([3, 2])], "whole"),
        ([np.array([["a", "b"]]), np.ones(1), np.array([3, 2])], "x: "),
        ([np.array([[0, 0]]), np.ones(2), np.array([3, 2])], "one row for each"),
        ([np.array([[0, 0]]), np.array(["a"]), np.array([3, 2])], "expected numbers"),
        ([np.array([[0, 0]]), np.ones(1), np.array([-3, 2])], "negative"),
        ([np.array([[0, 0]]), np.ones(1), np.array([np.nan, 2])], "x: "),
        ([np.array([[0, 0]]), np.ones(1), np.array([2**40, 2**40])], "more than"),
        (["\ud800", "b"], "surrogate"),
        ({"b64": "%%%"}, "not base64"),
        ({"b64": 5}, "base64"),
        ("/nowhere.jpg", "cannot read"),
        ({"path": "/"}, "cannot read"),
        (np.zeros(17 * 2**20, np.float32), "67108864 bytes"),
        ([""] * 65_537, "at most 65536"),
    ],
)
def test_values_that_a_record_cannot_have(value: Any, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        build_record({"x": value})


def test_what_is_not_finite_stays_so() -> None:
    column = written(t=np.array([np.inf, -np.inf, np.nan]))["t"]
    assert isinstance(column, Dense)
    np.testing.assert_array_equal(column.array, [np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("data", [{}, {f"c{n}": np.ones(1) for n in range(65)}, {"": np.ones(1)}])
def test_columns_that_no_record_has(data: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        build_record(data)


def test_an_image_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "MAX_IMAGE_BYTES", 4)
    (tmp_path / "large").write_bytes(b"12345")
    with pytest.raises(RequestError, match="larger than 4"):
        build_record({"x": str(tmp_path / "large")})


def test_what_predict_takes() -> None:
    array = np.arange(3.0)
    assert read_request({"a": array}) == {"a": array}
    assert read_request(array) == {ONLY: array}
    assert read_request("a/path.jpg") == {ONLY: "a/path.jpg"}
    body = {
        "instances": [
            {"x": [[1, 2]], "w": ["a", "b"], "i": {"b64": base64.b64encode(JPEG).decode()},
             "s": {"shape": [3], "data": [7], "indices": [[1]]}},
            {"y": 2},
        ]
    }  # fmt: skip
    for text in (json.dumps(body), json.dumps(body).encode()):
        columns = written(**read_request(text))
        assert list(columns) == ["x", "w", "i", "s"]
        assert [type(each) for each in columns.values()] == [Dense, Strings, Image, Sparse]
    for text in ('{"instances": []}', "{", '{"instances": [{"x": [[1], [1, 2]]}]}'):
        with pytest.raises(RequestError, match="no instance"):
            read_request(text)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9),
        st.lists(st.floats(width=32), max_size=9).map(lambda each: np.array(each, np.float32))
        | st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5),
        min_size=1,
        max_size=6,
    )
)
def test_the_role_reads_what_is_written(data: dict[str, Any]) -> None:
    columns = parse_columns(build_record(data))
    assert list(columns) == list(data)
    for name, column in columns.items():
        if isinstance(data[name], list):
            assert column == Strings(tuple(data[name]))
        else:
            assert isinstance(column, Dense)
            np.testing.assert_array_equal(column.array, data[name])
