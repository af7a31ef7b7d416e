"""The noise is the discrete Gaussian's, and nobody without the secret foresees it."""

import decimal
import struct

import numpy as np
import pytest
from scipy import stats

from wardian.crypto.keystream import Keystream
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError
from wardian.learning.privacy.noise import (
    SCALE,
    DiscreteGaussian,
    Randomness,
    accepted,
    threshold,
)

SECRET = Secret(bytes(range(32)))
RUN = b"r" * 32


def source(seed: int) -> DiscreteGaussian:
    return DiscreteGaussian(Keystream(Secret(seed.to_bytes(32))))


def proposal(*, zeros: int, within: int, minus: bool = False, drawn: int) -> bytes:
    """Return the 16 bytes that propose this candidate, with R being `drawn`, 87 bits."""
    head = 0 if zeros > 15 else (1 << zeros) | (0b101 << (zeros + 1))
    first = (head & 0xFFFF) << 48 | minus << 47 | within << 23 | drawn & (2**23 - 1)
    return struct.pack("<QQ", first, drawn >> 23)


# Its distribution


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_is_normal_at_large(seed):
    drawn = source(seed).draw(300_000) / SCALE
    assert stats.kstest(drawn, "norm").pvalue > 0.01


def test_it_is_normal_in_its_cells():
    drawn = source(4).draw(400_000)
    edges = np.linspace(-4, 4, 81)
    seen, _ = np.histogram(drawn / SCALE, [-np.inf, *edges, np.inf])
    likely = np.diff(stats.norm.cdf([-np.inf, *edges, np.inf]))
    assert stats.chisquare(seen, likely * len(drawn)).pvalue > 0.01


def test_every_number_of_the_grid_occurs_alike():
    low = source(5).draw(400_000) & 0xFF  # of minus numbers, too, in two's complement
    assert stats.chisquare(np.bincount(low, minlength=256)).pvalue > 0.01


def test_one_by_one_it_is_the_same_distribution():
    one_by_one = source(6)
    drawn = np.concatenate([one_by_one.draw(1) for _ in range(20_000)]) / SCALE
    assert stats.kstest(drawn, "norm").pvalue > 0.01


def test_neighbours_are_independent():
    drawn = source(7).draw(200_000) / SCALE
    for apart in (1, 2, 3, 64):
        assert abs(np.mean(drawn[apart:] * drawn[:-apart])) < 4 / np.sqrt(len(drawn))


def test_a_candidate_is_proposed_and_taken_as_often_as_its_density_says():
    # P(proposal) * p is proportional to exp(-y**2 / 2 s**2), to the 87 bits of the comparison.
    with decimal.localcontext(decimal.Context(prec=80)):
        unit = (decimal.Decimal(1) / 2).exp() / 4
        for zeros in range(8):
            for within in (0, 1, 12_345, SCALE // 3, SCALE - 1):
                size = within + zeros * SCALE
                density = (-decimal.Decimal(size**2) / (2 * SCALE**2)).exp()
                chance = decimal.Decimal(threshold(zeros, size)) / 2**87 / 2 ** (zeros + 1)
                assert abs(chance - density * unit) <= decimal.Decimal(2) ** -87


# The comparison is exact


@pytest.mark.parametrize("zeros", range(6))
@pytest.mark.parametrize("within", [0, 1, 777, SCALE // 2, SCALE - 1])
def test_the_last_bit_of_the_comparison_counts(zeros, within):
    size = within + zeros * SCALE
    bound = threshold(zeros, size)
    below = proposal(zeros=zeros, within=within, drawn=bound - 1)
    assert accepted(below).tolist() == [size]
    mirrored = proposal(zeros=zeros, within=within, minus=True, drawn=bound - 1)
    assert accepted(mirrored).tolist() == ([-size] if size else [])
    if bound < 2**87:
        assert accepted(proposal(zeros=zeros, within=within, drawn=bound)).tolist() == []


def test_it_is_what_whole_numbers_alone_make_of_the_stream():
    raw = Keystream(SECRET).take(16 * 5000)
    slowly = []
    for first, second in struct.iter_unpack("<QQ", raw):
        head, minus = first >> 48, first >> 47 & 1
        if not head:
            continue
        zeros = (head & -head).bit_length() - 1
        size = zeros * SCALE + (first >> 23 & (SCALE - 1))
        if (second << 23 | first & (2**23 - 1)) < threshold(zeros, size) and (size or not minus):
            slowly.append(-size if minus else size)
    assert accepted(raw).tolist() == slowly
    assert len(slowly) == pytest.approx(0.5166 * 5000, rel=0.05)


def test_minus_zero_is_no_number():
    assert accepted(proposal(zeros=0, within=0, minus=False, drawn=0)).tolist() == [0]
    assert accepted(proposal(zeros=0, within=0, minus=True, drawn=0)).tolist() == []


def test_sixteen_zeros_propose_nothing():
    assert accepted(proposal(zeros=16, within=0, drawn=0)).tolist() == []


@pytest.mark.parametrize("error", [-1e-14, 1e-14])
def test_another_processor_whose_exp_is_less_exact_draws_the_same(monkeypatch, error):
    expected = source(8).draw(50_000)
    exact, count = np.exp, 0

    def rough(values):
        nonlocal count
        count += 1
        return exact(values) * (1 + error)

    monkeypatch.setattr(np, "exp", rough)
    assert np.array_equal(source(8).draw(50_000), expected)
    assert count > 0


# Where it comes from


def test_the_same_round_of_the_same_inputs_has_the_same_noise():
    first = Randomness(SECRET, run=RUN, number=3).noise(b"i" * 32)
    again = Randomness(Secret(SECRET.reveal()), run=RUN, number=3).noise(b"i" * 32)
    assert np.array_equal(first.draw(1000), again.draw(1000))


def test_frozen():
    drawn = Randomness(SECRET, run=RUN, number=3).noise(b"i" * 32).draw(6)
    assert drawn.tolist() == FROZEN


FROZEN = [-17546717, -5793085, 148101, -2005122, -21711705, 12998622]


@pytest.mark.parametrize(
    "other",
    [
        (Secret(bytes(32)), RUN, 3, b"i" * 32),
        (SECRET, b"s" * 32, 3, b"i" * 32),
        (SECRET, RUN, 4, b"i" * 32),
        (SECRET, RUN, 3, b"j" * 32),
    ],
    ids=["secret", "run", "round", "inputs"],
)
def test_whatever_differs_makes_other_noise(other):
    secret, run, number, inputs = other
    first = Randomness(SECRET, run=RUN, number=3).noise(b"i" * 32).draw(20_000) / SCALE
    second = Randomness(secret, run=run, number=number).noise(inputs).draw(20_000) / SCALE
    assert abs(np.mean(first * second)) < 4 / np.sqrt(len(first))
    assert not set(first) <= set(second)


def test_a_short_secret_or_no_round():
    with pytest.raises(LocalProtocolError):
        Randomness(Secret(bytes(16)), run=RUN, number=1)
    with pytest.raises(LocalProtocolError):
        Randomness(SECRET, run=RUN, number=0)
    assert "0001" not in repr(Randomness(SECRET, run=RUN, number=1))
