"""What waits, and whose turn it is: nobody waits behind the many requests of somebody else.

Deficit round robin (Shreedhar and Varghese, 1995), paid after the service: each payer has a line of
its own, first come, first served. In its turn it has credit for `QUANTUM` times its weight; what it
sends is taken off, and while it has any left it goes on. So a pack, which is one call of the model,
is never cut to fit, and whoever sent a large one passes as many turns as that was worth. A line
that is empty and in debt stays until it has paid: leaving and coming back is worth nothing.

Whoever comes new has his turn after at most one of everybody else who waits: a pack each, or
`QUANTUM` times their weights where packs are smaller than that.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

QUANTUM: Final = 4096
"""Credit of one turn, in bytes of inputs, for weight 1."""
REQUEST_COST: Final = 1024
"""What any request costs beside its inputs, in bytes: many tiny ones are work, too."""

MAX_SPARE: Final = 4096
"""Lines that are kept for whoever comes next, 3 MB: making one costs as much as all else."""


class Waits(Protocol):
    """What is asked of a request; see `packing.Request`."""

    @property
    def payer(self) -> str:
        """Whose turn it takes."""

    @property
    def tenant(self) -> str:
        """With requests of the same it may travel."""

    @property
    def weight(self) -> int:
        """Of the payer, 1 or more."""

    @property
    def size_bytes(self) -> int:
        """Of its inputs."""

    @property
    def suspect(self) -> bool:
        """Whether it travels alone, and at once: it had its turn."""

    @property
    def done(self) -> object:
        """None once it has ended."""


R = TypeVar("R", bound=Waits)


class _Line(deque[R]):
    """The requests of one payer."""

    __slots__ = ("credit", "payer", "weight")

    payer: str
    weight: int
    credit: int


class Turns(Generic[R]):
    """The requests that wait for one lane.

    Attributes:
        ended: how many of them have ended; they are passed over.
    """

    __slots__ = ("_again", "_lines", "_ring", "_size", "_spare", "ended")

    def __init__(self) -> None:
        """Nothing waits."""
        self._again: deque[R] = deque()
        self._lines: dict[str, _Line[R]] = {}
        self._ring: deque[_Line[R]] = deque()  # the line whose turn it is comes first
        self._spare: list[_Line[R]] = []
        self._size = 0
        self.ended = 0

    def __len__(self) -> int:
        return self._size

    @property
    def open(self) -> int:
        """How many have not ended."""
        return self._size - self.ended

    def __iter__(self) -> Iterator[R]:
        yield from self._again
        for line in self._lines.values():
            yield from line

    def append(self, request: R) -> None:
        """Let `request` wait for the turn of its payer."""
        line = self._lines.get(request.payer)
        if line is None:
            line = self._new_line(request.payer, request.weight)
        line.append(request)
        self._size += 1

    def appendleft(self, request: R) -> None:
        """Let `request` go before others of its payer; if its worker was lost, before everybody."""
        if request.suspect:
            self._again.appendleft(request)
        else:
            line = self._lines.get(request.payer)
            if line is None:
                line = self._new_line(request.payer, request.weight)
            line.appendleft(request)
        self._size += 1

    def take(self, most: int, *, most_bytes: int) -> list[R]:
        """Take the requests that travel together: up to `most`, all of one tenant.

        Of one payer, too, unless payers are of one tenant: then each goes on in its turn. What was
        lost with a worker comes first, and alone. Empty if all that waited have ended.

        Args:
            most: requests, 1 or more.
            most_bytes: no second request beyond this size.
        """
        while self._again:
            again = self._again.popleft()
            self._size -= 1
            if again.done is not None:
                return [again]
            self.ended -= 1
        pack: list[R] = []
        size, line = 0, self._turn()
        while line is not None:
            shared = line[0].tenant != line.payer
            while line:
                request = line[0]
                if request.done is None:
                    self._pass_over(line)
                    continue
                size += request.size_bytes
                if pack and (size > most_bytes or request.tenant != pack[0].tenant):
                    return self._taken(pack)
                pack.append(line.popleft())
                line.credit -= request.size_bytes + REQUEST_COST
                if len(pack) >= most:
                    return self._taken(pack)
                if shared and line.credit <= 0:
                    break
            line = self._turn() if shared else None
        return self._taken(pack)

    def note_ended(self) -> None:
        """One that waits has ended; lets go of such requests once they are the larger part."""
        self.ended += 1
        if 2 * self.ended <= self._size:
            return
        self.take_out(lambda _: False)

    def take_out(self, wanted: Callable[[R], bool]) -> list[R]:
        """Take out those that are `wanted`, of each payer the oldest first, and all that ended."""
        found: list[R] = []
        for line in (self._again, *self._ring):
            kept: list[R] = []
            for request in line:
                if request.done is not None:
                    (found if wanted(request) else kept).append(request)
            if len(kept) < len(line):
                line.clear()
                line.extend(kept)
        self._size -= len(found) + self.ended
        self.ended = 0
        return found

    def _new_line(self, payer: str, weight: int) -> _Line[R]:
        """Return the line of `payer`, who had none."""
        line: _Line[R] = self._spare.pop() if self._spare else _Line()
        line.payer, line.weight, line.credit = payer, weight, QUANTUM * weight
        self._lines[payer] = line
        self._ring.append(line)
        return line

    def _taken(self, pack: list[R]) -> list[R]:
        self._size -= len(pack)
        return pack

    def _pass_over(self, line: _Line[R]) -> None:
        """Let go of the first in `line`, which has ended."""
        line.popleft()
        self._size -= 1
        self.ended -= 1

    def _turn(self) -> _Line[R] | None:
        """Return the line whose turn it is, with a request that has not ended; None: none has."""
        ring, passed = self._ring, 0
        while ring:
            line = ring[0]
            while line and line[0].done is None:
                self._pass_over(line)
            if line.credit > 0:
                if line:
                    return line
                ring.popleft()
                del self._lines[line.payer]
                if len(self._spare) < MAX_SPARE:
                    self._spare.append(line)
                continue
            line.credit += QUANTUM * line.weight
            ring.rotate(-1)
            passed += 1
            if passed > len(ring):
                self._pass_rounds()
                passed = 0
        return None

    def _pass_rounds(self) -> None:
        """Everybody is in debt: pass the rounds at once in which nobody would have a turn."""
        rounds = min(-line.credit // (QUANTUM * line.weight) for line in self._ring)
        if rounds > 0:
            for line in self._ring:
                line.credit += rounds * QUANTUM * line.weight
