"""A consortium in one process: a coordinator on a simulated machine, and parties, all on sockets."""

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wardian._internal.clock import monotonic
from wardian._internal.consortium import Consortium, PartyTerms, RunTerms
from wardian.attestation.appraisal.policy import AppraisalPolicy
from wardian.attestation.appraisal.policy_file import load_policy
from wardian.attestation.evidence import Evidence
from wardian.broker.limits import ServiceLimits
from wardian.crypto.signing import SigningKey
from wardian.errors import SealError
from wardian.learning.app import ClientApp, Context, Handler
from wardian.learning.arrays import ArrayRecord
from wardian.learning.coordinator.course import Course
from wardian.learning.coordinator.courses import RunsItsCourse
from wardian.learning.coordinator.keeping import RunKeeper
from wardian.learning.coordinator.run import Run
from wardian.learning.coordinator.service import CoordinatorService
from wardian.learning.message import Message
from wardian.learning.messages import RoundLine
from wardian.learning.party.link import CoordinatorLink
from wardian.learning.party.memory import MemoryFile
from wardian.learning.party.resident import Outcome, Party, told_model
from wardian.learning.party.thread import AppThread
from wardian.learning.records import ConfigRecord, MetricRecord, RecordDict
from wardian.learning.replies import Replies
from wardian.learning.strategies.strategy import Strategy
from wardian.tee.launch.simulation import generate_platform

NOW = 1_790_000_000
CODE = hashlib.sha256(b"aggregator").digest()


def as_it_is(evidence: Evidence, _: frozenset[bytes], __: int) -> Evidence:
    return evidence


class ToySealing:
    """Seals for whom and under which label, without a secret."""

    def __init__(self, owner: bytes) -> None:
        self.owner = owner

    def seal(self, plaintext: bytes, *, label: str) -> bytes:
        return self.owner + label.encode() + b"|" + plaintext

    def unseal(self, sealed: bytes, *, label: str) -> bytes:
        prefix = self.owner + label.encode() + b"|"
        if not sealed.startswith(prefix):
            raise SealError("altered, or sealed by others")
        return sealed.removeprefix(prefix)


class Mean(Strategy):
    """The plain mean, and a count of rounds as its own state."""

    def __init__(self) -> None:
        self.rounds = 0

    def configure_train(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, parties: Sequence[str]
    ) -> Mapping[str, RecordDict]:
        content = RecordDict({"arrays": arrays, "config": config})
        return dict.fromkeys(parties, content)

    def aggregate_train(
        self, number: int, arrays: ArrayRecord, replies: Replies
    ) -> tuple[ArrayRecord, MetricRecord]:
        self.rounds += 1
        found = {name: np.empty(array.size, array.dtype) for name, array in arrays.items()}
        for block in replies.blocks("arrays"):
            mean = block.values.astype(np.float64).mean(axis=0)
            found[block.array][block.start : block.start + len(mean)] = mean
        made = {name: found[name].reshape(array.shape) for name, array in arrays.items()}
        return ArrayRecord(made), MetricRecord({"parties": len(replies.parties)})

    configure_evaluate = configure_train

    def aggregate_evaluate(self, number: int, replies: Replies) -> MetricRecord:
        losses = [float(replies.metrics(party)["loss"]) for party in replies.parties]
        return MetricRecord({"loss": sum(losses) / len(losses)})

    def state(self) -> RecordDict:
        return RecordDict({"mean": MetricRecord({"rounds": self.rounds})})

    def restore(self, state: RecordDict) -> None:
        self.rounds = int(state["mean"]["rounds"])


