"""What masks cost a whole round: the same parties and arrays over sockets, with and without them.

The coordinator is in this process and all parties are in another, so that on two cores the parties'
own work, which they do side by side elsewhere, is in the time; their CPU seconds stand beside it.
Interleaved; medians.

    python bench/learning/masked_rounds.py [--rounds 5] [--turns 3]
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import uvloop

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "tests")]
from round_trips import Unwritten, idle_app, restored  # noqa: E402
from simulators.consortium import Consort  # type: ignore[import-not-found]  # noqa: E402

from wardian._internal.consortium import MaskingTerms  # noqa: E402
from wardian.learning.party.planned import planned_app  # noqa: E402
from wardian.learning.strategies.fedavg import FedAvg  # noqa: E402

CASES = {"3 x 31": (3, 31), "10 x 100k": (10, 100_000), "100 x 10k": (100, 10_000)}
"""Parties, and parameters of float32."""


def with_masks(consort: Consort, *, masked: bool) -> Consort:
    """Return `consort` under a plan with masks, or without."""
    terms = MaskingTerms() if masked else None
    consort.plan = msgspec.structs.replace(consort.plan, masking=terms)
    return consort


def parties_of(place: Path, port: int, names: list[str], parameters: int, given: Any) -> None:
    """Attend with all parties, until the run is over."""
    consort = restored(place, port, names, given)
    consort.plan = given["plan"]

    async def attend() -> None:
        parties = []
        for name in names:
            app = planned_app(idle_app(parameters), consort.plan, signer=consort.keys[name])
            party = consort.party(name, app)
            party._file = Unwritten(place)  # noqa: SLF001
            parties.append(party)
        await asyncio.gather(*(party.attend() for party in parties))

    uvloop.run(attend())


def measure(parties: int, parameters: int, rounds: int, *, masked: bool) -> dict[str, float]:
    """Return milliseconds of a round, and CPU milliseconds of coordinator and of one party."""
    with tempfile.TemporaryDirectory(prefix="wardian-") as folder:
        place, names = Path(folder), [f"p{number:03}" for number in range(parties)]
        consort = with_masks(Consort(place, *names, rounds=rounds, evaluate_every=0), masked=masked)
        given = {"keys": consort.keys, "platform": consort.platform, "plan": consort.plan}
        fork = multiprocessing.get_context("fork")
        arguments = (place, consort.port, names, parameters, given)
        other = fork.Process(target=parties_of, args=arguments)
        done: list[tuple[float, float]] = []

        def hear(said: dict[str, object]) -> None:
            if said["event"] == "round.done":
                done.append((time.perf_counter(), time.process_time()))

        consort.heard = hear
        theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
        other.start()
        uvloop.run(consort.coordinate(FedAvg()))
        other.join(60)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = spent.ru_utime + spent.ru_stime - theirs.ru_utime - theirs.ru_stime
    return {
        "ms": 1e3 * statistics.median(late[0] - early[0] for early, late in pairwise(done)),
        "coordinator_cpu_ms": 1e3
        * statistics.median(late[1] - early[1] for early, late in pairwise(done)),
        "party_cpu_ms": 1e3 * seconds / parties / rounds,
    }


def main() -> None:
    """Print a JSON line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    for case, (parties, parameters) in CASES.items():
        turns = [
            {
                masked: measure(parties, parameters, options.rounds, masked=masked)
                for masked in (False, True)
            }
            for _ in range(options.turns)
        ]
        line: dict[str, object] = {"case": case}
        for masked, name in ((False, "plain"), (True, "masked")):
            for key in turns[0][masked]:
                line[f"{name}_{key}"] = round(
                    statistics.median(turn[masked][key] for turn in turns), 2
                )
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
