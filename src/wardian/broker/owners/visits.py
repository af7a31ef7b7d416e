"""Which visits of owners are served at once, and which gives way. Pure.

Who says to be an owner may send megabytes before proving it, so few are served at once. Anybody
can say so. Where all visits are taken, one that has proved nothing gives way: the oldest of that
peer who holds the most, unless the newcomer's own peer holds as many. So strangers at one address
keep no owner out, whose order may be what withdraws a key (TRUST T21).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from wardian.broker.limits import Place
from wardian.errors import QueueFull


@dataclass(slots=True, kw_only=True, eq=False)
class Visit:
    """One visit.

    Attributes:
        place: its connection's; firm once an owner's signature was right.
        leave: ends it.
    """

    place: Place
    leave: Callable[[], object]


class Visits:
    """The visits that are served."""

    __slots__ = ("_most", "_served")

    def __init__(self, most: int) -> None:
        """Serve so many at once."""
        self._most = most
        self._served: list[Visit] = []  # the oldest first

    def enter(self, visit: Visit) -> None:
        """Serve `visit`, in another's place if need be, which is told to leave.

        Raises:
            QueueFull: none gives way to it (retryable).
        """
        if len(self._served) >= self._most:
            leaving = self._who_gives_way(visit.place.peer)
            self._served.remove(leaving)
            leaving.leave()
        self._served.append(visit)

    def end(self, visit: Visit) -> None:
        """Note that `visit` is over; it may have given way before."""
        if visit in self._served:
            self._served.remove(visit)

    def _who_gives_way(self, newcomer: str) -> Visit:
        unproved = [each for each in self._served if not each.place.firm]
        held = Counter(each.place.peer for each in unproved)
        most = max(held.values(), default=0)
        if most <= sum(each.place.peer == newcomer for each in self._served):
            raise QueueFull("as many owners as may are speaking to the broker: come back later")
        return next(each for each in unproved if held[each.place.peer] == most)
