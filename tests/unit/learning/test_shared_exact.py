"""Sums of rows are the same in whatever order and pieces rows come, and as exact as doubles are."""

import math
from fractions import Fraction

import numpy as np
import pytest

from wardian.learning.shared.exact import (
    BLOCK_ROWS,
    LEAST_DEVIATION,
    Powers,
    Products,
    dot,
    exponents_of,
    moments_of,
    plus,
    split,
)

CHANCE = np.random.default_rng(7)
SCALES = np.array([1.0, 1e-9, 1e7, 0.0, 1e100, 1e-100])
VALUES = CHANCE.normal(size=(6, 20_000)) * SCALES[:, None]
VALUES[3] = 0.1
GRIDS = exponents_of(np.abs(VALUES).max(axis=1))


def summed(values: np.ndarray, step: int) -> Products:
    found = Products(7, 7)
    for begin in range(0, values.shape[1], step):
        some = values[:, begin : begin + step]
        parts = split(np.vstack([np.ones((1, some.shape[1])), some]), np.append(0, GRIDS))
        found.add(parts, parts)
    return found


def test_neither_order_nor_pieces_change_a_bit() -> None:
    first = summed(VALUES, BLOCK_ROWS)
    for step in (1777, 4096):
        mixed = VALUES[:, CHANCE.permutation(VALUES.shape[1])]
        assert (summed(mixed, step).total() == first.total()).all()
    halves = plus(summed(VALUES[:, :7001], 999), summed(VALUES[:, 7001:], BLOCK_ROWS))
    assert (halves.total() == first.total()).all()


def test_moments_are_those_of_rational_numbers() -> None:
    found = moments_of(summed(VALUES, BLOCK_ROWS), GRIDS)
    assert found.rows == 20_000
    for at in range(6):
        exact = [Fraction(each) for each in VALUES[at].tolist()]
        mean = sum(exact) / len(exact)
        assert found.mean[at] == pytest.approx(float(mean), rel=1e-12, abs=1e-15 * SCALES[at])
        if at != 3:
            expected = VALUES[at].std() if SCALES[at] > LEAST_DEVIATION else 1.0
            assert found.deviation[at] == pytest.approx(expected, rel=1e-12)


def test_a_row_has_its_product_wherever_it_stands() -> None:
    weights = CHANCE.normal(size=(3, 6)) / np.ldexp(1.0, GRIDS)
    some = VALUES[:, :BLOCK_ROWS]
    found = dot(weights, GRIDS, split(some, GRIDS))
    assert np.allclose(found, weights @ some, rtol=1e-13, atol=1e-14)
    order = CHANCE.permutation(BLOCK_ROWS)
    for rows in (order, order[:1], order[:1001]):
        assert (dot(weights, GRIDS, split(some[:, rows], GRIDS)) == found[:, rows]).all()


def test_functions_of_numpy_see_no_place_either() -> None:
    values = CHANCE.normal(size=4099) * 30
    for function in (np.exp, np.log1p):
        whole = function(np.abs(values))
        for begin in range(9):
            assert (function(np.abs(values[begin:])) == whole[begin:]).all()


def test_counts_means_and_deviations() -> None:
    there = np.ones(VALUES.shape, bool)
    there[0, ::3] = False
    there[1] = False
    there[2] = np.arange(20_000) == 5
    powers = Powers(6)
    for begin in range(0, 20_000, 3333):
        part = slice(begin, begin + 3333)
        powers.add(there[:, part], split(np.where(there, VALUES, 0.0)[:, part], GRIDS))
    found = powers.moments(GRIDS)
    had = VALUES[0][there[0]]
    assert found[0][0] == len(had)
    assert found[0][1] == pytest.approx(math.fsum(had) / len(had), abs=1e-15)
    assert found[0][2] == pytest.approx(had.std(ddof=1), rel=1e-13)
    assert found[1] == (0, 0.0, None)
    assert found[2] == (1, pytest.approx(VALUES[2, 5], rel=1e-14), None)
    assert found[3][2] == 0.0  # a constant has none, to the last bit
