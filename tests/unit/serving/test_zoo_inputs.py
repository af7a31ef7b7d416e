"""Columns of a record as a model's inputs: what fits, and what is refused and would be `NaN`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wardian.errors import FormatError, RequestError
from wardian.inference.dtypes import BF16, BYTES_DTYPE, NUMPY_OF, from_bf16
from wardian.inference.spec import FREE, TensorSpec
from wardian.serving.rules import InputRules
from wardian.serving.zoo.columns import Dense, Image, Sparse, Strings
from wardian.serving.zoo.stream import inputs as inputs_module
from wardian.serving.zoo.stream.inputs import model_inputs, record_outputs

ROW = TensorSpec(name="x", dtype="FP32", shape=(FREE, 4))


def dense(*shape: int) -> Dense:
    return Dense(np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape))


def take(columns, *specs: TensorSpec, **renamed: str):
    return model_inputs(columns, specs, renamed=renamed)


def test_one_column_is_the_one_input_whatever_its_name() -> None:
    taken = take({"anything": dense(4)}, ROW)
    assert taken.alone
    assert taken.inputs["x"].tolist() == [[0, 1, 2, 3]]


def test_rows_are_taken_as_they_are() -> None:
    taken = take({"x": dense(3, 4)}, ROW)
    assert not taken.alone
    assert taken.inputs["x"].shape == (3, 4)


@pytest.mark.parametrize("shape", [(), (3,), (5,), (1, 5), (2, 2, 4), (4, 1)])
def test_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(FormatError, match="a column of shape"):
        take({"x": dense(*shape)}, ROW)


@pytest.mark.parametrize(
    ("model", "record"), [((1, 4), (4,)), ((FREE,), ()), ((FREE, FREE, 2), (5, 2))]
)
def test_an_axis_of_records_that_is_fixed_or_the_only_one(model, record) -> None:
    taken = take({"x": dense(*record)}, TensorSpec(name="x", dtype="FP32", shape=model))
    assert taken.alone
    assert taken.inputs["x"].shape == (1, *record)


def test_a_first_axis_that_is_no_axis_of_records_is_not_made_up() -> None:
    with pytest.raises(FormatError):
        take({"x": dense(4)}, TensorSpec(name="x", dtype="FP32", shape=(3, 4)))


def test_several_inputs_go_by_name_and_can_be_renamed() -> None:
    other = TensorSpec(name="y", dtype="FP32", shape=(FREE, 2))
    taken = take({"y": dense(2), "x": dense(4)}, ROW, other)
    assert list(taken.inputs) == ["x", "y"]
    taken = take({"user": dense(4), "item": dense(2)}, ROW, other, user="x", item="y")
    assert taken.inputs["y"].shape == (1, 2)


@pytest.mark.parametrize(
    "columns",
    [
        {"x": dense(4)},
        {"x": dense(4), "z": dense(2)},
        {"x": dense(4), "y": dense(2), "z": dense(2)},
        {"a": dense(4), "x": dense(2)},  # both would be x
    ],
)
def test_other_names_are_refused_and_never_taken_by_place(columns) -> None:
    other = TensorSpec(name="y", dtype="FP32", shape=(FREE, 2))
    with pytest.raises(FormatError, match="not the model's inputs"):
        take(columns, ROW, other, a="x")


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("INT8", [-128, 127], [[128], [-129], [0.5], [np.nan], [np.inf]]),
        ("UINT8", [0, 255], [[256], [-1]]),
        ("INT32", [-(2.0**24), 2.0**24], [[2.0**24 + 2], [3e9]]),
        ("INT64", [-(2.0**24), 2.0**24], [[-(2.0**24) - 2], [1e20]]),
        ("UINT64", [0, 2.0**24], [[2.0**64], [-1]]),
        ("BOOL", [0, 1], [[2], [-1], [0.5]]),
        ("FP64", [0.1, np.inf], []),
        ("FP16", [0.5, 65504, np.inf], []),
    ],
)
def test_numbers_become_the_input_s_type_if_none_is_lost(dtype: str, good, bad) -> None:
    spec = TensorSpec(name="x", dtype=dtype, shape=(FREE, FREE))
    values = np.array(good, np.float32)
    found = take({"x": Dense(values)}, spec).inputs["x"]
    assert found.astype(np.float64).tolist() == [values.astype(np.float64).tolist()]
    for wrong in bad:
        with pytest.raises(FormatError, match="whole numbers of that type"):
            take({"x": Dense(np.array(wrong, np.float32))}, spec)


def test_bfloat16() -> None:
    spec = TensorSpec(name="x", dtype="BF16", shape=(FREE, 2))
    found = take({"x": Dense(np.array([1, -2], np.float32))}, spec).inputs["x"]
    assert found.dtype == BF16
    assert from_bf16(found).tolist() == [[1, -2]]


def sparse(shape: tuple[int, ...]) -> Sparse:
    indices = np.array([[0] * len(shape)], np.int32)
    return Sparse(indices, np.array([5], np.float32), shape)


def test_a_sparse_column_is_written_out() -> None:
    assert take({"x": sparse((4,))}, ROW).inputs["x"].tolist() == [[5, 0, 0, 0]]
    assert take({"x": sparse((2, 4))}, ROW).inputs["x"].tolist() == [[5, 0, 0, 0], [0] * 4]


def test_a_sparse_column_is_no_way_to_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack: a few bytes that say that they are a tensor of gigabytes."""

    def none(*_, **__):
        raise AssertionError("memory was asked for")

    monkeypatch.setattr(inputs_module.np, "zeros", none)
    with pytest.raises(FormatError, match="was expected"):
        take({"x": sparse((2**30,))}, ROW)
    free = TensorSpec(name="x", dtype="FP32", shape=(FREE, FREE))
    with pytest.raises(FormatError, match="with its zeros"):
        take({"x": sparse((2**15, 2**15))}, free)


