"""Shares of a key: any n put it together, fewer learn nothing, and a wrong one is named."""

import importlib.util
import itertools
import json
import random
from pathlib import Path

import pytest

from wardian.crypto import shamir
from wardian.crypto.secret import Secret
from wardian.crypto.shamir import Share, ShareSet, combine, evaluate, split
from wardian.errors import AuthenticationFailed, LocalProtocolError, PolicyDenied

VECTORS = Path(__file__).parents[2] / "vectors" / "shamir"
SECRET = Secret(bytes(range(32)))


def vectors() -> list[dict]:
    return json.loads((VECTORS / "vectors.json").read_text())


def set_of(vector: dict) -> tuple[ShareSet, list[Share]]:
    set_id = bytes.fromhex(vector["set_id"])
    shares = [
        Share(set_id=set_id, index=index, value=Secret(bytes.fromhex(value)))
        for index, value in enumerate(vector["shares"], start=1)
    ]
    commitments = tuple(bytes.fromhex(each) for each in vector["commitments"])
    return ShareSet(set_id=set_id, threshold=vector["threshold"], commitments=commitments), shares


# Frozen vectors


def test_the_vectors_are_what_their_script_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_shamir", VECTORS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.make() == (VECTORS / "vectors.json").read_text()


@pytest.mark.parametrize(
    "vector", vectors(), ids=lambda each: f"{each['threshold']}-{len(each['shares'])}"
)
def test_vectors(vector: dict) -> None:
    share_set, shares = set_of(vector)
    polynomials = [bytes.fromhex(each) for each in (vector["secret"], *vector["coefficients"])]
    for share in shares:
        share_set.verify(share)
        assert evaluate(polynomials, [share.index]) == [share.value.reveal()]
    source, n = random.Random(1), share_set.threshold
    for _ in range(5):
        chosen = source.sample(shares, source.randint(n, len(shares)))
        assert combine(chosen, share_set).reveal().hex() == vector["secret"]
    if n > 2:
        with pytest.raises(PolicyDenied) as caught:
            combine(shares[: n - 1], share_set)
        assert caught.value.rule == "share-threshold"


# The field


def test_products_of_fips_197() -> None:
    assert shamir._times(0x57, 0x83) == 0xC1
    assert shamir._times(0x57, 0x13) == 0xFE


def test_it_is_a_field() -> None:
    elements = range(256)
    for one in elements:
        assert shamir._times(one, 1) == one
        assert shamir._times(one, 0) == 0
        assert shamir._times(one, 2) == shamir._doubled(one)
        if one:
            assert shamir._times(one, shamir._inverse(one)) == 1
    for one, other, third in itertools.product((1, 2, 0x57, 0x83, 0xFF), repeat=3):
        assert shamir._times(one, other) == shamir._times(other, one)
        assert shamir._times(one, other ^ third) == shamir._times(one, other) ^ shamir._times(
            one, third
        )


def test_many_elements_at_once_are_each_multiplied() -> None:
    values = SECRET.reveal()
    multiples = shamir._multiples(int.from_bytes(values))
    for factor in range(256):
        each = bytes(shamir._times(value, factor) for value in values)
        assert shamir._scaled(int.from_bytes(values), factor).to_bytes(32) == each
        assert multiples[factor].to_bytes(32) == each


# Sharing


@pytest.mark.parametrize(("threshold", "shares"), [(2, 2), (2, 3), (3, 5), (4, 6)])
def test_every_set_of_enough_shares_gives_the_secret(threshold: int, shares: int) -> None:
    share_set, dealt = split(SECRET, threshold=threshold, shares=shares)
    for size in range(threshold, shares + 1):
        for chosen in itertools.permutations(dealt, size):
            assert combine(chosen, share_set) == SECRET
    for chosen in itertools.combinations(dealt, threshold - 1):
        with pytest.raises(PolicyDenied) as caught:
            combine(chosen, share_set)
        assert caught.value.rule == "share-threshold"


