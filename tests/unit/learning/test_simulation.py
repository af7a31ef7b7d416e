"""A whole run in one process: the rules of a real one, reproducible, and what goes wrong is told."""

import asyncio
import json

import numpy as np
import pytest
from simulators.consortium import Consort, counting_app

from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.simulation import simulate
from wardian.learning.strategies.fedavg import FedAvg
from wardian.learning.strategies.terms import STRATEGIES, build

FIRST = ArrayRecord({"x": np.zeros(4, np.float32)})
SETTINGS = {"krum": {"liars": 1}, "scaffold": {"parties": 6}}


def app_of(train, evaluate=None) -> ClientApp:
    app = ClientApp()
    app.train()(train)
    if evaluate is not None:
        app.evaluate()(evaluate)
    return app


def answer(message: Message, x: np.ndarray, **metrics) -> Message:
    content = {
        "arrays": ArrayRecord({"x": x}),
        "metrics": MetricRecord({"num-examples": 2, **metrics}),
    }
    if "control" in message.content:
        content["control"] = ArrayRecord({"x": x - message.content.array_records["arrays"]["x"]})
    return Message(RecordDict(content), reply_to=message)


def step(message: Message, context: Context) -> Message:
    """Move by what the party, the round and the past of the party say."""
    place = context.node_config["partition-id"]
    before = context.state.get("rounds", ConfigRecord({"count": 0}))["count"]
    context.state["rounds"] = ConfigRecord({"count": before + 1})
    noise = np.random.default_rng([place, message.metadata.round]).standard_normal(4)
    x = message.content.array_records["arrays"]["x"] + np.float32(0.1) * noise.astype(np.float32)
    return answer(message, x, asked=before + 1)


def fail(*parties: str, kind=ValueError):
    def train(message: Message, context: Context) -> Message:
        if context.party in parties:
            raise kind("a secret of the party")
        return step(message, context)

    return app_of(train)


# What a party is told


def test_parties_see_what_they_would_in_a_real_run():
    seen = []

    def train(message, context):
        seen.append((message, context))
        return answer(message, message.content.array_records["arrays"]["x"])

    parties = {"b": {"path": "/b"}, "a": {"path": "/a"}}
    simulate(app_of(train), FedAvg(), parties, FIRST, 2, config={"lr": 0.5})
    assert [(m.metadata.party, m.metadata.round) for m, _ in seen] == [
        ("a", 1), ("b", 1), ("a", 2), ("b", 2),
    ]  # fmt: skip
    message, context = seen[1]
    assert message.metadata.message_type == "train"
    assert dict(message.content["config"]) == {"server-round": 1, "lr": 0.5}
    assert message.content["arrays"] == FIRST
    assert (context.party, dict(context.run_config), dict(context.node_config)) == (
        "b", {"lr": 0.5}, {"path": "/b"},
    )  # fmt: skip


def test_a_number_of_parties_is_named_in_order():
    history = simulate(app_of(step), FedAvg(), 11, FIRST, 1)
    assert history.rounds[0].cohort == tuple(f"party-{place:02}" for place in range(11))


def test_state_is_kept_by_each_party_alone():
    history = simulate(app_of(step), FedAvg(), 3, FIRST, 4)
    assert [each.metrics["asked"] for each in history.rounds] == [1, 2, 3, 4]


def test_a_party_writes_into_no_model_of_another():
    def train(message, context):
        arrays = message.content.array_records["arrays"]
        with pytest.raises(ValueError, match="read-only"):
            arrays["x"][0] = 9
        return answer(message, arrays["x"])

    history = simulate(app_of(train), FedAvg(), 2, FIRST, 1)
    assert not history.rounds[0].dropped
    assert FIRST["x"].flags.writeable


def test_what_a_party_writes_into_its_answer_afterwards_is_lost():
    kept = {}

    def train(message, context):
        for party in kept:
            kept[party] += 100
        kept[context.party] = message.content.array_records["arrays"]["x"] + 1
        return answer(message, kept[context.party])

    assert simulate(app_of(train), FedAvg(), 3, FIRST, 2).arrays["x"].tolist() == [2.0] * 4


# The same again


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "bagging"])
def test_the_same_arguments_give_the_same_history(name):
    def run():
        strategy = build(name, SETTINGS.get(name, {}))
        return simulate(app_of(step), strategy, 6, FIRST, 5, seed=3, sample=0.9)

    one, other = run(), run()
    assert one.arrays == other.arrays
    assert one.to_json() == other.to_json()
    assert one.arrays != FIRST


