"""What an engine and its driver say to each other: one JSON object a line, each answered by one.

Both ends decode strictly. A driver is told what to keep, and nothing of how it came to that, so
that a new one takes over by being told the same.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Final, Self

import msgspec

from wardian._internal import wire
from wardian.engines.engine import WorkersSpec, WorkerState, WorkerStatus

LINE_BYTES: Final = 1024 * 1024


class Workers(wire.Message, frozen=True, kw_only=True):
    """A `WorkersSpec`, but for how many."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    logs: str

    @classmethod
    def of(cls, spec: WorkersSpec) -> Self:
        """Return `spec` as it is sent."""
        return cls(name=spec.name, argv=spec.argv, env=dict(spec.env), logs=str(spec.logs))

    def workers(self, replicas: int = 1) -> WorkersSpec:
        """Return it as it was."""
        logs = Path(self.logs)
        return WorkersSpec(
            name=self.name, argv=self.argv, env=self.env, logs=logs, replicas=replicas
        )


class Keep(wire.Message, frozen=True, kw_only=True, tag="keep", tag_field="do"):
    """Have so many workers of `spec` run; answered once those that are too many have ended."""

    id: int
    spec: Workers
    replicas: int


class Ask(wire.Message, frozen=True, kw_only=True, tag="ask", tag_field="do"):
    """Say how they are; answered at once."""

    id: int


class Worker(wire.Message, frozen=True, kw_only=True):
    """A `WorkerStatus`."""

    name: str
    state: WorkerState
    place: str
    pid: int | None
    starts: int
    exit_status: int | None
    reason: str


class Answer(wire.Message, frozen=True, kw_only=True):
    """The workers, in the order of their numbers, as the driver knew them when it said so.

    `id` is that of what is answered; 0: the driver has reached the cluster, and has none yet.
    """

    id: int
    workers: tuple[Worker, ...] = ()

    @classmethod
    def of(cls, id_: int, workers: tuple[WorkerStatus, ...]) -> Self:
        """Return the answer to order `id_`."""
        return cls(id=id_, workers=tuple(Worker(**asdict(each)) for each in workers))

    def status(self) -> tuple[WorkerStatus, ...]:
        """Return the workers as an engine tells of them."""
        return tuple(WorkerStatus(**msgspec.structs.asdict(each)) for each in self.workers)


def parse_order(line: bytes) -> Keep | Ask:
    """Return what the driver is told.

    Raises:
        FormatError: it is nothing of this.
    """
    order: Keep | Ask = wire.decode(line, Keep | Ask, what="order to a driver of Ray")  # type: ignore[arg-type]
    return order


def parse_answer(line: bytes) -> Answer:
    """Return what the driver said.

    Raises:
        FormatError: it is nothing of this.
    """
    return wire.decode(line, Answer, what="answer of a driver of Ray")


def line_of(message: Keep | Ask | Answer) -> bytes:
    """Return `message` as a line, with its end."""
    return wire.encode(message) + b"\n"
