"""Peers of a quorum, played by a test: each may be away, lose answers, and be put back."""

from collections.abc import Callable, Sequence

from wardian._internal.counter import CounterKeeper, MonotonicCounter
from wardian.broker.counting.quorum import MAX_PACKED, QuorumCounter, QuorumPeer, Step, Together
from wardian.errors import CounterUnavailable, SealError, WardianError


class Peer:
    """One keeper and its one number. Every process that asks has a `counter` of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.history = [0]
        self.away = False
        self.lose: Callable[[], bool] = lambda: False
        """Whether a step is done and its answer lost, while the peer is away."""
        self.before: Callable[[], None] = lambda: None
        """Called before every step."""

    @property
    def value(self) -> int:
        return self.history[-1]

    def put_back(self, steps: int) -> None:
        """Let the host of this peer restore what it was `steps` steps ago."""
        del self.history[max(1, len(self.history) - steps) :]

    def counter(self) -> MonotonicCounter:
        """Return what one process counts with: it advances from where it knows the number to be."""
        known: list[int] = []

        def read() -> int:
            self.before()
            if self.away:
                raise CounterUnavailable(self.name)
            known[:] = [self.value]
            return self.value

        def advance(to: int) -> None:
            self.before()
            lost = self.away and self.lose()
            if self.away and not lost:
                raise CounterUnavailable(self.name)
            at = known[0] if known else self.value
            if at != self.value or not at < to <= MAX_PACKED:
                if lost:
                    raise CounterUnavailable(self.name)
                raise SealError("it stands elsewhere")
            self.history.append(to)
            if lost:
                raise CounterUnavailable(self.name)
            known[:] = [to]

        return MonotonicCounter(
            read=read,
            advance=advance,
            kept_by=CounterKeeper.BROKER,
            keeper_id=self.name.encode().ljust(32),
            most=MAX_PACKED,
        )


def in_turn(steps: Sequence[Step], _: int) -> Sequence[int | WardianError]:
    """Do steps one after the other, so that a test knows their order."""
    results: list[int | WardianError] = []
    for step in steps:
        try:
            results.append(step())
        except WardianError as err:
            results.append(err)
    return results


def peers(count: int) -> list[Peer]:
    return [Peer(f"peer {number}") for number in range(count)]


def process(at: list[Peer], *, put_back: int = 0, together: Together = in_turn) -> QuorumCounter:
    """Return the counter as a process sees it that was just started."""
    return QuorumCounter(
        [
            QuorumPeer(name=peer.name, platform=peer.name.encode(), counter=peer.counter())
            for peer in at
        ],
        put_back=put_back,
        together=together,
    )
