"""Whose turn it is: several take turns by weight, evenly spread, and nothing is drawn by lot. Pure.

Source: the "smooth weighted round-robin" of nginx (`ngx_http_upstream_round_robin`): each turn all
gain their weight, the one that has gained most goes, and pays the sum of the weights. Of weights 5,
1 and 1 comes a a b a c a a, not a a a a a b c.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Share(Generic[T]):
    __slots__ = ("gained", "taker", "weight")

    def __init__(self, taker: T, weight: int) -> None:
        self.taker, self.weight, self.gained = taker, weight, 0


class Shares(Generic[T]):
    """Who takes the next one, of those that were given at the start.

    After any number of turns each has had its share of them, but for less than one turn for each
    other taker; after as many as the sum of the weights, exactly its weight.
    """

    __slots__ = ("_only", "_shares", "_sum")

    def __init__(self, weighted: Iterable[tuple[T, int]]) -> None:
        """Take turns from now on.

        Args:
            weighted: the takers with their weights, whole numbers; with a weight of 0 never one.
                Of two whose turn it is, the earlier goes.
        """
        self._shares = [_Share(taker, weight) for taker, weight in weighted if weight]
        self._sum = sum(share.weight for share in self._shares)
        self._only = self._shares[0].taker if len(self._shares) == 1 else None

    @property
    def largest(self) -> T | None:
        """The first of those that have the largest weight; None if there are no takers."""
        if not self._shares:
            return None
        return max(self._shares, key=lambda share: share.weight).taker

    def next(self) -> T | None:
        """Return whose turn it is; None if there are no takers. Costs less than a microsecond."""
        if self._only is not None or not self._shares:
            return self._only
        chosen, most = self._shares[0], -1
        for share in self._shares:
            gained = share.gained = share.gained + share.weight
            if gained > most:
                chosen, most = share, gained
        chosen.gained -= self._sum
        return chosen.taker