def test_fewer_shares_say_nothing() -> None:
    """One share short, every secret fits the shares equally: for any guess there is a last share."""
    share_set, dealt = split(SECRET, threshold=3, shares=3)
    known = [(share.index, share.value.reveal()[0]) for share in dealt[:2]]
    fitting = set()
    for value in range(256):
        points = [*known, (3, value)]
        secret = 0
        for index, point in points:
            secret ^= shamir._times(point, shamir._at_zero(index, [each for each, _ in points]))
        fitting.add(secret)
    assert fitting == set(range(256))
    assert share_set.threshold == 3


def test_each_sharing_is_another_one() -> None:
    first, second = split(SECRET, threshold=2, shares=3), split(SECRET, threshold=2, shares=3)
    assert first[0].set_id != second[0].set_id
    values = {share.value.reveal() for share in (*first[1], *second[1])}
    assert len(values) == 6
    assert SECRET.reveal() not in values
    assert SECRET.reveal() not in first[0].commitments


def test_the_largest_sharing() -> None:
    share_set, dealt = split(SECRET, threshold=2, shares=255)
    assert combine([dealt[0], dealt[254]], share_set) == SECRET
    share_set, dealt = split(SECRET, threshold=255, shares=255)
    assert combine(dealt, share_set) == SECRET


def test_a_sharing_that_is_named() -> None:
    share_set, dealt = split(SECRET, threshold=2, shares=3, set_id=b"one of this name")
    assert share_set.set_id == b"one of this name"
    assert combine(dealt[1:], share_set) == SECRET


# Attacks


def test_a_wrong_share_is_found_and_named() -> None:
    share_set, dealt = split(SECRET, threshold=3, shares=5)
    for position in range(32):
        value = bytearray(dealt[2].value.reveal())
        value[position] ^= 1
        wrong = Share(set_id=share_set.set_id, index=3, value=Secret(value))
        with pytest.raises(AuthenticationFailed, match="share 3 is not the one"):
            combine([dealt[0], dealt[1], wrong], share_set)
    moved = Share(set_id=share_set.set_id, index=4, value=dealt[2].value)
    with pytest.raises(AuthenticationFailed, match="share 4"):
        combine([dealt[0], dealt[1], moved], share_set)


def test_a_share_of_another_sharing() -> None:
    share_set, dealt = split(SECRET, threshold=2, shares=3)
    _, others = split(SECRET, threshold=2, shares=3)
    for foreign in (
        others[1],
        *(Share(set_id=share_set.set_id, index=index, value=SECRET) for index in (0, 4, -1, 255)),
    ):
        with pytest.raises(PolicyDenied) as caught:
            combine([dealt[0], foreign], share_set)
        assert caught.value.rule == "share-set"
    relabelled = Share(set_id=share_set.set_id, index=2, value=others[1].value)
    with pytest.raises(AuthenticationFailed):
        combine([dealt[0], relabelled], share_set)


def test_one_share_twice() -> None:
    share_set, dealt = split(SECRET, threshold=2, shares=3)
    with pytest.raises(PolicyDenied) as caught:
        combine([dealt[0], dealt[0]], share_set)
    assert caught.value.rule == "share-once"


def test_a_threshold_that_somebody_lowered() -> None:
    share_set, dealt = split(SECRET, threshold=3, shares=5)
    lowered = ShareSet(set_id=share_set.set_id, threshold=2, commitments=share_set.commitments)
    with pytest.raises(AuthenticationFailed):
        combine(dealt[:2], lowered)


@pytest.mark.parametrize(
    ("threshold", "shares"), [(1, 1), (1, 3), (0, 3), (4, 3), (2, 256), (256, 256), (-1, 3)]
)
def test_numbers_out_of_range(threshold: int, shares: int) -> None:
    with pytest.raises(LocalProtocolError):
        split(SECRET, threshold=threshold, shares=shares)
    with pytest.raises(LocalProtocolError):
        split(Secret(bytes(31)), threshold=2, shares=3)


def test_a_share_prints_without_its_value() -> None:
    _, dealt = split(SECRET, threshold=2, shares=2)
    assert dealt[0].value.reveal().hex() not in repr(dealt[0])
    assert "Secret(32 bytes)" in repr(dealt[0])
