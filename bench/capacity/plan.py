"""What a rate of requests takes, bottleneck by bottleneck. Pure.

Every figure is scaled: one process, one core, as it was on the machine of the calibration.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from costs import Costs, Deployment, Open, Predicted
from queueing import demands, servers_for
from simulate import simulate

USE: Final = 0.6
"""Of what it sustains nothing is to do more: beyond it waits grow faster than rates."""
SUSTAINED_S: Final = 0.1
"""A rate is sustained while 99 % of the answers come sooner."""
RATIONED: Final = 50.0
"""Quotes a second that the broker's default limits let strangers cause (`ServiceLimits`)."""
LEASE_S: Final = 3600
"""As `[mesh] lease_s` is by default; certificates are renewed when it is half over."""
MOST_WORKERS: Final = 256
"""That a front end admits over one Redis (`redis_presence.MAX_WORKERS`)."""
KEPT_S: Final = 600.0
"""How long clients keep a connection, for the handshakes of a plan. Assumed."""
ASKS: Final = 1.0
"""Requests a second of one connection, for the connections of a plan. Assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One front end with a Redis and workers of its own, simulated at `USE` of what it sustains.

    Attributes:
        rate: requests a second of the front end.
        pack: requests in a message then.
        workers: that it takes.
        p50, p99: seconds.
        use: of each role's processes, the part of its time that one is busy.
    """

    rate: float
    pack: float
    workers: int
    p50: float
    p99: float
    use: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a plan takes of one kind.

    Attributes:
        name: of the kind.
        each: requests a second, or another unit, that one of them does.
        count: how many it takes.
    """

    name: str
    each: float
    count: float


def workers_for(costs: Costs, max_batch: int, rate: float) -> int:
    """Return how many workers a rate takes whose messages are as large as batches may be.

    Small packs cost more each, so this is the least; the simulation then says what it is.
    """
    service = demands(costs, pack=float(max_batch))["worker"]
    return servers_for(rate, service=service, use=USE)


def cell(costs: Costs, *, max_batch: int, seconds: float = 2.0) -> Cell:
    """Return the cell at `USE` of the most that its front end sustains, found by bisection.

    By that rate and not by how busy it is: a front end that has little to do sends small messages,
    which cost more, so that it looks busy long before it is full.
    """
    low, high = 0.0, 1 / costs.front_request
    for _ in range(8):
        rate = (low + high) / 2
        shown = _simulated(costs, max_batch, rate, workers_for(costs, max_batch, rate), seconds)
        sustained = shown.per_second > 0.97 * rate and shown.p99 < SUSTAINED_S
        low, high = (rate, high) if sustained else (low, rate)
    if not low:
        raise ValueError("no rate is low enough")
    rate = USE * low
    workers = workers_for(costs, max_batch, low)
    shown = _simulated(costs, max_batch, rate, workers, seconds)
    for _ in range(2):  # fewer workers make larger messages, which take less of them
        workers = max(1, math.ceil(shown.busy["worker"] / USE))
        shown = _simulated(costs, max_batch, rate, workers, seconds)
    many = {"frontend": 1, "redis": 1, "worker": workers}
    use = {role: shown.busy[role] / many[role] for role in many}
    return Cell(rate=rate, pack=shown.pack, workers=workers, p50=shown.p50, p99=shown.p99, use=use)


def _simulated(
    costs: Costs, max_batch: int, rate: float, workers: int, seconds: float
) -> Predicted:
    deployed = Deployment(workers=workers, max_batch=max_batch)
    return simulate(costs, deployed, Open(rate=rate), seconds=seconds, warm=0.3)


def needs(costs: Costs, one: Cell, facts: Mapping[str, float], rate: float) -> Sequence[Need]:
    """Return what `rate` requests a second take.

    Args:
        costs: of the model that is asked.
        one: its cell.
        facts: `handshake`: seconds of a front end for a new connection; `release`: of the broker
            for one process; `network_bytes`: of a request, all hops together; `release_bytes`: of
            the broker's state; `frontend_mb`, `redis_mb`, `worker_mb`.
        rate: requests a second.
    """
    fronts = rate / one.rate
    messages = rate / one.pack
    shards = messages * costs.redis_message / USE
    workers = fronts * one.workers
    processes = fronts + workers
    connections = rate / ASKS
    handshakes = connections / KEPT_S
    return (
        Need(name="front ends", each=one.rate, count=fronts),
        Need(name="Redis", each=rate / shards, count=shards),
        Need(name="workers", each=one.rate / one.workers, count=workers),
        Need(name="workers, at 256 a Redis", each=rate / workers * MOST_WORKERS,
             count=workers / MOST_WORKERS),
        Need(name="network, Gbit/s", each=0.0, count=rate * facts["network_bytes"] * 8 / 1e9),
        Need(name="handshakes, cores", each=USE / facts["handshake"],
             count=handshakes * facts["handshake"] / USE),
        Need(name="renewals a second", each=1 / facts["release"],
             count=processes / (LEASE_S / 2)),
        Need(name="restart of everything, s", each=1 / facts["release"],
             count=processes * facts["release"]),
        Need(name="the same at the default limit, s", each=RATIONED, count=processes / RATIONED),
        Need(name="audit log, MB a day", each=0.0,
             count=processes / (LEASE_S / 2) * 86_400 * facts["release_bytes"] / 1e6),
        Need(name="memory, GB", each=0.0,
             count=(fronts * facts["frontend_mb"] + shards * facts["redis_mb"]
                    + workers * facts["worker_mb"]) / 1e3),
    )  # fmt: skip
