"""A split network is the same network in parts."""

from dataclasses import replace

import numpy as np
import pytest
from vertical_world import CLEAR, answers, by_network, digits, halves, noise

from wardian.errors import ConfigError, FormatError, LocalProtocolError, PolicyDenied
from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import RecordDict
from wardian.learning.vertical.drawn import Drawn
from wardian.learning.vertical.network.coordinator import SplitNetwork
from wardian.learning.vertical.network.layers import Layers
from wardian.learning.vertical.network.party import NetworkParty, labels_alone
from wardian.learning.vertical.network.plan import NetworkPlan

LEARNT, LABELS, HELD, HELD_LABELS = digits()
PLAN = NetworkPlan(classes=10, embeddings={"a": 32, "b": 32}, hidden=(32,), epochs=10, seed=3)


def joined_logits(plan: NetworkPlan) -> np.ndarray:
    """One network, in one function, whose first layer has no weight between the halves.

    Written apart from what it tests: the first weights and the order of the batches alone are
    taken from there.
    """
    first = [Layers((32, 32), bent=True, seed=seed) for seed in (10, 11)]
    top = Layers((64, *plan.hidden, 10), bent=False, seed=plan.seed)
    w = [first[0].weights[0], first[1].weights[0], *top.weights]
    b = [first[0].biases[0], first[1].biases[0], *top.biases]
    vw, vb = [np.zeros_like(each) for each in w], [np.zeros_like(each) for each in b]
    chance = Drawn(plan.seed)
    parts = list(halves(LEARNT).values())

    def forward(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        bottom = [np.maximum(x @ w[n] + b[n], 0) for n, x in enumerate(columns)]
        cut = np.concatenate(bottom, axis=1)
        hidden = np.maximum(cut @ w[2] + b[2], 0)
        return cut, hidden, hidden @ w[3] + b[3]

    for _ in range(plan.epochs):
        order = chance.permutation(len(LABELS))
        for start in range(0, len(order), plan.batch):
            rows = order[start : start + plan.batch]
            cut, hidden, logits = forward([part[rows] for part in parts])
            raised = np.exp(logits - logits.max(axis=1, keepdims=True))
            d3 = raised / raised.sum(axis=1, keepdims=True)
            d3 = (d3 - np.eye(10)[LABELS[rows].astype(int)]) / len(rows)
            d2 = (d3 @ w[3].T) * (hidden > 0)
            dcut = d2 @ w[2].T
            halved = np.split(dcut, [32], axis=1)
            cuts = np.split(cut, [32], axis=1)
            deltas = [h * (c > 0) for h, c in zip(halved, cuts, strict=True)] + [d2, d3]
            inputs = [parts[0][rows], parts[1][rows], cut, hidden]
            for n, (delta, given) in enumerate(zip(deltas, inputs, strict=True)):
                vw[n] = plan.momentum * vw[n] - plan.rate * (given.T @ delta)
                vb[n] = plan.momentum * vb[n] - plan.rate * delta.sum(axis=0)
                w[n], b[n] = w[n] + vw[n], b[n] + vb[n]
    return forward(list(halves(HELD).values()))[2]


def test_logits_are_those_of_the_joined_network():
    parties, coordinator, _ = by_network(halves(LEARNT), LABELS, PLAN, CLEAR)
    parts = answers(parties, halves(HELD))
    logits = coordinator.logits(parts)
    assert np.array_equal(logits, joined_logits(PLAN))
    assert (logits.argmax(axis=1) == HELD_LABELS).mean() > 0.95
    chances = coordinator.predict(parts)
    assert chances.sum(axis=1) == pytest.approx(np.ones(len(HELD)))


def test_slopes_are_the_losss_derivatives():
    layers = Layers((5, 4, 3), bent=False, seed=1)
    given = np.random.default_rng(0).normal(size=(6, 5))
    target = np.random.default_rng(1).normal(size=(6, 3))

    def loss() -> float:
        return 0.5 * float(np.square(layers.forward(given) - target).sum())

    before = [each.copy() for each in (*layers.weights, *layers.biases)]
    error = layers.forward(given, keep=True) - target
    back = layers.backward(error, rate=1.0, momentum=0.0)
    moved = [old - new for old, new in zip(before, (*layers.weights, *layers.biases), strict=True)]
    for held, old in zip((*layers.weights, *layers.biases), before, strict=True):
        held[:] = old
    for held, slope in zip((*layers.weights, *layers.biases, given), (*moved, back), strict=True):
        for at in list(np.ndindex(held.shape))[:6]:
            kept = held[at]
            held[at] = kept + 1e-6
            up = loss()
            held[at] = kept - 1e-6
            down = loss()
            held[at] = kept
            assert (up - down) / 2e-6 == pytest.approx(slope[at], rel=1e-5, abs=1e-7)


def test_what_is_over_is_over():
    plan = NetworkPlan(classes=10, embeddings={"a": 2, "b": 2}, epochs=1, batch=2000)
    _, coordinator, _ = by_network(halves(LEARNT), LABELS, plan, CLEAR)
    with pytest.raises(LocalProtocolError, match="trained"):
        coordinator.learn()


def test_every_record_is_looked_at_once_an_epoch():
    plan = NetworkPlan(classes=10, embeddings={"a": 2, "b": 2}, epochs=3, batch=100)
    _, _, told = by_network(halves(LEARNT), LABELS, plan, CLEAR)
    rows = [each["rows"]["rows"] for each in told.by["b"] if "rows" in each]
    assert [len(each) for each in rows[:14]] == [100] * 13 + [47]
    for epoch in range(3):
        assert sorted(np.concatenate(rows[14 * epoch : 14 * epoch + 14])) == list(range(1347))
    assert len(rows) == 3 * 14


def test_the_looks_of_an_epoch_are_one_and_no_more_than_agreed():
    plan = NetworkPlan(classes=10, embeddings={"a": 2, "b": 2}, epochs=3, batch=100)
    by_network(halves(LEARNT), LABELS, plan, noise(plan))
    two = replace(plan, epochs=2)
    with pytest.raises(PolicyDenied) as caught:
        by_network(halves(LEARNT), LABELS, plan, noise(two))
    assert caught.value.rule == "label-noise"


# Bad input


def started() -> tuple[SplitNetwork, dict[str, NetworkParty]]:
    parties = {
        name: NetworkParty(
            each,
            LABELS if name == "a" else None,
            widths=(32,),
            rate=0.1,
            momentum=0.0,
            seed=1,
        )
        for name, each in halves(LEARNT).items()
    }
    return SplitNetwork(PLAN, CLEAR, parties["a"].labels()), parties


def array(name: str, values: np.ndarray) -> RecordDict:
    return RecordDict({name: ArrayRecord({name: values})})


def test_what_is_refused_harms_nobody():
    coordinator, parties = started()
    rows = coordinator.rows()
    for wrong in (
        RecordDict(),
        array("embedding", np.zeros((32, 31))),
        array("embedding", np.zeros((31, 32))),
        array("embedding", np.full((32, 32), np.nan)),
    ):
        with pytest.raises(FormatError):
            coordinator.take("b", wrong)
    with pytest.raises(PolicyDenied):
        coordinator.take("mallory", parties["b"].embed(rows))
    with pytest.raises(LocalProtocolError):
        coordinator.learn()
    with pytest.raises(LocalProtocolError):
        coordinator.slopes("b")
    for name, party in parties.items():
        coordinator.take(name, party.embed(rows))
    coordinator.take("b", array("embedding", np.full((32, 32), 1e9)))  # a second time
    coordinator.learn()
    assert np.abs(coordinator.slopes("b")["slopes"]["slopes"]).max() < 1
    party = parties["b"]
    for wrong in (RecordDict(), array("slopes", np.zeros((32, 31)))):
        with pytest.raises(FormatError):
            party.step(wrong)
    party.step(coordinator.slopes("b"))
    with pytest.raises(LocalProtocolError):
        party.step(coordinator.slopes("b"))


@pytest.mark.parametrize("rows", [[], [-1], [1347], [0.0]])
def test_rows_that_are_not_the_partys_are_refused(rows):
    _, parties = started()
    with pytest.raises(FormatError):
        parties["b"].embed(array("rows", np.array(rows, float if rows == [0.0] else np.int64)))


def test_labels_that_are_no_classes_or_missing():
    for wrong in (LABELS + 1, LABELS - 1, LABELS + 0.5, LABELS[:0]):
        with pytest.raises(FormatError, match="labels"):
            SplitNetwork(PLAN, CLEAR, array("labels", wrong))
    with pytest.raises(FormatError):
        SplitNetwork(PLAN, CLEAR, RecordDict())
    _, parties = started()
    with pytest.raises(LocalProtocolError):
        parties["b"].labels()


def test_a_party_that_has_labels_alone():
    plan = NetworkPlan(classes=10, embeddings={"b": 32}, epochs=1)
    coordinator = SplitNetwork(plan, CLEAR, labels_alone(LABELS))
    party = started()[1]["b"]
    coordinator.take("b", party.embed(coordinator.rows()))
    coordinator.learn()
    party.step(coordinator.slopes("b"))
    with pytest.raises(FormatError, match="missing"):
        labels_alone(np.full(3, np.nan))


def test_columns_and_predictions_that_are_refused():
    about = {"widths": (32,), "rate": 0.1, "momentum": 0.0, "seed": 1}
    for wrong in (np.full((3, 2), np.nan), np.zeros((3, 0)), np.zeros((0, 3)), np.zeros(3)):
        with pytest.raises(FormatError):
            NetworkParty(wrong, **about)
    coordinator, parties = started()
    parts = answers(parties, halves(HELD))
    with pytest.raises(FormatError, match="each party"):
        coordinator.predict({"a": parts["a"]})
    with pytest.raises(FormatError, match="number of them"):
        coordinator.predict({**parts, "a": parties["a"].answer(halves(HELD[:5])["a"])})
    with pytest.raises(FormatError):
        parties["a"].answer(HELD)
    with pytest.raises(FormatError):
        Layers((3, 2), bent=True, seed=0).forward(np.zeros((2, 4)))


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 1},
        {"embeddings": {}},
        {"embeddings": {"a": 0}},
        {"hidden": (0,)},
        {"epochs": 0},
        {"batch": 0},
        {"rate": 0.0},
        {"momentum": 1.0},
        {"seed": -1},
    ],
)
def test_plans_out_of_range(change):
    with pytest.raises(ConfigError):
        NetworkPlan(**{"classes": 2, "embeddings": {"a": 1}, **change})
