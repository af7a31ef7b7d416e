"""No party moves the private mean by more than the accountant is told, whatever it sends."""

from fractions import Fraction

import numpy as np
import pytest
from privacy_samples import Silence, cohort, model, moved, randomness, replies

from wardian.errors import ConfigError, FormatError
from wardian.learning import replies as replies_module
from wardian.learning.arrays import ArrayRecord
from wardian.learning.content import chunks, specs_of
from wardian.learning.privacy.mean import clipped_sums, measure, private_mean
from wardian.learning.privacy.noise import SCALE
from wardian.learning.records import MetricRecord, RecordDict
from wardian.learning.staging import StagedReplies, Staging


def sums(answers, arrays, *, clip, noise) -> list[int]:
    """Return the clipped sum over all arrays, in steps of the grid, as Python's whole numbers."""
    measured = measure(answers, "arrays", arrays)
    found = clipped_sums(answers, "arrays", arrays, measured, clip=clip, noise=noise)
    return [int(each) for _, total in found for each in total]


def square(vector) -> int:
    return sum(each * each for each in vector)


def bound(noise: float) -> Fraction:
    """Return the square of the longest that a party's part may be, exactly."""
    return (Fraction(SCALE) / Fraction(noise)) ** 2


def flat(arrays: ArrayRecord) -> np.ndarray:
    return np.concatenate([each.reshape(-1).astype(np.float64) for each in arrays.values()])


# Clipping


@pytest.mark.parametrize("noise", [0.01, 0.7, 1.0, 3.3, 1000.0])
@pytest.mark.parametrize("length", [0.999999, 1.0, 1.0000001, 1.5, 50.0, 1e30])
def test_no_part_is_longer_than_the_bound_exactly(length, noise):
    arrays = model("float64")
    for seed in range(20):
        part = sums(replies({"p": moved(arrays, length, seed=seed)}), arrays, clip=1.0, noise=noise)
        assert square(part) <= bound(noise)
        assert square(part) >= bound(noise) * Fraction(999_990, 1_000_000) or noise == 1000.0


def test_what_is_within_the_bound_is_not_altered():
    arrays = model("float64")
    update = moved(arrays, 0.5, seed=1)
    part = np.array(sums(replies({"p": update}), arrays, clip=1.0, noise=0.5))
    step = 0.5 / SCALE
    assert np.allclose(part * step, flat(update) - flat(arrays), rtol=0, atol=step)


def test_it_is_scaled_and_not_cut_coordinate_by_coordinate():
    arrays = model("float64")
    update = moved(arrays, 40.0, seed=1)
    part = np.array(sums(replies({"p": update}), arrays, clip=2.0, noise=1.0)) * 2.0 / SCALE
    wanted = (flat(update) - flat(arrays)) / 20
    assert np.allclose(part, wanted, rtol=0, atol=1e-6)


def test_without_noise_it_is_the_even_mean_of_clipped_updates():
    arrays = model("float64")
    answers = cohort(arrays, [0.1, 0.9, 3.0, 12.0])
    made = private_mean(
        answers, "arrays", arrays, clip=1.0, noise=1.0, expected=4, random=Silence()
    )
    wanted = np.zeros(len(flat(arrays)))
    for place, length in enumerate([0.1, 0.9, 3.0, 12.0]):
        update = flat(moved(arrays, length, seed=100 + place)) - flat(arrays)
        wanted += update * min(1, 1 / np.linalg.norm(update)) / 4
    assert np.allclose(flat(made), flat(arrays) + wanted, rtol=0, atol=1e-6)
    assert made.fits(arrays)


def test_the_sum_is_divided_by_the_expected_number_whoever_came():
    arrays = model("float64")
    answers = cohort(arrays, [0.5, 0.5])

    def change(expected: int) -> np.ndarray:
        made = private_mean(
            answers, "arrays", arrays, clip=1.0, noise=1.0, expected=expected, random=Silence()
        )
        return flat(made) - flat(arrays)

    assert np.allclose(change(2), 5 * change(10))