def test_cohorts_are_the_seeds():
    def cohorts(seed):
        history = simulate(app_of(step), FedAvg(), 20, FIRST, 6, seed=seed, sample=0.25)
        return [each.cohort for each in history.rounds]

    assert cohorts(1) == cohorts(1) != cohorts(2)
    assert {len(each) for each in cohorts(1)} == {5}
    assert len(set(cohorts(1))) > 1


def test_the_quorum_is_the_least_that_is_asked():
    history = simulate(app_of(step), FedAvg(), 10, FIRST, 1, sample=0.1, quorum=4)
    assert len(history.rounds[0].cohort) == 4


async def test_a_simulated_run_is_a_real_one_bit_for_bit(tmp_path):
    consort = Consort(tmp_path, "a", "b", "c", "d", "e", rounds=4, quorum=2, sample=0.5, seed=5)
    parties = [asyncio.create_task(consort.party(name).attend()) for name in consort.keys]
    real = await consort.coordinate(build("fedadam", {}))
    await asyncio.gather(*parties)
    first = ArrayRecord({"w": np.zeros((3, 2), np.float32), "b": np.zeros(3, np.float64)})
    history = simulate(
        counting_app(), build("fedadam", {}), dict.fromkeys(consort.keys, ConfigRecord()), first, 4,
        seed=5, sample=0.5, quorum=2, evaluate_every=1,
    )  # fmt: skip
    assert history.arrays == real
    done = [each for each in consort.said if each["event"] == "round.done"]
    assert [tuple(each["cohort"]) for each in done] == [each.cohort for each in history.rounds]
    assert [each.metrics for each in consort.news] == [each.metrics for each in history.rounds]
    assert [each["bytes"] for each in done] == [each.received_bytes for each in history.rounds]
    assert [each.evaluation for each in consort.news] == [
        each.evaluation for each in history.rounds
    ]


# What goes wrong


def test_a_party_whose_function_raises_drops_out():
    history = simulate(fail("party-1"), FedAvg(), 4, FIRST, 2)
    for each in history.rounds:
        assert each.cohort == ("party-0", "party-2", "party-3")
        assert each.dropped == {"party-1": "the app failed: ValueError"}
    alone = simulate(
        app_of(step), FedAvg(), {f"party-{n}": {"partition-id": n} for n in (0, 2, 3)}, FIRST, 2
    )
    assert history.arrays == alone.arrays


def test_below_the_quorum_the_round_fails():
    with pytest.raises(JobFailed, match="round 1: fewer than 3 parties answered; party-0: the app"):
        simulate(fail("party-0", "party-1"), FedAvg(), 4, FIRST, 2, quorum=3)


def test_a_round_is_tried_again_with_another_cohort():
    app = fail("party-0")
    history = simulate(app, FedAvg(), 4, FIRST, 8, sample=0.5, quorum=2, attempts=20)
    assert all("party-0" not in each.cohort for each in history.rounds)
    with pytest.raises(JobFailed, match="fewer than 2"):
        simulate(app, FedAvg(), 4, FIRST, 8, sample=0.5, quorum=2)


def test_the_state_of_a_party_that_failed_is_that_of_before():
    failures = []

    def train(message, context):
        reply = step(message, context)
        if message.metadata.round == 2 and context.party == "party-0":
            failures.append(context.state["rounds"]["count"])
            raise OSError
        return reply

    history = simulate(app_of(train), FedAvg(), 2, FIRST, 3)
    assert failures == [2]
    assert [each.metrics["asked"] for each in history.rounds] == [1, 2, 2.5]


def other(**changes):
    """An answer with other records."""

    def train(message, context):
        if context.party != "party-0":
            return step(message, context)
        content = dict(step(message, context).content) | changes
        return Message(
            RecordDict({n: e for n, e in content.items() if e is not None}), reply_to=message
        )

    return app_of(train)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"arrays": ArrayRecord({"x": np.full(4, np.nan, np.float32)})}, "no finite number"),
        ({"arrays": ArrayRecord({"x": np.full(4, np.inf, np.float32)})}, "no finite number"),
        ({"arrays": ArrayRecord({"x": np.zeros(5, np.float32)})}, "other arrays"),
        ({"arrays": ArrayRecord({"x": np.zeros(4)})}, "other arrays"),
        ({"arrays": ArrayRecord({"y": np.zeros(4, np.float32)})}, "other arrays"),
        ({"more": ArrayRecord()}, "other arrays"),
        ({"arrays": None}, "other arrays"),
        ({"metrics": None}, "num-examples"),
        ({"more": MetricRecord()}, "record of metrics is called"),
        ({"more": ConfigRecord()}, "settings were not asked for"),
        ({"metrics": MetricRecord()}, "num-examples"),
        ({"metrics": MetricRecord({"num-examples": 0})}, "num-examples"),
        ({"metrics": MetricRecord({"num-examples": 1.0})}, "num-examples"),
        ({"metrics": MetricRecord({"num-examples": 2**41})}, "num-examples"),
    ],
)
def test_an_answer_that_a_real_run_refuses_is_refused(changes, reason):
    history = simulate(other(**changes), FedAvg(), 3, FIRST, 1)
    assert reason in history.rounds[0].dropped["party-0"]
    assert history.rounds[0].cohort == ("party-1", "party-2")


