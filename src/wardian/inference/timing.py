"""How long things take, one beside the other."""

import statistics
from collections.abc import Callable, Hashable, Mapping
from typing import Final, TypeVar

_ROUNDS: Final = 31
_CLEARLY: Final = 0.95
"""What is not faster by 5 % is not worth being another engine than usual, or more threads."""

Clock = Callable[[], float]
Key = TypeVar("Key", bound=Hashable)


def preferred(times: Mapping[str, float]) -> str:
    """Return the first, unless another is clearly faster."""
    usual = next(iter(times))
    fastest = min(times, key=times.__getitem__)
    return fastest if times[fastest] < _CLEARLY * times[usual] else usual


def medians(
    runs: Mapping[Key, Callable[[], object]], *, clock: Clock, budget_s: float
) -> dict[Key, float]:
    """Return the median seconds of each of `runs`, called in turns after one call to warm up.

    Args:
        runs: by whatever names them.
        clock: seconds, monotonic.
        budget_s: no round begins after so long, but the first.
    """
    for run in runs.values():
        run()
    taken: dict[Key, list[float]] = {key: [] for key in runs}
    end = clock() + budget_s
    for number in range(_ROUNDS):
        if number and clock() >= end:
            break
        for key, run in runs.items():
            start = clock()
            run()
            taken[key].append(clock() - start)
    return {key: statistics.median(times) for key, times in taken.items()}
