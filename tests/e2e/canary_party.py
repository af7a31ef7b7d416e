"""A party whose every number can be recognised; it keeps the models that it is sent."""

from pathlib import Path

import numpy as np
from learning_canaries import EXAMPLES, LOSS, SECRET, TROUBLE, private

from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message
from wardian.learning.records import MetricRecord, RecordDict

app = ClientApp()


def measured(context: Context) -> MetricRecord:
    assert context.node_config["secret"] == f"{SECRET}{context.party}"
    party = context.party
    return MetricRecord({"num-examples": EXAMPLES[party], "loss-canary": LOSS[party]})


@app.query()
def first(message: Message, context: Context) -> Message:
    if "trouble" in context.node_config:
        return Message(reply_to=message, error=TROUBLE)
    arrays = ArrayRecord(private(context.party, 0))
    return Message(RecordDict({"arrays": arrays}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    keep = Path(str(context.node_config["keep"]))
    np.savez(keep / f"{message.metadata.round}.npz", **message.content.array_records["arrays"])
    arrays = ArrayRecord(private(context.party, message.metadata.round))
    return Message(RecordDict({"arrays": arrays, "metrics": measured(context)}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    if message.metadata.round == 2 and context.party == "b":
        return Message(reply_to=message, error=TROUBLE)
    return Message(RecordDict({"metrics": measured(context)}), reply_to=message)
