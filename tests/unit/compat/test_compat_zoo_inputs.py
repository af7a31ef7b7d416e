"""What users of Cluster Serving enqueue, as the inputs of a model."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardian.compat.zoo import data as zoo
from wardian.compat.zoo.inputs import prepare, result
from wardian.errors import RequestError


def spec(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


DENSE = [spec("x", "FP32", -1, 4)]


def test_a_record_gets_a_batch_axis_and_loses_it_again() -> None:
    prepared = prepare({"any-name": np.arange(4)}, specs=DENSE)
    assert prepared.single
    np.testing.assert_array_equal(prepared.inputs["x"], np.arange(4, dtype="f4")[None])
    assert prepared.inputs["x"].dtype == np.float32
    outputs = {"a": np.ones((1, 3)), "b": np.zeros((1, 2))}
    got = result(outputs, order=["b", "a"], single=True)
    assert [each.shape for each in got] == [(2,), (3,)]
    assert result({"a": np.ones((1, 3))}, order=["a"], single=True).shape == (3,)  # type: ignore[union-attr]


def test_a_batch_stays_a_batch() -> None:
    prepared = prepare({"x": np.zeros((5, 4))}, specs=DENSE)
    assert not prepared.single
    assert prepared.inputs["x"].shape == (5, 4)
    assert result({"a": np.ones((5, 3))}, order=["a"], single=False).shape == (5, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"x": np.zeros(4), "y": np.zeros(4)},
        {"x": np.zeros((1, 1, 4))},
        {"x": np.float32(3)},
        {"x": np.array(3)},
        {"x": np.array(["a"])},
        {"x": np.array([object()])},
        {"x": ["text"]},
    ],
)
def test_what_does_not_fit_the_model(data: dict[str, Any]) -> None:
    with pytest.raises((RequestError, TypeError)):
        prepare(data, specs=DENSE)


@pytest.mark.parametrize("value", [None, 3, 2.5, object(), [], [1, 2], {"b64": "", "x": 1}, {}])
def test_values_of_no_kind(value: Any) -> None:
    with pytest.raises(TypeError, match="expected an array"):
        prepare({"x": value}, specs=DENSE)


def test_several_inputs_need_their_names() -> None:
    specs = [spec("a", "FP32", -1, 2), spec("b", "INT64", -1, 2)]
    prepared = prepare({"b": np.array([1.0, 2.0]), "a": np.array([0.5, 1.5])}, specs=specs)
    assert prepared.inputs["b"].dtype == np.int64
    with pytest.raises(RequestError, match=r"\['a', 'b'\]"):
        prepare({"a": np.zeros(2), "c": np.zeros(2)}, specs=specs)
    with pytest.raises(RequestError, match="batch axis"):
        prepare({"a": np.zeros(2), "b": np.zeros((1, 2))}, specs=specs)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -1.0, 256.0, 1e30])
def test_a_value_that_would_change_is_refused(value: float) -> None:
    with pytest.raises(RequestError, match="would not stay"):
        prepare({"x": np.array([value])}, specs=[spec("x", "UINT8", -1, 1)])


@given(st.lists(st.integers(0, 255), min_size=1, max_size=8))
def test_whole_numbers_stay_what_they_are(values: list[int]) -> None:
    array = np.array(values, "f4")
    got = prepare({"x": array}, specs=[spec("x", "UINT8", -1, len(values))]).inputs["x"]
    assert got.tolist() == [values]


def test_sparse() -> None:
    specs = [spec("x", "FP32", -1, 3, 2)]
    value = [np.array([[0, 1], [2, 0]]), np.array([5.0, 7.0]), np.array([3, 2])]
    got = prepare({"x": value}, specs=specs).inputs["x"]
    np.testing.assert_array_equal(got, [[[0, 5], [0, 0], [7, 0]]])


@pytest.mark.parametrize(
    ("indices", "values", "shape"),
    [
        ([[3, 0]], [1.0], [3, 2]),
        ([[-1, 0]], [1.0], [3, 2]),
        ([[0.5, 0]], [1.0], [3, 2]),
        ([[0, 0]], [1.0, 2.0], [3, 2]),
        ([0, 0], [1.0], [3, 2]),
        ([[0, 0]], [1.0], [-3, 2]),
        ([[0, 0]], [1.0], [2**40, 2**40]),
        ([[0, 0]], [1.0], [2**28, 2]),
    ],
)
def test_sparse_that_is_none(indices: Any, values: Any, shape: Any) -> None:
    with pytest.raises(RequestError):
        prepare(
            {"x": [np.array(indices), np.array(values), np.array(shape)]},
            specs=[spec("x", "FP32", -1, 3, 2)],
        )


def test_texts_and_images(tmp_path: Path) -> None:
    specs = [spec("x", "BYTES", -1)]
    assert prepare({"x": ["a", "ö"]}, specs=specs).inputs["x"].tolist() == [b"a", "ö".encode()]
    path = tmp_path / "image.jpg"
    path.write_bytes(b"\xff\xd8 jpeg")
    for value in (str(path), {"path": str(path)}, {"b64": base64.b64encode(b"\xff\xd8 jpeg")}):
        assert prepare({"x": value}, specs=specs).inputs["x"].tolist() == [b"\xff\xd8 jpeg"]


def test_images_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [spec("x", "BYTES", -1)]
    for value in (str(tmp_path / "none.jpg"), str(tmp_path), {"b64": "%%%"}, {"b64": 5}):
        with pytest.raises(RequestError):
            prepare({"x": value}, specs=specs)
    monkeypatch.setattr(zoo, "MAX_IMAGE_BYTES", 4)
    (tmp_path / "large").write_bytes(b"12345")
    with pytest.raises(RequestError, match="larger than 4"):
        prepare({"x": str(tmp_path / "large")}, specs=specs)


def test_a_type_that_has_no_form_there() -> None:
    with pytest.raises(RequestError, match="use `wardian.connect`"):
        prepare({"x": np.zeros(1)}, specs=[spec("x", "BF16", -1, 1)])