def test_an_answer_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr("wardian.learning.simulation.MAX_BYTES", 15)
    with pytest.raises(JobFailed, match="an answer has at most 15 bytes"):
        simulate(app_of(step), FedAvg(), 2, FIRST, 1)


def test_a_party_may_send_its_records_in_another_order():
    def train(message, context):
        content = step(message, context).content
        names = reversed(list(content)) if context.party == "party-1" else content
        return Message(RecordDict({name: content[name] for name in names}), reply_to=message)

    found, same = (
        simulate(app_of(each), build("scaffold", {"parties": 3}), 3, FIRST, 3)
        for each in (train, step)
    )
    assert found.arrays == same.arrays
    assert not found.rounds[0].dropped


def test_a_strategy_that_asks_nobody_fails_the_round():
    class Nobody(FedAvg):
        def configure_train(self, number, arrays, config, parties):
            return {}

    with pytest.raises(JobFailed, match="round 1: fewer than 1 parties answered$"):
        simulate(app_of(step), Nobody(), 2, FIRST, 1)


def test_a_party_may_say_that_it_cannot():
    def train(message, context):
        if context.party == "party-0":
            return Message(reply_to=message, error="no data today")
        return step(message, context)

    history = simulate(app_of(train), FedAvg(), 2, FIRST, 1)
    assert history.rounds[0].dropped == {"party-0": "no data today"}


def test_what_a_failed_party_raised_is_in_no_history():
    history = simulate(fail("party-0"), FedAvg(), 2, FIRST, 1)
    assert b"secret" not in history.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 0}, {"sample": 0}, {"sample": 1.1}, {"quorum": 0}, {"quorum": 4}, {"attempts": 0},
        {"evaluate_every": -1}, {"parties": 0},
    ],
    ids=str,
)  # fmt: skip
def test_numbers_out_of_range(change):
    given = {"parties": 3, "rounds": 1} | change
    with pytest.raises(ConfigError, match="simulation"):
        simulate(app_of(step), FedAvg(), given.pop("parties"), FIRST, given.pop("rounds"), **given)


def test_an_error_of_the_strategy_ends_the_run():

    def train(message, context):
        return answer(message, np.full(4, 3e38, np.float32))

    with pytest.raises(FormatError, match="x: larger than float32"):
        simulate(app_of(train), build("fedavgm", {"lr": 2}), 2, FIRST, 1)


# What is told


def test_the_history_is_json():
    def train(message, context):
        return answer(
            message, message.content.array_records["arrays"]["x"], loss=float("nan"), each=[1.0]
        )

    def evaluate(message, context):
        place = context.node_config["partition-id"]
        metrics = MetricRecord({"num-examples": 1 + place, "accuracy": float(place)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    judged = []

    def judge(number, arrays):
        judged.append((number, arrays))
        return MetricRecord({"held-out": 0.5})

    history = simulate(
        app_of(train, evaluate), FedAvg(), 2, FIRST, 2, evaluate_every=2, judge=judge
    )
    one, two = json.loads(history.to_json())
    assert one == {
        "round": 1,
        "cohort": ["party-0", "party-1"],
        "dropped": {},
        "metrics": {"num-examples": 4, "loss": None, "each": [1.0]},
        "evaluation": {},
        "judged": {"held-out": 0.5},
        "sent_bytes": 32,
        "received_bytes": 32,
    }
    assert two["evaluation"] == {"num-examples": 3, "accuracy": pytest.approx(2 / 3)}
    assert [number for number, _ in judged] == [1, 2]
    assert judged[1][1] == history.arrays


def test_nobody_evaluates_what_the_app_cannot():
    history = simulate(app_of(step), FedAvg(), 2, FIRST, 1, evaluate_every=1)
    assert history.rounds[0].evaluation == {}


def test_bytes_are_of_all_records_and_of_those_who_dropped_out_too():
    history = simulate(fail("party-0"), build("scaffold", {"parties": 3}), 3, FIRST, 1)
    assert (history.rounds[0].sent_bytes, history.rounds[0].received_bytes) == (96, 64)
