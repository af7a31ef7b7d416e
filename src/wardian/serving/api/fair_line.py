"""A bounded line in which every connection has its turn, however often one of them asks."""

from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MAX_IN_LINE: Final = 256
MAX_PER_CONNECTION: Final = 2
MAX_WAIT_S: Final = 5.0


class FairLine(Generic[T]):
    """Things that wait, each for a connection; no clock of its own."""

    def __init__(self) -> None:
        self._turns: OrderedDict[int, deque[tuple[float, T]]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def join(self, item: T, *, connection: int, now: float) -> bool:
        """Let `item` wait from `now` on; False if the line or the connection's part is full."""
        own = self._turns.get(connection)
        if self._size >= MAX_IN_LINE or (own is not None and len(own) >= MAX_PER_CONNECTION):
            return False
        if own is None:
            own = self._turns[connection] = deque()
        own.append((now, item))
        self._size += 1
        return True

    def next(self) -> T:
        """Take out the item whose turn it is.

        Raises:
            KeyError: nothing waits.
        """
        connection, own = self._turns.popitem(last=False)
        _, item = own.popleft()
        self._size -= 1
        if own:
            self._turns[connection] = own  # behind everybody else
        return item

    def expired(self, now: float) -> list[T]:
        """Take out what has waited for longer than `MAX_WAIT_S`."""
        late: list[T] = []
        for connection, own in list(self._turns.items()):
            while own and now - own[0][0] > MAX_WAIT_S:
                late.append(own.popleft()[1])
            if not own:
                del self._turns[connection]
        self._size -= len(late)
        return late

    def clear(self) -> list[T]:
        """Take out everything."""
        items = [item for own in self._turns.values() for _, item in own]
        self._turns.clear()
        self._size = 0
        return items
