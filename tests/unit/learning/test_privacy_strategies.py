"""Central privacy around the strategies that a plan can name, in whole runs."""

import math

import numpy as np
import pytest
from privacy_samples import RUN, SECRET, Silence, cohort, model, replies

from wardian.errors import ConfigError, PolicyDenied
from wardian.learning.app import ClientApp
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message
from wardian.learning.privacy.central import CentralPrivacy
from wardian.learning.privacy.clipping import AdaptiveClip, FixedClip
from wardian.learning.privacy.ledger import Ledger, Terms
from wardian.learning.privacy.mean import private_mean
from wardian.learning.privacy.noise import Randomness
from wardian.learning.records import MetricRecord, RecordDict
from wardian.learning.simulation import simulate
from wardian.learning.strategies.terms import STRATEGIES, build

AVERAGES = {"fedavg": {}, "fedprox": {}, "fedavgm": {}, "fedadam": {}, "fedyogi": {}}
OTHERS = {
    "bagging": {"columns": 4}, "scaffold": {"parties": 4}, "median": {}, "trimmed-mean": {},
    "krum": {"liars": 1},
}  # fmt: skip

app = ClientApp()


@app.train()
def train(message: Message, context) -> Message:
    """Move half the way to a point of the party's own; brag about records."""
    place = context.node_config["partition-id"]
    arrays = {
        name: (each + (place - each) / 2).astype(each.dtype)
        for name, each in message.content.array_records["arrays"].items()
    }
    metrics = MetricRecord({"num-examples": 10**place, "train_loss": float(place)})
    return Message(
        RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message
    )


def bound(releases, delta) -> float:
    rho = sum(each.rounds / (2 * each.noise**2) for each in releases)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def private(name: str, settings: dict, *, epsilon: float = 100.0, clipping=None) -> CentralPrivacy:
    terms = Terms(run=RUN, epsilon=epsilon, delta=1e-3, parties=4)
    return CentralPrivacy(
        build(name, settings),
        clipping=clipping or FixedClip(norm=1.0),
        noise=2.0,
        expected=4,
        ledger=Ledger(terms, accountant=bound),
        secret=SECRET,
    )


def test_every_strategy_is_one_or_the_other():
    assert {*AVERAGES, *OTHERS} == set(STRATEGIES)


@pytest.mark.parametrize("name", OTHERS)
def test_what_looks_at_single_updates_or_more_than_arrays_is_refused(name):
    with pytest.raises(ConfigError, match="privacy"):
        private(name, OTHERS[name])


@pytest.mark.parametrize("name", AVERAGES)
def test_the_strategy_makes_of_the_private_mean_what_it_makes_of_one_party(name):
    arrays, alone, whole = model(), build(name, {}), private(name, {})
    for number in (1, 2, 3):
        answers = cohort(arrays, [0.5, 2.0, 1.0, 9.0], seed=number)
        mean = private_mean(
            answers, "arrays", arrays, clip=1.0, noise=2.0, expected=4,
            random=Randomness(SECRET, run=RUN, number=number),
        )  # fmt: skip
        expected, _ = alone.aggregate_train(number, arrays, replies({"one": mean}))
        made, _ = whole.aggregate_train(number, arrays, answers)
        assert made == expected
        arrays = made


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("clipping", [FixedClip(norm=1.0), AdaptiveClip(bit_noise=3.0)])
def test_a_run_in_two_parts_is_the_run(name, clipping):
    first = private(name, {}, clipping=clipping)
    whole = simulate(app, private(name, {}, clipping=clipping), 4, model(), 3).arrays
    half = simulate(app, first, 4, model(), 2).arrays
    second = private(name, {}, clipping=clipping)
    second.restore(first.state())
    answers = [app_answer(place, half) for place in range(4)]
    made, _ = second.aggregate_train(3, half, replies(dict(answers)))
    assert made == whole


def app_answer(place: int, arrays: ArrayRecord) -> tuple[str, ArrayRecord]:
    moved = {name: (each + (place - each) / 2).astype(each.dtype) for name, each in arrays.items()}
    return f"party-{place}", ArrayRecord(moved)


def test_a_run_ends_at_its_budget_and_its_history_tells_of_no_party():
    strategy = private("fedavg", {}, epsilon=5.0)
    rounds = next(
        n for n in range(1, 100) if bound([strategy.ledger.terms.releases(n, noise=2.0)], 1e-3) > 5
    )
    with pytest.raises(PolicyDenied) as caught:
        simulate(app, private("fedavg", {}, epsilon=5.0), 4, model(), rounds)
    assert caught.value.rule == "privacy-budget"
    history = simulate(app, strategy, 4, model(), rounds - 1, evaluate_every=1)
    assert b"train_loss" not in history.to_json()
    assert b"num-examples" not in history.to_json()
    assert all(each.evaluation == {} for each in history.rounds)
    spent = [each.metrics["epsilon"] for each in history.rounds]
    assert spent == sorted(spent)
    assert spent[-1] <= 5.0


def test_a_model_of_the_private_run_moves_where_the_parties_are():
    silent = Silence()
    arrays = ArrayRecord({"w": np.zeros(3)})
    answers = replies(dict(app_answer(place, arrays) for place in range(4)))
    made = private_mean(answers, "arrays", arrays, clip=10.0, noise=1.0, expected=4, random=silent)
    assert made["w"] == pytest.approx(np.full(3, 0.75), abs=1e-6)
