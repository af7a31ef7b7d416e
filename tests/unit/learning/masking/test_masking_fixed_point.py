"""Values in, whole numbers out: exact at the limits, refused beyond them."""

import numpy as np
import pytest
from simulators.masked_round import World

from wardian.errors import ConfigError, FormatError, LocalProtocolError
from wardian.learning.masking.fixed_point import MAX_SUM, FixedPoint

PLAIN = {"fraction_bits": 16, "bound": 8.0, "max_weight": 100, "parties": 5}
EXACT = FixedPoint(
    fraction_bits=0, bound=337.0 * 92737 * 649657, max_weight=7 * 73 * 127, parties=7
)
"""The bound, the largest weight and the roster multiply to 2^63 - 1."""


def added(*vectors):
    total = np.zeros_like(vectors[0])
    for vector in vectors:
        total += vector
    return total


def test_values_come_back():
    codec = FixedPoint(**PLAIN)
    values = np.array([0.0, -0.0, 8.0, -8.0, 2.0**-16, -(2.0**-16), 2.0**-18, 1.23456789])
    mean, weight = codec.decode(codec.encode(values, weight=3))
    assert weight == 3
    assert mean[:6].tolist() == values[:6].tolist()
    assert mean[6] == 0
    assert abs(mean[7] - values[7]) <= 2.0**-17


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_kinds_of_floating_point(kind):
    codec = FixedPoint(**PLAIN)
    values = np.linspace(-8, 8, 2**17 + 3).astype(kind)  # several blocks
    mean, _ = codec.decode(codec.encode(values, weight=1))
    assert np.abs(mean - values).max() <= 2.0**-17


def test_the_sum_is_that_of_the_rounded_values():
    codec = FixedPoint(**PLAIN)
    source = np.random.default_rng(1)
    updates, weights = source.uniform(-8, 8, (5, 1000)), source.integers(1, 101, 5)
    total = added(*(codec.encode(u, weight=int(w)) for u, w in zip(updates, weights, strict=True)))
    steps = np.rint(updates * 2**16).astype(object)  # Python's integers
    wanted = (steps * weights[:, None].astype(object)).sum(axis=0)
    assert [int(each) for each in total[:-1].view(np.int64)] == wanted.tolist()
    assert total[-1] == weights.sum()


@pytest.mark.parametrize("value", [8.0001, -8.0001, 1e300, -1e300, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 70_000, 99_999])
def test_what_does_not_fit_is_refused(value, place):
    codec = FixedPoint(**PLAIN)
    values = np.zeros(100_000)
    values[place] = value
    with pytest.raises(FormatError, match="not finite") as caught:
        codec.encode(values, weight=1)
    assert str(value) not in str(caught.value)


@pytest.mark.parametrize("weight", [0, -1, 101, 2**64])
def test_weights_out_of_range(weight):
    with pytest.raises(FormatError, match="weight"):
        FixedPoint(**PLAIN).encode(np.zeros(3), weight=weight)


@pytest.mark.parametrize("values", [np.zeros(3, np.int64), np.zeros((3, 1)), np.zeros(3, bool)])
def test_other_arrays_are_not_encoded(values):
    with pytest.raises(LocalProtocolError):
        FixedPoint(**PLAIN).encode(values, weight=1)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_that_there_can_be(sign):
    assert EXACT.limit * EXACT.max_weight * EXACT.parties == MAX_SUM
    vector = EXACT.encode(np.full(3, sign * EXACT.bound), weight=EXACT.max_weight)
    total = added(*[vector] * 7)
    assert total.view(np.int64).tolist() == [*[sign * MAX_SUM] * 3, 7 * EXACT.max_weight]
    mean, weight = EXACT.decode(total)
    assert mean.tolist() == [sign * EXACT.bound] * 3
    assert weight == 7 * EXACT.max_weight


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_under_masks(sign):
    world = World(count=7, elements=4)
    vector = EXACT.encode(np.full(3, sign * EXACT.bound), weight=EXACT.max_weight)
    world.vectors = dict.fromkeys(world.names, vector)
    total, _ = world.whole({"party-003": 4})
    assert total.view(np.int64).tolist() == [*[sign * MAX_SUM] * 3, 7 * EXACT.max_weight]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fraction_bits": -1}, "fraction_bits"),
        ({"fraction_bits": 53}, "fraction_bits"),
        ({"bound": 0.0}, "bound"),
        ({"bound": -1.0}, "bound"),
        ({"bound": float("nan")}, "bound"),
        ({"bound": float("inf")}, "bound"),
        ({"bound": 2.0**-18}, "one step"),
        ({"max_weight": 0}, "max_weight"),
        ({"parties": 0}, "parties"),
        ({"bound": 2.0**46}, "wrap"),
        ({"max_weight": 2**45}, "wrap"),
        ({"parties": 2**45}, "wrap"),
    ],
)
def test_forms_that_are_refused(changes, named):
    with pytest.raises(ConfigError, match=named):
        FixedPoint(**{**PLAIN, **changes})


def test_one_party_more_than_the_largest_sum_bears():
    settings = {"fraction_bits": 0, "bound": EXACT.bound, "max_weight": EXACT.max_weight}
    with pytest.raises(ConfigError, match="a sum of 8 parties could wrap"):
        FixedPoint(**settings, parties=8)
    with pytest.raises(ConfigError, match="wrap"):
        FixedPoint(**{**settings, "max_weight": EXACT.max_weight + 1}, parties=7)


def test_a_sum_that_nobody_within_the_bounds_made():
    codec = FixedPoint(**PLAIN)
    total = codec.encode(np.full(3, 8.0), weight=2)
    codec.decode(total)
    for place, number in ((0, 2 * codec.limit + 1), (1, -2 * codec.limit - 1), (2, -(2**63))):
        wrong = total.copy()
        wrong.view(np.int64)[place] = number
        with pytest.raises(FormatError, match="did not keep to the bounds"):
            codec.decode(wrong)
    for weight in (0, -1, 501, -(2**63), 2**63 - 1):
        wrong = total.copy()
        wrong.view(np.int64)[3] = weight
        with pytest.raises(FormatError, match="did not keep to the bounds"):
            codec.decode(wrong)


def test_a_vector_of_nothing_but_its_weight():
    codec = FixedPoint(**PLAIN)
    mean, weight = codec.decode(codec.encode(np.zeros(0), weight=4))
    assert (mean.size, weight) == (0, 4)
