"""A party that answers a question only once the test lets it: so a run stands still at any step."""

import time
from pathlib import Path

import numpy as np

from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message
from wardian.learning.records import MetricRecord, RecordDict

app = ClientApp()


def let_go(message: Message, context: Context) -> None:
    """Return once the gate for this question to this party is open."""
    about = message.metadata
    gates = Path(str(context.node_config["gates"]))
    gate = gates / f"{about.message_type}-{about.round}-{context.party}"
    until = time.monotonic() + 100
    while not (gate.exists() or (gates / "all").exists()):
        assert time.monotonic() < until
        time.sleep(0.01)


@app.query()
def first(message: Message, context: Context) -> Message:
    let_go(message, context)
    made = np.random.default_rng(7).normal(size=(40, 10)).astype(np.float32)
    return Message(RecordDict({"arrays": ArrayRecord({"w": made})}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """What it makes depends on the model, the party, and how often it has trained before."""
    let_go(message, context)
    steps = int(context.state.get("steps", MetricRecord({"n": 0}))["n"]) + 1
    context.state["steps"] = MetricRecord({"n": steps})
    by = np.float32(ord(context.party) / 7 + steps)
    arrays = ArrayRecord({"w": message.content.array_records["arrays"]["w"] * np.float32(0.7) + by})
    metrics = MetricRecord({"num-examples": 10 * steps + ord(context.party)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    let_go(message, context)
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1})}), reply_to=message)
