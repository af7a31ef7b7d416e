"""How many records of a stream may be under way: as many as their workers answer in time. Pure.

Their Redis is the place where records wait. What is read waits in the enclave's memory, and its
deadline runs; so the window grows while answers come, and is halved when one comes too late.
"""

from typing import Final

FIRST: Final = 64
MOST: Final = 1024


class Window:
    """The bound for one stream."""

    __slots__ = ("_halved_at", "_most", "_pause_s", "size")

    def __init__(self, *, most: int = MOST, pause_s: float) -> None:
        """Begin with `FIRST`, or `most` if that is less.

        Args:
            most: 1 or more.
            pause_s: it is not halved again sooner: the records of one jam are all late.
        """
        self._most, self._pause_s = most, pause_s
        self.size = min(FIRST, most)
        self._halved_at = float("-inf")

    def answered(self, *, held: int) -> None:
        """A record was answered while `held` were under way, so that more may be if it was full."""
        if held >= self.size < self._most:
            self.size += 1

    def late(self, *, now: float) -> None:
        """A record was not answered in time."""
        if now - self._halved_at >= self._pause_s:
            self._halved_at = now
            self.size = max(1, self.size // 2)