def test_a_party_that_claims_many_records_counts_no_more():
    arrays = model()
    update = moved(arrays, 0.5, seed=1)
    one = sums(replies({"a": update, "b": arrays}), arrays, clip=1.0, noise=1.0)
    other = sums(replies({"a": arrays, "b": update}), arrays, clip=1.0, noise=1.0)
    assert one == other


# Sensitivity


@pytest.mark.parametrize("length", [0.3, 1.0, 100.0, 1e200, np.inf, np.nan])
@pytest.mark.parametrize("noise", [0.3, 1.0, 2.5])
def test_adding_removing_or_replacing_a_party(noise, length):
    arrays = model("float64")
    others = {f"p{place}": moved(arrays, 2.0**place / 8, seed=place) for place in range(7)}
    with np.errstate(invalid="ignore"):
        victim = moved(arrays, length, seed=50)
    without = sums(replies(others), arrays, clip=1.0, noise=noise)
    present = sums(replies({**others, "v": victim}), arrays, clip=1.0, noise=noise)
    silent = sums(replies({**others, "v": arrays}), arrays, clip=1.0, noise=noise)
    against = ArrayRecord(
        {n: 2 * arrays[n] - each for n, each in moved(arrays, 9, seed=50).items()}
    )
    replaced = sums(replies({**others, "v": against}), arrays, clip=1.0, noise=noise)
    assert silent == without
    assert square(a - b for a, b in zip(present, without, strict=True)) <= bound(noise)
    assert square(a - b for a, b in zip(present, replaced, strict=True)) <= 4 * bound(noise)
    if length == 100.0:  # the bounds are not idle
        assert square(a - b for a, b in zip(present, without, strict=True)) > 0.99 * bound(noise)
        assert square(a - b for a, b in zip(present, replaced, strict=True)) > 3.9 * bound(noise)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.7e308, -1.7e308, 1e200])
def test_numbers_beyond_the_arithmetic_count_as_nothing_sent(value):
    arrays = model("float64")
    poisoned = {name: each.copy() for name, each in arrays.items()}
    poisoned["weight"][3, 2] = value
    poisoned["bias"][0] = -value
    good = {"a": moved(arrays, 0.5, seed=1), "c": moved(arrays, 0.5, seed=2)}
    assert sums(replies({**good, "b": ArrayRecord(poisoned)}), arrays, clip=1.0, noise=1.0) == sums(
        replies(good), arrays, clip=1.0, noise=1.0
    )


def test_an_update_scaled_a_hundred_times_moves_the_model_by_one_clip():
    arrays = model("float64")
    honest = {f"p{place}": moved(arrays, 0.5, seed=place) for place in range(9)}

    def made(attacker: ArrayRecord) -> np.ndarray:
        answers = replies({**honest, "x": attacker})
        return flat(
            private_mean(
                answers, "arrays", arrays, clip=1.0, noise=1.0, expected=10, random=Silence()
            )
        )

    change = made(moved(arrays, 100.0, seed=77)) - made(arrays)
    assert np.linalg.norm(change) == pytest.approx(0.1, rel=1e-5)


# The same result again


def test_the_order_of_arrival_and_the_blocks_do_not_matter(monkeypatch):
    arrays = model("float64")
    updates = {f"p{place}": moved(arrays, 2.0, seed=place) for place in range(5)}
    expected = sums(replies(updates), arrays, clip=1.0, noise=1.0)
    backwards = dict(reversed(updates.items()))
    settings = {"clip": 1.0, "noise": 1.0, "expected": 5}
    made = private_mean(replies(updates), "arrays", arrays, random=randomness(), **settings)
    assert made == private_mean(
        replies(backwards), "arrays", arrays, random=randomness(), **settings
    )
    for size in (8, 24, 32):
        monkeypatch.setattr(replies_module, "BLOCK_BYTES", size)
        assert sums(replies(backwards), arrays, clip=1.0, noise=1.0) == expected


