"""A table becomes numbers of one scale, as it was learnt, or is refused with the column's name."""

import numpy as np
import pytest

from wardian.errors import FormatError
from wardian.learning.vertical.columns import MAX_CATEGORIES, Columns, Missing

TABLE = {
    "age": np.array([20, 30, 40, 50]),
    "town": np.array(["Ulm", "Bonn", "", "Ulm"]),
    "same": np.array([0.1 + 0.2] * 4),
    "alike": np.array(["x"] * 4),
    "member": np.array([True, False, True, False]),
}


def test_numbers_are_scaled_and_categories_are_columns():
    columns = Columns(TABLE)
    found = columns.numbers(TABLE)
    assert columns.names == ["age", "town=", "town=Bonn", "town=Ulm", "member"]
    assert columns.left_out == ["same", "alike"]
    assert found.shape == (4, 5)
    assert found.dtype == np.float64
    assert found[:, 0] == pytest.approx((np.array([20, 30, 40, 50]) - 35) / 125**0.5)
    assert found[:, 1:4].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert found[:, 4].tolist() == [1, -1, 1, -1]


def test_what_was_learnt_is_used_for_new_records():
    columns = Columns(TABLE)
    new = {name: column[:1] for name, column in TABLE.items()}
    new["age"], new["town"], new["same"] = np.array([60]), np.array(["Köln"]), np.array([7.0])
    found = columns.numbers(dict(reversed(new.items())))
    assert found[0, 0] == pytest.approx(25 / 125**0.5)
    assert found[0, 1:4].tolist() == [0, 0, 0]  # a category that nobody knew is none of the known
    assert found.shape == (1, 5)


def test_missing_numbers_are_refused_filled_or_kept():
    table = {"x": np.array([1.0, np.nan, 3.0]), "none": np.full(3, np.nan)}
    with pytest.raises(FormatError, match="x: 1 numbers are missing"):
        Columns(table)
    assert Columns(table, missing=Missing.MEAN).numbers(table).tolist() == [[-1], [0], [1]]
    kept = Columns(table, missing=Missing.KEPT)
    assert np.isnan(kept.numbers(table)).tolist() == [[False], [True], [False]]
    assert kept.left_out == ["none"]


def test_a_constant_column_is_left_out_although_its_deviation_is_rounded():
    constant = {"x": np.full(1000, 0.1), "y": np.arange(1000)}
    assert Columns(constant).left_out == ["x"]


def test_a_table_of_nothing_but_constants_has_no_column():
    table = {"x": np.ones(3)}
    assert Columns(table).numbers(table).shape == (3, 0)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "every column"),
        ({"x": np.empty(0)}, "every column"),
        ({"x": np.zeros(3), "y": np.zeros(4)}, "every column"),
        ({"x": np.zeros((3, 1))}, "every column"),
        ({"x": np.array([1.0, np.inf])}, "x: a number is infinite"),
        ({"x": np.array([1 + 1j])}, "x: numbers or texts"),
        ({"x": np.array(["a", 1, None], object)}, "x: numbers or texts"),
        ({"x": np.arange(MAX_CATEGORIES + 1).astype(str)}, "x: more than 1024 categories"),
    ],
)
def test_tables_that_are_refused(table, reason):
    with pytest.raises(FormatError, match=reason):
        Columns(table)


@pytest.mark.parametrize(
    "change",
    [
        {"age": np.array(["x"] * 4)},
        {"town": np.arange(4)},
        {"age": np.arange(3)},
        {"age": np.array([1.0, np.nan, 1.0, 1.0])},
        {"more": np.arange(4)},
    ],
)
def test_new_records_of_another_kind_are_refused(change):
    columns = Columns(TABLE)
    with pytest.raises(FormatError):
        columns.numbers({**TABLE, **change})
    with pytest.raises(FormatError):
        columns.numbers({"age": TABLE["age"]})


def test_it_prints_no_category():
    assert repr(Columns(TABLE)) == "Columns(5 in, 5 out)"
