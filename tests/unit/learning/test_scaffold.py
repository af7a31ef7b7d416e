"""SCAFFOLD: the arithmetic of its paper, at the coordinator and at the parties, and lost answers."""

import asyncio

import numpy as np
import pytest
from simulators.consortium import Consort
from strategy_cases import model, reply

from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message, MessageType, Metadata
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.replies import HeldReplies
from wardian.learning.simulation import simulate
from wardian.learning.strategies.control import ControlVariate
from wardian.learning.strategies.fedavg import FedAvg
from wardian.learning.strategies.scaffold import Scaffold

LR, SIZE = 0.05, 3
STEPS = {"a": 2, "b": 5, "c": 3}
RECORDS = {"a": 1, "b": 4, "c": 3}
THREE = {"a": {}, "b": {}, "c": {}}
FIRST = ArrayRecord({"x": np.zeros(SIZE), "seen": np.zeros(1, np.int64)})


def gradient(party: str, x: np.ndarray) -> np.ndarray:
    """Of a quadratic with a curvature and a minimum that differ from party to party."""
    place = ord(party) - ord("a")
    curvature = np.array([1.0, 0.3 + place, 2.0 - 0.5 * place])
    return curvature * (x - np.array([place, -2.0 * place, 1.0]))


def train(message: Message, context: Context) -> Message:
    party = context.party
    control = ControlVariate(message, context) if "control" in message.content else None
    given = message.content.array_records["arrays"]
    x = given["x"].copy()
    for _ in range(STEPS[party]):
        x -= LR * (gradient(party, x) + (control.correction["x"] if control else 0))
    arrays = ArrayRecord({"x": x, "seen": given["seen"] + 1})
    content = {
        "arrays": arrays,
        "metrics": MetricRecord({"num-examples": RECORDS[party]}),
    }
    if control is not None:
        content["control"] = control.change(arrays, steps=STEPS[party], lr=LR)
    return Message(RecordDict(content), reply_to=message)


def by_hand(rounds, *, records, parties=3, server_lr=1.0):
    """Algorithm 1 of the paper, option II; functions scaled by their records. Cohorts by round."""
    x, c, c_of = np.zeros(SIZE), np.zeros(SIZE), {p: np.zeros(SIZE) for p in STEPS}
    for cohort in rounds:
        change_x, total = np.zeros(SIZE), sum(records[p] for p in cohort)
        for party in cohort:
            y = x.copy()
            for _ in range(STEPS[party]):
                y = y - LR * (gradient(party, y) - c_of[party] + c)
            c_next = c_of[party] - c + (x - y) / (STEPS[party] * LR)
            change_x = change_x + records[party] / total * (y - x)
            c_of[party] = c_next
        x = x + server_lr * change_x
        seen = {p for each in rounds[: rounds.index(cohort) + 1] for p in each}
        everybody = parties * sum(records[p] for p in seen) / len(seen)
        c = sum(records[p] * c_of[p] for p in seen) / everybody
    return x, c


def test_it_is_the_papers_algorithm():
    rounds = [("a", "b", "c")] * 6
    found = simulate(
        ClientApp({MessageType.TRAIN: train}),
        Scaffold(parties=3),
        THREE,
        FIRST,
        6,
    )
    expected, _ = by_hand(rounds, records=RECORDS)
    np.testing.assert_allclose(found.arrays["x"], expected, rtol=1e-11)
    assert found.arrays["seen"].tolist() == [6]


def test_with_as_many_records_each_it_is_the_papers_without_weights(monkeypatch):
    """x + lr/|S| sum(y - x), and c + |S|/N mean(c_i+ - c_i)."""
    monkeypatch.setattr("test_scaffold.RECORDS", dict.fromkeys("abc", 7))
    strategy = Scaffold(parties=3, lr=0.6)
    app = ClientApp({MessageType.TRAIN: train})
    found = simulate(app, strategy, THREE, FIRST, 5).arrays
    x, c, c_of = np.zeros(SIZE), np.zeros(SIZE), {p: np.zeros(SIZE) for p in "abc"}
    for _ in range(5):
        delta_x, delta_c = np.zeros(SIZE), np.zeros(SIZE)
        for party in "abc":
            y = x.copy()
            for _ in range(STEPS[party]):
                y = y - LR * (gradient(party, y) - c_of[party] + c)
            c_next = c_of[party] - c + (x - y) / (STEPS[party] * LR)
            delta_x, delta_c = delta_x + (y - x) / 3, delta_c + (c_next - c_of[party]) / 3
            c_of[party] = c_next
        x, c = x + 0.6 * delta_x, c + 3 / 3 * delta_c
    np.testing.assert_allclose(found["x"], x, rtol=1e-11)
    told = strategy.configure_train(6, found, ConfigRecord(), ["a"])["a"]
    np.testing.assert_allclose(told["control"]["x"], c, rtol=1e-9)
    assert told["control"]["seen"].tolist() == [0]


