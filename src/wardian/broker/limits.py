"""What strangers may cost: pure bookkeeping, in which time is an argument."""

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """What strangers may cost.

    Attributes:
        connections: served at once.
        connections_per_peer: of one address at once, loopback included. A mesh on one laptop, each
            process of which asks for a second at its start, stays well below.
        connection_s: the longest that one connection lives, seconds.
        first_message_s: within which a peer says what it wants.
        quotes_per_s, quote_burst: quotes that strangers may cause, on average and at once.
        statuses_per_s, status_burst: likewise, answers to who asks for the status.
        lines_per_s, line_burst: likewise, audit lines of refusals without evidence.
        logs_per_s, log_burst: likewise, refusals in the process's log.
    """

    connections: int = 64
    connections_per_peer: int = 16
    connection_s: float = 60.0
    first_message_s: float = 5.0
    quotes_per_s: float = 20.0
    quote_burst: int = 64
    statuses_per_s: float = 20.0
    status_burst: int = 200
    lines_per_s: float = 0.1
    line_burst: int = 32
    logs_per_s: float = 1.0
    log_burst: int = 200


@dataclass(slots=True, kw_only=True, eq=False)
class Place:
    """One connection's place among those served.

    Attributes:
        peer: whom it counts for, of `peer_of`.
        firm: whether it keeps its place: from when it presents evidence, or an owner's signature,
            unless that is refused. What was presented is decided, and audited, to its end.
    """

    peer: str
    firm: bool = False


class Places:
    """Who is being served: at most so many, at most so many of one peer. Pure bookkeeping."""

    __slots__ = ("_held", "_most", "_most_of_one")

    def __init__(self, *, most: int, most_of_one: int) -> None:
        self._held: list[Place] = []  # the oldest first
        self._most, self._most_of_one = most, most_of_one

    def enter(self, newcomer: Place) -> Place | None:
        """Give `newcomer` a place; return who has to go for it, which may be `newcomer` itself.

        One peer's newcomers displace that peer's own connections once it has its share, so nobody
        takes others' places from a single address.
        """
        crowd = [held for held in self._held if held.peer == newcomer.peer]
        if len(crowd) < self._most_of_one:
            crowd = self._held if len(self._held) >= self._most else []
        leaving = next((held for held in crowd if not held.firm), newcomer) if crowd else None
        if leaving is not None:
            self.leave(leaving)
        if leaving is not newcomer:
            self._held.append(newcomer)
        return leaving

    def leave(self, place: Place) -> None:
        """Free a place; it may have been freed before."""
        if place in self._held:
            self._held.remove(place)


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

    def take(self, now: float) -> bool:
        """Take one out of the bucket; return whether there was one."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = max(self._at, now)
        if self._left < 1:
            return False
        self._left -= 1
        return True


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

    def close(self) -> int:
        """Return how many were left out, whatever the bucket says, and begin anew."""
        count, self._left_out = self._left_out, 0
        return count
