"""Central privacy around a strategy: what leaves is clipped, noised, paid for, and nothing else."""

import math

import numpy as np
import pytest
from privacy_samples import SECRET, cohort, model, moved, replies

from wardian.errors import ConfigError, FormatError, PolicyDenied
from wardian.learning.arrays import ArrayRecord
from wardian.learning.privacy.central import CentralPrivacy
from wardian.learning.privacy.clipping import AdaptiveClip, FixedClip
from wardian.learning.privacy.ledger import Ledger, Terms
from wardian.learning.privacy.mean import private_mean
from wardian.learning.privacy.noise import Randomness
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.strategies.strategy import Strategy

RUN = b"r" * 32
TERMS = Terms(run=RUN, epsilon=10.0, delta=1e-3, parties=4)


class Averaging(Strategy):
    """The mean weighted by records, with momentum: it tells whatever reaches it."""

    def __init__(self, momentum: float = 0.0) -> None:
        self.momentum, self.velocity, self.seen = momentum, None, []

    def configure_train(self, number, arrays, config, parties):
        told = RecordDict({"arrays": arrays, "config": config})
        return dict.fromkeys(parties, told)

    def aggregate_train(self, number, arrays, replies):
        self.seen.append(replies)
        counts = [replies.metrics(party)["num-examples"] for party in replies.parties]
        made = {name: array.astype(np.float64) for name, array in arrays.items()}
        for block in replies.blocks("arrays"):
            part = slice(block.start, block.start + block.values.shape[1])
            mean = np.average(block.values.astype(np.float64), axis=0, weights=counts)
            made[block.array].reshape(-1)[part] = mean
        change = {name: each - arrays[name] for name, each in made.items()}
        if self.velocity is not None:
            change = {n: each + self.momentum * self.velocity[n] for n, each in change.items()}
        self.velocity = ArrayRecord(change)
        model = {n: (arrays[n] + change[n]).astype(arrays[n].dtype) for n in arrays}
        return ArrayRecord(model), MetricRecord({"train_loss": 0.25})

    def configure_evaluate(self, number, arrays, config, parties):
        return self.configure_train(number, arrays, config, parties)

    def aggregate_evaluate(self, number, replies):
        return MetricRecord({"accuracy": 1.0})

    def state(self):
        return RecordDict({} if self.velocity is None else {"velocity": self.velocity})

    def restore(self, state):
        self.velocity = state.get("velocity")


class Robust(Averaging):
    robust = True


class Controlled(Averaging):
    records = ("arrays", "control")


def bound(releases, delta) -> float:
    rho = sum(each.rounds / (2 * each.noise**2) for each in releases)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def privacy(inner=None, *, clipping=None, noise=3.0, expected=4, terms=TERMS) -> CentralPrivacy:
    return CentralPrivacy(
        inner or Averaging(),
        clipping=clipping or FixedClip(norm=1.0),
        noise=noise,
        expected=expected,
        ledger=Ledger(terms, accountant=bound),
        secret=SECRET,
    )


def lengths(number: int) -> list[float]:
    return [0.2 * number, 1.0, 0.5, 3.0]


def run(strategy, arrays, rounds) -> ArrayRecord:
    for number in rounds:
        strategy.configure_train(number, arrays, ConfigRecord(), ["p00", "p01", "p02", "p03"])
        answers = cohort(arrays, lengths(number), seed=10 * number)
        arrays, _ = strategy.aggregate_train(number, arrays, answers)
    return arrays


# What it makes


def test_it_is_the_private_mean_where_the_strategy_is_the_mean():
    arrays = model()
    answers = cohort(arrays, lengths(1))
    strategy = privacy()
    made, metrics = strategy.aggregate_train(1, arrays, answers)
    source = Randomness(SECRET, run=RUN, number=1)
    assert made == private_mean(
        answers, "arrays", arrays, clip=1.0, noise=3.0, expected=4, random=source
    )
    assert metrics["epsilon"] == pytest.approx(bound(_one_round(strategy), 1e-3))
    assert (metrics["clip"], metrics["noise"], metrics["delta"]) == (1.0, 3.0, 1e-3)


def _one_round(strategy):
    return [strategy.ledger.terms.releases(1, noise=3.0)]


def test_the_strategy_inside_sees_no_party():
    arrays = model()
    inner = Averaging()
    strategy = privacy(inner)
    run(strategy, arrays, range(1, 4))
    for seen in inner.seen:
        assert seen.parties == ("cohort",)
        assert dict(seen.metrics("cohort")) == {"num-examples": 1}


def test_nothing_that_parties_measured_is_published():
    arrays = model()
    strategy = privacy()
    _, metrics = strategy.aggregate_train(1, arrays, cohort(arrays, lengths(1)))
    assert set(metrics) == {"clip", "noise", "epsilon", "delta", "budget"}
    assert strategy.configure_evaluate(1, arrays, ConfigRecord(), ["p00"]) == {}
    assert dict(strategy.aggregate_evaluate(1, cohort(arrays, [1.0]))) == {}


def test_numbers_of_records_do_not_count():
    arrays = model()
    update = moved(arrays, 0.5, seed=1)
    plain = replies({"a": update, "b": arrays})
    made = []
    for count in (1, 10**6):
        answers = replies({"a": update, "b": arrays})
        answers._answers["a"] = (answers._answers["a"][0], MetricRecord({"num-examples": count}))
        made.append(privacy().aggregate_train(1, arrays, answers)[0])
    made.append(privacy().aggregate_train(1, arrays, plain)[0])
    assert made[0] == made[1] == made[2]


# Going on after a crash