def test_cohorts_of_some():
    """Who was not asked keeps its variate; who never was counts as many records as the others."""
    rounds = [("a",), ("a", "b"), ("c",), ("b", "c"), ("a", "b", "c")]
    strategy, arrays, states = Scaffold(parties=3), FIRST, {p: {} for p in "abc"}
    for number, cohort in enumerate(rounds, start=1):
        arrays = one_round(strategy, arrays, states, number, cohort, cohort)
    expected, c = by_hand(rounds, records=RECORDS)
    np.testing.assert_allclose(arrays["x"], expected, rtol=1e-10)
    told = strategy.configure_train(6, arrays, ConfigRecord(), ["a"])["a"]
    np.testing.assert_allclose(told["control"]["x"], c, rtol=1e-9)


def one_round(strategy, arrays, states, number, asked, counted):
    """The model after a round in which only some of those who were asked counted."""
    answers = {}
    for party, content in strategy.configure_train(number, arrays, ConfigRecord(), asked).items():
        about = Metadata(run="r", round=number, party=party, message_type=MessageType.TRAIN)
        found = train(Message(content, metadata=about), Context(party=party, state=states[party]))
        records = found.content.array_records
        if party in counted:
            answers[party] = (records, found.content.metric_records["metrics"])
    return strategy.aggregate_train(number, arrays, HeldReplies(answers))[0]


def test_an_answer_that_came_too_late_leaves_the_mean_and_the_party_in_step():
    """The attack: a host that loses answers drives the mean away from the parties' variates."""
    strategy, arrays, states = Scaffold(parties=3), FIRST, {p: {} for p in "abc"}
    counted = [("a", "b", "c"), ("a", "b"), ("a",), ("a", "b", "c")]
    for number, cohort in enumerate(counted, start=1):
        arrays = one_round(strategy, arrays, states, number, "abc", cohort)
    plain, same, kept = Scaffold(parties=3), FIRST, {p: {} for p in "abc"}
    for number, cohort in enumerate(counted, start=1):
        same = one_round(plain, same, kept, number, cohort, cohort)
    assert arrays == same
    assert strategy.state()["control"] == plain.state()["control"]


def test_the_mean_is_that_of_the_variates_whatever_was_lost():
    source, strategy, arrays = np.random.default_rng(1), Scaffold(parties=3), FIRST
    states = {p: {} for p in "abc"}
    for number in range(1, 20):
        cohort = [p for p in "abc" if source.random() < 0.6] or ["a"]
        arrays = one_round(strategy, arrays, states, number, "abc", cohort)
    told = strategy.configure_train(20, arrays, ConfigRecord(), "abc")
    total, count = np.zeros(SIZE), sum(RECORDS.values())
    for party, content in told.items():
        about = Metadata(run="r", round=20, party=party, message_type=MessageType.TRAIN)
        control = ControlVariate(
            Message(content, metadata=about), Context(party=party, state=states[party])
        )
        total += RECORDS[party] / count * (content["control"]["x"] - control.correction["x"])
    np.testing.assert_allclose(told["a"]["control"]["x"], total, rtol=1e-9)


def test_a_party_that_says_another_number_later_does_not_shift_the_mean():
    strategy = Scaffold(parties=2)
    zero = ArrayRecord({"x": np.zeros(1)})
    for number, records, change in ((1, 4, 1.0), (2, 1000, -1.0)):
        control = ArrayRecord({"x": np.array([change])})
        strategy.aggregate_train(number, zero, HeldReplies({"a": reply(zero, records, control)}))
    assert strategy.state()["control"]["x"].tolist() == [0.0]


def test_where_parties_differ_it_ends_where_joined_training_does_and_fedavg_does_not():
    app = ClientApp({MessageType.TRAIN: train})
    weights = np.array(list(RECORDS.values())) / 8
    curvature = sum(
        w * (gradient(p, np.ones(3)) - gradient(p, np.zeros(3)))
        for w, p in zip(weights, "abc", strict=True)
    )
    joined = (
        -sum(w * gradient(p, np.zeros(3)) for w, p in zip(weights, "abc", strict=True)) / curvature
    )
    scaffold = simulate(app, Scaffold(parties=3), THREE, FIRST, 400).arrays["x"]
    fedavg = simulate(app, FedAvg(), THREE, FIRST, 400).arrays["x"]
    np.testing.assert_allclose(scaffold, joined, atol=1e-9)
    assert np.abs(fedavg - joined).max() > 0.02


async def test_over_sockets_with_a_coordinator_that_dies_it_is_the_same(tmp_path):
    """Its state lies sealed beside the model, the parties' on their disks."""
    app = ClientApp({MessageType.TRAIN: train})

    @app.query()
    def first(message, context):
        return Message(RecordDict({"arrays": FIRST}), reply_to=message)

    consort = Consort(tmp_path, "a", "b", "c", rounds=6, evaluate_every=0)
    parties = [asyncio.create_task(consort.party(name, app).attend()) for name in consort.keys]
    coordinating = asyncio.create_task(consort.coordinate(Scaffold(parties=3)))
    third = asyncio.Event()

    def hear(said):
        if said["event"] == "round.done" and said["round"] == 3:
            third.set()

    consort.heard = hear
    await third.wait()
    coordinating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await coordinating
    model = await consort.coordinate(Scaffold(parties=3))
    await asyncio.gather(*parties)
    assert model == simulate(app, Scaffold(parties=3), THREE, FIRST, 6).arrays


