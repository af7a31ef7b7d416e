"""What a round costs beside a bare loop over grpc.aio with TLS: the same parties, arrays and sums.

Both have the coordinator in this process and all parties in another, TLS 1.3 on loopback, and a
mean in float64. Parties of the bare loop show a certificate; ours sign what the connection and the
coordinator's evidence are bound to: both before the first round. Ours besides checks every answer,
runs the apps in a thread, and keeps the run and the parties' answers. `apart_ms` is the bare loop
whose parties answer from a thread, too: what an app that takes its time needs from either.

What is kept is measured apart, on the disk: `disk_ms`, the state of a round, sealed and written;
`party_disk_ms`, the two writes of one party in a round. While rounds are measured the state lies in
memory, and its time is left out; answers are not written. Interleaved; medians.

    python bench/learning/round_trips.py [--rounds 30] [--turns 3]
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop
from typing_extensions import override

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "tests")]
from bare_grpc import bare_coordinator, bare_parties  # noqa: E402
from simulators.consortium import Consort, ToySealing  # type: ignore[import-not-found]  # noqa: E402

from wardian.learning.app import ClientApp, Context  # noqa: E402
from wardian.learning.arrays import ArrayRecord  # noqa: E402
from wardian.learning.coordinator.keeping import RunKeeper, Standing  # noqa: E402
from wardian.learning.message import Message  # noqa: E402
from wardian.learning.party.memory import Memory, MemoryFile  # noqa: E402
from wardian.learning.party.thread import AppThread  # noqa: E402
from wardian.learning.records import MetricRecord, RecordDict  # noqa: E402
from wardian.learning.strategies.fedavg import FedAvg  # noqa: E402

MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
CASES = {"3 x 31": (3, 31), "3 x 8 MB": (3, 2_000_000), "100 x 10k": (100, 10_000)}
"""Parties, and parameters of float32."""


def idle_app(parameters: int) -> ClientApp:
    """Return an app that answers at once with what it was given."""
    app = ClientApp()

    @app.query()
    def first(message: Message, _: Context) -> Message:
        arrays = ArrayRecord({"w": np.zeros(parameters, np.float32)})
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    @app.train()
    def train(message: Message, _: Context) -> Message:
        content = {
            "arrays": message.content["arrays"],
            "metrics": MetricRecord({"num-examples": 1}),
        }
        return Message(RecordDict(content), reply_to=message)

    return app


class Unwritten(MemoryFile):
    """A memory that is not kept: what the disk costs is not what a round trip costs."""

    last = Memory()

    @override
    def save(self, memory: Memory) -> None:
        """Keep nothing."""
        self.last = memory


def attend(place: Path, names: list[str], parameters: int, given: Any) -> Memory:
    """Attend with all parties until the run is over; return what one of them remembered last."""
    consort = restored(place, given["port"], names, given)
    unwritten = Unwritten(place)

    async def attend_all() -> None:
        app, thread = idle_app(parameters), AppThread().start()
        parties = [consort.party(name, app, thread=thread) for name in names]
        for party in parties:
            party._file = unwritten  # noqa: SLF001
        await asyncio.gather(*(party.attend() for party in parties))
        thread.end()

    uvloop.run(attend_all())
    return unwritten.last


def our_parties(
    place: Path, names: list[str], parameters: int, given: Any, told: Connection
) -> None:
    """Attend with all parties; tell how long a round's two writes take."""
    last = attend(place, names, parameters, given)
    with tempfile.TemporaryDirectory(prefix="wardian-") as disk:
        file = MemoryFile(Path(disk))
        told.send(2 * seconds(lambda: file.save(last)))  # what is asked, and the answer


def seconds(work: Callable[[], None]) -> float:
    """Return how long `work` takes, the median of ten."""
    took = []
    for _ in range(10):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def restored(place: Path, port: int, names: list[str], given: Any) -> Consort:
    """Return the consortium of the other process."""
    consort = Consort(place, *names)
    consort.port, consort.keys, consort.platform = port, given["keys"], given["platform"]
    return consort


def ours(parties: int, parameters: int, rounds: int) -> dict[str, float]:
    """Return milliseconds of a round, without the disk, and of the disk."""
    with tempfile.TemporaryDirectory(prefix="wardian-", dir=MEMORY) as folder:
        place = Path(folder)
        names = [f"p{number}" for number in range(parties)]
        consort = Consort(place, *names, rounds=rounds, evaluate_every=0)
        fork = multiprocessing.get_context("fork")
        given = {"keys": consort.keys, "platform": consort.platform, "port": consort.port}
        told, theirs = fork.Pipe()
        other = fork.Process(target=our_parties, args=(place, names, parameters, given, theirs))
        done: list[float] = []
        saves: list[float] = []
        standings: list[Standing] = []
        before = RunKeeper.save

        def save(self: RunKeeper, standing: Standing) -> None:
            began = time.perf_counter()
            before(self, standing)
            saves.append(time.perf_counter() - began)
            standings[:] = [standing]

        def hear(said: dict[str, object]) -> None:
            if said["event"] == "round.done":
                done.append(time.perf_counter())

        consort.heard = hear
        RunKeeper.save = save  # type: ignore[method-assign]
        other.start()
        try:
            uvloop.run(consort.coordinate(FedAvg()))
        finally:
            RunKeeper.save = before  # type: ignore[method-assign]
            party_disk_s = told.recv()
            other.join(30)
    with tempfile.TemporaryDirectory(prefix="wardian-") as disk:
        keeper = RunKeeper(Path(disk), sealing=ToySealing(b""))
        disk_s = seconds(lambda: keeper.save(standings[0]))
    # Of a round, its own save is left out: the first one was before all rounds.
    waits = [
        late - early - save for (early, late), save in zip(pairwise(done), saves[2:], strict=True)
    ]
    return {
        "ms": 1e3 * statistics.median(waits),
        "disk_ms": 1e3 * disk_s,
        "party_disk_ms": 1e3 * party_disk_s,
    }


def bare(parties: int, parameters: int, rounds: int, *, apart: bool) -> float:
    """Return milliseconds of a round of the bare loop, its parties' work in threads or not."""
    fork = multiprocessing.get_context("spawn")
    ready, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory(prefix="wardian-") as folder:
        other = fork.Process(
            target=bare_parties, args=(folder, parties, theirs), kwargs={"apart": apart}
        )
        other.start()
        took = asyncio.run(bare_coordinator(folder, parties, parameters, rounds, ready))
        other.join(30)
    return 1e3 * statistics.median(took[1:])


def main() -> None:
    """Print a JSON line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    for name, (parties, parameters) in CASES.items():
        plain, apart, mine = [], [], []
        for _ in range(options.turns):
            plain.append(bare(parties, parameters, options.rounds, apart=False))
            mine.append(ours(parties, parameters, options.rounds))
            apart.append(bare(parties, parameters, options.rounds, apart=True))
        line: dict[str, Any] = {
            "case": name,
            "bare_ms": statistics.median(plain),
            "apart_ms": statistics.median(apart),
            **{f"ours_{what}": statistics.median(turn[what] for turn in mine) for what in mine[0]},
        }
        line["ratio"] = line["ours_ms"] / line["bare_ms"]
        line["ratio_apart"] = line["ours_ms"] / line["apart_ms"]
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
