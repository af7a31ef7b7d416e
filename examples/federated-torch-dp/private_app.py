"""A party that trains privately: DP-SGD on its own digits, within a budget for the whole run.

Each party has a share of scikit-learn's bundled digits, which `node_config` names by its number.
It answers with its model's arrays, and with the epsilon that it has spent so far.
"""

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message
from wardian.learning.privacy.dpsgd import PrivateTraining, TrainingBudget
from wardian.learning.records import MetricRecord, Record, RecordDict

HELD_OUT = 360
"""Of 1,797 images, those that no party trains on."""
SEED = 7

app = ClientApp()


def network() -> nn.Module:
    """Return the classifier, with the same first weights for everybody."""
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (1797, 64) of 0 to 1 and labels (1797,), shuffled the same for everybody."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(images))
    return torch.tensor(images[order] / 16, dtype=torch.float32), torch.tensor(labels[order])


def share(place: int, parties: int) -> "DataLoader[Any]":
    """Return the batches of the party at `place`, 0 first."""
    images, labels = digits()
    mine = slice(HELD_OUT + place, None, parties)
    return DataLoader(TensorDataset(images[mine], labels[mine]), batch_size=64)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train for an epoch or more, and say what that has cost."""
    config = message.content.config_records["config"]
    node = context.node_config
    loader = share(int(str(node["partition-id"])), int(str(node["num-partitions"])))
    epochs, rounds = int(str(config["local-epochs"])), int(str(config["rounds"]))
    model = network()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    budget = TrainingBudget(
        epsilon=float(str(config["epsilon"])), delta=1e-4, epochs=epochs * rounds, clip=1.0
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=float(str(config["lr"])))
    training = PrivateTraining(
        model, optimizer, loader, budget=budget, state=context.state, epochs=epochs
    )
    for _ in range(epochs):
        for images, labels in training.loader:
            training.optimizer.zero_grad()
            nn.functional.cross_entropy(training.model(images), labels).backward()
            training.optimizer.step()
    arrays = {
        name.removeprefix("_module."): each for name, each in training.model.state_dict().items()
    }
    metrics = {
        "num-examples": len(loader.dataset),
        "epsilon": training.spent(context.state),
    }
    record = ArrayRecord(torch_state_dict=arrays)
    answer: dict[str, Record] = {"arrays": record, "metrics": MetricRecord(metrics)}
    return Message(RecordDict(answer), reply_to=message)
