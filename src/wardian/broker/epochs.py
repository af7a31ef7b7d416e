"""How old an epoch may become. Pure: time is an argument."""


class EpochAge:
    """Whether the epoch in force has lived as long as it may.

    Two clocks measure it and the first to say so ends it. The seconds since this process saw the
    epoch begin do not depend on the wall clock; the wall clock remembers it over a restart.
    """

    __slots__ = ("_epoch", "_life_s", "_seen_at")

    def __init__(self, *, life_s: float) -> None:
        """Let epochs live for `life_s` seconds."""
        self._life_s = life_s
        self._epoch = 0
        self._seen_at = 0.0

    def over(self, epoch: int, *, began: int, ticks: float, now: int) -> bool:
        """Return whether the epoch is to be turned.

        Args:
            epoch: the one in force, 0 before the first.
            began: when it began, Unix seconds.
            ticks: seconds that never go back.
            now: Unix seconds.
        """
        if epoch != self._epoch:
            self._epoch, self._seen_at = epoch, ticks
        return epoch > 0 and max(ticks - self._seen_at, now - began) >= self._life_s