@pytest.mark.parametrize("clipping", [FixedClip(norm=1.0), AdaptiveClip(bit_noise=4.0)])
def test_restored_in_the_middle_it_goes_on_bit_for_bit(clipping):
    whole = run(privacy(Averaging(0.9), clipping=clipping), model(), range(1, 7))
    first = privacy(Averaging(0.9), clipping=clipping)
    half = run(first, model(), range(1, 4))
    second = privacy(Averaging(0.9), clipping=clipping)
    second.restore(first.state())
    assert run(second, half, range(4, 7)) == whole
    assert second.ledger.head != first.ledger.head
    assert len(second.ledger.spends) == 6


def test_t16_a_crash_before_the_state_was_kept_publishes_the_same_again():
    arrays = model()
    answers = cohort(arrays, lengths(1))
    first, again = (privacy().aggregate_train(1, arrays, answers)[0] for _ in range(2))
    assert first == again


def test_t16_after_the_debit_another_cohort_gets_nothing():
    arrays = model()
    updates = {f"p{place}": moved(arrays, 0.5, seed=place) for place in range(4)}
    inner = Averaging()
    strategy = privacy(inner)
    made, _ = strategy.aggregate_train(1, arrays, replies(updates))
    victim_alone = replies({"p2": updates["p2"]})
    others = replies({name: each for name, each in updates.items() if name != "p2"})
    for answers in (victim_alone, others):
        with pytest.raises(PolicyDenied) as caught:
            strategy.aggregate_train(1, arrays, answers)
        assert caught.value.rule == "privacy-cohort"
    with pytest.raises(PolicyDenied) as caught:
        strategy.aggregate_train(1, arrays, replies({**updates, "p2": arrays}))
    assert caught.value.rule == "privacy-rerun"
    assert len(inner.seen) == 1
    assert len(strategy.ledger.spends) == 1
    assert strategy.aggregate_train(1, arrays, replies(updates))[0] is not made


def test_a_strategy_that_fails_after_the_debit_may_be_asked_again():
    arrays = model()
    answers = cohort(arrays, lengths(1))
    inner = Averaging()
    strategy = privacy(inner, clipping=AdaptiveClip(bit_noise=4.0))
    works, inner.aggregate_train = inner.aggregate_train, None
    with pytest.raises(TypeError):
        strategy.aggregate_train(1, arrays, answers)
    inner.aggregate_train = works
    made, _ = strategy.aggregate_train(1, arrays, answers)
    assert (
        made == privacy(clipping=AdaptiveClip(bit_noise=4.0)).aggregate_train(1, arrays, answers)[0]
    )
    assert len(strategy.ledger.spends) == 1


# The budget


def test_the_round_that_would_exceed_the_budget_does_not_start():
    strategy, arrays = privacy(), model()
    rounds = next(n for n in range(1, 100) if bound([TERMS.releases(n, noise=3.0)], 1e-3) > 10.0)
    arrays = run(strategy, arrays, range(1, rounds))
    with pytest.raises(PolicyDenied) as caught:
        strategy.configure_train(rounds, arrays, ConfigRecord(), ["p00"])
    assert caught.value.rule == "privacy-budget"
    with pytest.raises(PolicyDenied):
        strategy.aggregate_train(rounds, arrays, cohort(arrays, [1.0]))
    assert strategy.ledger.spent() <= 10.0


# What does not go together


@pytest.mark.parametrize("inner", [Robust, Controlled, privacy])
def test_strategies_that_cannot_be_made_private_so(inner):
    with pytest.raises(ConfigError):
        privacy(inner())


def test_masked_updates_are_of_no_use_to_it():
    assert CentralPrivacy.robust


def test_more_expected_than_there_are():
    with pytest.raises(ConfigError, match="expected"):
        privacy(expected=5)


def test_a_model_with_counters_is_refused_before_the_round():
    arrays = ArrayRecord({"w": np.zeros(3), "num_batches_tracked": np.zeros((), np.int64)})
    with pytest.raises(ConfigError, match="num_batches_tracked"):
        privacy().configure_train(1, arrays, ConfigRecord(), ["p00"])


# Its state


@pytest.mark.parametrize(
    "state",
    [
        RecordDict(),
        RecordDict({"privacy": MetricRecord({"clip": 1.0})}),
        RecordDict({"privacy": ConfigRecord({"clip": 1.0})}),
        RecordDict({"privacy": ConfigRecord({"clip": 1.0, "ledger": b"none"})}),
        RecordDict({"privacy": ConfigRecord({"clip": 1, "ledger": b""})}),
    ],
)
def test_a_state_that_is_none(state):
    strategy = privacy()
    head = strategy.ledger.head
    with pytest.raises(FormatError):
        strategy.restore(state)
    assert strategy.ledger.head == head


@pytest.mark.parametrize("clip", [math.nan, math.inf, 0.0])
def test_a_state_whose_clip_is_none(clip):
    kept = privacy().state()["privacy"]
    state = RecordDict({"privacy": ConfigRecord({**kept, "clip": clip})})
    with pytest.raises(FormatError):
        privacy().restore(state)


def test_the_state_of_another_run():
    other = privacy(terms=Terms(run=b"s" * 32, epsilon=10.0, delta=1e-3, parties=4))
    with pytest.raises(PolicyDenied):
        privacy().restore(other.state())


def test_the_secret_is_nowhere_in_the_state_or_in_what_it_prints():
    strategy = privacy()
    kept = strategy.state()["privacy"]
    assert SECRET.reveal() not in kept["ledger"]
    assert SECRET.reveal().hex() not in repr(strategy)
