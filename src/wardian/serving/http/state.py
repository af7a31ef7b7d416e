"""What the connections of one server share, and what each of them can be asked to do."""

import abc
import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from wardian._internal.agreed import Limits
from wardian.serving.http.messages import HttpRequest, HttpResponse

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
    def stalled_since(self) -> float | None:
        """Since when the client has taken no answer while memory is held for it, or None."""

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
            whoever does not take its answer is cut off, and then it is 503.
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
    buffered_bytes: int = 0
    draining: bool = False
    connections: set[ServedConnection] = field(default_factory=set)

    def take(self, size: int) -> bool:
        """Account for `size` bytes more; False if there is no room, whoever is cut off for it."""
        self.buffered_bytes += size
        while self.buffered_bytes > self.max_buffered_bytes:
            stalled = [
                (since, id(connection), connection)
                for connection in self.connections
                if (since := connection.stalled_since) is not None
            ]
            if not stalled:
                return False
            self.count_refusal(503)
            min(stalled)[2].abort()
        return True
