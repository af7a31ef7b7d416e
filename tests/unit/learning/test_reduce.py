"""Updates become one: the same as plain numpy makes, whatever the order and the blocks."""

import itertools
import tracemalloc

import numpy as np
import pytest
from strategy_cases import held, model, reply

from wardian.errors import FormatError, JobFailed
from wardian.learning import replies as replies_module
from wardian.learning.arrays import DTYPES, ArrayRecord
from wardian.learning.reduce import (
    as_kind,
    examples,
    mean_metrics,
    median,
    squared_distances,
    trimmed_mean,
    weighted_mean,
)
from wardian.learning.replies import HeldReplies

PARTIES = 7
WEIGHTS = (3, 1, 4, 1, 5, 9, 2)


def updates(kind: str = "float32", parties: int = PARTIES) -> dict[str, ArrayRecord]:
    return {f"p{place}": model(place, kind=kind) for place in range(parties)}


def stacked(given: dict[str, ArrayRecord], name: str) -> np.ndarray:
    return np.stack([each[name].astype(np.float64) for each in given.values()])


def reductions():
    return {
        "mean": lambda r: weighted_mean(r, "arrays", WEIGHTS[: len(r.parties)]),
        "median": lambda r: median(r, "arrays"),
        "trimmed": lambda r: trimmed_mean(r, "arrays", 0.2),
    }


# Against plain numpy


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_weighted_mean(kind):
    given = updates(kind)
    found = weighted_mean(held(given), "arrays", WEIGHTS)
    assert found.fits(given["p0"])
    for name in ("weight", "scale"):
        expected = np.average(stacked(given, name), axis=0, weights=WEIGHTS)
        rtol = 1e-13 if kind == "float64" else np.finfo(kind).eps
        np.testing.assert_allclose(found[name], expected, rtol=rtol)
    expected = round(sum(w * p for p, w in enumerate(WEIGHTS)) / sum(WEIGHTS))
    assert found["batches"].tolist() == [expected]


@pytest.mark.parametrize("parties", [1, 2, 3, 6, 7])
def test_median(parties):
    given = updates("float64", parties)
    found = median(held(given), "arrays")
    for name in ("weight", "scale"):
        np.testing.assert_array_equal(found[name], np.median(stacked(given, name), axis=0))
    assert found.fits(given["p0"])


@pytest.mark.parametrize(("cut", "end"), [(0.01, 1), (1 / 7, 1), (0.2, 2), (0.3, 3), (0.428, 3)])
def test_trimmed_mean_rounds_up(cut, end):
    given = updates("float64")
    found = trimmed_mean(held(given), "arrays", cut)
    for name in ("weight", "scale"):
        inner = np.sort(stacked(given, name), axis=0)[end : PARTIES - end]
        np.testing.assert_allclose(found[name], inner.mean(axis=0), rtol=1e-13)


def test_a_share_of_seven_percent_of_a_hundred_is_seven():
    given = {
        f"p{place:02}": ArrayRecord({"x": np.array([float(place == 99)])}) for place in range(100)
    }
    outlier = {**given, "p98": ArrayRecord({"x": np.array([1.0])})}
    for place in range(92, 98):
        outlier[f"p{place}"] = ArrayRecord({"x": np.array([1.0])})
    assert sum(each["x"][0] for each in outlier.values()) == 8
    assert trimmed_mean(held(outlier), "arrays", 0.07)["x"][0] == pytest.approx(1 / 86)


@pytest.mark.parametrize(("parties", "cut"), [(1, 0.1), (2, 0.1), (4, 0.45)])
def test_nobody_is_left_after_the_cut(parties, cut):
    with pytest.raises(JobFailed, match="cannot be left out"):
        trimmed_mean(held(updates(parties=parties)), "arrays", cut)


