"""How much memory a coordinator takes for large updates: ten of 400 MB, on the disk, sealed.

The coordinator is this process, all parties are another one. The peak is the kernel's (VmHWM), less
what this process had before. Needs 24 GB of memory for the parties, and 5 GB of disk.

    python bench/learning/large.py [--parties 10] [--megabytes 400]
"""

import argparse
import json
import multiprocessing
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "tests")]
import uvloop  # noqa: E402
from round_trips import attend  # noqa: E402
from simulators.consortium import Consort  # type: ignore[import-not-found]  # noqa: E402

from wardian.learning.strategies.terms import build  # noqa: E402

ROUNDS = 2


def memory_mb(what: str) -> float:
    """Return a figure of this process's memory: VmRSS, or VmHWM, its peak."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found.group(1)) / 1024 if found else 0.0


def main() -> None:
    """Print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parties", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--strategy", default="fedavg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wardian-") as folder:
        place = Path(folder)
        names = [f"p{number}" for number in range(options.parties)]
        consort = Consort(place, *names, rounds=ROUNDS, evaluate_every=0, answer_s=600.0)
        given = {"keys": consort.keys, "platform": consort.platform, "port": consort.port}
        parameters = options.megabytes * 1_000_000 // 4
        other = multiprocessing.get_context("fork").Process(
            target=attend, args=(place, names, parameters, given)
        )
        other.start()
        before, began, cpu = memory_mb("VmRSS"), time.monotonic(), time.process_time()
        uvloop.run(consort.coordinate(build(options.strategy, {})))
        other.join(60)
    peak = memory_mb("VmHWM") - before
    line = {
        "parties": options.parties,
        "update_mb": options.megabytes,
        "strategy": options.strategy,
        "peak_mb": peak,
        "updates": peak / options.megabytes,
        "round_s": (time.monotonic() - began) / ROUNDS,
        "cpu_s": (time.process_time() - cpu) / ROUNDS,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