def test_images_and_strings_go_to_inputs_of_bytes_and_nowhere_else() -> None:
    spec = TensorSpec(name="x", dtype="BYTES", shape=(FREE,))
    taken = take({"img": Image(b"\xff\xd8")}, spec)
    assert taken.alone
    assert taken.inputs["x"].dtype == BYTES_DTYPE
    assert taken.inputs["x"].tolist() == [b"\xff\xd8"]
    taken = take({"words": Strings(("a", "ü"))}, spec)
    assert not taken.alone
    assert taken.inputs["x"].tolist() == [b"a", "ü".encode()]
    for column in (Image(b"x"), Strings(("a", "b"))):
        with pytest.raises(FormatError, match="takes FP32"):
            take({"x": column}, ROW)
    for column in (dense(1), sparse((1,))):
        with pytest.raises(FormatError, match="was expected, not numbers"):
            take({"x": column}, spec)


def test_outputs_come_in_the_model_s_order_without_the_axis_that_was_added() -> None:
    specs = [TensorSpec(name=name, dtype="FP32", shape=(FREE,)) for name in "ba"]
    outputs = {"a": np.zeros((1, 3)), "b": np.zeros((1,)), "c": np.zeros(1)}
    assert [each.shape for each in record_outputs(outputs, specs, alone=True)] == [(), (3,)]
    assert [each.shape for each in record_outputs(outputs, specs, alone=False)] == [(1,), (1, 3)]
    odd = {"a": np.zeros((2, 3)), "b": np.zeros(())}  # of a model that has no such axis
    assert [each.shape for each in record_outputs(odd, specs, alone=True)] == [(), (2, 3)]


@settings(max_examples=150, deadline=None)
@given(
    array=arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, min_side=0, max_side=3)),
    dtype=st.sampled_from([*NUMPY_OF, "BYTES"]),
    shape=st.lists(st.sampled_from([FREE, 0, 1, 2, 3]), max_size=4).map(tuple),
)
def test_whatever_comes_is_an_input_or_a_typed_error(array, dtype: str, shape) -> None:
    spec = TensorSpec(name="x", dtype=dtype, shape=shape)
    batchable = bool(shape) and shape[0] == FREE
    try:
        taken = take({"t": Dense(array)}, spec)
        rules = InputRules(inputs=(spec,), outputs=(), batchable=batchable)
        measured = rules.measure(taken.inputs)
    except (FormatError, RequestError):
        return
    assert measured.rows >= 1
    assert taken.inputs["x"].ravel().tolist() == pytest.approx(
        array.ravel().tolist(), nan_ok=True
    ) or (
        dtype in {"FP16", "BF16"}  # rounded
    )
