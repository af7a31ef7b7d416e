"""The allocator of a slab: no two messages in one place, and nothing lost."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wardian.errors import LocalProtocolError
from wardian.serving.queue.blocks import GRAIN_BYTES, Blocks

PAGES = 32


class BlocksMachine(RuleBasedStateMachine):
    """Against a model that keeps an owner for each page."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = Blocks(PAGES * GRAIN_BYTES)
        self.pages: list[int | None] = [None] * PAGES
        self.messages = 0

    @rule(length=st.integers(1, (PAGES + 2) * GRAIN_BYTES))
    def take(self, length: int) -> None:
        self.messages += 1
        offset = self.blocks.take(self.messages, length)
        span = -(-length // GRAIN_BYTES)
        if offset is None:
            assert self.longest_gap() < span
            return
        assert offset == self.first_gap(span) * GRAIN_BYTES
        for page in range(offset // GRAIN_BYTES, offset // GRAIN_BYTES + span):
            assert self.pages[page] is None
            self.pages[page] = self.messages

    @rule(data=st.data())
    def give_back(self, data) -> None:
        held = sorted({owner for owner in self.pages if owner})
        message = data.draw(st.sampled_from([*held, self.messages + 1]))
        self.blocks.give_back(message)
        self.pages = [None if owner == message else owner for owner in self.pages]

    def gaps(self) -> list[tuple[int, int]]:
        found, start = [], None
        for page, owner in enumerate([*self.pages, 0]):
            if owner is None and start is None:
                start = page
            elif owner is not None and start is not None:
                found.append((start, page - start))
                start = None
        return found

    def longest_gap(self) -> int:
        return max((length for _, length in self.gaps()), default=0)

    def first_gap(self, span: int) -> int:
        return next(start for start, length in self.gaps() if length >= span)

    @invariant()
    def nothing_is_lost(self) -> None:
        used = sum(owner is not None for owner in self.pages)
        assert self.blocks.used_bytes == used * GRAIN_BYTES
        found = [(start // GRAIN_BYTES, length // GRAIN_BYTES) for start, length in self.free()]
        assert found == self.gaps()

    def free(self) -> list[tuple[int, int]]:
        return self.blocks._free


TestBlocks = BlocksMachine.TestCase


def test_one_message_has_one_block():
    blocks = Blocks(4 * GRAIN_BYTES)
    assert blocks.take(1, 1) == 0
    assert blocks.take(1, 1) is None
    assert blocks.used_bytes == GRAIN_BYTES
    assert blocks.take(2, 0) is None


@pytest.mark.parametrize("size", [0, -GRAIN_BYTES, GRAIN_BYTES + 1])
def test_a_slab_is_whole_blocks(size):
    with pytest.raises(LocalProtocolError):
        Blocks(size)