def test_answers_that_lie_sealed_on_disk_give_the_same(tmp_path):
    arrays = ArrayRecord({"a": np.zeros(300_000), "b": np.zeros(5, np.float32)})  # three blocks
    updates = {f"p{place}": moved(arrays, 2.0, seed=place) for place in range(3)}
    staged = {}
    for party, each in updates.items():
        content = RecordDict({"arrays": each, "metrics": MetricRecord({"num-examples": 1})})
        staged[party] = Staging(specs_of(content), spill=tmp_path / party)
        for pieces in chunks(content):
            staged[party].space()[:] = b"".join(pieces)
            staged[party].filled()
        staged[party].finish()
    settings = {"clip": 1.0, "noise": 1.0, "expected": 3, "random": randomness()}
    held = private_mean(replies(updates), "arrays", arrays, **settings)
    assert private_mean(StagedReplies(staged), "arrays", arrays, **settings) == held
    drawn = held["a"] * 3
    assert abs(np.corrcoef(drawn[:131_072], drawn[131_072:262_144])[0, 1]) < 4 / np.sqrt(131_072)
    for each in staged.values():
        each.drop()


def test_what_went_in_decides_on_the_noise():
    arrays = model()
    updates = {f"p{place}": moved(arrays, 0.5, seed=place) for place in range(4)}
    settings = {"clip": 1.0, "noise": 1.0, "expected": 4}
    asked = []

    def ask(answers, record=arrays, **changed):
        silence = Silence()
        private_mean(answers, "arrays", record, random=silence, **{**settings, **changed})
        asked.extend(silence.asked)

    ask(replies(updates))
    ask(replies({**updates, "p3": arrays}))
    ask(replies({**updates, "q": arrays}))
    ask(replies({"q0": updates["p0"], **{n: updates[n] for n in ("p1", "p2", "p3")}}))
    ask(replies(updates), model(seed=1))
    ask(replies(updates), clip=2.0)
    ask(replies(updates), noise=2.0)
    ask(replies(updates), expected=5)
    assert len(asked) == 8
    assert len(set(asked)) == 8
    assert all(len(each) == 32 for each in asked)
    ask(replies(updates))
    assert asked[8] == asked[0]


def test_another_cohort_in_the_same_round_does_not_show_who_left():
    # T16: with the same noise, the difference of two results would be the update of who left.
    arrays = ArrayRecord({"w": np.zeros(20_000)})
    updates = {
        f"p{place}": ArrayRecord({"w": np.random.default_rng(place).normal(size=20_000)})
        for place in range(5)
    }
    settings = {"clip": 1.0, "noise": 1.0, "expected": 5, "random": randomness()}
    with_victim = private_mean(replies(updates), "arrays", arrays, **settings)
    del updates["p2"]
    without = private_mean(replies(updates), "arrays", arrays, **settings)
    difference = (with_victim["w"] - without["w"]) * 5
    assert np.std(difference) == pytest.approx(np.sqrt(2), rel=0.05)  # two draws, not none


# Noise


@pytest.mark.parametrize(("clip", "noise", "expected"), [(1.0, 1.0, 10), (0.25, 2.0, 3)])
def test_the_noise_has_its_size_and_is_independent_between_arrays(clip, noise, expected):
    arrays = ArrayRecord({"a": np.zeros(50_000, np.float32), "b": np.zeros(50_000)})
    answers = replies({"p": arrays})
    made = private_mean(
        answers, "arrays", arrays, clip=clip, noise=noise, expected=expected, random=randomness()
    )
    sigma = clip * noise / expected
    for array in made.values():
        assert np.std(array) == pytest.approx(sigma, rel=0.02)
        assert abs(np.mean(array)) < 4 * sigma / np.sqrt(array.size)
    correlation = np.corrcoef(made["a"].astype(np.float64), made["b"])[0, 1]
    assert abs(correlation) < 4 / np.sqrt(50_000)


