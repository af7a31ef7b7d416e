"""Strategies and apps of Flower's, run as ours, where `flwr` is installed."""

import importlib.util
import sys

import numpy as np
import pytest
from strategy_cases import held, model

from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.learning.app import Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message, MessageType, Metadata
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.simulation import simulate
from wardian.learning.strategies.terms import build

HERE = importlib.util.find_spec("flwr") is not None
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what flwr imports
need_flower = pytest.mark.skipif(not HERE, reason="flwr is not installed: the extra flower")


@pytest.mark.skipif(HERE, reason="flwr is installed")
def test_without_flower_it_says_what_to_install():
    from wardian.learning.flower import FlowerStrategy, client_app

    for make in (FlowerStrategy, client_app):
        with pytest.raises(ConfigError, match=r"wardian\[flower\]"):
            make(object())


def test_flower_is_imported_by_nothing_else():
    import wardian.learning.flower
    import wardian.learning.strategies.terms

    if not HERE:
        assert "flwr" not in sys.modules
    assert wardian.learning.flower.FlowerStrategy.robust


def wrapped(name: str, **settings):
    import flwr.serverapp.strategy as theirs

    from wardian.learning.flower import FlowerStrategy

    return FlowerStrategy(getattr(theirs, name)(**settings), stateless=name == "FedAvg")


FLOWERS = [
    ("FedAvg", {}, "fedavg", {}),
    ("FedProx", {"proximal_mu": 0.5}, "fedprox", {"mu": 0.5}),
    ("FedAvgM", {"server_momentum": 0.8, "server_learning_rate": 0.5}, "fedavgm", {"momentum": 0.8, "lr": 0.5}),
    ("FedMedian", {}, "median", {}),
    ("FedTrimmedAvg", {"beta": 0.2}, "trimmed-mean", {"cut": 0.2}),
    ("Krum", {"num_malicious_nodes": 1}, "krum", {"liars": 1}),
    ("MultiKrum", {"num_malicious_nodes": 1, "num_nodes_to_select": 3}, "krum", {"liars": 1, "keep": 3}),
]  # fmt: skip


def parameters(seed: int) -> ArrayRecord:
    """Without the counter, which is a distance to Krum there, and none here."""
    return ArrayRecord({n: a for n, a in model(seed, kind="float64").items() if n != "batches"})


@need_flower
@pytest.mark.parametrize(
    ("theirs", "their", "ours", "our"), FLOWERS, ids=[each[0] for each in FLOWERS]
)
def test_a_strategy_of_theirs_is_ours_of_the_same_name(theirs, their, ours, our):
    """Each on its own; FedAdam and FedYogi begin v with 0 there, and as their paper says here."""
    given = {f"p{place}": parameters(place) for place in range(5)}
    one, other = wrapped(theirs, **their), build(ours, our)
    arrays = mine = parameters(9)
    for number in (1, 2, 3):
        one.configure_train(number, arrays, ConfigRecord(), sorted(given))
        counts = {"p0": 3, "p3": 2} if ours.startswith("fed") else {}
        arrays, metrics = one.aggregate_train(number, arrays, held(given, counts))
        mine, _ = other.aggregate_train(number, mine, held(given, counts))
        for name in ("weight", "scale", "empty"):
            np.testing.assert_allclose(arrays[name], mine[name], rtol=1e-12)
        assert arrays.fits(mine)
        assert "num-examples" not in metrics


@need_flower
def test_parties_are_told_what_the_strategy_says():
    strategy = wrapped("FedProx", proximal_mu=0.25)
    arrays, parties = model(1), ["b", "a", "c"]
    for configure in (strategy.configure_train, strategy.configure_evaluate):
        told = configure(3, arrays, ConfigRecord({"lr": 0.5, "tags": ["x"], "raw": b"y"}), parties)
        assert set(told) == set(parties)
        for content in told.values():
            assert content["arrays"] == arrays
            config = dict(content["config"])
            assert config.pop("proximal-mu", 0.25) == 0.25
            assert config == {"lr": 0.5, "tags": ["x"], "raw": b"y", "server-round": 3}


