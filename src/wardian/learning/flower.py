"""What was written for Flower, used as ours: its strategies, and its client apps.

Flower's Message API as of 1.42 (the extra `flower`); nothing of it is imported before it is used.

A Flower strategy gets all updates of a round at once: they are all in memory, several times over.
It looks at single updates, so masked ones are of no use to it. It keeps its own state in memory, so
after a crash of the coordinator its run cannot go on, unless it is said to keep none. Who is asked
in a round is the plan's to say: leave `fraction_train` at 1.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from typing_extensions import override

from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.learning.app import ClientApp, Context
from wardian.learning.arrays import Array, ArrayRecord
from wardian.learning.message import Message, MessageType
from wardian.learning.records import ConfigRecord, MetricRecord, Record, RecordDict
from wardian.learning.reduce import as_kind
from wardian.learning.replies import Replies
from wardian.learning.strategies.strategy import Strategy

MAX_LOOKS: Final = 8
"""How often a strategy may ask who is there, in one round: more often it waits for parties."""
_RUN: Final = 1
_STATE: Final = "flower"


class FlowerStrategy(Strategy):
    """A strategy object of Flower's, such as `flwr.serverapp.strategy.FedAvg()`."""

    robust = True

    def __init__(self, strategy: Any, *, stateless: bool = False) -> None:
        """Do what `strategy` does.

        Args:
            strategy: a `flwr.serverapp.strategy.Strategy`.
            stateless: whether it keeps nothing from round to round, as FedAvg: then a run goes on
                after a crash.

        Raises:
            ConfigError: `flwr` is not installed.
        """
        _flower()
        self._strategy, self._stateless = strategy, stateless
        self._rounds = 0

    @override
    def configure_train(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        return self._asked(self._strategy.configure_train, number, arrays, config, parties)

    @override
    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        answers = _answers(MessageType.TRAIN, replies, self.records)
        model, metrics = self._strategy.aggregate_train(number, answers)
        if model is None:
            raise FormatError("Flower's strategy made no model of the answers")
        made = {name: each.numpy() for name, each in model.items()}
        self._rounds = number
        return _fitted(made, arrays), MetricRecord(dict(metrics or {}))

    @override
    def configure_evaluate(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        return self._asked(self._strategy.configure_evaluate, number, arrays, config, parties)

    @override
    def aggregate_evaluate(self, number: int, replies: Replies) -> MetricRecord:
        answers = _answers(MessageType.EVALUATE, replies, ())
        return MetricRecord(dict(self._strategy.aggregate_evaluate(number, answers) or {}))

    @override
    def state(self) -> RecordDict:
        if self._stateless or not self._rounds:
            return RecordDict()
        return RecordDict({_STATE: ConfigRecord({"rounds": self._rounds})})

    @override
    def restore(self, state: RecordDict) -> None:
        if state:
            raise FormatError("a Flower strategy's own state is lost: the run has to begin anew")

    def _asked(
        self,
        configure: Any,
        number: int,
        arrays: ArrayRecord,
        config: ConfigRecord,
        parties: Sequence[str],
    ) -> dict[str, RecordDict]:
        """Return what `configure` has each party told."""
        names = {node_of(party): party for party in parties}
        theirs = _theirs(RecordDict({"arrays": arrays, "config": config}))
        messages = configure(number, theirs["arrays"], theirs["config"], _Nodes(names))
        told: dict[str, RecordDict] = {}
        for each in messages:
            party = names.get(each.metadata.dst_node_id)
            if party is None or party in told:
                raise FormatError("Flower's strategy asks a party twice, or one that is not there")
            told[party] = _ours(each.content)
        return told


def client_app(app: Any) -> ClientApp:
    """Return an app that answers as `app`, a `flwr.clientapp.ClientApp`, does.

    Its answers need the names that ours have: "arrays", and "metrics" with "num-examples".

    Raises:
        ConfigError: `flwr` is not installed.
    """
    flower = _flower()

    def answer(message: Message, context: Context) -> Message:
        node = node_of(context.party)
        kind = str(message.metadata.message_type)
        question = flower.Message(_theirs(message.content), dst_node_id=node, message_type=kind)
        about = flower.Context(
            run_id=_RUN,
            node_id=node,
            node_config=dict(context.node_config),
            state=_theirs(RecordDict(context.state)),
            run_config=dict(context.run_config),
        )
        reply = app(question, about)
        if reply.has_error():
            return Message(reply_to=message, error=str(reply.error.reason))
        context.state.clear()
        context.state.update(_ours(about.state))
        return Message(_ours(reply.content), reply_to=message)

    return ClientApp(dict.fromkeys(MessageType, answer))


def node_of(party: str) -> int:
    """Return the number by which Flower knows `party`: the same in each round and process."""
    return int.from_bytes(hashlib.sha256(party.encode()).digest()[:8]) >> 1


class _Nodes:
    """Flower's grid, as far as strategies look at it: who is there."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self._nodes, self._looks = tuple(nodes), 0

    def get_node_ids(self) -> tuple[int, ...]:
        self._looks += 1
        if self._looks > MAX_LOOKS:  # it would wait for ever
            raise JobFailed(f"Flower's strategy wants more parties than the {len(self._nodes)}")
        return self._nodes


def _flower() -> Any:
    """Return `flwr.app`, ready to make messages."""
    try:
        import flwr.app as flower  # noqa: PLC0415
        from flwr.supercore.task_identity import TaskIdentity  # noqa: PLC0415
    except ImportError as err:
        raise ConfigError("flwr is not installed: pip install 'wardian[flower]'") from err
    try:
        _ = TaskIdentity.run_id
    except RuntimeError:  # outside of Flower's own processes; a message names who makes it
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN, _RUN, _RUN
    return flower


def _theirs(content: RecordDict) -> Any:
    """Return `content` as Flower's records; arrays are copied."""
    flower = _flower()

    def record(each: Record) -> Any:
        if isinstance(each, ArrayRecord):
            return flower.ArrayRecord({name: flower.Array(array) for name, array in each.items()})
        kind = flower.MetricRecord if isinstance(each, MetricRecord) else flower.ConfigRecord
        return kind(dict(each))

    return flower.RecordDict({name: record(each) for name, each in content.items()})


def _ours(content: Any) -> RecordDict:
    """Return Flower's records as ours; arrays are copied.

    Raises:
        FormatError: one holds what ours may not.
    """
    arrays = {
        name: ArrayRecord({each: array.numpy() for each, array in record.items()})
        for name, record in content.array_records.items()
    }
    metrics = {n: MetricRecord(dict(each)) for n, each in content.metric_records.items()}
    configs = {n: ConfigRecord(dict(each)) for n, each in content.config_records.items()}
    return RecordDict({**arrays, **metrics, **configs})


def _answers(kind: MessageType, replies: Replies, records: Sequence[str]) -> list[Any]:
    """Return the answers as Flower's messages, whole, in the order of the parties' names."""
    flower = _flower()
    whole: list[dict[str, ArrayRecord]] = [{} for _ in replies.parties]
    for record in records:
        shapes = replies.shapes(record)
        held: list[dict[str, Array]] = [
            {name: np.empty(like.size, like.dtype) for name, like in shapes.items()} for _ in whole
        ]
        for block in replies.blocks(record):
            for arrays, row in zip(held, block.values, strict=True):
                arrays[block.array][block.start : block.start + row.size] = row
        for answer, arrays in zip(whole, held, strict=True):
            shaped = {name: each.reshape(shapes[name].shape) for name, each in arrays.items()}
            answer[record] = ArrayRecord(shaped)
    found = []
    for party, answer in zip(replies.parties, whole, strict=True):
        question = flower.Message(
            flower.RecordDict(), dst_node_id=node_of(party), message_type=str(kind)
        )
        content = RecordDict({**answer, "metrics": replies.metrics(party)})
        found.append(flower.Message(_theirs(content), reply_to=question))
    return found


def _fitted(made: Mapping[str, Array], model: ArrayRecord) -> ArrayRecord:
    """Return what Flower made in the order and kinds of `model`: its means are real numbers."""
    if set(made) != set(model) or any(made[n].shape != each.shape for n, each in model.items()):
        raise FormatError("Flower's strategy made another model")
    return ArrayRecord(
        {name: as_kind(name, made[name].astype(np.float64), a.dtype) for name, a in model.items()}
    )
