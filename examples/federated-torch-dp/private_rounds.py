"""Rounds of the app in one process, averaged: how good the model gets, and what that has cost.

pip install 'wardian[dp-sgd]' torch scikit-learn
python examples/federated-torch-dp/private_rounds.py [--parties 3] [--rounds 10] [--epsilon 8]
"""

import argparse
import warnings

import torch
from private_app import HELD_OUT, app, digits, network

from wardian.learning.arrays import ArrayRecord
from wardian.learning.records import MetricRecord
from wardian.learning.simulation import simulate
from wardian.learning.strategies.fedavg import FedAvg


def accuracy(_: int, arrays: ArrayRecord) -> MetricRecord:
    """Return the share of held-out digits that the model gets right."""
    model = network()
    model.load_state_dict(arrays.to_torch_state_dict())
    images, labels = digits()
    with torch.no_grad():
        found = model(images[:HELD_OUT]).argmax(1)
    return MetricRecord({"accuracy": float((found == labels[:HELD_OUT]).float().mean())})


def main() -> None:
    """Run, and print a line for each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parties", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--local-epochs", type=int, default=2)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--lr", type=float, default=1.0)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Secure RNG|Full backward hook|Optimal order")
    history = simulate(
        app,
        FedAvg(),
        args.parties,
        ArrayRecord(torch_state_dict=network().state_dict()),
        args.rounds,
        config={
            "rounds": args.rounds,
            "local-epochs": args.local_epochs,
            "epsilon": args.epsilon,
            "lr": args.lr,
        },
        quorum=args.parties,
        judge=accuracy,
    )
    for each in history.rounds:
        judged, spent = each.judged["accuracy"], each.metrics["epsilon"]
        print(f"round {each.round}: accuracy {judged:.3f}, epsilon {spent:.3f} on average")


if __name__ == "__main__":
    main()
