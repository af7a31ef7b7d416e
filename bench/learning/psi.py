"""What intersecting identifiers costs, in CPU seconds of one process that plays all parts.

Everything counts that somebody has to do: the key, every party's tags, the coordinator's refusing
of duplicates and intersecting, every party's reading of its positions. Making up the identifiers
does not. With `--ecdh` the same is done by the library `openmined-psi`, where it is installed.
"""

import argparse
import json
import platform
import random
import resource
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

from wardian.crypto.signing import SigningKey
from wardian.learning.psi.coordinator import PsiCoordinator
from wardian.learning.psi.ecdh import EcdhParty
from wardian.learning.psi.party import PsiMember, PsiParty
from wardian.learning.psi.terms import PsiTerms
from wardian.learning.records import RecordDict

P = TypeVar("P", bound=PsiMember)

RUN = b"bench"


def identifiers(parties: int, each: int) -> dict[str, list[str]]:
    """Return sets of which half is common to all parties, each in an order of its own."""
    chance = random.Random(1)
    sets = {}
    for party in range(parties):
        own = [f"person-{number:010d}@example.org" for number in range(each // 2)]
        start = (party + 1) * each
        own += [f"person-{start + number:010d}@example.org" for number in range(each - each // 2)]
        chance.shuffle(own)
        sets[f"p{party}"] = own
    return sets


def begun(kind: type[P], sets: dict[str, list[str]]) -> tuple[PsiCoordinator, dict[str, P]]:
    """Return the coordinator and the parties of one run."""
    signers = {name: SigningKey.generate() for name in sets}
    terms = PsiTerms(
        keys={name: signer.public for name, signer in signers.items()},
        caps={name: len(each) for name, each in sets.items()},
        runs=1,
    )
    parties = {
        name: kind(terms, run=RUN, name=name, signer=signers[name], identifiers=each, runs_before=0)
        for name, each in sets.items()
    }
    return PsiCoordinator(terms, run=RUN, runs_before=0), parties


def agreed(coordinator: PsiCoordinator, parties: Mapping[str, PsiMember]) -> RecordDict:
    """Return what yields the key."""
    for name, party in parties.items():
        coordinator.take_share(name, party.share())
    coordinator.take_deal(parties[coordinator.dealer].deal(coordinator.shares()))
    return coordinator.deal()


def tagged(sets: dict[str, list[str]]) -> tuple[int, dict[str, float]]:
    """Return how many are common, and the CPU seconds of each step."""
    clock = Clock()
    coordinator, parties = begun(PsiParty, sets)
    clock.note("refuse own duplicates")
    deal = agreed(coordinator, parties)
    clock.note("agree the key")
    tags = {name: party.tags(deal) for name, party in parties.items()}
    clock.note("tag")
    for name, found in tags.items():
        coordinator.take_tags(name, found)
    clock.note("refuse duplicate tags")
    size = coordinator.size
    clock.note("intersect")
    for name, party in parties.items():
        party.positions(coordinator.positions(name))
    clock.note("positions")
    return size, clock.steps


def ecdh(sets: dict[str, list[str]]) -> tuple[int, dict[str, float]]:
    """Return the same for the two parties of `psi.ecdh`, who both learn what is common."""
    clock = Clock()
    coordinator, parties = begun(EcdhParty, sets)
    clock.note("refuse own duplicates")
    deal = agreed(coordinator, parties)
    for party in parties.values():
        party.begin(deal)
    clock.note("agree the key")
    (_, one), (_, other) = parties.items()
    places = []
    for asks, says in ((one, other), (other, one)):
        places.append(asks.learn(says.setup(), says.answer(asks.request())))
        clock.note(f"direction {len(places)}")
    firsts, seconds = sets.values()
    assert [firsts[at] for at in places[0]] == [seconds[at] for at in places[1]]
    return len(places[0]), clock.steps


class Clock:
    """CPU seconds between calls of `note`."""

    def __init__(self) -> None:
        """Begin."""
        self.steps: dict[str, float] = {}
        self._last = time.process_time()

    def note(self, step: str) -> None:
        """Say that `step` ends here."""
        now = time.process_time()
        self.steps[step], self._last = round(now - self._last, 3), now


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parties", type=int, default=2)
    parser.add_argument("--each", type=int, default=1_000_000, help="identifiers of a party")
    parser.add_argument("--ecdh", action="store_true")
    chosen = parser.parse_args(arguments)
    sets = identifiers(2 if chosen.ecdh else chosen.parties, chosen.each)
    common, steps = (ecdh if chosen.ecdh else tagged)(sets)
    expected = chosen.each // 2
    assert common == expected, (common, expected)
    line = {
        "bench": "psi",
        "how": "ecdh" if chosen.ecdh else "tags",
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "parties": len(sets),
        "identifiers_each": chosen.each,
        "common": common,
        "cpu_s": round(sum(steps.values()), 3),
        "steps_cpu_s": steps,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
