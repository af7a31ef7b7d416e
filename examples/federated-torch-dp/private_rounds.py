"""Rounds of the app in one process: every party's answer, averaged, and what it has cost.

pip install 'wardian[dp-sgd]' torch scikit-learn
python examples/federated-torch-dp/private_rounds.py [--parties 3] [--rounds 10] [--epsilon 8]
"""

import argparse
import warnings

import numpy as np
import torch
from private_app import HELD_OUT, app, digits, network

from wardian.learning.app import Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message, MessageType, Metadata
from wardian.learning.records import ConfigRecord, RecordDict


def accuracy(arrays: ArrayRecord) -> float:
    """Return the share of held-out digits that the model gets right."""
    model = network()
    model.load_state_dict(arrays.to_torch_state_dict())
    images, labels = digits()
    with torch.no_grad():
        found = model(images[:HELD_OUT]).argmax(1)
    return float((found == labels[:HELD_OUT]).float().mean())


def average(answers: list[RecordDict]) -> ArrayRecord:
    """Return the mean of the answers' arrays, weighted by records."""
    counts = [float(str(each.metric_records["metrics"]["num-examples"])) for each in answers]
    records = [each.array_records["arrays"] for each in answers]
    return ArrayRecord(
        {
            name: np.average([each[name] for each in records], axis=0, weights=counts).astype(
                array.dtype
            )
            for name, array in records[0].items()
        }
    )


def main() -> None:
    """Run, and print a line for each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parties", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--local-epochs", type=int, default=2)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--lr", type=float, default=1.0)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Secure RNG turned off|Full backward hook")
    contexts = {
        f"party{place}": Context(
            party=f"party{place}",
            node_config=ConfigRecord({"place": place, "parties": args.parties}),
        )
        for place in range(args.parties)
    }
    told = {"rounds": args.rounds, "local-epochs": args.local_epochs}
    config = ConfigRecord({**told, "epsilon": args.epsilon, "lr": args.lr})
    arrays = ArrayRecord(torch_state_dict=network().state_dict())
    for number in range(1, args.rounds + 1):
        answers = []
        for party, context in contexts.items():
            asks = Metadata(run="", round=number, party=party, message_type=MessageType.TRAIN)
            question = Message(RecordDict({"arrays": arrays, "config": config}), metadata=asks)
            answers.append(app(question, context).content)
        arrays = average(answers)
        spent = max(float(str(each.metric_records["metrics"]["epsilon"])) for each in answers)
        print(f"round {number}: accuracy {accuracy(arrays):.3f}, epsilon {spent:.3f}")


if __name__ == "__main__":
    main()
