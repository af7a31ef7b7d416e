"""Which parts of a slab hold a message: a pure first-fit allocator, kept by the one who writes.

Lowest addresses first: what is used again and again stays in the processor's cache, and a slab
costs as much memory as was ever in use at a time, not its size.
"""

from bisect import insort

from wardian.errors import LocalProtocolError

GRAIN_BYTES = 4096
"""Blocks begin at multiples of this, and have such lengths: a page."""


class Blocks:
    """The blocks of one slab, each named by the number of the message in it."""

    __slots__ = ("_free", "_held", "size_bytes", "used_bytes")

    def __init__(self, size_bytes: int) -> None:
        """All of `size_bytes`, a multiple of `GRAIN_BYTES` above 0, is free."""
        if size_bytes <= 0 or size_bytes % GRAIN_BYTES:
            raise LocalProtocolError("a slab is a whole number of blocks")
        self.size_bytes = size_bytes
        self.used_bytes = 0
        self._free = [(0, size_bytes)]  # offset and length, by offset; no two touch
        self._held: dict[int, tuple[int, int]] = {}

    def take(self, message: int, length: int) -> int | None:
        """Return the offset of a block for `length` bytes of `message`.

        None, and nothing is taken, if there is no room in one piece, or `message` has a block.
        """
        span = -(-length // GRAIN_BYTES) * GRAIN_BYTES
        if message in self._held or span <= 0:
            return None
        for index, (offset, free) in enumerate(self._free):
            if free < span:
                continue
            if free == span:
                del self._free[index]
            else:
                self._free[index] = (offset + span, free - span)
            self._held[message] = (offset, span)
            self.used_bytes += span
            return offset
        return None

    def give_back(self, message: int) -> None:
        """The block of `message`, if it has one, is free."""
        block = self._held.pop(message, None)
        if block is None:
            return
        self.used_bytes -= block[1]
        insort(self._free, block)
        index = self._free.index(block)
        for left in (index, index - 1):  # join with what follows, then with what is before
            if 0 <= left < len(self._free) - 1:
                offset, length = self._free[left]
                if offset + length == self._free[left + 1][0]:
                    self._free[left : left + 2] = [(offset, length + self._free[left + 1][1])]
