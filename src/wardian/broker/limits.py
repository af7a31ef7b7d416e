"""What strangers may cost: pure bookkeeping, in which time is an argument."""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GRACE_S: Final = 0.6
"""How long a connection may do nothing while others wait; a release's steps take a tenth."""
NO_QUOTE_LEFT: Final = "the broker is asked for more evidence than it can make: ask later"
MOST_PEERS: Final = 1024
"""Whose buckets are kept. Who comes from more addresses than that pays with TLS handshakes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """What strangers may cost.

    Attributes:
        connections: served at once.
        connections_per_peer: of one address at once, loopback included. A mesh on one laptop, each
            process of which asks for a second at its start, stays well below.
        waiting, waiting_per_peer: connections that wait for a place, in all and of one address;
            each costs a descriptor and nothing else.
        connection_s: the longest that one connection lives, seconds.
        first_message_s: within which a peer says what it wants.
        quotes_per_s, quote_burst: quotes that strangers may cause, on average and at once.
        peer_quotes_per_s, peer_quote_burst: of those, what one address is sure of. For more it
            leaves `peer_quote_burst` of them to others, so that it alone never uses them up; see
            `SharedBucket`. 64 and one a second are more than a machine's workloads ask for, but at
            the start of a crowd, which gets 256 at once and all 50 a second while nobody else asks:
            exactly what it got before there was a ration for each address.
        statuses_per_s, status_burst: likewise, answers to who asks for the status.
        proofs_per_s, proof_burst: likewise, answers to who asks for proofs, and witnesses' visits.
        polls_per_s, poll_burst: answers to one address that asks what is in force. A front end asks
            every two seconds.
        plans_per_s, plan_burst: plans of jobs from one address that are read at all.
        granted_per_s, granted_burst: KiB of audit lines of what jobs are given, and tell, of one
            owner's tables; see `OwnerLines`. A job over 64 of them takes 64 for each of the two.
        lines_per_s, line_burst: likewise, audit lines of refusals that cost the asker nothing.
        judged_per_s, judged_burst: likewise, of refusals of evidence that is genuine.
        logs_per_s, log_burst: likewise, refusals in the process's log.
        owners: who says to be an owner may send 4 MiB before proving it; so many at once.
        visits_per_s, visit_burst: visits that one owner signed, on average and at once.
    """

    connections: int = 64
    connections_per_peer: int = 16
    waiting: int = 512
    waiting_per_peer: int = 256
    connection_s: float = 60.0
    first_message_s: float = 5.0
    quotes_per_s: float = 50.0
    quote_burst: int = 320
    peer_quotes_per_s: float = 1.0
    peer_quote_burst: int = 64
    statuses_per_s: float = 20.0
    status_burst: int = 200
    proofs_per_s: float = 20.0
    proof_burst: int = 200
    polls_per_s: float = 20.0
    poll_burst: int = 100
    plans_per_s: float = 5.0
    plan_burst: int = 100
    granted_per_s: float = 0.2
    granted_burst: int = 640
    lines_per_s: float = 0.1
    line_burst: int = 32
    judged_per_s: float = 1.0
    judged_burst: int = 256
    logs_per_s: float = 1.0
    log_burst: int = 200
    owners: int = 8
    visits_per_s: float = 0.2
    visit_burst: int = 64


@dataclass(slots=True, kw_only=True, eq=False)
class Place:
    """One connection's place among those served, or in the line of those who wait for one.

    Attributes:
        peer: whom it counts for, of `peer_of`.
        firm: whether it keeps its place: from when it presents evidence, or an owner's signature,
            unless that is refused. What was presented is decided, and audited, to its end.
        since: when it got its place, or took its last step; seconds that never go back.
    """

    peer: str
    firm: bool = False
    since: float = 0.0


class Places:
    """Who is being served, who waits, and who gives way. Pure: time is an argument.

    At most so many are served, at most so many of one peer, and as a rule each comes to its end.
    Where others wait, a connection that takes no step within `GRACE_S` gives way, unless it is
    firm: so those who only hold places hold nobody up for long, and a crowd that starts at once is
    served in order. One peer's crowd waits, and gives way, for that peer alone.
    """

    __slots__ = ("_held", "_limits", "_waiting")

    def __init__(self, limits: ServiceLimits) -> None:
        self._held: list[Place] = []  # the oldest first
        self._waiting: list[Place] = []  # likewise
        self._limits = limits

    def arrive(self, newcomer: Place) -> bool:
        """Let `newcomer` wait; return whether it may: the line has an end, each peer's too."""
        limits = self._limits
        mine = sum(each.peer == newcomer.peer for each in self._waiting)
        welcome = len(self._waiting) < limits.waiting and mine < limits.waiting_per_peer
        if welcome:
            self._waiting.append(newcomer)
        return welcome

    def crowded_out(self, newcomer: Place) -> Place | None:
        """Take out of a full line who has to go so that `newcomer` may `arrive`; None if nobody.

        It is the last of the largest crowd, if that is larger than the newcomer's would be: so a
        few addresses fill the line for themselves alone.
        """
        if len(self._waiting) < self._limits.waiting:
            return None
        crowds = Counter(each.peer for each in self._waiting)
        ((largest, size),) = crowds.most_common(1)
        if size <= crowds[newcomer.peer] + 1:
            return None
        gone = next(each for each in reversed(self._waiting) if each.peer == largest)
        self._waiting.remove(gone)
        return gone

    def enter(self, now: float) -> tuple[Place, Place | None] | None:
        """Return who gets a place now, and who has to go for it; None if nobody does.

        Call it again until it returns None: after an arrival, after `leave`, and at `due`.
        """
        served = Counter(each.peer for each in self._held)
        for newcomer in self._waiting:
            crowded = served[newcomer.peer] >= self._limits.connections_per_peer
            full = len(self._held) >= self._limits.connections
            leaving = None
            if crowded or full:
                leaving = self._oldest_idle(newcomer.peer if crowded else None, now)
                if leaving is None:
                    continue
                self._held.remove(leaving)
            self._waiting.remove(newcomer)
            newcomer.since = now
            self._held.append(newcomer)
            return newcomer, leaving
        return None

    def due(self, now: float) -> float | None:
        """Return in how many seconds somebody may have to give way; None while nobody waits."""
        if not self._waiting:
            return None
        ends = (each.since + GRACE_S - now for each in self._held if not each.firm)
        return min((end for end in ends if end > 0), default=GRACE_S)

    def leave(self, place: Place) -> None:
        """Free a place, or leave the line; it may have been freed before."""
        for those in (self._held, self._waiting):
            if place in those:
                those.remove(place)

    def _oldest_idle(self, peer: str | None, now: float) -> Place | None:
        """Return who has been idle for longest, if that is too long."""
        idle = [
            held
            for held in self._held
            if (peer is None or held.peer == peer) and not held.firm and now - held.since >= GRACE_S
        ]
        return min(idle, key=lambda held: held.since, default=None)


