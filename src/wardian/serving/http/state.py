"""What the connections of one server share, and what each of them can be asked to do."""

import abc
import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from wardian._internal.agreed import Limits
from wardian.serving.http.messages import HttpRequest, HttpResponse
from wardian.serving.http.sharing import SPARE, Claim, Parties, Party, Place, claims_to_drop

next_number: Callable[[], int] = itertools.count(1).__next__
"""Numbers connections of this process, whatever they speak."""

Respond: TypeAlias = Callable[[HttpResponse], None]
Handler: TypeAlias = Callable[[HttpRequest, Respond], None]
"""Takes a request and calls `respond` exactly once, now or later, on the loop's thread.
It never raises."""
Gate: TypeAlias = Callable[[Mapping[bytes, bytes], str], HttpResponse | None]
"""Takes the headers of a request with a large body, and who sends it; returns why that body is not
read, or None. It never raises."""


class ServedConnection(asyncio.Protocol, abc.ABC):
    """What the server needs of a connection, whatever it speaks.

    Attributes:
        tls_spki: SubjectPublicKeyInfo (DER) of the server's key on it.
        peer: the IP address at the other end.
    """

    __slots__ = ()
    tls_spki: bytes
    peer: str

    @abc.abstractmethod
    def sweep(self) -> None:
        """Refuse, or end, what takes longer than it may."""

    @abc.abstractmethod
    def drain(self) -> None:
        """End now if nothing is owed; otherwise with what is owed."""

    @abc.abstractmethod
    def retire(self) -> None:
        """End now if nothing is owed and nothing is coming in; else with the next response."""

    @abc.abstractmethod
    def abort(self) -> None:
        """End now, whatever is owed."""

    @property
    @abc.abstractmethod
    def asked(self) -> Mapping[bytes, bytes]:
        """The headers of the request that came last; empty before the first."""

    @abc.abstractmethod
    def place(self) -> tuple[int, float] | None:
        """Return what it is (see `sharing.Place`) and since when; None: it is about to end."""

    @abc.abstractmethod
    def claims(self) -> Iterable[Claim]:
        """Yield what it holds of the memory of bodies."""

    @property
    @abc.abstractmethod
    def idle_since(self) -> float | None:
        """Since when no request is under way, or None."""


@dataclass(slots=True, kw_only=True)
class ServerState:
    """What the connections of one server share.

    Attributes:
        handler: serves requests.
        limits: sizes and times.
        count_refusal: told the status of each refusal that did not reach the handler.
        max_buffered_bytes: bodies of requests and answers in memory, over all connections; then
            somebody gives way (`sharing`), or it is 503.
        parties: whom connections and bodies count for.
        gate: asked before a large body is read, if there is one.
        now: monotonic seconds, refreshed by the sweep; precise enough for what it times.
        buffered_bytes: of bodies that are being read, wait, or are being served, whether or not
            their client is still there; and of answers that their clients have yet to take.
        draining: no connection outlives the response that it owes.
        connections: all that are open.
    """

    handler: Handler
    limits: Limits
    count_refusal: Callable[[int], None]
    max_buffered_bytes: int
    now: float
    gate: Gate | None = None
    parties: Parties = field(default_factory=Parties)
    buffered_bytes: int = 0
    draining: bool = False
    connections: set[ServedConnection] = field(default_factory=set)
    _refused: dict[Party, tuple[float, int]] = field(default_factory=dict)

    def take(self, size: int, headers: Mapping[bytes, bytes], peer: str) -> bool:
        """Account for `size` bytes more of a request of `peer`, or of the answer to it.

        False if there is no room, whoever gave way for it.
        """
        self.buffered_bytes += size
        return self.buffered_bytes <= self.max_buffered_bytes or self._make_room(headers, peer)

    def places(self) -> Iterator[Place]:
        """Yield the connections that are over their handshake, but for those about to end."""
        for connection in self.connections:
            place = connection.place()
            if place is not None:
                party = self.parties.of(connection.asked, connection.peer)
                yield Place(party, *place, connection.abort)

    def _make_room(self, headers: Mapping[bytes, bytes], peer: str) -> bool:
        most, asker = self.max_buffered_bytes, self.parties.of(headers, peer)
        if self._refused.get(asker) == (self.now, most):
            return False  # or each packet of a flood would look at every connection
        wanted = most - most // SPARE
        for claim in claims_to_drop(self._claims(), asker):
            self.count_refusal(503)
            claim.let_go()
            if self.buffered_bytes <= wanted:
                break
        if self.buffered_bytes <= most:
            return True
        self._refused = {asker: (self.now, most)}
        return False

    def _claims(self) -> Iterator[tuple[Party, Claim]]:
        for connection in tuple(self.connections):
            for claim in connection.claims():
                yield self.parties.of(claim.headers, connection.peer), claim
