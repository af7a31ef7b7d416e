"""The same system as a discrete-event simulation: seeded, deterministic, pure.

    clients -> front ends -> Redis shards -> workers -> Redis -> front ends -> clients

It follows the rules of the code: one turn of a front end's loop becomes one message
(`departures.py`), which is held back while every worker is busy and few wait; a worker takes what
waits, up to half of its credit (`pace.py`, used as it is), in batches of at most `max_batch` rows.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random

from costs import (
    OF_REDIS,
    OF_REQUEST,
    OF_WORKER,
    ON_THE_WAY,
    Closed,
    Costs,
    Deployment,
    Open,
    Predicted,
)
from processors import Process, Processors

from wardian.serving.departures import HELD_BACK_S
from wardian.serving.pace import Pace
from wardian.serving.worker import ANSWER_EVERY_S


@dataclass(slots=True, eq=False)
class Message:
    """Requests on their way together: since when each is due."""

    front: "Front"
    requests: list[float]


class System:
    """Everything that a simulation holds."""

    def __init__(self, costs: Costs, deployed: Deployment, *, seed: int) -> None:
        """Nobody has asked yet."""
        self.costs, self.deployed = costs, deployed
        self.random = Random(seed)
        self.cpu = Processors(deployed.cores)
        self._sigma = math.sqrt(math.log(1 + costs.spread**2))
        self.latencies: list[tuple[float, float]] = []
        self.client = Client(self)
        self.shards = [Shard(self) for _ in range(deployed.shards)]
        per_shard = deployed.workers // deployed.shards
        self.workers = [Worker(self, shard) for shard in self.shards for _ in range(per_shard)]
        self.fronts = [
            Front(self, self.shards[number % deployed.shards], per_shard)
            for number in range(deployed.fronts)
        ]
        self.packs = 0
        self.cpu.freeze(self.random, rate=costs.gaps_per_second, gaps=costs.gaps)

    def process(self, role: str, turn: Callable[[], None]) -> Process:
        """Return a process of this system."""
        cold = self.costs.cold.get(role, 0.0)
        return Process(self.cpu, turn=turn, wake=self.costs.wake, scale=self._scale, cold=cold)

    def _scale(self) -> float:
        return (
            self.random.lognormvariate(-(self._sigma**2) / 2, self._sigma) if self._sigma else 1.0
        )


class Client:
    """The load generator: one process, or none that costs anything."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.free = system.deployed.cores is None
        self.due: deque[float] = deque()
        self.answers: deque[float] = deque()
        self.again = False
        self.fronts = count()
        self.process = system.process("client", self._turn)

    def begin(self, load: Closed | Open, *, warm: float, seconds: float, seed: int) -> None:
        """Put `load` on: for `warm` seconds, then for `seconds` that are to be looked at.

        The arrivals of those are the ones of `OpenLoad` with the same seed.
        """
        if isinstance(load, Closed):
            self.again = True
            for _ in range(load.connections):
                self.arrive(0.0)
            return
        for random, begins, ends in (
            (self.system.random, 0.0, warm),
            (Random(seed), warm, warm + seconds),
        ):
            at = begins
            while (at := at + random.expovariate(load.rate)) < ends:
                self.system.cpu.at(at, lambda due=at: self.arrive(due))  # type: ignore[misc]

    def arrive(self, due: float) -> None:
        """A request is due."""
        if self.free:
            self._ask(due)
            return
        self.due.append(due)
        self.process.rouse()

    def answer(self, due: float) -> None:
        """The answer to the request that was due then is here."""
        if self.free:
            self._done(due)
            return
        self.answers.append(due)
        self.process.rouse()

    def _turn(self) -> None:
        if not (self.due or self.answers):
            return
        costs, process = self.system.costs, self.process
        process.add(costs.client_turn)
        for answered in self.answers:
            process.add(costs.client_request / 2, lambda due=answered: self._done(due))  # type: ignore[misc]
        for due in self.due:  # uvloop writes at the end of a turn
            process.add(costs.client_request / 2, lambda due=due: self._ask(due))  # type: ignore[misc]
        self.answers.clear()
        self.due.clear()

    def _done(self, due: float) -> None:
        now = self.system.cpu.now
        self.system.latencies.append((now, now - due))
        if self.again and self.free:
            self._ask(now)
        elif self.again:
            self.process.add(self.system.costs.client_request / 2, lambda: self._ask(now))

    def _ask(self, due: float) -> None:
        fronts = self.system.fronts
        fronts[next(self.fronts) % len(fronts)].ask(due)