def peer_of(host: str) -> str:
    """Return whom an IP address counts for: itself, or the /64 that an IPv6 address is one of."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or address.packed[:8].hex())


class Bucket:
    """So much at once, and from then on so much a second. Pure: time is an argument."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, *, per_s: float, burst: int, now: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at = float(burst), now

    def take(self, now: float, *, leave: int = 0, count: int = 1) -> bool:
        """Take `count` out of the bucket if at least `leave` are left; return whether it did."""
        if not self.holds(now, count + leave):
            return False
        self._left -= count
        return True

    def holds(self, now: float, count: int) -> bool:
        """Return whether `count` could be taken."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = max(self._at, now)
        return self._left >= count


class PeerBuckets:
    """A bucket for each peer, of the `MOST_PEERS` that were heard of last."""

    __slots__ = ("_buckets", "_burst", "_per_s")

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, peer: str, now: float) -> bool:
        """Take one out of the bucket of `peer`; return whether there was one."""
        bucket = self._buckets.get(peer)
        if bucket is None:
            bucket = self._buckets[peer] = Bucket(per_s=self._per_s, burst=self._burst, now=now)
            if len(self._buckets) > MOST_PEERS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(peer)
        return bucket.take(now)


class OwnerLines:
    """A bucket for each owner, of audit lines that stay for good. Pure: time is an argument.

    An owner may grant itself what it likes, as often as it likes, and each time is a line. Who
    takes is an owner of the mesh, so that there are no more buckets than those.
    """

    __slots__ = ("_buckets", "_burst", "_per_s")

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._buckets: dict[str, Bucket] = {}

    def take(self, wanted: Mapping[str, int], now: float) -> bool:
        """Take so many for each owner, of all of them or of none; return whether it did.

        So who is out of lines uses up nobody else's with what is refused for that.
        """
        for owner in wanted.keys() - self._buckets.keys():
            self._buckets[owner] = Bucket(per_s=self._per_s, burst=self._burst, now=now)
        if not all(self._buckets[owner].holds(now, count) for owner, count in wanted.items()):
            return False
        return all(self._buckets[owner].take(now, count=count) for owner, count in wanted.items())


class SharedBucket:
    """One bucket for all, in which those who take much leave some for those who take little.

    Each peer is sure of its own ration as long as there is anything. Beyond that it takes what is
    above the ration of one, which whoever comes next finds there. So one peer alone gets nearly
    everything, and uses up nothing; who means to keep others out needs as many addresses as peers'
    rations make up the whole. Pure: time is an argument.
    """

    __slots__ = ("_all", "_leave", "_peers")

    def __init__(
        self, *, per_s: float, burst: int, peer_per_s: float, peer_burst: int, now: float
    ) -> None:
        self._all = Bucket(per_s=per_s, burst=burst, now=now)
        self._peers = PeerBuckets(per_s=peer_per_s, burst=peer_burst)
        self._leave = peer_burst

    def take(self, peer: str, now: float) -> bool:
        """Take one for `peer`; return whether there was one for it."""
        sure = self._peers.take(peer, now)
        return self._all.take(now, leave=0 if sure else self._leave)


class Ration:
    """Which refusals get an audit line of their own; the others are counted. Pure.

    Once one was left out, the next line is the one that counts them.
    """

    __slots__ = ("_bucket", "_left_out")

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._left_out = 0

    def grants_line(self, now: float) -> bool:
        """Return whether this refusal gets a line; otherwise it is counted."""
        if self._left_out == 0 and self._bucket.take(now):
            return True
        self._left_out += 1
        return False

    def settle(self, now: float) -> int:
        """Return for how many refusals one line is to be written now; 0 if none is due yet."""
        return self.close() if self._left_out and self._bucket.take(now) else 0

    def put_back(self, count: int) -> None:
        """Count `count` refusals again: their line could not be written."""
        self._left_out += count

    def close(self) -> int:
        """Return how many were left out, whatever the bucket says, and begin anew."""
        count, self._left_out = self._left_out, 0
        return count
