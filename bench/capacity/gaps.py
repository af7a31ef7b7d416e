"""How often a core stands still under a program that only counts: its host has other guests.

python bench/capacity/gaps.py --seconds 2
"""

import argparse
import json
import multiprocessing
import os
import time
from multiprocessing.queues import SimpleQueue

GAP_S = 0.0001
"""What is shorter is an interrupt and not another guest."""


def spin(core: int, seconds: float, found: "SimpleQueue[list[float]]") -> None:
    """Put into `found` for how long the clock stood still, each time."""
    os.sched_setaffinity(0, {core})
    gaps, last = [], time.perf_counter()
    until = last + seconds
    while last < until:
        now = time.perf_counter()
        if now - last > GAP_S:
            gaps.append(now - last)
        last = now
    found.put(gaps)


def measure_gaps(seconds: float) -> list[float]:
    """Return every gap of every core, while all are busy."""
    fork = multiprocessing.get_context("fork")
    cores = sorted(os.sched_getaffinity(0))
    found: SimpleQueue[list[float]] = fork.SimpleQueue()
    spinning = [fork.Process(target=spin, args=(core, seconds, found)) for core in cores]
    for each in spinning:
        each.start()
    gaps = [gap for _ in spinning for gap in found.get()]
    for each in spinning:
        each.join()
    return gaps


def main() -> None:
    """Print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    print(json.dumps(measure_gaps(parser.parse_args().seconds)))


if __name__ == "__main__":
    main()
