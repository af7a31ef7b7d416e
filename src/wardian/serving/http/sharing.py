"""Who gives way when there is no room: for another connection, or for more bytes of bodies.

While there is room anybody may have it. When it is used up, whoever holds most of it gives way to
whoever holds less, so that what everybody gets is as equal as what they ask allows (max-min
fairness; Bertsekas and Gallager, Data Networks, 1992, section 6.5.2): nothing is set aside that
nobody else wants, and there is nothing to set.

A connection counts for the tenant whose credential came with the last request that it brought.
Before one came, and where it is nobody's, it counts as a stranger's; strangers are one party, with
an eighth of what a tenant gets, and among themselves are told apart by address. Where there are no
tenants, each address is a party.

All of it is pure, and runs only when there is no room.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from wardian.serving.http.peer import place_of

Whose: TypeAlias = Callable[[Mapping[bytes, bytes], str], str]
"""Takes the headers of a request and who sent it (`peer.Peer`); returns the tenant, or "" if it is
nobody's. It never raises, and counts nothing."""

STRANGERS: Final = ""
"""Stands for everybody who is not known, where others are."""
STRANGERS_COUNT: Final = 8
"""What a stranger holds counts so many times."""
SETTLING_S: Final = 1.0
"""How long a handshake, or a head, may come in before it counts as idle."""
SPARE: Final = 64
"""Of the memory of bodies, this part is freed at once, so that not each packet has to look."""

RESTING, WAITING, SERVED = range(3)
"""What a connection is: idle; in the midst of what its client has yet to send, or to take; or with
a request that is being served."""
STALLED, ARRIVING, KEPT = range(3)
"""What bytes are: of an answer that the client does not take; of a body that is still coming; or
what cannot be let go, for somebody works on it."""


class Party(NamedTuple):
    """Whom something counts for: a tenant, an address, or a stranger at an address."""

    name: str
    address: str = ""


class Place(NamedTuple):
    """One open connection, and how to end it."""

    party: Party
    standing: int
    since: float
    end: Callable[[], object]


class Claim(NamedTuple):
    """Bytes that are held for one request, or for one answer.

    Attributes:
        headers: of the request.
        size: bytes; positive.
        standing: `STALLED`, `ARRIVING` or `KEPT`.
        since: monotonic seconds: when the client last took something, or began to send.
        let_go: frees them, unless they are `KEPT`, and tells the client if that is possible.
    """

    headers: Mapping[bytes, bytes]
    size: int
    standing: int
    since: float
    let_go: Callable[[], None]


class Parties:
    """Tells parties apart."""

    __slots__ = ("_address_of", "_whose")

    def __init__(
        self, whose: Whose | None = None, *, address_of: Callable[[str], str] | None = None
    ) -> None:
        """Ask `whose` for the tenant; None: there are none.

        `address_of` says which place an IP address belongs to, by default `place_of`.
        """
        self._whose, self._address_of = whose, address_of or place_of

    def of(self, headers: Mapping[bytes, bytes], peer: str) -> Party:
        """Return for whom a request of `peer` with `headers` counts; no headers: none came yet."""
        if self._whose is None:
            return Party(self._address_of(peer))
        tenant = self._whose(headers, peer)
        return Party(tenant) if tenant else Party(STRANGERS, self._address_of(peer))


def connection_to_end(places: Iterable[Place], newcomer: Party) -> Place | None:
    """Return which connection ends so that one of `newcomer` can be, or None: it cannot.

    Of the party that holds most it is one that rests, else one that waits for its client, else one
    that is served; the longest in that state. The newcomer's own party gives only what rests;
    strangers give what waits, too. Between parties that would be equal, what rests goes.
    """
    every = list(places)
    held = Counter(place.party.name for place in every)
    mine = _load(newcomer.name, held[newcomer.name] + 1)
    most = max(held, key=lambda name: _load(name, held[name]), default=newcomer.name)
    if _load(most, held[most]) > mine:
        return _first(_of_largest([place for place in every if place.party.name == most]))
    own = [place for place in every if place.party.name == newcomer.name]
    addresses = Counter(place.party.address for place in own)
    if own and max(addresses.values()) > addresses[newcomer.address] + 1:
        return _first(_of_largest(own))
    gives = WAITING if newcomer.name == STRANGERS else RESTING
    return _first(place for place in own if place.standing <= gives) or _first(
        place
        for place in every
        if place.standing == RESTING and _load(name := place.party.name, held[name]) >= mine
    )


def claims_to_drop(claims: Iterable[tuple[Party, Claim]], asker: Party) -> Iterator[Claim]:
    """Yield what is let go so that `asker` has room, for as long as it is wanted.

    Of whoever holds most, while that is more than the asker holds: answers that are not taken, the
    least taken first; then bodies that still come, those that began longest ago first. Of the
    asker's own, only answers that are not taken.
    """
    held: Counter[str] = Counter()
    free: dict[str, list[Claim]] = {}
    for party, claim in claims:
        held[party.name] += claim.size
        if claim.standing != KEPT:
            free.setdefault(party.name, []).append(claim)
    for own in free.values():
        own.sort(key=lambda claim: (claim.standing, claim.since))
        own.reverse()
    heaviest = [(-_load(name, held[name]), name) for name in free]
    heapq.heapify(heaviest)
    while heaviest:
        _, name = heapq.heappop(heaviest)
        own = free[name]
        if name == asker.name:
            if own[-1].standing != STALLED:
                continue
        elif _load(name, held[name]) <= _load(asker.name, held[asker.name]):
            return
        claim = own.pop()
        held[name] -= claim.size
        if own:
            heapq.heappush(heaviest, (-_load(name, held[name]), name))
        yield claim


def _load(name: str, held: int) -> int:
    """Return how much it weighs that the party `name` holds so much."""
    return held * STRANGERS_COUNT if name == STRANGERS else held


def _of_largest(places: list[Place]) -> list[Place]:
    """Return those at the address that has most of `places`."""
    ((largest, _),) = Counter(place.party.address for place in places).most_common(1)
    return [place for place in places if place.party.address == largest]


def _first(places: Iterable[Place]) -> Place | None:
    return min(places, key=lambda place: (place.standing, place.since), default=None)
