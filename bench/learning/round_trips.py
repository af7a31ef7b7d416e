"""What a round costs beside a bare loop over grpc.aio with TLS: the same parties, arrays and sums.

Both have the coordinator in this process and all parties in another, mutual TLS on loopback, and a
mean in float64. Ours besides names parties, checks every answer, and keeps the run on the disk;
how long the disk takes is measured apart. Interleaved; medians.

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
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from typing_extensions import override

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "tests")]
from bare_grpc import bare_coordinator, bare_parties  # noqa: E402
from simulators.consortium import Consort  # type: ignore[import-not-found]  # noqa: E402

from wardian.learning.app import ClientApp, Context  # noqa: E402
from wardian.learning.arrays import ArrayRecord  # noqa: E402
from wardian.learning.coordinator.keeping import RunKeeper, Standing  # noqa: E402
from wardian.learning.message import Message  # noqa: E402
from wardian.learning.party.memory import Memory, MemoryFile  # noqa: E402
from wardian.learning.records import MetricRecord, RecordDict  # noqa: E402
from wardian.learning.strategies.fedavg import FedAvg  # noqa: E402

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

    @override
    def save(self, memory: Memory) -> None:
        """Keep nothing."""


def our_parties(place: Path, port: int, names: list[str], parameters: int, key_hex: Any) -> None:
    """Attend with all parties, until the run is over."""
    consort = restored(place, port, names, key_hex)

    async def attend() -> None:
        app = idle_app(parameters)
        parties = [consort.party(name, app) for name in names]
        for party in parties:
            party._file = Unwritten(place)  # noqa: SLF001
        await asyncio.gather(*(party.attend() for party in parties))

    uvloop.run(attend())


def restored(place: Path, port: int, names: list[str], given: Any) -> Consort:
    """Return the consortium of the other process."""
    consort = Consort(place, *names)
    consort.port, consort.keys, consort.platform = port, given["keys"], given["platform"]
    return consort


def ours(parties: int, parameters: int, rounds: int) -> dict[str, float]:
    """Return milliseconds of a round, without the disk, and of the disk."""
    with tempfile.TemporaryDirectory(prefix="wardian-") as folder:
        place = Path(folder)
        names = [f"p{number}" for number in range(parties)]
        consort = Consort(place, *names, rounds=rounds, evaluate_every=0)
        fork = multiprocessing.get_context("fork")
        given = {"keys": consort.keys, "platform": consort.platform}
        other = fork.Process(
            target=our_parties, args=(place, consort.port, names, parameters, given)
        )
        done: list[float] = []
        saves: list[float] = []
        before = RunKeeper.save

        def save(self: RunKeeper, standing: Standing) -> None:
            began = time.perf_counter()
            before(self, standing)
            saves.append(time.perf_counter() - began)

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
            other.join(30)
    whole = statistics.median(late - early for early, late in pairwise(done))
    disk = statistics.median(saves[1:])
    return {"ms": 1e3 * (whole - disk), "disk_ms": 1e3 * disk}


def bare(parties: int, parameters: int, rounds: int) -> dict[str, float]:
    """Return milliseconds of a round of the bare loop."""
    fork = multiprocessing.get_context("spawn")
    ready, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory(prefix="wardian-") as folder:
        other = fork.Process(target=bare_parties, args=(folder, parties, theirs))
        other.start()
        took = asyncio.run(bare_coordinator(folder, parties, parameters, rounds, ready))
        other.join(30)
    return {"ms": 1e3 * statistics.median(took[1:])}


def main() -> None:
    """Print a JSON line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    for name, (parties, parameters) in CASES.items():
        turns = [
            (bare(parties, parameters, options.rounds), ours(parties, parameters, options.rounds))
            for _ in range(options.turns)
        ]
        bare_ms = statistics.median(theirs["ms"] for theirs, _ in turns)
        our_ms = statistics.median(mine["ms"] for _, mine in turns)
        line = {
            "case": name,
            "bare_ms": bare_ms,
            "ours_ms": our_ms,
            "ratio": our_ms / bare_ms,
            "disk_ms": statistics.median(mine["disk_ms"] for _, mine in turns),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
