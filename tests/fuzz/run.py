"""`make fuzz`: many almost-right inputs to every parser; an error that is not ours fails.

What a parser may do with bytes of a stranger is accept them or raise a `WardianError`. Anything
else (a `KeyError`, a `RecursionError`, a `MemoryError`) would be answered as a bug, or worse.
"""

import argparse
import multiprocessing
import random
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mutate import mutations
from targets import Target, targets

from wardian.errors import WardianError

CHUNK = 20_000


def fuzz(target: Target, *, seed: int, count: int) -> tuple[int, list[str]]:
    """Return how many of `count` inputs were accepted, and a report of each uncaught error.

    At most ten reports: what goes wrong once goes wrong often.
    """
    accepted, failures = 0, []
    for raw in mutations(target.seeds, random.Random(f"{target.name}/{seed}"), count):
        try:
            target.parse(raw)
            accepted += 1
        except WardianError:
            pass
        except Exception:  # noqa: BLE001 (the finding)
            failures.append(f"{target.name} {raw.hex()[:4000]}\n{traceback.format_exc(limit=-6)}")
            if len(failures) == 10:
                break
    return accepted, failures


def _work(job: tuple[str, int, int]) -> tuple[str, int, int, list[str], float]:
    name, seed, count = job
    start = time.perf_counter()
    accepted, failures = fuzz(_TARGETS[name], seed=seed, count=count)
    return name, count, accepted, failures, time.perf_counter() - start


_TARGETS = {target.name: target for target in targets()}


def main() -> int:
    """Fuzz until `--inputs` were tried, over all targets alike; return 1 if any got through."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--only", nargs="*", default=sorted(_TARGETS))
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    each = -(-args.inputs // len(args.only))
    counts = {name: max(1, each // _TARGETS[name].cost) for name in args.only}
    jobs = [
        (name, args.seed + part, min(CHUNK, counts[name] - part * CHUNK))
        for part in range(-(-each // CHUNK))
        for name in args.only
        if part * CHUNK < counts[name]
    ]
    print(f"seed {args.seed}: {each} inputs to each of {len(args.only)} parsers")
    tried: dict[str, list[float]] = {name: [0, 0, 0.0] for name in args.only}
    broken: list[str] = []
    with multiprocessing.get_context("fork").Pool(args.processes) as pool:
        for name, count, accepted, failures, took in pool.imap_unordered(_work, jobs):
            for column, value in enumerate((count, accepted, took)):
                tried[name][column] += value
            broken += failures
            for failure in failures[:1]:
                print(failure, file=sys.stderr)
    for name, (count, accepted, took) in sorted(tried.items()):
        print(f"  {name:<28} {count:>9.0f} inputs  {accepted:>8.0f} accepted  {took:>7.1f} s")
    total = sum(row[0] for row in tried.values())
    print(f"{total:.0f} inputs, {len(broken)} uncaught errors")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