def counting_app(shape: tuple[int, ...] = (3, 2)) -> ClientApp:
    """Return an app whose update depends on the model, the party and its own state."""
    app = ClientApp()

    @app.query()
    def first(message: Message, context: Context) -> Message:
        arrays = ArrayRecord({"w": np.zeros(shape, np.float32), "b": np.zeros(3, np.float64)})
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        before = context.state.get("steps", MetricRecord({"n": 0}))
        steps = int(before["n"]) + 1
        context.state["steps"] = MetricRecord({"n": steps})
        by = int.from_bytes(context.party.encode()[-1:]) / 7 + steps
        arrays = message.content["arrays"]
        made = {name: (array * 0.5 + by).astype(array.dtype) for name, array in arrays.items()}
        metrics = MetricRecord({"num-examples": 10 + steps, "loss": 1 / steps})
        content = RecordDict({"arrays": ArrayRecord(made), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        total = sum(float(array.sum()) for array in message.content["arrays"].values())
        metrics = MetricRecord({"num-examples": 5, "loss": total})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Consort:
    """Everything of one consortium: keys, plan, files; processes come and go."""

    def __init__(self, place: Path, *names: str, **terms: Any) -> None:
        self.place = place
        self.keys = {name: SigningKey.generate() for name in names}
        run = {"rounds": 3, "quorum": len(names), "gather_s": 30.0, "answer_s": 30.0, **terms}
        self.plan = Consortium(
            name="consort",
            run=RunTerms(**run),
            strategy={"name": "mean"},
            parties={name: PartyTerms(key=key.public.hex()) for name, key in self.keys.items()},
        )
        self.platform = generate_platform(clock=lambda: NOW)
        self.port = _free_port()
        self.ways: dict[str, int] = {}
        """The ports by which parties reach the coordinator where something lies between."""
        self.said: list[dict[str, object]] = []
        self.news: list[RoundLine] = []
        self.heard: Callable[[dict[str, object]], None] = self.said.append
        self.code = CODE
        self.course_of: Callable[[Run], RunsItsCourse] = lambda run: Course(run, Mean())

    @property
    def policy(self) -> AppraisalPolicy:
        text = (
            f'simulation_root_sha256 = "{self.platform.root_sha256.hex()}"\n'
            f'measurements = ["{CODE.hex()}"]\n'
        )
        return load_policy(text.encode())

    def attest(self, report_data: bytes) -> Evidence:
        return self.platform.evidence(mr_enclave=self.code, report_data=report_data)

    def run(self) -> Run:
        """Return the run where its files say that it stands."""
        for folder in ("run", "answers"):
            (self.place / folder).mkdir(exist_ok=True, parents=True)
        keeper = RunKeeper(self.place / "run", sealing=ToySealing(self.platform.ppid))
        return Run(
            self.plan, keeper=keeper, spill=self.place / "answers", ticks=monotonic, tell=self._tell
        )

    def _tell(self, said: dict[str, object]) -> None:
        self.heard(said)

    async def coordinate(
        self, strategy: Strategy | None = None, *, limits: ServiceLimits | None = None
    ) -> ArrayRecord:
        """Run the coordinator until the run is over and everybody knows."""
        run = self.run()
        course = self.course_of(run) if strategy is None else Course(run, strategy)
        service = CoordinatorService(
            {name: key.public for name, key in self.keys.items()},
            attendance=run.attending,
            attest=self.attest,
            clock=lambda: NOW,
            ticks=monotonic,
            limits=limits or ServiceLimits(connections=300, connections_per_peer=300),
        )
        async with service:
            await service.start("127.0.0.1", self.port)
            return await course.run()

    def party(
        self,
        name: str,
        app: Handler | None = None,
        *,
        keep: Callable[[ArrayRecord], None] = lambda _: None,
        outcome: Outcome = told_model,
        thread: AppThread | None = None,
        **more: Any,
    ) -> Party:
        return Party(
            name,
            app or counting_app(),
            dial=lambda: self.dial(name, **more),
            memory=MemoryFile(self.place / f"party-{name}"),
            tell=self.news.append if name == min(self.keys) else lambda _: None,
            keep=keep,
            outcome=outcome,
            thread=thread,
        )

    async def dial(self, name: str, **more: Any) -> CoordinatorLink:
        fields: dict[str, Any] = {
            "party": name,
            "key": self.keys[name],
            "policy": self.policy,
            "complete": as_it_is,
            "now": lambda: NOW,
            "max_bytes": 2**31,
        }
        address = ("127.0.0.1", self.ways.get(name, self.port))
        return await CoordinatorLink.open(address, **(fields | more))

    async def whole(self, app: Callable[[], ClientApp] = counting_app) -> ArrayRecord:
        """Return the model of a run in which nothing is disturbed."""
        parties = [asyncio.create_task(self.party(name, app()).attend()) for name in self.keys]
        model = await self.coordinate()
        for each in await asyncio.gather(*parties):
            assert each == model
        return model


COORDINATOR = "coordinator"


async def killed_at(
    consort: Consort, at: int, victim: str, party: Callable[[str], Party]
) -> dict[str, Any]:
    """Return what each has of a run in which `victim` is killed at step `at`, and comes again."""
    loop, killed = asyncio.get_running_loop(), asyncio.Event()
    tasks: dict[str, asyncio.Task[Any]] = {}

    def hear(said: dict[str, object]) -> None:
        consort.said.append(said)
        if len(consort.said) == at + 1 and not killed.is_set():
            killed.set()
            loop.call_soon(tasks[victim].cancel)

    def start(name: str) -> "asyncio.Task[Any]":
        work = consort.coordinate() if name == COORDINATOR else party(name).attend()
        return asyncio.create_task(work)

    consort.heard = hear
    for name in (COORDINATOR, *consort.keys):
        tasks[name] = start(name)
    async with asyncio.timeout(60):
        await killed.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[victim]
        if tasks[victim].cancelled():
            tasks[victim] = start(victim)
        return {name: await tasks[name] for name in (*consort.keys, COORDINATOR)}
