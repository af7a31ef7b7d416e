"""Keys and values of streams that are under way, so that a part need not run what is before it.

By the stream's random number and never by content: whether another one asked the same before
changes no time (TRUST T19). Within bounds, and never the only place of anything: what was dropped
is run again.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from wardian.inference.spec import Tensors

IDLE_S: Final = 60.0
"""What nobody went on with for so long is dropped with the next use."""


class _Kept(NamedTuple):
    tokens: tuple[int, ...]
    past: Tensors
    size_bytes: int
    at: float


class Caches:
    """Keys and values by stream; of all together no more than `most_bytes`."""

    def __init__(self, most_bytes: int, *, clock: Callable[[], float]) -> None:
        """Have none; 0 bytes keep none."""
        self._most_bytes, self._clock = most_bytes, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # least recently used first
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """Bytes of all that is kept."""
        return self._size_bytes

    def take(self, stream: str, tokens: Sequence[int]) -> tuple[int, Tensors]:
        """Take out what `stream` kept, if it is of the beginning of `tokens`, which goes on.

        Returns:
            How many tokens it is of, and the arrays; 0 and none where there is nothing of use.
        """
        self._drop_idle()
        kept = self._kept.pop(stream, None)
        if kept is None:
            return 0, {}
        self._size_bytes -= kept.size_bytes
        count = len(kept.tokens)
        if count < len(tokens) and kept.tokens == tuple(tokens[:count]):
            return count, kept.past
        wipe(kept.past)
        return 0, {}

    def put(self, stream: str, tokens: Sequence[int], past: Tensors) -> None:
        """Keep `past`, which is of `tokens`, for `stream`; what there is no room for is wiped."""
        size = sum(array.nbytes for array in past.values())
        if not stream or not past or size > self._most_bytes:
            wipe(past)
            return
        self._forget(stream)
        self._kept[stream] = _Kept(tuple(tokens), past, size, self._clock())
        self._size_bytes += size
        while self._size_bytes > self._most_bytes:
            self._forget(next(iter(self._kept)))

    def close(self) -> None:
        """Wipe everything."""
        for stream in list(self._kept):
            self._forget(stream)

    def _drop_idle(self) -> None:
        since = self._clock() - IDLE_S
        while self._kept and next(iter(self._kept.values())).at < since:
            self._forget(next(iter(self._kept)))

    def _forget(self, stream: str) -> None:
        kept = self._kept.pop(stream, None)
        if kept is not None:
            self._size_bytes -= kept.size_bytes
            wipe(kept.past)


def wipe(past: Tensors) -> None:
    """Overwrite the arrays of `past` where they can be, and let go of them."""
    for array in past.values():
        if array.flags.writeable:
            array.fill(0)
    past.clear()
