"""Parties who learn together with scikit-learn: logistic regression on handwritten digits.

`coef_` and `intercept_` are the arrays. Each round a party goes on from the model of all, for some
steps, on its own rows. Needs scikit-learn.

    wardian fl simulate --app examples/federated-sklearn/sklearn_app.py \
        --consortium examples/federated-sklearn/consortium.toml -o tried --publish served
    wardian up served
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.layers import classifier
from wardian.learning.message import Message
from wardian.learning.records import MetricRecord, RecordDict

Rows = tuple[NDArray[np.float64], NDArray[np.int64]]

FEATURES, CLASSES = 64, 10
HELD_OUT = 360
"""Of 1,797 images, those that no party trains on."""
SEED = 7

app = ClientApp()


def digits() -> Rows:
    """Return images (1797, 64), from 0 to 1, and labels (1797,), in one order for everybody."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    return images[order] / 16, labels[order]


def own(context: Context) -> Rows:
    """Return the party's own rows. Read yours here: node_config says where they are."""
    place: Any = context.node_config["partition-id"]
    parties: Any = {**context.run_config, **context.node_config}["num-partitions"]
    images, labels = digits()
    mine = slice(HELD_OUT + place, None, parties)
    return images[mine], labels[mine]


def model_of(arrays: ArrayRecord, *, steps: int = 1) -> LogisticRegression:
    """Return the model that `arrays` say, which goes on from there for so many `steps`."""
    model = LogisticRegression(max_iter=steps, warm_start=True)
    model.classes_ = np.arange(CLASSES)
    model.coef_, model.intercept_ = arrays["coef"].copy(), arrays["intercept"].copy()
    return model


@app.query()
def first_model(message: Message, _context: Context) -> Message:
    """Return the model that the first round begins with."""
    arrays = {"coef": np.zeros((CLASSES, FEATURES)), "intercept": np.zeros(CLASSES)}
    return Message(RecordDict({"arrays": ArrayRecord(arrays)}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Go on from the model of all, on the party's own rows."""
    config: dict[str, Any] = dict(message.content.config_records["config"])
    images, labels = own(context)
    if len(np.unique(labels)) < CLASSES:  # scikit-learn would make a model of fewer classes
        return Message(reply_to=message, error="this party has no row of some class")
    model = model_of(message.content.array_records["arrays"], steps=config["steps"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is to stop early
        model.fit(images, labels)
    arrays = ArrayRecord({"coef": model.coef_, "intercept": model.intercept_})
    metrics = MetricRecord({"num-examples": len(labels)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the model on the party's own rows."""
    images, labels = own(context)
    model = model_of(message.content.array_records["arrays"])
    loss = log_loss(labels, model.predict_proba(images), labels=model.classes_)
    metrics = {
        "num-examples": len(labels),
        "loss": float(loss),
        "accuracy": float(model.score(images, labels)),
    }
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


@app.export()
def servable(arrays: ArrayRecord, _context: Context) -> bytes:
    """Return the model as ONNX: images FP32 [N, 64] to `probabilities` and `label`."""
    return classifier([(arrays["coef"].T, arrays["intercept"])], input_name="image")