def test_rounds_have_independent_noise():
    arrays = ArrayRecord({"a": np.zeros(50_000)})
    settings = {"clip": 1.0, "noise": 1.0, "expected": 1}
    one, other = (
        private_mean(
            replies({"p": arrays}), "arrays", arrays, random=randomness(number), **settings
        )
        for number in (1, 2)
    )
    assert abs(np.corrcoef(one["a"], other["a"])[0, 1]) < 4 / np.sqrt(50_000)


def test_results_lie_on_the_grid():
    arrays = ArrayRecord({"a": np.zeros(1000)})
    made = private_mean(
        replies({"p": arrays}), "arrays", arrays,
        clip=1.0, noise=1.0, expected=1, random=randomness(),
    )  # fmt: skip
    steps = made["a"] * SCALE
    assert np.array_equal(steps, np.rint(steps))


# What is refused


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, 1e-300, 1e300])
@pytest.mark.parametrize("name", ["clip", "noise"])
def test_settings_out_of_range(name, bad):
    arrays = model()
    settings = {"clip": 1.0, "noise": 1.0, "expected": 1, name: bad}
    silence = Silence()
    with pytest.raises(ConfigError, match=name):
        private_mean(replies({"p": arrays}), "arrays", arrays, random=silence, **settings)
    assert silence.asked == []


@pytest.mark.parametrize("bad", [0, -3, 2**21])
def test_an_expected_number_that_is_none(bad):
    arrays = model()
    with pytest.raises(ConfigError, match="expected"):
        private_mean(
            replies({"p": arrays}), "arrays", arrays,
            clip=1.0, noise=1.0, expected=bad, random=Silence(),
        )  # fmt: skip


@pytest.mark.parametrize("other", [["weight"], ["bias", "weight"], ["weight", "bias", "more"]])
def test_arrays_that_are_not_those_of_the_model(other):
    arrays = ArrayRecord({"weight": np.zeros(3), "bias": np.zeros(2)})
    update = ArrayRecord({name: np.zeros(2 if name == "bias" else 3) for name in other})
    silence = Silence()
    for answer in (update, ArrayRecord({"weight": np.zeros(4), "bias": np.zeros(2)})):
        with pytest.raises(FormatError, match="arrays"):
            private_mean(
                replies({"p": answer}), "arrays", arrays,
                clip=1.0, noise=1.0, expected=1, random=silence,
            )  # fmt: skip
    assert silence.asked == []


def test_more_parties_than_the_sums_have_room_for():
    class Crowd:
        parties = ("p",) * (2**20 + 1)

    with pytest.raises(ConfigError, match="parties"):
        measure(Crowd(), "arrays", model())


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8", "bool"])
def test_arrays_that_are_not_of_floating_point(dtype):
    arrays = ArrayRecord({"w": np.zeros(3), "steps": np.zeros(3, dtype)})
    with pytest.raises(ConfigError, match="steps"):
        private_mean(
            replies({"p": arrays}), "arrays", arrays,
            clip=1.0, noise=1.0, expected=1, random=Silence(),
        )  # fmt: skip


def test_a_result_beyond_its_kind_names_the_array():
    arrays = ArrayRecord({"fine": np.zeros(3), "full": np.full(3, 65_504, np.float16)})
    update = ArrayRecord({"fine": np.zeros(3), "full": np.zeros(3, np.float16)})
    against = ArrayRecord(
        {"fine": np.zeros(3), "full": np.full(3, 65_504 - 32, np.float16)},
    )
    for answers in (replies({"p": update}), replies({"p": against})):
        private_mean(answers, "arrays", arrays, clip=1.0, noise=1.0, expected=1, random=Silence())
    with pytest.raises(FormatError, match="full"):
        private_mean(
            replies({"p": update}), "arrays", arrays,
            clip=2.0**20, noise=1.0, expected=1, random=randomness(),
        )  # fmt: skip
