"""What masks cost: CPU of a party and of the coordinator, beside the same sum in the clear.

All parties and the coordinator run in this process, one after the other; CPU is `process_time`
(user and system) around the calls of each. Plain and masked sum alternate, round after round;
figures are medians over the rounds, a party's the mean of those who stayed. Each masked sum is
compared with the plain one, element by element. One JSON line for each case.

    python bench/learning/masking.py [--rounds 5] [--huge]
"""

import argparse
import json
import platform
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np

from wardian.crypto.masks import Ring
from wardian.crypto.signing import SigningKey
from wardian.learning.masking.coordinator import MaskingCoordinator
from wardian.learning.masking.fixed_point import FixedPoint
from wardian.learning.masking.party import MaskingParty
from wardian.learning.masking.plan import MaskingPlan

P = ParamSpec("P")
T = TypeVar("T")
COORDINATOR: Final = "coordinator"
STEPS: Final = ("advertise", "share", "mask", "sign", "reveal", "total")


@dataclass(frozen=True)
class Case:
    """So many parties, so long vectors; so many are lost after they have shared."""

    parties: int
    parameters: int
    lost: int


CASES: Final = (Case(100, 10_000, 30), Case(10, 1_000_000, 0), Case(10, 1_000_000, 3))
HUGE: Final = (Case(100, 100_000, 30), Case(10, 10_000_000, 3))


@dataclass
class Clock:
    """CPU seconds of one round by step and by who spent them, and bytes that parties sent."""

    spent: dict[str, dict[str, float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def call(
        self, step: str, who: str, call: Callable[P, T], *args: P.args, **named: P.kwargs
    ) -> T:
        """Return what `call` returns; the time counts for `who`."""
        began = time.process_time()
        result = call(*args, **named)
        self.spent[step][who] += time.process_time() - began
        if isinstance(result, bytes):
            self.sent[who] += len(result)
        return result

    def figures(self, stayed: Iterable[str]) -> dict[str, float]:
        """Return milliseconds by step and in all, and kilobytes that a party sent."""
        names, found = list(stayed), {}
        for who in ("party", COORDINATOR):
            among = names if who == "party" else [COORDINATOR]
            for step in STEPS:
                spent = self.spent[step]
                found[f"{who} {step}"] = 1000 * statistics.fmean(spent[name] for name in among)
            found[f"{who} ms"] = sum(found[f"{who} {step}"] for step in STEPS)
        found["party sends KB"] = statistics.fmean(self.sent[name] for name in names) / 1000
        return found


@dataclass
class Setting:
    """What the rounds of a case have in common."""

    case: Case
    signers: dict[str, SigningKey]
    updates: dict[str, Any]
    codec: FixedPoint
    plan: MaskingPlan

    @property
    def names(self) -> list[str]:
        """Everybody."""
        return sorted(self.signers)

    @property
    def stayed(self) -> list[str]:
        """Who is not lost."""
        return self.names[self.case.lost :]

    def vector(self, name: str) -> Ring:
        """Return what the party has to add to the sum."""
        return self.codec.encode(self.updates[name], weight=1)


def set_up(case: Case) -> Setting:
    signers = {f"party-{place:03}": SigningKey.generate() for place in range(case.parties)}
    source = np.random.default_rng(1)
    plan = MaskingPlan(
        run=bytes(32),
        parties={name: signer.public for name, signer in signers.items()},
        threshold=2 * case.parties // 3 + 1,
        elements=case.parameters + 1,
    )
    shape = case.parameters
    updates = {name: source.uniform(-1, 1, shape).astype(np.float32) for name in signers}
    codec = FixedPoint(fraction_bits=32, bound=1.0, max_weight=1, parties=case.parties)
    return Setting(case, signers, updates, codec, plan)


def plain(setting: Setting, clock: Clock) -> Ring:
    """Return the sum in the clear, of messages that hold nothing but the numbers."""

    def say(name: str) -> bytes:
        return setting.vector(name).tobytes()

    def add(total: Ring, raw: bytes) -> None:
        total += np.frombuffer(raw, "<u8")

    total = np.zeros(setting.plan.elements, np.uint64)
    for name in setting.stayed:
        clock.call("total", COORDINATOR, add, total, clock.call("mask", name, say, name))
    return total


def masked(setting: Setting, clock: Clock, number: int) -> Ring:
    """Return the sum by the whole protocol."""
    coordinator = MaskingCoordinator(setting.plan, number=number)
    parties: dict[str, MaskingParty] = {}

    def both(
        step: str,
        names: list[str],
        say: Callable[[str], bytes],
        take: Callable[[str, bytes], None],
        then: Callable[[], T],
    ) -> T:
        for name in names:
            raw = clock.call(step, name, say, name)
            clock.call(step, COORDINATOR, take, name, raw)
        return clock.call(step, COORDINATOR, then)

    def advertise(name: str) -> bytes:
        parties[name] = MaskingParty(
            setting.plan,
            number=number,
            party=name,
            signer=setting.signers[name],
            keep=lambda _: None,
        )
        return parties[name].advertise()

    def share(name: str) -> bytes:
        return parties[name].share(keys)

    def mask(name: str) -> bytes:
        return parties[name].mask(deliveries[name], setting.vector(name))

    def sign(name: str) -> bytes:
        return parties[name].sign(survivors)

    def reveal(name: str) -> bytes:
        return parties[name].reveal(agreements)

    names, stayed = setting.names, setting.stayed
    keys = both("advertise", names, advertise, coordinator.advertised, coordinator.keys)
    deliveries = both("share", names, share, coordinator.shared, coordinator.deliveries)
    survivors = both("mask", stayed, mask, coordinator.masked, coordinator.survivors)
    revealing = both("sign", stayed, sign, coordinator.signed, coordinator.agreed)
    agreements = revealing.agreements()
    both("reveal", stayed, reveal, revealing.revealed, lambda: None)
    return clock.call("total", COORDINATOR, revealing.total)


def run(case: Case, rounds: int) -> dict[str, Any]:
    """Return the medians of a case."""
    setting = set_up(case)
    found: dict[str, dict[str, list[float]]] = {"plain": {}, "masked": {}}
    for number in range(1, rounds + 1):
        clocks = {"plain": Clock(), "masked": Clock()}
        wanted = plain(setting, clocks["plain"])
        total = masked(setting, clocks["masked"], number)
        if not np.array_equal(total, wanted):
            raise SystemExit("the masked sum is not the plain one")
        for kind, clock in clocks.items():
            for name, value in clock.figures(setting.stayed).items():
                found[kind].setdefault(name, []).append(value)
    medians = {
        kind: {name: round(statistics.median(values), 3) for name, values in each.items()}
        for kind, each in found.items()
    }
    return {
        "parties": case.parties,
        "parameters": case.parameters,
        "lost": case.lost,
        "rounds": rounds,
        "equal": True,
        "medians": medians,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--huge", action="store_true", help="100k and 10M parameters as well")
    options = parser.parse_args()
    for case in (*CASES, *(HUGE if options.huge else ())):
        print(json.dumps(run(case, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
