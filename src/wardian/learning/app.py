"""A party's side of a run, as its author writes it: functions that train and evaluate.

The shape is Flower's:

    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        ...
        return Message(RecordDict({"arrays": ..., "metrics": ...}), reply_to=message)

A function with `@app.export()` says how the arrays become a model that can be served.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from wardian.errors import ConfigError, FormatError
from wardian.learning.arrays import ArrayRecord
from wardian.learning.message import Message, MessageType
from wardian.learning.records import ConfigRecord, Record


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


MAX_REASON: Final = 400
Handler: TypeAlias = Callable[[Message, Context], Message]
Exporter: TypeAlias = Callable[[ArrayRecord, Context], bytes]


class ClientApp:
    """The functions of a party, by what they are asked for."""

    def __init__(self, handlers: Mapping[MessageType, Handler] | None = None) -> None:
        """Answer nothing but what `handlers` do."""
        self._handlers = dict(handlers or {})
        self._exporter: Exporter | None = None

    def train(self) -> Callable[[Handler], Handler]:
        """Return a decorator: the function answers what asks for training."""
        return self._register(MessageType.TRAIN)

    def evaluate(self) -> Callable[[Handler], Handler]:
        """Return a decorator: the function answers what asks for an evaluation."""
        return self._register(MessageType.EVALUATE)

    def query(self) -> Callable[[Handler], Handler]:
        """Return a decorator: the function answers anything else."""
        return self._register(MessageType.QUERY)

    def export(self) -> Callable[[Exporter], Exporter]:
        """Return a decorator: the function returns the model as serving takes it, ONNX or IR.

        It is given the arrays that the run ended with, and writes nothing to a disk: what it
        returns is sealed (`wardian party --publish`).
        """

        def register(exporter: Exporter) -> Exporter:
            if self._exporter is not None:
                raise ConfigError("the app has two functions that export")
            self._exporter = exporter
            return exporter

        return register

    @property
    def exports(self) -> bool:
        """Whether there is a function that exports."""
        return self._exporter is not None

    def exported(self, arrays: ArrayRecord, context: Context) -> bytes:
        """Return the model of `arrays` in the bytes of its file; what is in them is not looked at.

        Raises:
            ConfigError: the app has no function that exports.
            FormatError: its function failed, or returned no bytes.
        """
        if self._exporter is None:
            raise ConfigError(
                "the app has no function that exports: decorate one with @app.export()"
            )
        try:
            made: object = self._exporter(arrays, context)
        except Exception as err:
            raise FormatError(
                f"the app's function that exports failed: {type(err).__name__}: {err}"[:MAX_REASON]
            ) from err
        if not isinstance(made, bytes) or not made:
            raise FormatError("the app's function that exports returned no bytes")
        return made

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

    def _register(self, kind: MessageType) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            if kind in self._handlers:
                raise ConfigError(f"the app has two functions for {kind}")
            self._handlers[kind] = handler
            return handler

        return register
