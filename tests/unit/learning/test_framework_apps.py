"""The examples of scikit-learn and PyTorch: tried, published, and as good as is said."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from wardian._internal import settings
from wardian._internal.consortium import Consortium
from wardian.cli.files import read_secret
from wardian.cli.learning.history import HISTORY, read_history
from wardian.cli.learning.loading import load_app
from wardian.cli.main import cli
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, open_bytes
from wardian.inference.model import load_model
from wardian.learning.app import Context
from wardian.learning.message import Message, MessageType, Metadata
from wardian.learning.records import ConfigRecord, RecordDict

EXAMPLES = Path(__file__).parents[3] / "examples"
HELD_OUT, SEED = 360, 7


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """Return what no party trains on: the first of the examples' own order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))[:HELD_OUT]
    return (images[order] / 16).astype(np.float32), labels[order]


def publish(example: str, app: str, place: Path) -> None:
    """Run `wardian fl simulate --publish` on an example."""
    command = (
        *("fl", "simulate", "--app", EXAMPLES / example / app),
        *("--consortium", EXAMPLES / example / "consortium.toml"),
        *("-o", place / "tried", "--publish", place / "served"),
    )
    done = CliRunner().invoke(cli, [*map(str, command)])
    assert done.exit_code == 0, done.output + repr(done.exception)


def answers(served: Path, engine: str) -> dict[str, np.ndarray]:
    """Return what the published model says of the held-out images."""
    with (served / "digits.sealed").open("rb") as file:
        raw = open_bytes(
            file,
            identities=[BrokerKey(read_secret(served / "digits.key"))],
            pin=Pin.parse((served / "digits.sealed.pin").read_text().strip()),
            media_type="application/onnx",
            name="digits",
            version=1,
            max_bytes=2**24,
        )
    model = load_model(raw, media_type="application/onnx", engine=engine, threads=1)
    try:
        return model.infer({"image": held_out()[0]})
    finally:
        model.close()


def demand_as_good_as(place: Path, accuracy: float) -> None:
    """Both engines name the same classes, and right; the parties saw the model get better."""
    served = place / "served"
    found = [answers(served, engine) for engine in ("onnxruntime", "openvino")]
    labels = held_out()[1]
    for each in found:
        assert (each["label"] == labels).mean() > accuracy
        np.testing.assert_allclose(each["probabilities"].sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(found[0]["probabilities"], found[1]["probabilities"], atol=1e-5)
    assert [name for name in (place / "tried").iterdir() if name.name != HISTORY] == []
    rounds = read_history(place / "tried" / HISTORY)
    assert not any(each.dropped for each in rounds)
    assert rounds[-1].evaluation["accuracy"] > accuracy
    assert rounds[-1].evaluation["loss"] < rounds[0].evaluation["loss"]


def test_scikit_learn(tmp_path: Path) -> None:
    publish("federated-sklearn", "sklearn_app.py", tmp_path)
    demand_as_good_as(tmp_path, 0.94)


@pytest.mark.filterwarnings("ignore")
def test_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch==2.13.0, which is in no lock")
    pytest.importorskip("onnxscript", reason="PyTorch exports ONNX by onnxscript, in no lock")
    publish("federated-torch", "torch_app.py", tmp_path)
    demand_as_good_as(tmp_path, 0.94)


def test_a_party_without_some_class_says_so() -> None:
    """scikit-learn alone would answer with a model of fewer classes, and say nothing."""
    app = load_app(str(EXAMPLES / "federated-sklearn" / "sklearn_app.py"))
    config = ConfigRecord({"steps": 1, "num-partitions": 400})
    context = Context(party="p", node_config=ConfigRecord({"partition-id": 0, **config}))
    about = {"run": "", "round": 1, "party": "p"}
    asked = Metadata(message_type=MessageType.QUERY, **about)
    first = app(Message(RecordDict(), metadata=asked), context).content
    asked = Metadata(message_type=MessageType.TRAIN, **about)
    answer = app(Message(RecordDict({**first, "config": config}), metadata=asked), context)
    assert answer.error == "this party has no row of some class"


@pytest.mark.parametrize(
    "example", sorted(path.parent.name for path in EXAMPLES.glob("*/consortium.toml"))
)
def test_the_plans_of_the_examples_are_plans(example: str) -> None:
    plan = settings.load(EXAMPLES / example / "consortium.toml", Consortium)
    assert plan.run.quorum == len(plan.parties)
    if plan.strategy is not None:
        assert plan.app["num-partitions"] == len(plan.parties)
