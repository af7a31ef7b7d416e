"""A counter that somebody else keeps: read, and advanced from where it was read alone."""

from collections.abc import Callable
from typing import TypeAlias

from wardian._internal.counter import CounterKeeper, MonotonicCounter
from wardian.broker.counting.protocol import MAX_VALUE, Advance, encode_value
from wardian.errors import SealError

Ask: TypeAlias = Callable[[str, Advance | None], int]
"""Returns where the counter of that name stands after the step; None only reads."""


class RemoteCounter:
    """One counter, and where this process last knew it to stand."""

    __slots__ = ("_ask", "_known", "_name")

    def __init__(self, ask: Ask, name: str) -> None:
        """Count with the counter `name` by `ask`, whose errors pass through."""
        self._ask, self._name = ask, name
        self._known: int | None = None

    def seam(self, keeper_id: bytes) -> MonotonicCounter:
        """Return this counter for whoever counts with it; `keeper_id` names who keeps it."""
        return MonotonicCounter(
            read=self.read,
            advance=self.advance,
            kept_by=CounterKeeper.BROKER,
            keeper_id=keeper_id,
            most=MAX_VALUE,
        )

    def read(self) -> int:
        """Return where the counter stands."""
        self._known = self._ask(self._name, None)
        return self._known

    def advance(self, to: int) -> None:
        """Advance it to `to` from where this process last knew it to stand, and from nowhere else.

        Two processes that read the same value do not both get further: its keeper refuses the
        second.
        """
        at = self.read() if self._known is None else self._known
        if not at < to <= MAX_VALUE:
            raise SealError(f"the counter {self._name} only goes up, and not beyond 2**127 - 1")
        self._known = self._ask(self._name, Advance(at=encode_value(at), to=encode_value(to)))
