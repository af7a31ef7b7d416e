"""Numbers that a seed draws."""

import numpy as np

from wardian.learning.vertical.drawn import Drawn


def test_the_same_seed_draws_the_same_and_another_one_does_not() -> None:
    one, same, other = Drawn(3), Drawn(3), Drawn(4)
    assert np.array_equal(one.normal(5, 2), same.normal(5, 2))
    assert np.array_equal(one.permutation(50), same.permutation(50))
    assert not np.array_equal(Drawn(3).normal(5, 2), other.normal(5, 2))


def test_they_never_change() -> None:
    """A run that goes on after an upgrade draws the order of its records anew, by the seed."""
    assert Drawn(0).permutation(8).tolist() == EXPECTED
    assert np.allclose(Drawn(0).normal(2), NORMALS, rtol=0, atol=1e-12)


def test_they_are_normal_and_every_record_has_its_turn() -> None:
    found = Drawn(1).normal(100_000)
    assert abs(found.mean()) < 0.02
    assert abs(found.std() - 1) < 0.02
    assert sorted(Drawn(1).permutation(1000).tolist()) == list(range(1000))


EXPECTED = [3, 2, 4, 0, 1, 5, 6, 7]
NORMALS = [-0.11444308228326412, 1.1756297399856017]