def test_squared_distances():
    given = updates("float64")
    found = squared_distances(held(given), "arrays")
    flat = [np.append(each["weight"].ravel(), each["scale"]) for each in given.values()]
    for one, other in itertools.product(range(PARTIES), repeat=2):
        expected = ((flat[one] - flat[other]) ** 2).sum()
        assert found[one, other] == pytest.approx(expected, rel=1e-13)
    assert (found == found.T).all()
    assert (found.diagonal() == 0).all()


def test_counters_do_not_count_as_distance():
    given = {f"p{n}": ArrayRecord({"x": np.ones(2), "n": np.array([n * 1000])}) for n in range(3)}
    assert not squared_distances(held(given), "arrays").any()


def test_a_party_of_no_weight_is_not_looked_at():
    given = updates("float64")
    found = weighted_mean(held(given), "arrays", [0, 0, 1, 0, 0, 0, 0])
    assert found == given["p2"]


# Order and blocks


@pytest.mark.parametrize("name", ["mean", "median", "trimmed"])
def test_order_of_arrival_changes_no_bit(name):
    reduction, given = reductions()[name], updates()
    expected = reduction(held(given))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(list(given))
        assert reduction(held({party: given[party] for party in order})) == expected


@pytest.mark.parametrize("name", ["mean", "median", "trimmed"])
@pytest.mark.parametrize("block_bytes", [1, 4, 8, 12, 20, 136, 140, 144])
def test_blocks_change_no_bit(name, block_bytes, monkeypatch):
    """Of one coordinate, of some, of one less and one more than an array has."""
    reduction, given = reductions()[name], updates()
    expected = reduction(held(given))
    monkeypatch.setattr(replies_module, "BLOCK_BYTES", block_bytes)
    assert len(list(held(given).blocks("arrays"))) >= 3
    assert reduction(held(given)) == expected


def test_distances_over_blocks(monkeypatch):
    given = updates()
    expected = squared_distances(held(given), "arrays")
    monkeypatch.setattr(replies_module, "BLOCK_BYTES", 12)
    np.testing.assert_allclose(squared_distances(held(given), "arrays"), expected, rtol=1e-13)


def test_memory_is_the_parties_of_one_block_and_a_result():
    size, parties = 2_000_000, 4
    given = {f"p{n}": ArrayRecord({"x": np.full(size, n, np.float32)}) for n in range(parties)}
    for name, reduction in reductions().items():
        answers = held(given)
        tracemalloc.start()
        reduction(answers)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        block = parties * replies_module.BLOCK_BYTES
        assert peak < 4 * size + 6 * block, name  # float32 in float64, and sorted: 5 of them


# Kinds


@pytest.mark.parametrize("kind", [each for each in DTYPES if each != "bool"])
def test_what_all_agree_on_stays_as_it_is(kind):
    ends = np.iinfo(kind) if np.dtype(kind).kind in "iu" else np.finfo(kind)
    same = ArrayRecord({"x": np.array([ends.min, ends.max, 0, 1], kind)})
    given = held({"a": same, "b": same, "c": same})
    assert median(given, "arrays") == same
    assert trimmed_mean(given, "arrays", 0.1) == same
    if kind not in {"int64", "float64"}:  # in float64, thirds of large numbers are rounded
        assert weighted_mean(given, "arrays", [1, 1, 1]) == same


def test_whole_numbers_are_rounded_to_the_nearest():
    given = {f"p{n}": ArrayRecord({"x": np.array([n, -n, 3 * n], np.int8)}) for n in (0, 1, 1, 2)}
    found = weighted_mean(held(given), "arrays", [1, 1, 3])
    assert found["x"].tolist() == [1, -1, 4]  # of 1.4, -1.4, 4.2
    assert found["x"].dtype == np.int8


def test_truth_values_are_those_of_most():
    given = {f"p{n}": ArrayRecord({"x": np.array([True, n > 0, n > 1])}) for n in range(3)}
    for found in (weighted_mean(held(given), "arrays", [1, 1, 1]), median(held(given), "arrays")):
        assert found["x"].tolist() == [True, True, False]
        assert found["x"].dtype == np.bool_


