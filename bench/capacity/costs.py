"""What the model is made of: costs of work, and what is deployed. Pure.

All times are seconds. A *message* is what a front end sends to a worker and gets back: one or more
requests, sealed together (`wardian.serving.departures`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

ON_THE_WAY: Final = {"send": 0.4, "ack": 0.2, "reply": 0.4}
"""How a front end's work on a message divides: sealing and sending it, hearing that the queue has
it, opening its answer. Assumed: only the sum is measured."""
OF_REQUEST: Final = {"in": 0.5, "out": 0.2, "write": 0.3}
"""How its work on a request divides: parsing and accepting it, encoding the answer, and writing it
at the end of a turn. Assumed."""
OF_REDIS: Final = {"ask": 0.4, "answer": 0.4, "after": 0.2}
"""How the queue's work on a message divides: taking it and handing it to a worker, taking the
answer and handing it to the front end, forgetting both. Assumed."""
OF_WORKER: Final = {"open": 0.5, "answer": 0.35, "after": 0.15}
"""How a worker's work on a message divides, beside the inference. Assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Processor time of each kind of work, by calibration.

    Attributes:
        client_turn: of one turn of the load generator's loop.
        client_request: of one request in it, on top.
        front_request: of one request in the front end, whatever it travels with.
        front_message: of one message there.
        redis_message: of one message in Redis.
        worker_message: of one message in the worker, beside the inference.
        batch: of one inference, whatever its rows.
        row: of each row of it, decoding and encoding included.
        wake: from when a sleeping process has work until it runs, on a processor that is idle.
        spread: coefficient of variation of one piece of work.
        gaps_per_second: how often a core stands still because its host has other guests.
        gaps: for how long, a sample.
        cold: by what part the work of a role is longer after a long sleep.
    """

    client_turn: float = 0.0
    client_request: float = 0.0
    front_request: float
    front_message: float
    redis_message: float
    worker_message: float
    batch: float
    row: float
    wake: float
    spread: float
    gaps_per_second: float = 0.0
    gaps: tuple[float, ...] = ()
    cold: Mapping[str, float] = field(default_factory=dict)

    def inference(self, rows: float) -> float:
        """Return the time of one inference of so many rows."""
        return self.batch + self.row * rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What runs where.

    Attributes:
        fronts: front ends, one core each at most.
        shards: Redis servers; messages go to them in turn.
        workers: of the model; with several shards those of one serve it alone.
        max_batch: most rows of one inference, and most requests of one message.
        cores: that all of these share with the clients; None: each process has its own, and
            clients run elsewhere.
    """

    fronts: int = 1
    shards: int = 1
    workers: int = 1
    max_batch: int = 64
    cores: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be deployed."""
        if min(self.fronts, self.shards, self.workers, self.max_batch, self.cores or 1) < 1:
            raise ValueError("at least one of each")
        if self.workers % self.shards:
            raise ValueError("each shard has as many workers as the others")


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Each connection asks again when it has its answer."""

    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Poisson arrivals, so many a second."""

    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What a load would show: answers a second, latencies in seconds, requests a message.

    Attributes:
        busy: seconds of processor a second, by role.
    """

    per_second: float
    p50: float
    p99: float
    mean: float
    pack: float
    busy: dict[str, float]
