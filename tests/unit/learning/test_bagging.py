"""Bagging of trees: everybody's in one order, and who sends bad ones is refused and named."""

import asyncio
import contextlib

import numpy as np
import pytest
from forests import BOUNDS, DEEP, STUMP, forest, leaf, trees
from simulators.consortium import Consort
from test_malicious_party import attended, beside, consort, refusals

from wardian.errors import ConfigError, FormatError, JobFailed, TransportError, WardianError
from wardian.learning.app import ClientApp
from wardian.learning.arrays import ArrayRecord
from wardian.learning.boosting.forest import empty_forest
from wardian.learning.content import array_bytes, specs_of
from wardian.learning.message import Message
from wardian.learning.messages import Answer, Unwanted
from wardian.learning.records import MetricRecord, RecordDict
from wardian.learning.replies import HeldReplies
from wardian.learning.simulation import simulate
from wardian.learning.strategies.bagging import Bagging

GOOD = MetricRecord({"num-examples": 3})
SETTINGS = {"columns": 3, "trees": 2, "depth": 2, "leaf": 10.0}


def own(party: str, number: int) -> dict:
    """The tree of a party in a round."""
    return leaf(ord(party[-1]) % 8 + number / 4)


def app_of(answers=None, first=empty_forest) -> ClientApp:
    """An app whose parties answer with a tree of theirs, but for those that `answers` names."""
    app = ClientApp()

    @app.query()
    def query(message, context):
        return Message(RecordDict({"arrays": first()}), reply_to=message)

    @app.train()
    def train(message, context):
        made = (answers or {}).get(context.party, trees(own(context.party, message.metadata.round)))
        return Message(RecordDict({"trees": made, "metrics": GOOD}), reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        found = len(message.content.array_records["arrays"]["size"])
        metrics = MetricRecord({"num-examples": 1, "trees": found})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def expected(parties, rounds) -> ArrayRecord:
    return forest(*[own(party, number) for number in range(1, rounds + 1) for party in parties])


BAD = {
    "a cycle": (trees(STUMP, left=[0, 0, 0]), "children lie elsewhere"),
    "an index out of range": (trees(STUMP, left=[9, 0, 0]), "children lie elsewhere"),
    "a column out of range": (trees(STUMP, feature=[3, -1, -1]), "asks about no column"),
    "not a number": (trees(STUMP, value=[0.5, np.nan, 2.0]), "no finite number"),
    "infinite": (trees(STUMP, value=[0.5, np.inf, 2.0]), "no finite number"),
    "a leaf that ruins the model": (trees(leaf(1e30)), "a leaf is larger than 10.0"),
    "too many trees": (trees(STUMP, STUMP, STUMP), "other arrays"),
    "too many nodes": (trees(*[STUMP] * 5), "other arrays"),
    "sizes that do not fit": (trees(STUMP, size=[5]), "nodes"),
    "random numbers": (
        trees(**{n: np.random.default_rng(7).integers(-99, 99, 9) for n in STUMP if n != "size"},
              size=[7, 2]) , "",
    ),
    "another kind": (
        ArrayRecord({**trees(STUMP), "value": np.zeros(3, np.float64)}), "other arrays",
    ),
    "more dimensions": (trees(STUMP, value=np.zeros((3, 1))), "other arrays"),
    "the model itself": (forest(STUMP), "other arrays"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_who_sends_bad_trees_is_named_and_the_round_goes_on(bad):
    sent, reason = BAD[bad]
    history = simulate(
        app_of({"b": sent}), Bagging(**SETTINGS), {"a": {}, "b": {}, "c": {}}, empty_forest(), 2
    )
    for each in history.rounds:
        assert each.cohort == ("a", "c")
        assert reason in each.dropped["b"]
    assert history.arrays == expected("ac", 2)


@pytest.mark.parametrize("bad", ["a cycle", "not a number", "too many trees", "random numbers"])
async def test_a_real_run_refuses_them_too(tmp_path, bad):
    sent, reason = BAD[bad]
    content = RecordDict({"trees": sent, "metrics": GOOD})
    world = consort(tmp_path)
    coordinate = world.coordinate
    world.coordinate = lambda: coordinate(Bagging(**SETTINGS))

    async def rogue(world: Consort) -> None:
        link, ask = await attended(world)
        with contextlib.suppress(TransportError):
            await link.say(Answer(number=ask.number, records=specs_of(content)), content)
        with contextlib.suppress(WardianError):
            said, _ = await link.hear()
            assert isinstance(said, Unwanted)
            assert reason in said.reason
        link.abort()

    assert await beside(world, rogue, app=app_of) == expected("ab", 2)
    assert len(refusals(world)) == 1
    assert reason in refusals(world)[0]


@pytest.mark.parametrize("spilled", [False, True], ids=["in memory", "on disk"])
async def test_a_real_run_is_a_simulated_one_bit_for_bit(tmp_path, monkeypatch, spilled):
    if spilled:
        monkeypatch.setattr("wardian.learning.coordinator.run.IN_MEMORY_BYTES", 0)
    world = Consort(tmp_path, "c", "a", "b", rounds=3, quorum=3)
    parties = [asyncio.create_task(world.party(name, app_of()).attend()) for name in world.keys]
    real = await world.coordinate(Bagging(**SETTINGS))
    assert await asyncio.gather(*parties) == [real] * 3
    names = {name: {} for name in world.keys}
    history = simulate(app_of(), Bagging(**SETTINGS), names, empty_forest(), 3, evaluate_every=1)
    assert real == history.arrays == expected("abc", 3)
    assert [each.evaluation for each in world.news] == [each.evaluation for each in history.rounds]
    assert [each.evaluation["trees"] for each in world.news] == [3, 6, 9]


@pytest.mark.parametrize(
    "bad", [trees(STUMP), forest(STUMP, left=[0, 0, 0]), ArrayRecord({"w": np.zeros(3)})]
)
async def test_a_run_does_not_begin_with_a_bad_model(tmp_path, bad):
    world = Consort(tmp_path, "a", "b", rounds=1)
    parties = [
        asyncio.create_task(world.party(name, app_of(first=lambda: bad)).attend())
        for name in world.keys
    ]
    with pytest.raises(JobFailed, match="a gave no first model"):
        await world.coordinate(Bagging(**SETTINGS))
    for each in parties:
        each.cancel()
    await asyncio.gather(*parties, return_exceptions=True)
    with pytest.raises(FormatError, match="trees"):
        simulate(app_of(), Bagging(**SETTINGS), 2, bad, 1)


def test_a_run_goes_on_from_a_model_with_trees():
    first = forest(STUMP, DEEP, base=1.0)
    history = simulate(app_of(), Bagging(**SETTINGS), {"a": {}, "b": {}}, first, 1)
    assert history.arrays == forest(STUMP, DEEP, own("a", 1), own("b", 1), base=1.0)


def test_the_order_is_that_of_names_whatever_came_first():
    model, strategy = empty_forest(), Bagging(**SETTINGS)
    answers = {name: ({"trees": trees(own(name, 1))}, GOOD) for name in ("c", "a", "b")}
    found, metrics = strategy.aggregate_train(1, model, HeldReplies(answers, alike=False))
    assert found == expected("abc", 1)
    assert metrics["num-examples"] == 9


def test_parties_are_told_how_many_and_how_deep():
    from wardian.learning.records import ConfigRecord

    told = Bagging(**SETTINGS).configure_train(1, empty_forest(), ConfigRecord({"eta": 1.0}), ["a"])
    assert dict(told["a"]["config"]) == {"eta": 1.0, "bagging-trees": 2, "bagging-depth": 2}


def test_an_answer_is_bounded_before_it_is_read():
    specs = Bagging(columns=3, trees=4, outputs=2, depth=6).wanted(empty_forest())
    assert sum(map(array_bytes, specs)) == 8 * (127 * 13 + 4)


@pytest.mark.parametrize(
    "change",
    [
        {"columns": 0}, {"columns": 1_000_001}, {"outputs": 0}, {"outputs": 1001}, {"trees": 0},
        {"trees": 1001}, {"depth": 0}, {"depth": 17}, {"leaf": 0}, {"leaf": 1e9},
        {"leaf": float("nan")}, {"trees": True}, {"depth": 16, "trees": 9},
    ],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range(change):
    with pytest.raises(ConfigError, match="strategy"):
        Bagging(**(SETTINGS | change))


def test_bounds_are_those_of_the_settings():
    assert Bagging(**SETTINGS)._bounds == BOUNDS
