"""What lying parties can do to a model, with robust strategies and without."""

import numpy as np
import pytest
from strategy_cases import held

from wardian.errors import FormatError, JobFailed
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import ConfigRecord, MetricRecord
from wardian.learning.reduce import squared_distances
from wardian.learning.replies import HeldReplies
from wardian.learning.strategies.fedavg import FedAvg
from wardian.learning.strategies.optimisers import FedAvgM
from wardian.learning.strategies.robust import Krum, Median, TrimmedMean

PARTIES, LIARS, SIZE = 10, 3, 50
ROBUST = {
    "median": Median,
    "trimmed-mean": lambda: TrimmedMean(cut=0.3),
    "krum": lambda: Krum(liars=LIARS),
    "multi-krum": lambda: Krum(liars=LIARS, keep=5),
}
FRAGILE = {"fedavg": FedAvg, "fedavgm": FedAvgM}
STEP = 0.1


def record(x: np.ndarray) -> ArrayRecord:
    return ArrayRecord({"x": x, "count": np.array([1], np.int64)})


def honest(given: np.ndarray, number: int) -> dict[str, np.ndarray]:
    """A step towards 1 each, with noise: all want the same, and none has quite the same data."""
    found = {}
    for place in range(PARTIES - LIARS):
        noise = 0.3 * np.random.default_rng([number, place]).standard_normal(SIZE)
        found[f"honest-{place}"] = given - STEP * (given - 1 - noise)
    return found


def scaled(given, updates):
    (one, *_) = updates.values()
    return [given + 100 * (one - given)] * LIARS


def flipped(given, updates):
    return [given - 10 * (each - given) for each in list(updates.values())[:LIARS]]


def colluding(given, updates):
    """The same far-off model from all: they are each other's nearest."""
    return [given - 5.0] * LIARS


def huge(given, updates):
    return [np.full(SIZE, sign * 1.7e308) for sign in (1, -1, 1)]


def one_huge_number(given, updates):
    x = np.mean(list(updates.values()), axis=0)
    x[7] = -1e300
    return [x] * LIARS


ATTACKS = {f.__name__: f for f in (scaled, flipped, colluding, huge, one_huge_number)}


def after(strategy, attack, rounds: int = 80) -> np.ndarray:
    """The model after as many rounds from 0; the honest parties alone would end near 1."""
    given = np.zeros(SIZE)
    for number in range(1, rounds + 1):
        updates = honest(given, number)
        lies = attack(given, updates)
        answers = updates | {f"a-liar-{place}": each for place, each in enumerate(lies)}
        found, _ = strategy.aggregate_train(
            number, record(given), held({p: record(each) for p, each in answers.items()})
        )
        given = found["x"]
    return given


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", ROBUST)
def test_a_robust_strategy_learns_what_the_honest_want(name, attack):
    found = after(ROBUST[name](), ATTACKS[attack])
    assert np.abs(found - 1).max() < 0.3
    assert abs(found.mean() - 1) < 0.2


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", FRAGILE)
def test_a_mean_does_not(name, attack):
    with np.errstate(over="ignore"):
        try:
            found = after(FRAGILE[name](), ATTACKS[attack])
        except FormatError:  # it left what numbers can hold
            return
    assert np.abs(found - 1).max() > 1


def test_many_records_claimed_outweigh_all_in_a_mean_and_nothing_in_a_robust_strategy():
    given = {
        p: record(np.full(2, value))
        for p, value in zip("abcde", (1.0, 1.0, 1.0, 1.0, 99.0), strict=True)
    }
    replies = held(given, {"e": 2**40})
    assert FedAvg().aggregate_train(1, given["a"], replies)[0]["x"][0] > 98
    for make in (Median, lambda: TrimmedMean(cut=0.2), lambda: Krum(liars=1, keep=2)):
        assert make().aggregate_train(1, given["a"], replies)[0]["x"].tolist() == [1, 1]


def test_one_liar_moves_what_is_said_of_the_metrics():
    """Which the documentation says: metrics are means."""
    arrays = {"arrays": record(np.zeros(2))}
    answers = {p: (arrays, MetricRecord({"num-examples": 1, "loss": 1.0})) for p in "abc"}
    answers["d"] = (arrays, MetricRecord({"num-examples": 1, "loss": 1e9}))
    _, metrics = Median().aggregate_train(1, record(np.zeros(2)), HeldReplies(answers))
    assert metrics["loss"] > 1e8