class Front:
    """A front end and its loop."""

    def __init__(self, system: System, shard: "Shard", crew: int) -> None:
        self.system, self.shard, self.crew = system, shard, crew
        self.came: deque[float] = deque()
        self.replies: deque[Message] = deque()
        self.acks = 0
        self.answered: list[float] = []
        self.waiting: deque[float] = deque()
        self.carried = self.under_way = 0
        self.held_since: float | None = None
        self.timer = False
        self.looked = True
        self.process = system.process("frontend", self._turn)

    def ask(self, due: float) -> None:
        """A client's request is here."""
        self.came.append(due)
        self.process.rouse()

    def reply(self, message: Message) -> None:
        """A worker's answer is here."""
        self.replies.append(message)
        self.process.rouse()

    def ack(self) -> None:
        """Redis has a message."""
        self.acks += 1
        self.process.rouse()

    def _turn(self) -> None:
        if not self.looked:  # the end of the turn of before
            self.looked = True
            for due in self.answered:  # uvloop writes at the end of a turn
                self.process.add(
                    OF_REQUEST["write"] * self.system.costs.front_request,
                    lambda due=due: self.system.client.answer(due),  # type: ignore[misc]
                )
            self.answered.clear()
            self._send()
        if self.process.has_work or not (self.came or self.replies or self.acks):
            return
        costs, process = self.system.costs, self.process
        self.looked = False
        for _ in range(self.acks):
            process.add(ON_THE_WAY["ack"] * costs.front_message)
        for message in self.replies:
            process.add(ON_THE_WAY["reply"] * costs.front_message, lambda m=message: self._land(m))  # type: ignore[misc]
            process.add(OF_REQUEST["out"] * costs.front_request * len(message.requests))
        for due in self.came:
            process.add(
                OF_REQUEST["in"] * costs.front_request,
                lambda due=due: self.waiting.append(due),  # type: ignore[misc]
            )
        self.acks = 0
        self.replies.clear()
        self.came.clear()

    def _land(self, message: Message) -> None:
        self.under_way -= 1
        self.carried -= len(message.requests)
        self.answered += message.requests

    def _room(self) -> int:
        """As `redis_lanes._room`."""
        if not self.waiting:
            return 0
        idle = self.crew - self.under_way
        credit = sum(worker.pace.credit for worker in self.shard.workers)
        return idle if idle > 0 else max(0, min(self.crew, credit - self.under_way))

    def _send(self) -> None:
        """As `Departures.send`."""
        room = self._room()
        if not room or self._is_better_later():
            return
        share = -(-len(self.waiting) // room)
        while self._room():
            size = min(share, self.system.deployed.max_batch, len(self.waiting))
            message = Message(self, [self.waiting.popleft() for _ in range(size)])
            self.under_way += 1
            self.carried += size
            self.system.packs += 1
            self.process.add(
                ON_THE_WAY["send"] * self.system.costs.front_message,
                lambda m=message: self.shard.ask(m),  # type: ignore[misc]
            )

    def _is_better_later(self) -> bool:
        busy = self.crew <= self.under_way
        if not busy or len(self.waiting) * self.crew >= self.carried:
            self.held_since = None
            return False
        now = self.system.cpu.now
        if self.held_since is None:
            self.held_since = now
            self.system.cpu.at(now + HELD_BACK_S, self._held_long)
        if now - self.held_since < HELD_BACK_S / 2:
            return True
        self.held_since = None
        return False

    def _held_long(self) -> None:
        self.looked = False
        self.process.rouse()


class Shard:
    """A Redis, the stream of its lane, and the workers that wait for it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.inbox: deque[tuple[str, object]] = deque()
        self.stream: deque[Message] = deque()
        self.idle: deque[Worker] = deque()
        self.workers: list[Worker] = []
        self.process = system.process("redis", self._turn)

    def ask(self, message: Message) -> None:
        """A front end adds `message`."""
        self.inbox.append(("ask", message))
        self.process.rouse()

    def answer(self, worker: "Worker", messages: list[Message], *, asks: bool) -> None:
        """A worker answers `messages`, and may ask for more."""
        self.inbox.append(("answer", (worker, messages, asks)))
        self.process.rouse()

    def _turn(self) -> None:
        if not self.inbox:
            return
        kind, what = self.inbox.popleft()
        cost = self.system.costs.redis_message
        if kind == "ask" and isinstance(what, Message):
            self.process.add(OF_REDIS["ask"] * cost, lambda: self._asked(what))
        elif isinstance(what, tuple):
            worker, messages, asks = what
            for each in messages:
                self.process.add(
                    OF_REDIS["answer"] * cost,
                    lambda each=each: each.front.reply(each),  # type: ignore[misc]
                )
            self.process.add(OF_REDIS["after"] * cost * len(messages), None)
            if asks:
                self.process.add(0.0, lambda: self._wants(worker))

    def _asked(self, message: Message) -> None:
        message.front.ack()
        if self.idle:
            self.idle.popleft().take([message])
        else:
            self.stream.append(message)

    def _wants(self, worker: "Worker") -> None:
        if not self.stream:
            self.idle.append(worker)
            return
        most = min(worker.at_once, len(self.stream))
        worker.take([self.stream.popleft() for _ in range(most)])


class Worker:
    """A worker: takes messages, runs batches, answers."""

    def __init__(self, system: System, shard: Shard) -> None:
        self.system, self.shard = system, shard
        self.pace = Pace()
        self.at_once = 1
        self.taken: list[Message] = []
        self.began = self.said = self.spent = 0.0
        self.process = system.process("worker", self._turn)
        shard.workers.append(self)
        shard.idle.append(self)

    def take(self, messages: list[Message]) -> None:
        """Messages are here."""
        self.taken = messages
        if len(messages) == self.at_once:
            self.at_once *= 2
        self.process.rouse()

    def _turn(self) -> None:
        messages, self.taken = self.taken, []
        if not messages:
            return
        self.began = self.said = self.system.cpu.now
        self.spent = self.process.busy
        costs, process = self.system.costs, self.process
        process.add(OF_WORKER["open"] * costs.worker_message * len(messages))
        done: list[Message] = []
        batches = self._batches(messages)
        for number, (rows, ended) in enumerate(batches):
            done += ended
            last = number == len(batches) - 1
            process.add(costs.inference(rows))
            if ended:
                process.add(
                    OF_WORKER["answer"] * costs.worker_message * len(ended),
                    lambda last=last, said=done: self._say(said, last=last),  # type: ignore[misc]
                )
        process.add(
            OF_WORKER["after"] * costs.worker_message * len(messages),
            lambda: self._served(len(messages)),
        )

    def _batches(self, messages: list[Message]) -> list[tuple[int, list[Message]]]:
        """Return rows of each batch, and which messages are complete with it."""
        most, batches = self.system.deployed.max_batch, []
        rows: int = 0
        mates: list[Message] = []
        for message in messages:
            if rows and rows + len(message.requests) > most:
                batches.append((rows, mates))
                rows, mates = 0, []
            rows += len(message.requests)
            mates.append(message)
        batches.append((rows, mates))
        return batches

    def _say(self, done: list[Message], *, last: bool) -> None:
        now = self.system.cpu.now
        if last or now - self.said >= ANSWER_EVERY_S:
            self.said = now
            if last:
                self.at_once = max(1, min(self.at_once, self.pace.credit // 2))
            self.shard.answer(self, list(done), asks=last)
            done.clear()

    def _served(self, messages: int) -> None:
        now = self.system.cpu.now
        self.pace.note(messages, taken_s=now - self.began, worked_s=self.process.busy - self.spent)


def simulate(
    costs: Costs,
    deployed: Deployment,
    load: Closed | Open,
    *,
    seconds: float = 3.0,
    warm: float = 0.5,
    seed: int = 1,
) -> Predicted:
    """Return what `load` would show on `deployed`, by a run of so many simulated seconds."""
    system = System(costs, deployed, seed=seed)
    system.client.begin(load, warm=warm, seconds=seconds, seed=seed)
    system.cpu.run(warm)
    before = [each.busy for each in processes(system)]
    packs = system.packs
    system.latencies.clear()
    system.cpu.run(warm + seconds)
    found = sorted(latency for _, latency in system.latencies)
    answered = len(found)
    busy: dict[str, float] = {}
    for (role, process), then in zip(named(system), before, strict=True):
        busy[role] = busy.get(role, 0.0) + (process.busy - then) / seconds
    return Predicted(
        per_second=answered / seconds,
        p50=found[answered // 2] if found else math.inf,
        p99=found[min(answered - 1, math.ceil(answered * 0.99) - 1)] if found else math.inf,
        mean=sum(found) / answered if found else math.inf,
        pack=answered / max(1, system.packs - packs),
        busy=busy,
    )


def named(system: System) -> list[tuple[str, Process]]:
    """Return every process and its role."""
    return [
        ("client", system.client.process),
        *(("frontend", each.process) for each in system.fronts),
        *(("redis", each.process) for each in system.shards),
        *(("worker", each.process) for each in system.workers),
    ]


def processes(system: System) -> list[Process]:
    """Return every process."""
    return [process for _, process in named(system)]