# What is refused


def message(strategy: Scaffold, arrays: ArrayRecord, number: int = 1) -> Message:
    content = strategy.configure_train(number, arrays, ConfigRecord(), ["a"])["a"]
    about = Metadata(run="r", round=number, party="a", message_type=MessageType.TRAIN)
    return Message(content, metadata=about)


def test_a_message_of_another_strategy_is_refused():
    content = FedAvg().configure_train(1, FIRST, ConfigRecord(), ["a"])["a"]
    about = Metadata(run="r", round=1, party="a", message_type=MessageType.TRAIN)
    with pytest.raises(FormatError, match="SCAFFOLD"):
        ControlVariate(Message(content, metadata=about), Context(party="a"))


@pytest.mark.parametrize(
    ("steps", "lr"), [(0, 0.1), (-1, 0.1), (1, 0), (1, -0.1), (1, float("nan"))]
)
def test_steps_and_length_are_demanded(steps, lr):
    context = Context(party="a")
    control = ControlVariate(message(Scaffold(parties=1), FIRST), context)
    with pytest.raises(ConfigError, match="steps"):
        control.change(FIRST, steps=steps, lr=lr)
    assert context.state == {}


@pytest.mark.parametrize(
    "arrays", [{"x": np.zeros(SIZE)}, {"x": np.full(SIZE, np.inf), "seen": FIRST["seen"]}]
)
def test_a_model_that_does_not_fit_leaves_the_state(arrays):
    context = Context(party="a")
    control = ControlVariate(message(Scaffold(parties=1), FIRST), context)
    with pytest.raises(FormatError):
        control.change(arrays, steps=1, lr=LR)
    assert context.state == {}


def test_a_variate_of_another_model_is_refused():
    context, strategy = Context(party="a"), Scaffold(parties=1)
    ControlVariate(message(strategy, FIRST), context).change(FIRST, steps=1, lr=LR)
    with pytest.raises(FormatError, match="another"):
        ControlVariate(message(strategy, model(0), 2), context)


def test_more_parties_than_it_is_set_to_are_refused():
    strategy = Scaffold(parties=2)
    with pytest.raises(JobFailed, match="2 parties"):
        strategy.configure_train(1, FIRST, ConfigRecord(), ["a", "b", "c"])
    answers = {p: reply(FIRST, 1, FIRST) for p in "ab"}
    strategy.aggregate_train(1, FIRST, HeldReplies(answers))
    with pytest.raises(JobFailed, match="2 parties"):
        strategy.aggregate_train(2, FIRST, HeldReplies({"c": reply(FIRST, 1, FIRST)}))


def test_a_sum_of_variates_that_is_infinite_names_its_array_and_leaves_the_state():
    strategy = Scaffold(parties=1)
    huge = ArrayRecord({"x": np.full(SIZE, 1e308), "seen": FIRST["seen"]})
    with pytest.raises(FormatError, match="control x"):
        strategy.aggregate_train(1, FIRST, HeldReplies({"a": reply(FIRST, 1000, huge)}))
    assert not strategy.state()


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_arrays_of_every_shape_and_kind_have_a_variate(kind):
    """A scalar, an array of nothing, a counter."""

    def train(message: Message, context: Context) -> Message:
        control = ControlVariate(message, context)
        given = message.content.array_records["arrays"]
        made = ArrayRecord(
            {n: (a + 0.01 * len(context.party)).astype(a.dtype) for n, a in given.items()}
        )
        assert list(control.correction) == ["weight", "scale", "empty"]
        records = {"arrays": made, "control": control.change(made, steps=2, lr=0.5)}
        return Message(
            RecordDict({**records, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message
        )

    first, strategy = model(3, kind=kind), Scaffold(parties=3)
    history = simulate(
        ClientApp({MessageType.TRAIN: train}), strategy, {"a": {}, "bb": {}, "ccc": {}}, first, 3
    )
    assert not any(each.dropped for each in history.rounds)
    for name in ("weight", "scale"):
        np.testing.assert_allclose(history.arrays[name], first[name] + 0.06, rtol=1e-2, atol=1e-2)
    assert history.arrays["batches"].tolist() == [3]


@pytest.mark.parametrize(
    "change",
    [
        {"counted": ConfigRecord({"a": 1, "b": 1})},
        {"counted": MetricRecord({"a": 1, "b": 0})},
        {"records": MetricRecord({"a": 1, "b": 1.0})},
        {"records": MetricRecord({"a": 1})},
    ],
)
def test_a_state_whose_counts_are_none_is_refused(change):
    strategy = Scaffold(parties=2)
    strategy.aggregate_train(1, FIRST, HeldReplies({p: reply(FIRST, 1, FIRST) for p in "ab"}))
    state = strategy.state()
    with pytest.raises(FormatError, match="strategy state"):
        strategy.restore(RecordDict({**state, **change}))
    assert dict(strategy.state()) == dict(state)