# Krum


def by_hand(updates: list[np.ndarray], liars: int, keep: int) -> np.ndarray:
    """Blanchard et al.: the sum of the squared distances to the n - f - 2 closest others."""
    scores = []
    for one, x in enumerate(updates):
        apart = sorted(
            float(((x - y) ** 2).sum()) for other, y in enumerate(updates) if other != one
        )
        scores.append(sum(apart[: len(updates) - liars - 2]))
    best = sorted(range(len(updates)), key=lambda place: (scores[place], place))[:keep]
    return np.mean([updates[place] for place in best], axis=0)


@pytest.mark.parametrize("keep", [1, 2, 5, 7])
@pytest.mark.parametrize("liars", [0, 1, 3])
def test_krum_is_that_of_the_paper(liars, keep):
    source = np.random.default_rng(5)
    updates = [source.standard_normal(SIZE) for _ in range(PARTIES)]
    given = {f"p{place}": record(each) for place, each in enumerate(updates)}
    found, _ = Krum(liars=liars, keep=keep).aggregate_train(1, given["p0"], held(given))
    np.testing.assert_allclose(found["x"], by_hand(updates, liars, keep), rtol=1e-12)


def test_krum_gives_one_update_as_it_is_and_of_equals_the_first():
    two_camps = {f"p{place:02}": record(np.full(2, (-1) ** place / 10)) for place in range(40)}
    found, _ = Krum(liars=1).aggregate_train(1, two_camps["p01"], held(two_camps))
    assert found == two_camps["p00"]


@pytest.mark.parametrize(("cohort", "liars"), [(2, 0), (4, 1), (6, 2), (8, 3)])
def test_krum_refuses_a_cohort_in_which_liars_could_win(cohort, liars):
    """f < (n - 2) / 2: asked before anybody trains, and again of those who answered."""
    given = {f"p{place}": record(np.zeros(2)) for place in range(cohort + 1)}
    strategy = Krum(liars=liars)
    strategy.configure_train(1, given["p0"], ConfigRecord(), list(given))
    strategy.aggregate_train(1, given["p0"], held(given))
    del given["p1"]
    with pytest.raises(JobFailed, match=f"{liars} liars take a cohort of {cohort + 1}"):
        strategy.configure_train(1, given["p0"], ConfigRecord(), list(given))
    with pytest.raises(JobFailed, match=f"{liars} liars take a cohort of {cohort + 1}"):
        strategy.aggregate_train(1, given["p0"], held(given))


def test_krum_keeps_no_more_than_are_honest():
    given = {f"p{place}": record(np.zeros(2)) for place in range(7)}
    Krum(liars=2, keep=5).aggregate_train(1, given["p0"], held(given))
    with pytest.raises(JobFailed, match="5 can be kept, and not 6"):
        Krum(liars=2, keep=6).aggregate_train(1, given["p0"], held(given))


def test_krum_among_updates_that_lie_infinitely_far_apart():
    given = {f"p{place}": record(np.full(2, (-1) ** place * place * 1e200)) for place in range(5)}
    with pytest.raises(JobFailed, match="infinitely far apart"):
        Krum(liars=1).aggregate_train(1, given["p0"], held(given))


def test_a_liar_that_lies_near_the_others_sets_no_counter():
    """The attack: parameters that Krum likes, and a whole number of the liar's own."""
    updates = {f"p{place}": record(np.full(2, 0.01 * place)) for place in range(5)}
    updates["p2"] = ArrayRecord({"x": np.full(2, 0.02), "count": np.array([2**62])})
    found, _ = Krum(liars=1).aggregate_train(1, updates["p0"], held(updates))
    assert found["x"][0] == 0.02
    assert found["count"].tolist() == [1]


def test_huge_numbers_change_no_distance_between_others():
    x = {f"p{place}": record(np.full(2, float(place))) for place in range(4)}
    alone = squared_distances(held(x), "arrays")
    x["q"] = record(np.array([-1.7e308, 1.7e308]))
    among = squared_distances(held(x), "arrays")
    assert (among[:4, :4] == alone).all()
    assert (among[4, :4] == np.inf).all()
