"""Parties who learn together with PyTorch: a small convolutional network on handwritten digits.

The network's `state_dict` is the arrays. Needs torch and scikit-learn (the data), and onnxscript to
publish.

    wardian fl simulate --app examples/federated-torch/torch_app.py \
        --consortium examples/federated-torch/consortium.toml -o tried --publish served
    wardian up served
"""

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message
from wardian.learning.records import MetricRecord, RecordDict

Rows = tuple[torch.Tensor, torch.Tensor]

HELD_OUT = 360
"""Of 1,797 images, those that no party trains on."""
SEED = 7

app = ClientApp()


def network() -> nn.Module:
    """Return the network, with the same first weights for everybody."""
    torch.manual_seed(SEED)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )


def network_of(arrays: ArrayRecord) -> nn.Module:
    """Return the network with the weights in `arrays`."""
    found = network()
    found.load_state_dict(arrays.to_torch_state_dict())
    return found


def digits() -> Rows:
    """Return images (1797, 64), from 0 to 1, and labels (1797,), in one order for everybody."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    return torch.tensor(images[order] / 16, dtype=torch.float32), torch.tensor(labels[order])


def own(context: Context) -> Rows:
    """Return the party's own rows. Read yours here: node_config says where they are."""
    place: Any = context.node_config["partition-id"]
    parties: Any = {**context.run_config, **context.node_config}["num-partitions"]
    images, labels = digits()
    mine = slice(HELD_OUT + place, None, parties)
    return images[mine], labels[mine]


@app.query()
def first_model(message: Message, _context: Context) -> Message:
    """Return the model that the first round begins with."""
    arrays = ArrayRecord(torch_state_dict=network().state_dict())
    return Message(RecordDict({"arrays": arrays}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the model of all for some epochs, on the party's own rows."""
    config: dict[str, Any] = dict(message.content.config_records["config"])
    images, labels = own(context)
    model = network_of(message.content.array_records["arrays"])
    place: Any = context.node_config["partition-id"]
    order = np.random.default_rng([SEED, place, message.metadata.round])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    for _ in range(config["epochs"]):
        places = torch.from_numpy(order.permutation(len(labels)))
        for batch in places.split(config["batch"]):
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    arrays = ArrayRecord(torch_state_dict=model.state_dict())
    metrics = MetricRecord({"num-examples": len(labels)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the model on the party's own rows."""
    images, labels = own(context)
    with torch.no_grad():
        scores = network_of(message.content.array_records["arrays"])(images)
        loss = float(cross_entropy(scores, labels))
    accuracy = float((scores.argmax(1) == labels).float().mean())
    metrics = {"num-examples": len(labels), "loss": loss, "accuracy": accuracy}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


class Answering(nn.Module):
    """The network as clients see it: probabilities and the most probable class."""

    def __init__(self, scores: nn.Module) -> None:
        """Answer by `scores`."""
        super().__init__()
        self.scores = scores

    def forward(self, image: torch.Tensor) -> Rows:
        """Return probabilities (N, 10) and labels (N,) for images (N, 64)."""
        probabilities = self.scores(image).softmax(1)
        return probabilities, probabilities.argmax(1)


@app.export()
def servable(arrays: ArrayRecord, _context: Context) -> bytes:
    """Return the model as ONNX, made in memory: any network that PyTorch exports."""
    program = torch.onnx.export(
        Answering(network_of(arrays)).eval(),
        (torch.zeros(2, 64),),
        input_names=["image"],
        output_names=["probabilities", "label"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("PyTorch exported nothing")
    model: bytes = program.model_proto.SerializeToString()
    return model
