"""The clip follows the quantile that it is set to, and its bits cost what is accounted for."""

from fractions import Fraction

import numpy as np
import pytest
from privacy_samples import Silence, Silent, cohort, model, randomness, replies

from wardian.errors import ConfigError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.privacy.clipping import AdaptiveClip, FixedClip, PrivateMean, noisy_share
from wardian.learning.privacy.mean import clipped_sums, measure, private_mean
from wardian.learning.privacy.noise import SCALE


def test_the_constants_are_those_of_the_paper():
    clipping = AdaptiveClip()
    assert (clipping.initial, clipping.quantile, clipping.rate) == (0.1, 0.5, 0.2)
    assert clipping.noise_of_bits(100) == 5.0
    assert clipping.first() == 0.1


@pytest.mark.parametrize(("noise", "expected"), [(1.0, 100), (0.4, 10), (2.0, 1000)])
def test_update_and_bit_together_spend_one_release(noise, expected):
    clipping = AdaptiveClip()
    updates, bits = clipping.noise_of_updates(noise, expected), clipping.noise_of_bits(expected)
    assert updates > noise
    assert updates**-2 + (2 * bits) ** -2 == pytest.approx(noise**-2)


@pytest.mark.parametrize("noise", [0.3, 0.9, 1.4])
@pytest.mark.parametrize("length", [0.01, 1.0, 70.0])
def test_a_party_s_whole_part_is_no_longer_than_the_bound_exactly(noise, length):
    arrays = model("float64")
    answers = cohort(arrays, [length])
    clipping = AdaptiveClip(bit_noise=0.8)
    measured = measure(answers, "arrays", arrays)
    updates = clipping.noise_of_updates(noise, 1)
    found = clipped_sums(answers, "arrays", arrays, measured, clip=0.5, noise=updates)
    part = [int(each) for _, total in found for each in total]
    share = noisy_share(measured, clip=0.5, noise=0.8, expected=1, source=Silent())
    bit = round((share - 0.5) / 0.8 * SCALE)
    assert (bit > 0) == (length < 0.5)
    whole = sum(each * each for each in (*part, bit))
    assert whole <= (Fraction(SCALE) / Fraction(noise)) ** 2


def test_the_share_counts_who_was_not_clipped():
    arrays = model("float64")
    measured = measure(cohort(arrays, [0.1, 0.2, 0.3, 5.0]), "arrays", arrays)
    source = Silent()
    settings = {"noise": 1.0, "expected": 4, "source": source}
    shares = [noisy_share(measured, clip=clip, **settings) for clip in (0.05, 0.15, 0.25, 9.0)]
    assert shares == [0.0, 0.25, 0.5, 1.0]
    assert noisy_share(measured, clip=9.0, noise=1.0, expected=8, source=source) == 0.75


def test_the_share_s_noise_is_of_its_size():
    arrays = ArrayRecord({"w": np.zeros(3)})
    measured = measure(replies({"p": arrays}), "arrays", arrays)
    source = randomness().noise(b"i" * 32)
    drawn = [
        noisy_share(measured, clip=1.0, noise=5.0, expected=100, source=source) for _ in range(5000)
    ]
    assert np.std(drawn) == pytest.approx(0.05, rel=0.05)
    assert np.mean(drawn) == pytest.approx(0.505, abs=0.003)


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("initial", [0.01, 50.0])
def test_it_converges_to_the_quantile(quantile, initial):
    lengths = np.random.default_rng(3).lognormal(mean=1.0, sigma=0.5, size=200)
    arrays = ArrayRecord({"w": np.zeros(4)})
    answers = replies(
        {
            f"p{place:03}": ArrayRecord({"w": np.array([each, 0, 0, 0])})
            for place, each in enumerate(lengths)
        }
    )
    mean = PrivateMean(AdaptiveClip(initial=initial, quantile=quantile), noise=1.0, expected=200)
    clip, clips = initial, []
    for number in range(1, 121):
        _, clip = mean.make(answers, "arrays", arrays, clip=clip, random=randomness(number))
        clips.append(clip)
    reached = np.mean(np.array(clips[-30:])[:, None] >= lengths)
    assert reached == pytest.approx(quantile, abs=0.04)


def test_a_step_is_geometric():
    clipping = AdaptiveClip(rate=0.2, quantile=0.5)
    assert clipping.next(1.0, 0.5) == 1.0
    assert clipping.next(1.0, 1.0) == pytest.approx(np.exp(-0.1))
    assert clipping.next(3.0, 0.0) == pytest.approx(3 * np.exp(0.1))


def test_the_noise_of_a_wild_share_does_not_end_the_run():
    clipping = AdaptiveClip()
    assert clipping.next(1.0, -1e6) == 2.0**100
    assert clipping.next(1.0, 1e6) == 2.0**-100


def test_a_fixed_clip_is_the_private_mean_and_stays():
    arrays = model()
    answers = cohort(arrays, [0.5, 3.0])
    mean = PrivateMean(FixedClip(norm=1.0), noise=0.7, expected=2)
    made, clip = mean.make(answers, "arrays", arrays, clip=1.0, random=randomness())
    assert clip == 1.0
    assert made == private_mean(
        answers, "arrays", arrays, clip=1.0, noise=0.7, expected=2, random=randomness()
    )


def test_the_same_round_again_is_the_same():
    arrays = model()
    answers = cohort(arrays, [0.5, 3.0, 0.1])
    mean = PrivateMean(AdaptiveClip(bit_noise=2.0), noise=0.7, expected=3)
    first = mean.make(answers, "arrays", arrays, clip=0.3, random=randomness())
    again = mean.make(answers, "arrays", arrays, clip=0.3, random=randomness())
    assert first == again
    silences = [Silence() for _ in range(3)]
    mean.make(answers, "arrays", arrays, clip=0.3, random=silences[0])
    mean.make(answers, "arrays", arrays, clip=0.4, random=silences[1])
    other = PrivateMean(AdaptiveClip(bit_noise=3.0), noise=0.7, expected=3)
    other.make(answers, "arrays", arrays, clip=0.3, random=silences[2])
    assert len({each.asked[0] for each in silences}) == 3


@pytest.mark.parametrize(
    ("clipping", "noise", "expected", "said"),
    [
        (FixedClip(norm=np.nan), 1.0, 10, "clip"),
        (FixedClip(norm=0.0), 1.0, 10, "clip"),
        (FixedClip(norm=1.0), np.nan, 10, "noise"),
        (FixedClip(norm=1.0), 1.0, 0, "expected"),
        (AdaptiveClip(initial=np.inf), 0.1, 10, "clip"),
        (AdaptiveClip(quantile=1.5), 0.1, 10, "quantile"),
        (AdaptiveClip(quantile=np.nan), 0.1, 10, "quantile"),
        (AdaptiveClip(rate=0.0), 0.1, 10, "rate"),
        (AdaptiveClip(rate=np.nan), 0.1, 10, "rate"),
        (AdaptiveClip(bit_noise=0.0), 0.1, 10, "bit_noise"),
        (AdaptiveClip(bit_noise=np.nan), 0.1, 10, "bit_noise"),
        (AdaptiveClip(bit_noise=np.inf), 0.1, 10, "bit_noise"),
        (AdaptiveClip(), 1.0, 10, "more than 10 parties"),
        (AdaptiveClip(bit_noise=0.5), 1.0, 100, "bit_noise is more than 0.5"),
    ],
)
def test_settings_that_do_not_go(clipping, noise, expected, said):
    with pytest.raises(ConfigError, match=said):
        PrivateMean(clipping, noise=noise, expected=expected)