@need_flower
def test_a_strategy_that_waits_for_more_parties_is_told_that_there_are_none():
    strategy = wrapped("FedAvg", min_available_nodes=5)
    with pytest.raises(JobFailed, match="more parties than the 3"):
        import flwr.serverapp.strategy.strategy_utils as waiting

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(waiting, "sleep", lambda _: None)
            strategy.configure_train(1, model(1), ConfigRecord(), ["a", "b", "c"])


@need_flower
def test_what_a_flower_strategy_keeps_is_not_silently_lost():
    adam = wrapped("FedAdam")
    assert not adam.state()
    adam.configure_train(1, model(0), ConfigRecord(), ["a", "b"])
    adam.aggregate_train(1, model(0), held({"a": model(1), "b": model(2)}))
    with pytest.raises(FormatError, match="begin anew"):
        wrapped("FedAdam").restore(adam.state())
    plain = wrapped("FedAvg")
    plain.aggregate_train(1, model(0), held({"a": model(1), "b": model(2)}))
    wrapped("FedAvg").restore(plain.state())


@need_flower
def test_another_model_is_refused():
    strategy = wrapped("FedAvg")
    other = ArrayRecord({**model(1), "weight": np.zeros((7, 5), np.float32)})
    with pytest.raises(FormatError, match="another model"):
        strategy.aggregate_train(1, other, held({"a": model(1), "b": model(2)}))


def flower_app():
    import flwr.app as flower
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def train(message, context):
        if context.run_config.get("broken"):
            raise OSError
        before = context.state.get("rounds", flower.ConfigRecord({"count": 0}))["count"]
        context.state["rounds"] = flower.ConfigRecord({"count": before + 1})
        step = message.content["config"]["lr"] * context.node_config["partition-id"]
        arrays = [each + np.float32(step) for each in message.content["arrays"].to_numpy_ndarrays()]
        names = message.content["arrays"].keys()
        made = {n: flower.Array(each) for n, each in zip(names, arrays, strict=True)}
        metrics = flower.MetricRecord({"num-examples": 1, "asked": before + 1})
        content = flower.RecordDict({"arrays": flower.ArrayRecord(made), "metrics": metrics})
        return flower.Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        if context.node_config["partition-id"] == 0:
            return flower.Message(flower.Error(code=0, reason="no data"), reply_to=message)
        metrics = flower.MetricRecord({"num-examples": 1, "accuracy": 0.5})
        return flower.Message(flower.RecordDict({"metrics": metrics}), reply_to=message)

    return app


@need_flower
@pytest.mark.parametrize("strategy", ["ours", "theirs"])
def test_a_whole_run_of_an_app_of_theirs(strategy):
    from wardian.learning.flower import client_app

    made = build("fedavg", {}) if strategy == "ours" else wrapped("FedAvg")
    first = ArrayRecord({"x": np.zeros((2, 3), np.float32)})
    history = simulate(
        client_app(flower_app()), made, 3, first, 4, config={"lr": 0.5}, evaluate_every=2
    )
    np.testing.assert_allclose(history.arrays["x"], np.full((2, 3), 2.0), rtol=1e-6)
    assert [each.metrics["asked"] for each in history.rounds] == [1, 2, 3, 4]
    assert [each.evaluation.get("accuracy") for each in history.rounds] == [None, 0.5, None, 0.5]


@need_flower
def test_an_error_of_theirs_is_one_of_ours():
    from wardian.learning.flower import client_app

    about = Metadata(run="r", round=1, party="a", message_type=MessageType.EVALUATE)
    context = Context(party="a", node_config=ConfigRecord({"partition-id": 0}))
    content = RecordDict({"arrays": ArrayRecord(), "m": MetricRecord({"x": [1.5]})})
    reply = client_app(flower_app())(Message(content, metadata=about), context)
    assert (reply.error, reply.metadata) == ("no data", about)