# What cannot be held


def test_an_infinite_sum_names_its_array():
    large = np.finfo(np.float64).max
    big = ArrayRecord({"ok": np.ones(1), "big": np.array([large])})
    given = {f"p{n}": big for n in range(11)}  # 1/11 is rounded up: so is the mean
    with pytest.raises(FormatError, match="big"):
        trimmed_mean(held(given), "arrays", 0.1)
    with pytest.raises(FormatError, match="big"):
        weighted_mean(held(given), "arrays", [1] * 11)
    del given["p0"]
    with pytest.raises(FormatError, match="big"):
        median(held(given), "arrays")


@pytest.mark.parametrize(
    ("value", "kind"), [(1e39, "float32"), (1e5, "float16"), (-1e39, "float32")]
)
def test_what_its_kind_cannot_hold_is_refused(value, kind):
    with pytest.raises(FormatError, match=f"weight: larger than {kind}"):
        as_kind("weight", np.array([0.0, value]), kind)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["float32", "int64", "bool"])
def test_what_is_no_number_is_refused(value, kind):
    with pytest.raises(FormatError, match="weight"):
        as_kind("weight", np.array([0.0, value]), kind)


def test_nothing_warns_of_what_is_refused(recwarn):
    given = {f"p{n}": ArrayRecord({"x": np.array([1.7e308 * (-1) ** n])}) for n in range(4)}
    assert squared_distances(held(given), "arrays")[0].tolist() == [0, np.inf, 0, np.inf]
    assert not recwarn.list


# Metrics


def measured(**by_party) -> HeldReplies:
    arrays = ArrayRecord({"x": np.ones(1)})
    return HeldReplies({p: reply(arrays, **each) for p, each in by_party.items()})


def test_metrics_are_means_weighted_by_records():
    found = mean_metrics(
        measured(
            a={"examples": 1, "loss": 1.0, "each": [1, 2], "right": 1},
            b={"examples": 3, "loss": 5.0, "each": [5.0, 0.0], "right": 2},
        )
    )
    assert dict(found) == {"num-examples": 4, "loss": 4.0, "each": [4.0, 0.5], "right": 1.75}


def test_a_metric_that_a_party_has_not_or_has_otherwise_is_left_out():
    found = mean_metrics(
        measured(
            a={"loss": 1.0, "mine": 2.0, "list": [1.0], "mixed": [1.0], "none": []},
            b={"loss": 1.0, "other": 2.0, "list": [1.0, 2.0], "mixed": 1.0, "none": []},
        )
    )
    assert dict(found) == {"num-examples": 2, "loss": 1.0, "none": []}


def test_so_many_metrics_as_a_party_may_have_end_no_round():
    many = {f"a{n}": 1.0 for n in range(1023)}
    other = {f"b{n}": 1.0 for n in range(1023)}
    assert dict(mean_metrics(measured(a=many, b=other))) == {"num-examples": 2}
    assert len(mean_metrics(measured(a=many, b=many))) == 1024


def test_metrics_may_be_no_numbers():
    found = mean_metrics(
        measured(a={"loss": float("nan"), "x": 1.7e308}, b={"loss": 1.0, "x": 1.7e308})
    )
    assert np.isnan(found["loss"])
    assert found["x"] == pytest.approx(1.7e308)


@pytest.mark.parametrize("count", [0, -1, 1.0, [1], None])
def test_a_party_says_of_how_many_records_it_speaks(count):
    entries = {} if count is None else {"num-examples": count}
    from wardian.learning.records import MetricRecord

    arrays = {"arrays": ArrayRecord({"x": np.ones(1)})}
    with pytest.raises(FormatError, match="a: num-examples"):
        examples(HeldReplies({"a": (arrays, MetricRecord(entries))}))
