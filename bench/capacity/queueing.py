"""What follows from the costs by pen and paper: bounds that hold for any order of events. Pure.

Operational laws (Denning and Buzen 1978), the asymptotic bounds of a closed loop, and the usual
approximation of a queue with several servers (Erlang C, corrected by Allen and Cunneen). They know
demands and not rules: the simulation knows those, and these catch its mistakes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from costs import Costs, Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Answers a second that cannot be exceeded, and by what.

    Attributes:
        cores: by all processor time on the cores that are shared.
        processes: by each kind of process, whose instances run on one core each.
    """

    cores: float
    processes: Mapping[str, float]

    @property
    def most(self) -> float:
        """The lowest of them."""
        return min(self.cores, *self.processes.values())

    @property
    def bottleneck(self) -> str:
        """What that is: a role, or `cores`."""
        role = min(self.processes, key=lambda name: self.processes[name])
        return role if self.processes[role] <= self.cores else "cores"


def demands(costs: Costs, *, pack: float) -> dict[str, float]:
    """Return the processor time of one request in each role, if `pack` travel in a message."""
    return {
        "client": costs.client_request + costs.client_turn / pack,
        "frontend": costs.front_request + costs.front_message / pack,
        "redis": costs.redis_message / pack,
        "worker": (costs.worker_message + costs.inference(pack)) / pack,
    }


def bounds(costs: Costs, deployed: Deployment, *, pack: float) -> Bounds:
    """Return what no schedule can exceed: the utilization law, for each process and all cores."""
    needs = demands(costs, pack=pack)
    many = {
        "frontend": deployed.fronts,
        "redis": deployed.shards,
        "worker": deployed.workers,
    }
    each = {role: many[role] / needs[role] if needs[role] else math.inf for role in many}
    if deployed.cores is None:
        return Bounds(cores=math.inf, processes=each)
    each["client"] = 1 / needs["client"] if needs["client"] else math.inf
    return Bounds(cores=deployed.cores / sum(needs.values()), processes=each)


def closed_pack(deployed: Deployment, connections: int) -> float:
    """Return how many requests a message has in a closed loop that saturates the workers.

    A front end has two messages under way for each worker, one in the engine and one on the way, so
    that the connections divide among these.
    """
    share = connections / (2 * deployed.workers * deployed.fronts)
    return max(1.0, min(float(deployed.max_batch), share))


def closed_bound(costs: Costs, deployed: Deployment, connections: int) -> float:
    """Return what so many connections get at most: the asymptotic bounds of a closed loop."""
    pack = closed_pack(deployed, connections)
    round_trip = sum(
        (costs.client_turn + costs.client_request, costs.front_request + costs.front_message,
         costs.redis_message, costs.worker_message + costs.inference(1))
    )  # fmt: skip
    return min(connections / round_trip, bounds(costs, deployed, pack=pack).most)


def erlang_c(servers: int, offered: float) -> float:
    """Return the probability that a customer waits (M/M/c); `offered` is below `servers`.

    By the recursion of Erlang B, which does not overflow.
    """
    if not 0 <= offered < servers:
        raise ValueError("a queue without end")
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    use = offered / servers
    return blocked / (1 - use * (1 - blocked))


def wait(servers: int, *, rate: float, service: float, spread: float) -> float:
    """Return the mean wait in a queue of Poisson arrivals and several servers (M/G/c).

    Args:
        servers: that take from one queue.
        rate: arrivals a second.
        service: mean time of one, seconds.
        spread: its coefficient of variation; by Allen and Cunneen the wait of exponential times is
            scaled by (1 + spread^2) / 2. Exact for one server (Pollaczek and Khinchine).
    """
    offered = rate * service
    exponential = erlang_c(servers, offered) * service / (servers - offered)
    return exponential * (1 + spread**2) / 2


def wait_quantile(
    part: float, servers: int, *, rate: float, service: float, spread: float
) -> float:
    """Return the wait that `part` of the customers do not exceed, if its tail is exponential."""
    offered = rate * service
    waits = erlang_c(servers, offered)
    if waits <= 1 - part:
        return 0.0
    mean_of_those = wait(servers, rate=rate, service=service, spread=spread) / waits
    return mean_of_those * math.log(waits / (1 - part))


def servers_for(rate: float, *, service: float, use: float) -> int:
    """Return how many servers it takes, none busy for more than the part `use` of its time."""
    if not 0 < use <= 1:
        raise ValueError("a part of its time")
    return max(1, math.ceil(rate * service / use - 1e-9))
