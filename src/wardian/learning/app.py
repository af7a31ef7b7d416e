"""A party's side of a run, as its author writes it: functions that train and evaluate.

The shape is Flower's:

    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        ...
        return Message(RecordDict({"arrays": ..., "metrics": ...}), reply_to=message)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from wardian.errors import ConfigError, FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message, MessageType
from wardian.learning.records import ConfigRecord, Record, RecordDict


@dataclass(slots=True, kw_only=True)
class Context:
    """What an app knows beside the message.

    Attributes:
        party: its name in the consortium's manifest.
        run_config: what all parties agreed to, of the plan.
        node_config: what the party itself set, for example where its data are.
        state: kept from round to round, by the party alone, on its own disk.
    """

    party: str
    run_config: ConfigRecord = field(default_factory=ConfigRecord)
    node_config: ConfigRecord = field(default_factory=ConfigRecord)
    state: dict[str, Record] = field(default_factory=dict)


Handler: TypeAlias = Callable[[Message, Context], Message]


class App(Protocol):
    """What answers as a party: a `ClientApp`, or what a plan over aligned records needs."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Return the answer to `message`; what it puts into the state is kept with the answer."""

    def outcome(self, content: RecordDict, context: Context) -> ArrayRecord | None:
        """Return what the party has of a run that is over; `content` is what it is told then."""


class ClientApp:
    """The functions of a party, by what they are asked for."""

    def __init__(self, handlers: Mapping[MessageType, Handler] | None = None) -> None:
        """Answer nothing but what `handlers` do."""
        self._handlers = dict(handlers or {})

    def train(self) -> Callable[[Handler], Handler]:
        """Return a decorator: the function answers what asks for training."""
        return self._register(MessageType.TRAIN)

    def evaluate(self) -> Callable[[Handler], Handler]:
        """Return a decorator: the function answers what asks for an evaluation."""
        return self._register(MessageType.EVALUATE)

    def query(self) -> Callable[[Handler], Handler]:
        """Return a decorator: the function answers anything else."""
        return self._register(MessageType.QUERY)

    def answers(self, kind: MessageType) -> bool:
        """Return whether there is a function for `kind`."""
        return kind in self._handlers

    def __call__(self, message: Message, context: Context) -> Message:
        """Return the answer to `message`.

        Raises:
            ConfigError: the app has no function for what is asked.
            FormatError: what its function returned does not answer `message`.
        """
        kind = message.metadata.message_type
        handler = self._handlers.get(kind)
        if handler is None:
            raise ConfigError(
                f"the app has no function for {kind}: decorate one with @app.{kind}()"
            )
        answer: object = handler(message, context)
        if not isinstance(answer, Message) or answer.metadata != message.metadata:
            raise FormatError(f"the app's function for {kind} returned no answer to its message")
        return answer

    def outcome(self, content: RecordDict, context: Context) -> ArrayRecord | None:  # noqa: ARG002
        """Return the model, which all parties are told; None if there is none."""
        return content.array_records.get("arrays")

    def _register(self, kind: MessageType) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            if kind in self._handlers:
                raise ConfigError(f"the app has two functions for {kind}")
            self._handlers[kind] = handler
            return handler

        return register
