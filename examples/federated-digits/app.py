"""Parties who learn handwritten digits together: what each of them runs.

One app for FedAvg, FedProx and SCAFFOLD, and every strategy that asks no more of a party: what it
is told says which it is.

    python examples/federated-digits/app.py        # needs scikit-learn: pip install 'wardian[dev]'
"""

from typing import Any

import numpy as np
from digits_data import Digits, load, shared_out
from digits_network import first_weights, gradients, measure

from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.layers import classifier
from wardian.learning.message import Message
from wardian.learning.records import MetricRecord, Record, RecordDict
from wardian.learning.simulation import simulate
from wardian.learning.strategies.control import ControlVariate
from wardian.learning.strategies.fedprox import PROXIMAL_MU, proximal_gradient
from wardian.learning.strategies.scaffold import CONTROL, Scaffold

app = ClientApp()

SETTINGS: dict[str, Any] = {
    "alpha": 0.05,  # of the share-out of classes; 0: no difference
    "batch": 32,
    "epochs": 5,
    "lr": 0.1,
    "seed": 0,
}


def own(context: Context) -> Digits:
    """Return the party's own images."""
    config: dict[str, Any] = {**context.run_config, **context.node_config}
    shares = shared_out(config["num-partitions"], config["alpha"], config["seed"])
    train_set, _ = load(config["seed"])
    return train_set.at(shares[config["partition-id"]])


@app.query()
def first_model(message: Message, context: Context) -> Message:
    """Return the model that the first round begins with."""
    config: dict[str, Any] = dict(context.run_config)
    arrays = ArrayRecord(first_weights(config["seed"]))
    return Message(RecordDict({"arrays": arrays}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the model for some epochs on the party's own images."""
    given = message.content.array_records["arrays"]
    config: dict[str, Any] = dict(message.content.config_records["config"])
    digits = own(context)
    control = ControlVariate(message, context) if CONTROL in message.content else None
    weights = {name: array.copy() for name, array in given.items()}
    mu, lr, batch = config.get(PROXIMAL_MU), config["lr"], config["batch"]
    place: Any = context.node_config["partition-id"]
    order = np.random.default_rng([config["seed"], place, message.metadata.round])
    steps = 0
    for _ in range(config["epochs"]):
        places = order.permutation(len(digits.labels))
        for start in range(0, len(places), batch):
            some = digits.at(places[start : start + batch])
            step = gradients(weights, some.images, some.labels)
            for name, weight in weights.items():
                if mu is not None:
                    step[name] += proximal_gradient(weight, given[name], mu)
                if control is not None:
                    step[name] += control.correction[name]
            for name in weights:
                weights[name] -= lr * step[name]
            steps += 1
    loss, _ = measure(weights, digits.images, digits.labels)
    answer: dict[str, Record] = {
        "arrays": ArrayRecord(weights),
        "metrics": MetricRecord({"num-examples": len(digits.labels), "train_loss": loss}),
    }
    if control is not None:
        answer[CONTROL] = control.change(weights, steps=steps, lr=lr)
    return Message(RecordDict(answer), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the model on the party's own images."""
    digits = own(context)
    loss, accuracy = measure(
        dict(message.content.array_records["arrays"]), digits.images, digits.labels
    )
    metrics = {"num-examples": len(digits.labels), "loss": loss, "accuracy": accuracy}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


@app.export()
def servable(arrays: ArrayRecord, _context: Context) -> bytes:
    """Return the network as ONNX: images FP32 [N, 64], from 0 to 1, to probabilities and label."""
    layers = [(arrays[f"weight{place}"], arrays[f"bias{place}"]) for place in range(2)]
    return classifier(layers, input_name="image")


def judge(_number: int, arrays: ArrayRecord) -> MetricRecord:
    """Measure the model on the images that are held out."""
    _, held = load(SETTINGS["seed"])
    loss, accuracy = measure(dict(arrays), held.images, held.labels)
    return MetricRecord({"loss": loss, "accuracy": accuracy})


def main() -> None:
    """Simulate ten parties under SCAFFOLD, and print how good the model is after each round."""
    history = simulate(
        app,
        Scaffold(parties=10),
        10,
        ArrayRecord(first_weights(SETTINGS["seed"])),
        rounds=50,
        config=SETTINGS,
        judge=judge,
    )
    for each in history.rounds:
        print(f"round {each.round}: {each.judged['accuracy']:.4f} on held-out images")


if __name__ == "__main__":
    main()
